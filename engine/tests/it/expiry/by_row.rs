//! Rows that say themselves when they expire, beside their payload.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use akidb::{Batch, Collection, Db, ErrorKind, Expect, Expires, Fate, Metric, NewRow, Schema};
use akidb_host::sim::FakeClock;
use akidb_host::{Clock, RealFs, RealSpawn};
use serde_json::json;

use super::world::{MINUTE, World, id, payload, schema, shown, stored, vector};
use crate::arrow_and_async::block_on_all;

const TEN_MINUTES: Duration = Duration::from_secs(600);

fn row(n: u32) -> NewRow {
    NewRow::new(id(n), vector(n), payload(n, None)).unwrap()
}

/// A row of the test's clock.
fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap())
}

/// What the payload says.
fn until(rows: &Collection, n: u32) -> Option<i64> {
    let row = rows.get(id(n)).unwrap().unwrap();
    let text = row.payload.get("until")?.as_str().unwrap();
    let micros = text.parse::<jiff::Timestamp>().unwrap().as_microsecond();
    Some(micros)
}

/// All are there until the last microsecond, and gone with it.
fn assert_gone_at(clock: &FakeClock, rows: &Collection, at: i64, left: &[String], when: &str) {
    clock.set_wall(at - 1);
    assert!(shown(rows).len() > left.len(), "{when}");
    let before = shown(rows);
    clock.set_wall(at);
    assert_eq!(shown(rows), left, "{when}: {before:?}");
    assert_eq!(rows.search(&vector(0)).k(100).run().unwrap().len(), left.len(), "{when}");
    clock.set_wall(at - 1);
    assert_eq!(shown(rows), before, "{when}");
}

#[test]
fn every_write_that_takes_such_a_row_stores_its_time_and_hides_it_to_the_microsecond() {
    let world = World::new("ttl_purge_secs = 0");
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    let at = world.in_minutes(10);
    rows.upsert_batch(&[row(0).expires_in(TEN_MINUTES)]).unwrap();
    rows.upsert_batch(&[row(1).expires_in(TEN_MINUTES), row(2).expires_at(time(at)), row(3)]).unwrap();
    rows.submit(&[row(4).expires_at(time(at))]).unwrap().wait().unwrap();
    let mut batch = Batch::new();
    batch.upsert("rows", row(5).expires_in(TEN_MINUTES)).idempotency_key("k");
    batch.upsert_if("rows", row(6).expires_in(TEN_MINUTES), Expect::Absent);
    let version = rows.get(id(0)).unwrap().unwrap().lsn;
    batch.upsert_if("rows", row(0).expires_at(time(at)), Expect::Version(version));
    db.write(&batch).unwrap();
    for n in [0, 1, 2, 4, 5, 6] {
        assert_eq!(until(&rows, n), Some(at), "{n}");
    }
    assert_eq!(until(&rows, 3), None);
    assert_eq!(rows.count_where("until is not null").unwrap(), 6, "filters see it");
    assert_gone_at(&world.clock, &rows, at, &[id(3)], "in memory");
    db.flush().unwrap();
    assert_gone_at(&world.clock, &rows, at, &[id(3)], "in a segment");
    world.clock.set_wall(at);
    // To a write on a condition it is none, as any row that expired.
    let mut batch = Batch::new();
    batch.upsert_if("rows", row(1).expires_in(TEN_MINUTES), Expect::Absent);
    db.write(&batch).unwrap();
    assert_eq!((until(&rows, 1), shown(&rows).len()), (Some(at + 10 * MINUTE), 2));
}

/// Awaited, small and large, in one collection and over several.
#[test]
fn awaited_writes_carry_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(FakeClock::default());
    let db = Db::builder(dir.path())
        .components(Arc::new(RealFs), Arc::<FakeClock>::clone(&clock), Arc::new(RealSpawn))
        .open()
        .unwrap();
    let rows = db.create_collection("rows", schema()).unwrap();
    let at = clock.unix_micros() + 10 * MINUTE;
    let answer = |write: std::pin::Pin<Box<dyn Future<Output = akidb::Result<akidb::Lsn>> + '_>>| {
        block_on_all(vec![write]).pop().unwrap().unwrap()
    };
    answer(Box::pin(rows.upsert_batch_async(vec![row(0).expires_in(TEN_MINUTES)])));
    // More than is checked on the caller's thread.
    let many = (1..=9_000).map(|n| row(n).expires_in(TEN_MINUTES)).collect();
    answer(Box::pin(rows.upsert_batch_async(many)));
    let mut batch = Batch::new();
    batch.upsert("rows", row(9_001).expires_in(TEN_MINUTES)).upsert("rows", row(9_002));
    answer(Box::pin(db.write_async(batch)));
    for n in [0, 1, 9_000, 9_001] {
        assert_eq!(until(&rows, n), Some(at), "{n}");
    }
    clock.set_wall(at);
    assert_eq!(shown(&rows), [id(9_002)]);
}

