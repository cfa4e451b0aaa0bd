//! Rows of a collection that is there begin to expire, by a timestamp they have had all along.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akidb::manifest::{Manifest, Store};
use akidb::{Batch, Collection, Db, ErrorKind, Expect, FieldType, Metric, NewRow, Schema};
use akidb_host::Rng;
use akidb_host::sim::{Act, Call, CrashDisk, HookFs};
use serde_json::json;

use super::world::{MINUTE, World, id, payload, put, schema, shown, stored, vector};

/// The same rows, that do not expire yet.
fn plain() -> Schema {
    Schema { expires_by: None, ..schema() }
}

fn manifests(disk: &CrashDisk) -> Store {
    Store::new(Arc::new(disk.clone()), "/db/manifest".into())
}

fn newest(disk: &CrashDisk) -> Manifest {
    manifests(disk).newest().unwrap().unwrap().manifest
}

fn is_announced(manifest: &Manifest) -> bool {
    manifest.format.incompatible.iter().any(|feature| feature == "row-expiry")
}

/// Rows 0 to 39, every second one with a time in ten minutes: merged, in a segment, in the log alone.
fn fill(world: &World, db: &Db, rows: &Collection) {
    for n in 0..40 {
        put(rows, n, (n % 2 == 0).then(|| world.in_minutes(10)));
        match n {
            9 | 19 | 29 => db.flush().unwrap(),
            _ => {}
        }
        if n == 19 {
            assert!(db.compact().unwrap() > 0);
        }
    }
}

#[test]
fn rows_that_are_there_expire_at_once_and_are_deleted_and_snapshots_of_before_stand_still() {
    let world = World::new("rest_after_secs = 0");
    let db = world.open();
    let rows = db.create_collection("rows", plain()).unwrap();
    fill(&world, &db, &rows);
    db.create_snapshot("before").unwrap();
    put(&rows, 39, None);
    world.clock.jump_wall(10 * MINUTE - 1);
    let (all, held) = (shown(&rows), db.snapshot("held").unwrap());
    assert_eq!((all.len(), is_announced(&newest(&world.disk))), (40, false));
    rows.expire_by("until").unwrap();
    let manifest = newest(&world.disk);
    assert!(is_announced(&manifest), "the feature comes with the schema");
    assert_eq!(manifest.collections[0].schema().expires_by.as_deref(), Some("until"));
    assert_eq!((rows.schema().unwrap().version, shown(&rows)), (2, all.clone()), "not yet");
    // Again, it changes nothing.
    rows.expire_by("until").unwrap();
    assert_eq!(newest(&world.disk).number, manifest.number);
    world.clock.jump_wall(1);
    let left: Vec<String> = (0..40).filter(|n| n % 2 == 1).map(id).collect();
    assert_eq!(shown(&rows), left);
    assert_eq!(rows.search(&vector(4)).k(40).run().unwrap().len(), left.len());
    assert_eq!(rows.count_where("until is not null").unwrap(), 0);
    rows.upsert_if(id(4), &vector(4), payload(4, None), Expect::Absent).unwrap();
    assert_eq!(rows.update_payload(id(6), json!({})).unwrap_err().kind(), ErrorKind::NotFound);
    rows.delete(id(4)).unwrap();
    // New rows expire like those of any such collection.
    let late = NewRow::new(id(50), vector(50), payload(50, None)).unwrap();
    rows.upsert_batch(&[late.expires_in(Duration::from_secs(3_600))]).unwrap();

    let check_then = |db: &Db| {
        let snapshot = db.at_snapshot("before").unwrap();
        assert_eq!(shown(&snapshot.collection("rows").unwrap()), (0..40).map(id).collect::<Vec<_>>());
    };
    assert_eq!(shown(&held.collection("rows").unwrap()), all);
    check_then(&db);
    assert_eq!(stored(&db), 40);
    world.pass(60);
    assert_eq!((stored(&db), shown(&rows).len()), (21, 21), "deleted within a minute");
    for step in 0..3 {
        if step == 1 {
            db.flush().unwrap();
            db.compact().unwrap();
        }
        assert_eq!(shown(&held.collection("rows").unwrap()), all);
        check_then(&db);
        assert_eq!(shown(&rows).len(), 21);
    }
    drop((held, rows));
    db.close().unwrap();
    let db = world.open();
    assert_eq!(shown(&db.collection("rows").unwrap()).len(), 21);
    check_then(&db);
    // Who makes the collection with either schema finds it.
    for schema in [plain(), schema()] {
        assert_eq!(db.create_collection("rows", schema).unwrap().schema().unwrap().version, 2);
    }
}

#[test]
fn a_field_declared_later_expires_no_row_that_does_not_have_it() {
    let world = World::new("ttl_purge_secs = 0");
    let db = world.open();
    let rows = db.create_collection("rows", Schema::new(8, Metric::L2).int("n")).unwrap();
    // Undeclared, it is not the field.
    for n in 0..20 {
        rows.upsert(id(n), &vector(n), json!({ "n": n, "until": 1 })).unwrap();
    }
    db.flush().unwrap();
    rows.upsert(id(20), &vector(20), json!({ "n": 20 })).unwrap();
    rows.add_field("until", FieldType::Timestamp).unwrap();
    rows.upsert(id(21), &vector(21), json!({ "n": 21, "until": world.in_minutes(1) })).unwrap();
    rows.expire_by("until").unwrap();
    rows.update_payload(id(3), json!({ "until": world.in_minutes(1) })).unwrap();
    let check = |rows: &Collection, all: bool, when: &str| {
        let left: Vec<String> = (0..=21).filter(|n| all || ![3, 21].contains(n)).map(id).collect();
        assert_eq!(shown(rows), left, "{when}");
    };
    check(&rows, true, "in memory");
    world.clock.jump_wall(MINUTE);
    check(&rows, false, "in memory");
    drop(rows);
    db.close().unwrap();
    let db = world.open();
    let rows = db.collection("rows").unwrap();
    check(&rows, false, "replayed");
    db.flush().unwrap();
    check(&rows, false, "flushed");
    db.compact().unwrap();
    check(&rows, false, "merged");
}

