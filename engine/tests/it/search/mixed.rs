//! Rows in lists, in a segment without and in a memtable: their estimates are sure to different degrees.

use akidb::{Db, NewRow, PartKind, Settings};

use super::{Metric, fill, recall, row, schema};

#[test]
fn rows_are_found_wherever_they_lie_beside_others() {
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
        let db = Db::builder(dir.path()).settings(settings).open().unwrap();
        let docs = db.create_collection("docs", schema(metric)).unwrap();
        fill(&docs, 0..33_000);
        db.flush().unwrap();
        let moved = |numbers: std::ops::Range<u64>, version| -> Vec<NewRow> {
            numbers.map(|n| row(n * 3, version)).collect()
        };
        docs.upsert_batch(&moved(0..7_000, 1)).unwrap();
        db.flush().unwrap();
        docs.upsert_batch(&moved(4_000..9_000, 2)).unwrap();
        let (found, explained) = recall(&docs, None, 100);
        let kinds: Vec<PartKind> = explained.parts.iter().map(|part| part.kind).collect();
        assert_eq!(kinds, [PartKind::Memtable, PartKind::Lists, PartKind::Flat]);
        println!("{metric:?}: recall {found}");
        assert!(found >= 0.97, "{metric:?}: recall {found}");
        db.close().unwrap();
    }
}
