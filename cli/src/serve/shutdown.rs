//! The end of `akidb serve`: the first SIGTERM or ctrl-c lets running requests finish and closes the database, the
//! second ends the process at once.

use std::io;
use std::process;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Requests that run when the end begins have so long; a connection that idles is not waited for any longer.
const GRACE: Duration = Duration::from_secs(10);
/// What a shell reports for a process that ctrl-c ended.
const INTERRUPTED: i32 = 130;

/// Knows whether the end has begun.
#[derive(Debug)]
pub(crate) struct Shutdown {
    ending: watch::Receiver<bool>,
}

impl Shutdown {
    /// Listens for the signals from now on.
    ///
    /// # Errors
    /// The machine gives no signal handler.
    pub(crate) fn listen() -> io::Result<Self> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (end, ending) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if end.send_replace(true) {
                    process::exit(INTERRUPTED);
                }
            }
        });
        Ok(Self { ending })
    }

    /// Is ready once the end has begun.
    pub(crate) fn begun(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ending = self.ending.clone();
        async move {
            // The sender ends only with the runtime.
            let _ = ending.wait_for(|ending| *ending).await;
        }
    }

    /// Runs `work` to its end, or until the grace that follows the beginning of the end is over.
    pub(crate) async fn finish<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let over = async {
            self.begun().await;
            sleep_until(Instant::now() + GRACE).await;
        };
        tokio::select! {
            done = work => Some(done),
            () = over => None,
        }
    }
}
