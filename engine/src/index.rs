//! The vector index of a segment: codes of one or two bits a number in blocks of 32 rows, grouped into lists with
//! spill, from which a search takes the rows it compares exactly. Knows vectors by row number, and bytes; nothing of
//! files, segments and versions.

mod assign;
mod block;
mod build;
mod byte_codes;
mod calibrate;
mod candidates;
mod coarse;
mod code;
mod head;
mod lists;
mod probe;
mod rerank;
mod rotation;
mod rows;
mod scan;
mod subset;
mod table;
mod tail;
mod thinned;
mod train;
mod trial;

use std::sync::Arc;

use crate::schema::Metric;

pub use trial::scan_everything;
pub(crate) use {
    build::{Built, build},
    byte_codes::ByteCodes,
    candidates::{Candidate, Candidates},
    coarse::{CoarseScratch, Near},
    code::Bits,
    head::decode as decode_head,
    lists::{Asked, List, Lists, width},
    rerank::{Exact, is_open, rerank},
    rotation::Rotation,
    rows::{can_code, rotate},
    scan::{ListScan, NO_ROW},
    subset::Subset,
    tail::{Coding, Tail},
    thinned::Thinned,
};

/// The rotation that new codes are made under: one for all collections, so that a query is rotated once.
pub(crate) const ROTATION_SEED: u64 = 0x616b_6964_622e_0001;

/// What the samples of an index are drawn by: the same rows give the same file.
pub(crate) const BUILD_SEED: u64 = 0x5eed;

/// The bodies of the sections HEAD and CODES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexBytes {
    pub(crate) head: Vec<u8>,
    pub(crate) codes: Vec<u8>,
}

/// How rows of a collection are encoded as they arrive; `None` where they are compared as they are.
pub(crate) fn coding(metric: Metric, dim: usize) -> Option<Coding> {
    let bits = Bits::of(dim)?;
    Some(Coding { metric, dim, bits, rotation: Rotation::shared(dim, ROTATION_SEED) })
}

/// Bytes in memory for a row while its index is built, the vector not counted: a pointer to it, its lists, and where there
/// are codes, what its second list is worth, its code and for most rows a second one in that list.
pub(crate) fn build_bytes_per_row(dim: usize) -> u64 {
    let code = |bits: Bits| bits.nibbles(dim.next_multiple_of(64)) / 2 + 8;
    16 + 16 + Bits::of(dim).map_or(0, |bits| 4 + 2 * code(bits) as u64)
}

/// Builds the index of vectors, by row number, as a segment stores it; `None` where the segment is searched exactly,
/// and soon after `go_on` says for good that it is no longer wanted.
pub(crate) fn index_bytes(
    metric: Metric,
    vectors: &[&[f32]],
    seed: u64,
    go_on: &dyn Fn() -> bool,
) -> Option<IndexBytes> {
    let dim = vectors.first()?.len();
    Bits::of(dim)?;
    let rotation: Arc<Rotation> = Rotation::shared(dim, ROTATION_SEED);
    let Built { lists, codes } = build(metric, &rotation, vectors, seed, go_on)?;
    let key = head::RotationKey { seed: ROTATION_SEED, crc32: rotation.crc32() };
    Some(IndexBytes { head: head::encode(&lists, key), codes })
}

#[cfg(test)]
mod tests;
