//! Arrow batches both ways, and the async twin under no runtime and under tokio's.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use akidb::{Collection, Db, ErrorKind, Lsn, Metric, Result, Schema, Settings, StoredRow};
use akidb_host::sim::{Act, Call, Gate, Hook, HookFs, Op};
use akidb_host::{Clock, Job, RealClock, RealFs, RealSpawn, Spawn, Tick, Ticker};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type};
use serde_json::json;

use crate::support::{in_dir, syncs_log};

fn open() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    (dir, db)
}

fn every_type(metric: Metric) -> Schema {
    Schema::new(3, metric)
        .text("text")
        .int("int")
        .float("float")
        .bool("bool")
        .timestamp("at")
        .text_list("list")
}

fn fill(rows: &Collection) {
    let full = json!({"text": "ä \"quoted\"", "int": i64::MIN, "float": -0.125, "bool": false,
        "at": "2024-02-29T12:00:00.000001Z", "list": ["one", "", "ü"], "rest": {"deep": [1, null]}});
    rows.upsert(1, &[1.0, 2.0, 3.0], full).unwrap();
    rows.upsert(-2, &[4.0, 5.0, 6.0], json!({})).unwrap();
    rows.upsert(3, &[7.0, 8.0, 9.5], json!({"list": [], "int": 7, "bool": true, "more": "x"})).unwrap();
}

fn without(batch: &RecordBatch, name: &str) -> RecordBatch {
    let keep: Vec<usize> =
        (0..batch.num_columns()).filter(|n| batch.schema().field(*n).name() != name).collect();
    batch.project(&keep).unwrap()
}

fn content(rows: &[StoredRow]) -> Vec<String> {
    rows.iter().map(|row| format!("{:?} {:?} {:?}", row.id, row.vector, row.payload)).collect()
}

#[test]
fn rows_of_every_field_type_go_to_arrow_and_back_unchanged() {
    let (_dir, db) = open();
    let from = db.create_collection("from", every_type(Metric::L2).int_ids()).unwrap();
    let to = db.create_collection("to", every_type(Metric::L2).int_ids()).unwrap();
    fill(&from);
    let rows = from.scan().run().unwrap();
    let batch = from.to_arrow(&rows).unwrap();
    let types: Vec<DataType> =
        batch.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types[..2], [DataType::Int64, DataType::Int64], "{types:?}");
    to.upsert_arrow(&without(&batch, "lsn")).unwrap();
    assert_eq!(content(&to.scan().run().unwrap()), content(&rows));
    // And once more out of a segment.
    db.flush().unwrap();
    assert_eq!(content(&to.scan().run().unwrap()), content(&rows));
    assert_eq!(to.count_where("list contains 'ü' and at > '2024-01-01T00:00:00Z'").unwrap(), 1);
    let unknown = to.upsert_arrow(&batch).unwrap_err();
    assert!(unknown.to_string().contains("\"lsn\""), "{unknown}");
}

#[test]
fn hits_go_to_arrow_in_their_order_with_scores() {
    let (_dir, db) = open();
    let rows = db.create_collection("rows", every_type(Metric::Dot).int_ids()).unwrap();
    fill(&rows);
    let hits = rows.search(&[1.0, 1.0, 1.0]).k(2).run().unwrap();
    let batch = rows.hits_to_arrow(&hits).unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    let expected = ["id", "score", "lsn", "text", "int", "float", "bool", "at", "list", "payload"];
    assert_eq!(names, expected);
    let scores = batch.column(1).as_primitive::<Float32Type>();
    assert_eq!(scores.values().to_vec(), [24.5, 15.0]);
    assert_eq!(rows.hits_to_arrow(&[]).unwrap().num_rows(), 0);
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls all of them on this thread until the last one is ready; no runtime.
pub(crate) fn block_on_all<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut done = Vec::new();
    loop {
        futures.retain_mut(|future| match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => {
                done.push(value);
                false
            }
            Poll::Pending => true,
        });
        if futures.is_empty() {
            return done;
        }
        std::thread::park();
    }
}

fn boxed<'a>(rows: &'a Collection, id: String) -> Pin<Box<dyn Future<Output = Result<Lsn>> + 'a>> {
    Box::pin(async move { rows.upsert_async(id, &[1.0, 2.0], json!({})).await })
}

