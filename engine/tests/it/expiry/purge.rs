//! What has expired is deleted by the database itself, and nothing else is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akidb::{Collection, Db, Id, Metric, NewRow, Schema};
use akidb_host::sim::{Act, Call, CrashDisk, HookFs};
use akidb_host::{Clock, Rng};

use super::world::{MINUTE, World, id, payload, put, schema, shown, stored, vector};

fn fill(rows: &Collection, numbers: std::ops::Range<u32>, until: impl Fn(u32) -> Option<i64>) {
    let row = |n: u32| NewRow::new(id(n), vector(n), payload(n, until(n))).unwrap();
    for batch in numbers.collect::<Vec<u32>>().chunks(500) {
        rows.upsert_batch(&batch.iter().map(|n| row(*n)).collect::<Vec<_>>()).unwrap();
    }
}

/// In memtables and segments, by a minute after its time at the latest; nobody calls for it.
#[test]
fn an_idle_database_deletes_what_has_expired_within_a_minute() {
    let world = World::new("rest_after_secs = 0");
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    let start = world.clock.unix_micros();
    let until = |n: u32| (!n.is_multiple_of(3)).then(|| start + i64::from(n % 10 + 1) * MINUTE);
    fill(&rows, 0..3_000, until);
    db.flush().unwrap();
    fill(&rows, 3_000..6_000, until);
    world.work();
    for minute in 0..14i64 {
        let live = |at: i64| (0..6_000).filter(|n| until(*n).is_none_or(|until| until > at)).count() as u64;
        let now = world.clock.unix_micros();
        assert_eq!(rows.count().unwrap(), live(now), "minute {minute}");
        assert_eq!(
            stored(&db),
            live(now - MINUTE),
            "what expired by a minute ago is deleted, and no more was due"
        );
        world.pass(59);
        assert_eq!(stored(&db), live(world.clock.unix_micros()), "minute {minute}");
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!((stored(&db), rows.count().unwrap()), (2_000, 2_000));
    // They are plain deletes: whoever reads the log or a later manifest sees no row.
    drop(rows);
    let crashed = World::on(world.disk.kill(), "ttl_purge_secs = 0");
    crashed.clock.jump_wall(-1_000 * MINUTE);
    let db = crashed.open();
    assert_eq!(shown(&db.collection("rows").unwrap()).len(), 2_000, "also by a clock that is behind");
}

/// More than are deleted at a time, in a world where writes go on.
#[test]
fn a_row_written_again_between_the_look_and_the_delete_stays() {
    for flushed in [false, true] {
        let world = World::new("memtable_bytes = \"32 MiB\"\nrest_after_secs = 0\ncompaction = false");
        let db = world.open();
        let rows = db.create_collection("rows", schema()).unwrap();
        fill(&rows, 0..4_000, |_| Some(world.in_minutes(1)));
        if flushed {
            db.flush().unwrap();
        }
        world.work();
        world.clock.advance(Duration::from_secs(90));
        // The look, and the first frame of deletes.
        while stored(&db) == 4_000 {
            assert!(world.spawn.step(world.clock.now()), "something is to be done");
        }
        let left = stored(&db);
        assert!((1_000..4_000).contains(&left), "some wait for their turn: {left}");
        // Among the last: with a later time, with none, without a row in between, and in a segment by then.
        put(&rows, 3_990, Some(world.in_minutes(60)));
        put(&rows, 3_991, None);
        rows.delete(id(3_992)).unwrap();
        put(&rows, 3_992, None);
        rows.delete(id(3_993)).unwrap();
        if flushed {
            db.flush().unwrap();
        }
        put(&rows, 3_994, None);
        world.pass(40);
        let survivors = [3_990, 3_991, 3_992, 3_994].map(id);
        assert_eq!((shown(&rows), stored(&db)), (survivors.to_vec(), 4), "flushed: {flushed}");
        world.clock.advance(Duration::from_secs(3_600));
        world.pass(40);
        assert_eq!((shown(&rows), stored(&db)), (survivors[1..].to_vec(), 3));
    }
}

/// Where nothing expires the database rests as ever, and nothing is written; deletes of its own end a rest like any write,
/// and the next one comes.
#[test]
fn a_database_whose_rows_expire_rests() {
    let world = World::new("rest_after_secs = 30");
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    fill(&rows, 0..1_000, |n| (n < 100).then(|| world.in_minutes(180)));
    let unflushed = || db.stats().unwrap().collections[0].memtable_rows;
    let appended = || db.stats().unwrap().watermarks.appended;
    let before = appended();
    world.pass(1_000);
    assert_eq!((unflushed(), appended()), (0, before.clone()), "at rest");
    world.pass(8_000);
    assert_eq!(appended(), before, "nothing was written");
    let dead = || db.stats().unwrap().collections[0].dead_rows;
    assert_eq!((stored(&db), dead()), (1_000, 0));
    world.pass(3_000);
    assert_eq!((stored(&db), dead()), (900, 0), "deleted, flushed and merged");
    let after = appended();
    assert_ne!(before, after);
    world.pass(5_000);
    assert_eq!(appended(), after);
}

/// A wall clock that jumps days ahead deletes early, one that jumps back shows what is not deleted yet once more. Nothing
/// else happens.
#[test]
fn clocks_that_jump_days_break_nothing() {
    const DAY: i64 = 24 * 60 * MINUTE;
    let world = World::new("");
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    let start = world.clock.unix_micros();
    fill(&rows, 0..100, |n| Some(start + i64::from(n) * DAY + MINUTE));
    db.flush().unwrap();
    world.work();
    world.clock.jump_wall(-400 * DAY);
    world.pass(120);
    assert_eq!((rows.count().unwrap(), stored(&db)), (100, 100));
    world.clock.set_wall(start + 10 * DAY);
    assert_eq!((rows.count().unwrap(), stored(&db)), (90, 100));
    world.clock.set_wall(start);
    assert_eq!((rows.count().unwrap(), stored(&db)), (100, 100), "shown once more: nothing was deleted");
    world.clock.set_wall(start + 10 * DAY);
    world.pass(59);
    world.clock.set_wall(start);
    assert_eq!((rows.count().unwrap(), stored(&db)), (90, 90), "gone for good");
    world.clock.set_wall(i64::MAX / 2);
    world.pass(60);
    assert_eq!((rows.count().unwrap(), stored(&db)), (0, 0));
    put(&rows, 7, None);
    world.clock.set_wall(i64::MIN / 2);
    world.pass(60);
    assert_eq!(shown(&rows), [id(7)]);
    drop(rows);
    db.close().unwrap();
    let db = world.open();
    assert_eq!(shown(&db.collection("rows").unwrap()), [id(7)]);
}

/// A disk as it was at a call, what was promised to be there then, and the wall clock.
type Cut = (CrashDisk, BTreeMap<String, Option<i64>>, i64, String);

/// Crashes at each call that changes the disk while rows expire, are deleted, flushed and merged: what has not expired is
/// all there, and what has is not seen again.
#[test]
fn a_crash_at_every_call_of_a_purge_loses_nothing_and_brings_nothing_back() {
    let disk = CrashDisk::new(23);
    let cuts: Arc<Mutex<Vec<Cut>>> = Arc::default();
    let promised: Arc<Mutex<BTreeMap<String, Option<i64>>>> = Arc::default();
    let watching = Arc::new(AtomicBool::new(false));
    let engine = "memtable_bytes = \"64 KiB\"\nwal_flush_bytes = \"64 KiB\"\nrest_after_secs = 30";
    let world = World::on(disk.clone(), engine);
    let hook = {
        let (disk, cuts, promised) = (disk.clone(), Arc::clone(&cuts), Arc::clone(&promised));
        let (watching, clock) = (Arc::clone(&watching), Arc::clone(&world.clock));
        move |call: &Call<'_>| {
            if call.op.changes() && watching.load(Ordering::SeqCst) {
                let when = format!("{:?} of {}", call.op, call.path.display());
                let at = clock.unix_micros();
                cuts.lock().unwrap().push((disk.kill(), promised.lock().unwrap().clone(), at, when));
            }
            Act::Go
        }
    };
    let fs = Arc::new(HookFs::new(Arc::new(disk.clone()), Arc::new(hook)));
    let world = world.through(fs);
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    let start = world.clock.unix_micros();
    watching.store(true, Ordering::SeqCst);
    for part in 0..3u32 {
        let until = |n: u32| (!n.is_multiple_of(4)).then(|| start + i64::from(n % 4 + part) * MINUTE);
        let numbers = part * 200..(part + 1) * 200;
        fill(&rows, numbers.clone(), until);
        promised.lock().unwrap().extend(numbers.map(|n| (id(n), until(n))));
        world.pass(50);
    }
    world.pass(400);
    db.compact().unwrap();
    assert_eq!((stored(&db), shown(&rows).len()), (150, 150));
    watching.store(false, Ordering::SeqCst);
    drop((rows, db));
    let cuts = std::mem::take(&mut *cuts.lock().unwrap());
    println!("{} moments", cuts.len());
    assert!(cuts.len() > 100, "{} moments", cuts.len());
    let mut rng = Rng::seeded(29);
    for (at, (disk, promised, wall, when)) in cuts.iter().enumerate() {
        look(&disk.power_cut(&mut rng), promised, *wall, when);
        if at % 4 == 0 {
            look(&disk.kill(), promised, *wall, when);
        }
    }
}