#[test]
fn what_cannot_expire_is_refused_and_changes_nothing() {
    let world = World::new("");
    let db = world.open();
    let fields = || Schema::new(2, Metric::L2).timestamp("until").timestamp("other").int("year");
    let rows = db.create_collection("rows", fields()).unwrap();
    let expiring = db.create_collection("expiring", fields().expires_by("until")).unwrap();
    let number = newest(&world.disk).number;
    for (rows, field) in [(&rows, "year"), (&rows, "none"), (&rows, "Until"), (&expiring, "other")] {
        let error = rows.expire_by(field).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "AKI-0278"), "{field}: {error}");
        assert!(error.help().is_some(), "{error}");
    }
    assert_eq!(rows.schema().unwrap(), fields());
    assert_eq!(newest(&world.disk).number, number);
    let snapshot = db.snapshot("test").unwrap();
    assert_eq!(snapshot.collection("rows").unwrap().expire_by("until").unwrap_err().code(), "AKI-0267");
    db.drop_collection("rows").unwrap();
    assert_eq!(rows.expire_by("until").unwrap_err().kind(), ErrorKind::NotFound);
    // The last collection whose rows expire takes the feature along, whenever they began to.
    let late = db.create_collection("late", fields()).unwrap();
    late.expire_by("other").unwrap();
    db.drop_collection("expiring").unwrap();
    assert!(is_announced(&newest(&world.disk)));
    db.drop_collection("late").unwrap();
    assert!(!is_announced(&newest(&world.disk)));
}

#[test]
fn a_power_cut_in_any_step_leaves_rows_that_expire_and_say_so_or_neither() {
    let seed = 31;
    println!("seed {seed}");
    let (disk, armed) = (CrashDisk::new(seed), Arc::new(AtomicBool::new(false)));
    let cuts: Arc<Mutex<Vec<(String, CrashDisk)>>> = Arc::default();
    let (taken, is_armed, rng) = (Arc::clone(&cuts), Arc::clone(&armed), Mutex::new(Rng::seeded(seed)));
    let of = disk.clone();
    let hook = move |call: &Call<'_>| {
        if is_armed.load(Ordering::SeqCst) && call.op.changes() {
            let (mut rng, mut taken) = (rng.lock().unwrap(), taken.lock().unwrap());
            let name = format!("{:?} {}", call.op, call.path.display());
            (0..3).for_each(|_| taken.push((format!("a cut before {name}"), of.power_cut(&mut rng))));
            taken.push((format!("a kill before {name}"), of.kill()));
        }
        Act::Go
    };
    let fs = Arc::new(HookFs::new(Arc::new(disk.clone()), Arc::new(hook)));
    let world = World::on(disk, "ttl_purge_secs = 0").through(fs);
    let db = world.open();
    let rows = db.create_collection("rows", plain()).unwrap();
    fill(&world, &db, &rows);
    world.clock.jump_wall(10 * MINUTE);
    let wall = world.in_minutes(0);
    armed.store(true, Ordering::SeqCst);
    rows.expire_by("until").unwrap();
    armed.store(false, Ordering::SeqCst);
    let mut cuts = cuts.lock().unwrap();
    cuts.push(("a cut at the end".into(), world.disk.power_cut(&mut Rng::seeded(seed))));
    let (mut before, mut after) = (0, 0);
    for (when, disk) in cuts.drain(..) {
        let world = World::on(disk, "ttl_purge_secs = 0");
        world.clock.set_wall(wall);
        let db = world.open();
        let expires = db.collection("rows").unwrap().schema().unwrap().expires_by.is_some();
        assert_eq!(is_announced(&newest(&world.disk)), expires, "{when}");
        assert_eq!(shown(&db.collection("rows").unwrap()).len(), if expires { 20 } else { 40 }, "{when}");
        if expires {
            after += 1
        } else {
            before += 1
        }
        assert!(expires || !when.ends_with("the end"));
    }
    assert!(before > 5 && after > 0, "{before} before, {after} after");
}

/// The header of a record says when its row expires only once the collection expires; what was asked for is the same.
#[test]
fn a_batch_written_before_is_the_same_one_when_it_is_sent_again_after() {
    let world = World::new("rest_after_secs = 0");
    let db = world.open();
    let rows = db.create_collection("rows", plain()).unwrap();
    let mut batch = Batch::new();
    let until = payload(3, Some(world.in_minutes(10)));
    batch.upsert("rows", NewRow::new(id(3), vector(3), until).unwrap()).idempotency_key("k");
    assert!(!db.submit(&batch).unwrap().is_repeat());
    rows.expire_by("until").unwrap();
    assert!(db.submit(&batch).unwrap().is_repeat());
    db.close().unwrap();
    let db = world.open();
    assert!(db.submit(&batch).unwrap().is_repeat(), "after a replay too");
}
