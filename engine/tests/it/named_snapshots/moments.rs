//! What a snapshot shows: its moment, of one LSN over all collections, and the newest kept manifest of an LSN.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use akidb::{Db, Durability, ErrorKind, Lsn, NewRow, Settings, Snapshot, verify};
use akidb_host::sim::{Call, FakeClock, Gate, Op};
use akidb_host::{RealFs, RealSpawn, Rng};
use serde_json::json;

use super::{Model, Stepped, assert_now, assert_shows, churn, fill, names, put, schema, settings, vector};
use crate::support::{hooked, in_dir};

#[test]
fn a_named_snapshot_is_its_moment_while_everything_changes_and_after_reopens() {
    let world = Stepped::new(1);
    let (mut db, mut rng) = (world.open(), Rng::seeded(1));
    let mut model = fill(&db, &mut rng);
    let mut kept: Vec<(String, Model)> = Vec::new();
    for round in 0..12u64 {
        churn(&db, &mut model, &mut rng, 10 + round);
        let when = format!("round {round}");
        match round % 6 {
            0 | 3 => {
                let name = format!("round-{round}");
                let lsn = db.create_snapshot(&name).unwrap();
                assert_eq!(lsn, db.visible_lsn().unwrap());
                kept.push((name, model.clone()));
            }
            1 => db.flush().unwrap(),
            2 => drop(db.compact().unwrap()),
            4 if round < 6 => {
                db.drop_collection("left").unwrap();
                model.remove("left");
                db.rename_collection("right", "renamed").unwrap();
                let rows = model.remove("right").unwrap();
                model.insert("renamed".into(), rows);
                db.collection("renamed").unwrap().add_field("more", akidb::FieldType::Text).unwrap();
            }
            _ => {
                db.close().unwrap();
                db = world.open();
            }
        }
        db.flush().unwrap();
        world.look();
        let newest = db.stats().unwrap().newest_manifest;
        let named = db.list_snapshots().unwrap().into_iter().map(|named| named.manifest);
        let wanted: BTreeSet<u64> = named.chain([newest]).collect();
        assert_eq!(world.manifests().len(), wanted.len(), "{when}: {wanted:?}, {:?}", world.manifests());
        for (name, then) in &kept {
            let snapshot = db.at_snapshot(name).unwrap();
            assert_shows(&snapshot, then, &format!("{name} in {when}"));
            assert_eq!(snapshot.kept().unwrap().name.as_deref(), Some(name.as_str()));
            assert_eq!(snapshot.kept().unwrap().complete_to, snapshot.lsn());
        }
        assert_now(&db, &model, &when);
    }
    assert_eq!(names(&db), kept.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let error = db.at_snapshot("round-0").unwrap().collection("left").unwrap().delete(1).unwrap_err();
    assert_eq!(error.code(), "AKI-0267", "a snapshot is read only");
}

/// Most is flushed before the LSN is chosen: what is written meanwhile is in the snapshot.
#[test]
fn a_snapshot_is_of_what_was_written_while_its_first_flushes_ran() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call: &Call<'_>| call.op == Op::CreateNew && in_dir(call.path, "2-right"));
    let db = hooked(dir.path(), gate.hook(), settings());
    for name in ["left", "right"] {
        put(&db.create_collection(name, schema()).unwrap(), 1, 1);
    }
    gate.shut();
    let making = {
        let db = db.clone();
        std::thread::Builder::new().spawn(move || db.create_snapshot("moment").unwrap()).unwrap()
    };
    gate.wait_until_held();
    put(&db.collection("left").unwrap(), 2, 2);
    let written = db.visible_lsn().unwrap();
    gate.release();
    assert_eq!(making.join().unwrap(), written);
    let (left, right) = (BTreeMap::from([(1, 1), (2, 2)]), BTreeMap::from([(1, 1)]));
    let model = Model::from([("left".to_owned(), left), ("right".to_owned(), right)]);
    assert_shows(&db.at_snapshot("moment").unwrap(), &model, "made");
}

