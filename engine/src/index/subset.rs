//! Codes of some rows of a segment in one list around their own mean: for a filter that is asked again and again. They
//! live in memory alone.

use crate::distance::codes::BLOCK_ROWS;
use crate::index::build;
use crate::index::coarse::Near;
use crate::index::lists::{Asked, Lists};
use crate::index::rotation::Rotation;
use crate::index::scan::{ListScan, NO_ROW};
use crate::schema::Metric;

/// The mean is taken from a sample drawn with this.
const SEED: u64 = 1;

/// The codes of some rows.
#[derive(Debug)]
pub(crate) struct Subset {
    lists: Lists,
    codes: Vec<u8>,
    /// The row of each slot, 4 bytes little endian.
    rows: Vec<u8>,
}

impl Subset {
    /// Encodes `vectors`, which are those of `rows`. `None` as [`crate::index::build`] says.
    pub(crate) fn new(metric: Metric, rotation: &Rotation, rows: &[u32], vectors: &[&[f32]]) -> Option<Self> {
        assert_eq!(rows.len(), vectors.len(), "a vector for each row");
        let built = build::build_flat(metric, rotation, vectors, SEED)?;
        let padded = rows.len().next_multiple_of(BLOCK_ROWS);
        let slots = rows.iter().copied().chain(std::iter::repeat(NO_ROW)).take(padded);
        Some(Self {
            rows: slots.flat_map(u32::to_le_bytes).collect(),
            lists: built.lists,
            codes: built.codes,
        })
    }

    /// Makes a query ready for these codes.
    pub(crate) fn lists(&self) -> &Lists {
        &self.lists
    }

    /// The scan of all codes.
    pub(crate) fn scan<'a>(&'a self, asked: &Asked, source: u32) -> ListScan<'a> {
        let distance_squared = asked.probe.norm_squared;
        let near = Near { key: distance_squared, distance_squared, list: 0 };
        ListScan { rows: Some(&self.rows), ..self.lists.scan(asked, near, &self.codes, source) }
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> u64 {
        (self.codes.len() + self.rows.len() + 4 * self.lists.mean.len()) as u64
    }
}
