//! What broke others between a database and its object store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use akidb::object_store::memory::InMemory;
use akidb::{CallKind, Db, ErrorKind, Settings};
use akidb_backends::fault::{Cause, Fault, FaultStore};

use crate::history::{self, Found, after, found};
use crate::support::copy_dir;

const LONG: Duration = Duration::from_secs(60);

fn open(dir: &Path, store: &FaultStore) -> Db {
    let settings = "[storage.circuit_breaker_config]\ncooldown_duration_secs = 1\n\
                    [engine]\nremote_commit_interval_ms = 10\ncompaction = false\nmanifest_keep = 1\n";
    let settings = Settings::from_toml(settings).unwrap();
    Db::builder(dir).settings(settings).store("copies", Arc::new(store.clone())).open().unwrap()
}

/// What the store holds, read by somebody who has nothing else.
fn there(store: &FaultStore) -> Found {
    let cache = tempfile::tempdir().unwrap();
    let cold = Db::builder(cache.path()).store("copies", Arc::new(store.clone())).cold(true).open().unwrap();
    found(&cold.collection("rows").unwrap())
}

fn new_store() -> FaultStore {
    FaultStore::new(Arc::new(InMemory::new()))
}

/// slatedb#352, #1622: a writer that was thought dead went on after the new one had removed its log, and wrote into the
/// state of the new one. Here it is fenced by the next document it wants to write, also after it is started again and
/// after the new writer has merged everything away that the old one knows of. What it acknowledges at home until then is
/// at home only: that nothing is acknowledged at `Remote` waits for that durability.
#[test]
fn slatedb_352_a_zombie_writer_changes_nothing_of_the_one_that_came_after_it() {
    let (old, new, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), new_store());
    let zombie = open(old.path(), &store);
    let rows = zombie.create_collection("rows", history::schema()).unwrap();
    for part in 0..2 {
        (part * 10..(part + 1) * 10).for_each(|n| history::write(&rows, n));
        zombie.flush().unwrap();
    }
    zombie.wait_uploaded(LONG).unwrap();
    copy_dir(old.path(), new.path());
    let db = open(new.path(), &store);
    let newer = db.collection("rows").unwrap();
    (20..30).for_each(|n| history::write(&newer, n));
    db.flush().unwrap();
    assert_eq!(db.compact().unwrap(), 1);
    db.wait_uploaded(LONG).unwrap();
    assert_eq!(there(&store), after(30));

    (20..27).for_each(|n| history::write(&rows, n));
    zombie.flush().unwrap();
    zombie.compact().unwrap();
    assert_eq!(zombie.wait_uploaded(LONG).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(there(&store), after(30));
    drop(rows);
    zombie.close().unwrap();
    // Started again it is of the same epoch as the new one, and another writer.
    let zombie = open(old.path(), &store);
    assert_eq!(zombie.wait_uploaded(LONG).unwrap_err().kind(), ErrorKind::Fenced);
    (30..40).for_each(|n| history::write(&newer, n));
    db.flush().unwrap();
    db.wait_uploaded(LONG).unwrap();
    assert_eq!(there(&store), after(40));
}

/// slatedb#1053, #1164: a put whose answer was lost had been made; its repetition met it, and the writer took its own
/// document for another's and fenced itself. Here it reads what is there and knows it.
#[test]
fn slatedb_1053_a_put_whose_answer_is_lost_does_not_fence_its_own_writer() {
    let (dir, store) = (tempfile::tempdir().unwrap(), new_store());
    let mut db = open(dir.path(), &store);
    let rows = db.create_collection("rows", history::schema()).unwrap();
    drop(rows);
    db.wait_uploaded(LONG).unwrap();
    let mut written = 0;
    for cause in [Cause::Timeout, Cause::Reset, Cause::Exists, Cause::Status(500, None)] {
        for claims in [false, true] {
            store.clear_calls();
            let lose = || store.script(akidb::Op::Create, "manifest", 0, Fault::ApplyThenFail(cause));
            if claims {
                // The first document of an open is its claim.
                db.close().unwrap();
                lose();
                db = open(dir.path(), &store);
            } else {
                lose();
            }
            let rows = db.collection("rows").unwrap();
            (written..written + 10).for_each(|n| history::write(&rows, n));
            written += 10;
            db.flush().unwrap();
            db.wait_uploaded(LONG).unwrap_or_else(|error| panic!("{cause:?}, claims: {claims}: {error}"));
            let creates = store.calls().into_iter().filter(|call| call.op == akidb::Op::Create);
            assert!(creates.count() >= 1, "{cause:?}: no document was made");
            assert_eq!(db.stats().unwrap().backends[0].refused, None, "{cause:?}, claims: {claims}");
            assert_eq!(there(&store), after(written), "{cause:?}, claims: {claims}");
        }
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let collections = std::fs::read_dir(dir.join("collections")).unwrap();
    let files = collections.flat_map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap());
    let paths = files.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|ends| ends == "parquet")).collect()
}

/// dial9-rs/dial9#320: "the breaker is open" fell into the branch that deletes what cannot be uploaded, and an outage
/// destroyed every segment of its time. Here no answer of a breaker or of a dead store removes a file: not while it
/// lasts, not by a restart in the middle of it, not by letters.
#[test]
fn dial9_320_an_open_breaker_destroys_no_segment() {
    let (dir, store) = (tempfile::tempdir().unwrap(), new_store());
    let mut db = open(dir.path(), &store);
    drop(db.create_collection("rows", history::schema()).unwrap());
    db.wait_uploaded(LONG).unwrap();
    for outage in 0..4u64 {
        store.set_dead((outage % 2 == 0).then_some(Cause::Refused));
        if outage % 2 == 1 {
            db.backends().open_breaker(None, Some(CallKind::Upload)).unwrap();
        }
        let rows = db.collection("rows").unwrap();
        (outage * 10..(outage + 1) * 10).for_each(|n| history::write(&rows, n));
        db.flush().unwrap();
        let refused = db.wait_uploaded(Duration::from_millis(20)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        assert_eq!(segments(dir.path()).len() as u64, outage + 1, "a segment is gone");
        assert_eq!(db.backends().dead_letters().unwrap().stats().size, 0);
        assert_eq!(found(&rows), after((outage + 1) * 10));
        drop(rows);
        if outage == 2 {
            db.close().unwrap();
            db = open(dir.path(), &store);
        }
    }
    store.set_dead(None);
    db.backends().reset_breaker(None, None).unwrap();
    db.wait_uploaded(LONG).unwrap();
    assert_eq!((there(&store), segments(dir.path()).len()), (after(40), 4));
}
