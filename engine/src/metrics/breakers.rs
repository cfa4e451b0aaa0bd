//! The metrics of what stands before each backend: breakers, limits, retry budgets.

use super::{Families, MetricKind, exact, flag};
use crate::upload::{BreakerView, Uploads};

pub(super) fn of_breakers(families: &mut Families, breakers: &[BreakerView]) {
    use MetricKind::{Counter, Gauge};
    let labels = |b: &BreakerView| vec![("backend", b.backend.clone()), ("kind", b.kind.to_string())];
    let of = |value: &dyn Fn(&BreakerView) -> f64| {
        breakers.iter().map(|breaker| (labels(breaker), value(breaker))).collect::<Vec<_>>()
    };
    families.give(
        Gauge,
        "akidb_breaker_state",
        "State of a backend's breaker for a kind of calls: 0 closed, 1 open, 2 half open.",
        of(&|b| f64::from(b.state as u8)),
    );
    families.give(
        Gauge,
        "akidb_breaker_held",
        "1 while an operator holds the breaker closed, or it is switched off.",
        of(&|b| flag(b.bypassed)),
    );
    families.give(
        Gauge,
        "akidb_breaker_error_rate",
        "Share of failed calls in the window, 0 to 1; of one that is not closed, the share at which it opened.",
        of(&|b| b.error_rate),
    );
    families.give(
        Counter,
        "akidb_breaker_rejected_total",
        "Calls refused while it was not closed: nothing was sent.",
        of(&|b| exact(b.totals.refused)),
    );
    families.give(
        Counter,
        "akidb_breaker_late_total",
        "Answers that came after the breaker had moved on: they changed nothing.",
        of(&|b| exact(b.totals.late_results)),
    );
    families.give(
        Counter,
        "akidb_breaker_cancelled_total",
        "Calls given up before their end.",
        of(&|b| exact(b.totals.cancelled)),
    );
    of_parts(families, "akidb_breaker_calls_total", "Calls by how they ended.", ["outcome"], breakers, |b| {
        let totals = &b.totals;
        vec![
            (["success"], totals.successes),
            (["failure"], totals.failures),
            (["ignored"], totals.ignored),
            (["cancelled"], totals.cancelled),
        ]
    });
    let help = "Changes of its state; those by an operator's hand are not counted.";
    of_parts(families, "akidb_breaker_transitions_total", help, ["from", "to"], breakers, |b| {
        let totals = &b.totals;
        vec![
            (["closed", "open"], totals.opened.saturating_sub(totals.reopened)),
            (["half_open", "open"], totals.reopened),
            (["open", "half_open"], totals.half_opened),
            (["half_open", "closed"], totals.closed),
        ]
    });
}

/// The values of a part's own labels, and its count.
type Part<const N: usize> = ([&'static str; N], u64);

/// A counter in parts, each with labels of its own.
fn of_parts<const N: usize>(
    families: &mut Families,
    name: &'static str,
    help: &'static str,
    names: [&'static str; N],
    breakers: &[BreakerView],
    parts: fn(&BreakerView) -> Vec<Part<N>>,
) {
    let of_one = |breaker: &BreakerView| {
        let (backend, kind) = (breaker.backend.clone(), breaker.kind.to_string());
        let value = move |(part, count): ([&str; N], u64)| {
            let mut labels = vec![("backend", backend.clone()), ("kind", kind.clone())];
            labels.extend(names.into_iter().zip(part.map(str::to_owned)));
            (labels, exact(count))
        };
        parts(breaker).into_iter().map(value).collect::<Vec<_>>()
    };
    families.give(MetricKind::Counter, name, help, breakers.iter().flat_map(of_one));
}

pub(super) fn of_limits(families: &mut Families, uploads: &Uploads) {
    let limits = uploads.limits();
    let gauge = MetricKind::Gauge;
    let of = |value: &dyn Fn(&crate::upload::LimitsView) -> f64| {
        limits.iter().map(|l| (vec![("backend", l.backend.clone())], value(l))).collect::<Vec<_>>()
    };
    families.give(gauge, "akidb_calls_in_flight", "Calls under way.", of(&|l| f64::from(l.in_flight.calls)));
    families.give(
        gauge,
        "akidb_calls_in_flight_limit",
        "Calls that may be under way; it follows what the backend can bear.",
        of(&|l| f64::from(l.in_flight.limit)),
    );
    families.give(
        gauge,
        "akidb_calls_waiting",
        "Calls that wait for a place.",
        of(&|l| exact(l.in_flight.waiting as u64)),
    );
    families.give(
        gauge,
        "akidb_in_flight_bytes",
        "Bytes of the calls under way.",
        of(&|l| exact(l.in_flight.bytes)),
    );
    families.give(
        gauge,
        "akidb_retry_budget_tokens",
        "Tokens left for retries: 500 when full, 14 a retry, 28 after a timeout; each success earns one.",
        of(&|l| exact(l.budget_tokens)),
    );
}
