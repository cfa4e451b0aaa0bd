//! The chain of remote documents as one writer sees it: find the newest, claim, commit, be fenced.

use object_store::PutMode;

use super::{Content, Document, Parent, Sealed, VERSION, encode, key_of, newest, read};
use crate::class::Class;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::retry::Tries;

/// Who publishes: one open for writing of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The database.
    pub db_id: String,
    /// The epoch of this open; higher than that of every earlier one.
    pub epoch: u64,
    /// The random id of this open.
    pub writer: u32,
}

/// A writer's view of a backend's documents. Dropping it, also in the middle of a call, loses nothing: the
/// next open reads what is there.
#[derive(Debug)]
pub struct Chain {
    client: Client,
    newest: Option<Sealed>,
    owner: Option<Identity>,
    pending: Option<Pending>,
    refused: Option<Error>,
}

/// A document whose fate is not known. Its number is never used for other bytes before a look has shown
/// whose document stands there: a late request may still land.
#[derive(Clone, Debug)]
struct Pending {
    sealed: Sealed,
    bytes: bytes::Bytes,
}

enum Settled {
    Ours,
    Lost(Box<Sealed>),
    /// Ours stands where documents of others were and have been removed: this is the newest.
    PassedOver(Box<Sealed>),
}

impl Chain {
    /// Finds the newest document. Claims nothing.
    ///
    /// # Errors
    /// `Corrupt` if the newest document is damaged; `Unavailable` if the backend does not answer.
    pub async fn open(client: Client) -> Result<Self> {
        let newest = newest(&client).await?;
        Ok(Self { client, newest, owner: None, pending: None, refused: None })
    }

    /// The newest document known.
    #[must_use]
    pub fn newest(&self) -> Option<&Document> {
        self.newest.as_ref().map(|sealed| &sealed.document)
    }

