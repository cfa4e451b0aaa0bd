//! One call to a store, with its deadline, its class and its repetitions.

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use akidb_host::Rng;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::{Either, select};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::backend::Backend;
use crate::budget::Budget;
use crate::class::{Class, Op};
use crate::error::{Error, ErrorKind, Result};
use crate::retry::{Schedule, Sleep, Tries, classify};

/// A backend with the schedule, the retry budget, the waiting and the randomness its calls use. Clones share them.
#[derive(Clone, Debug)]
pub struct Client {
    backend: Backend,
    schedule: Schedule,
    budget: Arc<Budget>,
    sleep: Arc<dyn Sleep>,
    rng: Arc<Mutex<Rng>>,
}

impl Client {
    /// A client of `backend`; the number of attempts is the backend's.
    #[must_use]
    pub fn new(backend: Backend, sleep: Arc<dyn Sleep>, rng: Rng) -> Self {
        let schedule = Schedule { attempts: backend.attempts(), ..Schedule::default() };
        Self { backend, schedule, budget: Arc::default(), sleep, rng: Arc::new(Mutex::new(rng)) }
    }

    /// Its backend.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The same client for work that can wait: it gets a quarter of the places at most.
    pub(crate) fn background(&self) -> Self {
        Self { backend: self.backend.background(), ..self.clone() }
    }

    /// Whether so many attempts have failed that the call is given up.
    pub(crate) fn is_spent(&self, tries: &Tries) -> bool {
        tries.failed() >= self.schedule.attempts
    }

    /// Tokens left in its retry budget.
    #[must_use]
    pub fn budget_tokens(&self) -> u64 {
        self.budget.tokens()
    }

    pub(crate) fn name(&self) -> &str {
        self.backend.name()
    }

    pub(crate) fn sleep(&self) -> &Arc<dyn Sleep> {
        &self.sleep
    }

    /// The pause after one more failed attempt, or `None` to give up: the attempts are used up, repeating cannot
    /// help, or the backend's retry budget is empty. What this machine's disk said is not charged to the backend.
    pub(crate) fn pause_after(&self, error: &Error, tries: &mut Tries) -> Option<Duration> {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = self.schedule.next(tries, error.class(), error.retry_after(), &mut rng)?;
        (error.disk().is_some() || self.budget.spend(error.class())).then_some(pause)
    }

    /// 128 random bits as 32 hex digits.
    pub(crate) fn random_id(&self) -> String {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{:016x}{:016x}", rng.u64(), rng.u64())
    }

    /// A number in `[0, 1)`.
    pub(crate) fn random_fraction(&self) -> f64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    /// One attempt, moving about `len` bytes. A guarded store sets the deadline itself.
    pub(crate) async fn once<T>(
        &self,
        op: Op,
        key: &str,
        len: u64,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        let answer = match self.backend.guard() {
            Some(_) => call.await,
            None => self.within(op, key, len, call).await?,
        };
        match answer {
            Ok(value) => {
                self.budget.earn();
                Ok(value)
            }
            Err(error) => Err(Error::store(self.name(), op, key, classify(&error, op), error)),
        }
    }

    async fn within<T>(
        &self,
        op: Op,
        key: &str,
        len: u64,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<object_store::Result<T>> {
        let limit = Schedule::deadline(len);
        match select(pin!(call), self.sleep.deadline(limit)).await {
            Either::Left((answer, _)) => Ok(answer),
            Either::Right(_) => {
                let class = op.unanswered(Class::Timeout);
                let what = format!("{op}: no answer within {} s", limit.as_secs());
                Err(Error::new(ErrorKind::Unavailable, class, self.name(), what).at(key))
            }
        }
    }

    /// Attempts `call` as often as the schedule says.
    pub(crate) async fn repeat<T, F, Fut>(&self, op: Op, key: &str, len: u64, mut call: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = object_store::Result<T>>,
    {
        let mut tries = Tries::default();
        loop {
            let error = match self.once(op, key, len, call()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match self.pause_after(&error, &mut tries) {
                Some(pause) => {
                    tracing::debug!(%error, ?tries, "trying again");
                    self.sleep.pause(pause).await;
                }
                None => return Err(error),
            }
        }
    }

    /// The key as the store's path.
    pub(crate) fn path(&self, key: &str) -> Result<Path> {
        Path::parse(key).map_err(|e| Error::invalid(self.name(), "not an object key").at(key).because(e))
    }

    /// The whole object, or `None` if it is not there.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let path = self.path(key)?;
        let read = || async {
            let store = self.backend.store();
            store.get(&path).await?.bytes().await
        };
        absent_as_none(self.repeat(Op::Get, key, 0, read).await)
    }

    /// Bytes `range` of an object.
    pub(crate) async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let path = self.path(key)?;
        let len = range.end.saturating_sub(range.start);
        self.repeat(Op::Get, key, len, || self.backend.store().get_range(&path, range.clone())).await
    }

    /// Size and date of an object, or `None` if it is not there.
    pub(crate) async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let path = self.path(key)?;
        absent_as_none(self.repeat(Op::Head, key, 0, || self.backend.store().head(&path)).await)
    }

    /// Everything under a prefix, in no order.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        let path = self.path(prefix)?;
        let all = self
            .repeat(Op::List, prefix, 64 << 20, || {
                self.backend.store().list(Some(&path)).try_collect::<Vec<_>>()
            })
            .await;
        Ok(absent_as_none(all)?.unwrap_or_default())
    }

    /// One attempt to store an object.
    pub(crate) async fn put_once(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<()> {
        let path = self.path(key)?;
        let op = if mode == PutMode::Create { Op::Create } else { Op::Put };
        let len = bytes.len() as u64;
        let options = PutOptions::from(mode);
        let put = self.backend.store().put_opts(&path, PutPayload::from_bytes(bytes), options);
        self.once(op, key, len, put).await.map(|_| ())
    }

    /// Removes an object; one that is not there is removed already.
    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        let deleted = self.repeat(Op::Delete, key, 0, || self.backend.store().delete(&path)).await;
        absent_as_none(deleted).map(|_| ())
    }
}

fn absent_as_none<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        // A missing bucket is `NotFound` too, but no answer to the question.
        Err(error) if error.class() == Class::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
