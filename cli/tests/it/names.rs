//! Names that a shell or a parser would take for something else: blanks, leading hyphens, bytes that are no text.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Place, Run, ids, objects, program};

#[test]
fn an_id_that_looks_like_an_option_is_an_id() {
    let place = Place::with_rows();
    let rows = "{\"id\":\"-x y\",\"vector\":[1,0]}\n{\"id\":\"-z\",\"vector\":[1,0]}\n";
    let run = place.run_with(&["import", "docs", "-"], rows.as_bytes());
    assert_eq!(run.code, 0, "{run:?}");
    let page = place.run(&["ls", "docs", "--limit", "1"]);
    assert!(page.err.contains("there may be more: '--after=-x y'"), "{page:?}");
    assert_eq!(ids(&place.json(&["ls", "docs", "--after=-x y", "--limit", "1"])), ["-z"]);
    assert_eq!(ids(&place.json(&["ls", "docs", "--after", "-z"])), ["a", "b", "c"]);
    assert_eq!(place.json(&["search", "docs", "--like", "-z", "-k", "2"]).len(), 2);
    place.ok(&["init", "numbers", "--dim", "2", "--int-ids"]);
    place.ok(&["upsert", "numbers", "-5", "--vector", "1,0"]);
    place.ok(&["get", "numbers", "-5"]);
}

#[test]
fn a_command_that_is_told_for_a_path_with_blanks_can_be_typed_in() {
    let place = Place::with_rows();
    place.ok(&["flush"]);
    let segment = place.files(".parquet").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[100] ^= 4;
    fs::write(&segment, bytes).unwrap();
    let blank = place.path("my db");
    fs::rename(place.db(), &blank).unwrap();
    let run = Run::of(program().arg("--db").arg(&blank).arg("verify").output().unwrap());
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.out.contains("`akidb repair segment '") && run.out.contains("' --drop`"), "{run:?}");

    let odd = place.path("odd").with_file_name(OsStr::from_bytes(b"odd-\xff"));
    fs::rename(&blank, &odd).unwrap();
    let output = program().arg("--json").arg("--db").arg(&odd).arg("verify").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let found = objects(&String::from_utf8(output.stdout).unwrap());
    assert!(found[0]["damages"][0]["file"].as_str().unwrap().contains("odd-\u{fffd}"), "{found:?}");
    for args in [&["ls", "docs"][..], &["wal", "dump"], &["ls", "nothing"]] {
        let output = program().arg("--json").arg("--db").arg(&odd).args(args).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() < Some(4) && !told.contains("panicked"), "{args:?}: {told}");
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_not_called_damaged() {
    let place = Place::with_rows();
    place.ok(&["flush"]);
    let segment = place.files(".parquet").pop().unwrap();
    // A name that leads nowhere but to itself: refused to root, too.
    fs::rename(&segment, place.path("away")).unwrap();
    std::os::unix::fs::symlink(&segment, &segment).unwrap();
    let run = place.run(&["verify"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.out.contains("not read: ") && run.err.contains("AKI-0522"), "{run:?}");
    let blamed = run.out.lines().any(|line| line.starts_with("damaged: "));
    assert!(!blamed && !run.out.contains("--drop"), "{run:?}");
    let found = &place.run(&["verify", "--json"]).out;
    assert_eq!(objects(found)[0]["unread"].as_array().unwrap().len(), 1, "{found}");
    fs::remove_file(&segment).unwrap();
    fs::rename(place.path("away"), &segment).unwrap();
    place.ok(&["verify"]);
}
