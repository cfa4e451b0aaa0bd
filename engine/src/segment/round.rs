//! What is about to be read of segments that lie on a backend, fetched in one round instead of block by block.
//!
//! Everything here only saves time: a block that was not foreseen is fetched when it is read. For a segment that is
//! here, every call does nothing.

use std::ops::Range;
use std::sync::Arc;

use super::arrow_schema::{FIELDS, ID, LSN, payload_position};
use super::cold_file::{ColdFile, blocks_of, fetch};
use super::format::HEAD_LEN;
use super::id_index;
use super::joined::{Limit, joined};
use super::reader::{Segment, tail_start};
use crate::error::Result;
use crate::filter::Source;
use crate::id::Id;
use crate::index::{List, Lists};
use crate::schema::{IdKind, Schema};
use crate::segment_meta::SegmentMeta;

/// Codes up to this are fetched whole at the first search: one request instead of a dozen, and none later.
const WHOLE_CODES_BYTES: u64 = 1 << 20;
/// Codes up to this are fetched whole at the second search.
const WHOLE_LATER_BYTES: u64 = 32 << 20;
/// An id index up to this is fetched whole.
const WHOLE_IDS_BYTES: u64 = 1 << 20;

/// Requests for the codes of a search.
const CODES_GETS: usize = 8;
/// Requests for vectors: of the rows to be compared exactly, or of hits.
const VECTOR_GETS: usize = 18;
/// Requests for the pages of hits.
const PAGE_GETS: usize = 10;
/// Blocks that may be fetched for nothing, whatever is wanted.
const WASTE_BLOCKS: u32 = 32;
/// The same for the pages of rows, which lie between others of their row group.
const PAGE_WASTE_BLOCKS: u32 = 256;

/// Where blocks of vectors or codes are wanted, half as many more may be fetched for nothing.
fn generous(gets: usize, wanted: usize) -> Limit {
    Limit { gets, waste: u32::try_from(wanted / 2).unwrap_or(u32::MAX).max(WASTE_BLOCKS) }
}

/// What is to be fetched of any number of segments of one backend.
#[derive(Default)]
pub(crate) struct Round<'a> {
    wanted: Vec<(&'a ColdFile, Range<u32>)>,
}

/// Fetches the tails of objects, each with the head of its vector index, in one round.
pub(crate) fn fetch_tails(objects: &[(&Arc<ColdFile>, &SegmentMeta)]) -> Result<()> {
    let mut round = Round::default();
    for (cold, meta) in objects {
        round.bytes(cold, tail_start(meta)..meta.size);
    }
    round.fetch()
}

impl<'a> Round<'a> {
    /// Fetches it all and waits for it.
    ///
    /// # Errors
    /// `Unavailable`, `NotFound`, `Corrupt` with the object's key; `NoSpace`.
    pub(crate) fn fetch(self) -> Result<()> {
        fetch(&self.wanted)
    }

    /// The vectors of some rows.
    pub(crate) fn vectors(&mut self, segment: &'a Segment, rows: impl Iterator<Item = u32>) {
        let Some(cold) = segment.cold() else { return };
        let mut blocks: Vec<u32> = rows.flat_map(|row| blocks_of(&segment.vector_bytes(row))).collect();
        self.scattered(cold, &mut blocks, VECTOR_GETS, None);
    }

    /// The vectors of `rows`, all of one row group.
    pub(crate) fn group_vectors(&mut self, segment: &'a Segment, rows: Range<u32>) {
        let Some(cold) = segment.cold() else { return };
        if !rows.is_empty() {
            self.bytes(cold, segment.vector_bytes(rows.start).start..segment.vector_bytes(rows.end - 1).end);
        }
    }

    /// All codes.
    pub(crate) fn all_codes(&mut self, segment: &'a Segment) {
        let Some(cold) = segment.cold() else { return };
        self.bytes(cold, segment.codes.clone());
    }

    /// The codes of some lists.
    pub(crate) fn lists(&mut self, segment: &'a Segment, lists: &Lists, wanted: impl Iterator<Item = List>) {
        let Some(cold) = segment.cold() else { return };
        let bytes = wanted.map(|list| {
            let start = segment.codes.start + list.offset;
            start..start + lists.list_len(&list) as u64
        });
        let mut blocks: Vec<u32> = bytes.flat_map(|bytes| blocks_of(&bytes)).collect();
        self.scattered(cold, &mut blocks, CODES_GETS, None);
    }

