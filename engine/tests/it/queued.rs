//! Writes that are appended and not applied, while a sync stands still: how many there may be, and who goes on when it ends.

use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use akidb::{
    Batch, Collection, Db, Error, ErrorKind, Lsn, Metric, NewRow, Receipt, Result, Schema, Settings,
};
use akidb_host::sim::{Act, EIO, Gate};
use serde_json::json;

use crate::support::{hooked, syncs_log};

const DIM: u16 = 256;
/// An eighth of the memory.
const MAY_BE_QUEUED: u64 = 1 << 20;

fn open(gate: &Arc<Gate>, timeout_ms: u32) -> (tempfile::TempDir, Db, Collection) {
    let dir = tempfile::tempdir().unwrap();
    let settings = format!(
        "[engine]\nmemory_bytes = \"8 MiB\"\nmemtable_bytes = \"2 MiB\"\nwrite_stall_timeout_ms = {timeout_ms}\n"
    );
    let db = hooked(dir.path(), gate.hook(), Settings::from_toml(&settings).unwrap());
    let rows = db.create_collection("rows", Schema::new(DIM, Metric::L2)).unwrap();
    (dir, db, rows)
}

fn log_syncs() -> Arc<Gate> {
    Gate::opened(syncs_log)
}

fn row(n: usize) -> NewRow {
    NewRow::new(format!("r{n}"), vec![n as f32; DIM as usize], json!({})).unwrap()
}

/// Submits rows one by one until one is refused: the receipts of those that were taken, and why no more.
fn fill(rows: &Collection) -> (Vec<Receipt>, Error) {
    let mut receipts = Vec::new();
    while receipts.len() < 5_000 {
        match rows.submit(&[row(receipts.len())]) {
            Ok(receipt) => receipts.push(receipt),
            Err(refused) => return (receipts, refused),
        }
    }
    panic!("the queue has no bound");
}

fn is_pending_writes(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Full { which: "pending_writes", .. })
}

#[test]
fn a_loader_is_held_back_while_a_sync_stands_still_and_goes_on_by_itself() {
    let gate = log_syncs();
    let (_dir, db, rows) = open(&gate, 0);
    gate.shut();
    let (taken, refused) = fill(&rows);
    assert!(is_pending_writes(&refused), "{refused}");
    let bytes = taken.len() as u64 * u64::from(DIM) * 4;
    assert!((MAY_BE_QUEUED / 2..MAY_BE_QUEUED).contains(&bytes), "{bytes} bytes");
    assert!(is_pending_writes(&rows.try_upsert("more", &row(0).vector, json!({})).unwrap_err()));
    assert_eq!(rows.count().unwrap(), 0);
    gate.release();
    taken.last().unwrap().wait().unwrap();
    rows.upsert("more", &row(0).vector, json!({})).unwrap();
    assert_eq!(rows.count().unwrap(), taken.len() as u64 + 1);
    db.close().unwrap();
}

#[test]
fn a_loader_that_never_waits_for_its_receipts_is_never_refused() {
    let gate = log_syncs();
    let (_dir, db, rows) = open(&gate, 60_000);
    let receipts: Vec<_> = (0..8_000).map(|n| rows.submit(&[row(n)]).unwrap()).collect();
    receipts.last().unwrap().wait().unwrap();
    assert_eq!(rows.count().unwrap(), 8_000);
    db.close().unwrap();
}

type Upsert<'a> = Pin<Box<dyn Future<Output = Result<Lsn>> + Send + 'a>>;

struct Woken(Arc<Mutex<Sender<()>>>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().send(());
    }
}