#[test]
fn its_time_outlives_crashes_flushes_and_merges_and_it_is_deleted_within_a_minute_of_it() {
    let mut world = World::new("rest_after_secs = 0");
    let at = world.in_minutes(600);
    {
        let db = world.open();
        let rows = db.create_collection("rows", schema()).unwrap();
        for part in 0..4 {
            let batch: Vec<_> = (0..50)
                .map(|n| row(50 * part + n))
                .map(|row| if part == 3 { row } else { row.expires_in(Duration::from_secs(36_000)) })
                .collect();
            rows.upsert_batch(&batch).unwrap();
        }
    }
    let left: Vec<String> = (150..200).map(id).collect();
    for step in ["replayed", "flushed", "after a crash behind the flush", "merged"] {
        let wall = world.clock.unix_micros();
        world = World::on(world.disk.kill(), "rest_after_secs = 0");
        world.clock.set_wall(wall);
        let db = world.open();
        let rows = db.collection("rows").unwrap();
        match step {
            "flushed" => db.flush().unwrap(),
            "merged" => {
                (0..4).for_each(|n| {
                    rows.upsert_batch(&[row(180 + n)]).unwrap();
                    db.flush().unwrap();
                });
                assert!(db.compact().unwrap() > 0);
            }
            _ => {}
        }
        assert_eq!(until(&rows, 7), Some(at), "{step}");
        assert_gone_at(&world.clock, &rows, at, &left, step);
        world.clock.set_wall(wall);
    }
    let db = world.open();
    world.clock.set_wall(at - 1);
    world.pass(0);
    assert_eq!(stored(&db), 200);
    world.pass(60);
    assert_eq!((stored(&db), shown(&db.collection("rows").unwrap())), (50, left));
}

