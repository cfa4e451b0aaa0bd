//! What a segment says of itself, from its footer alone: for a person with a file and no manifest.

use std::path::Path;

use akidb_host::Fs;
use serde::Serialize;

use super::footer::{self, SectionKey};
use super::reader::find_tail;
use crate::error::Result;
use crate::schema::Schema;

/// Everything found in a segment's tail, whose checksum was right.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// The name it was written under.
    pub segment: String,
    /// Bytes.
    pub size: u64,
    /// crc32 of the tail, its own digits as zeros.
    pub tail_crc32: String,
    /// First byte of the check table, where the tail begins.
    pub tail_offset: u64,
    /// 16 KiB blocks under checksum before the tail.
    pub blocks: usize,
    /// 0 for a flushed segment.
    pub level: u8,
    /// Rows, dead ones included.
    pub rows: u32,
    /// Smallest and largest id.
    pub ids: [String; 2],
    /// Lowest row LSN, `epoch:counter`.
    pub min_lsn: String,
    /// Highest row LSN.
    pub max_lsn: String,
    /// The schema it was written under.
    pub schema: Schema,
    /// Row groups in order.
    pub row_groups: Vec<RowGroupReport>,
    /// Sections in order.
    pub sections: Vec<SectionReport>,
}

/// One row group.
#[derive(Clone, Debug, Serialize)]
pub struct RowGroupReport {
    /// Rows.
    pub rows: i64,
    /// First byte of its vectors.
    pub vectors_offset: u64,
    /// Compressed bytes of each column, by name.
    pub columns: Vec<(String, i64)>,
}

/// One section.
#[derive(Clone, Debug, Serialize)]
pub struct SectionReport {
    /// `IDS`, `CODES`, `HEAD` or `CHK`.
    pub kind: String,
    /// First byte.
    pub offset: u64,
    /// Bytes with head and checksum.
    pub len: u64,
    /// crc32 of it.
    pub crc32: String,
}

/// Reads the tail of the segment at `path`, checks it and says what it holds. Blocks on the disk.
///
/// # Errors
/// `Corrupt` when the file is no segment of ours or its tail is damaged; `NewerFormat`; `NotFound`.
pub fn inspect_segment(fs: &dyn Fs, path: &Path) -> Result<SegmentReport> {
    let (tail, check, size) = find_tail(fs, path)?;
    let footer = footer::parse(&tail, check, size, path)?;
    let groups = footer.metadata.row_groups().iter().zip(&footer.rows.vectors);
    let row_groups = groups.map(|(group, vectors_offset)| RowGroupReport {
        rows: group.num_rows(),
        vectors_offset: *vectors_offset,
        columns: group
            .columns()
            .iter()
            .map(|c| (c.column_path().parts().first().cloned().unwrap_or_default(), c.compressed_size()))
            .collect(),
    });
    Ok(SegmentReport {
        segment: footer.name.to_string(),
        size,
        tail_crc32: format!("{:08x}", footer.tail_crc32),
        tail_offset: check.offset,
        blocks: footer.table.len(),
        level: footer.rows.level,
        rows: footer.rows.rows,
        ids: footer.rows.ids.clone(),
        min_lsn: footer.rows.min_lsn.to_string(),
        max_lsn: footer.rows.max_lsn.to_string(),
        row_groups: row_groups.collect(),
        sections: footer.sections.iter().map(section).collect(),
        schema: footer.schema,
    })
}

fn section(key: &SectionKey) -> SectionReport {
    SectionReport {
        kind: key.kind.clone(),
        offset: key.offset,
        len: key.len,
        crc32: format!("{:08x}", key.crc32),
    }
}
