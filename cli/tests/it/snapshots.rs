//! Named snapshots by the command: made, listed, read by every reading verb, let go.

use serde_json::json;

use crate::support::{Place, ids, keys, objects};

#[test]
fn a_snapshot_is_made_listed_read_by_every_verb_and_let_go() {
    let place = Place::with_rows();
    let made = place.json(&["snapshot", "create", "before"]).remove(0);
    assert_eq!(keys(&made), "bytes created_at damage lsn manifest name own_bytes rows");
    assert_eq!((&made["name"], &made["rows"]), (&json!("before"), &json!({ "docs": 3 })));
    place.ok(&["rm", "docs", "--filter", "lang = 'en'"]);
    place.ok(&["alter", "docs", "--rename", "texts"]);
    place.ok(&["init", "more", "--dim", "3"]);
    place.ok(&["flush"]);

    let there = ["--snapshot", "before"];
    let at = |args: &[&str]| place.json(&[args, &there].concat());
    assert_eq!(ids(&at(&["ls", "docs"])), ["a", "b", "c"]);
    assert_eq!(ids(&at(&["get", "docs", "a", "c"])), ["a", "c"]);
    assert_eq!(ids(&at(&["search", "docs", "--vector", "1,0", "-k", "2"])), ["a", "b"]);
    assert_eq!(ids(&at(&["search", "docs", "--like", "c", "--filter", "lang = 'en'"])), ["a"]);
    let listed = at(&["ls"]);
    assert_eq!((listed.len(), &listed[0]["name"], &listed[0]["rows"]), (1, &json!("docs"), &json!(3)));
    let table = place.ok(&["ls", "--snapshot", "before"]);
    assert!(table.contains("docs") && !table.contains("texts"), "{table}");
    assert_eq!(ids(&place.json(&["ls", "texts"])), ["b"], "now");
    place.fails(1, &["get", "texts", "b", "--snapshot", "before"]);

    let lsn = made["lsn"].as_str().unwrap();
    let run = place.run(&["get", "docs", "a", "--as-of", lsn]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("snapshot \"before\"") && run.err.contains(lsn), "it says which: {}", run.err);
    place.fails(2, &["get", "docs", "a", "--as-of", "yesterday"]);
    place.fails(2, &["get", "docs", "a", "--as-of", lsn, "--snapshot", "before"]);
    assert_eq!(ids(&place.json(&["ls", "texts", "--as-of", "8388607:1"])), ["b"], "the newest");
    let run = place.run(&["get", "docs", "a", "--as-of", lsn, "--json"]);
    assert_eq!(objects(&run.out).len(), 1, "{run:?}");
    let told = objects(&run.err)[0]["note"].as_str().unwrap().to_owned();
    assert!(told.starts_with("as of "), "{told}");

    assert!(place.fails(1, &["snapshot", "create", "Before"]).contains("AKI-0274"));
    assert!(place.fails(2, &["snapshot", "create", "a/b"]).contains("AKI-0272"));
    assert!(place.fails(1, &["ls", "--snapshot", "after"]).contains("before"), "it lists those there are");
    let before = place.everything();
    assert_eq!(place.json(&["snapshot", "ls"])[0]["name"], "before");
    let table = place.ok(&["snapshot", "ls"]);
    assert!(table.contains("docs:3") && table.contains(lsn), "{table}");
    assert!(place.everything() == before, "a look changes nothing");
    let gone = place.json(&["snapshot", "rm", "before"]);
    assert_eq!(gone, [json!({ "name": "before", "removed": true })]);
    assert!(place.json(&["snapshot", "ls"]).is_empty());
    assert!(place.fails(1, &["snapshot", "rm", "before"]).contains("AKI-0273"));
    place.ok(&["verify"]);
}

#[test]
fn a_snapshot_that_cannot_be_read_is_damage_and_can_be_let_go() {
    let place = Place::with_rows();
    let made = place.json(&["snapshot", "create", "lost"]).remove(0);
    place.ok(&["upsert", "docs", "d", "--vector", "1,1"]);
    place.ok(&["snapshot", "create", "good"]);
    place.ok(&["flush"]);
    let file = place.db().join("manifest").join(format!("{:020}.json", made["manifest"].as_u64().unwrap()));
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let told = place.fails(3, &["snapshot", "ls"]);
    assert!(told.contains("`akidb snapshot rm lost --db ") && !told.contains("repair manifest"), "{told}");
    std::fs::remove_file(file).unwrap();
    assert!(place.fails(3, &["snapshot", "ls"]).contains("akidb snapshot rm"));
    place.fails(1, &["ls", "--snapshot", "lost"]);
    place.fails(3, &["verify"]);
    assert_eq!(ids(&place.json(&["ls", "docs", "--snapshot", "good"])), ["a", "b", "c", "d"]);
    place.ok(&["snapshot", "rm", "lost"]);
    place.ok(&["snapshot", "ls"]);
    place.ok(&["verify"]);
}

#[test]
fn a_snapshot_whose_segment_is_gone_is_told_and_let_go() {
    let place = Place::with_rows();
    place.ok(&["snapshot", "create", "before"]);
    // A merge would give the segment up by itself: two of its three rows are dead.
    let config = place.file("akidb.toml", "[engine]\ncompaction = false\n");
    let config = config.to_str().unwrap();
    place.ok(&["rm", "docs", "--filter", "lang = 'en'", "--config", config]);
    place.ok(&["flush", "--config", config]);
    let segment = place.files(".parquet").into_iter().next().unwrap();
    let file = segment.to_str().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 4;
    std::fs::write(&segment, bytes).unwrap();
    place.ok(&["repair", "segment", file, "--drop"]);
    place.ok(&["snapshot", "ls"]);
    let found = place.run(&["verify"]);
    assert_eq!(found.code, 3, "{found:?}");
    assert!(found.out.contains("snapshots that show it: before"), "{found:?}");
    assert!(found.out.contains("akidb snapshot rm before"), "{found:?}");
    std::fs::remove_file(&segment).unwrap();
    let err = place.fails(3, &["snapshot", "ls"]);
    assert!(err.contains("\"before\"") && err.contains(file) && err.contains("akidb snapshot rm"), "{err}");
    let err = place.fails(3, &["ls", "docs", "--snapshot", "before"]);
    assert!(err.contains("akidb snapshot rm before"), "{err}");
    place.ok(&["snapshot", "rm", "before"]);
    place.ok(&["verify"]);
}

#[test]
fn a_restore_says_which_snapshots_it_left_out() {
    let place = Place::with_rows();
    let backend = format!("copy={}", place.url("copy"));
    place.ok(&["snapshot", "create", "before"]);
    place.ok(&["--backend", &backend, "flush"]);
    let target = place.path("restored");
    let run = place.run(&["restore", &place.url("copy"), target.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("before"), "{run:?}");
    let cold = ["--cold", "--backend", &backend, "--db", target.to_str().unwrap()];
    assert!(place.fails(2, &[&["ls", "--snapshot", "before"], &cold[..3]].concat()).contains("AKI-0277"));
}
