//! Large files in parts: at once, bounded in memory, journalled, and never visible before they are whole.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use akidb_host::{Clock, RealClock, Rng};
use async_trait::async_trait;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, PutPayload, PutResult};

use super::parts::Open;
use super::*;
use crate::Backend;
use crate::class::Class;
use crate::fault::{Cause, Fault, FaultStore};
use crate::test_support::{client_of, item, real_fs};

/// Bytes held now and at most.
#[derive(Clone, Debug, Default)]
struct Counted(Arc<Mutex<(u64, u64)>>);

#[derive(Debug)]
struct Piece(Counted, u64);

impl PieceMemory for Counted {
    fn hold(&self, bytes: u64) -> Box<dyn fmt::Debug + Send + Sync> {
        let mut held = self.0.lock().unwrap();
        held.0 += bytes;
        held.1 = held.1.max(held.0);
        Box::new(Piece(self.clone(), bytes))
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().0 -= self.1;
    }
}

fn store() -> FaultStore {
    FaultStore::over_parts(Arc::new(InMemory::new()))
}

impl Putter {
    async fn put(&self, item: &PlanItem) -> Result<()> {
        crate::publish::item::put(self, &RealClock, item).await.map_err(|failed| failed.error)
    }
}

fn putter(store: &FaultStore, part_len_bytes: usize) -> Putter {
    let backend = Backend::from_parts_store("t", Arc::new(store.clone()));
    Putter::new(client_of(backend, 1), real_fs(), part_len_bytes, 256 << 20)
}

async fn is_right(store: &FaultStore, item: &PlanItem) -> bool {
    let stored = store.inner().get(&item.key.as_str().into()).await.unwrap().bytes().await.unwrap();
    stored == std::fs::read(&item.local).unwrap()
}

fn count(store: &FaultStore, op: Op) -> usize {
    store.calls().iter().filter(|call| call.op == op).count()
}

#[tokio::test]
async fn a_part_that_fails_is_sent_again_alone_and_the_object_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(1);
    for (at, op, fault) in [
        (0, Op::Part, Fault::Fail(Cause::Reset)),
        (1, Op::Part, Fault::Fail(Cause::Reset)),
        (5, Op::Part, Fault::ApplyThenFail(Cause::Timeout)),
        (0, Op::Complete, Fault::Fail(Cause::Reset)),
        (0, Op::Complete, Fault::Fail(Cause::SLOW_DOWN)),
        (0, Op::Complete, Fault::ApplyThenFail(Cause::NotFound)),
    ] {
        let store = store();
        let item = item(dir.path(), "a.parquet", 9_000, &mut rng);
        store.script(op, "a.parquet", at, fault);
        putter(&store, 1_000).put(&item).await.unwrap();
        assert!(is_right(&store, &item).await, "{fault:?}");
        let again = usize::from(op == Op::Part);
        assert_eq!(count(&store, Op::Part), 1 + 9 + again, "{fault:?}: one start, nine parts");
        let completions = if matches!(fault, Fault::Fail(_)) { 2 - again } else { 1 };
        assert_eq!(count(&store, Op::Complete), completions, "{fault:?}");
    }
}

#[tokio::test]
async fn a_part_that_never_arrives_ends_the_put_and_its_upload_is_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let store = store();
    let item = item(dir.path(), "a.parquet", 9_000, &mut Rng::seeded(2));
    let journal = Arc::new(Multiparts::open(real_fs(), dir.path(), "t"));
    let putter = Putter { multiparts: Some(Arc::clone(&journal)), ..putter(&store, 1_000) };
    for n in 0..30 {
        store.script(Op::Part, "a.parquet", if n == 0 { 3 } else { 0 }, Fault::Fail(Cause::Reset));
    }
    let error = putter.put(&item).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(count(&store, Op::Part) <= 1 + 9 * 3, "each part at most as often as the schedule says");
    assert_eq!((count(&store, Op::Delete), count(&store, Op::Complete)), (1, 0));
    assert_eq!((journal.leftovers(), journal.under_way()), (0, 0));
    assert!(store.inner().head(&item.key.as_str().into()).await.is_err(), "nothing is visible");
}

#[tokio::test]
async fn an_upload_that_cannot_be_aborted_is_left_to_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = store();
    let item = item(dir.path(), "a.parquet", 9_000, &mut Rng::seeded(3));
    let journal = Arc::new(Multiparts::open(real_fs(), dir.path(), "t"));
    let putter = Putter { multiparts: Some(Arc::clone(&journal)), ..putter(&store, 1_000) };
    store.script(Op::Part, "a.parquet", 2, Fault::Fail(Cause::Denied));
    store.script(Op::Delete, "a.parquet", 0, Fault::Fail(Cause::Reset));
    assert_eq!(putter.put(&item).await.unwrap_err().class(), Class::Auth);
    assert_eq!(journal.leftovers(), 1);
    let again = Multiparts::open(real_fs(), dir.path(), "t");
    assert_eq!(again.abort_leftovers(&putter.client, RealClock.now()).await.aborted, 1);
}

/// A store whose parts wait until so many are under way at once, and that counts them and their bytes.
struct Meeting {
    inner: InMemory,
    awaited: usize,
    under_way: AtomicUsize,
    bytes: AtomicUsize,
    most: AtomicUsize,
}

impl fmt::Debug for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meeting")
    }
}

