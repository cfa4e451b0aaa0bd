//! The IDS section: text ids found by hash, without an index in memory.
//!
//! Body, n = rows of the segment:
//! ```text
//! 0    8n  xxh3-64 (seed 0) of each id's bytes, ascending; equal hashes by row
//! 8n   4n  row of each, u32
//! ```
//! Integer ids need no section: their column is one PLAIN page a row group, in order, searched where it lies.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::format::{CRC_LEN, HEAD_LEN};
use crate::error::Result;

const HASH_LEN: u64 = 8;
const ROW_LEN: u64 = 4;

/// Bytes of the whole section for so many rows.
pub(super) fn section_len(rows: u32) -> u64 {
    (HEAD_LEN + CRC_LEN) as u64 + u64::from(rows) * (HASH_LEN + ROW_LEN)
}

/// The hash ids are found by.
pub(super) fn hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// The body of the section for rows whose ids have these hashes.
pub(super) fn encode(hashes: &[u64]) -> Vec<u8> {
    let mut entries: Vec<(u64, u32)> = hashes.iter().copied().zip(0..).collect();
    entries.sort_unstable();
    let mut out = Vec::with_capacity(entries.len() * 12);
    out.extend(entries.iter().flat_map(|(hash, _)| hash.to_le_bytes()));
    out.extend(entries.iter().flat_map(|(_, row)| row.to_le_bytes()));
    out
}

/// The rows named in the entries whose hash or row number lies in `bytes` of the body, for rows whose ids have these hashes.
pub(super) fn rows_in(hashes: &[u64], bytes: Range<u64>) -> Vec<u32> {
    let mut entries: Vec<(u64, u32)> = hashes.iter().copied().zip(0..).collect();
    entries.sort_unstable();
    let count = entries.len() as u64;
    let entry =
        |at: u64| if at < count * HASH_LEN { at / HASH_LEN } else { (at - count * HASH_LEN) / ROW_LEN };
    let (hashes_end, end) = (bytes.end.min(count * HASH_LEN), bytes.end.min(count * (HASH_LEN + ROW_LEN)));
    let of_hashes = bytes.start..hashes_end;
    let of_rows = bytes.start.max(count * HASH_LEN)..end;
    let parts = [of_hashes, of_rows].into_iter().filter(|part| !part.is_empty());
    let chosen = parts.flat_map(|part| entry(part.start)..=entry(part.end - 1));
    chosen.filter_map(|n| entries.get(usize::try_from(n).ok()?).map(|(_, row)| *row)).collect()
}

/// The rows whose id has this hash. `read` gives checked bytes of a range of the body.
pub(super) fn candidates<'a>(
    rows: u32,
    wanted: u64,
    read: impl Fn(Range<u64>) -> Result<&'a [u8]>,
) -> Result<Vec<u32>> {
    let hash_at = |i: u64| -> Result<u64> { Ok(le_u64(read(i * HASH_LEN..(i + 1) * HASH_LEN)?)) };
    let all = u64::from(rows);
    let (mut low, mut high) = (0, all);
    while low < high {
        let middle = guess(low, high, all, wanted);
        if hash_at(middle)? < wanted { low = middle + 1 } else { high = middle }
    }
    equal(rows, wanted, low, read)
}

/// As [`candidates`] for a hash that stands at entry `from` or after it; answers the entry to go on from with a larger one
/// as well. Cheap where that is near.
pub(super) fn candidates_after<'a>(
    rows: u32,
    wanted: u64,
    from: u32,
    read: impl Fn(Range<u64>) -> Result<&'a [u8]>,
) -> Result<(Vec<u32>, u32)> {
    let hash_at = |i: u32| -> Result<u64> {
        let at = u64::from(i) * HASH_LEN;
        Ok(le_u64(read(at..at + HASH_LEN)?))
    };
    let entry = gallop(from, rows, |i| Ok(hash_at(i)? < wanted))?;
    Ok((equal(rows, wanted, u64::from(entry), read)?, entry))
}

/// The rows of the entries with this hash, the first of which is `entry` if there is one.
fn equal<'a>(
    rows: u32,
    wanted: u64,
    mut entry: u64,
    read: impl Fn(Range<u64>) -> Result<&'a [u8]>,
) -> Result<Vec<u32>> {
    let rows = u64::from(rows);
    let mut found = Vec::new();
    while entry < rows && le_u64(read(entry * HASH_LEN..(entry + 1) * HASH_LEN)?) == wanted {
        let at = rows * HASH_LEN + entry * ROW_LEN;
        found.push(le_u32(read(at..at + ROW_LEN)?));
        entry += 1;
    }
    Ok(found)
}

/// The first of `from..end` that is not `below`, all before it being so: in steps that double, then by halves. After J. L. Bentley
/// and A. C. Yao, "An almost optimal algorithm for unbounded searching", 1976.
pub(super) fn gallop(from: u32, end: u32, below: impl Fn(u32) -> Result<bool>) -> Result<u32> {
    let (mut low, mut step) = (from, 1u32);
    let mut high = end;
    while low < end {
        let probe = low.saturating_add(step - 1).min(end - 1);
        if !below(probe)? {
            high = probe;
            break;
        }
        low = probe + 1;
        step = step.saturating_mul(2);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// The parts of the body in which a lookup will find its hash and row, most likely.
pub(super) fn likely(rows: u32, wanted: u64) -> [Range<u64>; 2] {
    let rows = u64::from(rows);
    let expected = expected(rows, wanted);
    let off = 2 * (rows.isqrt() + 1);
    let entries = expected.saturating_sub(off)..(expected + off).min(rows);
    let row = rows * HASH_LEN;
    [
        entries.start * HASH_LEN..entries.end * HASH_LEN,
        row + entries.start * ROW_LEN..row + entries.end * ROW_LEN,
    ]
}

/// Where a hash stands if all are evenly spread.
fn expected(rows: u64, wanted: u64) -> u64 {
    u64::try_from((u128::from(wanted) * u128::from(rows)) >> 64).unwrap_or(0)
}

/// Where in `low..high` to look next. Hashes are evenly spread, so the first look goes to where the wanted one
/// should be and the next ones close to it: that touches one or two blocks of a cold file, not a dozen.
fn guess(low: u64, high: u64, rows: u64, wanted: u64) -> u64 {
    let expected = expected(rows, wanted);
    // The place of a hash is off by about the square root of the number of them.
    let off = rows.isqrt() + 1;
    let (left, right) = (expected.saturating_sub(off), expected + off);
    let probe = if left > low && left < high {
        left
    } else if right > low && right < high - 1 {
        right
    } else {
        low + (high - low) / 2
    };
    probe.clamp(low, high - 1)
}

fn le_u64(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b))
}
