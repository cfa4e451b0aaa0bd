//! Ids of a segment: from row to id and back, by hash or by binary search where they lie.

use std::ops::Range;

use super::arrow_schema::ID;
use super::format::HEAD_LEN;
use super::id_index;
use super::reader::Segment;
use super::round::Round;
use super::rows::COLUMN_BATCH_ROWS;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::schema::IdKind;

impl Segment {
    /// The row that has `id`, dead or alive; `None` if there is none (also for an id of the other kind).
    pub(crate) fn find(&self, id: &Id) -> Result<Option<u32>> {
        match (id, self.schema().id_kind) {
            (Id::Int(n), IdKind::Int) => self.find_int(*n),
            (Id::Text(text), IdKind::Text) => self.find_text(text),
            _ => Ok(None),
        }
    }

    fn find_int(&self, wanted: i64) -> Result<Option<u32>> {
        let (mut low, end) = self.int_rows(wanted)?;
        let mut high = end;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.int_id(middle)? < wanted { low = middle + 1 } else { high = middle }
        }
        Ok((low < end && self.int_id(low)? == wanted).then_some(low))
    }

    /// The rows among which an integer id is, if it is anywhere. Of an object, whose ids were fetched where it should be,
    /// those of one row group if it is there.
    fn int_rows(&self, wanted: i64) -> Result<(u32, u32)> {
        let all = (0, self.rows());
        if !self.is_cold() {
            return Ok(all);
        }
        let Some(group) = self.likely_group(wanted) else { return Ok((0, 0)) };
        let (first, bits) = (group << self.meta().group_bits, self.meta().group_bits);
        let end = (first + (1 << bits)).min(self.rows());
        let is_here = self.int_id(first)? <= wanted && wanted <= self.int_id(end - 1)?;
        Ok(if is_here { (first, end) } else { all })
    }

    fn find_text(&self, wanted: &str) -> Result<Option<u32>> {
        let Some(place) = self.meta().id_index else { return Ok(None) };
        let body = place.offset + HEAD_LEN as u64;
        let read = |range: Range<u64>| self.shared.get(body + range.start..body + range.end);
        for row in id_index::candidates(self.rows(), id_index::hash(wanted), read)? {
            if row >= self.rows() {
                let message = format!("the id index names row {row} of {}", self.rows());
                return Err(Error::corrupt("AKI-0507", self.path(), body, message));
            }
            self.fetch_row(row)?;
            if matches!(self.id_at(row)?, Id::Text(text) if *text == *wanted) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Of an object, all of a row that is wanted next.
    fn fetch_row(&self, row: u32) -> Result<()> {
        if !self.is_cold() {
            return Ok(());
        }
        let mut round = Round::default();
        round.rows(self, &[row], true);
        round.fetch()
    }

    /// The id of `row`.
    pub(crate) fn id_at(&self, row: u32) -> Result<Id> {
        self.check_row(row)?;
        if self.schema().id_kind == IdKind::Int {
            return self.int_id(row).map(Id::Int);
        }
        self.text_id(row)
    }

    /// The ids of `rows`, ascending.
    pub(crate) fn ids(&self, rows: Range<u32>) -> Result<Vec<Id>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.check_row(rows.end - 1)?;
        if self.schema().id_kind == IdKind::Int {
            return rows.map(|row| self.int_id(row).map(Id::Int)).collect();
        }
        let mut out = Vec::with_capacity(rows.len());
        let mut reader = self.reader(&[ID], &[rows], COLUMN_BATCH_ROWS)?;
        while let Some(batch) = reader.next_batch()? {
            let ids = self.id_column(batch.column(0))?;
            out.extend((0..batch.num_rows()).filter_map(|row| ids.id(row)));
        }
        Ok(out)
    }
}
