//! A store whose calls fail as told, over any other store.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use akidb_host::Rng;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::parts::FaultUpload;
use super::script::{Call, Cause, Fault, Rule, Script};
use crate::class::Op;
use crate::retry::Sleep;

/// How long a call takes, and by what it waits.
pub(super) type Pause = (Arc<dyn Sleep>, Duration);

/// A store whose calls fail as told. Clones share the script and the record of calls.
///
/// What happens to a call, first that applies: dead; a scripted rule; the pattern; the seed.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    pub(super) parts: Option<Arc<dyn MultipartStore>>,
    script: Arc<Mutex<Script>>,
}

impl FaultStore {
    /// A store that behaves until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, parts: None, script: Arc::default() }
    }

    /// The same over a store whose multipart uploads have ids: then it has them too.
    #[must_use]
    pub fn over_parts<T: ObjectStore + MultipartStore>(inner: Arc<T>) -> Self {
        Self { parts: Some(Arc::clone(&inner) as Arc<dyn MultipartStore>), ..Self::new(inner) }
    }

    /// The next `op` on a key that contains `key_part`, after `skip` such calls, meets `fault`, once.
    pub fn script(&self, op: Op, key_part: &str, skip: u64, fault: Fault) {
        self.lock().rules.push_back(Rule { op, key_part: key_part.to_owned(), skip, fault });
    }

    /// The call after `skip` more, whatever it asks, meets `fault`.
    pub fn script_call(&self, skip: usize, fault: Fault) {
        let mut script = self.lock();
        script.at = Some((script.calls.len() + skip, fault));
    }

    /// Every call fails with this until `None` is set.
    pub fn set_dead(&self, cause: Option<Cause>) {
        self.lock().dead = cause;
    }

    /// Every put on a key that contains this meets this, until `None` is set.
    pub fn set_poison(&self, poison: Option<(&str, Fault)>) {
        self.lock().poison = poison.map(|(key_part, fault)| (key_part.to_owned(), fault));
    }

    /// Lying mode: conditional puts ignore their condition.
    pub fn set_lying(&self, lying: bool) {
        self.lock().lying = lying;
    }

    /// Each call meets a random fault with probability `p`, replayed by `seed`; lost answers included.
    pub fn set_seeded(&self, seed: u64, p: f64) {
        self.lock().seeded = (p > 0.0).then(|| (Rng::seeded(seed), p));
    }

    /// So many of each hundred calls of a kind fail with this, spread evenly, the same ones in every hundred.
    pub fn set_pattern(&self, fails: Option<(u64, Cause)>) {
        let mut script = self.lock();
        (script.pattern, script.met) = (fails, [0; 3]);
    }

    /// Every call takes so long, by this way of waiting. Set it again to make a spike.
    pub fn set_latency(&self, sleep: Arc<dyn Sleep>, latency: Duration) {
        self.lock().latency = Some((sleep, latency));
    }

    /// Lists show the store as it was so many changes ago: new objects are missing, removed ones are still named.
    /// Changes are noted from this call on.
    pub fn set_stale_lists(&self, changes: usize) {
        self.lock().stale.list_lag_changes = changes;
    }

    /// The objects made by the last so many changes are not found yet by get and head.
    pub fn set_late_objects(&self, changes: usize) {
        self.lock().stale.get_lag_changes = changes;
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

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call, lets its time pass, and says what shall happen to it.
    pub(super) async fn meet(&self, op: Op, path: &Path) -> Option<Fault> {
        let (fault, pause) = self.meet_now(op, path);
        if let Some((sleep, time)) = pause {
            sleep.pause(time).await;
        }
        fault
    }

    /// The same for calls that are numbered before they are sent: the pause is the caller's.
    pub(super) fn meet_now(&self, op: Op, path: &Path) -> (Option<Fault>, Option<Pause>) {
        let mut script = self.lock();
        let fault = script.meet(op, path);
        let late = if let Some(Fault::Late(time)) = fault { time } else { Duration::ZERO };
        let pause = script.latency.clone().map(|(sleep, usual)| (sleep, usual + late));
        (fault, pause)
    }

    pub(super) async fn around<T>(
        &self,
        op: Op,
        path: &Path,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let fault = self.meet(op, path).await;
        answered(fault, path, call).await
    }

    /// What a list showed for an object before a change, if that is going to be asked.
    async fn before(&self, path: &Path) -> Option<Option<ObjectMeta>> {
        let is_kept = self.lock().stale.is_kept();
        if is_kept { Some(self.inner.head(path).await.ok()) } else { None }
    }

    fn changed(&self, path: &Path, before: Option<Option<ObjectMeta>>) {
        if let Some(before) = before {
            self.lock().stale.note(path, before);
        }
    }
}