#[test]
fn who_waits_at_the_queue_is_called_when_it_drains() {
    let gate = log_syncs();
    // A write's patience is longer than the test's.
    let (_dir, db, rows) = open(&gate, 120_000);
    gate.shut();
    let large: Vec<NewRow> = (0..700).map(row).collect();
    rows.submit(&large).unwrap();
    let (woken, is_woken) = channel();
    let waker = Waker::from(Arc::new(Woken(Arc::new(Mutex::new(woken)))));
    let mut context = Context::from_waker(&waker);
    let vector = [1.0; DIM as usize];
    let mut waiting: Vec<Upsert<'_>> = Vec::new();
    let appended = || db.stats().unwrap().watermarks.appended;
    while waiting.len() < 5_000 {
        let before = appended();
        let mut upsert: Upsert<'_> =
            Box::pin(rows.upsert_async(format!("a{}", waiting.len()), &vector, json!({})));
        assert!(upsert.as_mut().poll(&mut context).is_pending());
        waiting.push(upsert);
        if appended() == before {
            break;
        }
    }
    let count = 700 + waiting.len() as u64;
    assert!(waiting.len() < 5_000, "the queue has a bound for async writes");
    thread::scope(|scope| {
        let blocked = scope.spawn(|| rows.submit(&large).unwrap().wait().unwrap());
        gate.wait_until_held();
        gate.release();
        blocked.join().unwrap();
    });
    while !waiting.is_empty() {
        waiting.retain_mut(|upsert| match upsert.as_mut().poll(&mut context) {
            Poll::Ready(done) => {
                done.unwrap();
                false
            }
            Poll::Pending => true,
        });
        if !waiting.is_empty() {
            is_woken.recv_timeout(Duration::from_secs(30)).expect("nobody was called");
        }
    }
    assert_eq!(rows.count().unwrap(), count);
    db.close().unwrap();
}

#[test]
fn a_log_that_syncs_nothing_more_says_so_and_is_not_just_full() {
    let gate = log_syncs();
    let (_dir, _db, rows) = open(&gate, 0);
    gate.shut();
    let (taken, refused) = fill(&rows);
    assert!(is_pending_writes(&refused), "{refused}");
    gate.wait_until_held();
    gate.release_as(Act::Fail(EIO));
    assert_eq!(taken.last().unwrap().wait().unwrap_err().kind(), ErrorKind::Poisoned);
    let refused = rows.submit(&[row(0)]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Poisoned, "{refused}");
}

/// Polls until it is there, at most for so long between two calls of its waker.
fn answer_of<T>(mut future: Pin<Box<dyn Future<Output = T> + '_>>) -> T {
    let (woken, is_woken) = channel();
    let waker = Waker::from(Arc::new(Woken(Arc::new(Mutex::new(woken)))));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => is_woken.recv_timeout(Duration::from_secs(30)).expect("nobody was called"),
        }
    }
}

#[test]
fn async_writes_that_wait_at_the_queue_hold_no_thread_that_searches_need() {
    let gate = log_syncs();
    // A write's patience is longer than the test's.
    let (_dir, db, rows) = open(&gate, 120_000);
    rows.upsert("near", &row(1).vector, json!({})).unwrap();
    gate.shut();
    let large: Vec<NewRow> = (0..700).map(row).collect();
    rows.submit(&large).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting: Vec<Upsert<'_>> = Vec::new();
    for n in 0..4 {
        // Larger than what is encoded on the caller's thread.
        waiting.push(Box::pin(rows.upsert_batch_async((n * 500..(n + 1) * 500).map(row).collect())));
        let mut batch = Batch::new();
        for n in 0..500 {
            batch.upsert("rows", row(n));
        }
        let db = &db;
        waiting.push(Box::pin(async move { db.write_async(batch).await }));
    }
    assert!(waiting.iter_mut().all(|write| write.as_mut().poll(&mut context).is_pending()));
    let vector = row(1).vector;
    let hits = answer_of(Box::pin(rows.search(&vector).k(1).run_async())).unwrap();
    assert_eq!(hits.len(), 1);
    gate.release();
    for write in waiting {
        answer_of(write).unwrap();
    }
    db.close().unwrap();
}

#[test]
fn an_async_write_is_refused_once_its_patience_is_over() {
    let gate = log_syncs();
    let (_dir, _db, rows) = open(&gate, 50);
    gate.shut();
    let (_taken, refused) = fill(&rows);
    assert!(is_pending_writes(&refused), "{refused}");
    let refused = answer_of(Box::pin(rows.upsert_async("more", &row(0).vector, json!({})))).unwrap_err();
    assert!(is_pending_writes(&refused), "{refused}");
    gate.release();
}
