//! `akidb drill`: its figures come from what happened, and they keep what the README says.

use serde_json::Value;

use crate::support::program;

#[test]
fn an_hour_without_a_backend_fails_no_write_and_loses_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let out = program()
        .args(["drill", "outage", "--scenario", "dead", "--speed", "1800", "--json", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    println!("{text}");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let figures: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    for none in ["failed_writes", "lost_rows", "requests_while_open", "dead_letters_from_outage"] {
        assert_eq!(figures[none], 0, "{none}");
    }
    assert_eq!(figures["drained"], true);
    assert!(figures["opened_after_seconds"].is_number() && figures["writes"].as_u64().unwrap() > 100);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "everything it made is removed");
}

#[test]
fn what_cannot_be_played_is_refused() {
    for arguments in [["--hours", "0"], ["--hours", "100"], ["--speed", "0"]] {
        let out = program().args(["drill", "outage"]).args(arguments).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
    }
}
