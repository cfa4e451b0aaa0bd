//! Filters on rows in memory and in segments alike, while rows change and after they were cached.

use akidb::{Collection, Db, Durability, Filter, Metric, Schema, Settings};
use serde_json::json;

const FILTERS: [&str; 8] = [
    "lang = 'en'",
    "lang = 'en' and bucket < 10",
    "not lang = 'en' or bucket is null",
    "tags contains 'odd' and bucket >= 50",
    "bucket is not null",
    "bucket < 0",
    "id >= 'r0100' and id < 'r0200'",
    "id = 'r0007'",
];

/// Row `at` as it was last written, if it lives.
type Rows = Vec<Option<(&'static str, Option<i64>)>>;

fn write(docs: &Collection, rows: &mut Rows, at: usize, lang: &'static str, bucket: Option<i64>) {
    let tags = if at % 2 == 1 { vec!["odd"] } else { vec!["even", "all"] };
    let payload = json!({ "lang": lang, "bucket": bucket, "tags": tags });
    docs.upsert(format!("r{at:04}"), &[at as f32, 1.0], payload).unwrap();
    rows[at] = Some((lang, bucket));
}

fn matches(filter: &str, at: usize, (lang, bucket): (&str, Option<i64>)) -> bool {
    match FILTERS.iter().position(|f| *f == filter).unwrap() {
        0 => lang == "en",
        1 => lang == "en" && bucket.is_some_and(|b| b < 10),
        2 => lang != "en" || bucket.is_none(),
        3 => at % 2 == 1 && bucket.is_some_and(|b| b >= 50),
        4 => bucket.is_some(),
        5 => false,
        6 => (100..200).contains(&at),
        _ => at == 7,
    }
}

/// Count, scan and search say what the rows say.
fn check(docs: &Collection, rows: &Rows) {
    for text in FILTERS {
        let lives = |at: usize| rows[at].is_some_and(|row| matches(text, at, row));
        let wanted: Vec<String> =
            (0..rows.len()).filter(|at| lives(*at)).map(|at| format!("r{at:04}")).collect();
        let filter: Filter = text.parse().unwrap();
        assert_eq!(docs.count_where(filter.clone()).unwrap(), wanted.len() as u64, "{text}");
        let scanned = docs.scan().filter(filter.clone()).run().unwrap();
        assert_eq!(scanned.iter().map(|row| row.id.to_string()).collect::<Vec<_>>(), wanted, "{text}");
        let hits = docs.search(&[0.0, 1.0]).k(1_000).filter(filter).run().unwrap();
        let mut found: Vec<String> = hits.iter().map(|hit| hit.id.to_string()).collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "{text}");
    }
}

#[test]
fn cached_filters_follow_deletes_overwrites_and_flushes() {
    for cache_bytes in [0, 4_096, 32 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.engine.filter_cache_bytes = cache_bytes;
        let db = Db::builder(dir.path()).settings(settings).durability(Durability::Memory).open().unwrap();
        let schema = Schema::new(2, Metric::L2).text("lang").int("bucket").text_list("tags");
        let docs = db.create_collection("docs", schema).unwrap();
        let mut rows: Rows = vec![None; 600];
        for at in 0..500 {
            let bucket = (at % 9 != 0).then_some((at as i64 * 37) % 100);
            write(&docs, &mut rows, at, ["de", "en", "fr"][at % 3], bucket);
            if at == 250 {
                db.flush().unwrap();
            }
        }
        check(&docs, &rows);
        db.flush().unwrap();
        check(&docs, &rows);
        // What was cached holds the dead rows too: they must not be counted.
        for at in (0..500).step_by(7) {
            docs.delete(format!("r{at:04}")).unwrap();
            rows[at] = None;
        }
        check(&docs, &rows);
        for at in (0..600).step_by(11) {
            write(&docs, &mut rows, at, "en", Some(at as i64 % 20));
        }
        check(&docs, &rows);
        db.flush().unwrap();
        check(&docs, &rows);
        db.close().unwrap();
        let db = Db::open(dir.path()).unwrap();
        check(&db.collection("docs").unwrap(), &rows);
        db.close().unwrap();
    }
}

/// More texts in one list than 16 bits tell apart: its row and those beside it are read from a segment as from memory.
#[test]
fn a_list_of_70_000_texts_is_read_scanned_and_found_with_its_payload() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let docs = db.create_collection("docs", Schema::new(2, Metric::L2).text_list("tags")).unwrap();
    for at in 0..40 {
        let texts = if at == 20 { 70_000 } else { at % 3 };
        let tags: Vec<String> = (0..texts).map(|n| format!("{n:x}")).collect();
        docs.upsert(format!("r{at:02}"), &[at as f32, 1.0], json!({ "tags": tags, "at": at })).unwrap();
    }
    let ask = || {
        let rows: Vec<_> = (0..40).map(|at| docs.get(format!("r{at:02}")).unwrap().unwrap()).collect();
        let scanned = docs.scan().run().unwrap();
        let hits = docs.search(&[20.0, 1.0]).k(5).exact().run().unwrap();
        let tagged = docs.search(&[0.0, 1.0]).k(5).filter("tags contains '1116f'").run().unwrap();
        assert_eq!((tagged.len(), &*tagged[0].id.to_string()), (1, "r20"));
        format!("{rows:?} {scanned:?} {hits:?} {tagged:?}")
    };
    let in_memory = ask();
    db.flush().unwrap();
    assert!(ask() == in_memory, "another answer from a segment");
    db.close().unwrap();
}
