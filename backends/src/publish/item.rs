//! One item with its attempts, and what their failure says of it: the item's own fault, the backend's, or nobody's yet.

use std::time::Instant;

use akidb_host::Clock;

use crate::class::{Class, Op};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::plan::PlanItem;
use crate::put::{self, Putter};
use crate::retry::Tries;

/// An item that is not on the backend after its attempts.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) item: PlanItem,
    pub(crate) error: Error,
    pub(crate) blame: Blame,
    /// Every attempt, oldest first.
    pub(crate) tries: Vec<Tried>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) unix_millis: i64,
    pub(crate) took_millis: u64,
    pub(crate) status: Option<u16>,
    pub(crate) request_id: Option<String>,
}

/// Whose fault it is that an item is not on the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The local file is not what its manifest says, or its device fails.
    LocalFile,
    /// The backend will never take it as it is, unless it takes nothing at all: that is still to be asked.
    Item,
    /// Its attempts are used up, and no breaker was anything but closed meanwhile. Whether the backend takes anything
    /// at all is still to be asked.
    Open,
    /// The backend's, or nobody's yet: it does not count.
    Backend,
}

impl Failed {
    /// Whether trying again cannot help until a person has looked: the file is bad, or the request is.
    pub(crate) fn is_poison(&self) -> bool {
        match self.blame {
            // A device may yet answer; it is asked again three times.
            Blame::LocalFile => !self.error.is_of_device(),
            Blame::Item => matches!(self.error.status(), Some(400 | 413)),
            Blame::Open | Blame::Backend => false,
        }
    }

    /// Whether going on with other items now would be pointless, or unkind.
    pub(crate) fn is_of_all(&self) -> bool {
        matches!(self.error.class(), Class::Refused | Class::Auth | Class::Throttle | Class::NotFound)
            || is_of_place(&self.error)
    }
}

/// Puts and verifies one item, with the schedule's attempts.
pub(crate) async fn put(putter: &Putter, clock: &dyn Clock, item: &PlanItem) -> Result<(), Box<Failed>> {
    let client = &putter.client;
    let calm = calm(client);
    let (mut tries, mut made) = (Tries::default(), Vec::new());
    loop {
        let (started, unix_millis) = (clock.now(), clock.unix_micros() / 1_000);
        let put::Failed { error, is_spent } = match putter.attempt(item, &mut tries).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        let (status, request_id) = (error.status(), error.request_id().map(str::to_owned));
        made.push(Tried { unix_millis, took_millis: millis_since(started, clock), status, request_id });
        if error.kind() == ErrorKind::Corrupt
            && error.class() != Class::Local
            && let Some(guard) = client.backend().guard()
        {
            // Every call was answered well, and yet the object is not what was sent.
            guard.fault(Op::Put);
        }
        match client.pause_after(&error, &mut tries).filter(|_| !is_spent) {
            Some(pause) => {
                tracing::debug!(%error, ?tries, "trying again");
                client.sleep().pause(pause).await;
            }
            None => {
                let is_spent = is_spent || client.is_spent(&tries);
                let blame = blame(&error, is_spent && self::calm(client) == calm && calm.0);
                return Err(Box::new(Failed { item: item.clone(), error, blame, tries: made }));
            }
        }
    }
}

fn calm(client: &Client) -> (bool, u64) {
    client.backend().guard().map_or((true, 0), |guard| guard.calm())
}

fn blame(error: &Error, spent_in_calm: bool) -> Blame {
    match error.class() {
        Class::Local => Blame::LocalFile,
        // No bucket, or another region: that is so of every item.
        Class::Permanent if is_of_place(error) => Blame::Backend,
        Class::Permanent => Blame::Item,
        Class::Transient | Class::Timeout | Class::Ambiguous | Class::Conflict if spent_in_calm => {
            Blame::Open
        }
        _ => Blame::Backend,
    }
}

fn is_of_place(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.status().is_some_and(|status| (300..400).contains(&status))
}

fn millis_since(started: Instant, clock: &dyn Clock) -> u64 {
    u64::try_from(clock.now().saturating_duration_since(started).as_millis()).unwrap_or(u64::MAX)
}