#[test]
fn sixty_four_async_writes_end_without_a_runtime() {
    let (_dir, db) = open();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    let lsns = block_on_all((0..64).map(|n| boxed(&rows, format!("{n}"))).collect());
    assert!(lsns.iter().all(Result::is_ok), "{lsns:?}");
    assert_eq!(rows.count().unwrap(), 64);
    let search: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(rows.search(&[1.0, 2.0]).k(64).run_async());
    assert_eq!(block_on_all(vec![search]).pop().unwrap().unwrap().len(), 64);
    let delete: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(rows.delete_async("7"));
    assert!(block_on_all(vec![delete]).pop().unwrap().unwrap());
    assert_eq!(rows.count().unwrap(), 63);
}

#[test]
fn a_future_dropped_before_its_first_poll_writes_nothing_and_later_blocks_nobody() {
    let (dir, db) = open();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    drop(boxed(&rows, "never polled".to_owned()));
    for n in 0..20 {
        let mut future = pin!(rows.upsert_async(format!("dropped{n}"), &[1.0, 2.0], json!({})));
        let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    let ends = block_on_all((0..8).map(|n| boxed(&rows, format!("kept{n}"))).collect());
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    rows.upsert("after", &[1.0, 2.0], json!({})).unwrap();
    assert!(!rows.contains("never polled").unwrap());
    drop(rows);
    db.close().unwrap();
    let rows = Db::open(dir.path()).unwrap().collection("rows").unwrap();
    assert!(!rows.contains("never polled").unwrap());
    assert!((0..8).all(|n| rows.contains(format!("kept{n}")).unwrap()));
}

/// The machine's threads, those for async calls counted.
#[derive(Debug, Default)]
struct CountingSpawn(AtomicUsize);

impl Spawn for CountingSpawn {
    fn job(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> std::io::Result<Box<dyn Job>> {
        self.0.fetch_add(usize::from(name.starts_with("akidb-worker")), Ordering::SeqCst);
        RealSpawn.job(name, job)
    }

    fn ticker(
        &self,
        name: &str,
        tick: Box<dyn Tick>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Arc<dyn Ticker>> {
        RealSpawn.ticker(name, tick, clock)
    }
}

fn open_counting(dir: &std::path::Path, hook: Hook, settings: &str) -> (Db, Arc<CountingSpawn>) {
    let spawn = Arc::new(CountingSpawn::default());
    let fs = Arc::new(HookFs::new(Arc::new(RealFs), hook));
    let db = Db::builder(dir)
        .settings(Settings::from_toml(settings).unwrap())
        .components(fs, Arc::new(RealClock), Arc::clone(&spawn) as Arc<dyn Spawn>)
        .open()
        .unwrap();
    (db, spawn)
}

type Upsert<'a> = Pin<Box<dyn Future<Output = Result<Lsn>> + 'a>>;

fn is_ready(future: &mut Upsert<'_>) -> bool {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// The async twin of test 1 of the design's list: no append waits for the sync, nor for a thread.
#[test]
fn eight_thousand_async_writes_are_appended_at_their_first_poll_while_a_sync_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call: &Call<'_>| syncs_log(call));
    let (db, spawn) = open_counting(dir.path(), gate.hook(), "");
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    rows.upsert("first", &[1.0, 1.0], json!({})).unwrap();
    gate.shut();
    let appended = |db: &Db| db.stats().unwrap().watermarks.appended.parse::<Lsn>().unwrap().counter();
    let before = appended(&db);
    let mut waiting: Vec<Upsert<'_>> = (0..8_000).map(|n| boxed(&rows, format!("{n}"))).collect();
    assert_eq!(appended(&db), before, "nothing happens before the first poll");
    assert!(!waiting.iter_mut().any(is_ready), "nothing unsynced is acknowledged");
    assert_eq!(appended(&db), before + 8_000);
    assert_eq!(rows.search(&[0.0, 0.0]).k(10).run().unwrap().len(), 1, "nothing unsynced is shown");
    // Half of the callers give up; what they appended happens all the same.
    waiting.truncate(4_000);
    gate.release();
    let ends = block_on_all(waiting);
    assert!(ends.iter().all(Result::is_ok));
    rows.upsert("last", &[1.0, 1.0], json!({})).unwrap();
    assert_eq!(rows.count().unwrap(), 8_002);
    assert_eq!(spawn.0.load(Ordering::SeqCst), 0, "no thread was asked for");
}

#[test]
fn an_async_write_that_must_look_into_a_segment_does_so_on_a_worker() {
    let dir = tempfile::tempdir().unwrap();
    let caller = std::thread::current().id();
    let read_here = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read_here);
    let hook: Hook = Arc::new(move |call: &Call<'_>| {
        let here = std::thread::current().id() == caller && in_dir(call.path, "collections");
        counted.fetch_add(usize::from(here && call.op == Op::ReadAt), Ordering::SeqCst);
        Act::Go
    });
    let (db, spawn) = open_counting(dir.path(), hook, "");
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    rows.upsert("old", &[1.0, 1.0], json!({})).unwrap();
    db.flush().unwrap();
    drop(db);
    let before = read_here.load(Ordering::SeqCst);
    let upsert = |id: &str| block_on_all(vec![boxed(&rows, id.to_owned())]).pop().unwrap().unwrap();
    upsert("old");
    assert!(spawn.0.load(Ordering::SeqCst) > 0, "a segment is looked into on a worker");
    assert_eq!(read_here.load(Ordering::SeqCst), before, "a file was read on the caller's thread");
    assert_eq!(rows.count().unwrap(), 1);
    // An id that a memtable knows needs no look.
    let mut again = boxed(&rows, "old".to_owned());
    let appended = rows.clone();
    assert!(!is_ready(&mut again) || appended.contains("old").unwrap());
    drop(again);
    rows.upsert("end", &[1.0, 1.0], json!({})).unwrap();
    assert_eq!(rows.count().unwrap(), 2);
}

/// The log's file is full and the next one not there: an async caller is told to come back, `try_upsert` that it is
/// full, and whoever gives up has written nothing.
#[test]
fn an_async_write_waits_for_the_next_log_file_without_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call: &Call<'_>| call.op == Op::ZeroFill && in_dir(call.path, "wal"));
    let (db, spawn) = open_counting(dir.path(), gate.hook(), "[engine]\ndurability = \"memory\"\n");
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    rows.upsert("first", &[1.0, 1.0], json!({})).unwrap();
    gate.shut();
    let fill = "x".repeat(50_000);
    let put = |id: String| -> Upsert<'_> {
        let (rows, payload) = (&rows, json!({ "fill": fill }));
        Box::pin(async move { rows.upsert_async(id, &[1.0, 2.0], payload).await })
    };
    let mut written = 0;
    let mut parked = loop {
        let mut next = put(format!("{written}"));
        if !is_ready(&mut next) {
            break next;
        }
        written += 1;
        assert!(written < 1_000, "the log file never was full");
    };
    let mut given_up = put("given up".to_owned());
    assert!(!is_ready(&mut given_up));
    drop(given_up);
    let error = rows.try_upsert("try", &[1.0, 2.0], json!({ "fill": fill })).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Full { which: "log_file", .. }), "{error}");
    assert_eq!(rows.count().unwrap(), 1 + written, "nothing that waits is written");
    assert!(!is_ready(&mut parked));
    gate.release();
    block_on_all(vec![parked]).pop().unwrap().unwrap();
    assert_eq!(rows.count().unwrap(), 2 + written);
    assert!(!rows.contains("given up").unwrap() && !rows.contains("try").unwrap());
    assert_eq!(spawn.0.load(Ordering::SeqCst), 0, "no thread was held for it");
}

#[test]
fn a_database_lives_and_is_dropped_inside_a_current_thread_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let url = format!("file://{}", copies.path().display());
        let db = Db::builder(dir.path()).backend("copies", &url).open().unwrap();
        let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
        let tasks: Vec<_> = (0..64)
            .map(|n| {
                let rows = rows.clone();
                tokio::spawn(async move { rows.upsert_async(format!("{n}"), &[1.0, 2.0], json!({})).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(rows.search(&[1.0, 2.0]).k(100).run_async().await.unwrap().len(), 64);
        db.flush().unwrap();
        drop((rows, db));
        let again = Db::open(dir.path()).unwrap();
        assert_eq!(again.collection("rows").unwrap().count().unwrap(), 64);
    });
}
