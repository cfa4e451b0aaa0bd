//! A plan onto a backend, in the order that keeps every remote document true: claim, put, verify, commit.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use akidb_host::{Clock, Fs, seeded_bug};
use futures::{StreamExt, stream};
use tracing::{Instrument, Span, info_span};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::known::{Known, Trust};
use crate::multiparts::Multiparts;
use crate::numbered::{Chain, Identity};
use crate::plan::{FilePlan, PlanItem};
use crate::probe::probe;
use crate::put::{PieceMemory, Putter};
pub(crate) use item::{Blame, Failed, Tried};

pub(crate) mod item;

/// After so long a writer looks whether another has published before it creates the next document: one that it would find
/// out of place, because its parent has been pruned, is not created then.
const ABSENCE_MICROS: u64 = 3_600_000_000;

/// How a plan is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    /// Files put at the same time, at most; the limiter of a guard lets fewer through. Default 128.
    pub parallel_puts: usize,
    /// Bytes of them in memory at the same time; a piece that is larger goes alone. Default 256 MiB.
    pub memory_bytes: u64,
    /// Files above this length go in parts of a quarter of it (of 5 MiB at least). Default 64 MiB.
    pub part_len_bytes: usize,
    /// How long an object no document names is safe from the sweep. Default 24 h.
    pub gc_grace: Duration,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            parallel_puts: 128,
            memory_bytes: 256 << 20,
            part_len_bytes: 64 << 20,
            gc_grace: Duration::from_secs(24 * 3600),
        }
    }
}

/// A plan that is on the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The plan's local manifest.
    pub local_number: u64,
    /// The remote document that names it.
    pub remote_number: u64,
    /// Files that had to be put for it.
    pub files_put: u64,
    /// Their bytes.
    pub bytes_put: u64,
}

/// What became of a plan's missing items when all that may be tried were tried.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) files_put: u64,
    pub(crate) bytes_put: u64,
    pub(crate) failed: Vec<Failed>,
    /// Items not tried because going on was pointless.
    pub(crate) not_tried: u64,
}

/// Publishes the plans of one open of one database on one backend. Dropping a call half-way loses nothing:
/// files put so far stay known, and the next commit first settles what was under way.
#[derive(Debug)]
pub struct Publisher {
    pub(crate) client: Client,
    pub(crate) chain: Option<Chain>,
    identity: Identity,
    putter: Putter,
    clock: Arc<dyn Clock>,
    options: PublishOptions,
    known: Arc<Mutex<Known>>,
    /// When this writer last saw for itself that nobody has published since.
    seen_unix_micros: i64,
}

impl Publisher {
    /// A publisher that has not spoken to the backend yet. `known` is what an earlier run saved, or empty.
    #[must_use]
    pub fn new(
        client: Client,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        identity: Identity,
        known: Known,
        options: PublishOptions,
    ) -> Self {
        let putter = Putter::new(client.clone(), fs, options.part_len_bytes, options.memory_bytes);
        let known = Arc::new(Mutex::new(known));
        Self { client, chain: None, identity, putter, clock, options, known, seen_unix_micros: 0 }
    }

    /// The same publisher, which tells of the pieces of files it has in memory.
    #[must_use]
    pub fn with_memory(mut self, memory: Arc<dyn PieceMemory>) -> Self {
        self.putter.held_by = Some(memory);
        self
    }

    /// The same publisher, which writes its uploads in parts down here before their first part.
    #[must_use]
    pub fn with_multiparts(mut self, multiparts: Arc<Multiparts>) -> Self {
        self.putter.multiparts = Some(multiparts);
        self
    }

    pub(crate) fn known(&self) -> Arc<Mutex<Known>> {
        Arc::clone(&self.known)
    }

    /// The newest remote document's number and the local manifest it copies, once the backend was claimed.
    #[must_use]
    pub fn newest(&self) -> Option<(u64, Option<u64>)> {
        let document = self.chain.as_ref()?.newest()?;
        Some((document.number, document.content.as_ref().map(|content| content.local_number)))
    }

