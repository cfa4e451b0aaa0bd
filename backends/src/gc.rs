//! The sweep of a backend: objects that no kept document names and no plan needs.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use object_store::PutMode;

use crate::class::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::numbered;
use crate::publish::Publisher;

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
    /// plan at hand) and that are older than the grace, by the server's own clock. With `dry_run` it only
    /// reports them. Undone deletes are found again by the next sweep.
    ///
    /// # Errors
    /// `Fenced` if somebody else has claimed by now: only the writer whose claim is the newest may sweep.
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
            if !dry_run {
                self.client.delete(&key).await?;
                self.forget(&key);
            }
            swept.removed.push(key);
        }
        Ok(swept)
    }

    async fn live(&self, pinned: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut live = pinned.clone();
        for number in numbered::numbers(&self.client).await? {
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
        let key = format!("probe/{}", self.client.random_id());
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

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
