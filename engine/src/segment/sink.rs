//! Where the Parquet writer's bytes go: a file, checksummed block by block as they pass, its tail held back until sealed.

use std::io::{self, Write};
use std::sync::Arc;

use akidb_host::File;
use crc32fast::Hasher;

use super::check::BLOCK_LEN;
use super::format::seal_tail;

/// Bytes gathered before a write.
const BUFFER_LEN: usize = 1024 * 1024;

/// What a finished sink has seen.
pub(super) struct Sealed {
    /// Bytes of the file.
    pub(super) size: u64,
    /// crc32 of all of them.
    pub(super) crc32: u32,
    /// crc32 of the tail, its digits as zeros.
    pub(super) tail_crc32: u32,
}

/// A [`Write`] over a new file.
pub(super) struct Sink {
    file: Arc<dyn File>,
    /// Bytes of `buffer` that come next in the file, from `written` on.
    buffer: Vec<u8>,
    written: u64,
    whole: Hasher,
    block: Hasher,
    block_len: usize,
    table: Vec<u32>,
    tail: Option<Vec<u8>>,
}

impl Sink {
    pub(super) fn new(file: Arc<dyn File>) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER_LEN),
            written: 0,
            whole: Hasher::new(),
            block: Hasher::new(),
            block_len: 0,
            table: Vec::new(),
            tail: None,
        }
    }

    /// Ends the last block: what is written from here on is the tail. Gives the checksums of all blocks and how
    /// many bytes they cover.
    pub(super) fn begin_tail(&mut self) -> (Vec<u32>, u64) {
        if self.block_len > 0 {
            self.end_block();
        }
        self.tail = Some(Vec::new());
        (std::mem::take(&mut self.table), self.written + self.buffer.len() as u64)
    }

    /// Seals and writes the tail. Nothing is synced yet.
    pub(super) fn finish(&mut self) -> io::Result<Sealed> {
        let mut tail = self.tail.take().ok_or_else(|| io::Error::other("the tail was never begun"))?;
        let tail_crc32 = seal_tail(&mut tail)
            .ok_or_else(|| io::Error::other("the footer has no tail checksum to seal"))?;
        self.whole.update(&tail);
        self.buffer.extend_from_slice(&tail);
        self.write_buffer()?;
        Ok(Sealed { size: self.written, crc32: self.whole.clone().finalize(), tail_crc32 })
    }

    fn hash(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_LEN - self.block_len));
            self.block.update(now);
            self.block_len += now.len();
            if self.block_len == BLOCK_LEN {
                self.end_block();
            }
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        // The checksum of the whole follows from those of its parts: the bytes are hashed once.
        self.whole.combine(&block);
        self.table.push(block.finalize());
        self.block_len = 0;
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(tail) = &mut self.tail {
            tail.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        if self.buffer.len() >= BUFFER_LEN || bytes.len() >= BUFFER_LEN {
            self.write_buffer()?;
        }
        self.hash(bytes);
        if bytes.len() >= BUFFER_LEN {
            // Large pieces, such as codes, go to the file from where they lie.
            self.file.write_at(bytes, self.written)?;
            self.written += bytes.len() as u64;
            return Ok(bytes.len());
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Bytes stay gathered: durability is the caller's `sync_data` after [`Sink::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
