//! Damaged files: found, named with file and offset, and mended by the commands the errors name.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::{Place, ids, objects};

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 4;
    fs::write(file, bytes).unwrap();
}

fn newest_manifest(place: &Place) -> std::path::PathBuf {
    let mut manifests = place.files(".json").into_iter();
    manifests.rfind(|path| path.parent().unwrap().ends_with("manifest")).unwrap()
}

#[test]
fn a_flipped_segment_is_found_and_named() {
    let place = Place::with_rows();
    place.ok(&["flush"]);
    let segment = place.files(".parquet").pop().unwrap();
    flip(&segment, 100);
    let run = place.run(&["verify", "--json"]);
    assert_eq!(run.code, 3, "{run:?}");
    let found = objects(&run.out);
    assert_eq!(found[0]["damages"][0]["file"], json!(segment));
    assert!(found[0]["damages"][0]["offset"].is_u64(), "{found:?}");
    let text = place.run(&["verify"]);
    assert!(text.out.contains("damaged: ") && text.out.contains("help: "), "{text:?}");
    let read = place.run(&["ls", "docs"]);
    assert_eq!(read.code, 3, "{read:?}");
    assert!(read.err.contains(segment.to_str().unwrap()) && read.err.contains("byte"), "{read:?}");
}

#[test]
fn a_truncated_segment_is_found_and_named() {
    let place = Place::with_rows();
    place.ok(&["flush"]);
    let segment = place.files(".parquet").pop().unwrap();
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..bytes.len() / 2]).unwrap();
    let err = place.fails(3, &["ls", "docs"]);
    assert!(err.contains(segment.to_str().unwrap()), "{err}");
    assert_eq!(place.run(&["verify"]).code, 3);
    assert_eq!(place.run(&["inspect", segment.to_str().unwrap()]).code, 3);
}

#[test]
fn a_damaged_manifest_is_stepped_back_from_by_order_only() {
    let place = Place::with_rows();
    place.ok(&["flush"]);
    place.ok(&["init"]);
    let newest = newest_manifest(&place);
    assert_eq!(place.run(&["repair", "manifest"]).code, 2, "a sound one is left alone");
    flip(&newest, 40);
    let err = place.fails(3, &["ls", "docs"]);
    assert!(err.contains(newest.to_str().unwrap()) && err.contains("akidb repair manifest"), "{err}");
    assert_eq!(place.run(&["verify"]).code, 3);

    let before = place.everything();
    let looked = place.json(&["repair", "manifest", "--dry-run"]);
    assert_eq!(looked[0]["dry_run"], true);
    assert_eq!(place.everything(), before);
    let stepped = place.json(&["repair", "manifest"]);
    let kept = stepped[0]["kept"][0].as_str().unwrap();
    assert!(fs::metadata(kept).unwrap().len() > 0, "the damaged one is kept");
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["a", "b", "c"]);
}

