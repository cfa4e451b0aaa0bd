//! The sections of a segment that is being written: id index, vector index and check table, in file order.

use parquet::errors::Result as ParquetResult;
use parquet::file::writer::SerializedFileWriter;

use super::footer::{SectionKey, place_of};
use super::format::{ALIGN, CRC_LEN, HEAD_LEN, Kind, frame_section, padding};
use super::name::SegmentName;
use super::sink::Sink;
use crate::segment_meta::Place;

/// The sections written so far.
pub(super) struct Sections {
    name: SegmentName,
    keys: Vec<SectionKey>,
}

impl Sections {
    pub(super) fn new(name: SegmentName) -> Self {
        Self { name, keys: Vec::new() }
    }

    /// Writes a section on the next multiple of 64 and gives its place. The body, which may be large, is not copied.
    pub(super) fn write(
        &mut self,
        file: &mut SerializedFileWriter<Sink>,
        kind: Kind,
        body: &[u8],
    ) -> ParquetResult<Place> {
        pad(file, ALIGN)?;
        let (head, crc32) = frame_section(kind, self.name, body);
        let (offset, len) = (file.bytes_written() as u64, (HEAD_LEN + body.len() + CRC_LEN) as u64);
        for part in [&head[..], body, &crc32.to_le_bytes()] {
            file.write_all(part)?;
        }
        // `crc32` is the one the section ends in: taken over that as well it would be the same for all sections.
        self.keys.push(SectionKey { kind: kind.name().to_string(), offset, len, crc32 });
        Ok(Place { offset, len })
    }

    /// Where the section of that kind lies, if it was written.
    pub(super) fn place(&self, kind: Kind) -> Option<Place> {
        place_of(&self.keys, kind)
    }

    /// All of them, as the footer names them.
    pub(super) fn keys(&self) -> &[SectionKey] {
        &self.keys
    }
}

/// Writes zeros up to a multiple of `align`.
pub(super) fn pad(file: &mut SerializedFileWriter<Sink>, align: u64) -> ParquetResult<()> {
    let zeros = padding(file.bytes_written() as u64, align);
    Ok(file.write_all(&vec![0; usize::try_from(zeros)?])?)
}
