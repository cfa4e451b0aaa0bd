//! Dead letters as one uploader sees them: what may be tried, what is buried, what is tried again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use akidb_host::Clock;

use super::worker::{PlanTurn, Worker};
use crate::breaker::State;
use crate::class::Op;
use crate::dlq::{Attempt, Claim, DeadLetters, LetterId, LetterState, NewLetter, Which};
use crate::error::{Error, Result};
use crate::guard::CallKind;
use crate::plan::PlanItem;
use crate::publish::{Blame, Failed, Tried};

/// What became of the items that failed in a plan's turn.
#[derive(Debug, Default)]
pub(super) struct Buried {
    /// The error of the last one that has a letter now.
    pub(super) last: Option<Error>,
    /// What the first one failed with that does not count: the backend was not well, or there is no queue.
    pub(super) left: Option<Error>,
    /// Whether nothing more is to be asked of the backend in this turn.
    pub(super) is_over: bool,
}

/// Letters claimed at once, and the pause after each: 10 a second at most.
const CLAIMED: usize = 10;
const REDRIVE_PAUSE: Duration = Duration::from_millis(100);
/// All of a backend's letters: no list is longer.
const ALL: usize = usize::MAX;

/// The letters of one backend; without a queue nothing is ever buried.
pub(super) struct Letters {
    backend: String,
    queue: Option<Arc<DeadLetters>>,
    clock: Arc<dyn Clock>,
}

impl Letters {
    pub(super) fn new(backend: &str, queue: Option<Arc<DeadLetters>>, clock: Arc<dyn Clock>) -> Self {
        Self { backend: backend.to_owned(), queue, clock }
    }

    fn now_unix_ms(&self) -> i64 {
        self.clock.unix_micros() / 1_000
    }

    /// Whether a file may be tried as others are: it has no letter, and no note says to leave it alone.
    pub(super) fn is_free(&self, key: &str) -> bool {
        self.queue.as_ref().is_none_or(|queue| {
            !queue.has_letter(&self.backend, key) && !queue.parked(&self.backend, key, self.now_unix_ms())
        })
    }

    /// Lets go of letters of files that are not among these: they are up, or no longer wanted.
    pub(super) fn supersede(&self, missing: &[&PlanItem]) {
        if let Some(queue) = &self.queue {
            let missing: BTreeSet<&str> = missing.iter().map(|item| item.key.as_str()).collect();
            queue.supersede(&self.backend, &|key| missing.contains(key));
        }
    }

    /// The letters that a healed backend may take: all that do not wait for a person.
    pub(super) fn dead(&self) -> VecDeque<LetterId> {
        let which = Which::backend(&self.backend).with_state(LetterState::Dead);
        let mut dead = self.queue.as_ref().map_or_else(Vec::new, |queue| queue.list(&which, ALL));
        dead.sort_by_key(|letter| (letter.priority, letter.created_at));
        dead.into_iter().map(|letter| letter.id).collect()
    }

    /// When the next letter is due, if there is one.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let due = self.queue.as_ref()?.next_due(&self.backend)?;
        let left = due.saturating_sub(self.now_unix_ms());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    /// `false` if there is no queue.
    fn add(&self, local_number: u64, failed: &Failed) -> bool {
        let Some(queue) = &self.queue else { return false };
        let item = &failed.item;
        let added = queue.add(NewLetter {
            backend: self.backend.clone(),
            collection_id: item.collection.clone(),
            segment_id: item.segment.clone(),
            op: Op::Put,
            key: item.key.clone(),
            local: item.local.clone(),
            len: item.len,
            crc32: item.crc32,
            local_number,
            class: failed.error.class(),
            error_message: failed.error.to_string(),
            retry_count: u32::try_from(failed.tries.len()).unwrap_or(u32::MAX),
            attempts: failed.tries.iter().map(attempt).collect(),
            priority: item.priority,
            poison: failed.is_poison(),
        });
        if let Err(error) = added {
            tracing::warn!(%error, "a dead letter is in memory alone; uploads are not affected");
        }
        true
    }

