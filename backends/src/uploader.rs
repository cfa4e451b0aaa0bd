//! The background uploader of one backend: a thread with its own runtime, fed by a slot that holds the newest
//! plan only.

mod chores;
mod heal;
mod letters;
mod shared;
mod status;
mod wait;
mod worker;

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use akidb_host::{Clock, Fs, Job, Spawn, Work};

use crate::class::Class;
use crate::client::Client;
use crate::dlq::DeadLetters;
use crate::error::{Error, ErrorKind, Result};
use crate::gc::SweepSettings;
use crate::known::Known;
use crate::multiparts::Multiparts;
use crate::numbered::Identity;
use crate::plan::FilePlan;
use crate::publish::PublishOptions;
use crate::put::PieceMemory;
use crate::restore::runtime;
use shared::Shared;
pub use status::Status;
use worker::Worker;

/// First pause after no runtime could be had, for want of descriptors mostly; doubles to a minute.
const RUNTIME_PAUSE: Duration = Duration::from_millis(500);

/// What an uploader works with.
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
    /// Where files go that will not go up. Without it they are tried again with every plan.
    pub letters: Option<Arc<DeadLetters>>,
    /// Where uploads in parts are written down, so that a crash leaves none behind.
    pub multiparts: Option<Arc<Multiparts>>,
    /// Told of the pieces of files that are in memory, if anybody wants to know.
    pub memory: Option<Arc<dyn PieceMemory>>,
    /// When and where what nothing names is removed. Without it never.
    pub sweep: Option<SweepSettings>,
    /// Called, from the uploader's thread, after what is pending has changed. It must not block.
    pub on_change: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// The uploader of one backend. Dropping it asks its thread to end and does not wait, anywhere.
pub struct Uploader {
    shared: Arc<Shared>,
    job: Box<dyn Job>,
}

impl Uploader {
    /// Starts the thread. It claims the backend at once, and again and again until that succeeds.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(spawn: &dyn Spawn, parts: UploaderParts) -> io::Result<Self> {
        let worker = Worker::new(parts);
        let shared = Arc::clone(worker.shared());
        let name = format!("akidb-up-{}", shared.backend);
        let on_thread = Arc::clone(&shared);
        let run = move |work: Work| {
            if let Some(runtime) = on_thread.runtime(|| runtime(&on_thread.backend), RUNTIME_PAUSE) {
                runtime.block_on(work);
            }
        };
        let job = spawn.work(&name, worker.into_work(), Box::new(run))?;
        Ok(Self { shared, job })
    }

    /// Makes `plan` the one to publish next, in place of an older one that is not under way yet. Never blocks.
    pub fn offer(&self, plan: FilePlan) {
        self.shared.offer(plan);
    }

    /// Blocks until the backend holds local manifest `local_number` or a newer one, skipping the pauses.
    ///
    /// # Errors
    /// `Fenced` or `Conflict` if it never will; `Unavailable` after `timeout` (the upload goes on); `Closed`
    /// if the uploader was stopped.
    pub fn wait_published(&self, local_number: u64, timeout: Duration) -> Result<()> {
        self.shared.queue.hurry();
        let standing = self.shared.standing();
        let open = |standing: &mut shared::Standing| {
            let done = standing.status.published_local_number >= Some(local_number);
            !done && standing.status.refused.is_none() && !standing.ended
        };
        let standing = self
            .shared
            .changed
            .wait_timeout_while(standing, timeout, open)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if standing.status.published_local_number >= Some(local_number) {
            return Ok(());
        }
        if let Some(refused) = &standing.status.refused {
            return Err(refused.clone());
        }
        let (kind, what) = match standing.ended {
            true => (ErrorKind::Closed, "the uploader has ended".to_owned()),
            false => {
                (ErrorKind::Unavailable, format!("not uploaded within {} s; it goes on", timeout.as_secs()))
            }
        };
        let error = Error::new(kind, Class::Timeout, &self.shared.backend, what);
        Err(match standing.status.last_error.clone() {
            Some(cause) => error.because(cause),
            None => error,
        })
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// The local manifests whose files must stay: the newest offered, and one that is under way.
    #[must_use]
    pub fn pinned(&self) -> Vec<u64> {
        self.shared.queue.pinned()
    }

    /// Makes it look again now: a letter was asked for, a breaker was reset. Never blocks.
    pub fn wake(&self) {
        self.shared.queue.hurry();
    }

    /// What to keep in `uploads/<backend>.json`; losing it costs a few requests.
    #[must_use]
    pub fn known_json(&self) -> Vec<u8> {
        self.shared.known().to_json()
    }

    /// Ends the thread and waits for it; a call under way is dropped, and the next open settles it.
    pub fn stop(&self) {
        self.shared.stop();
        let _ = self.job.join();
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl fmt::Debug for UploaderParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploaderParts").field("client", &self.client).finish_non_exhaustive()
    }
}

impl fmt::Debug for Uploader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploader").field("backend", &self.shared.backend).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
