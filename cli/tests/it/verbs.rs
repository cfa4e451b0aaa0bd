//! Every verb on a sound database: what it does, what it prints, and how it exits.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::support::{Place, ids, keys, objects, program};

#[test]
fn a_row_written_is_got_searched_listed_and_removed() {
    let place = Place::new();
    let made = place.json(&["init", "docs", "--dim", "2", "--field", "lang:text"]);
    assert_eq!(keys(&made[0]), "collection created db");
    assert_eq!(made[0]["created"], true);
    let wrote =
        place.json(&["upsert", "docs", "a", "--vector", "-1,0.5", "--payload", "{\"lang\":\"en\",\"n\":1}"]);
    assert_eq!(keys(&wrote[0]), "id lsn");

    let got = place.json(&["get", "docs", "a", "--with-vector"]);
    assert_eq!(keys(&got[0]), "id lsn payload vector");
    assert_eq!(got[0]["lsn"], wrote[0]["lsn"]);
    assert_eq!(got[0]["vector"], json!([-1.0, 0.5]));
    assert_eq!(got[0]["payload"], json!({"lang": "en", "n": 1}));
    assert_eq!(keys(&place.json(&["get", "docs", "a"])[0]), "id lsn payload");

    let hits = place.json(&["search", "docs", "--vector", "[-1, 0.5]", "-k", "3"]);
    assert_eq!(keys(&hits[0]), "id lsn payload score");
    assert!((hits[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["a"]);

    let removed = place.json(&["rm", "docs", "a"]);
    assert_eq!(removed, [json!({"id": "a", "removed": true, "dry_run": false})]);
    place.fails(1, &["get", "docs", "a"]);
    place.fails(1, &["rm", "docs", "a"]);
    place.fails(1, &["search", "docs", "--vector", "1,0"]);
    place.fails(1, &["ls", "docs"]);
}

#[test]
fn init_twice_is_one_database_and_another_schema_is_a_conflict() {
    let place = Place::new();
    place.ok(&["init", "docs", "--dim", "2"]);
    let again = place.json(&["init", "docs", "--dim", "2"]);
    assert_eq!(again[0]["created"], false);
    let err = place.fails(1, &["init", "docs", "--dim", "3"]);
    assert!(err.contains("another schema"), "{err}");
    assert!(place.fails(2, &["init", "docs"]).contains("--dim"));
    place.fails(2, &["init", "--field", "a:int"]);
    place.fails(2, &["init", "docs", "--dim", "0"]);
    place.fails(2, &["init", "docs", "--dim", "2", "--field", "vector:int"]);
}

#[test]
fn a_row_whose_time_is_over_is_not_there() {
    let place = Place::new();
    let init = ["init", "docs", "--dim", "2", "--field", "until:timestamp", "--expires-by"];
    let refused = place.fails(2, &[&init[..], &["unless"]].concat());
    assert!(refused.contains("AKI-0278") && refused.contains("declare it as a timestamp"), "{refused}");
    place.ok(&[&init[..], &["until"]].concat());
    let put = |id: &'static str, payload: &'static str| {
        place.ok(&["upsert", "docs", id, "--vector", "1,0", "--payload", payload]);
    };
    put("over", "{\"until\": \"2020-01-01T00:00:00Z\"}");
    put("later", "{\"until\": \"2999-01-01T00:00:00Z\"}");
    put("never", "{}");
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["later", "never"]);
    let logged = place.json(&["wal", "dump", "--records"]);
    let told = |line: &serde_json::Value| line["op"] == "upsert" && line["expires_at"].is_null();
    assert!(logged.iter().any(|line| told(line) && line["key"] == "never"), "{logged:?}");
    assert_eq!(place.json(&["search", "docs", "--vector", "1,0", "-k", "3"]).len(), 2);
    place.fails(1, &["get", "docs", "over"]);
    let listed = place.json(&["ls"]);
    assert_eq!(listed[0]["expires_by"], "until");
    // With it until it is deleted: by one of these commands already, or later.
    assert!(listed[0]["rows"] == 2 || listed[0]["rows"] == 3, "{listed:?}");
    assert!(place.ok(&["ls"]).contains("until:timestamp (expires)"));
    place.ok(&["upsert", "docs", "later", "--patch", "{\"until\": 1}"]);
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["never"]);
    // Said beside the payload.
    let soon = |id: &'static str, payload: &'static str, secs: &'static str| {
        ["upsert", "docs", id, "--vector", "1,0", "--payload", payload, "--expires-in-secs", secs]
    };
    place.ok(&soon("soon", "{\"a\": 1}", "3600"));
    place.ok(&[&soon("named", "{}", "3600")[..], &["--idempotency-key", "k"]].concat());
    assert!(place.json(&["get", "docs", "soon"])[0]["payload"]["until"].is_string());
    place.ok(&soon("soon", "{}", "0"));
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["named", "never"]);
    let refused = place.fails(2, &soon("both", "{\"until\": 1}", "3600"));
    assert!(refused.contains("AKI-0279") && refused.contains("one of the two"), "{refused}");
    place.fails(2, &["upsert", "docs", "named", "--patch", "{}", "--expires-in-secs", "1"]);
    let file = place.file("rows.jsonl", "{\"id\": \"x\", \"vector\": [1, 0]}\n");
    place.ok(&["import", "docs", file.to_str().unwrap(), "--expires-in-secs", "3600"]);
    assert!(place.json(&["get", "docs", "x"])[0]["payload"]["until"].is_string());
}

