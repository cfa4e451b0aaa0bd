//! The vector index of an open segment: its lists in memory, decoded at first use, and its codes where they lie.

use std::sync::{Arc, OnceLock};

use arrow::array::Array;
use arrow::buffer::ScalarBuffer;

use super::columns::{Column, lsn_of};
use super::reader::Segment;
use super::whole_column::WholeColumn;
use crate::distance::Kernel;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Id;
use crate::index::{List, Lists, NO_ROW, Rotation};
use crate::lsn::Lsn;
use crate::memory_budget::{Charge, MemoryUse};
use crate::schema::IdKind;
use crate::texts::Texts;

/// What is decoded of a segment once and kept for searches.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    index: OnceLock<Option<VectorIndex>>,
    keys: OnceLock<RowKeys>,
}

/// The lists of a segment and the rotation their codes were made under.
#[derive(Debug)]
pub(crate) struct VectorIndex {
    pub(crate) lists: Lists,
    /// Blocks before each list.
    pub(crate) first_blocks: Vec<u32>,
    pub(crate) rotation: Arc<Rotation>,
}

/// LSN and text id of every row. (Integer ids are read where they lie.)
#[derive(Debug)]
struct RowKeys {
    lsns: ScalarBuffer<i64>,
    ids: Option<Texts>,
}

impl RowKeys {
    fn bytes(&self) -> u64 {
        let ids = self.ids.as_ref().map_or(0, Texts::bytes);
        (self.lsns.inner().len() + ids) as u64
    }
}

impl Segment {
    /// Holds so many bytes more for as long as the segment is open.
    fn keep_more(&self, bytes: u64) {
        if let Some(joined) = self.pages.get() {
            joined.keep_more(bytes);
        }
    }

    /// Holds so many bytes for a read, if it is of an open database and they are many.
    pub(crate) fn reading(&self, bytes: u64) -> Option<Charge> {
        self.pages.get()?.memory().charge_large(MemoryUse::Reads, bytes)
    }

