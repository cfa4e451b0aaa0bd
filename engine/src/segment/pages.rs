//! The pages of column chunks, unpacked with one decompressor a thread.
//!
//! The Parquet library makes a compressor and a decompressor for every column it opens: more than half of what a point
//! read cost. So its reader is told that nothing is packed, and pages are unpacked here.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;
use zstd::bulk::Decompressor;
use zstd::zstd_safe;

use super::source::Source;

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A footer that says of every column chunk that it is not packed, and which are.
pub(super) struct Packed {
    pub(super) metadata: Arc<ParquetMetaData>,
    /// By row group, then by column.
    pub(super) is_packed: Arc<[bool]>,
}

impl Packed {
    /// Takes the packing out of a footer. Chunks packed otherwise than with zstd are left to the library.
    pub(super) fn of(metadata: ParquetMetaData) -> Result<Self> {
        let mut is_packed = Vec::new();
        let mut builder = metadata.into_builder();
        for group in builder.take_row_groups() {
            let mut group = group.into_builder();
            let columns = group.take_columns().into_iter().map(|column| plain(column, &mut is_packed));
            let columns = columns.collect::<Result<_>>()?;
            builder = builder.add_row_group(group.set_column_metadata(columns).build()?);
        }
        Ok(Self { metadata: Arc::new(builder.build()), is_packed: is_packed.into() })
    }
}

fn plain(column: ColumnChunkMetaData, is_packed: &mut Vec<bool>) -> Result<ColumnChunkMetaData> {
    let zstd = matches!(column.compression(), Compression::ZSTD(_));
    is_packed.push(zstd);
    if zstd { column.into_builder().set_compression(Compression::UNCOMPRESSED).build() } else { Ok(column) }
}

/// Some row groups of a file, as the library asks for their pages.
pub(super) struct Groups<'a> {
    pub(super) source: Arc<Source>,
    pub(super) metadata: &'a Arc<ParquetMetaData>,
    pub(super) is_packed: &'a Arc<[bool]>,
    pub(super) groups: Vec<usize>,
}

impl RowGroups for Groups<'_> {
    fn num_rows(&self) -> usize {
        self.row_groups().map(rows_of).sum()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        Ok(Box::new(Chunks {
            source: Arc::clone(&self.source),
            metadata: Arc::clone(self.metadata),
            is_packed: Arc::clone(self.is_packed),
            groups: self.groups.clone().into_iter(),
            column,
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.groups.iter().map(|group| self.metadata.row_group(*group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.metadata
    }
}

fn rows_of(group: &RowGroupMetaData) -> usize {
    usize::try_from(group.num_rows()).unwrap_or(0)
}

/// One column of some row groups.
struct Chunks {
    source: Arc<Source>,
    metadata: Arc<ParquetMetaData>,
    is_packed: Arc<[bool]>,
    groups: std::vec::IntoIter<usize>,
    column: usize,
}

impl Chunks {
    fn open(&self, at: usize) -> Result<Box<dyn PageReader>> {
        let group = self.metadata.row_group(at);
        let pages = self.metadata.offset_index().and_then(|index| index.get(at)?.get(self.column));
        let pages = pages.map(|pages| pages.page_locations.clone());
        let source = Arc::clone(&self.source);
        let inner = SerializedPageReader::new(source, group.column(self.column), rows_of(group), pages)?;
        let is_packed = self.is_packed.get(at * group.num_columns() + self.column);
        Ok(match is_packed {
            Some(true) => Box::new(Unpacking(inner)),
            _ => Box::new(inner),
        })
    }
}

impl Iterator for Chunks {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.groups.next()?;
        Some(self.open(at))
    }
}

impl PageIterator for Chunks {}

/// Pages that are packed with zstd, whose reader does not know.
struct Unpacking(SerializedPageReader<Source>);

impl Iterator for Unpacking {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Unpacking {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.0.get_next_page()? else { return Ok(None) };
        match &mut page {
            Page::DictionaryPage { buf, .. } | Page::DataPage { buf, .. } => *buf = unpack(buf, None)?,
            // Its levels are outside what is packed. No segment has one.
            Page::DataPageV2 { .. } => return Err(ParquetError::General("a page of version 2".into())),
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.0.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.0.at_record_boundary()
    }
}

/// What is packed in one frame, of `wanted` bytes if that is known.
pub(super) fn unpack(packed: &[u8], wanted: Option<usize>) -> Result<Bytes> {
    if packed.is_empty() {
        return Ok(Bytes::new());
    }
    let stated = zstd_safe::get_frame_content_size(packed).ok().flatten();
    // A page's length is 31 bits in its header.
    let len = stated.and_then(|len| i32::try_from(len).ok()).and_then(|len| usize::try_from(len).ok());
    let len = len.ok_or_else(|| ParquetError::General("a packed page of no stated length".into()))?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != len) {
        return Err(ParquetError::General(format!("a packed page of {len} bytes instead of {wanted}")));
    }
    let bytes = DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(kept) => kept,
            None => kept.insert(Decompressor::new()?),
        };
        decompressor.decompress(packed, len)
    });
    let bytes = bytes.map_err(|e| ParquetError::General(format!("a packed page: {e}")))?;
    if bytes.len() != len {
        return Err(ParquetError::General(format!("a page of {} bytes instead of {len}", bytes.len())));
    }
    Ok(bytes.into())
}
