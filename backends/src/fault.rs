//! A store that misbehaves on purpose, for tests: scripted or seeded faults over any other store.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use akidb_host::Rng;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::class::Op;

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails with this kind; nothing is applied.
    Fail(Cause),
    /// Applied, then the answer is lost or replaced by this.
    ApplyThenFail(Cause),
    /// Puts only: stored with one bit of the body flipped, and reported as fine.
    Flip,
    /// Never answers; nothing is applied.
    Hang,
}

/// What a failing call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connection was reset.
    Reset,
    /// No answer in time.
    Timeout,
    /// Nobody listens.
    Refused,
    /// 403.
    Denied,
    /// 409 or 412: something is there already.
    Exists,
    /// 404.
    NotFound,
}

impl Cause {
    fn error(self, path: &Path) -> Error {
        let io = |kind| Error::Generic { store: "fault", source: Box::new(io::Error::from(kind)) };
        let (path, source) = (path.to_string(), "scripted".into());
        match self {
            Self::Reset => io(io::ErrorKind::ConnectionReset),
            Self::Timeout => io(io::ErrorKind::TimedOut),
            Self::Refused => io(io::ErrorKind::ConnectionRefused),
            Self::Denied => Error::PermissionDenied { path, source },
            Self::Exists => Error::AlreadyExists { path, source },
            Self::NotFound => Error::NotFound { path, source },
        }
    }
}

/// A call that was made, in order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub op: Op,
    /// Of which object.
    pub key: String,
    /// What the script did to it.
    pub fault: Option<Fault>,
}

/// A store whose calls fail as told. Clones share the script and the record.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    rules: VecDeque<Rule>,
    dead: Option<Cause>,
    lying: bool,
    seeded: Option<(Rng, f64)>,
    pattern: Option<(u64, Cause)>,
    met: u64,
    calls: Vec<Call>,
}

struct Rule {
    op: Op,
    key_part: String,
    skip: u64,
    fault: Fault,
}

impl FaultStore {
    /// A store that behaves until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// The next `op` on a key that contains `key_part`, after `skip` such calls, meets `fault`, once.
    pub fn script(&self, op: Op, key_part: &str, skip: u64, fault: Fault) {
        self.lock().rules.push_back(Rule { op, key_part: key_part.to_owned(), skip, fault });
    }

    /// Every call fails with this until `None` is set.
    pub fn set_dead(&self, cause: Option<Cause>) {
        self.lock().dead = cause;
    }

    /// Lying mode: conditional puts ignore their condition.
    pub fn set_lying(&self, lying: bool) {
        self.lock().lying = lying;
    }

    /// Each call meets a random fault with probability `p`, replayed by `seed`; lost answers included.
    pub fn set_seeded(&self, seed: u64, p: f64) {
        self.lock().seeded = (p > 0.0).then(|| (Rng::seeded(seed), p));
    }

    /// So many of each hundred calls fail with this, spread evenly, the same ones in every hundred.
    pub fn set_pattern(&self, fails: Option<(u64, Cause)>) {
        let mut state = self.lock();
        (state.pattern, state.met) = (fails, 0);
    }

    /// The calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        self.lock().calls.clear();
    }

    /// The store beneath.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a call and finds what shall happen to it.
    fn meet(&self, op: Op, path: &Path) -> Option<Fault> {
        let mut state = self.lock();
        let fault = state.fault(op, path);
        state.calls.push(Call { op, key: path.to_string(), fault });
        fault
    }

    async fn around<T>(
        &self,
        op: Op,
        path: &Path,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match self.meet(op, path) {
            None | Some(Fault::Flip) => call.await,
            Some(Fault::Fail(cause)) => Err(cause.error(path)),
            Some(Fault::ApplyThenFail(cause)) => {
                call.await?;
                Err(cause.error(path))
            }
            Some(Fault::Hang) => std::future::pending().await,
        }
    }
}

