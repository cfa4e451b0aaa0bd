//! Filters on rows in memory and in segments alike, while rows change and after they were cached.

use akidb::{Collection, Db, Durability, Filter, Id, Metric, NewRow, Schema, Settings};
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

/// Codes of rows in memory give fewer rows than are asked for, and they are compared one by one in the end.
#[test]
fn what_is_compared_one_by_one_in_memory_after_its_codes_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::builder(dir.path()).durability(Durability::Memory).open().unwrap();
    let docs = db.create_collection("docs", Schema::new(64, Metric::L2).int("n")).unwrap();
    let vector = |n: u16| -> Vec<f32> { (0..64).map(|i| f32::from(n % 101 * 31 + i * (n % 17))).collect() };
    let row = |n: u16| NewRow::new(format!("r{n:04}"), vector(n), json!({ "n": n })).unwrap();
    docs.upsert_batch(&(0..2_000).map(row).collect::<Vec<_>>()).unwrap();
    let (hits, explained) = docs.search(&vector(7)).k(10).filter("n < 5").explain().unwrap();
    let part = &explained.parts[0];
    assert!(part.scanned >= 1_500, "codes were scanned: {part:?}");
    assert_eq!((hits.len(), part.matched, part.exact), (5, 5, true), "{part:?}");
}

/// Few rows, far from one another, of large segments: in pages, with ids of both kinds.
#[test]
fn a_scan_of_few_rows_among_many_finds_them_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::builder(dir.path()).durability(Durability::Memory).open().unwrap();
    for is_int in [false, true] {
        let schema = Schema::new(1, Metric::L2).int("n");
        let (name, schema) = if is_int { ("numbers", schema.int_ids()) } else { ("texts", schema) };
        let docs = db.create_collection(name, schema).unwrap();
        let id = |n: i64| if is_int { Id::from(n) } else { Id::from(format!("r{n:06}")) };
        for half in 0..2 {
            let row = |n: i64| NewRow::new(id(n), vec![n as f32], json!({ "n": n % 977 })).unwrap();
            let rows: Vec<NewRow> = (0..10_000).map(|n| row(2 * n + half)).collect();
            docs.upsert_batch(&rows).unwrap();
            db.flush().unwrap();
        }
        for (filter, takes) in [("n = 5", 5..6), ("n < 200", 0..200), ("n < 300", 0..300)] {
            let expected: Vec<Id> = (0..20_000).filter(|n| takes.contains(&(n % 977))).map(id).collect();
            let (mut found, mut after): (Vec<Id>, Option<Id>) = (Vec::new(), None);
            loop {
                let scan = docs.scan().filter(filter).limit(7 * expected.len() / 10);
                let page = match &after {
                    Some(after) => scan.after(after.clone()).run().unwrap(),
                    None => scan.run().unwrap(),
                };
                let Some(last) = page.last() else { break };
                after = Some(last.id.clone());
                found.extend(page.into_iter().map(|row| row.id));
            }
            assert_eq!(found, expected, "{filter}");
        }
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
