//! Which rows the bytes of a segment belong to, and those of their ids that can be read.

use std::ops::Range;

use super::arrow_schema::ID;
use super::format::{CRC_LEN, HEAD_LEN};
use super::id_index;
use super::reader::Segment;
use super::rows::join;
use crate::id::Id;
use crate::schema::IdKind;
use crate::segment_meta::Place;

/// How far from rows whose ids cannot be read others are looked at, in steps that double.
const LOOKS: u32 = 12;

impl Segment {
    /// The rows that `bytes` belong to, ascending and apart: of the columns by page, of vectors and integer ids by value,
    /// of the id index those whose entries lie there. None where only the vector index or padding does: without it every
    /// row is still read and found.
    pub(crate) fn rows_of_bytes(&self, bytes: &Range<u64>) -> Vec<Range<u32>> {
        let metadata = self.table.metadata();
        let mut found = Vec::new();
        for (at, group) in metadata.row_groups().iter().enumerate() {
            for column in 0..group.num_columns() {
                let (start, len) = group.column(column).byte_range();
                if overlaps(&(start..start + len), bytes) {
                    self.rows_of_chunk(at, column, group.num_columns() - 1, bytes, &mut found);
                }
            }
        }
        if let Some(place) = self.meta().id_index {
            found.extend(self.rows_of_id_index(place, bytes));
        }
        merged(found)
    }

    fn rows_of_chunk(
        &self,
        group: usize,
        column: usize,
        vector_column: usize,
        bytes: &Range<u64>,
        found: &mut Vec<Range<u32>>,
    ) {
        let rows = self.rows_of_group(group);
        let values = if column == vector_column {
            Some((self.meta().vectors[group], u64::from(self.schema().dim) * 4))
        } else if column == ID && self.schema().id_kind == IdKind::Int {
            Some((self.int_id_start(u32::try_from(group).unwrap_or(u32::MAX)), 8))
        } else {
            None
        };
        match values {
            Some((start, width)) if bytes.end > start => {
                let first = bytes.start.saturating_sub(start) / width;
                let end = (bytes.end - start).div_ceil(width);
                found.push(within(&rows, first, end));
            }
            // The head of the page: without it no other reader finds the values.
            Some(_) => found.push(rows),
            None => found.extend(self.rows_of_pages(group, column, bytes)),
        }
    }

    fn rows_of_pages(&self, group: usize, column: usize, bytes: &Range<u64>) -> Vec<Range<u32>> {
        let rows = self.rows_of_group(group);
        let index = self.table.metadata().offset_index();
        let pages = index.and_then(|index| index.get(group)?.get(column)).map(|index| index.page_locations());
        let Some(pages) = pages.filter(|pages| !pages.is_empty()) else { return vec![rows] };
        let at = |page: usize| -> u64 { unsigned(pages[page].offset) };
        if bytes.start < at(0) {
            // The dictionary that all pages point into.
            return vec![rows];
        }
        let touched = (0..pages.len()).filter(|page| {
            let len = u64::from(pages[*page].compressed_page_size.unsigned_abs());
            overlaps(&(at(*page)..at(*page) + len), bytes)
        });
        let touched = touched.map(|page| {
            let next = pages.get(page + 1).map_or(u64::from(u32::MAX), |page| unsigned(page.first_row_index));
            within(&rows, unsigned(pages[page].first_row_index), next)
        });
        touched.collect()
    }

