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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
        with_local_recorder,
    };

    use super::*;
    use crate::metrics::MetricSample;

    /// What was said last, by name and labels.
    #[derive(Clone, Debug, Default)]
    struct Heard(Arc<Mutex<BTreeMap<String, String>>>);

    struct One(Heard, String);

    impl CounterFn for One {
        fn increment(&self, _: u64) {
            panic!("values are absolute");
        }

        fn absolute(&self, value: u64) {
            self.0.0.lock().unwrap().insert(self.1.clone(), format!("counter {value}"));
        }
    }

    impl GaugeFn for One {
        fn increment(&self, _: f64) {
            panic!("values are absolute");
        }

        fn decrement(&self, _: f64) {
            panic!("values are absolute");
        }

        fn set(&self, value: f64) {
            self.0.0.lock().unwrap().insert(self.1.clone(), format!("gauge {value}"));
        }
    }

    impl Recorder for Heard {
        fn describe_counter(&self, key: KeyName, _: Option<Unit>, words: SharedString) {
            self.0.lock().unwrap().insert(format!("# {}", key.as_str()), words.to_string());
        }

        fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, words: SharedString) {
            self.describe_counter(key, unit, words);
        }

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::new(One(self.clone(), key.to_string())))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::new(One(self.clone(), key.to_string())))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn the_facade_hears_names_kinds_labels_and_values() {
        let heard = Heard::default();
        let samples =
            vec![MetricSample { labels: vec![("db", "/a".into()), ("mark", "x".into())], value: 7.0 }];
        let of = |name, kind| MetricFamily { name, kind, help: "Words.", samples: samples.clone() };
        with_local_recorder(&heard, || {
            publish_one(&of("akidb_x_total", MetricKind::Counter));
            publish_one(&of("akidb_y_bytes", MetricKind::Gauge));
        });
        let heard = heard.0.lock().unwrap();
        let said: Vec<_> = heard.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        assert_eq!(
            said,
            [
                "# akidb_x_total: Words.",
                "# akidb_y_bytes: Words.",
                "Key(akidb_x_total, [db = /a, mark = x]): counter 7",
                "Key(akidb_y_bytes, [db = /a, mark = x]): gauge 7",
            ]
        );
    }
}