impl State {
    fn fault(&mut self, op: Op, path: &Path) -> Option<Fault> {
        if let Some(cause) = self.dead {
            return Some(Fault::Fail(cause));
        }
        let matching = |rule: &Rule| rule.op == op && path.as_ref().contains(&rule.key_part);
        if let Some(at) = self.rules.iter().position(matching) {
            if self.rules[at].skip == 0 {
                return self.rules.remove(at).map(|rule| rule.fault);
            }
            self.rules[at].skip -= 1;
        }
        if let Some((fails, cause)) = self.pattern {
            let at = self.met % 100;
            self.met += 1;
            return ((at + 1) * fails / 100 > at * fails / 100).then_some(Fault::Fail(cause));
        }
        let (rng, p) = self.seeded.as_mut()?;
        if rng.f64() >= *p {
            return None;
        }
        Some(match rng.below(6) {
            0 => Fault::Fail(Cause::Reset),
            1 => Fault::Fail(Cause::Refused),
            2 => Fault::Fail(Cause::Timeout),
            3 if op == Op::Put => Fault::Flip,
            3 | 4 => Fault::ApplyThenFail(Cause::Reset),
            _ => Fault::ApplyThenFail(Cause::Timeout),
        })
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        let op = if opts.mode == PutMode::Create { Op::Create } else { Op::Put };
        if self.lock().lying {
            opts.mode = PutMode::Overwrite;
        }
        match self.meet(op, path) {
            None => self.inner.put_opts(path, payload, opts).await,
            Some(Fault::Flip) => self.inner.put_opts(path, flipped(&payload), opts).await,
            Some(Fault::Fail(cause)) => Err(cause.error(path)),
            Some(Fault::ApplyThenFail(cause)) => {
                self.inner.put_opts(path, payload, opts).await?;
                Err(cause.error(path))
            }
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.around(Op::Part, path, self.inner.put_multipart_opts(path, opts)).await?;
        Ok(Box::new(FaultUpload { inner, store: self.clone(), path: path.clone() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let op = if options.head { Op::Head } else { Op::Get };
        self.around(op, path, self.inner.get_opts(path, options)).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let each = paths.and_then(move |path| {
            let store = store.clone();
            async move {
                let one = store.inner.delete_stream(stream::iter([Ok(path.clone())]).boxed());
                store.around(Op::Delete, &path, one.try_collect::<Vec<_>>()).await?;
                Ok(path)
            }
        });
        each.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let path = prefix.cloned().unwrap_or_default();
        match self.meet(Op::List, &path) {
            Some(Fault::Fail(cause) | Fault::ApplyThenFail(cause)) => {
                stream::once(async move { Err(cause.error(&path)) }).boxed()
            }
            Some(Fault::Hang) => stream::pending().boxed(),
            None | Some(Fault::Flip) => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        self.around(Op::List, &path, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.around(Op::Put, to, self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultUpload {
    inner: Box<dyn MultipartUpload>,
    store: FaultStore,
    path: Path,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, path) = (self.store.clone(), self.path.clone());
        match store.meet(Op::Part, &path) {
            None => self.inner.put_part(data),
            Some(Fault::Flip) => self.inner.put_part(flipped(&data)),
            Some(Fault::Fail(cause)) => Box::pin(async move { Err(cause.error(&path)) }),
            Some(Fault::ApplyThenFail(cause)) => {
                let part = self.inner.put_part(data);
                Box::pin(async move { part.await.and_then(|()| Err(cause.error(&path))) })
            }
            Some(Fault::Hang) => Box::pin(std::future::pending()),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (store, path) = (self.store.clone(), self.path.clone());
        store.around(Op::Complete, &path, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

fn flipped(payload: &PutPayload) -> PutPayload {
    let mut bytes: Vec<u8> = payload.iter().flat_map(|chunk| chunk.to_vec()).collect();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    PutPayload::from(bytes)
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({:?})", self.inner)
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}
