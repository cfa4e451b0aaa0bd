//! One local file onto the backend: read and checked, put, and verified there.

use std::fmt;
use std::sync::Arc;

use akidb_host::{Access, Advice, File, Fs};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutMode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{Instrument, info_span};

use crate::class::Op;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::multiparts::Multiparts;
use crate::plan::PlanItem;
use crate::retry::Tries;

mod parts;
#[cfg(test)]
mod tests;

/// Bytes of the end of an object that are read back after each put.
const TAIL_LEN_BYTES: usize = 4096;
/// How much of a local file is read between two looks at other work.
const READ_LEN_BYTES: usize = 1 << 20;
/// Bytes of files in memory are counted in units of this many.
const UNIT_LEN_BYTES: u64 = 64 << 10;

/// Told of the pieces of files that are about to be read into memory.
pub trait PieceMemory: fmt::Debug + Send + Sync {
    /// So many bytes are in memory until the answer is dropped. Never waits.
    fn hold(&self, bytes: u64) -> Box<dyn fmt::Debug + Send + Sync>;
}

/// Puts files. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Putter {
    pub(crate) client: Client,
    pub(crate) fs: Arc<dyn Fs>,
    /// Files above this length go in parts.
    part_len_bytes: usize,
    /// Where uploads in parts are written down, if they are.
    pub(crate) multiparts: Option<Arc<Multiparts>>,
    memory: Arc<Semaphore>,
    /// All units of it.
    units: u32,
    /// Told of what is in memory.
    pub(crate) held_by: Option<Arc<dyn PieceMemory>>,
}

/// Room for a piece of a file in memory.
pub(super) struct Room<'a> {
    _units: SemaphorePermit<'a>,
    _held: Option<Box<dyn fmt::Debug + Send + Sync>>,
}

/// A failed put, and whether its attempts are used up.
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) is_spent: bool,
}

impl Failed {
    fn spent(error: Error) -> Self {
        Self { error, is_spent: true }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, is_spent: false }
    }
}

impl Putter {
    /// Puts files, with about `memory_bytes` of them in memory at the same time.
    pub(crate) fn new(client: Client, fs: Arc<dyn Fs>, part_len_bytes: usize, memory_bytes: u64) -> Self {
        let units =
            u32::try_from(memory_bytes.div_ceil(UNIT_LEN_BYTES)).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        let memory = Arc::new(Semaphore::new(units as usize));
        Self { client, fs, part_len_bytes, multiparts: None, memory, units, held_by: None }
    }

    /// The same for work that can wait.
    pub(crate) fn background(&self) -> Self {
        Self { client: self.client.background(), ..self.clone() }
    }

