//! The metrics of the dead letters.

use super::{Families, MetricKind, exact, flag};
use crate::upload::Uploads;

pub(super) fn of_letters(families: &mut Families, uploads: &Uploads) {
    use MetricKind::{Counter, Gauge};
    let Some(letters) = uploads.letters() else { return };
    let names = uploads.names();
    let stats: Vec<_> = names.iter().map(|name| (name, letters.stats_of(Some(name)))).collect();
    let of = |value: &dyn Fn(&akidb_backends::DlqStats) -> f64| {
        let one = |(name, stats): &(&String, _)| (vec![("backend", (*name).clone())], value(stats));
        stats.iter().map(one).collect::<Vec<_>>()
    };
    families.give(Gauge, "akidb_dlq_letters", "Dead letters in the list.", of(&|s| exact(s.size)));
    families.give(
        Gauge,
        "akidb_dlq_oldest_age_seconds",
        "Age of the oldest dead letter; 0 if there is none.",
        of(&|s| exact(s.oldest_entry_age_seconds)),
    );
    families.give(
        Gauge,
        "akidb_dlq_poison",
        "Dead letters that wait for a person.",
        of(&|s| exact(s.poison)),
    );
    families.give(
        Gauge,
        "akidb_dlq_redriving",
        "Dead letters whose upload is being tried.",
        of(&|s| exact(s.redriving)),
    );
    families.give(
        Gauge,
        "akidb_dlq_parked",
        "Uploads whose letter was evicted, expired or not taken, and which wait before they are tried again.",
        of(&|s| exact(s.parked)),
    );
    families.give(
        Counter,
        "akidb_dlq_evictions_total",
        "Dead letters that went because the list was full; their uploads stay pending.",
        of(&|s| exact(s.total_evictions)),
    );
    families.give(
        Counter,
        "akidb_dlq_expired_total",
        "Dead letters that went because of their age; their uploads stay pending.",
        of(&|s| exact(s.total_expired)),
    );
    families.give(
        Counter,
        "akidb_dlq_rejected_total",
        "Dead letters that were not taken because the list was full; their uploads stay pending.",
        of(&|s| exact(s.rejected)),
    );
    let whole = letters.stats();
    families.one(
        Counter,
        "akidb_dlq_corrupt_lines_total",
        "Damaged lines met by the open; they were skipped and kept aside.",
        exact(whole.corrupt_lines),
    );
    families.one(
        Gauge,
        "akidb_dlq_degraded",
        "1 while the list is not on disk as it is in memory; uploads are not affected.",
        flag(whole.degraded.is_some()),
    );
}
