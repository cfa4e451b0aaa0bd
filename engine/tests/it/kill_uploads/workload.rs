//! What the child does, step by step, and what must be there after each of them.

use std::collections::BTreeMap;

use akidb::{Db, Metric, NewRow, Schema};
use serde_json::json;

/// Collection -> id -> number of the step that wrote the row.
pub(super) type Model = BTreeMap<String, BTreeMap<String, u64>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Creates a collection.
    Create(&'static str),
    /// One batch: so many rows from this number on, this far apart.
    Put(&'static str, u64, u64, u64),
    Delete(&'static str, u64),
    Flush,
    /// Waits until the backend holds the newest manifest.
    Uploaded,
    /// Waits for the letter of the file that the store refuses once, and asks for it to be tried again.
    Letter,
    /// Closes the database and opens it again: what is uploaded is noted, the letters are written whole.
    Reopen,
}

use Step::{Create, Delete, Flush, Letter, Put, Reopen, Uploaded};

/// Only one collection has rows to flush at a time: then a flush is one manifest, and each manifest is the end of a step.
pub(super) const STEPS: [Step; 26] = [
    Uploaded,
    Create("rows"),
    Uploaded,
    Put("rows", 0, 1_200, 1),
    Delete("rows", 7),
    Flush,
    Uploaded,
    // So many rows of the first segment die that the deletion vector is a file.
    Put("rows", 0, 600, 2),
    Put("rows", 3, 1, 1),
    Flush,
    Uploaded,
    Create("more"),
    Uploaded,
    Put("more", 0, 10, 1),
    Flush,
    Letter,
    Uploaded,
    Delete("more", 2),
    Flush,
    Uploaded,
    Put("rows", 3, 2, 8),
    Reopen,
    Uploaded,
    Put("rows", 2_000, 3, 1),
    Flush,
    Uploaded,
];

/// The models after so many steps: of all that is acknowledged, and of what segments hold.
pub(super) fn models() -> (Vec<Model>, Vec<Model>) {
    let (mut model, mut flushed) = (Model::new(), Model::new());
    let (mut models, mut flushes) = (vec![model.clone()], vec![flushed.clone()]);
    for (at, step) in STEPS.iter().enumerate() {
        match *step {
            Create(name) => {
                model.entry(name.to_owned()).or_default();
                flushed.entry(name.to_owned()).or_default();
            }
            Put(name, first, count, apart) => {
                let new = ids(first, count, apart).map(|id| (id, at as u64));
                model.get_mut(name).unwrap().extend(new);
            }
            Delete(name, n) => {
                model.get_mut(name).unwrap().remove(&id(n)).unwrap();
            }
            Flush => flushed.clone_from(&model),
            Uploaded | Letter | Reopen => {}
        }
        models.push(model.clone());
        flushes.push(flushed.clone());
    }
    (models, flushes)
}

/// Does a step that writes.
pub(super) fn write(db: &Db, at: usize, step: Step) {
    match step {
        Create(name) => drop(db.create_collection(name, Schema::new(2, Metric::L2).int("step")).unwrap()),
        Put(name, first, count, apart) => {
            let row = |id| NewRow::new(id, vector(at as u64), json!({ "step": at })).unwrap();
            let rows: Vec<NewRow> = ids(first, count, apart).map(row).collect();
            db.collection(name).unwrap().upsert_batch(&rows).unwrap();
        }
        Delete(name, n) => assert!(db.collection(name).unwrap().delete(id(n)).unwrap()),
        Flush | Uploaded | Letter | Reopen => unreachable!("writes nothing"),
    }
}

/// What a database holds. A row is whole or the test fails.
pub(super) fn model_of(db: &Db) -> Model {
    let mut model = Model::new();
    for name in db.collections().unwrap() {
        let rows = db.collection(&name).unwrap();
        let page = rows.scan().limit(10_000).run().unwrap();
        assert_eq!(rows.count().unwrap(), page.len() as u64, "an id lives twice");
        let one = |row: &akidb::StoredRow| {
            let step = row.payload["step"].as_u64().unwrap();
            assert_eq!(row.vector, vector(step), "another version's vector");
            (row.id.to_string(), step)
        };
        model.insert(name, page.iter().map(one).collect());
    }
    model
}

fn ids(first: u64, count: u64, apart: u64) -> impl Iterator<Item = String> {
    (0..count).map(move |n| id(first + n * apart))
}

fn id(n: u64) -> String {
    format!("r{n}")
}

fn vector(step: u64) -> Vec<f32> {
    vec![step as f32, 1.0]
}
