//! One local file onto the backend: read and checked, put, and verified there.

use std::path::Path as LocalPath;
use std::sync::Arc;

use akidb_host::{Access, Advice, File, Fs};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutPayload};
use tracing::{Instrument, info_span};

use crate::class::Op;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::plan::PlanItem;

/// Bytes of the end of an object that are read back after each put.
const TAIL_LEN_BYTES: usize = 4096;
/// How much of a local file is read between two looks at other work.
const READ_LEN_BYTES: usize = 1 << 20;

/// Puts files. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Putter {
    pub(crate) client: Client,
    pub(crate) fs: Arc<dyn Fs>,
    /// Files above this length go in parts of this length; at least 5 MiB on S3.
    pub(crate) part_len_bytes: usize,
}

impl Putter {
    /// Puts the file and verifies it: one attempt. Repeating is harmless: the key always stands for the same bytes.
    ///
    /// # Errors
    /// `Corrupt` with class `Local` if the local file is not what the plan says: then nothing is put.
    pub(crate) async fn attempt(&self, item: &PlanItem) -> Result<()> {
        let file = self.open(item)?;
        let tail = if item.len <= self.part_len_bytes as u64 {
            self.put_whole(item, file.as_ref()).await?
        } else {
            self.put_parts(item, file.as_ref()).await?
        };
        file.advise(Advice::DontNeed);
        self.verify(item, &tail).instrument(info_span!("verify")).await
    }

    fn open(&self, item: &PlanItem) -> Result<Arc<dyn File>> {
        let file = self.fs.open(&item.local, Access::Read).map_err(|e| self.unreadable(&item.local, 0, e))?;
        let len = file.len().map_err(|e| self.unreadable(&item.local, 0, e))?;
        if len != item.len {
            let what = format!("local file has {len} bytes, its manifest says {}; not uploaded", item.len);
            return Err(Error::local(self.client.name(), &item.local, what).at_offset(len.min(item.len)));
        }
        Ok(file)
    }

    fn unreadable(&self, path: &LocalPath, offset: u64, error: std::io::Error) -> Error {
        Error::local(self.client.name(), path, "cannot read local file").at_offset(offset).because(error)
    }

    /// Reads `len` bytes from `offset` into the running checksum, letting other work run in between.
    async fn read(
        &self,
        item: &PlanItem,
        file: &dyn File,
        offset: u64,
        len: usize,
        crc: &mut crc32fast::Hasher,
    ) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        for (i, chunk) in bytes.chunks_mut(READ_LEN_BYTES).enumerate() {
            let at = offset + (i * READ_LEN_BYTES) as u64;
            file.read_exact_at(chunk, at).map_err(|e| self.unreadable(&item.local, at, e))?;
            crc.update(chunk);
            tokio::task::yield_now().await;
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

    async fn put_whole(&self, item: &PlanItem, file: &dyn File) -> Result<Bytes> {
        let mut crc = crc32fast::Hasher::new();
        let len = usize_of(self.client.name(), item.len)?;
        let bytes = Bytes::from(self.read(item, file, 0, len, &mut crc).await?);
        self.check_crc(item, crc)?;
        let tail = bytes.slice(len - len.min(TAIL_LEN_BYTES)..);
        self.client.put_once(&item.key, bytes, PutMode::Overwrite).await?;
        Ok(tail)
    }

    /// In parts: the checksum is known at the end only, so a bad file is aborted instead of completed.
    async fn put_parts(&self, item: &PlanItem, file: &dyn File) -> Result<Bytes> {
        let path = self.client.path(&item.key)?;
        let start = self.client.backend().store().put_multipart(&path);
        let mut upload = self.client.once(Op::Part, &item.key, 0, start).await?;
        let done = self.send_parts(item, file, upload.as_mut()).await;
        if done.is_err() {
            // The cause is what matters; parts that stay are for the bucket's lifecycle rule.
            let _ = self.client.once(Op::Delete, &item.key, 0, upload.abort()).await;
        }
        let tail = done?;
        match self.client.once(Op::Complete, &item.key, 0, upload.complete()).await {
            Ok(_) => Ok(tail),
            // Perhaps only the answer was lost. What stands there decides.
            Err(error) if self.verify(item, &tail).await.is_err() => Err(error),
            Err(_) => Ok(tail),
        }
    }

    async fn send_parts(
        &self,
        item: &PlanItem,
        file: &dyn File,
        upload: &mut dyn MultipartUpload,
    ) -> Result<Bytes> {
        let mut crc = crc32fast::Hasher::new();
        let mut tail = Vec::new();
        let mut offset = 0;
        while offset < item.len {
            let len = usize_of(self.client.name(), (item.len - offset).min(self.part_len_bytes as u64))?;
            let part = self.read(item, file, offset, len, &mut crc).await?;
            // A short last part: the tail may reach into the part before.
            tail.extend_from_slice(&part[part.len() - part.len().min(TAIL_LEN_BYTES)..]);
            tail.drain(..tail.len().saturating_sub(TAIL_LEN_BYTES));
            let part = upload.put_part(PutPayload::from(part));
            self.client.once(Op::Part, &item.key, len as u64, part).await?;
            offset += len as u64;
        }
        self.check_crc(item, crc)?;
        Ok(Bytes::from(tail))
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