    /// Rows that are found by way of the entries in `bytes`; all of them where the ids do not tell whose those are.
    fn rows_of_id_index(&self, place: Place, bytes: &Range<u64>) -> Vec<Range<u32>> {
        let body = place.offset + HEAD_LEN as u64..(place.offset + place.len).saturating_sub(CRC_LEN as u64);
        if !overlaps(&body, bytes) {
            return Vec::new();
        }
        let mut hashes = Vec::new();
        self.show_ids(0..self.rows(), &mut |_, id| match id {
            Some(Id::Text(text)) => hashes.push(id_index::hash(&text)),
            Some(Id::Int(_)) | None => {}
        });
        if hashes.len() != self.rows() as usize {
            return std::iter::once(0..self.rows()).collect();
        }
        let from = bytes.start.saturating_sub(body.start);
        let mut rows = id_index::rows_in(&hashes, from..bytes.end.min(body.end) - body.start);
        rows.sort_unstable();
        rows.dedup();
        join(&rows)
    }

    /// Shows the ids of `rows` in order, and `None` for those that cannot be read as they were written.
    pub(crate) fn show_ids(&self, rows: Range<u32>, each: &mut dyn FnMut(u32, Option<Id>)) {
        let end = rows.end.min(self.rows());
        let mut next = rows.start;
        while next < end {
            let stretch = next..end.min(self.end_of_id_page(next));
            let ids = self.ids(stretch.clone()).ok().filter(|ids| ids.len() == stretch.len());
            match ids {
                Some(ids) => stretch.clone().zip(ids).for_each(|(row, id)| each(row, Some(id))),
                None if self.schema().id_kind == IdKind::Int => {
                    stretch.clone().for_each(|row| each(row, self.id_at(row).ok()));
                }
                None => stretch.clone().for_each(|row| each(row, None)),
            }
            next = stretch.end;
        }
    }

    /// Ids on both sides of rows whose own cannot be read: a few looks each way, else the ends of the segment.
    pub(crate) fn ids_around(&self, rows: &Range<u32>) -> [String; 2] {
        let [smallest, largest] = &self.meta().ids;
        let steps = || (0..LOOKS).map(|n| 1_u32 << n);
        let id = |row: u32| self.id_at(row).ok().map(|id| id.to_string());
        let before = steps().map_while(|step| rows.start.checked_sub(step)).find_map(id);
        let behind = steps().map(|step| rows.end.saturating_add(step - 1));
        let behind = behind.take_while(|row| *row < self.rows()).find_map(id);
        [before.unwrap_or_else(|| smallest.clone()), behind.unwrap_or_else(|| largest.clone())]
    }

    /// The row behind the page that has the id of `row`: a damaged page takes no other with it.
    fn end_of_id_page(&self, row: u32) -> u32 {
        let group = (row >> self.meta().group_bits) as usize;
        let rows = self.rows_of_group(group);
        let index = self.table.metadata().offset_index();
        let pages = index.and_then(|index| index.get(group)?.get(ID)).map(|index| index.page_locations());
        let mut starts = pages.into_iter().flatten().map(|page| unsigned(page.first_row_index));
        let next = starts.find(|first| *first > u64::from(row - rows.start));
        next.map_or(rows.end, |next| within(&rows, 0, next).end)
    }

    fn rows_of_group(&self, group: usize) -> Range<u32> {
        let first = u64::try_from(group).unwrap_or(u64::MAX) << self.meta().group_bits;
        let first = u32::try_from(first).unwrap_or(u32::MAX).min(self.rows());
        first..first.saturating_add(self.group_rows()).min(self.rows())
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn overlaps(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Rows `first..end` of a row group.
fn within(group: &Range<u32>, first: u64, end: u64) -> Range<u32> {
    let row = |n: u64| u32::try_from(u64::from(group.start) + n).unwrap_or(u32::MAX).min(group.end);
    row(first)..row(end)
}

/// Sorted, overlaps and neighbours joined.
fn merged(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut out: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_where_they_meet() {
        let ranges = vec![5..7, 0..2, 7..9, 1..3, 20..20, 12..13];
        assert_eq!(merged(ranges), [0..3, 5..9, 12..13]);
        assert_eq!(within(&(100..150), 10, 20), 110..120);
        assert_eq!(within(&(100..150), 10, 1 << 40), 110..150);
    }
}