    /// The index, if the segment has one that is sound. Damage is told once, in the log; the segment is then searched
    /// exactly.
    pub(crate) fn vector_index(&self) -> Option<&VectorIndex> {
        if let Some(index) = self.decoded.index.get() {
            return index.as_ref();
        }
        let index = match self.load_index() {
            Ok(index) => index,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(%error, "a vector index is damaged: its segment is searched exactly");
                None
            }
            Err(error) => {
                tracing::error!(%error, "a vector index cannot be read now: its segment is searched exactly");
                return None;
            }
        };
        let index = self.decoded.index.get_or_init(|| {
            // Its lists are the head, unpacked, and some numbers more.
            self.keep_more(index.as_ref().map_or(0, |_| self.meta().head.map_or(0, |place| 2 * place.len)));
            index
        });
        index.as_ref()
    }

    fn load_index(&self) -> Result<Option<VectorIndex>> {
        let Some(head) = self.index_head()? else { return Ok(None) };
        let damaged = |what: &str| {
            let at = self.meta().head.map_or(0, |place| place.offset);
            Error::corrupt("AKI-0516", self.path(), at, format!("the head of the vector index {what}"))
                .help_is("searches of this segment are exact and slow until it is compacted")
        };
        let (lists, key) = crate::index::decode_head(head, self.codes_len()).map_err(damaged)?;
        if lists.rows != self.rows() || lists.dim != usize::from(self.schema().dim) {
            return Err(damaged("belongs to other rows"));
        }
        if lists.metric != self.schema().metric {
            return Err(damaged("was made for another metric"));
        }
        let rotation = Rotation::shared(lists.dim, key.seed);
        if rotation.crc32() != key.crc32 || rotation.coded() != lists.coded() {
            return Err(damaged("was made under a rotation this machine does not give"));
        }
        let first_blocks = lists.lists.iter().scan(0, |next, list| {
            let first = *next;
            *next += list.blocks;
            Some(first)
        });
        Ok(Some(VectorIndex { first_blocks: first_blocks.collect(), lists, rotation }))
    }

    /// Whether it has an index that cannot be used, all of which is read for that. Not while the disk does not answer.
    pub(crate) fn is_index_damaged(&self) -> bool {
        let Some(index) = self.vector_index() else {
            return self.meta().head.is_some() && self.decoded.index.get().is_some();
        };
        let is_damaged = |list: &List| {
            self.list_codes(&index.lists, list).is_err_and(|error| error.kind() == ErrorKind::Corrupt)
        };
        index.lists.lists.iter().any(is_damaged)
    }

    /// The codes of a list, checked.
    pub(crate) fn list_codes(&self, lists: &Lists, list: &List) -> Result<&[u8]> {
        self.codes(list.offset..list.offset + lists.list_len(list) as u64)
    }

    /// The row of every slot of every list, in the order of the codes; [`NO_ROW`] where a slot is empty.
    pub(crate) fn slot_rows(&self, lists: &Lists) -> Result<Vec<u32>> {
        let mut rows = Vec::new();
        for list in &lists.lists {
            let scanned = lists.row_numbers(list, self.list_codes(lists, list)?);
            let slots = list.blocks as usize * 32;
            match scanned {
                Some(numbers) => {
                    rows.extend(numbers.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)))
                }
                None => rows.extend((0..list.len()).chain(std::iter::repeat(NO_ROW)).take(slots)),
            }
        }
        Ok(rows)
    }

    /// Version and id of a row, without its vector and payload.
    pub(crate) fn row_key(&self, row: u32) -> Result<(Lsn, Id)> {
        self.check_row(row)?;
        let keys = match self.decoded.keys.get() {
            Some(keys) => keys,
            None => {
                let keys = self.load_keys()?;
                self.decoded.keys.get_or_init(|| {
                    self.keep_more(keys.bytes());
                    keys
                })
            }
        };
        let lsn = lsn_of(keys.lsns[row as usize]).ok_or_else(|| self.undecodable("an LSN below zero"))?;
        let id = match &keys.ids {
            Some(ids) => Id::from(ids.get(row as usize)),
            None => Id::Int(self.int_id(row)?),
        };
        Ok((lsn, id))
    }

    /// Says that [`Segment::row_key`] will be asked for a row soon.
    pub(crate) fn soon_key(&self, kernel: Kernel, row: u32) {
        if let Some(keys) = self.decoded.keys.get()
            && row < self.rows()
        {
            let (lsns, row_at) = (keys.lsns.inner(), row as usize);
            kernel.prefetch_bytes(lsns.get(8 * row_at..8 * row_at + 8).unwrap_or(&[]));
            if keys.ids.is_none() && !self.is_cold() {
                kernel.prefetch_bytes(self.int_id_at(row).unwrap_or(&[]));
            }
        }
    }

    /// Whether ids and LSNs of its rows are in memory.
    pub(super) fn has_keys(&self) -> bool {
        self.decoded.keys.get().is_some()
    }

    fn load_keys(&self) -> Result<RowKeys> {
        let lsns = self.whole_lsns();
        let ids = (self.schema().id_kind == IdKind::Text).then(|| self.whole_ids());
        let reads = [Some(&lsns), ids.as_ref()].into_iter().flatten();
        let _held = self.reading(reads.map(|column| column.bytes() + column.batch_bytes()).sum());
        let lsns = self.load_lsns(lsns)?;
        Ok(RowKeys { lsns, ids: ids.map(|ids| self.load_ids(ids)).transpose()? })
    }

    pub(super) fn load_lsns(&self, column: WholeColumn<'_>) -> Result<ScalarBuffer<i64>> {
        let mut lsns = Vec::with_capacity(self.rows() as usize);
        for batch in column.read()? {
            let Column::Int(batch) = batch? else { return Err(self.undecodable("the lsn column")) };
            lsns.extend_from_slice(batch.values());
        }
        Ok(lsns.into())
    }

    pub(super) fn load_ids(&self, column: WholeColumn<'_>) -> Result<Texts> {
        let mut ids = Texts::default();
        for batch in column.read()? {
            let Column::Text(batch) = batch? else { return Err(self.undecodable("the id column")) };
            (0..batch.len()).for_each(|at| ids.push(batch.value(at)));
        }
        ids.shrink();
        Ok(ids)
    }
}
