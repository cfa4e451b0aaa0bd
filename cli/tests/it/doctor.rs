//! `akidb doctor`: what it finds, what it exits with, and that it leaves nothing behind.

use std::fs;

use crate::support::{Place, keys};

#[test]
fn a_sound_disk_and_backend_are_good_and_left_as_they_were() {
    let place = Place::with_rows();
    place.ok(&["flush"]);
    fs::create_dir(place.path("copy")).unwrap();
    let backend = format!("copy={}", place.url("copy"));
    let before = place.everything();
    let reports = place.json(&["doctor", "--backend", &backend]);
    assert_eq!(place.everything(), before);
    let left: Vec<_> = fs::read_dir(place.path("copy")).unwrap().collect();
    // object_store makes directories of the parts of a key; the objects are gone.
    for entry in left {
        let entry = entry.unwrap();
        assert!(entry.path().is_dir() && fs::read_dir(entry.path()).unwrap().next().is_none(), "{entry:?}");
    }
    assert_eq!(reports.len(), 2, "{reports:?}");
    for report in &reports {
        assert_eq!(keys(report), "findings kind name ok url");
        assert_eq!(report["ok"], true, "{report}");
        for finding in report["findings"].as_array().unwrap() {
            assert_eq!(keys(finding), "check help said verdict");
        }
    }
    assert_eq!((&reports[0]["kind"], &reports[1]["kind"]), (&"disk".into(), &"backend".into()));
    let checks: Vec<_> =
        reports[1]["findings"].as_array().unwrap().iter().map(|f| f["check"].as_str().unwrap()).collect();
    assert_eq!(checks, ["reach", "put", "get", "list", "conditions", "clock", "delete"]);
    let text = place.ok(&["doctor", "--backend", &backend]);
    assert_eq!(text.lines().count(), 3 + 7, "{text}");
    assert!(
        text.lines().all(|line| line.starts_with("disk ") || line.starts_with("backend copy: ")),
        "{text}"
    );
}

#[test]
fn a_backend_that_cannot_be_used_is_an_exit_of_its_own() {
    let place = Place::new();
    let config =
        place.file("akidb.toml", format!("[[backends]]\nname = \"gone\"\nurl = \"{}\"\n", place.url("gone")));
    let config = config.to_str().unwrap();
    let run = place.run(&["doctor", "--config", config, "--json"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.err.contains("AKI-0914") && run.err.contains("gone"), "{run:?}");
    assert!(!place.path("gone").exists(), "looking makes nothing");
    // A file stands where the probe's directory must be.
    fs::create_dir(place.path("gone")).unwrap();
    place.file("gone/probe", "no directory");
    let text = place.run(&["doctor", "--config", config]);
    assert_eq!(text.code, 4, "{text:?}");
    assert!(text.out.contains("backend gone: reach failed: "), "{text:?}");
    assert!(text.out.contains("backend gone: list skipped: "), "{text:?}");
}

#[test]
fn a_backend_that_cannot_be_opened_is_a_finding_and_the_next_is_examined() {
    let place = Place::new();
    place.file("file", "no directory");
    fs::create_dir(place.path("good")).unwrap();
    let (bad, good) = (format!("bad={}", place.url("file")), format!("good={}", place.url("good")));
    let run = place.run(&["doctor", "--backend", &bad, "--backend", &good, "--json"]);
    assert_eq!(run.code, 4, "{run:?}");
    let told: Vec<(String, bool)> = crate::support::objects(&run.out)
        .iter()
        .map(|report| (report["name"].as_str().unwrap().to_owned(), report["ok"].as_bool().unwrap()))
        .collect();
    assert_eq!(told, [("bad".to_owned(), false), ("good".to_owned(), true)], "{run:?}");
}

#[test]
fn a_disk_that_is_full_is_said_before_writes_are_refused() {
    let place = Place::with_rows();
    let config = place.file("akidb.toml", "[engine]\nmin_free_disk_bytes = \"1000000 GiB\"\n");
    let run = place.run(&["doctor", "--config", config.to_str().unwrap()]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.out.contains(": space failed: "), "{run:?}");
}

#[test]
fn nothing_to_examine_is_said() {
    let place = Place::new();
    let err = place.fails(2, &["doctor"]);
    assert!(err.contains("--config"), "{err}");
    assert!(place.fails(2, &["doctor", "--backend", "nameless"]).contains("NAME=URL"));
    assert!(!place.db().exists());
}
