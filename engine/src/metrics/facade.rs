//! The metrics of a database given to the `metrics` facade, where a program's own exporter finds them.

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};

use super::{MetricFamily, MetricKind, families};
use crate::engine::Engine;
use crate::upload::Uploads;

/// Gives the facade every value as it is now. Without a recorder this costs the looking alone.
pub(crate) fn publish(engine: &Engine, uploads: &Uploads) {
    let Ok(families) = families(engine, uploads) else { return };
    families.iter().for_each(publish_one);
}

fn publish_one(family: &MetricFamily) {
    let unit = match family.name {
        name if name.ends_with("_bytes") => Unit::Bytes,
        name if name.ends_with("_seconds") => Unit::Seconds,
        _ => Unit::Count,
    };
    match family.kind {
        MetricKind::Counter => describe_counter!(family.name, unit, family.help),
        MetricKind::Gauge => describe_gauge!(family.name, unit, family.help),
    }
    for sample in &family.samples {
        let labels: Vec<Label> =
            sample.labels.iter().map(|(name, value)| Label::new(*name, value.clone())).collect();
        match family.kind {
            MetricKind::Counter => counter!(family.name, labels).absolute(whole(sample.value)),
            MetricKind::Gauge => gauge!(family.name, labels).set(sample.value),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters are whole and not negative"
)]
fn whole(value: f64) -> u64 {
    value as u64
}