    /// Probes the store and claims it, once.
    ///
    /// # Errors
    /// `Fenced` and `Conflict` are final; `Invalid` means a store that ignores conditional puts.
    pub async fn claim(&mut self) -> Result<()> {
        if self.chain.is_none() {
            if !self.client.backend().single_writer_unchecked() {
                probe(&self.client).await?;
            }
            self.chain = Some(Chain::open(self.client.clone()).await?);
        }
        let Some(chain) = self.chain.as_mut() else { return Ok(()) };
        if chain.is_claimed() {
            return Ok(());
        }
        chain.claim(self.identity.clone()).await?;
        self.seen_unix_micros = self.clock.unix_micros();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match chain.newest().and_then(|document| document.content.as_ref()) {
            Some(content) => known.named(&content.files),
            None if known.none_named() => tracing::warn!(
                backend = self.client.name(),
                place = self.client.backend().place(),
                "nothing is there any more of what this database published: if its disk is not mounted, stop and mount it; \
                 else everything is uploaded again"
            ),
            None => {}
        }
        Ok(())
    }

    /// Puts what the backend lacks of the plan, verifies it, then commits the document that names it. A plan
    /// that is already published is published. One item's failure does not keep the others from being put.
    ///
    /// # Errors
    /// The first failure that its own retries did not mend. Calling again goes on where this ended.
    pub async fn publish(&mut self, plan: &FilePlan) -> Result<Published> {
        let span = self.span(plan);
        let publish = async {
            let missing = self.prepare(plan).await?;
            let round = self.put_items(missing, &|_| false, &span).await;
            let (files_put, bytes_put) = (round.files_put, round.bytes_put);
            if let Some(failed) = round.failed.into_iter().next() {
                return Err(failed.error);
            }
            let remote_number = self.commit(plan).await?;
            Ok(Published { local_number: plan.local_number, remote_number, files_put, bytes_put })
        };
        publish.instrument(span.clone()).await
    }

    /// The span of a plan's upload.
    pub(crate) fn span(&self, plan: &FilePlan) -> Span {
        info_span!("upload", backend = self.client.name(), local_number = plan.local_number)
    }