#[test]
fn rows_of_a_collection_that_is_there_begin_to_expire() {
    let place = Place::with_rows();
    let soon = ["upsert", "docs", "d", "--vector", "1,0", "--expires-in-secs", "60"];
    let refused = place.fails(2, &soon);
    assert!(refused.contains("AKI-0279") && refused.contains("--expires-by FIELD"), "{refused}");
    place.fails(2, &["alter", "docs", "--expires-by", "year"]);
    place.fails(2, &["alter", "docs", "--expires-by", "until"]);
    place.ok(&["alter", "docs", "--field", "until:timestamp"]);
    place.ok(&["upsert", "docs", "a", "--patch", "{\"until\": \"2020-01-01T00:00:00Z\"}"]);
    let altered = place.json(&["alter", "docs", "--expires-by", "until"]);
    assert_eq!((&altered[0]["expires_by"], &altered[0]["expired"]), (&json!("until"), &json!(1)));
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["b", "c"]);
    let again = place.json(&["alter", "docs", "--expires-by", "until"]);
    assert_eq!(again[0]["expired"], 0);
    place.ok(&soon);
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["b", "c", "d"]);
}

#[test]
fn an_upsert_with_a_key_is_written_once() {
    let place = Place::with_rows();
    let upsert = |key: &'static str, year: &'static str| {
        ["upsert", "docs", "once", "--vector", "1,0", "--payload", year, "--idempotency-key", key]
    };
    let first = place.json(&upsert("request 1", "{\"year\": 1}"));
    assert_eq!((&first[0]["id"], &first[0]["repeat"]), (&json!("once"), &json!(false)));
    let logged = place.json(&["wal", "dump", "--records"]);
    assert!(
        logged.iter().any(|line| line["batch_key"] == "request 1" && line["key"] == "once"),
        "{logged:?}"
    );
    place.ok(&["upsert", "docs", "once", "--patch", "{\"year\": 2}"]);
    place.ok(&["flush"]);
    let again = place.json(&upsert("request 1", "{\"year\": 1}"));
    assert_eq!((&again[0]["lsn"], &again[0]["repeat"]), (&first[0]["lsn"], &json!(true)));
    assert_eq!(place.json(&["get", "docs", "once"])[0]["payload"]["year"], 2, "a late retry undid a write");
    assert!(place.fails(1, &upsert("request 1", "{\"year\": 3}")).contains("AKI-0219"));
    assert!(place.fails(2, &upsert("", "{\"year\": 3}")).contains("AKI-0229"));
    place.fails(2, &["upsert", "docs", "once", "--patch", "{}", "--idempotency-key", "request 2"]);
}

