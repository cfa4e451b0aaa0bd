//! One tree of spans a write, a search and a flush, seen by a small subscriber.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use akidb::{Db, ErrorKind, Metric, Schema};
use akidb_host::sim::{Act, Hook, HookFs, Op};
use akidb_host::{RealClock, RealFs, RealSpawn};
use serde_json::json;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[derive(Default)]
struct Tree {
    /// Name and parent of each span; its id is its place, from 1.
    spans: Vec<(&'static str, Option<u64>)>,
    entered: Vec<u64>,
}

/// Installed for one thread, so the spans of others do not get between.
struct Recorder(Arc<Mutex<Tree>>);

impl Recorder {
    fn with<T>(&self, run: impl FnOnce(&mut Tree) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, meta: &Metadata<'_>) -> bool {
        meta.target().starts_with("akidb")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.with(|tree| {
            let current = if span.is_contextual() { tree.entered.last().copied() } else { None };
            let parent = span.parent().map(Id::into_u64).or(current);
            tree.spans.push((span.metadata().name(), parent));
            Id::from_u64(tree.spans.len() as u64)
        })
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        self.with(|tree| tree.entered.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        self.with(|tree| tree.entered.pop());
    }
}

/// How often each "parent > child" came up while `work` ran.
fn tree_of(work: impl FnOnce()) -> BTreeMap<String, usize> {
    let tree = Arc::new(Mutex::new(Tree::default()));
    tracing::subscriber::with_default(Recorder(Arc::clone(&tree)), work);
    let tree = tree.lock().unwrap();
    assert!(tree.entered.is_empty(), "every span entered was left");
    let mut pairs = BTreeMap::new();
    for (name, parent) in &tree.spans {
        let parent = parent.map_or("", |id| tree.spans[id as usize - 1].0);
        *pairs.entry(format!("{parent} > {name}")).or_insert(0) += 1;
    }
    pairs
}

fn expected(pairs: &[&str]) -> BTreeMap<String, usize> {
    pairs.iter().map(|pair| ((*pair).to_owned(), 1)).collect()
}

/// Set in the process that holds this test alone.
const ALONE: &str = "AKIDB_SPANS_ALONE";

/// In a process of its own: a thread of another test that meets a span first, while a recorder is being installed here,
/// would have it remembered as one that nobody wants.
#[test]
fn a_write_a_search_and_a_flush_are_one_tree_of_spans_each() {
    if std::env::var_os(ALONE).is_some() {
        return trees();
    }
    let test = "spans::a_write_a_search_and_a_flush_are_one_tree_of_spans_each";
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&alone.stdout);
    assert!(
        alone.status.success() && told.contains("1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&alone.stderr)
    );
}

fn trees() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    // Every span once before the recorder: a span first met by another test's thread, which records nothing, would be
    // remembered as one that nobody wants.
    rows.upsert("warm", &[1.0, 2.0], json!({})).unwrap();
    rows.search(&[0.0, 0.0]).run().unwrap();
    db.flush().unwrap();
    rows.delete("warm").unwrap();
    db.flush().unwrap();

    let write = tree_of(|| assert!(rows.upsert("a", &[1.0, 2.0], json!({})).is_ok()));
    assert_eq!(write, expected(&[" > write", "write > append", "write > sync"]));
    let delete = tree_of(|| assert!(rows.delete("a").unwrap()));
    assert_eq!(delete, expected(&[" > write", "write > append", "write > sync"]));
    rows.upsert("b", &[3.0, 4.0], json!({})).unwrap();

    let search = tree_of(|| assert_eq!(rows.search(&[0.0, 0.0]).run().unwrap().len(), 1));
    assert_eq!(search, expected(&[" > search", "search > scan", "search > fetch"]));

    // The driver may be awake, and the first to flush what the call sealed: then another row is written.
    let mut flushes = (0..100).map(|n| {
        rows.upsert(format!("b{n}"), &[3.0, 4.0], json!({})).unwrap();
        tree_of(|| db.flush().unwrap())
    });
    let flush = flushes.find(|tree| !tree.is_empty());
    assert_eq!(
        flush.unwrap_or_default(),
        expected(&[" > flush", "flush > segment", "segment > index", "flush > manifest", "flush > truncate"])
    );

    assert_eq!(
        refused_flush(),
        expected(&[" > flush", "flush > segment"]),
        "no index for a file that is not there"
    );

    let refused = tree_of(|| assert!(rows.upsert("c", &[1.0], json!({})).is_err()));
    assert_eq!(refused, expected(&[" > write"]), "a refused write appends nothing");
}

/// The spans of a flush whose segment's file cannot be created.
fn refused_flush() -> BTreeMap<String, usize> {
    const EMFILE: i32 = 24;
    let dir = tempfile::tempdir().unwrap();
    let (is_out_of_files, failures) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (hooked, failed) = (Arc::clone(&is_out_of_files), Arc::clone(&failures));
    let hook: Hook = Arc::new(move |call| {
        let is_segment = call.path.to_string_lossy().ends_with(".parquet.tmp");
        if !(hooked.load(Ordering::SeqCst) && is_segment && call.op == Op::CreateNew) {
            return Act::Go;
        }
        failed.store(true, Ordering::SeqCst);
        Act::Fail(EMFILE)
    });
    let fs = Arc::new(HookFs::new(Arc::new(RealFs), hook));
    let builder = Db::builder(dir.path()).components(fs, Arc::new(RealClock), Arc::new(RealSpawn));
    let db = builder.open().unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    rows.upsert("a", &[1.0, 2.0], json!({})).unwrap();
    is_out_of_files.store(true, Ordering::SeqCst);
    let tree = tree_of(|| assert_eq!(db.flush().unwrap_err().kind(), ErrorKind::Unavailable));
    assert!(failures.load(Ordering::SeqCst));
    is_out_of_files.store(false, Ordering::SeqCst);
    db.flush().unwrap();
    tree
}
