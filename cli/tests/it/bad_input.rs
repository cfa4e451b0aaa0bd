//! What people get wrong: a typed answer, nothing written, nothing lost.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::support::{Place, ids, keys, objects, program};

/// Runs what must be refused as wrong; nothing may have been written.
fn refused(place: &Place, args: &[&str]) -> String {
    let err = place.fails(2, args);
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["a", "b", "c"], "{args:?}");
    err
}

#[test]
fn a_vector_that_cannot_be_stored_is_refused() {
    let place = Place::with_rows();
    for (vector, said) in [
        ("1,2,3", ["2", "3"]),
        ("NaN,1", ["finite", "AKI-"]),
        ("inf,1", ["finite", "AKI-"]),
        ("0,0", ["zero", "AKI-"]),
        ("one,two", ["number 1", "no number"]),
        ("", ["empty", "AKI-"]),
    ] {
        let err = refused(&place, &["upsert", "docs", "d", "--vector", vector]);
        assert!(said.iter().all(|said| err.contains(said)), "{vector:?}: {err}");
        let err = refused(&place, &["search", "docs", "--vector", vector]);
        assert!(said.iter().all(|said| err.contains(said)), "search {vector:?}: {err}");
        assert!(!err.contains("fate"), "a search writes nothing: {err}");
    }
    assert!(
        refused(&place, &["upsert", "docs", "d", "--vector", "1,2,3"]).contains("fate: nothing was written")
    );
}

#[test]
fn an_id_or_payload_that_cannot_be_stored_is_refused() {
    let place = Place::with_rows();
    let upsert = |id: &str, payload: &str| {
        refused(&place, &["upsert", "docs", id, "--vector", "1,1", "--payload", payload])
    };
    assert!(upsert("", "{}").contains("empty"));
    assert!(upsert(&"x".repeat(513), "{}").contains("513"));
    assert!(upsert("d", "{\"year\":\"soon\"}").contains("year"));
    assert!(upsert("d", "[1]").contains("a list, not a JSON object"));
    assert!(upsert("d", "{\"id\":1}").contains("id"));
    let large = place.file("large.json", format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20)));
    let err = upsert("d", &format!("@{}", large.display()));
    assert!(err.contains("AKI-"), "{err}");
}

#[test]
fn a_question_that_makes_no_sense_is_refused() {
    let place = Place::with_rows();
    let search = |args: &[&str]| refused(&place, &[&["search", "docs", "--vector", "1,0"], args].concat());
    for k in ["0", "10001", "99999999999"] {
        assert!(search(&["-k", k]).contains("k"), "{k}");
        refused(&place, &["search", "docs", "--like", "a", "-k", k]);
    }
    let unknown = search(&["--filter", "lagn = 'en'"]);
    assert!(unknown.contains("lagn") && unknown.contains("lang") && unknown.contains("year"), "{unknown}");
    let syntax = search(&["--filter", "lang = "]);
    assert!(syntax.contains('7') || syntax.contains("end"), "the position: {syntax}");
    let kind = search(&["--filter", "year = 'soon'"]);
    assert!(kind.contains("year"), "{kind}");
    refused(&place, &["ls", "docs", "--filter", "((("]);
    refused(&place, &["search", "docs", "--vector", "1,0", "-k", "many"]);
    assert!(refused(&place, &["verify", "--cold"]).contains("with --cold there are none"));
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let place = Place::with_rows();
    let err = place.fails(1, &["get", "books", "a"]);
    assert!(err.contains("\"books\"") && err.contains("docs") && err.contains("akidb ls"), "{err}");
    let partly = place.run(&["get", "docs", "a", "nobody", "--json"]);
    assert_eq!((partly.code, ids(&objects(&partly.out))), (1, vec!["a"]));
    let said = objects(&partly.err);
    assert_eq!(keys(&said[0]["error"]), "code exit kind message");
    let nowhere = Place::new();
    for verb in [&["ls"][..], &["get", "d", "a"], &["flush"], &["verify"], &["stats"], &["rm", "d", "a"]] {
        let err = nowhere.fails(1, verb);
        assert!(err.contains("no database"), "{verb:?}: {err}");
        assert!(!nowhere.db().exists(), "{verb:?} made a directory");
    }
}

#[test]
fn a_directory_held_by_another_process_names_it_and_can_be_read() {
    let place = Place::new();
    place.ok(&["init", "wordnet", "--dim", "384"]);
    let mut child = program().arg("demo-writer").arg(place.db()).stdout(Stdio::piped()).spawn().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap());
    acks.read_line(&mut String::new()).unwrap();
    let err = place.fails(1, &["upsert", "wordnet", "a", "--vector", "1"]);
    assert!(err.contains(&format!("pid {}", child.id())) && err.contains("read"), "{err}");
    let beside = place.run(&["ls"]);
    assert_eq!(beside.code, 0, "{beside:?}");
    assert!(beside.err.contains("another process has this database open"), "{beside:?}");
    place.fails(1, &["repair", "manifest"]);
    child.kill().unwrap();
    child.wait().unwrap();
    place.ok(&["flush"]);
}