    /// Waits until `len` bytes more may be in memory; more than all of it goes alone.
    async fn room_for(&self, len: u64) -> Room<'_> {
        let units = u32::try_from(len.div_ceil(UNIT_LEN_BYTES)).unwrap_or(u32::MAX).min(self.units);
        let units = self.memory.acquire_many(units).await.expect("never closed");
        Room { _units: units, _held: self.held_by.as_ref().map(|memory| memory.hold(len)) }
    }

    /// Puts the file and verifies it: one attempt. Repeating is harmless: the key always stands for the same bytes.
    ///
    /// # Errors
    /// `Corrupt` with class `Local` if the local file is not what the plan says: then nothing is put.
    pub(crate) async fn attempt(&self, item: &PlanItem, tries: &mut Tries) -> Result<(), Failed> {
        let tail = if item.len <= self.part_len_bytes as u64 {
            self.put_whole(item).await?
        } else {
            // Before an upload is begun for it.
            drop(self.open(item)?);
            self.put_parts(item, tries).await?
        };
        Ok(self.verify(item, &tail).instrument(info_span!("verify")).await?)
    }

    fn open(&self, item: &PlanItem) -> Result<Arc<dyn File>> {
        let unread = |e| Error::unread(self.client.name(), &item.local, e).at_offset(0);
        let file = self.fs.open(&item.local, Access::Read).map_err(unread)?;
        let len = file.len().map_err(unread)?;
        if len != item.len {
            let what = format!("local file has {len} bytes, its manifest says {}; not uploaded", item.len);
            return Err(Error::local(self.client.name(), &item.local, what).at_offset(len.min(item.len)));
        }
        Ok(file)
    }

    /// Reads `len` bytes from `offset` into the running checksum, letting other work run in between. The file is open for
    /// no longer than this: who waits for memory, or for an answer, holds no descriptor.
    async fn read(
        &self,
        item: &PlanItem,
        offset: u64,
        len: usize,
        crc: &mut crc32fast::Hasher,
    ) -> Result<Vec<u8>> {
        let file = self.open(item)?;
        let mut bytes = vec![0; len];
        for (i, chunk) in bytes.chunks_mut(READ_LEN_BYTES).enumerate() {
            let at = offset + (i * READ_LEN_BYTES) as u64;
            let read = file.read_exact_at(chunk, at);
            read.map_err(|e| Error::unread(self.client.name(), &item.local, e).at_offset(at))?;
            crc.update(chunk);
            tokio::task::yield_now().await;
        }
        if offset + len as u64 == item.len {
            file.advise(Advice::DontNeed);
        }
        Ok(bytes)
    }

    fn check_crc(&self, item: &PlanItem, crc: crc32fast::Hasher) -> Result<()> {
        let found = crc.finalize();
        if found == item.crc32 {
            return Ok(());
        }
        let what = format!(
            "local file's checksum is {found:08x}, its manifest says {:08x}; not uploaded",
            item.crc32
        );
        Err(Error::local(self.client.name(), &item.local, what))
    }

    async fn put_whole(&self, item: &PlanItem) -> Result<Bytes> {
        let _room = self.room_for(item.len).await;
        let mut crc = crc32fast::Hasher::new();
        let len = usize_of(self.client.name(), item.len)?;
        let bytes = Bytes::from(self.read(item, 0, len, &mut crc).await?);
        self.check_crc(item, crc)?;
        // A copy: the rest of the file need not stay in memory while it is verified.
        let tail = Bytes::copy_from_slice(&bytes[len - len.min(TAIL_LEN_BYTES)..]);
        self.client.put_once(&item.key, bytes, PutMode::Overwrite).await?;
        Ok(tail)
    }

    /// The object has the file's length and its last bytes; where no checksum went with the request, all of
    /// it is read back and compared.
    async fn verify(&self, item: &PlanItem, tail: &Bytes) -> Result<()> {
        let wrong = |what: String| {
            let error = Error::corrupt(self.client.name(), &item.key, what);
            // A fresh put may mend it.
            Err(error.into_transient())
        };
        match self.client.head(&item.key).await? {
            Some(meta) if meta.size == item.len => {}
            Some(meta) => {
                return wrong(format!("stored object has {} bytes, {} were put", meta.size, item.len));
            }
            None => return wrong("stored object is not there after its put".to_owned()),
        }
        if item.len == 0 {
            return Ok(());
        }
        if !self.client.backend().reads_back() {
            let from = item.len - tail.len() as u64;
            let found = self.client.get_range(&item.key, from..item.len).await?;
            return if found == *tail {
                Ok(())
            } else {
                wrong("stored object ends in other bytes".to_owned())
            };
        }
        let found = self.stored_crc32(&item.key, item.len).await?;
        if found == item.crc32 { Ok(()) } else { wrong(format!("stored object's checksum is {found:08x}")) }
    }

    async fn stored_crc32(&self, key: &str, len: u64) -> Result<u32> {
        let path = self.client.path(key)?;
        let read = async {
            let mut chunks = self.client.backend().store().get(&path).await?.into_stream();
            let mut crc = crc32fast::Hasher::new();
            while let Some(chunk) = chunks.try_next().await? {
                crc.update(&chunk);
            }
            Ok(crc.finalize())
        };
        self.client.once(Op::Get, key, len, read).await
    }

    /// Whether an object of the item's length is still there.
    pub(crate) async fn is_there(&self, item: &PlanItem) -> Result<bool> {
        Ok(self.client.head(&item.key).await?.is_some_and(|meta| meta.size == item.len))
    }
}

fn usize_of(backend: &str, len: u64) -> Result<usize> {
    usize::try_from(len).map_err(|_| Error::invalid(backend, format!("a length of {len} bytes")))
}
