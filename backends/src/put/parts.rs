//! A large file in parts: several at once where the store's uploads have ids, else one after the other.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, MultipartUpload, ObjectStoreExt, PutPayload};

use super::{Failed, Putter, Room, TAIL_LEN_BYTES, usize_of};
use crate::class::{Class, Op};
use crate::error::Result;
use crate::multiparts::Begun;
use crate::plan::PlanItem;
use crate::retry::Tries;

/// Parts of one file under way at the same time.
const PARALLEL_PARTS: usize = 4;
/// S3 takes no shorter part but the last, and no more of them.
const LEAST_PART_LEN_BYTES: usize = 5 << 20;
const MOST_PARTS: u64 = 10_000;

/// The reading of a file, front to back.
struct Reading {
    offset: u64,
    index: usize,
    crc: crc32fast::Hasher,
    tail: Vec<u8>,
}

impl Reading {
    fn new() -> Self {
        Self { offset: 0, index: 0, crc: crc32fast::Hasher::new(), tail: Vec::new() }
    }

    fn note(&mut self, part: &[u8]) {
        // A short last part: the tail may reach into the part before.
        self.tail.extend_from_slice(&part[part.len() - part.len().min(TAIL_LEN_BYTES)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_LEN_BYTES));
        self.offset += part.len() as u64;
        self.index += 1;
    }
}

/// An upload that has an id.
pub(super) struct Open<'p> {
    pub(super) parts: &'p dyn MultipartStore,
    pub(super) path: &'p Path,
    pub(super) id: MultipartId,
    pub(super) begun: Option<Begun>,
}

impl Putter {
    /// A quarter of the length from which files go in parts, within what S3 allows.
    pub(super) fn part_len(&self, len: u64) -> Result<usize> {
        let whole = self.part_len_bytes.max(1);
        let usual = (whole / 4).max(whole.min(LEAST_PART_LEN_BYTES));
        Ok(usual.max(usize_of(self.client.name(), len.div_ceil(MOST_PARTS))?))
    }

    /// Puts the file in parts and returns its last bytes. The checksum is known at the end only, so a bad file is
    /// aborted instead of completed. Parts and completion are repeated by themselves, never the whole file with them.
    pub(super) async fn put_parts(&self, item: &PlanItem, tries: &mut Tries) -> Result<Bytes, Failed> {
        let path = self.client.path(&item.key)?;
        let Some(parts) = self.client.backend().parts() else { return self.put_in_turn(item, &path).await };
        let key = &item.key;
        let id = self
            .client
            .repeat(Op::Part, key, 0, || parts.create_multipart(&path))
            .await
            .map_err(Failed::spent)?;
        let begun = self.multiparts.as_ref().map(|journal| journal.begin(key, &id));
        let open = Open { parts: parts.as_ref(), path: &path, id, begun };
        let done = match self.send_all(item, &open).await {
            Ok((ids, tail)) => self.complete(item, &open, ids, &tail, tries).await.map(|()| tail),
            Err(error) => Err(Failed::spent(error)),
        };
        let has_ended = match &done {
            Ok(_) => true,
            // The cause is what matters; what cannot be aborted now is left to the next start.
            Err(_) => self.abort(item, &open).await,
        };
        if has_ended && let Some(begun) = open.begun {
            begun.end();
        }
        done
    }

