//! A reader who leaves: the work is done all the same, and the exit code is what it would be.

use std::fs;
use std::process::{Output, Stdio};

use crate::support::{Place, ids, program};

/// Runs with nobody at the other end of standard output.
fn unheard(place: &Place, args: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = program();
    command.arg("--db").arg(place.db()).args(args).stdin(Stdio::null()).stdout(writer);
    command.output().unwrap()
}

#[test]
fn every_row_is_removed_though_nobody_listens() {
    let place = Place::with_rows();
    for extra in [&["--json"][..], &[]] {
        place.ok(&["upsert", "docs", "d", "--vector", "1,0"]);
        let run = unheard(&place, &[&["rm", "docs", "d", "a", "b"], extra].concat());
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        assert_eq!(ids(&place.json(&["ls", "docs"])), ["c"]);
    }
    assert_eq!(unheard(&place, &["rm", "docs", "a", "--json"]).status.code(), Some(1));
}

#[test]
fn damage_is_an_exit_of_its_own_though_nobody_listens() {
    let place = Place::with_rows();
    place.ok(&["flush"]);
    assert_eq!(unheard(&place, &["verify"]).status.code(), Some(0));
    assert_eq!(unheard(&place, &["get", "docs", "a", "zz", "--json"]).status.code(), Some(1));
    let segment = place.files(".parquet").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[100] ^= 4;
    fs::write(&segment, bytes).unwrap();
    for args in [&["verify"][..], &["verify", "--json"]] {
        let run = unheard(&place, args);
        assert_eq!(run.status.code(), Some(3), "{run:?}");
        assert!(String::from_utf8(run.stderr).unwrap().contains("AKI-0906"));
    }
    let run = unheard(&place, &["doctor", "--backend", &format!("gone={}", place.url("gone")), "--json"]);
    assert_eq!(run.status.code(), Some(4), "{run:?}");
}
