//! Parquet's packed integers: runs and bit-packed groups (levels, places in a dictionary), and deltas (LSNs).
//!
//! Every function gives `None` for bytes that are not what they say: checksums have passed by then, so whoever asks says
//! that a segment does not decode.

use super::page_header::{unzigzag, varint};

/// Values packed together: a group of so many of w bits is w bytes.
const GROUP: usize = 8;
/// Widest group of eight that is shifted out of one word; wider values are taken one by one.
const MAX_WORD_WIDTH: usize = 16;
/// Widest value that runs have here: a place in a dictionary is a number of four bytes.
const MAX_RUN_WIDTH: usize = 32;
/// Values of a page of deltas: more than any writer puts into one.
const MAX_DELTAS: usize = 1 << 20;

/// `count` values of `width` bits each in Parquet's hybrid of runs and bit-packed groups, each cut to what is wanted of it.
/// Room for all of them is asked for at once: `count` must not be what only the page itself says.
pub(super) fn runs<T: Clone>(
    bytes: &[u8],
    width: usize,
    count: usize,
    cut: impl Fn(u32) -> T,
) -> Option<Vec<T>> {
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
            let value = bytes.get(at..end)?.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
            at = end;
            out.resize(out.len() + len.min(left), cut(value));
            if len == 0 {
                return None;
            }
        } else {
            let end = at.checked_add(len.checked_mul(width)?)?;
            let groups = bytes.get(at..end)?;
            at = end;
            unpack_groups(groups, width, len.saturating_mul(GROUP).min(left), &cut, &mut out)?;
        }
    }
    Some(out)
}

fn unpack_groups<T: Clone>(
    groups: &[u8],
    width: usize,
    count: usize,
    cut: &impl Fn(u32) -> T,
    out: &mut Vec<T>,
) -> Option<()> {
    if count == 0 {
        return None;
    }
    if width == 0 {
        out.resize(out.len() + count, cut(0));
        return Some(());
    }
    if width > MAX_WORD_WIDTH {
        for n in 0..count {
            out.push(cut(u32::try_from(bits(groups, n * width, width)?).ok()?));
        }
        return Some(());
    }
    let mask = u32::MAX >> (32 - width);
    let end = out.len() + count;
    for group in groups.chunks_exact(width) {
        let mut word = [0; 16];
        word[..width].copy_from_slice(group);
        let word = u128::from_le_bytes(word);
        let wanted = (end - out.len()).min(GROUP);
        out.extend((0..wanted).map(|n| cut(low_word(word >> (n * width)) & mask)));
        if out.len() == end {
            break;
        }
    }
    (out.len() == end).then_some(())
}

fn low_word(word: u128) -> u32 {
    let bytes = word.to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The `count` numbers of a page in `DELTA_BINARY_PACKED`.
pub(super) fn deltas(bytes: &[u8], count: usize) -> Option<Vec<i64>> {
    let mut at = 0;
    let block = varint(bytes, &mut at)?;
    let minis = varint(bytes, &mut at)?;
    let stated = usize::try_from(varint(bytes, &mut at)?).ok()?;
    let mut value = unzigzag(varint(bytes, &mut at)?);
    let in_mini = usize::try_from(block.checked_div(minis)?).ok()?;
    if stated != count
        || count.max(usize::try_from(block).ok()?) > MAX_DELTAS
        || in_mini == 0
        || in_mini % GROUP != 0
    {
        return None;
    }
    let minis = usize::try_from(minis).ok()?;
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
        let runs = |bytes: &[u8], width, count| runs(bytes, width, count, |value| value);
        assert_eq!(runs(&bytes, 3, 11), Some(vec![5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(runs(&bytes, 3, 5), Some(vec![5, 5, 5, 0, 1]));
        assert_eq!(runs(&bytes, 3, 12), None, "there are no more");
        assert_eq!(runs(&bytes[..5], 3, 11), None, "the group is cut off");
        assert_eq!(runs(&[0x10], 0, 8), Some(vec![0; 8]));
        assert_eq!(runs(&[0x10, 0x34, 0x12], 16, 2), Some(vec![0x1234; 2]));
        assert_eq!(runs(&[0x10, 1, 2, 1], 17, 8), Some(vec![0x1_0201; 8]));
        assert_eq!(runs(&[0x10, 1, 2, 3, 4, 5], 33, 8), None);
        assert_eq!(runs(&[0x00, 1, 0x00, 1], 1, 8), None, "a run of none would never end");
        assert_eq!(runs(&[], 1, 0), Some(vec![]));
    }

    #[test]
    fn groups_of_any_width_are_unpacked() {
        for width in 1..=32_usize {
            let value = |n: usize| u32::try_from(n).unwrap().wrapping_mul(0x9e37_79b9) >> (32 - width);
            let mut bytes = vec![0; 2 * width];
            for (n, bit) in (0..16).flat_map(|n| (0..width).map(move |bit| (n, bit))) {
                let at = n * width + bit;
                bytes[at / 8] |= u8::from(value(n) >> bit & 1 == 1) << (at % 8);
            }
            bytes.insert(0, 0x05);
            let wanted = |count| Some((0..count).map(value).collect::<Vec<_>>());
            assert_eq!(runs(&bytes, width, 16, |value| value), wanted(16), "{width} bits");
            assert_eq!(runs(&bytes, width, 11, |value| value), wanted(11), "{width} bits");
            assert_eq!(runs(&bytes, width, 17, |value| value), None);
            assert_eq!(runs(&bytes[..bytes.len() - 1], width, 16, |value| value), None);
        }
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
        assert_eq!(deltas(&bytes, 2), Some(vec![7, 5]));
        assert_eq!(deltas(&bytes, 1), None);
        assert_eq!(deltas(&bytes, 3), None);
        for len in 0..bytes.len() {
            assert_eq!(deltas(&bytes[..len], 2), None);
        }
        assert_eq!(deltas(&[0x80, 0x01, 0x00, 0x02, 0x0e], 2), None, "no minis");
        assert_eq!(deltas(&[0x80, 0x01, 0x04, 0x00, 0x00], 0), Some(vec![]));
        let many = [0x80, 0x01, 0x04, 0xff, 0xff, 0xff, 0x7f, 0x0e];
        assert_eq!(deltas(&many, (1 << 28) - 1), None, "more than a page holds");
    }
}