#[test]
fn a_collection_is_renamed_and_gets_fields() {
    let place = Place::with_rows();
    let altered = place.json(&["alter", "docs", "--rename", "texts", "--field", "seen:bool"]);
    assert_eq!(altered, [json!({"collection": "texts", "was": "docs", "fields": 4})]);
    place.fails(1, &["get", "docs", "a"]);
    place.ok(&["upsert", "texts", "a", "--patch", "{\"seen\": true, \"year\": null}"]);
    let row = place.json(&["get", "texts", "a"]);
    assert_eq!(row[0]["payload"], json!({"lang": "en", "title": "first", "seen": true}));
    assert_eq!(ids(&place.json(&["search", "texts", "--vector", "1,0", "--filter", "seen = true"])), ["a"]);
    assert_eq!(
        ids(&place.json(&["search", "texts", "--vector", "1,0", "--filter", "seen is null"])),
        ["b", "c"]
    );
    place.fails(1, &["upsert", "texts", "nobody", "--patch", "{}"]);
    place.fails(2, &["upsert", "texts", "a", "--patch", "{}", "--vector", "1,0"]);
    place.fails(2, &["upsert", "texts", "a"]);
    place.fails(2, &["alter", "texts"]);
    place.fails(2, &["alter", "texts", "--field", "seen"]);
    place.fails(2, &["alter", "texts", "--field", "SEEN:int"]);
    place.fails(1, &["alter", "docs", "--rename", "texts"]);
    // Of several demands one is refused: none is made.
    place.fails(2, &["alter", "texts", "--field", "late:int", "--expires-by", "late"]);
    place.fails(2, &["alter", "texts", "--rename", "docs", "--field", "SEEN:int"]);
    assert_eq!(place.json(&["ls"])[0]["name"], json!("texts"));
    assert_eq!(place.json(&["alter", "texts", "--rename", "texts"])[0]["fields"], json!(4));
}

#[test]
fn rows_are_removed_by_a_filter() {
    let place = Place::with_rows();
    let would = place.json(&["rm", "docs", "--filter", "lang = 'en'", "--dry-run"]);
    assert_eq!(would, [json!({"collection": "docs", "rows": 2, "dry_run": true})]);
    let removed = place.json(&["rm", "docs", "--filter", "lang = 'en'"]);
    assert_eq!(removed, [json!({"collection": "docs", "rows": 2, "dry_run": false})]);
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["b"]);
    place.fails(1, &["rm", "docs", "--filter", "lang = 'en'"]);
    place.fails(2, &["rm", "docs", "--filter", "lan = 'en'"]);
    place.fails(2, &["rm", "docs", "a", "--filter", "lang = 'en'"]);
}

#[test]
fn a_search_takes_a_vector_or_a_row_and_a_filter() {
    let place = Place::with_rows();
    assert_eq!(ids(&place.json(&["search", "docs", "--vector", "1,0"])), ["a", "b", "c"]);
    assert_eq!(ids(&place.json(&["search", "docs", "--like", "a"])), ["b", "c"], "not the row itself");
    assert_eq!(ids(&place.json(&["search", "docs", "--like", "a", "-k", "1"])), ["b"]);
    let filtered = ["search", "docs", "--vector", "1,0", "--filter", "lang = 'en' and year > 2001"];
    assert_eq!(ids(&place.json(&filtered)), ["c"]);
    assert_eq!(ids(&place.json(&["search", "docs", "--like", "a", "--filter", "tags contains 'x'"])), ["b"]);
    place.fails(1, &["search", "docs", "--vector", "1,0", "--filter", "year > 3000"]);
    place.fails(1, &["search", "docs", "--like", "nobody"]);
    place.fails(2, &["search", "docs", "--vector", "1,0", "--like", "a"]);
    place.fails(2, &["search", "docs"]);

    let timed = place.json(&["search", "docs", "--like", "a", "--repeat", "3"]);
    assert_eq!(keys(timed.last().unwrap()), "first_ms least_ms median_ms runs");

    let near = place.file("q.json", "[0, 1]");
    let near = format!("@{}", near.display());
    assert_eq!(ids(&place.json(&["search", "docs", "--vector", &near, "-k", "1"])), ["c"]);
    let piped = place.run_with(&["search", "docs", "--vector", "@-", "-k", "1", "--json"], b"0,1\n");
    assert_eq!(ids(&objects(&piped.out)), ["c"]);
}

#[test]
fn rows_are_listed_a_page_at_a_time() {
    let place = Place::with_rows();
    let page = place.run(&["ls", "docs", "--limit", "2"]);
    assert!(page.err.contains("--after=b"), "{}", page.err);
    assert_eq!(ids(&place.json(&["ls", "docs", "--limit", "2", "--after", "b"])), ["c"]);
    assert_eq!(ids(&place.json(&["ls", "docs", "--filter", "lang = 'en'"])), ["a", "c"]);
    place.fails(1, &["ls", "docs", "--after", "c"]);
    place.fails(2, &["ls", "docs", "--limit", "0"]);
}

