//! Parquet's packed integers: runs and bit-packed groups (levels, places in a dictionary), and deltas (LSNs).
//!
//! Every function gives `None` for bytes that are not what they say: checksums have passed by then, so whoever asks says
//! that a segment does not decode.

use super::page_header::{unzigzag, varint};

/// Values packed together: a group of so many of w bits is w bytes.
const GROUP: usize = 8;
/// Widest value that runs of levels and of places have here: no page has more rows, no dictionary more bytes.
const MAX_RUN_WIDTH: usize = 16;
/// Values of a page of deltas: more than any writer puts into one.
const MAX_DELTAS: u64 = 1 << 20;

/// `count` values of `width` bits each in Parquet's hybrid of runs and bit-packed groups.
pub(super) fn runs(bytes: &[u8], width: usize, count: usize) -> Option<Vec<u16>> {
    if width > MAX_RUN_WIDTH {
        return None;
    }
    let mut out = Vec::with_capacity(count);
    let mut at = 0;
    while out.len() < count {
        let head = varint(bytes, &mut at)?;
        let len = usize::try_from(head >> 1).ok()?;
        let left = count - out.len();
        if head & 1 == 0 {
            let end = at + width.div_ceil(8);
            let value = bytes.get(at..end)?.iter().rev().fold(0, |value, byte| value << 8 | u16::from(*byte));
            at = end;
            out.resize(out.len() + len.min(left), value);
            if len == 0 {
                return None;
            }
        } else {
            let end = at.checked_add(len.checked_mul(width)?)?;
            let groups = bytes.get(at..end)?;
            at = end;
            unpack_groups(groups, width, len.saturating_mul(GROUP).min(left), &mut out)?;
        }
    }
    Some(out)
}

fn unpack_groups(groups: &[u8], width: usize, count: usize, out: &mut Vec<u16>) -> Option<()> {
    if count == 0 {
        return None;
    }
    if width == 0 {
        out.resize(out.len() + count, 0);
        return Some(());
    }
    let mask = u16::MAX >> (16 - width);
    let end = out.len() + count;
    for group in groups.chunks_exact(width) {
        let mut word = [0; 16];
        word[..width].copy_from_slice(group);
        let word = u128::from_le_bytes(word);
        let wanted = (end - out.len()).min(GROUP);
        out.extend((0..wanted).map(|n| low_half(word >> (n * width)) & mask));
        if out.len() == end {
            break;
        }
    }
    (out.len() == end).then_some(())
}

fn low_half(word: u128) -> u16 {
    let bytes = word.to_le_bytes();
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// The numbers of a page in `DELTA_BINARY_PACKED`.
pub(super) fn deltas(bytes: &[u8]) -> Option<Vec<i64>> {
    let mut at = 0;
    let block = varint(bytes, &mut at)?;
    let minis = varint(bytes, &mut at)?;
    let count = varint(bytes, &mut at)?;
    let mut value = unzigzag(varint(bytes, &mut at)?);
    let in_mini = usize::try_from(block.checked_div(minis)?).ok()?;
    if count > MAX_DELTAS || block > MAX_DELTAS || in_mini == 0 || in_mini % GROUP != 0 {
        return None;
    }
    let (count, minis) = (usize::try_from(count).ok()?, usize::try_from(minis).ok()?);
    let mut out = Vec::with_capacity(count);
    if count > 0 {
        out.push(value);
    }
    while out.len() < count {
        let least = unzigzag(varint(bytes, &mut at)?);
        let widths = bytes.get(at..at + minis)?;
        at += minis;
        for width in widths {
            if out.len() == count {
                break;
            }
            let width = usize::from(*width);
            let end = at.checked_add(in_mini / GROUP * width)?;
            let packed = bytes.get(at..end)?;
            at = end;
            for n in 0..in_mini.min(count - out.len()) {
                value = value.wrapping_add(least).wrapping_add(bits(packed, n * width, width)?.cast_signed());
                out.push(value);
            }
        }
    }
    Some(out)
}

/// `width` bits from bit `start` on, low ones first.
fn bits(bytes: &[u8], start: usize, width: usize) -> Option<u64> {
    if width == 0 {
        return Some(0);
    }
    if width > 64 {
        return None;
    }
    let (first, shift) = (start / 8, start % 8);
    let taken = bytes.get(first..(start + width).div_ceil(8))?;
    let mut word = [0; 16];
    word[..taken.len()].copy_from_slice(taken);
    let bytes = (u128::from_le_bytes(word) >> shift).to_le_bytes();
    let low =
        u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]);
    Some(low & (u64::MAX >> (64 - width)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_groups_follow_each_other_and_end_where_they_are_told() {
        // Three times 5, then eight of three bits: 0 to 7, as in Parquet's own description.
        let bytes = [0x06, 5, 0x03, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(runs(&bytes, 3, 11), Some(vec![5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(runs(&bytes, 3, 5), Some(vec![5, 5, 5, 0, 1]));
        assert_eq!(runs(&bytes, 3, 12), None, "there are no more");
        assert_eq!(runs(&bytes[..5], 3, 11), None, "the group is cut off");
        assert_eq!(runs(&[0x10], 0, 8), Some(vec![0; 8]));
        assert_eq!(runs(&[0x10, 0x34, 0x12], 16, 2), Some(vec![0x1234; 2]));
        assert_eq!(runs(&[0x10, 1, 2, 3], 17, 8), None);
        assert_eq!(runs(&[0x00, 1, 0x00, 1], 1, 8), None, "a run of none would never end");
        assert_eq!(runs(&[], 1, 0), Some(vec![]));
    }

    #[test]
    fn bits_are_taken_from_anywhere_at_any_width() {
        let bytes: Vec<u8> = (0..32_u8).map(|n| n.wrapping_mul(151)).collect();
        let one = |at: usize| u64::from(bytes[at / 8] >> (at % 8) & 1);
        for width in 0..=64 {
            for start in 0..60 {
                let wanted = (0..width).fold(0, |word, n| word | one(start + n) << n);
                assert_eq!(bits(&bytes, start, width), Some(wanted), "{width} bits from {start}");
            }
        }
        assert_eq!(bits(&bytes, 0, 65), None);
        assert_eq!(bits(&bytes, 250, 8), None);
    }

    #[test]
    fn deltas_that_are_none_are_refused() {
        // Block of 128, 4 minis, 2 values, first 7; least delta -3, one mini of width 2 whose first value is 1.
        let bytes = [0x80, 0x01, 0x04, 0x02, 0x0e, 0x05, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(deltas(&bytes), Some(vec![7, 5]));
        for len in 0..bytes.len() {
            assert_eq!(deltas(&bytes[..len]), None);
        }
        assert_eq!(deltas(&[0x80, 0x01, 0x00, 0x02, 0x0e]), None, "no minis");
        assert_eq!(deltas(&[0x80, 0x01, 0x04, 0x00, 0x00]), Some(vec![]));
        assert_eq!(deltas(&[0x80, 0x01, 0x04, 0xff, 0xff, 0xff, 0x7f, 0x0e]), None, "more than a page holds");
    }
}
