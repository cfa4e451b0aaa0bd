//! The child: a database over a store and a disk that count the calls and kill the process at one of them.

use std::fmt;
use std::io::Write;
use std::path::Path as LocalPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use akidb::object_store::path::Path;
use akidb::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use akidb::{Db, ErrorKind, Which};
use akidb_host::sim::{Act, Call, HookFs, Op, kill_at};
use akidb_host::{Fs, RealClock, RealFs, RealSpawn};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::workload::{STEPS, Step, write};
use super::{LONG, Plan, When, settings, store_of};

/// What is counted of the local disk: segments and deletion vectors, manifests, notes of uploads, letters.
pub(super) const PARTS: [&str; 4] = ["collections", "manifest", "uploads", "dlq"];

/// Lives until the plan's call, or to the end. Tells each step that is over.
pub(super) fn live(plan: &Plan) {
    let store = KillStore::new(plan);
    let fs: Arc<dyn Fs> = Arc::new(HookFs::new(Arc::new(RealFs), hook(plan)));
    let open = || {
        Db::builder(&plan.dir)
            .settings(settings())
            .components(Arc::clone(&fs), Arc::new(RealClock), Arc::new(RealSpawn))
            .store("copies", Arc::new(store.clone()))
            .open()
            .unwrap()
    };
    let mut db = open();
    for (at, step) in STEPS.into_iter().enumerate() {
        match step {
            Step::Flush => db.flush().unwrap(),
            Step::Uploaded => db.wait_uploaded(LONG).unwrap(),
            Step::Letter => {
                while db.backends().dead_letters().unwrap().stats().size == 0 {
                    let refused = db.wait_uploaded(Duration::ZERO).expect_err("a file was refused");
                    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
                    std::thread::yield_now();
                }
                assert_eq!(db.backends().retry_all(&Which::all()).unwrap(), 1);
            }
            Step::Reopen => {
                db.close().unwrap();
                db = open();
            }
            Step::Create(_) | Step::Put(..) | Step::Delete(..) => write(&db, at, step),
        }
        say(&format!("#done {}", at + 1));
    }
    db.close().unwrap();
    say("#end");
}

/// The start of a line of its own: the harness prints too.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

fn hook(plan: &Plan) -> Arc<dyn Fn(&Call<'_>) -> Act + Send + Sync> {
    let (dir, when) = (plan.dir.clone(), plan.when);
    let k = if plan.is_file { plan.k } else { 0 };
    let calls = AtomicU64::new(0);
    Arc::new(move |call: &Call<'_>| {
        let Ok(path) = call.path.strip_prefix(&dir) else { return Act::Go };
        if !call.op.changes() || !PARTS.iter().any(|part| path.starts_with(part)) {
            return Act::Go;
        }
        let n = calls.fetch_add(1, Ordering::Relaxed) + 1;
        say(&format!("#file {:?} {}", call.op, path.display()));
        if n != k {
            return Act::Go;
        }
        say(&format!("#kill {when:?} {:?} {}", call.op, path.display()));
        match when {
            When::Before => Act::Kill,
            When::Midway => Act::KillMidway,
            When::After => Act::KillAfter,
        }
    })
}

/// The backend's own store with a count. The first put of one collection's segment is refused, once.
#[derive(Clone)]
struct KillStore(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    k: u64,
    when: When,
    calls: AtomicU64,
    refused: AtomicBool,
}

impl KillStore {
    fn new(plan: &Plan) -> Self {
        let (k, when) = (if plan.is_file { 0 } else { plan.k }, plan.when);
        let (calls, refused) = (AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(Inner { store: store_of(&plan.backend), k, when, calls, refused }))
    }

    /// Counts a call, dies before it if that is the plan, and says whether to die after it.
    fn meet(&self, op: &str, path: &Path) -> Option<When> {
        let n = self.0.calls.fetch_add(1, Ordering::Relaxed) + 1;
        say(&format!("#store {op} {path}"));
        let when = (n == self.0.k).then_some(self.0.when);
        if when == Some(When::Before) {
            die(When::Before, op, path);
        }
        when
    }

    async fn around<T>(&self, op: &str, path: &Path, call: impl Future<Output = Result<T>>) -> Result<T> {
        let when = self.meet(op, path);
        let done = call.await;
        match when {
            Some(when) => die(when, op, path),
            None => done,
        }
    }

    fn is_refused(&self, path: &Path) -> bool {
        path.as_ref().contains("-more/") && !self.0.refused.swap(true, Ordering::Relaxed)
    }
}

fn die(when: When, op: &str, path: &Path) -> ! {
    say(&format!("#kill {when:?} {op} {path}"));
    let fs = HookFs::new(Arc::new(RealFs), kill_at(1, |op| op == Op::Metadata));
    let _ = fs.metadata(LocalPath::new("/"));
    unreachable!("killed")
}

/// What a store holds whose puts are not one step.
fn half_of(payload: &PutPayload) -> PutPayload {
    let whole: Vec<u8> = payload.iter().flat_map(|part| part.to_vec()).collect();
    PutPayload::from(whole[..whole.len() / 2].to_vec())
}

#[async_trait]
impl ObjectStore for KillStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let op = if opts.mode == PutMode::Create { "create" } else { "put" };
        let when = self.meet(op, path);
        let payload = if when == Some(When::Midway) { half_of(&payload) } else { payload };
        let done = if self.is_refused(path) {
            Err(Error::NotSupported { source: "refused once".into() })
        } else {
            self.0.store.put_opts(path, payload, opts).await
        };
        match when {
            Some(when) => die(when, op, path),
            None => done,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.around("multipart", path, self.0.store.put_multipart_opts(path, opts)).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let op = if options.head { "head" } else { "get" };
        self.around(op, path, self.0.store.get_opts(path, options)).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let each = paths.and_then(move |path| {
            let store = store.clone();
            async move {
                store.around("delete", &path, store.0.store.delete(&path)).await?;
                Ok(path)
            }
        });
        each.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let all = store.0.store.list(prefix.as_ref()).try_collect::<Vec<_>>();
            let all = store.around("list", &prefix.clone().unwrap_or_default(), all).await?;
            Ok::<_, Error>(stream::iter(all.into_iter().map(Ok)))
        };
        listed.into_stream().try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        self.around("list", &path, self.0.store.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.around("copy", to, self.0.store.copy_opts(from, to, options)).await
    }
}

impl fmt::Debug for KillStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KillStore({:?})", self.0.store)
    }
}

impl fmt::Display for KillStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KillStore({})", self.0.store)
    }
}