#[test]
fn collections_are_listed_with_their_schemas() {
    let place = Place::with_rows();
    let listed = place.json(&["ls"]);
    assert_eq!(keys(&listed[0]), "dim fields ids metric name rows segment_bytes segments");
    assert_eq!(listed[0]["fields"][2], json!({"name": "tags", "type": "text_list"}));
    assert_eq!((&listed[0]["rows"], &listed[0]["metric"]), (&json!(3), &json!("cosine")));
    let text = place.ok(&["ls"]);
    assert!(text.contains("docs") && text.contains("lang:text year:int tags:text_list"), "{text}");
    assert!(!text.contains('\u{2502}'), "no lines around cells where no terminal is: {text}");
}

#[test]
fn integer_ids_are_numbers() {
    let place = Place::new();
    place.ok(&["init", "nums", "--dim", "1", "--metric", "l2", "--int-ids"]);
    for n in ["-7", "3"] {
        let wrote = place.run(&["upsert", "nums", "--vector", n, "--", n]);
        assert_eq!(wrote.code, 0, "{wrote:?}");
    }
    let rows = place.json(&["ls", "nums"]);
    assert_eq!((&rows[0]["id"], &rows[1]["id"]), (&json!(-7), &json!(3)));
    let hits = place.json(&["search", "nums", "--vector", "-6"]);
    assert_eq!((&hits[0]["id"], &hits[0]["score"]), (&json!(-7), &json!(-1.0)));
    assert!(place.fails(2, &["get", "nums", "seven"]).contains("64-bit integers"));
}

#[test]
fn a_dry_run_changes_nothing() {
    let place = Place::with_rows();
    place.ok(&["flush"]);
    let before = place.everything();
    let rows = place.json(&["rm", "docs", "a", "nobody", "--dry-run"]);
    assert_eq!(rows[0], json!({"id": "a", "removed": true, "dry_run": true}));
    assert_eq!(rows[1]["removed"], false);
    let all = place.json(&["rm", "docs", "--drop", "--dry-run"]);
    assert_eq!(all, [json!({"collection": "docs", "rows": 3, "dry_run": true})]);
    assert_eq!(place.everything(), before);
    place.ok(&["rm", "docs", "--drop"]);
    assert!(place.json(&["ls"]).is_empty());
    place.fails(2, &["rm", "docs"]);
    place.fails(2, &["rm", "docs", "a", "--drop"]);
}

#[test]
fn reading_changes_nothing() {
    let place = Place::with_rows();
    let before = place.everything();
    place.ok(&["get", "docs", "a"]);
    place.ok(&["search", "docs", "--like", "a"]);
    place.ok(&["ls"]);
    place.ok(&["stats"]);
    place.ok(&["verify"]);
    assert_eq!(place.everything(), before);
}

#[test]
fn figures_are_one_object() {
    let place = Place::with_rows();
    let stats = place.json(&["stats"]);
    assert_eq!(stats.len(), 1);
    for key in ["watermarks", "collections", "live_wal_bytes", "memtable_bytes", "backends", "recovery"] {
        assert!(stats[0].get(key).is_some(), "{key}: {stats:?}");
    }
    assert_eq!(stats[0]["collections"][0]["rows"], 3);
    // Nothing is written through this handle; what it cannot know it does not claim.
    assert_eq!(stats[0]["durability"], json!(null));
    assert_eq!(stats[0]["newest_manifest"], stats[0]["recovery"]["manifest"]);
    assert!(stats[0]["newest_manifest"].as_u64() > Some(0), "{stats:?}");
    let text = place.ok(&["stats"]);
    assert!(text.contains("watermarks: visible: ") && text.contains("docs"), "{text}");
}

