//! The file behind an open segment: checked bytes, and names for what stands where.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::buffer::{Buffer, ScalarBuffer};
use parquet::file::metadata::ParquetMetaData;

use super::blocks::{Blocks, Describe, Fault};
use super::check::BLOCK_LEN;
use super::verify::mending;
use crate::error::{Error, Result};
use crate::segment_meta::SegmentMeta;

/// What mends a damaged object that is read where it lies.
pub(super) const COLD_HELP: &str = "the object is damaged on its backend: read from another backend, or upload to a fresh \
                                    prefix from a database that has the file";

/// A segment's file; shared by the segment and by readers of its columns.
pub(super) struct CheckedFile {
    pub(super) path: PathBuf,
    pub(super) blocks: Blocks,
    places: Places,
}

impl CheckedFile {
    pub(super) fn new(path: &Path, blocks: Blocks, places: Places) -> Self {
        Self { path: path.to_path_buf(), blocks, places }
    }

    /// Checked bytes.
    #[inline]
    pub(super) fn get(&self, range: Range<u64>) -> Result<&[u8]> {
        self.blocks.get(range).map_err(|fault| self.error(fault))
    }

    /// Checks `range`.
    #[inline]
    pub(super) fn check(&self, range: Range<u64>) -> Result<Range<usize>> {
        self.blocks.check(range).map_err(|fault| self.error(fault))
    }

    /// What the byte at `offset` belongs to.
    pub(super) fn describe(&self, offset: u64) -> String {
        self.places.describe(offset)
    }

    #[cold]
    fn error(&self, fault: Fault) -> Error {
        fault.into_error(&self.path, &self.places)
    }

    /// `len` bytes at `start` as numbers, unchecked. A real map begins on a page, so what the writer aligned is
    /// aligned here; a simulated one that does not is copied.
    pub(super) fn floats(&self, start: u64, len: u64) -> Option<ScalarBuffer<f32>> {
        let range = usize::try_from(start).ok()?..usize::try_from(start.checked_add(len)?).ok()?;
        let all = self.blocks.unchecked();
        if range.end > all.len() {
            return None;
        }
        let bytes = all.slice(range);
        let aligned = bytes.as_ptr().align_offset(align_of::<f32>()) == 0;
        let buffer = if aligned { Buffer::from(bytes) } else { Buffer::from_slice_ref(&bytes[..]) };
        Some(ScalarBuffer::from(buffer))
    }
}

/// Column chunks and sections by offset.
pub(super) struct Places {
    named: Vec<(Range<u64>, String)>,
    /// Whether they lie in an object.
    is_cold: bool,
}

impl Places {
    pub(super) fn new(metadata: &ParquetMetaData, meta: &SegmentMeta, is_cold: bool) -> Self {
        let mut places = Vec::new();
        let mut first_row = 0;
        for group in metadata.row_groups() {
            let last_row = first_row + group.num_rows() - 1;
            for column in group.columns() {
                let (start, len) = column.byte_range();
                let name = column.column_path().parts().first().map_or("", String::as_str);
                places.push((start..start + len, format!("column {name}, rows {first_row} to {last_row}")));
            }
            first_row = last_row + 1;
        }
        let sections = [
            (meta.id_index, "the id index"),
            (meta.codes, "the vector index, codes"),
            (meta.head, "the vector index, head"),
        ];
        for (place, name) in sections {
            places.extend(place.map(|p| (p.offset..p.offset + p.len, name.to_string())));
        }
        Self { named: places, is_cold }
    }
}

impl Describe for Places {
    fn describe(&self, offset: u64) -> String {
        let block = offset..(offset + BLOCK_LEN as u64);
        let hit = |r: &Range<u64>| r.start < block.end && block.start < r.end;
        let names: Vec<&str> =
            self.named.iter().filter(|(r, _)| hit(r)).map(|(_, n)| n.as_str()).take(4).collect();
        match names.as_slice() {
            [] => "padding".to_string(),
            names => names.join("; "),
        }
    }

    fn help(&self, path: &Path) -> String {
        if self.is_cold {
            return COLD_HELP.to_owned();
        }
        mending(path)
    }
}
