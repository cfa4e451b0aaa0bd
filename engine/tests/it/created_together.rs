//! Several calls that create one collection at once: what any of them answers takes writes and changes from then on.

use std::sync::Barrier;
use std::thread;

use akidb::{FieldType, Metric, Schema, Settings};
use akidb_host::sim::{Gate, Op};
use serde_json::json;

use crate::support::{hooked, in_dir};

/// The rotation that a collection's codes need takes the first call the longest of all numbers of dimensions: in between its
/// manifest names the collection.
const DIM: u16 = 191;

#[test]
fn a_collection_that_another_call_just_made_takes_rows_and_fields() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call| call.op == Op::SyncDir && in_dir(call.path, "manifest"));
    let db = hooked(dir.path(), gate.hook(), Settings::default());
    let schema = || Schema::new(DIM, Metric::L2);
    let names: Vec<String> = (0..16).map(|n| format!("docs{n}")).collect();
    for name in &names {
        gate.shut();
        let together = Barrier::new(3);
        thread::scope(|scope| {
            let first = scope.spawn(|| db.create_collection(name, schema()).unwrap());
            // Its manifest is linked, and about to be durable.
            gate.wait_until_held();
            scope.spawn(|| {
                together.wait();
                let rows = db.create_collection(name, schema()).unwrap();
                rows.upsert("one", &[1.0; DIM as usize], json!({})).unwrap();
                assert_eq!(db.collection(name).unwrap().count().unwrap(), 1);
            });
            scope.spawn(|| {
                together.wait();
                let rows = db.create_collection(name, schema()).unwrap();
                rows.add_field("year", FieldType::Int).unwrap();
                assert_eq!(rows.schema().unwrap().fields.len(), 1, "{name}: acknowledged, and there");
            });
            together.wait();
            gate.release();
            let rows = first.join().unwrap();
            assert!(rows.schema().unwrap().version <= 2);
        });
        let rows = db.collection(name).unwrap();
        rows.upsert("two", &[1.0; DIM as usize], json!({"year": 1999})).unwrap();
        assert_eq!(rows.count_where("year = 1999").unwrap(), 1, "{name}");
    }
    db.close().unwrap();
}

/// Flushes take seconds; a collection is created meanwhile, and found again.
#[test]
fn a_collection_is_created_while_a_flush_is_held_up() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call| call.op == Op::SyncData && in_dir(call.path, "collections"));
    let db = hooked(dir.path(), gate.hook(), Settings::default());
    let rows = db.create_collection("old", Schema::new(2, Metric::L2)).unwrap();
    rows.upsert("one", &[1.0, 2.0], json!({})).unwrap();
    gate.shut();
    thread::scope(|scope| {
        let flush = scope.spawn(|| db.flush().unwrap());
        gate.wait_until_held();
        for _ in 0..2 {
            let rows = db.create_collection("new", Schema::new(2, Metric::L2)).unwrap();
            rows.upsert("one", &[1.0, 2.0], json!({})).unwrap();
            db.create_collection("old", Schema::new(2, Metric::L2)).unwrap();
        }
        db.drop_collection("new").unwrap();
        gate.release();
        flush.join().unwrap();
    });
    db.close().unwrap();
}