#[test]
fn a_snapshot_is_of_one_lsn_over_all_collections_while_writers_run() {
    for durability in [Durability::LocalSynced, Durability::Memory] {
        let dir = tempfile::tempdir().unwrap();
        let text = "[engine]\nmemtable_bytes = 65536\nmanifest_keep = 1\nwrite_stall_timeout_ms = 60000\n";
        let settings = Settings::from_toml(text).unwrap();
        let db = Db::builder(dir.path()).settings(settings).durability(durability).open().unwrap();
        let left = db.create_collection("left", schema()).unwrap();
        let right = db.create_collection("right", schema()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (db, stop) = (db.clone(), Arc::clone(&stop));
            let write = move || {
                for version in 1..u64::MAX {
                    if stop.load(Ordering::SeqCst) {
                        return version - 1;
                    }
                    // One batch over both: any moment has equal versions in both.
                    let mut batch = akidb::Batch::new();
                    let row = |n: u64| {
                        NewRow::new(n.cast_signed(), vector(n, version), json!({ "version": version }))
                            .unwrap()
                    };
                    batch.upsert("left", row(version % 7));
                    batch.upsert("right", row(version % 7));
                    db.write(&batch).unwrap();
                }
                0
            };
            std::thread::Builder::new().spawn(write).unwrap()
        };
        // Every version is one batch of two records, and nothing else is written.
        let model = |lsn: Lsn| -> Model {
            assert_eq!(lsn.counter() % 2, 0, "{lsn} lies inside a batch");
            let newest = lsn.counter() / 2;
            let rows: BTreeMap<u64, u64> =
                (newest.saturating_sub(6).max(1)..=newest).map(|v| (v % 7, v)).collect();
            ["left", "right"].map(|name| (name.to_owned(), rows.clone())).into()
        };
        let assert_is = |snapshot: &Snapshot, lsn: Lsn, when: &str| {
            assert_eq!(snapshot.lsn(), lsn, "{when}");
            for name in ["left", "right"] {
                let page = snapshot.collection(name).unwrap().scan().run().unwrap();
                assert!(page.iter().all(|row| row.lsn <= lsn), "{when}: {name} has rows of after {lsn}");
            }
            assert_shows(snapshot, &model(lsn), when);
        };
        while left.count().unwrap() < 7 {
            assert!(!writer.is_finished(), "the writer gave up");
            std::thread::yield_now();
        }
        let mut last = Lsn::ZERO;
        for n in 0..20 {
            let when = format!("{durability:?}, snapshot {n}");
            let lsn = db.create_snapshot(&format!("s{n}")).unwrap();
            assert_is(&db.at_snapshot(&format!("s{n}")).unwrap(), lsn, &when);
            assert_is(&db.as_of(lsn).unwrap(), lsn, &when);
            assert!(lsn >= last, "{when}: {lsn} after {last}");
            last = lsn;
        }
        stop.store(true, Ordering::SeqCst);
        let written = writer.join().unwrap();
        assert!(last <= Lsn::new(last.epoch(), 2 * written), "{last} after {written} batches");
        drop((left, right));
        db.close().unwrap();
        assert!(verify(dir.path()).unwrap().damages.is_empty());
    }
}

/// The state at each LSN at which something was acknowledged.
#[test]
fn as_of_answers_from_the_newest_kept_manifest_that_is_not_newer() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[engine]\ncompaction = false\nmanifest_keep = 6\n";
    let clock = Arc::new(FakeClock::default());
    let open = || {
        let builder = Db::builder(dir.path()).settings(Settings::from_toml(text).unwrap());
        builder.components(Arc::new(RealFs), Arc::clone(&clock) as _, Arc::new(RealSpawn)).open().unwrap()
    };
    let (mut db, mut rng) = (open(), Rng::seeded(9));
    let rows = db.create_collection("rows", schema()).unwrap();
    put(&rows, 0, 1);
    let mut model = Model::from([("rows".to_owned(), BTreeMap::from([(0, 1)]))]);
    // With one collection a flush is a moment: by its LSN.
    let mut moments: BTreeMap<Lsn, Model> = BTreeMap::new();
    for version in 2..22 {
        churn(&db, &mut model, &mut rng, version);
        match rng.below(4) {
            0 => drop(db.create_snapshot(&format!("v{version}")).unwrap()),
            1 => {
                db.flush().unwrap();
                db.compact().unwrap();
            }
            _ => db.flush().unwrap(),
        }
        moments.insert(db.visible_lsn().unwrap(), model.clone());
        // Old manifests go now and then, whoever looks.
        clock.advance(Duration::from_secs(2));
        if rng.below(6) == 0 {
            db.close().unwrap();
            db = open();
        }
    }
    // Rows that are in memory only.
    churn(&db, &mut model, &mut rng, 99);
    let named: Vec<Lsn> = db.list_snapshots().unwrap().iter().map(|n| n.lsn.parse().unwrap()).collect();
    assert!(named.len() > 2);
    for at in moments.keys().chain([&db.visible_lsn().unwrap(), &Lsn::MAX]) {
        match db.as_of(*at) {
            Ok(snapshot) => {
                let kept = snapshot.kept().unwrap();
                assert!(kept.lsn <= *at && kept.complete_to <= kept.lsn);
                let (_, then) = moments.range(..=kept.lsn).next_back().unwrap();
                assert_shows(&snapshot, then, &format!("as of {at}, manifest {}", kept.number));
                let better = named.iter().filter(|lsn| *lsn <= at).max();
                assert!(better.is_none_or(|lsn| *lsn <= kept.lsn), "{at}: {kept:?}, but {better:?} is kept");
            }
            Err(error) => {
                assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "AKI-0276"), "{error}");
                assert!(named.iter().all(|lsn| lsn > at), "{at}: {error}");
            }
        }
    }
    let newest = db.as_of(Lsn::MAX).unwrap();
    assert_eq!(newest.lsn(), *moments.keys().next_back().unwrap(), "the newest flush, not what is in memory");
    let error = db.as_of(Lsn::new(0, 1)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "AKI-0276"));
    assert!(error.message().contains(&format!("newest of {}", newest.lsn())), "{error}");
}
