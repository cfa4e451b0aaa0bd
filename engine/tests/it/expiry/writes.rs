//! To a write, a row that expired is none.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use akidb::{Batch, ErrorKind, Expect, Lsn, Metric, NewRow, Schema};
use akidb_host::sim::{Act, Call, CrashDisk, HookFs};
use akidb_host::{Clock, Fs};
use serde_json::json;

use super::world::{World, id, payload, put, schema, shown, vector};

/// In the memtable, in a segment: what a write may demand of a row, and what it hears of it.
#[test]
fn an_expired_row_is_absent_to_every_write() {
    for flushed in [false, true] {
        let world = World::new("ttl_purge_secs = 0");
        let db = world.open();
        let rows = db.create_collection("rows", schema()).unwrap();
        let until = world.in_minutes(10);
        (0..8).for_each(|n| put(&rows, n, Some(until)));
        put(&rows, 8, None);
        if flushed {
            db.flush().unwrap();
        }
        let version = |n: u32| rows.get(id(n)).unwrap().unwrap().lsn;
        let versions: Vec<_> = (0..9).map(version).collect();
        let absent = |n: u32| {
            rows.upsert_if(id(n), &vector(n), payload(n + 100, None), Expect::Absent).map_err(|e| e.kind())
        };
        assert_eq!(absent(0), Err(ErrorKind::Conflict), "not yet");
        world.clock.jump_wall(10 * super::world::MINUTE - 1);
        assert_eq!((absent(0), shown(&rows).len()), (Err(ErrorKind::Conflict), 9));
        world.clock.jump_wall(1);
        assert_eq!(shown(&rows), [id(8)], "flushed: {flushed}");

        absent(0).unwrap();
        let on_version =
            rows.upsert_if(id(1), &vector(1), payload(1, None), Expect::Version(versions[1])).unwrap_err();
        assert_eq!((on_version.code(), on_version.version_found()), ("AKI-0216", None));
        assert_eq!(rows.delete_if(id(1), versions[1]).unwrap_err().code(), "AKI-0216");
        assert!(!rows.delete(id(2)).unwrap(), "there is no such row");
        assert_eq!(rows.update_payload(id(3), json!({"n": 1})).unwrap_err().code(), "AKI-0217");
        assert_eq!(rows.replace_payload(id(3), json!({"n": 1})).unwrap_err().code(), "AKI-0217");
        assert_eq!(rows.delete_where("n >= 0").unwrap(), 2, "8, and the one put in place of 0");
        let mut batch = Batch::new();
        let row = |n: u32| NewRow::new(id(n), vector(n), payload(n, None)).unwrap();
        batch.upsert_if("rows", row(4), Expect::Version(versions[4]));
        assert_eq!(db.write(&batch).unwrap_err().kind(), ErrorKind::Conflict);
        let mut batch = Batch::new();
        batch.upsert_if("rows", row(4), Expect::Absent).delete("rows", id(5));
        db.write(&batch).unwrap();
        // Written again it is a row like any other.
        put(&rows, 6, Some(until + super::world::MINUTE));
        assert_eq!(shown(&rows), [id(4), id(6)]);
        assert!(rows.delete(id(6)).unwrap());
        assert!(rows.delete(id(4)).unwrap() && !rows.delete(id(4)).unwrap());
        // What it hid was there, and its own row has expired meanwhile.
        put(&rows, 7, Some(until + 2 * super::world::MINUTE));
        rows.update_payload(id(7), json!({"until": until + 3 * super::world::MINUTE})).unwrap();
        world.clock.jump_wall(2 * super::world::MINUTE);
        assert_eq!(shown(&rows), [id(7)]);
        rows.update_payload(id(7), json!({ "until": null })).unwrap();
        world.clock.jump_wall(1_000 * super::world::MINUTE);
        assert_eq!(shown(&rows), [id(7)], "null is never");
        drop(rows);
        db.close().unwrap();
        let db = world.open();
        assert_eq!(shown(&db.collection("rows").unwrap()), [id(7)]);
    }
}