#[async_trait]
impl MultipartStore for Meeting {
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        self.inner.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        index: usize,
        part: PutPayload,
    ) -> object_store::Result<PartId> {
        let len = part.content_length();
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let bytes = self.bytes.fetch_add(len, Ordering::SeqCst) + len;
        self.most.fetch_max(bytes, Ordering::SeqCst);
        // The first ones wait for each other: parts in turn would never end this.
        while index < self.awaited && self.under_way.load(Ordering::SeqCst) < self.awaited {
            tokio::task::yield_now().await;
        }
        // Each takes its time, so that all that may be under way are.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let done = self.inner.put_part(path, id, index, part).await;
        self.bytes.fetch_sub(len, Ordering::SeqCst);
        done
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> object_store::Result<PutResult> {
        self.inner.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        self.inner.abort_multipart(path, id).await
    }
}

#[tokio::test]
async fn parts_go_at_once_and_no_more_bytes_are_in_memory_than_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let meeting = Arc::new(Meeting {
        inner: InMemory::new(),
        awaited: 4,
        under_way: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let backend = Backend::from_store("t", Arc::new(InMemory::new()) as Arc<dyn ObjectStore>);
    // Room for four parts of four units each, while two files are under way with four parts each.
    let part = 4 * usize::try_from(UNIT_LEN_BYTES).unwrap();
    let held = Arc::new(Counted::default());
    let putter = Putter {
        held_by: Some(Arc::clone(&held) as _),
        ..Putter::new(client_of(backend, 1), real_fs(), part, 16 * UNIT_LEN_BYTES)
    };
    let mut rng = Rng::seeded(4);
    let items = [item(dir.path(), "a", 2 << 20, &mut rng), item(dir.path(), "b", 2 << 20, &mut rng)];
    let path = Path::from("x");
    let send = |n: usize| {
        let (putter, meeting, path) = (&putter, &meeting, &path);
        let item = &items[n];
        async move {
            let open = Open {
                parts: meeting.as_ref(),
                path,
                id: meeting.create_multipart(path).await.unwrap(),
                begun: None,
            };
            putter.send_all(item, &open).await.unwrap()
        }
    };
    let ((ids, tail), _) = futures::future::join(send(0), send(1)).await;
    let part_len = putter.part_len(2 << 20).unwrap();
    assert_eq!(ids.len(), (2usize << 20).div_ceil(part_len));
    assert_eq!(&tail[..], &std::fs::read(&items[0].local).unwrap()[(2 << 20) - TAIL_LEN_BYTES..]);
    let most = meeting.most.load(Ordering::SeqCst);
    println!("at most {most} bytes of parts of {part_len} were under way");
    assert!(most <= 16 * usize::try_from(UNIT_LEN_BYTES).unwrap());
    let held = held.0.lock().unwrap();
    assert!(held.1 >= most as u64 && held.1 <= 16 * UNIT_LEN_BYTES, "told of what is in memory: {held:?}");
    assert_eq!(held.0, 0, "and of its end");
}

#[tokio::test]
async fn chaos_half_written_multipart_dropped_at_any_step_is_never_visible_and_the_next_start_aborts_it() {
    let mut steps_with_leftovers = 0;
    for step in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let store = store();
        // Each call takes two turns, so that the drop also falls into the middle of a call.
        store.set_latency(Arc::new(crate::test_support::NoSleep::default()), Duration::from_secs(1));
        let item = item(dir.path(), "a.parquet", 4_000, &mut Rng::seeded(5));
        let journal = Arc::new(Multiparts::open(real_fs(), dir.path(), "t"));
        let putter = Putter { multiparts: Some(Arc::clone(&journal)), ..putter(&store, 1_000) };
        let ended = {
            let mut put = std::pin::pin!(putter.put(&item));
            let mut ended = false;
            for _ in 0..step {
                ended = poll_fn(|cx| Poll::Ready(put.as_mut().poll(cx).is_ready())).await;
                if ended {
                    break;
                }
                tokio::task::yield_now().await;
            }
            ended
        };
        let is_complete = store.inner().head(&item.key.as_str().into()).await.is_ok();
        assert!(!is_complete || is_right(&store, &item).await, "step {step}: half an object is visible");
        // The process dies here; the next one reads the journal.
        let again = Multiparts::open(real_fs(), dir.path(), "t");
        let left = again.leftovers();
        steps_with_leftovers += usize::from(left > 0);
        store.set_latency(Arc::new(crate::test_support::NoSleep::default()), Duration::ZERO);
        if !is_complete {
            assert_eq!(
                usize_of("t", again.abort_leftovers(&putter.client, RealClock.now()).await.aborted).unwrap(),
                left
            );
        }
        if ended {
            assert!(is_complete && left == 0);
            break;
        }
    }
    println!("dropped with an upload under way at {steps_with_leftovers} steps");
    assert!(steps_with_leftovers > 3);
}

#[tokio::test]
async fn puts_that_wait_for_memory_hold_no_file_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(6);
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&opened);
    let hook = move |call: &akidb_host::sim::Call<'_>| {
        counted.fetch_add(usize::from(call.op == akidb_host::sim::Op::Open), Ordering::SeqCst);
        akidb_host::sim::Act::Go
    };
    let fs = Arc::new(akidb_host::sim::HookFs::new(real_fs(), Arc::new(hook)));
    let store = store();
    let backend = Backend::from_parts_store("t", Arc::new(store.clone()));
    // Room for one of them, which is never answered.
    let putter = Putter::new(client_of(backend, 1), fs, 1 << 20, UNIT_LEN_BYTES);
    store.script(Op::Put, "", 0, Fault::Hang);
    let items: Vec<_> = (0..8).map(|n| item(dir.path(), &n.to_string(), 900, &mut rng)).collect();
    let mut puts = std::pin::pin!(futures::future::join_all(items.iter().map(|item| putter.put(item))));
    for _ in 0..100 {
        assert!(poll_fn(|cx| Poll::Ready(puts.as_mut().poll(cx))).await.is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!((count(&store, Op::Put), opened.load(Ordering::SeqCst)), (1, 1));
}
