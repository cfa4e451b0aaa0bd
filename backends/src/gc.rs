//! The sweep of a backend: objects that no kept document names and no plan needs.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;
use std::time::Duration;

use akidb_host::seeded_bug;
use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::{Error as StoreError, PutMode};

use crate::class::{Class, Op};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::numbered;
use crate::probe;
use crate::publish::Publisher;

/// A bulk removal takes the server as long as this many bytes would.
const DELETE_LEN_BYTES: u64 = 64 << 20;
/// Objects removed after one look whether this writer is the newest still: what stores take in one request.
const LOOK_EVERY_KEYS: usize = 1_000;
/// Documents removed at once: each is a request of its own, after the one before it was answered.
pub(crate) const MOST_PRUNED: usize = 200;
/// Of them after one look.
const LOOK_EVERY_DOCUMENTS: usize = 50;

/// When and where what nothing names is removed from a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepSettings {
    /// Objects under this prefix are the database's files.
    pub prefix: String,
    /// Time between two sweeps. Default 1 h: what is swept is a day old, so nothing is urgent.
    pub interval: Duration,
    /// Remote documents kept, at most; the newest always is. Default 100, as manifests are here.
    pub keep_documents: usize,
    /// How long one is kept, at most, by the server's clock. Default 24 h.
    pub keep_documents_for: Duration,
}

impl SweepSettings {
    /// The defaults, for files under a prefix.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            interval: Duration::from_secs(3_600),
            keep_documents: 100,
            keep_documents_for: Duration::from_secs(24 * 3_600),
        }
    }
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects looked at.
    pub seen: u64,
    /// Objects that nothing names, but that are too young to go.
    pub young: u64,
    /// Keys removed, or that would have been.
    pub removed: Vec<String>,
}

impl Publisher {
    /// Removes the objects under `prefix` that no kept document names, that are not in `pinned` (keys of the
    /// plan at hand) and that are older than the grace, by the server's own clock; and probe objects as old. With `dry_run` it only
    /// reports them. Undone deletes are found again by the next sweep.
    ///
    /// # Errors
    /// `Fenced` if somebody else has claimed by now: only the writer whose claim is the newest may sweep; what it has removed
    /// before the other claimed stays removed.
    pub async fn sweep(&mut self, prefix: &str, pinned: &BTreeSet<String>, dry_run: bool) -> Result<Swept> {
        self.claim().await?;
        self.check_still_newest().await?;
        let live = self.live(pinned).await?;
        // The date of the probe, put after the live set was read, is the server's now.
        let oldest_kept = self.server_unix_micros().await?.saturating_sub(micros(self.grace()));
        let mut swept = Swept::default();
        for object in self.client.list(prefix).await? {
            swept.seen += 1;
            let key = object.location.to_string();
            if live.contains(&key) {
                continue;
            }
            if object.last_modified.timestamp_micros() >= oldest_kept {
                swept.young += 1;
                continue;
            }
            swept.removed.push(key);
        }
        // Left behind by a process that died while it asked; one that is at work is younger.
        for object in self.client.list(probe::PREFIX).await? {
            let key = object.location.to_string();
            if key != probe::ALIVE_KEY && object.last_modified.timestamp_micros() < oldest_kept {
                swept.removed.push(key);
            }
        }
        if !dry_run {
            self.remove(&swept.removed).await?;
        }
        Ok(swept)
    }

    /// Removes remote documents beyond those that are kept: the newest `keep` that are younger than `keep_for`, and
    /// the newest always; the 200 oldest of them at most. Answers their numbers. With `dry_run` they are only named.
    ///
    /// They go one after the other, the oldest first, and this ends at the first that cannot be removed: whatever
    /// happens, those that are there are the end of the chain, which is how a writer that stood still tells that it is
    /// behind it.
    ///
    /// # Errors
    /// As [`Publisher::sweep`].
    pub async fn prune(&mut self, keep: usize, keep_for: Duration, dry_run: bool) -> Result<Vec<u64>> {
        self.claim().await?;
        self.check_still_newest().await?;
        let oldest_kept = self.server_unix_micros().await?.saturating_sub(micros(keep_for));
        let mut documents: Vec<(u64, i64)> = Vec::new();
        for meta in self.client.list(numbered::PREFIX).await? {
            let number = meta.location.filename().and_then(numbered::number_of);
            documents.extend(number.map(|number| (number, meta.last_modified.timestamp_micros())));
        }
        let mut old = old_of(documents, keep, oldest_kept);
        old.truncate(MOST_PRUNED);
        if !dry_run {
            self.remove_in_order(&old).await?;
        }
        Ok(old)
    }

