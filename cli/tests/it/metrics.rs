//! What `/metrics` says: well formed, with every name that is promised.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::Server;
use crate::support::Place;

/// A metric of the text: its kind, and its values by their labels.
type Metrics = BTreeMap<String, (String, BTreeMap<String, f64>)>;

/// Reads the text format strictly: HELP, TYPE, then values, each metric once; names and labels as they must be.
fn lint(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    let mut lines = text.lines().peekable();
    assert!(text.ends_with('\n'));
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("no HELP: {line}"));
        let (name, words) = help.split_once(' ').unwrap();
        assert!(words.ends_with('.') && words.len() > 5, "{line}");
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap().to_owned();
        lint_name(name, &kind);
        let mut values = BTreeMap::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let rest = line.strip_prefix(name).unwrap_or_else(|| panic!("{line}: not of {name}"));
            let (labels, value) = rest.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(value.is_finite(), "{line}");
            assert!(labels.is_empty() || labels.starts_with('{') && labels.ends_with("\"}"), "{line}");
            assert!(values.insert(labels.to_owned(), value).is_none(), "twice: {line}");
        }
        assert!(!values.is_empty(), "{name} has no value");
        assert!(metrics.insert(name.to_owned(), (kind, values)).is_none(), "{name} stands twice");
    }
    metrics
}

fn lint_name(name: &str, kind: &str) {
    assert!(name.starts_with("akidb_"), "{name}");
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
    assert!(!name.contains("__") && !name.ends_with('_'), "{name}");
    assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    assert!(["counter", "gauge"].contains(&kind), "{kind}");
    for word in name.split('_') {
        let units = [
            "ms",
            "us",
            "ns",
            "sec",
            "secs",
            "millis",
            "milliseconds",
            "minutes",
            "kib",
            "mib",
            "kb",
            "mb",
            "b",
            "s",
        ];
        assert!(!units.contains(&word), "{name}: base units, spelt out");
        assert!(
            !["counter", "gauge", "histogram", "summary"].contains(&word),
            "{name}: the type is not in the name"
        );
    }
}

#[test]
fn the_text_is_well_formed_and_its_names_are_good() {
    let place = Place::with_rows();
    let copy = format!("copy={}", place.url("copy"));
    let server = Server::start(&place, &["--backend", &copy]);
    let answer = server.scrape("");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"),
        "{answer:?}"
    );
    let metrics = lint(&answer.body);
    let names: BTreeSet<&str> = metrics.keys().map(String::as_str).collect();
    for name in [
        "akidb_watermark_epoch",
        "akidb_watermark_record",
        "akidb_wal_live_bytes",
        "akidb_memtable_bytes",
        "akidb_poisoned",
        "akidb_rows",
        "akidb_unuploaded_bytes",
    ] {
        assert!(names.contains(name), "{name} is missing: {names:?}");
    }
    let db = std::path::absolute(place.db()).unwrap();
    let rows = &metrics["akidb_rows"].1[&format!("{{db=\"{}\",collection=\"docs\"}}", db.display())];
    assert_eq!(*rows, 3.0);
}

/// Words of a text that are names of metrics.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !is_part(c)).filter(|word| word.starts_with("akidb_"));
    words.map(str::to_owned).collect()
}

fn page(name: &str) -> String {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(home.join("docs/operations").join(name)).unwrap()
}

#[test]
fn the_pages_name_every_metric_and_no_other() {
    let place = Place::with_rows();
    let copy = format!("copy={}", place.url("copy"));
    let server = Server::start(&place, &["--backend", &copy]);
    let printed: BTreeSet<String> = lint(&server.scrape("").body).into_keys().collect();
    let listed = named(&page("serve.md"));
    let missing: Vec<_> = printed.difference(&listed).collect();
    assert!(missing.is_empty(), "not in serve.md: {missing:?}");
    for name in ["serve.md", "the-backends.md", "alerts.yml"] {
        let named = named(&page(name));
        let unknown: Vec<_> = named.difference(&printed).collect();
        assert!(unknown.is_empty(), "{name} names what is not printed: {unknown:?}");
    }
}

#[test]
fn every_alert_has_its_section_in_the_runbook() {
    let rules = page("alerts.yml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let pages = page("serve.md") + &page("the-backends.md");
    for alert in &alerts {
        assert!(pages.contains(&format!("\n### {alert}\n")), "{alert} has no section");
        assert!(rules.contains(&format!("#{}\"", alert.to_lowercase())), "{alert} does not name its section");
    }
    let sections = pages.lines().filter_map(|line| line.strip_prefix("### "));
    for section in sections.filter(|section| section.starts_with("Akidb")) {
        assert!(alerts.contains(&section), "{section} is no alert");
    }
}

#[test]
fn promtool_has_nothing_to_say() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/operations/alerts.yml");
    let checked = Command::new("promtool").arg("check").arg("rules").arg(rules).output();
    assert!(checked.as_ref().map_or(true, |run| run.status.success()), "{checked:?}");
    let place = Place::with_rows();
    let copy = format!("copy={}", place.url("copy"));
    let server = Server::start(&place, &["--backend", &copy]);
    let text = server.scrape("").body;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("SKIPPED promtool check metrics: promtool is not here (Debian: apt-get install prometheus)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.status.success() && words.trim().is_empty(), "{words}");
    println!("promtool check metrics: nothing to say about {} lines", text.lines().count());
}
