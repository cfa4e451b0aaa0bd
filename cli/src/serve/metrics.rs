//! `GET /metrics`: the database's metrics in Prometheus's text format, and the six that stand for all of it.

use std::fmt::Write;

use akidb::{Db, MetricFamily, MetricKind, MetricSample, State};

use crate::failure::Result;

/// Version 0.0.4 of the text format, which every scraper reads.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The database's own metrics, and the six without labels.
pub(crate) fn all(db: &Db) -> Result<Vec<MetricFamily>> {
    let mut families = db.metrics()?;
    families.extend(six(db));
    families.sort_by_key(|family| family.name);
    Ok(families)
}

/// The six metrics that this database has always had, under their first names: the worst of all breakers, and the
/// sums of all dead letters.
fn six(db: &Db) -> Vec<MetricFamily> {
    let backends = db.backends();
    let breakers = backends.breakers();
    let has = |state: State| breakers.iter().any(|breaker| breaker.state == state);
    let worst = [State::Open, State::HalfOpen].into_iter().find(|state| has(*state)).unwrap_or(State::Closed);
    let rate = breakers.iter().map(|breaker| breaker.error_rate).fold(0.0, f64::max);
    let letters = backends.dead_letters().map(|letters| letters.stats()).unwrap_or_default();
    let gauge = |name, help, value| {
        let samples = vec![MetricSample { labels: Vec::new(), value }];
        // Two of them count upwards and are not named as counters are: as gauges they offend nobody.
        MetricFamily { name, kind: MetricKind::Gauge, help, samples }
    };
    let (state, exact) = (f64::from(worst as u8), akidb::metric_value);
    vec![
        gauge(
            "akidb_circuit_breaker_state",
            "The worst state of any breaker: 0 closed, 1 open, 2 half open.",
            state,
        ),
        gauge(
            "akidb_circuit_breaker_error_rate",
            "The highest share of failed calls of any breaker, 0 to 1.",
            rate,
        ),
        gauge("akidb_dlq_size", "Dead letters of all backends.", exact(letters.size)),
        gauge(
            "akidb_dlq_oldest_entry_age_seconds",
            "Age of the oldest dead letter; 0 if there is none.",
            exact(letters.oldest_entry_age_seconds),
        ),
        gauge(
            "akidb_dlq_total_evictions",
            "Dead letters that went because the list was full, since the open; akidb_dlq_evictions_total by backend.",
            exact(letters.total_evictions),
        ),
        gauge(
            "akidb_dlq_total_expired",
            "Dead letters that went because of their age, since the open; akidb_dlq_expired_total by backend.",
            exact(letters.total_expired),
        ),
    ]
}

/// The families as text.
pub(crate) fn text(families: &[MetricFamily]) -> String {
    let mut out = String::new();
    for family in families {
        // Writing to a string cannot fail.
        let _ = write_family(&mut out, family);
    }
    out
}

fn write_family(out: &mut String, family: &MetricFamily) -> std::fmt::Result {
    let kind = match family.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
    };
    let name = family.name;
    writeln!(out, "# HELP {name} {}", family.help.replace('\\', "\\\\").replace('\n', "\\n"))?;
    writeln!(out, "# TYPE {name} {kind}")?;
    for sample in &family.samples {
        out.push_str(name);
        for (at, (label, value)) in sample.labels.iter().enumerate() {
            let opening = if at == 0 { '{' } else { ',' };
            write!(out, "{opening}{label}=\"{}\"", escaped(value))?;
        }
        if !sample.labels.is_empty() {
            out.push('}');
        }
        writeln!(out, " {}", sample.value)?;
    }
    Ok(())
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use akidb::MetricSample;

    use super::*;

    #[test]
    fn a_family_reads_as_prometheus_wants_it() {
        let samples = vec![
            MetricSample { labels: vec![], value: 1.5 },
            MetricSample { labels: vec![("db", "a\"b\\c\nd".into()), ("mark", "x".into())], value: 9e15 },
        ];
        let family =
            MetricFamily { name: "akidb_x", kind: MetricKind::Gauge, help: "A back\\slash.", samples };
        assert_eq!(
            text(&[family]),
            "# HELP akidb_x A back\\\\slash.\n# TYPE akidb_x gauge\nakidb_x 1.5\n\
             akidb_x{db=\"a\\\"b\\\\c\\nd\",mark=\"x\"} 9000000000000000\n"
        );
    }
}