    /// What a filter looks at. `schema` is the collection's current one.
    pub(crate) fn filter_columns(&mut self, segment: &'a Segment, schema: &Schema, sources: &[Source]) {
        let own = |position: &usize| {
            let id = schema.fields.get(*position)?.id;
            segment.schema().fields.iter().position(|field| field.id == id)
        };
        let columns = sources.iter().filter_map(|source| match source {
            Source::Id => Some(ID),
            Source::Lsn => Some(LSN),
            Source::Field(position) => own(position).map(|own| FIELDS + own),
        });
        self.pages(segment, &columns.collect::<Vec<_>>(), std::slice::from_ref(&(0..segment.rows())));
    }

    /// Ids and LSNs of all rows, unless they are in memory.
    pub(crate) fn keys(&mut self, segment: &'a Segment) {
        if !segment.has_keys() {
            self.pages(segment, &[ID, LSN], std::slice::from_ref(&(0..segment.rows())));
        }
    }

    /// Ids and LSNs of some rows, ascending.
    pub(crate) fn keys_of(&mut self, segment: &'a Segment, rows: &[u32]) {
        let ranges: Vec<Range<u32>> = rows.iter().map(|row| *row..row + 1).collect();
        self.pages(segment, &[ID, LSN], &ranges);
    }

    /// The ids of all rows.
    pub(crate) fn ids(&mut self, segment: &'a Segment) {
        self.pages(segment, &[ID], std::slice::from_ref(&(0..segment.rows())));
    }

    /// Whole rows, ascending.
    pub(crate) fn rows(&mut self, segment: &'a Segment, rows: &[u32], with_vector: bool) {
        if segment.cold().is_none() {
            return;
        }
        let columns: Vec<usize> = (ID..=payload_position(segment.schema().fields.len())).collect();
        let ranges: Vec<Range<u32>> = rows.iter().map(|row| *row..row + 1).collect();
        self.pages(segment, &columns, &ranges);
        if with_vector {
            self.vectors(segment, rows.iter().copied());
        }
    }

    /// The pages of columns (positions in the file) that hold ranges of rows, ascending.
    pub(super) fn pages(&mut self, segment: &'a Segment, columns: &[usize], ranges: &[Range<u32>]) {
        let Some(cold) = segment.cold() else { return };
        let bytes = ranges.iter().flat_map(|rows| segment.page_bytes(columns, rows));
        let mut blocks: Vec<u32> = bytes.flat_map(|bytes| blocks_of(&bytes)).collect();
        let gets = PAGE_GETS.min(ranges.iter().map(|rows| (rows.end - rows.start) as usize).sum());
        self.scattered(cold, &mut blocks, gets, Some(PAGE_WASTE_BLOCKS));
    }

    /// What finding a row by its id reads.
    pub(crate) fn find(&mut self, segment: &'a Segment, id: &Id) {
        let Some(cold) = segment.cold() else { return };
        match (id, segment.schema().id_kind) {
            (Id::Int(n), IdKind::Int) => {
                if let Some(group) = segment.likely_group(*n) {
                    self.bytes(cold, segment.int_id_bytes(group));
                }
            }
            (Id::Text(text), IdKind::Text) => {
                let Some(place) = segment.meta().id_index else { return };
                if place.len <= WHOLE_IDS_BYTES {
                    return self.bytes(cold, place.offset..place.offset + place.len);
                }
                let body = place.offset + HEAD_LEN as u64;
                for part in id_index::likely(segment.rows(), id_index::hash(text)) {
                    self.bytes(cold, body + part.start..body + part.end);
                }
            }
            _ => {}
        }
    }

    fn bytes(&mut self, cold: &'a ColdFile, bytes: Range<u64>) {
        let missing: Vec<u32> = cold.missing(blocks_of(&bytes)).collect();
        // One request whatever is here already between.
        self.wanted.extend(missing.first().zip(missing.last()).map(|(first, last)| (cold, *first..last + 1)));
    }