/// The answer of a call that meets `fault`.
pub(super) async fn answered<T>(
    fault: Option<Fault>,
    path: &Path,
    call: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    match fault {
        None | Some(Fault::Flip | Fault::Tear | Fault::Late(_)) => call.await,
        Some(Fault::Fail(cause)) => Err(cause.error(path)),
        Some(Fault::ApplyThenFail(cause)) => {
            call.await?;
            Err(cause.error(path))
        }
        Some(Fault::Hang) => std::future::pending().await,
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        let op = if opts.mode == PutMode::Create { Op::Create } else { Op::Put };
        if self.lock().lying {
            opts.mode = PutMode::Overwrite;
        }
        let before = self.before(path).await;
        let fault = self.meet(op, path).await;
        let payload = damaged(fault, payload);
        let put = async {
            let stored = self.inner.put_opts(path, payload, opts).await?;
            self.changed(path, before);
            Ok(stored)
        };
        answered(fault, path, put).await
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
        let fault = self.meet(op, path).await;
        let is_late = self.lock().stale.is_late(path);
        if is_late {
            return Err(Cause::NotFound.error(path));
        }
        let result = answered(fault, path, self.inner.get_opts(path, options)).await?;
        if fault == Some(Fault::Flip) && op == Op::Get { flipped_answer(result).await } else { Ok(result) }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let each = paths.and_then(move |path| {
            let store = store.clone();
            async move {
                let before = store.before(&path).await;
                let one = store.inner.delete_stream(stream::iter([Ok(path.clone())]).boxed());
                let remove = async {
                    one.try_collect::<Vec<_>>().await?;
                    store.changed(&path, before);
                    Ok(())
                };
                store.around(Op::Delete, &path, remove).await?;
                Ok(path)
            }
        });
        each.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let path = prefix.clone().unwrap_or_default();
            let all = store.inner.list(prefix.as_ref()).try_collect::<Vec<_>>();
            let all = store.around(Op::List, &path, all).await?;
            let shown = store.lock().stale.rewind(prefix.as_ref(), all);
            Ok::<_, Error>(stream::iter(shown.into_iter().map(Ok)))
        };
        listed.into_stream().try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        self.around(Op::List, &path, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.around(Op::Put, to, self.inner.copy_opts(from, to, options)).await
    }
}

/// What is stored of a body that meets `fault`.
pub(super) fn damaged(fault: Option<Fault>, payload: PutPayload) -> PutPayload {
    let mut bytes: Vec<u8> = match fault {
        Some(Fault::Flip | Fault::Tear) => payload.iter().flat_map(|chunk| chunk.to_vec()).collect(),
        _ => return payload,
    };
    match fault {
        Some(Fault::Tear) => bytes.truncate(bytes.len() / 2),
        _ => flip(&mut bytes),
    }
    PutPayload::from(bytes)
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
}

async fn flipped_answer(result: GetResult) -> Result<GetResult> {
    let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
    let extensions = result.extensions.clone();
    let mut bytes = result.bytes().await?.to_vec();
    flip(&mut bytes);
    let payload = GetResultPayload::Stream(stream::once(async move { Ok(bytes.into()) }).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions })
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