    async fn remove_in_order(&self, documents: &[u64]) -> Result<()> {
        let client = self.client.background();
        for numbers in documents.chunks(LOOK_EVERY_DOCUMENTS) {
            self.check_still_newest().await?;
            for number in numbers {
                client.delete(&numbered::key_of(*number)).await?;
            }
        }
        Ok(())
    }

    /// Removes objects, for as long as this writer is the newest: it looks again right before each request, however long
    /// finding them took. Another writer, over a copy of the directory, may lack just what nothing names here and put it again
    /// under the same key; but it claims first. (A claim made while the request is under way is not seen: no store we know of
    /// removes an object only if it is still the one that was listed.)
    ///
    /// # Errors
    /// As [`Publisher::sweep`]; what was removed by then is.
    async fn remove(&self, keys: &[String]) -> Result<()> {
        for keys in keys.chunks(LOOK_EVERY_KEYS) {
            self.check_still_newest().await?;
            // Before it is gone nobody may believe it to be there.
            keys.iter().for_each(|key| self.forget(key));
            delete_all(&self.client.background(), keys.to_vec()).await?;
        }
        Ok(())
    }

    async fn live(&self, pinned: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut live = pinned.clone();
        for number in numbered::numbers(&self.client).await? {
            if seeded_bug("sweep_by_newest_document")
                && self.newest().is_some_and(|(newest, _)| newest > number)
            {
                continue;
            }
            // A kept document that cannot be read stops the sweep: what it names is not known.
            let Some(sealed) = numbered::read(&self.client, number).await? else { continue };
            let files = sealed.document.content.map(|content| content.files).unwrap_or_default();
            live.extend(files.into_iter().map(|file| file.key));
        }
        Ok(live)
    }

    async fn check_still_newest(&self) -> Result<()> {
        let known = self.newest().map(|(number, _)| number);
        let found = numbered::numbers(&self.client).await?.into_iter().max();
        match found.cmp(&known) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => {
                let what = "another writer has published since; this one does not sweep";
                Err(Error::new(ErrorKind::Fenced, Class::Permanent, self.client.name(), what))
            }
            // What a document names that the list does not show yet would be swept.
            Ordering::Less => {
                let what = "the list does not show the newest document yet; nothing is swept";
                Err(Error::new(ErrorKind::Unavailable, Class::Transient, self.client.name(), what))
            }
        }
    }

    async fn server_unix_micros(&self) -> Result<i64> {
        let key = probe::key(&self.client);
        self.client.put_once(&key, Bytes::from_static(b"now"), PutMode::Overwrite).await?;
        let meta = self.client.head(&key).await?;
        self.client.delete(&key).await?;
        match meta {
            Some(meta) => Ok(meta.last_modified.timestamp_micros()),
            None => {
                Err(Error::corrupt(self.client.name(), &key, "a probe object is not there after its put"))
            }
        }
    }
}

/// The numbers of documents, with their dates, that are kept no longer, ascending: one that is old and all before it,
/// whatever the server says of their dates. Never the newest.
fn old_of(mut documents: Vec<(u64, i64)>, keep: usize, oldest_kept: i64) -> Vec<u64> {
    documents.sort_unstable_by_key(|(number, _)| Reverse(*number));
    let mut newest_first = documents.iter().enumerate().skip(1);
    let newest_old = newest_first.find(|(at, (_, modified))| *at >= keep || *modified < oldest_kept);
    let old = newest_old.map_or(&[][..], |(at, _)| &documents[at..]);
    old.iter().rev().map(|(number, _)| *number).collect()
}

/// Removes objects, many a request where the store can; those that are not there are removed already.
async fn delete_all(client: &Client, keys: Vec<String>) -> Result<()> {
    let paths = keys.iter().map(|key| client.path(key)).collect::<Result<Vec<_>>>()?;
    let Some(first) = keys.first() else { return Ok(()) };
    let removed = async {
        let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
        let answers = client.backend().store().delete_stream(paths).collect::<Vec<_>>().await;
        let mut failed = answers.into_iter().filter_map(std::result::Result::err);
        failed.find(|error| !matches!(error, StoreError::NotFound { .. })).map_or(Ok(()), Err)
    };
    client.once(Op::Delete, first, DELETE_LEN_BYTES, removed).await
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
