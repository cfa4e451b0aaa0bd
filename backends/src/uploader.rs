//! The background uploader of one backend: a thread with its own runtime, fed by a slot that holds the newest
//! plan only.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use akidb_host::{Clock, Fs, Job, Spawn};
use futures::future::{Either, select};
use tokio::sync::Notify;

use crate::class::Class;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::known::Known;
use crate::numbered::Identity;
use crate::plan::FilePlan;
use crate::publish::{PublishOptions, Published, Publisher};
use crate::restore::runtime;

/// First pause after a plan failed; doubles to [`PLAN_PAUSE_CAP`].
const PLAN_PAUSE: Duration = Duration::from_secs(1);
const PLAN_PAUSE_CAP: Duration = Duration::from_secs(60);
/// A breaker that may be asked again at once is not asked in a loop.
const PLAN_PAUSE_LEAST: Duration = Duration::from_millis(100);

/// What an uploader works with.
#[derive(Debug)]
pub struct UploaderParts {
    /// The backend, with its schedule and its waiting.
    pub client: Client,
    /// Where the local files are read.
    pub fs: Arc<dyn Fs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who publishes.
    pub identity: Identity,
    /// What `uploads/<backend>.json` held, or empty.
    pub known: Known,
    /// How plans are published.
    pub options: PublishOptions,
    /// The least time between two remote documents. Default in the engine: 2 s.
    pub remote_commit_interval: Duration,
}

/// Where an uploader stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The newest local manifest that this open has put on the backend.
    pub published_local_number: Option<u64>,
    /// The remote document that names it (or the claim).
    pub remote_number: Option<u64>,
    /// The newest plan that is not on the backend yet.
    pub target_local_number: Option<u64>,
    /// Files of that plan that are not on the backend.
    pub pending_files: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Files put since the start.
    pub files_put: u64,
    /// Their bytes.
    pub bytes_put: u64,
    /// Failed plans in a row.
    pub failures: u32,
    /// Why the last attempt failed; none after a success.
    pub last_error: Option<Error>,
    /// Set once another writer, or another database, owns the backend: nothing more is published from here.
    pub refused: Option<Error>,
}

/// The uploader of one backend. Dropping it asks its thread to end and does not wait, anywhere.
pub struct Uploader {
    shared: Arc<Shared>,
    job: Box<dyn Job>,
}

struct Shared {
    backend: String,
    slot: Mutex<Slot>,
    /// Told whenever the slot changed.
    changed: Condvar,
    /// Wakes the thread.
    wake: Notify,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Slot {
    /// The newest plan not published yet: the one being worked on, or the one that replaces it.
    target: Option<Arc<FilePlan>>,
    /// Somebody waits: do not pause before the next attempt.
    hurry: bool,
    stopping: bool,
    ended: bool,
    status: Status,
}

impl Uploader {
    /// Starts the thread. It claims the backend at once, and again and again until that succeeds.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(spawn: &dyn Spawn, parts: UploaderParts) -> io::Result<Self> {
        let UploaderParts { client, fs, clock, identity, known, options, remote_commit_interval } = parts;
        let publisher = Publisher::new(client.clone(), fs, clock, identity, known, options);
        let shared = Arc::new(Shared {
            backend: client.name().to_owned(),
            slot: Mutex::default(),
            changed: Condvar::new(),
            wake: Notify::new(),
            known: publisher.known(),
        });
        let worker = Worker { client, publisher, shared: Arc::clone(&shared), remote_commit_interval };
        let name = format!("akidb-up-{}", shared.backend);
        let job = spawn.job(&name, Box::new(move || worker.run()))?;
        Ok(Self { shared, job })
    }

    /// Makes `plan` the one to publish next, in place of an older one that is not under way yet. Never blocks.
    pub fn offer(&self, plan: FilePlan) {
        let mut slot = self.shared.lock();
        let newer = slot.target.as_ref().is_none_or(|target| target.local_number <= plan.local_number)
            && slot.status.published_local_number <= Some(plan.local_number);
        if newer && slot.status.refused.is_none() {
            slot.target = Some(Arc::new(plan));
        }
        drop(slot);
        self.shared.wake.notify_one();
    }

    /// Blocks until the backend holds local manifest `local_number` or a newer one, skipping the pauses.
    ///
    /// # Errors
    /// `Fenced` or `Conflict` if it never will; `Unavailable` after `timeout` (the upload goes on); `Closed`
    /// if the uploader was stopped.
    pub fn wait_published(&self, local_number: u64, timeout: Duration) -> Result<()> {
        let mut slot = self.shared.lock();
        slot.hurry = true;
        self.shared.wake.notify_one();
        let open = |slot: &mut Slot| {
            let done = slot.status.published_local_number >= Some(local_number);
            !done && slot.status.refused.is_none() && !slot.ended
        };
        slot = self
            .shared
            .changed
            .wait_timeout_while(slot, timeout, open)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if slot.status.published_local_number >= Some(local_number) {
            return Ok(());
        }
        if let Some(refused) = &slot.status.refused {
            return Err(refused.clone());
        }
        let (kind, what) = match slot.ended {
            true => (ErrorKind::Closed, "the uploader has ended".to_owned()),
            false => {
                (ErrorKind::Unavailable, format!("not uploaded within {} s; it goes on", timeout.as_secs()))
            }
        };
        let error = Error::new(kind, Class::Timeout, &self.shared.backend, what);
        Err(match slot.status.last_error.clone() {
            Some(cause) => error.because(cause),
            None => error,
        })
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let slot = self.shared.lock();
        let mut status = slot.status.clone();
        if let Some(target) = &slot.target {
            let known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
            let pending = target.items.iter().filter(|item| !known.has(item));
            (status.pending_files, status.pending_bytes) =
                pending.fold((0, 0), |(files, bytes), item| (files + 1, bytes + item.len));
            status.target_local_number = Some(target.local_number);
        }
        status
    }

