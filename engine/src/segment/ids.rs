//! Ids of a segment: from row to id and back, by hash or by binary search where they lie.

use std::ops::Range;

use super::arrow_schema::ID;
use super::format::HEAD_LEN;
use super::id_index;
use super::reader::Segment;
use super::round::Round;
use super::whole_column::COLUMN_BATCH_ROWS;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::schema::IdKind;

/// Integer ids that share a checksum.
const IDS_OF_A_BLOCK: u32 = 2_048;

/// Finds ids, in their order, among rows in theirs.
fn find_sorted(
    wanted: &[(i64, usize)],
    rows: Range<u32>,
    id_of: impl Fn(u32) -> Result<i64>,
    found: &mut Vec<(usize, u32)>,
) -> Result<()> {
    let mut low = rows.start;
    for (id, at) in wanted {
        low = id_index::gallop(low, rows.end, |row| Ok(id_of(row)? < *id))?;
        if low == rows.end {
            break;
        }
        if id_of(low)? == *id {
            found.push((*at, low));
        }
    }
    Ok(())
}

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

    /// The rows that have these ids, dead or alive, in no order, each with the place of its id in `ids`. One pass over the
    /// segment's ids: much cheaper than one by one where there are many. For files on this machine.
    pub(crate) fn find_each(&self, ids: &[&Id]) -> Result<Vec<(usize, u32)>> {
        match self.schema().id_kind {
            IdKind::Int => self.find_ints(ids),
            IdKind::Text => self.find_texts(ids),
        }
    }

    fn find_ints(&self, ids: &[&Id]) -> Result<Vec<(usize, u32)>> {
        let int = |(at, id): (usize, &&Id)| match id {
            Id::Int(n) => Some((*n, at)),
            Id::Text(_) => None,
        };
        let mut wanted: Vec<(i64, usize)> = ids.iter().enumerate().filter_map(int).collect();
        wanted.sort_unstable();
        let (mut from, mut found) = (0, Vec::new());
        for group in 0..self.int_groups() {
            let Some((next, _)) = wanted.get(from) else { break };
            let rows = self.int_rows_of(group);
            let last = self.int_id(rows.end - 1)?;
            if last < *next {
                continue;
            }
            let here = &wanted[from..][..wanted[from..].partition_point(|(id, _)| *id <= last)];
            from += here.len();
            // Where there is one a block all of them are read; few are looked for one by one.
            if here.len() >= ((rows.end - rows.start) / IDS_OF_A_BLOCK) as usize {
                let ids = self.int_ids_of(group)?;
                let first = rows.start;
                let id_of = |row: u32| Ok(i64::from_le_bytes(ids[(row - first) as usize]));
                find_sorted(here, rows, id_of, &mut found)?;
            } else {
                find_sorted(here, rows, |row| self.int_id(row), &mut found)?;
            }
        }
        Ok(found)
    }

    fn find_texts<'a>(&self, ids: &'a [&Id]) -> Result<Vec<(usize, u32)>> {
        let Some(read) = self.id_index() else { return Ok(Vec::new()) };
        let text = |(at, id): (usize, &'a &Id)| match id {
            Id::Text(text) => Some((id_index::hash(text), at, &**text)),
            Id::Int(_) => None,
        };
        let mut wanted: Vec<(u64, usize, &str)> = ids.iter().enumerate().filter_map(text).collect();
        wanted.sort_unstable();
        let (mut found, mut entry) = (Vec::new(), 0);
        for (hash, at, text) in wanted {
            let candidates;
            (candidates, entry) = id_index::candidates_after(self.rows(), hash, entry, &read)?;
            if let Some(row) = self.row_of(candidates, text)? {
                found.push((at, row));
            }
        }
        Ok(found)
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
        let Some(read) = self.id_index() else { return Ok(None) };
        let candidates = id_index::candidates(self.rows(), id_index::hash(wanted), read)?;
        self.row_of(candidates, wanted)
    }

    /// Reads the body of the id index; none if there is none.
    fn id_index<'a>(&'a self) -> Option<impl Fn(Range<u64>) -> Result<&'a [u8]>> {
        let body = self.id_index_start()?;
        Some(move |range: Range<u64>| self.shared.get(body + range.start..body + range.end))
    }

    fn id_index_start(&self) -> Option<u64> {
        self.meta().id_index.map(|place| place.offset + HEAD_LEN as u64)
    }

    /// Which of the candidates is the row of this id.
    fn row_of(&self, candidates: Vec<u32>, wanted: &str) -> Result<Option<u32>> {
        for row in candidates {
            if row >= self.rows() {
                let message = format!("the id index names row {row} of {}", self.rows());
                let body = self.id_index_start().unwrap_or(0);
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
