//! The raw floor: what anything on this disk must pay for one power-safe record.

use std::io;
use std::path::Path;
use std::sync::Arc;

use akidb_host::{File, Fs, RealFs};

const FILE_BYTES: u64 = 64 << 20;

/// One write of a record's size into blocks that exist (filled by 4 KiB writes), and one fdatasync. At the end of
/// its 64 MiB it starts over, as a recycled log file does.
#[derive(Debug)]
pub struct Floor {
    file: Arc<dyn File>,
    record: Vec<u8>,
    offset: u64,
}

impl Floor {
    /// Makes and fills `dir/floor`. Blocks for 64 MiB of writes.
    ///
    /// # Errors
    /// Whatever the disk says; `AlreadyExists` if there is one.
    pub fn new(dir: &Path, record_bytes: usize) -> io::Result<Self> {
        let file = RealFs.create_new(&dir.join("floor"))?;
        file.zero_fill(0, FILE_BYTES)?;
        file.sync_all()?;
        Ok(Self { file, record: vec![0x5a; record_bytes], offset: 0 })
    }

    /// Writes and syncs one record.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn write(&mut self) -> io::Result<()> {
        self.file.write_at(&self.record, self.offset)?;
        self.file.sync_data()?;
        self.offset += self.record.len() as u64;
        if self.offset + self.record.len() as u64 > FILE_BYTES {
            self.offset = 0;
        }
        Ok(())
    }
}