#[test]
fn only_a_declared_timestamp_says_when_rows_expire() {
    let world = World::new("");
    let db = world.open();
    let refused = |schema: Schema| {
        let error = db.create_collection("rows", schema).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "AKI-0278"), "{error}");
    };
    let plain = || Schema::new(2, Metric::L2).int("year");
    refused(plain().expires_by("until"));
    refused(plain().expires_by("year"));
    refused(plain().timestamp("Until").expires_by("until"));
    let rows = db.create_collection("rows", plain().timestamp("until").expires_by("until")).unwrap();
    // Fields come and nothing else changes.
    rows.add_field("more", akidb::FieldType::Bool).unwrap();
    assert_eq!(rows.schema().unwrap().expires_by.as_deref(), Some("until"));
    rows.upsert("a", &[1.0, 1.0], json!({"until": "2025-12-31T23:59:59Z"})).unwrap();
    rows.upsert("b", &[1.0, 1.0], json!({"until": "2026-12-31T23:59:59Z", "more": true})).unwrap();
    assert_eq!(shown(&rows), ["b"]);
}

/// A delete says whether there was a row when it got its place, whatever the time is when it is on disk.
#[test]
fn a_delete_answers_as_of_its_place_in_the_log() {
    let (disk, syncing) = (CrashDisk::new(3), Arc::new(AtomicBool::new(false)));
    let world = World::on(disk.clone(), "ttl_purge_secs = 0");
    let hook = {
        let (syncing, clock) = (Arc::clone(&syncing), Arc::clone(&world.clock));
        move |call: &Call<'_>| {
            if call.op.syncs() && syncing.swap(false, Ordering::SeqCst) {
                clock.jump_wall(60 * super::world::MINUTE);
            }
            Act::Go
        }
    };
    let world = world.through(Arc::new(HookFs::new(Arc::new(disk), Arc::new(hook))));
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    put(&rows, 1, Some(world.in_minutes(10)));
    let before = world.clock.unix_micros();
    syncing.store(true, Ordering::SeqCst);
    assert!(rows.delete(id(1)).unwrap());
    assert!(world.clock.unix_micros() > before + 10 * super::world::MINUTE, "it expired meanwhile");
    assert!(shown(&rows).is_empty());
}

/// Times that cannot be read are told to who asks for them; a write that demands nothing does not.
#[test]
fn a_plain_write_goes_on_where_the_times_cannot_be_read() {
    let world = World::new("ttl_purge_secs = 0\ncompaction = false\nrest_after_secs = 0");
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    // So many that the times fill blocks of their own, whose checksums say nothing of ids.
    let row = |n: u32| {
        NewRow::new(id(n), vector(n), payload(n, Some(world.in_minutes(10 + i64::from(n))))).unwrap()
    };
    for batch in (0..20_000u32).collect::<Vec<_>>().chunks(1_000) {
        rows.upsert_batch(&batch.iter().map(|n| row(*n)).collect::<Vec<_>>()).unwrap();
    }
    db.flush().unwrap();
    drop((rows, db));
    let wall = world.in_minutes(15);
    let dir = world.disk.list("/db/collections".as_ref()).unwrap().remove(0).name;
    let dir = PathBuf::from("/db/collections").join(dir);
    let name = |name: &str| name.ends_with(".parquet");
    let file = world.disk.list(&dir).unwrap().into_iter().find(|file| name(&file.name)).unwrap();
    let file = dir.join(file.name);
    let len = world.disk.bytes(&file).unwrap().len();
    let hurt = |at: usize| {
        let disk = world.disk.kill();
        disk.rot(&file, |bytes| bytes[at] ^= 1).unwrap();
        let world = World::on(disk, "ttl_purge_secs = 0\ncompaction = false\nrest_after_secs = 0");
        world.clock.set_wall(wall);
        world
    };
    // Counting reads the times alone.
    let counts = |world: &World| world.open().collection("rows").unwrap().count().is_ok();
    let at = (0..len).step_by(8_192).find(|at| !counts(&hurt(*at))).expect("the times lie somewhere");
    let world = hurt(at);
    let db = world.open();
    let rows = db.collection("rows").unwrap();
    let of_none = Lsn::ZERO;
    let is_hurt = |n: &u32| rows.delete_if(id(*n), of_none).unwrap_err().kind() == ErrorKind::Corrupt;
    let n = (0..20_000u32).step_by(250).find(is_hurt).expect("some row has no time any more");
    assert!(rows.delete(id(n)).unwrap(), "whether it had expired cannot be told");
    put(&rows, n + 1, None);
    db.flush().unwrap();
    let stats = db.stats().unwrap();
    assert_eq!((&stats.collections[0].damage, stats.collections[0].rows), (&None, 19_999));
    assert!(rows.get(id(n + 1)).unwrap().is_some());
}
