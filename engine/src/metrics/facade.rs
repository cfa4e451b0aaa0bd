//! The metrics of a database given to the `metrics` facade, where a program's own exporter finds them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use akidb_host::panic_text;
use metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};

use super::{MetricFamily, MetricKind, families};
use crate::engine::Engine;
use crate::upload::Uploads;

/// One database's way to the facade. The recorder behind it is the program's code: one that panics is given nothing more by
/// this database, and the thread that called it goes on.
#[derive(Debug, Default)]
pub(crate) struct Facade {
    is_off: bool,
}

impl Facade {
    /// Gives the facade every value as it is now. Without a recorder this costs the looking alone.
    pub(crate) fn publish(&mut self, engine: &Engine, uploads: &Uploads) {
        if let Ok(families) = families(engine, uploads) {
            self.give(&families);
        }
    }

    fn give(&mut self, families: &[MetricFamily]) {
        if self.is_off {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| families.iter().for_each(publish_one))) {
            self.is_off = true;
            let panic = panic_text(&*panic);
            tracing::error!(
                panic,
                "the recorder of metrics panicked: this database gives it no more until it is opened again"
            );
        }
    }
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

    /// Panics at the first value of a name that begins so, and counts what it is asked.
    struct Panics(&'static str, Arc<Mutex<u32>>);

    impl Recorder for Panics {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            *self.1.lock().unwrap() += 1;
            assert!(!key.name().starts_with(self.0), "this recorder takes no {key}");
            Counter::noop()
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn a_recorder_that_panics_is_asked_no_more_and_nobody_else_notices() {
        let of = |name| MetricFamily {
            name,
            kind: MetricKind::Counter,
            help: "Words.",
            samples: vec![MetricSample { labels: Vec::new(), value: 1.0 }],
        };
        let families = [of("akidb_x_total"), of("akidb_y_total"), of("akidb_z_total")];
        let give = |facade: &mut Facade, bad| {
            let asked = Arc::new(Mutex::new(0));
            with_local_recorder(&Panics(bad, Arc::clone(&asked)), || facade.give(&families));
            *asked.lock().unwrap()
        };
        let (mut facade, mut of_another) = (Facade::default(), Facade::default());
        assert_eq!(give(&mut facade, "none"), 3);
        assert_eq!(give(&mut facade, "akidb_y"), 2, "it panics at the second");
        assert_eq!((give(&mut facade, "akidb_y"), give(&mut facade, "none")), (0, 0), "it was switched off");
        assert_eq!(give(&mut of_another, "none"), 3, "another database has its own");
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