/// Opens a crashed disk at the time of the crash: what it showed then is what it must show, and the purge goes on.
fn look(disk: &CrashDisk, promised: &BTreeMap<String, Option<i64>>, wall: i64, when: &str) {
    let world = World::on(disk.clone(), "compaction = false\nrest_after_secs = 0");
    world.clock.set_wall(wall);
    let db: Db = world.open();
    let Ok(rows) = db.collection("rows") else {
        assert!(promised.is_empty(), "{when}");
        return;
    };
    let live = |wall: i64| {
        let live = promised.iter().filter(move |(_, until)| until.is_none_or(|until| until > wall));
        live.map(|(id, _)| id.clone()).collect::<Vec<_>>()
    };
    let found = |wall: i64| {
        // A batch that was under way is there or not.
        let found = shown(&rows).into_iter().filter(|id| promised.contains_key(id)).collect::<Vec<_>>();
        assert_eq!(found, live(wall), "{when}");
    };
    found(wall);
    world.clock.advance(Duration::from_secs(600));
    found(world.clock.unix_micros());
    world.pass(31);
    found(world.clock.unix_micros());
    assert_eq!(stored(&db), rows.count().unwrap(), "{when}");
}

/// Nobody waits for a purge, and it waits for nobody: where writes are held back it stays away until they go on.
#[test]
fn a_purge_stays_away_where_writes_are_held_back() {
    let world =
        World::new("min_free_disk_bytes = \"1 MiB\"\nwrite_stall_timeout_ms = 0\nrest_after_secs = 0");
    let db = world.open();
    let rows = db.create_collection("rows", Schema { metric: Metric::Dot, ..schema() }).unwrap();
    fill(&rows, 0..100, |_| Some(world.in_minutes(1)));
    world.work();
    world.disk.set_free_bytes(Some(1_000));
    world.pass(200);
    assert_eq!((rows.count().unwrap(), stored(&db)), (0, 100), "hidden, and not deleted");
    let expired = || db.stats().unwrap().collections[0].expired_rows;
    assert_eq!(expired(), 100);
    assert!(rows.upsert("x", &vector(1), payload(1, None)).is_err());
    world.disk.set_free_bytes(None);
    world.pass(3);
    assert_eq!((stored(&db), expired()), (0, 0));
}

