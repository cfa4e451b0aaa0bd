//! Threads that do blocking work for async callers: what may wait for room or read a disk never runs on theirs.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use akidb_host::Spawn;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};

/// Threads; searches are bound by the processor, and the machines we run on are small.
const THREADS: usize = 2;
/// Most calls that wait for a thread.
const MAX_WAITING_CALLS: usize = 4_096;

/// What a worker does.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// Started at the first async call. Dropping it lets the threads end after what they are doing.
#[derive(Debug)]
pub(crate) struct Workers {
    spawn: Arc<dyn Spawn>,
    queue: OnceLock<SyncSender<Work>>,
}

impl Workers {
    pub(crate) fn new(spawn: Arc<dyn Spawn>) -> Self {
        Self { spawn, queue: OnceLock::new() }
    }

    /// Runs `work` on a worker and waits for its answer without holding the caller's thread. Dropped before the
    /// first poll, nothing happens; dropped later, the work is done all the same.
    ///
    /// # Errors
    /// `Full` if 4,096 calls wait already; `Unavailable` if no thread can be had. Nothing was done then.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let span = tracing::Span::current();
        let work: Work = Box::new(move || {
            let _span = span.entered();
            // Nobody waits any more: what was asked for was done all the same.
            let _ = answer.send(work());
        });
        self.start(work)?;
        answered.await.map_err(|_| Error::new(ErrorKind::Internal, "AKI-0291", "an async call panicked"))
    }

    /// Lets a worker do this; nobody waits for it.
    ///
    /// # Errors
    /// As [`Workers::run`].
    pub(crate) fn start(&self, work: Work) -> Result<()> {
        self.queue()?.try_send(work).map_err(|refused| match refused {
            TrySendError::Full(_) => {
                let kind = ErrorKind::Full { which: "async_calls", retry_after: Duration::from_millis(10) };
                let message = format!("{MAX_WAITING_CALLS} async calls wait for a thread already");
                Error::new(kind, "AKI-0290", message)
            }
            TrySendError::Disconnected(_) => no_thread("all ended"),
        })
    }

    fn queue(&self) -> Result<&SyncSender<Work>> {
        if let Some(queue) = self.queue.get() {
            return Ok(queue);
        }
        let (queue, waiting) = sync_channel(MAX_WAITING_CALLS);
        let waiting = Arc::new(Mutex::new(waiting));
        for n in 0..THREADS {
            let waiting = Arc::clone(&waiting);
            let job = self.spawn.job(&format!("akidb-worker-{n}"), Box::new(move || work_off(&waiting)));
            job.map_err(|cause| no_thread(&cause.to_string()))?;
        }
        // A second caller's threads end at once: their queue is dropped here.
        Ok(self.queue.get_or_init(|| queue))
    }
}

fn work_off(waiting: &Mutex<Receiver<Work>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(work) => work(),
            Err(_) => return,
        }
    }
}

fn no_thread(cause: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "AKI-0292", format!("no thread for async calls: {cause}"))
}
