//! The lists of an index with some of their rows only: for a filter of many rows that is asked again and again. They live
//! in memory alone.

use crate::distance::codes::BLOCK_ROWS;
use crate::index::block::{self, block_len};
use crate::index::lists::{List, Lists};
use crate::index::scan::NO_ROW;

/// The lists of an index, of each the slots of some rows. Centroids, scales and what a recall costs are the index's.
#[derive(Debug)]
pub(crate) struct Thinned {
    lists: Vec<List>,
    /// As in CODES: of each list its blocks, then its row numbers.
    codes: Vec<u8>,
}

impl Thinned {
    /// Bytes on the heap of what [`Thinned::new`] makes.
    pub(crate) fn bytes_for(index: &Lists, wanted: impl Fn(usize, usize) -> u32) -> u64 {
        let of_list = |(n, list): (usize, &List)| {
            let slots: usize =
                (0..list.blocks as usize).map(|block| wanted(n, block).count_ones() as usize).sum();
            slots.div_ceil(BLOCK_ROWS) * (block_len(index.nibbles()) + 4 * BLOCK_ROWS)
        };
        let codes: usize = index.lists.iter().enumerate().map(of_list).sum();
        (codes + size_of_val(&*index.lists)) as u64
    }

    /// Bytes of the lists in CODES that a search of those slots reads without it.
    pub(crate) fn bytes_instead_of(index: &Lists, wanted: impl Fn(usize, usize) -> u32) -> u64 {
        let is_read =
            |(n, list): &(usize, &List)| (0..list.blocks as usize).any(|block| wanted(*n, block) != 0);
        let read = index.lists.iter().enumerate().filter(is_read);
        read.map(|(_, list)| index.list_len(list) as u64).sum()
    }

    /// Takes the slots that `wanted(list, block)` masks; `codes_of` gives the bytes of a list in CODES.
    ///
    /// # Errors
    /// What `codes_of` fails with.
    pub(crate) fn new<'a, E>(
        index: &Lists,
        wanted: impl Fn(usize, usize) -> u32 + Copy,
        codes_of: impl Fn(&List) -> Result<&'a [u8], E>,
    ) -> Result<Self, E> {
        let bytes = usize::try_from(Self::bytes_for(index, wanted)).unwrap_or(0);
        let mut codes = Vec::with_capacity(bytes.saturating_sub(size_of_val(&*index.lists)));
        let mut lists = Vec::with_capacity(index.lists.len());
        for (n, list) in index.lists.iter().enumerate() {
            let slots = slots(list.blocks as usize, |block| wanted(n, block));
            lists.push(push(index, list, codes_of(list)?, slots, &mut codes));
        }
        Ok(Self { lists, codes })
    }

    /// Slots that a list has here.
    pub(crate) fn slots(&self, n: usize) -> u32 {
        self.lists[n].len()
    }

    /// A list as it is here, and its codes.
    pub(crate) fn list(&self, index: &Lists, n: usize) -> (&List, &[u8]) {
        let list = &self.lists[n];
        let first = usize::try_from(list.offset).unwrap_or(usize::MAX);
        (list, &self.codes[first..first + index.list_len(list)])
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> u64 {
        (self.codes.capacity() + self.lists.capacity() * size_of::<List>()) as u64
    }
}

/// The slots of so many blocks that a mask for each takes, ascending.
fn slots(blocks: usize, wanted: impl Fn(usize) -> u32) -> impl Iterator<Item = usize> {
    let masks = (0..blocks).map(move |block| (block, wanted(block)));
    masks.flat_map(|(block, mask)| {
        let rows = (0..BLOCK_ROWS).filter(move |row| mask >> row & 1 == 1);
        rows.map(move |row| block * BLOCK_ROWS + row)
    })
}

/// Appends the slots of a list to `codes`, and says how they lie there.
fn push(
    index: &Lists,
    list: &List,
    bytes: &[u8],
    slots: impl Iterator<Item = usize>,
    codes: &mut Vec<u8>,
) -> List {
    let len = block_len(index.nibbles());
    let (offset, mut numbers) = (codes.len(), Vec::new());
    let mut primaries = 0;
    for (to, from) in slots.enumerate() {
        if to % BLOCK_ROWS == 0 {
            block::push_empty(index.nibbles(), codes);
        }
        let (from_block, block) = (&bytes[from / BLOCK_ROWS * len..][..len], offset + to / BLOCK_ROWS * len);
        block::copy_slot(from_block, from % BLOCK_ROWS, &mut codes[block..block + len], to % BLOCK_ROWS);
        primaries += u32::from(from < list.primaries as usize);
        numbers.push(row_number(index, list, bytes, from));
    }
    let taken = numbers.len();
    numbers.resize(taken.next_multiple_of(BLOCK_ROWS), NO_ROW);
    codes.extend(numbers.iter().flat_map(|row| row.to_le_bytes()));
    let small = |n: usize| u32::try_from(n).expect("rows are u32");
    List {
        offset: offset as u64,
        blocks: small(taken.div_ceil(BLOCK_ROWS)),
        primaries,
        copies: small(taken) - primaries,
        crc32: 0,
        ..*list
    }
}

/// The row in a slot of a list.
fn row_number(index: &Lists, list: &List, bytes: &[u8], slot: usize) -> u32 {
    let numbers = index.row_numbers(list, bytes).unwrap_or(&[]);
    numbers.as_chunks::<4>().0.get(slot).map_or(NO_ROW, |number| u32::from_le_bytes(*number))
}