    /// Whether [`Chain::claim`] has succeeded and nobody has been met since.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        self.owner.is_some() && self.refused.is_none()
    }

    /// Makes this writer the one that publishes here: creates the next document with its epoch, carrying the
    /// content that was there. Returns that document's number. Claiming again is free.
    ///
    /// # Errors
    /// `Fenced` if a higher epoch, or another writer of the same epoch, has claimed; `Conflict` if the
    /// backend belongs to another database. Both are final for this chain.
    pub async fn claim(&mut self, identity: Identity) -> Result<u64> {
        self.check_open()?;
        loop {
            if let Some(newest) = self.newest.clone() {
                self.meet(&newest, &identity)?;
                let ours = newest.document.epoch == identity.epoch;
                if ours && self.pending.is_none() {
                    self.owner = Some(identity);
                    return Ok(newest.document.number);
                }
            }
            if self.pending.is_none() {
                let content = self.newest().and_then(|document| document.content.clone());
                self.pending = Some(self.next(&identity, content));
            }
            match self.settle().await? {
                Settled::Ours => {}
                Settled::Lost(other) => self.adopt(*other, &identity)?,
                Settled::PassedOver(newest) => self.newest = Some(*newest),
            }
        }
    }

    /// Publishes `content` as the next document and returns its number. Every file it names must have been
    /// verified on the backend.
    ///
    /// # Errors
    /// `Fenced` (final) if somebody else has claimed; `Unavailable` with [`Fate::Unknown`] if the backend
    /// stopped answering: the next call first finds out what became of this one.
    pub async fn commit(&mut self, content: Content) -> Result<u64> {
        self.check_open()?;
        let Some(identity) = self.owner.clone() else {
            return Err(Error::new(
                ErrorKind::Internal,
                Class::Permanent,
                self.client.name(),
                "commit before claim",
            ));
        };
        loop {
            let mine = match &self.pending {
                Some(pending) => pending.sealed.document.content.as_ref() == Some(&content),
                None => {
                    self.pending = Some(self.next(&identity, Some(content.clone())));
                    true
                }
            };
            match self.settle().await? {
                Settled::Ours if mine => return Ok(self.newest().map_or(0, |document| document.number)),
                Settled::Ours => {}
                Settled::Lost(other) => {
                    self.refuse_late_writer(&other, &identity)?;
                    self.adopt(*other, &identity)?;
                }
                Settled::PassedOver(newest) => {
                    self.refuse_late_writer(&newest, &identity)?;
                    self.meet(&newest, &identity)?;
                    self.newest = Some(*newest);
                }
            }
        }
    }

    fn check_open(&self) -> Result<()> {
        self.refused.clone().map_or(Ok(()), Err)
    }

    /// Creates the pending document, and looks whose document is there whenever the answer leaves that open.
    async fn settle(&mut self) -> Result<Settled> {
        let Some(pending) = self.pending.clone() else { return Ok(Settled::Ours) };
        let number = pending.sealed.document.number;
        let key = key_of(number);
        let mut tries = Tries::default();
        loop {
            let error = match self.client.put_once(&key, pending.bytes.clone(), PutMode::Create).await {
                Ok(()) => break,
                Err(error) if error.class() == Class::Auth => return Err(error.fated(Fate::Unknown)),
                Err(error) => error,
            };
            match read(&self.client, number).await.map_err(|e| e.fated(Fate::Unknown))? {
                Some(found) if found.document.commit == pending.sealed.document.commit => break,
                Some(found) => {
                    self.pending = None;
                    return Ok(Settled::Lost(Box::new(found)));
                }
                None => {}
            }
            match self.client.pause_after(&error, &mut tries) {
                Some(pause) => self.client.sleep().pause(pause).await,
                None => return Err(unsettled(error)),
            }
        }
        let newest = self.passed_over(&pending.sealed).await.map_err(|e| e.fated(Fate::Unknown))?;
        if let Some(newest) = newest {
            // Nobody follows it. If it stays, the next to prune removes it.
            if let Err(error) = self.client.delete(&key).await {
                tracing::debug!(%error, "a document out of place stays for the next sweep");
            }
            self.pending = None;
            return Ok(Settled::PassedOver(Box::new(newest)));
        }
        self.pending = None;
        self.newest = Some(pending.sealed);
        Ok(Settled::Ours)
    }

    /// The newest document, if this one that has just been created is not among those before it. Documents are removed
    /// in the order of their numbers, one after the other, and the newest never: as long as the parent is there, no
    /// number after it was ever taken and freed. So a writer that stood still, for however long, meets whoever has
    /// published since, or finds its parent gone.
    async fn passed_over(&self, created: &Sealed) -> Result<Option<Sealed>> {
        let number = created.document.number;
        if let Some(parent) = created.document.parent
            && self.client.head(&key_of(parent.number)).await?.is_some()
        {
            return Ok(None);
        }
        let newer = newest(&self.client).await?.filter(|newest| newest.document.number > number);
        let Some(newer) = newer else { return Ok(None) };
        let next = read(&self.client, number + 1).await?.and_then(|next| next.document.parent);
        let is_followed = next == Some(Parent { number, crc32: created.crc32 });
        Ok((!is_followed).then_some(newer))
    }

    fn next(&self, identity: &Identity, content: Option<Content>) -> Pending {
        let parent = self.newest.as_ref().map(|n| Parent { number: n.document.number, crc32: n.crc32 });
        let document = Document {
            version: VERSION,
            compatible: 0,
            incompatible: 0,
            number: parent.map_or(1, |parent| parent.number + 1),
            parent,
            db_id: identity.db_id.clone(),
            epoch: identity.epoch,
            writer: identity.writer,
            commit: self.client.random_id(),
            content,
        };
        let (bytes, crc32) = encode(&document);
        Pending { sealed: Sealed { document, crc32 }, bytes }
    }

    /// Takes another's document as the newest, if that does not fence us.
    fn adopt(&mut self, other: Sealed, identity: &Identity) -> Result<()> {
        self.meet(&other, identity)?;
        let parent = self.newest.as_ref().map(|n| Parent { number: n.document.number, crc32: n.crc32 });
        if other.document.parent != parent {
            let what = "a remote document does not follow the one before it: its history was changed";
            return Err(Error::corrupt(self.client.name(), &key_of(other.document.number), what));
        }
        self.newest = Some(other);
        Ok(())
    }

    /// What another's document means for us; a refusal is final.
    fn meet(&mut self, other: &Sealed, identity: &Identity) -> Result<()> {
        let document = &other.document;
        let refusal = if document.db_id != identity.db_id {
            let what = format!("belongs to database {}, not to {}", document.db_id, identity.db_id);
            Error::new(ErrorKind::Conflict, Class::Permanent, self.client.name(), what)
        } else if document.epoch > identity.epoch
            || (document.epoch == identity.epoch && document.writer != identity.writer)
        {
            let what = format!(
                "claimed by epoch {} of writer {:08x}; this is epoch {} of writer {:08x}; nothing more is published \
                 from here",
                document.epoch, document.writer, identity.epoch, identity.writer
            );
            Error::new(ErrorKind::Fenced, Class::Permanent, self.client.name(), what)
        } else {
            return Ok(());
        };
        let refusal = refusal.at(&key_of(document.number));
        self.refused = Some(refusal.clone());
        Err(refusal)
    }

    /// After our claim no older writer can have created a document: it would have met ours. One that did
    /// shows a store that does not honour conditional puts.
    fn refuse_late_writer(&mut self, other: &Sealed, identity: &Identity) -> Result<()> {
        let document = &other.document;
        if document.db_id != identity.db_id || document.epoch >= identity.epoch {
            return Ok(());
        }
        let what = format!("epoch {} published after epoch {} had claimed", document.epoch, identity.epoch);
        let refusal = Error::corrupt(self.client.name(), &key_of(document.number), what);
        self.refused = Some(refusal.clone());
        Err(refusal)
    }
}

/// The look said "not there", but a late request may still land.
fn unsettled(error: Error) -> Error {
    match error.class() {
        Class::Permanent | Class::NotFound => error,
        // Refused, yet nothing is there: the server was busy with another request for the same key.
        Class::Conflict => error.into_unavailable().fated(Fate::Unknown),
        _ => error.fated(Fate::Unknown),
    }
}