    /// Claims, and says what the backend lacks of the plan, in the order in which it is to be put.
    ///
    /// # Errors
    /// What kept the backend from being claimed or looked at.
    pub(crate) async fn prepare<'p>(&mut self, plan: &'p FilePlan) -> Result<Vec<&'p PlanItem>> {
        plan.check(self.client.name())?;
        self.claim().await?;
        let mut missing = self.missing(plan).await?;
        // The newest are named last.
        missing.sort_by_key(|(at, item)| (item.priority, Reverse(*at)));
        Ok(missing.into_iter().map(|(_, item)| item).collect())
    }

    /// Puts and verifies items, each whatever became of the others, but for those that are `pointless` by the time their
    /// turn comes; until the backend itself fails.
    pub(crate) async fn put_items(
        &self,
        items: Vec<&PlanItem>,
        pointless: &(dyn Fn(&PlanItem) -> bool + Sync),
        span: &Span,
    ) -> Round {
        let mut round = Round::default();
        let cut = AtomicBool::new(false);
        let puts = items.into_iter().map(|item| {
            let cut = &cut;
            async move {
                if cut.load(Ordering::Relaxed) || pointless(item) {
                    return None;
                }
                let put = self.put(item, span).await;
                if put.as_ref().is_err_and(|failed| failed.is_of_all()) {
                    cut.store(true, Ordering::Relaxed);
                }
                Some((item.len, put))
            }
        });
        let mut puts = stream::iter(puts).buffer_unordered(self.options.parallel_puts.max(1));
        while let Some(put) = puts.next().await {
            match put {
                None => round.not_tried += 1,
                Some((len, Ok(()))) => {
                    round.files_put += 1;
                    round.bytes_put += len;
                }
                Some((_, Err(failed))) => round.failed.push(*failed),
            }
        }
        round
    }

    /// The plan's files that are not known to be there. Those verified long ago are looked at first.
    async fn missing<'p>(&self, plan: &'p FilePlan) -> Result<Vec<(usize, &'p PlanItem)>> {
        let fresh_micros = i64::try_from(self.options.gc_grace.as_micros() / 2).unwrap_or(i64::MAX);
        let mut missing = Vec::new();
        for (at, item) in plan.items.iter().enumerate() {
            let trust = self.lock_known().trust(item, self.clock.unix_micros(), fresh_micros);
            let there = match trust {
                Trust::Present => true,
                Trust::Absent => false,
                Trust::Stale => self.putter.is_there(item).await?,
            };
            match (trust, there) {
                (Trust::Stale, true) => self.lock_known().verified(item, self.clock.unix_micros()),
                (_, false) => {
                    self.lock_known().forget(&item.key);
                    missing.push((at, item));
                }
                (_, true) => {}
            }
        }
        Ok(missing)
    }

    async fn put(&self, item: &PlanItem, span: &Span) -> std::result::Result<(), Box<Failed>> {
        let span = info_span!(parent: span, "put", key = %item.key, len = item.len);
        item::put(&self.putter, &*self.clock, item).instrument(span).await?;
        self.lock_known().verified(item, self.clock.unix_micros());
        Ok(())
    }

    /// Puts one item as work that can wait.
    pub(crate) async fn put_in_background(&self, item: &PlanItem) -> std::result::Result<(), Box<Failed>> {
        item::put(&self.putter.background(), &*self.clock, item).await?;
        self.lock_known().verified(item, self.clock.unix_micros());
        Ok(())
    }

    /// Whether everything the plan names is on the backend, as far as is known.
    pub(crate) fn has_all(&self, plan: &FilePlan) -> bool {
        let known = self.lock_known();
        plan.items.iter().all(|item| known.has(item))
    }

    /// Commits the document that names the plan: all of its items must have been verified.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub(crate) async fn commit(&mut self, plan: &FilePlan) -> Result<u64> {
        let commit = info_span!("commit");
        async {
            self.check_all_verified(plan)?;
            self.look_after_absence().await?;
            let content = plan.content();
            let Some(chain) = self.chain.as_mut() else {
                return Err(self.not_verified("the backend is not claimed"));
            };
            let published = chain.newest().filter(|document| document.content.as_ref() == Some(&content));
            let number = match published.map(|document| document.number) {
                Some(number) => number,
                None => chain.commit(content.clone()).await?,
            };
            self.lock_known().only_named(&content.files);
            self.seen_unix_micros = self.clock.unix_micros();
            Ok(number)
        }
        .instrument(commit)
        .await
    }

    /// A machine that stood still for long may be behind documents that have been pruned since, where a conditional put
    /// would meet nobody: it looks at the newest again before it creates the next.
    async fn look_after_absence(&mut self) -> Result<()> {
        if self.clock.unix_micros().abs_diff(self.seen_unix_micros) < ABSENCE_MICROS {
            return Ok(());
        }
        self.chain = None;
        self.claim().await
    }

    /// A remote document never names a file that was not verified.
    fn check_all_verified(&self, plan: &FilePlan) -> Result<()> {
        let known = self.lock_known();
        match plan.items.iter().find(|item| !known.has(item)) {
            None => Ok(()),
            Some(_) if seeded_bug("document_before_its_files") => Ok(()),
            Some(item) => Err(self.not_verified("about to name a file that was not verified").at(&item.key)),
        }
    }

    fn not_verified(&self, what: &str) -> Error {
        Error::new(crate::ErrorKind::Internal, crate::Class::Permanent, self.client.name(), what)
    }

    pub(crate) fn grace(&self) -> Duration {
        self.options.gc_grace
    }

    #[cfg(test)]
    pub(crate) fn set_fs(&mut self, fs: Arc<dyn Fs>) {
        self.putter.fs = fs;
    }

    #[cfg(test)]
    pub(crate) fn set_grace(&mut self, grace: Duration) {
        self.options.gc_grace = grace;
    }

    pub(crate) fn forget(&self, key: &str) {
        self.lock_known().forget(key);
    }

    fn lock_known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod spans;
#[cfg(test)]
mod tests;
