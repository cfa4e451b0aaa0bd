//! A filter of many rows that is asked often gets the lists of a large segment with its rows only, and the same answers.

use akidb::{Db, Explained, Metric, PartExplained, PartKind};

use super::{fill, schema, vector};

/// The part of the segment with so many rows.
fn part(explained: &Explained, rows: u64) -> PartExplained {
    explained.parts.iter().find(|part| part.rows == rows).unwrap().clone()
}

#[test]
fn a_filter_of_many_rows_asked_often_reads_fewer_codes_for_the_same_answers() {
    const ROWS: u64 = 33_000;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let docs = db.create_collection("docs", schema(Metric::L2)).unwrap();
    fill(&docs, 0..ROWS);
    db.flush().unwrap();
    (0..33_000).step_by(11).for_each(|n| assert!(docs.delete(n).unwrap()));
    for filter in ["bucket < 60", "bucket > 30 and bucket <= 95"] {
        let ask = |n: u64| docs.search(&vector(n * 97 + 5)).filter(filter).explain().unwrap();
        let before: Vec<_> = (0..30).map(ask).collect();
        let first = part(&before[0].1, ROWS);
        assert_eq!(first.kind, PartKind::Lists, "nothing is made for a filter asked seldom: {first:?}");
        (0..first.matched / 256).for_each(|n| drop(ask(n)));
        let (mut bytes_before, mut bytes) = (0, 0);
        for (n, (hits, explained)) in (0..).zip(before) {
            let (now, explained_now) = ask(n);
            let (old, new) = (part(&explained, ROWS), part(&explained_now, ROWS));
            let found = |hits: &[akidb::Hit]| -> Vec<_> {
                hits.iter().map(|hit| (hit.id.clone(), hit.score.to_bits())).collect()
            };
            assert_eq!(found(&now), found(&hits), "{filter}, query {n}");
            assert_eq!((new.kind, new.scanned, new.lists), (PartKind::Subset, old.scanned, old.lists));
            (bytes_before, bytes) = (bytes_before + old.bytes, bytes + new.bytes);
        }
        println!("{filter}: {} of {ROWS} rows, {bytes} bytes read, {bytes_before} before", first.matched);
        assert!(bytes <= bytes_before * 9 / 10, "{bytes} bytes, {bytes_before} before");
    }
    // What lets nearly everything through gains nothing, nor what fills some lists and leaves the others empty.
    for filter in ["bucket < 90", "cluster < 30"] {
        let ask = |n: u64| part(&docs.search(&vector(n)).filter(filter).explain().unwrap().1, ROWS);
        (0..200).for_each(|n| assert_eq!(ask(n).kind, PartKind::Lists, "{filter}"));
    }
    // Where few of them live they are compared one by one, as without.
    docs.delete_where("bucket < 60 and bucket != 0 and bucket != 20").unwrap();
    let asked = docs.search(&vector(7)).filter("bucket < 60").explain().unwrap();
    assert_eq!((asked.0.len(), part(&asked.1, ROWS).kind), (10, PartKind::Exact));
    db.close().unwrap();
}