#[test]
fn what_cannot_be_kept_is_refused_before_anything_is_written() {
    let world = World::new("ttl_purge_secs = 0");
    let db = world.open();
    let rows = db.create_collection("rows", schema()).unwrap();
    let plain = db.create_collection("plain", Schema::new(8, Metric::L2).timestamp("until")).unwrap();
    let large = NewRow::new(id(1), vector(1), json!({ "text": "x".repeat((1 << 20) - 11) })).unwrap();
    rows.upsert_batch(std::slice::from_ref(&large)).unwrap();
    rows.delete(id(1)).unwrap();
    let written = db.visible_lsn().unwrap();
    let refused = |answer: akidb::Result<akidb::Lsn>, code: &str, says: &str| {
        let error = answer.unwrap_err();
        let told = (error.kind(), error.code(), error.fate());
        assert_eq!(told, (ErrorKind::Invalid, code, Fate::NotWritten), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        error
    };
    let error =
        refused(plain.upsert_batch(&[row(0).expires_in(TEN_MINUTES)]), "AKI-0279", "\"plain\" do not");
    assert!(error.help().unwrap().contains("--expires-by"), "{error}");
    refused(plain.upsert_batch(&[row(0), row(1).expires_in(TEN_MINUTES)]), "AKI-0279", "row 1");
    let mut batch = Batch::new();
    batch.upsert("rows", row(0)).upsert("plain", row(1).expires_in(TEN_MINUTES)).idempotency_key("k");
    refused(db.write(&batch), "AKI-0279", "write 1");

    let (at, other) = (world.in_minutes(10), world.in_minutes(11));
    let said = |value: serde_json::Value, expires: Expires| {
        let payload = json!({ "n": 1, "until": value });
        NewRow { expires: Some(expires), ..NewRow::new(id(1), vector(1), payload).unwrap() }
    };
    let text = |micros: i64| json!(jiff::Timestamp::from_microsecond(micros).unwrap().to_string());
    for bad in [json!(other), text(other), json!("soon"), json!([at]), json!(0.5)] {
        refused(
            rows.upsert_batch(&[said(bad, Expires::At(at))]),
            "AKI-0279",
            "\"until\" of its payload says",
        );
    }
    refused(rows.upsert_batch(&[said(json!(other), Expires::In(TEN_MINUTES))]), "AKI-0279", "");
    for far in [Expires::In(Duration::MAX), Expires::At(i64::MAX), Expires::At(i64::MIN)] {
        let far = NewRow { expires: Some(far), ..row(1) };
        refused(rows.upsert_batch(&[far]), "AKI-0125", "not a timestamp");
    }
    refused(rows.upsert_batch(&[large.expires_in(TEN_MINUTES)]), "AKI-0127", "");
    assert_eq!((db.visible_lsn().unwrap(), rows.count().unwrap()), (written, 0), "nothing was written");
    assert_eq!(db.stats().unwrap().idempotency_keys, 0);

    // The same time twice is no contradiction, and null says nothing.
    for (n, same) in [json!(at), text(at), json!(null)].into_iter().enumerate() {
        rows.upsert_batch(&[said(same, Expires::At(at))]).unwrap();
        assert_eq!(until(&rows, 1), Some(at), "{n}");
    }
    // What is over is hidden at once.
    rows.upsert_batch(&[row(2).expires_in(Duration::ZERO), row(3).expires_at(UNIX_EPOCH)]).unwrap();
    assert_eq!(shown(&rows), [id(1)]);
}

#[test]
fn a_patch_moves_its_time_and_a_replaced_payload_says_it_anew() {
    for flushed in [false, true] {
        let world = World::new("ttl_purge_secs = 0");
        let db = world.open();
        let rows = db.create_collection("rows", schema()).unwrap();
        let at = world.in_minutes(10);
        rows.upsert_batch(&[0, 1, 2, 3].map(|n| row(n).expires_in(TEN_MINUTES))).unwrap();
        if flushed {
            db.flush().unwrap();
        }
        rows.update_payload(id(0), json!({ "until": at + 5 * MINUTE })).unwrap();
        rows.update_payload(id(1), json!({ "n": 7 })).unwrap();
        rows.update_payload(id(2), json!({ "until": null })).unwrap();
        rows.replace_payload(id(3), json!({ "n": 3 })).unwrap();
        assert_eq!([0, 1, 2, 3].map(|n| until(&rows, n)), [Some(at + 5 * MINUTE), Some(at), None, None]);
        world.clock.set_wall(at);
        assert_eq!(shown(&rows), [id(0), id(2), id(3)], "flushed: {flushed}");
        world.clock.set_wall(at + 5 * MINUTE);
        assert_eq!(shown(&rows), [id(2), id(3)], "flushed: {flushed}");
        // A row that is written again as a whole has the time of that write, or none.
        rows.upsert_batch(&[row(0).expires_in(TEN_MINUTES), row(2).expires_in(TEN_MINUTES), row(1)]).unwrap();
        assert_eq!(
            [0, 1, 2].map(|n| until(&rows, n)),
            [Some(at + 15 * MINUTE), None, Some(at + 15 * MINUTE)]
        );
    }
}

#[test]
fn a_batch_sent_again_later_is_the_same_batch_and_keeps_its_times() {
    let world = World::new("ttl_purge_secs = 0\ncompaction = false");
    let batch_of = |row: NewRow| {
        let mut batch = Batch::new();
        batch.upsert("rows", row).delete("rows", id(9)).idempotency_key("k");
        batch
    };
    let at = world.in_minutes(10);
    let batch = batch_of(row(1).expires_in(TEN_MINUTES));
    let (mut db, mut first) = (world.open(), None);
    db.create_collection("rows", schema()).unwrap();
    for step in 0..4 {
        let receipt = db.submit(&batch).unwrap();
        let placed = (receipt.first(), receipt.wait().unwrap());
        assert_eq!(receipt.is_repeat(), step > 0, "step {step}");
        assert_eq!(*first.get_or_insert(placed), placed);
        assert_eq!(until(&db.collection("rows").unwrap(), 1), Some(at), "step {step}");
        for other in [
            row(1),
            row(1).expires_in(TEN_MINUTES + Duration::from_micros(1)),
            row(1).expires_at(time(at)),
            NewRow { payload: payload(1, Some(at)).as_object().unwrap().clone(), ..row(1) },
        ] {
            let error = db.write(&batch_of(other)).unwrap_err();
            assert_eq!(error.code(), "AKI-0219", "step {step}: {error}");
        }
        world.clock.advance(Duration::from_secs(60));
        // Known from memory, from the log, from the manifest.
        match step {
            0 => continue,
            1 => {}
            _ => db.flush().unwrap(),
        }
        db.close().unwrap();
        db = world.open();
    }
    world.clock.set_wall(at);
    assert!(db.submit(&batch).unwrap().is_repeat());
    assert!(shown(&db.collection("rows").unwrap()).is_empty(), "it is not written anew when it expired");
}