#[test]
fn a_full_disk_stops_writes_and_not_reads() {
    let place = Place::with_rows();
    let config = place.file("akidb.toml", "[engine]\nmin_free_disk_bytes = \"1000000 GiB\"\n");
    let config = config.to_str().unwrap();
    let write = ["upsert", "docs", "d", "--vector", "1,1", "--config", config, "--json"];
    let run = place.run(&write);
    assert_eq!(run.code, 1, "{run:?}");
    let said = objects(&run.err);
    assert_eq!(said[0]["error"]["kind"], "NoSpace");
    assert_eq!(said[0]["error"]["fate"], "nothing was written");
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["a", "b", "c"]);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let place = Place::new();
    place.file("db", "a file stands here");
    let run = place.run(&["init"]);
    assert!(run.code != 0 && run.err.contains("db"), "{run:?}");
    assert_eq!(fs::read_to_string(place.db()).unwrap(), "a file stands here");
    let run = program().args(["--db", "/proc/akidb-cannot-be-here", "init"]).output().unwrap();
    assert!(!run.status.success());
    assert!(String::from_utf8(run.stderr).unwrap().contains("/proc/akidb-cannot-be-here"));
}

#[test]
fn a_slip_in_the_settings_is_named_with_a_guess() {
    let place = Place::with_rows();
    for (text, said) in [
        ("[engine]\nmemtable_byte = 7\n", "memtable_bytes"),
        ("[storage]\ntiering_policy = \"moon\"\n", "tiering_policy"),
        ("[engine\n", "line 1"),
        ("[[backends]]\nname = \"x\"\nurl = \"ftp://x\"\n", "file:///path"),
    ] {
        let config = place.file("akidb.toml", text);
        let config = config.to_str().unwrap();
        let err = place.fails(2, &["config", "check", config]);
        assert!(err.contains(said) && err.contains("akidb.toml"), "{text}: {err}");
        refused(&place, &["flush", "--config", config]);
        refused(&place, &["ls", "--config", config]);
    }
    place.fails(2, &["config", "check"]);
    let missing = place.fails(1, &["config", "check", "/no/such.toml"]);
    assert!(missing.contains("/no/such.toml"), "{missing}");
    refused(&place, &["flush", "--backend", "file:///nameless"]);
}

#[test]
fn a_settings_file_for_another_build_is_told() {
    let place = Place::new();
    let text = "[[backends]]\nname = \"far\"\nurl = \"s3://vectors/production\"\n";
    let config = place.file("akidb.toml", text);
    let check = ["config", "check", config.to_str().unwrap()];
    if akidb::HAS_S3 {
        place.ok(&check);
    } else {
        let told = place.fails(2, &check);
        assert!(told.contains("feature `s3`") && told.contains("--features s3"), "{told}");
    }
}

#[test]
fn a_backend_that_does_not_answer_is_an_exit_of_its_own() {
    let place = Place::with_rows();
    // The backend is there, but takes no segment: a file stands where a directory must be.
    fs::create_dir(place.path("copy")).unwrap();
    place.file("copy/collections", "no directory");
    let url = format!("local={}", place.url("copy"));
    let run = place.run(&["flush", "--backend", &url, "--wait-secs", "1", "--json"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert_eq!(objects(&run.err)[0]["error"]["kind"], json!("Unavailable"));
    assert_eq!(
        ids(&place.json(&["ls", "docs"])),
        ["a", "b", "c"],
        "rows are flushed and readable all the same"
    );
    assert_eq!(objects(&run.out)[0]["uploaded"], json!(false), "the report is printed all the same");
    let text = place.run(&["flush", "--backend", &url, "--wait-secs", "1"]);
    assert!(text.err.contains("goes on with the upload") && !text.err.contains("fate:"), "{text:?}");
    let rows = place.file("more.jsonl", "{\"id\":\"d\",\"vector\":[1,0]}\n");
    let more = rows.to_str().unwrap();
    let run = place.run(&["import", "docs", more, "--backend", &url, "--wait-secs", "1", "--json"]);
    assert_eq!(run.code, 4, "{run:?}");
    let told = &objects(&run.out)[0];
    assert_eq!((&told["imported"], &told["uploaded"]), (&json!(1), &json!(false)));
    assert!(!run.err.contains("nothing was written"), "{run:?}");
    let run = place.run(&["compact", "--backend", &url, "--wait-secs", "1", "--json"]);
    assert_eq!((run.code, &objects(&run.out)[0]["uploaded"]), (4, &json!(false)));
    place.ok(&["rm", "docs", "d"]);
    let nothing = place.fails(1, &["restore", &place.url("void"), place.path("new").to_str().unwrap()]);
    assert!(nothing.contains("nothing was published"), "{nothing}");
}

#[test]
fn a_wrong_command_is_told_what_is_right() {
    let place = Place::new();
    assert!(place.fails(2, &["serach"]).contains("search"));
    place.fails(2, &[]);
    place.fails(2, &["repair"]);
    place.fails(2, &["repair", "wal-cut", "x.wal", "minus"]);
    place.fails(2, &["import", "docs", "x.jsonl", "--metric", "l3"]);
}