/// Of a segment with few expired rows just those are looked up, by whole numbers and by texts, more than one frame of them.
#[test]
fn rows_far_apart_are_deleted_and_no_others() {
    for with_ints in [false, true] {
        let world = World::new("rest_after_secs = 0\ncompaction = false");
        let db = world.open();
        let schema = if with_ints { schema().int_ids() } else { schema() };
        let rows = db.create_collection("rows", schema).unwrap();
        let until = world.in_minutes(1);
        let name = |n: u32| if with_ints { Id::from(i64::from(n)) } else { Id::from(id(n)) };
        let expires = |n: u32| n.is_multiple_of(11) || (7_000..7_100).contains(&n);
        let row = |n: u32| NewRow::new(name(n), vector(n), payload(n, expires(n).then_some(until))).unwrap();
        for batch in (0..20_000u32).collect::<Vec<_>>().chunks(1_000) {
            rows.upsert_batch(&batch.iter().map(|n| row(*n)).collect::<Vec<_>>()).unwrap();
        }
        db.flush().unwrap();
        world.work();
        world.pass(100);
        let left = (0..20_000).filter(|n| !expires(*n));
        let found = rows.scan().limit(100_000).run().unwrap();
        assert!(found.iter().map(|row| row.id.clone()).eq(left.map(name)));
        assert_eq!(stored(&db), found.len() as u64);
    }
}
