//! Threads that do blocking work for async callers: what may wait for room or read a disk never runs on theirs.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use akidb_host::{Spawn, panic_text};
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Fate, Result};

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
    /// `Full` if 4,096 calls wait already; `Unavailable` if no thread can be had. Nothing was done then. `Internal` if the work
    /// panicked: that is our mistake, and whoever asked is told so like of any other failure of the database, in a server as an
    /// answer and not as a connection that breaks. The worker goes on.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let span = tracing::Span::current();
        let work: Work = Box::new(move || {
            let _span = span.entered();
            let outcome = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(&*panic));
            // Nobody waits any more: what was asked for was done all the same.
            let _ = answer.send(outcome);
        });
        self.start(work)?;
        answered.await.unwrap_or_else(|_| Err(panicked(&"its answer was lost")))
    }

    /// Lets a worker do this; nobody waits for it. A panic of it is told in the log of the program.
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
            // Also the waker of whoever waits for the answer, which is other people's code.
            Ok(work) => {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                    let error = panicked(&*panic);
                    tracing::error!(%error, "work for async callers, or the waker of one, panicked; its thread goes on");
                }
            }
            Err(_) => return,
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message = format!("an async call panicked: {}", panic_text(panic));
    // What it was to write may be in the log by then.
    Error::new(ErrorKind::Internal, "AKI-0291", message).fate_is(Fate::Unknown)
}

fn no_thread(cause: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "AKI-0292", format!("no thread for async calls: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Condvar;
    use std::sync::mpsc::{Sender, channel};
    use std::task::{Context, Wake, Waker};

    use super::*;
    use akidb_host::RealSpawn;

    /// More than there are threads: each takes one along, or none.
    const PANICS: usize = 3 * THREADS;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn work_that_panics_is_an_error_for_who_asked_and_every_thread_goes_on() {
        let workers = Workers::new(Arc::new(RealSpawn));
        for n in 0..PANICS {
            let asked = async {
                match n % 2 {
                    0 => workers.run(|| -> usize { panic!("with a text") }).await,
                    _ => workers.run(move || -> usize { panic!("with {n}") }).await,
                }
            };
            let error = block_on(asked).unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Internal, "AKI-0291"), "{error}");
            assert!(error.to_string().contains("panicked: with "), "{error}");
            assert_eq!(error.fate(), Fate::Unknown, "its write may be in the log");
            workers.start(Box::new(|| panic!("nobody waits for this"))).unwrap();
        }
        all_are_there(&workers);
    }

    struct Panics(Mutex<Sender<()>>);

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().send(()).unwrap();
            panic!("a waker panics");
        }
    }

    #[test]
    fn a_waker_that_panics_leaves_its_answer_and_every_thread_there() {
        let workers = Workers::new(Arc::new(RealSpawn));
        for n in 0..PANICS {
            let (go, gone) = channel::<()>();
            let (woken, wakes) = channel();
            let waker = Waker::from(Arc::new(Panics(Mutex::new(woken))));
            let mut asked = pin!(workers.run(move || gone.recv().map(|()| n)));
            assert!(asked.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            go.send(()).unwrap();
            wakes.recv().unwrap();
            assert_eq!(block_on(asked).unwrap().unwrap(), n);
        }
        all_are_there(&workers);
    }

    /// As many calls as there are threads, each of which ends only beside the others.
    fn all_are_there(workers: &Workers) {
        let meeting = Arc::new((Mutex::new(0), Condvar::new()));
        let calls = (0..THREADS).map(|_| {
            let meeting = Arc::clone(&meeting);
            workers.run(move || {
                let (here, came) = &*meeting;
                let mut here = here.lock().unwrap();
                *here += 1;
                came.notify_all();
                let long = Duration::from_secs(20);
                *came.wait_timeout_while(here, long, |here| *here < THREADS).unwrap().0
            })
        });
        let answers = block_on(futures::future::join_all(calls));
        assert!(answers.into_iter().all(|met| met.unwrap() == THREADS));
    }
}