    /// What to keep in `uploads/<backend>.json`; losing it costs a few requests.
    #[must_use]
    pub fn known_json(&self) -> Vec<u8> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).to_json()
    }

    /// Ends the thread and waits for it; a call under way is dropped, and the next open settles it.
    pub fn stop(&self) {
        self.ask_to_stop();
        let _ = self.job.join();
    }

    fn ask_to_stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

impl fmt::Debug for Uploader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploader").field("backend", &self.shared.backend).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the slot and tells those who wait.
    fn change(&self, change: impl FnOnce(&mut Slot)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Tells those who wait that the thread is over, however it ends.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.change(|slot| slot.ended = true);
    }
}

struct Worker {
    client: Client,
    publisher: Publisher,
    shared: Arc<Shared>,
    remote_commit_interval: Duration,
}

/// What the thread does next.
enum Step {
    Stop,
    Idle,
    Claim,
    Publish(Arc<FilePlan>),
}

impl Worker {
    fn run(self) {
        let shared = Arc::clone(&self.shared);
        let _ended = Ended(Arc::clone(&shared));
        match runtime(&shared.backend) {
            Ok(runtime) => runtime.block_on(self.work()),
            Err(error) => shared.change(|slot| slot.status.last_error = Some(error)),
        }
    }

    async fn work(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let done = match self.step() {
                Step::Stop => return,
                Step::Idle => {
                    shared.wake.notified().await;
                    continue;
                }
                Step::Claim => {
                    let claim = self.publisher.claim();
                    let Some(done) = unless_stopped(&shared, claim).await else { return };
                    done.map(|()| None)
                }
                Step::Publish(plan) => {
                    let publish = self.publisher.publish(&plan);
                    let Some(done) = unless_stopped(&shared, publish).await else { return };
                    done.map(Some)
                }
            };
            let pause = self.note(done);
            self.pause(pause).await;
        }
    }

    fn step(&self) -> Step {
        let mut slot = self.shared.lock();
        if slot.stopping {
            return Step::Stop;
        }
        if slot.status.refused.is_some() {
            return Step::Idle;
        }
        // One hurry is one attempt, whatever it comes to.
        slot.hurry = false;
        match &slot.target {
            Some(plan) => Step::Publish(Arc::clone(plan)),
            None if slot.status.remote_number.is_none() => Step::Claim,
            None => Step::Idle,
        }
    }

    /// Writes down what came of a step, and says how long to pause before the next.
    fn note(&self, done: Result<Option<Published>>) -> Duration {
        let newest = self.publisher.newest();
        let mut pause = Duration::ZERO;
        self.shared.change(|slot| {
            let status = &mut slot.status;
            // What an earlier open published does not count as ours: the directory may have been restored
            // from an older copy, whose numbers mean other manifests.
            if let Some((remote, _)) = newest {
                status.remote_number = Some(remote);
            }
            match done {
                Ok(published) => {
                    (status.failures, status.last_error) = (0, None);
                    let Some(published) = published else { return };
                    status.published_local_number = Some(published.local_number);
                    status.files_put += published.files_put;
                    status.bytes_put += published.bytes_put;
                    slot.target.take_if(|target| target.local_number <= published.local_number);
                    pause = self.remote_commit_interval;
                }
                // Nothing was sent, or nothing more will be until the credentials are looked at: no attempt is burnt.
                Err(error) if error.is_held() => {
                    tracing::debug!(backend = %self.shared.backend, %error, "upload waits for the breaker");
                    pause = error.retry_after().unwrap_or(PLAN_PAUSE).max(PLAN_PAUSE_LEAST);
                    status.last_error = Some(error);
                }
                Err(error) => {
                    tracing::warn!(backend = %self.shared.backend, %error, "upload failed; it will be tried again");
                    status.failures = status.failures.saturating_add(1);
                    pause = self.backoff(status.failures);
                    status.last_error = Some(error.clone());
                    if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Conflict) {
                        status.refused = Some(error);
                        slot.target = None;
                        pause = Duration::ZERO;
                    }
                }
            }
        });
        pause
    }

    fn backoff(&self, failures: u32) -> Duration {
        let bound =
            PLAN_PAUSE.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(PLAN_PAUSE_CAP);
        bound.mul_f64(0.5 + self.client.random_fraction() / 2.0)
    }

    /// Lets time pass, unless somebody is in a hurry or the end has come.
    async fn pause(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let mut over = self.client.sleep().pause(time);
        loop {
            {
                let slot = self.shared.lock();
                if slot.stopping || slot.hurry {
                    return;
                }
            }
            match select(over, pin!(self.shared.wake.notified())).await {
                Either::Left(_) => return,
                Either::Right(((), rest)) => over = rest,
            }
        }
    }
}

/// Runs `work` to its end, or drops it when the uploader is asked to stop.
async fn unless_stopped<T>(shared: &Shared, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    loop {
        match select(work, pin!(shared.wake.notified())).await {
            Either::Left((done, _)) => return Some(done),
            Either::Right(((), rest)) if !shared.lock().stopping => work = rest,
            Either::Right(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests;