#[test]
fn a_manifest_of_a_newer_version_is_left_alone() {
    let place = Place::with_rows();
    let newest = newest_manifest(&place);
    let text = fs::read_to_string(&newest).unwrap();
    let (body, _) = text.trim_end().rsplit_once('\n').unwrap();
    let mut object: serde_json::Value = serde_json::from_str(body).unwrap();
    object["format"]["major"] = json!(99);
    let body = format!("{}\n", serde_json::to_string_pretty(&object).unwrap());
    let crc = crc32fast::hash(body.as_bytes());
    fs::write(&newest, format!("{body}{{\"crc32\":\"{crc:08x}\"}}\n")).unwrap();
    let run = place.run(&["ls", "--json"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(objects(&run.err)[0]["error"]["kind"], "NewerFormat");
}

#[test]
fn a_damaged_log_is_cut_by_order_only_and_a_copy_kept() {
    let place = Place::with_rows();
    place.ok(&["upsert", "docs", "d", "--vector", "1,1"]);
    // A record in the middle of the log, with whole records behind it, is no torn tail.
    let log = place.files(".wal").into_iter().find(|log| frames(&place, log).len() > 2).unwrap();
    let batch = frames(&place, &log).into_iter().find(|frame| frame["records"].as_u64() > Some(0)).unwrap();
    let offset = usize::try_from(batch["offset"].as_u64().unwrap()).unwrap();
    // A sound log is not cut without more words than an error names.
    let (path, at) = (log.to_str().unwrap(), offset.to_string());
    let before = place.everything();
    for more in [&[][..], &["--dry-run"]] {
        let err = place.fails(2, &[&["repair", "wal-cut", path, &at], more].concat());
        assert!(err.contains("not damaged") && err.contains("--drop"), "{err}");
    }
    place.ok(&["repair", "wal-cut", path, &at, "--drop", "--dry-run"]);
    assert_eq!(place.everything(), before);
    flip(&log, offset + 60);
    let err = place.fails(3, &["ls", "docs"]);
    assert!(err.contains(log.to_str().unwrap()) && err.contains("akidb repair wal-cut"), "{err}");
    assert_eq!(place.run(&["verify"]).code, 3);

    // The command is the one the error names.
    let named = err.split("akidb repair wal-cut").nth(1).unwrap();
    let words: Vec<&str> = named.split(['`', ' ', '\n', ';']).filter(|word| !word.is_empty()).collect();
    let (file, at) = (words[0], words[1]);
    let before = place.everything();
    let looked = place.json(&["repair", "wal-cut", file, at, "--dry-run"]);
    assert_eq!(looked[0]["dry_run"], true);
    assert_eq!(place.everything(), before);
    let cut = place.json(&["repair", "wal-cut", file, at]);
    assert!(!cut[0]["kept"].as_array().unwrap().is_empty(), "{cut:?}");
    for kept in cut[0]["kept"].as_array().unwrap() {
        assert!(fs::metadata(kept.as_str().unwrap()).unwrap().len() > 0);
    }
    // What stood before the cut is there again, and the database takes writes.
    place.ok(&["ls"]);
    place.ok(&["upsert", "docs", "e", "--vector", "1,1"]);
    place.ok(&["get", "docs", "e"]);
}

fn frames(place: &Place, log: &Path) -> Vec<serde_json::Value> {
    let found = place.run(&["inspect", log.to_str().unwrap(), "--json"]);
    if found.code != 0 {
        return Vec::new();
    }
    objects(&found.out)[0]["frames"].as_array().unwrap().clone()
}

#[test]
fn a_damaged_segment_is_taken_back_or_given_up_by_the_commands_that_the_error_names() {
    let place = Place::with_rows();
    let url = place.url("copy");
    place.ok(&["flush", "--backend", &format!("copy={url}")]);
    let segment = place.files(".parquet").pop().unwrap();
    let file = segment.to_str().unwrap();
    assert_eq!(place.run(&["repair", "segment", file, "--drop"]).code, 2, "a sound one is left alone");
    assert_eq!(place.run(&["repair", "segment", file]).code, 2, "what to do must be said");
    flip(&segment, 100);
    let err = place.fails(3, &["ls", "docs"]);
    assert!(err.contains(&format!("akidb repair segment {file} --from BACKEND")), "{err}");
    assert!(err.contains(&format!("akidb repair segment {file} --drop")), "{err}");
    let found = objects(&place.run(&["verify", "--json"]).out);
    assert_eq!(found[0]["damages"][0]["rows"]["collection"], "docs", "{found:?}");
    assert_eq!(found[0]["damages"][0]["rows"]["rows"], 3, "{found:?}");
    let text = place.run(&["verify"]).out;
    assert!(text.contains("rows of docs it touches: 3") && text.contains("akidb repair segment"), "{text}");

    let before = place.everything();
    assert_eq!(place.json(&["repair", "segment", file, "--from", &url, "--dry-run"])[0]["dry_run"], true);
    assert_eq!(place.json(&["repair", "segment", file, "--drop", "--dry-run"])[0]["lost"]["rows"], 3);
    assert_eq!(place.everything(), before);
    place.ok(&["repair", "segment", file, "--from", &url]);
    assert_eq!(place.run(&["verify"]).code, 0);
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["a", "b", "c"]);

    flip(&segment, 100);
    let report = place.json(&["repair", "segment", file, "--drop"]).remove(0);
    let list = fs::read_to_string(report["lost"]["list"].as_str().unwrap()).unwrap();
    let lines = objects(&list);
    assert_eq!(lines, [json!({ "rows": [0, 2], "between": ["a", "c"] })], "the block has the ids as well");
    assert!(fs::metadata(report["kept"][0].as_str().unwrap()).unwrap().len() > 0, "the damaged one is kept");
    assert_eq!(place.run(&["verify"]).code, 0);
    assert!(place.fails(1, &["ls", "docs"]).contains("no row"));
}