    /// The next letters to try: those of a healed backend first, then those whose time has come.
    fn claim(&self, revived: &mut VecDeque<LetterId>) -> Vec<Claim> {
        let Some(queue) = &self.queue else { return Vec::new() };
        let mut claims = Vec::new();
        while claims.len() < CLAIMED
            && let Some(id) = revived.pop_front()
        {
            claims.extend(queue.claim(&id));
        }
        let left = CLAIMED - claims.len();
        claims.extend(queue.claim_due(&self.backend, self.now_unix_ms(), left));
        claims
    }
}

fn attempt(tried: &Tried) -> Attempt {
    Attempt {
        unix_ms: tried.unix_millis,
        status: tried.status,
        request_id: tried.request_id.clone(),
        millis: tried.took_millis,
    }
}

impl Worker {
    /// Writes letters for items that failed by their own fault.
    pub(super) async fn bury(&self, local_number: u64, failed: Vec<Failed>) -> Buried {
        let is_open = failed.iter().any(|failed| matches!(failed.blame, Blame::Open | Blame::Item));
        let takes_puts = is_open && self.takes_small_puts().await;
        let guard = self.client.backend().guard();
        let is_calm = guard.is_none_or(|guard| guard.calm().0);
        let mut buried = Buried { is_over: is_open && !takes_puts, ..Buried::default() };
        for failed in failed {
            let own = match failed.blame {
                Blame::LocalFile => true,
                // A refusal of this one is not about lists, removals or reads.
                Blame::Item => takes_puts,
                Blame::Open => takes_puts && is_calm,
                Blame::Backend => false,
            };
            if own && self.shared.letters.add(local_number, &failed) {
                tracing::warn!(
                    backend = %self.client.name(), key = %failed.item.key, error = %failed.error,
                    "a file will not go up; it is a dead letter now, and stays pending"
                );
                buried.last = Some(failed.error);
            } else {
                buried.is_over |= failed.is_of_all();
                buried.left = buried.left.or(Some(failed.error));
            }
        }
        buried.is_over |= buried.left.is_some() && !self.may_upload();
        buried
    }

    /// Neither attempts nor a refusal prove anything of a file alone: a backend that takes nothing looks the same. It is
    /// asked to take something small.
    async fn takes_small_puts(&self) -> bool {
        self.probe(CallKind::Upload).await.is_ok() && self.may_upload()
    }

    /// Whether the breaker of uploads is closed.
    fn may_upload(&self) -> bool {
        let guard = self.client.backend().guard();
        guard.is_none_or(|guard| guard.breaker(CallKind::Upload).state() == State::Closed)
    }

    /// Tries the letters whose time has come, at a pace and a share that leave room for others. `true` if it was ended
    /// before they all were.
    ///
    /// # Errors
    /// What showed that the backend is not well: no letter is charged with it.
    pub(super) async fn redrive(&mut self, turn: &PlanTurn<'_>, missing: &[&PlanItem]) -> Result<bool> {
        let wanted: BTreeMap<&str, &PlanItem> =
            missing.iter().map(|item| (item.key.as_str(), *item)).collect();
        let shared = Arc::clone(&self.shared);
        let Some(queue) = &shared.letters.queue else { return Ok(false) };
        loop {
            let claims = shared.letters.claim(&mut self.revived);
            if claims.is_empty() {
                return Ok(false);
            }
            for claim in claims {
                if turn.is_over() {
                    return Ok(true);
                }
                let Some(item) = wanted.get(claim.letter().key.as_str()) else {
                    queue.resolve(claim);
                    continue;
                };
                match self.publisher.put_in_background(item).await {
                    Ok(()) => {
                        queue.resolve(claim);
                        shared.change(|status| {
                            status.files_put += 1;
                            status.bytes_put += item.len;
                        });
                    }
                    // The claim is given back as it was.
                    Err(failed) if failed.blame == Blame::Backend => return Err(failed.error),
                    Err(failed) if failed.blame == Blame::Item && !self.takes_small_puts().await => {
                        return Err(failed.error);
                    }
                    Err(failed) => {
                        let Some(last) = failed.tries.last() else { continue };
                        let last = attempt(last);
                        let said = failed.error.to_string();
                        if failed.error.is_of_device() {
                            queue.unread(claim, &said, last);
                        } else {
                            queue.failed(claim, failed.error.class(), &said, last);
                        }
                    }
                }
                self.client.sleep().pause(REDRIVE_PAUSE).await;
            }
        }
    }
}
