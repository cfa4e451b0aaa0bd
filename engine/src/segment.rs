//! Segments: immutable Parquet files whose vectors are searched where they lie and whose every byte is checked.
//!
//! The file is drawn byte by byte in `segment/format.rs` and docs/formats/segment.md. Any Parquet reader sees an
//! ordinary table; what only we read (id hashes, check table) lies between the last row group and the footer.

mod arrow_schema;
mod blocks;
mod cells;
mod check;
mod checked_file;
mod cold_file;
mod columns;
mod encodings;
mod footer;
mod format;
mod id_index;
mod ids;
mod index_sections;
mod inspect;
mod joined;
mod name;
mod origin;
mod page;
mod page_cache;
mod page_header;
mod pages;
mod plain_page;
mod reader;
mod round;
mod row_group;
mod row_source;
mod rows;
mod sections;
mod sink;
mod source;
mod statistics;
mod times;
mod touched;
mod vector_index;
mod verify;
mod whole_column;
mod writer;

#[cfg(test)]
mod tests;

pub use inspect::{RowGroupReport, SectionReport, SegmentReport, inspect_segment};
pub use verify::{Damage, VerifyReport};

#[expect(unused_imports, reason = "flush, recovery and search, which name them, come next")]
pub(crate) use {
    arrow_schema::column_count,
    cold_file::{ColdFile, Fetched, Remote},
    columns::Column,
    name::SegmentName,
    page_cache::{PageCache, PageCounts},
    reader::{Segment, Touched},
    round::{Round, fetch_tails},
    row_group::{encoding_bytes, usual_group_rows},
    row_source::{Room, RowSource, RowsInMemory},
    rows::{Batch, Scan},
    vector_index::VectorIndex,
    verify::mending,
    whole_column::WholeColumn,
    writer::{Writing, write_segment},
};