    fn scattered(&mut self, cold: &'a ColdFile, blocks: &mut Vec<u32>, gets: usize, waste: Option<u32>) {
        blocks.sort_unstable();
        blocks.dedup();
        blocks.retain(|block| cold.missing(*block..block + 1).next().is_some());
        let limit = waste.map_or_else(|| generous(gets, blocks.len()), |waste| Limit { gets, waste });
        self.wanted.extend(joined(blocks, limit).into_iter().map(|range| (cold, range)));
    }
}

impl Segment {
    /// Whether it lies on a backend.
    #[inline]
    pub(crate) fn is_cold(&self) -> bool {
        self.cold().is_some()
    }

    #[inline]
    fn cold(&self) -> Option<&ColdFile> {
        self.shared.blocks.origin().cold().map(Arc::as_ref)
    }

    /// Whether a search fetches all codes instead of those of its lists. Counts the search.
    pub(crate) fn takes_all_codes(&self) -> bool {
        let was_searched = self.cold().is_some_and(ColdFile::was_searched);
        self.codes_len() <= if was_searched { WHOLE_LATER_BYTES } else { WHOLE_CODES_BYTES }
    }

    fn vector_bytes(&self, row: u32) -> Range<u64> {
        let len = u64::from(self.schema().dim) * 4;
        let group = self.meta().vectors.get((row >> self.meta().group_bits) as usize);
        let start =
            group.map_or(0, |start| start + u64::from(row & ((1 << self.meta().group_bits) - 1)) * len);
        start..start + len
    }

    /// Where the pages of columns lie that hold `rows`.
    fn page_bytes(&self, columns: &[usize], rows: &Range<u32>) -> Vec<Range<u64>> {
        let (bits, metadata) = (self.meta().group_bits, self.table.metadata());
        let mut out = Vec::new();
        if rows.is_empty() {
            return out;
        }
        for group in rows.start >> bits..=(rows.end - 1) >> bits {
            let first = group << bits;
            let (start, end) = (rows.start.max(first) - first, (rows.end - first).min(1 << bits));
            for column in columns {
                let (offset, len) = metadata.row_group(group as usize).column(*column).byte_range();
                let chunk = offset..offset + len;
                let pages = metadata.offset_index().and_then(|index| index.get(group as usize)?.get(*column));
                let Some(pages) = pages else {
                    out.push(chunk);
                    continue;
                };
                let pages = pages.page_locations();
                let begins = |row: u32| pages.partition_point(|page| page.first_row_index <= i64::from(row));
                // Pages out of order are told by the read.
                let wanted = begins(start).saturating_sub(1)..begins(end - 1);
                let wanted = pages.get(wanted).unwrap_or_default();
                let first_page = pages.first().map_or(chunk.end, |page| page.offset.cast_unsigned());
                // What lies before the pages is their dictionary.
                out.push(chunk.start..first_page.max(chunk.start));
                out.extend(wanted.iter().map(|page| {
                    let start = page.offset.cast_unsigned();
                    start..start + u64::from(page.compressed_page_size.cast_unsigned())
                }));
            }
        }
        // What a damaged footer places outside the file is told by the read as well.
        out.retain(|bytes| !bytes.is_empty() && bytes.end <= self.shared.blocks.covered());
        out
    }

    /// The row group an integer id should be in, if ids are evenly spread. `None` if the segment has none such.
    pub(super) fn likely_group(&self, wanted: i64) -> Option<u32> {
        let [low, high] = self.meta().ids.each_ref().map(|id| id.parse::<i64>().ok());
        let (low, high) = (low?, high?);
        if wanted < low || wanted > high {
            return None;
        }
        let span = u128::from(high.abs_diff(low)) + 1;
        let row = u128::from(wanted.abs_diff(low)) * u128::from(self.rows()) / span;
        Some(u32::try_from(row).unwrap_or(0).min(self.rows() - 1) >> self.meta().group_bits)
    }

    /// Where the integer ids of a row group lie.
    fn int_id_bytes(&self, group: u32) -> Range<u64> {
        let first = group << self.meta().group_bits;
        let rows = (self.rows() - first).min(1 << self.meta().group_bits);
        let start = self.int_id_start(group);
        start..start + u64::from(rows) * 8
    }
}
