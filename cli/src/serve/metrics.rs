//! `GET /metrics`: the database's metrics in Prometheus's text format, and the six that stand for all of it.

use std::fmt::Write;

use akidb::{Db, MetricFamily, MetricKind};

use crate::failure::Result;

/// Version 0.0.4 of the text format, which every scraper reads.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The database's own metrics.
pub(crate) fn all(db: &Db) -> Result<Vec<MetricFamily>> {
    let mut families = db.metrics()?;
    families.sort_by_key(|family| family.name);
    Ok(families)
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