    /// Reads front to back, each part when there is memory for it, and sends several at once.
    pub(super) async fn send_all(&self, item: &PlanItem, open: &Open<'_>) -> Result<(Vec<PartId>, Bytes)> {
        let part_len = self.part_len(item.len)?;
        let ended = Mutex::new(None);
        let reads = stream::try_unfold(Reading::new(), |mut reading| {
            let ended = &ended;
            async move {
                let left = item.len - reading.offset;
                if left == 0 {
                    *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
                    return Ok(None);
                }
                let len = usize_of(self.client.name(), left.min(part_len as u64))?;
                let room = self.room_for(len as u64).await;
                let (index, offset) = (reading.index, reading.offset);
                let part = self.read(item, offset, len, &mut reading.crc).await?;
                reading.note(&part);
                Ok(Some((self.send(item, open, index, part.into(), room), reading)))
            }
        });
        let mut sent: Vec<(usize, PartId)> = reads.try_buffer_unordered(PARALLEL_PARTS).try_collect().await?;
        sent.sort_unstable_by_key(|(index, _)| *index);
        let reading = ended.into_inner().unwrap_or_else(PoisonError::into_inner).expect("read to its end");
        self.check_crc(item, reading.crc)?;
        Ok((sent.into_iter().map(|(_, id)| id).collect(), Bytes::from(reading.tail)))
    }

    async fn send(
        &self,
        item: &PlanItem,
        open: &Open<'_>,
        index: usize,
        part: Bytes,
        _room: Room<'_>,
    ) -> Result<(usize, PartId)> {
        let put = || open.parts.put_part(open.path, &open.id, index, PutPayload::from_bytes(part.clone()));
        let id = self.client.repeat(Op::Part, &item.key, part.len() as u64, put).await?;
        Ok((index, id))
    }

    /// Completes, and looks what stands there whenever the answer leaves that open.
    async fn complete(
        &self,
        item: &PlanItem,
        open: &Open<'_>,
        ids: Vec<PartId>,
        tail: &Bytes,
        tries: &mut Tries,
    ) -> Result<(), Failed> {
        loop {
            let complete = open.parts.complete_multipart(open.path, &open.id, ids.clone());
            let error = match self.client.once(Op::Complete, &item.key, 0, complete).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if !error.is_held() && self.verify(item, tail).await.is_ok() {
                return Ok(());
            }
            match self.client.pause_after(&error, tries) {
                Some(pause) => self.client.sleep().pause(pause).await,
                None => return Err(Failed::spent(error)),
            }
        }
    }

    /// Whether the upload is gone.
    async fn abort(&self, item: &PlanItem, open: &Open<'_>) -> bool {
        let abort = open.parts.abort_multipart(open.path, &open.id);
        match self.client.once(Op::Delete, &item.key, 0, abort).await {
            Ok(()) => true,
            Err(error) => error.class() == Class::NotFound,
        }
    }

    /// For stores whose uploads have no ids: one part after the other.
    async fn put_in_turn(&self, item: &PlanItem, path: &Path) -> Result<Bytes, Failed> {
        let key = &item.key;
        let start = self.client.backend().store().put_multipart(path);
        let mut upload = self.client.once(Op::Part, key, 0, start).await?;
        let done = self.send_in_turn(item, upload.as_mut()).await;
        if done.is_err() {
            // The cause is what matters; parts that stay are for the bucket's lifecycle rule.
            let _ = self.client.once(Op::Delete, key, 0, upload.abort()).await;
        }
        let tail = done?;
        match self.client.once(Op::Complete, key, 0, upload.complete()).await {
            Ok(_) => Ok(tail),
            // Perhaps only the answer was lost. What stands there decides.
            Err(error) if self.verify(item, &tail).await.is_err() => Err(error.into()),
            Err(_) => Ok(tail),
        }
    }

    async fn send_in_turn(&self, item: &PlanItem, upload: &mut dyn MultipartUpload) -> Result<Bytes> {
        let part_len = self.part_len(item.len)? as u64;
        let mut reading = Reading::new();
        while reading.offset < item.len {
            let len = usize_of(self.client.name(), (item.len - reading.offset).min(part_len))?;
            let _room = self.room_for(len as u64).await;
            let part = self.read(item, reading.offset, len, &mut reading.crc).await?;
            reading.note(&part);
            let put = upload.put_part(PutPayload::from(part));
            self.client.once(Op::Part, &item.key, len as u64, put).await?;
        }
        self.check_crc(item, reading.crc)?;
        Ok(Bytes::from(reading.tail))
    }
}
