//! The tree of spans of one upload, seen by a small subscriber.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use akidb_host::{RealClock, Rng};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::{PublishOptions, Publisher};
use crate::Known;
use crate::test_support::{client_over, faulty, identity, item, plan, real_fs};

#[derive(Default)]
struct Tree {
    next: AtomicU64,
    /// Id -> (name, parent's id).
    spans: Mutex<BTreeMap<u64, (&'static str, Option<u64>)>>,
    entered: Mutex<Vec<u64>>,
}

struct Recorder(Arc<Tree>);

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed) + 1;
        let current = self.0.entered.lock().unwrap().last().copied();
        let parent = span.parent().map(Id::into_u64).or(if span.is_contextual() { current } else { None });
        self.0.spans.lock().unwrap().insert(id, (span.metadata().name(), parent));
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        self.0.entered.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.0.entered.lock().unwrap().pop();
    }
}

#[test]
fn an_upload_is_one_tree_of_spans_with_its_puts_and_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(1);
    let (_, store) = faulty();
    let tree = Arc::new(Tree::default());
    let items = [item(dir.path(), "a.parquet", 10, &mut rng), item(dir.path(), "b.parquet", 10, &mut rng)];
    tracing::subscriber::with_default(Recorder(Arc::clone(&tree)), || {
        let client = client_over(&store, 1);
        let options = PublishOptions::default();
        let clock = Arc::new(RealClock);
        let mut up = Publisher::new(client, real_fs(), clock, identity(1, 1), Known::default(), options);
        let runtime = crate::restore::runtime("t").unwrap();
        runtime.block_on(up.publish(&plan(1, &items))).unwrap();
    });
    let spans = tree.spans.lock().unwrap();
    let name = |id: Option<u64>| id.map_or("", |id| spans[&id].0);
    let mut pairs: Vec<_> = spans.values().map(|(child, parent)| (name(*parent), *child)).collect();
    pairs.retain(|(parent, child)| {
        ["upload", "put", "verify", "commit"].contains(child) || !parent.is_empty()
    });
    pairs.sort_unstable();
    let expected = [
        ("", "upload"),
        ("put", "verify"),
        ("put", "verify"),
        ("upload", "commit"),
        ("upload", "put"),
        ("upload", "put"),
    ];
    assert_eq!(pairs, expected);
}
