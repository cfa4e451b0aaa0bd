//! Small calls that find out whether a backend that was left alone is well again, so that an idle class heals too.
//!
//! Plans are worked on only while the breakers they need are closed. Past a cooldown the thread itself makes the tries:
//! a small put, a look at the newest document's size, a list of what comes after it.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutMode};

use super::worker::Worker;
use crate::breaker::State;
use crate::class::Op;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::CallKind;
use crate::numbered;
use crate::probe::ALIVE_KEY;

/// A breaker closes after 255 good tries at the latest.
const MOST_TRIES: usize = 255;

impl Worker {
    /// Tries every kind of call whose breaker is not closed and may be asked again. `true` if one closed.
    pub(super) async fn heal(&self) -> bool {
        let Some(guard) = self.client.backend().guard() else { return false };
        let mut closed = false;
        for kind in CallKind::ALL {
            let breaker = guard.breaker(kind);
            for _ in 0..MOST_TRIES {
                if breaker.state() == State::Closed || !guard.ready_in(kind).is_zero() {
                    break;
                }
                if let Err(error) = self.probe(kind).await {
                    tracing::debug!(backend = %self.client.name(), %kind, %error, "not well yet");
                    break;
                }
                closed |= breaker.state() == State::Closed;
            }
        }
        closed
    }

    /// One call of a kind, whose answer says whether the backend takes such calls. What is not there is an answer.
    pub(super) async fn probe(&self, kind: CallKind) -> Result<()> {
        let store = self.client.backend().store();
        let newest = numbered::key_of(self.publisher.newest().map_or(1, |(number, _)| number));
        let path = self.client.path(&newest)?;
        let answer = match kind {
            CallKind::Upload => {
                self.client.put_once(ALIVE_KEY, Bytes::from_static(b"alive"), PutMode::Overwrite).await
            }
            CallKind::Download => self.client.once(Op::Head, &newest, 0, store.head(&path)).await.map(|_| ()),
            CallKind::ListDelete => {
                let prefix = self.client.path(numbered::PREFIX)?;
                let after = store.list_with_offset(Some(&prefix), &path).try_collect::<Vec<_>>();
                self.client.once(Op::List, &newest, 0, after).await.map(|_| ())
            }
        };
        match answer {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// What a call of one of these kinds would be refused with now.
    pub(super) fn refusal(&self, kinds: &[CallKind]) -> Option<Error> {
        let guard = self.client.backend().guard()?;
        let refusal = |kind: CallKind| {
            let op = match kind {
                CallKind::Upload => Op::Put,
                CallKind::Download => Op::Head,
                CallKind::ListDelete => Op::List,
            };
            let error = guard.refusal(kind)?;
            let class = crate::retry::classify(&error, op);
            Some(Error::store(self.client.name(), op, numbered::PREFIX, class, error))
        };
        kinds.iter().find_map(|kind| refusal(*kind))
    }

    /// When a breaker that is not closed may be asked again; `None` if all are closed.
    pub(super) fn next_probe(&self) -> Option<Duration> {
        let guard = self.client.backend().guard()?;
        let open = CallKind::ALL.into_iter().filter(|kind| guard.breaker(*kind).state() != State::Closed);
        open.map(|kind| guard.ready_in(kind)).min()
    }
}