#[test]
fn flushed_rows_reach_a_backend_and_come_back_from_it() {
    let place = Place::with_rows();
    let (copy, back) = (place.url("copy"), place.path("back"));
    let backend = format!("local={copy}");
    let flushed = place.json(&["flush", "--backend", &backend]);
    assert_eq!(keys(&flushed[0]), "backends flushed rows segments uploaded");
    assert_eq!((&flushed[0]["rows"], &flushed[0]["uploaded"]), (&json!(3), &json!(true)));
    assert_eq!(flushed[0]["backends"][0]["pending_files"], 0);

    let restored = place.json(&["restore", &copy, back.to_str().unwrap()]);
    assert_eq!(
        keys(&restored[0]),
        "bytes collections files from manifest remote_document segment_rows segments snapshots_left_out"
    );
    assert_eq!(restored[0]["segment_rows"], 3);
    let original = place.ok(&["ls", "docs", "--with-vector", "--json"]);
    let copied =
        program().args(["--db", back.to_str().unwrap(), "ls", "docs", "--with-vector", "--json"]).output();
    assert_eq!(String::from_utf8(copied.unwrap().stdout).unwrap(), original, "LSNs included");
    let err = place.fails(1, &["restore", &copy, back.to_str().unwrap()]);
    assert!(err.contains("holds a database already"), "{err}");
}

#[test]
fn a_backend_of_the_settings_is_named_by_its_name() {
    let place = Place::with_rows();
    let text = format!("[[backends]]\nname = \"shelf\"\nurl = \"{}\"\n", place.url("shelf"));
    let config = place.file("akidb.toml", text);
    let config = config.to_str().unwrap();
    assert_eq!(place.json(&["flush", "--config", config])[0]["uploaded"], true);
    let back = place.path("back");
    place.ok(&["restore", "shelf", back.to_str().unwrap(), "--config", config]);
    let err = place.fails(2, &["restore", "attic", back.to_str().unwrap(), "--config", config]);
    assert!(err.contains("shelf"), "{err}");
    let checked = place.json(&["config", "check", config]);
    assert_eq!(keys(&checked[0]), "backends file ok tiering_policy without_effect");
    assert_eq!(checked[0]["tiering_policy"], "mirror");
}

#[test]
fn each_kind_of_file_can_be_looked_into() {
    let place = Place::with_rows();
    let log = place.files(".wal").pop().unwrap();
    let frames = place.json(&["inspect", log.to_str().unwrap()]);
    assert_eq!(frames[0]["kind"], "log file");
    place.ok(&["flush"]);
    let segment = place.files(".parquet").pop().unwrap();
    let rows = place.json(&["inspect", segment.to_str().unwrap()]);
    assert_eq!((&rows[0]["kind"], &rows[0]["rows"]), (&json!("segment"), &json!(3)));
    let manifest = place.files(".json").into_iter().rfind(|p| p.to_str().unwrap().contains("/manifest/"));
    let manifest = manifest.unwrap();
    let named = place.json(&["inspect", manifest.to_str().unwrap()]);
    assert_eq!(named[0]["kind"], "manifest");
    let text = place.ok(&["inspect", manifest.to_str().unwrap()]);
    assert!(text.contains("kind: manifest") && text.contains("collections:"), "{text}");
    let other = place.path("rows.jsonl");
    assert!(place.fails(2, &["inspect", other.to_str().unwrap()]).contains("not a file of a database"));
}

#[test]
fn a_sound_database_verifies() {
    let place = Place::with_rows();
    place.ok(&["flush"]);
    let found = place.json(&["verify"]);
    assert_eq!(keys(&found[0]), "bytes damages files set_aside torn_tail unread");
    assert_eq!(found[0]["damages"], json!([]));
    assert!(place.ok(&["verify"]).contains("no damage"));
}

#[test]
fn a_reader_who_leaves_early_is_no_failure() {
    let place = Place::with_rows();
    let mut command = program();
    command.arg("--db").arg(place.db()).args(["ls", "docs", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn nothing_is_made_where_other_things_are() {
    let place = Place::new();
    fs::create_dir(place.db()).unwrap();
    fs::write(place.db().join("letters.txt"), "mine").unwrap();
    let err = place.fails(2, &["init"]);
    assert!(err.contains("letters.txt"), "{err}");
    assert_eq!(place.everything().len(), 1);
}

#[test]
fn every_verb_explains_itself() {
    let place = Place::new();
    let help = place.ok(&["--help"]);
    let verbs = [
        "demo", "init", "alter", "import", "upsert", "get", "rm", "search", "ls", "stats", "flush",
        "inspect", "verify", "repair", "restore", "config",
    ];
    for verb in verbs {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}: {help}");
        assert!(place.ok(&[verb, "--help"]).contains("--json"), "{verb}");
    }
    assert!(!help.contains("demo-writer"), "{help}");
    assert!(place.ok(&["--version"]).starts_with("akidb "));
}
