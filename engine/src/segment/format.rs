//! The layout of a segment file: section heads, footer keys and the checksum of the tail.
//!
//! ```text
//! 0        "PAR1"
//! 4        zeros so that the first vector of row group 0 lies on a multiple of 64
//!          row group 0: rows in id order, R = 2^r of them (the last group may have fewer); columns
//!            id       text: zstd pages of 512 rows     integers: one PLAIN uncompressed page (plain_page.rs)
//!            lsn      DELTA_BINARY_PACKED, zstd
//!            <fields> dictionary, zstd, page statistics
//!            payload  zstd, no dictionary, no statistics
//!            vector   one PLAIN uncompressed page (plain_page.rs): the search matrix
//!          zeros, row group 1, ...
//!          zeros to a multiple of 4096
//! sections, each on a multiple of 64, with zeros between them:
//!          IDS      text ids only: sorted xxh3-64 of the ids, then their rows (id_index.rs)
//!          CODES    with a vector index only: its codes, read by ranges
//!          HEAD     with a vector index only: what a search reads first. From here on to the end of the file one range
//! check    CHK      crc32 of every 16 KiB block of [0, check)
//!          parquet page indexes, thrift footer with the keys below
//! end-8    u32 footer length, "PAR1"
//! ```
//! A section (integers little endian):
//! ```text
//! 0   8  magic "AKSEC1\0\0"
//! 8   2  kind (1 HEAD, 2 CODES, 3 IDS, 4 CHK)       10  2  version (1)
//! 12  4  flags (0)                 16  4  epoch of the file's name
//! 20  4  writer of its name        24  8  seq of its name
//! 32  8  length of the body        40 24  zeros
//! 64     body
//!     4  crc32 of head and body
//! ```
//! Everything below `check` is covered by the table in CHK; everything from `check` to the end of the file by
//! `tail_crc32`, which stands in the footer as 8 hex digits that count as `0` while it is computed.

use std::ops::Range;

use crc32fast::Hasher;

use super::name::SegmentName;

/// Version of the whole layout, in the key `akidb.format`.
pub(super) const FORMAT: &str = "1";
/// `created_by` of the footer: application, version of the layout.
pub(super) const CREATED_BY: &str = "akidb version 1";
/// Vectors begin on multiples of this.
pub(super) const ALIGN: u64 = 64;
/// The first section begins on a multiple of this.
pub(super) const SECTION_AREA_ALIGN: u64 = 4096;
/// Bytes of a section head.
pub(super) const HEAD_LEN: usize = 64;
/// Bytes of the crc32 after a section's body.
pub(super) const CRC_LEN: usize = 4;
/// Bytes after the footer: its length and "PAR1".
pub(super) const FOOTER_END_LEN: usize = 8;

const MAGIC: [u8; 8] = *b"AKSEC1\0\0";
const SECTION_VERSION: u16 = 1;

/// Key: [`FORMAT`].
pub(super) const KEY_FORMAT: &str = "akidb.format";
/// Key: feature bits, `compatible:incompatible`, hexadecimal. A reader that meets an unknown incompatible bit stops.
pub(super) const KEY_FEATURES: &str = "akidb.features";
/// Key: the name without ending, so that a footer copied into another file is found out.
pub(super) const KEY_SEGMENT: &str = "akidb.segment";
/// Key: the collection's schema as JSON.
pub(super) const KEY_SCHEMA: &str = "akidb.schema";
/// Key: rows, ids, LSNs and vector offsets as JSON.
pub(super) const KEY_ROWS: &str = "akidb.rows";
/// Key: the sections as JSON.
pub(super) const KEY_SECTIONS: &str = "akidb.sections";
/// Key: the check table, `offset:length`.
pub(super) const KEY_CHECK: &str = "akidb.check";
/// Key: `tail=` and the 8 digits of the tail's checksum. The last key.
pub(super) const KEY_TAIL: &str = "akidb.tail_crc32";
/// What stands before the digits.
const TAIL_PREFIX: &str = "tail=";
const TAIL_DIGITS: usize = 8;
/// Incompatible feature bits this version understands.
const KNOWN_INCOMPATIBLE: u64 = 0;
/// Compatible feature bit: there is a vector index. Who does not know it searches exactly.
const HAS_INDEX: u64 = 1;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    /// Head of the vector index.
    Head = 1,
    /// Codes of the vector index.
    Codes = 2,
    /// Sorted id hashes.
    Ids = 3,
    /// The check table.
    Check = 4,
}

impl Kind {
    /// The word for it in keys, messages and reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::Codes => "CODES",
            Self::Ids => "IDS",
            Self::Check => "CHK",
        }
    }
}

/// The smallest number of zeros that brings `offset` to a multiple of `align`.
pub(super) fn padding(offset: u64, align: u64) -> u64 {
    offset.next_multiple_of(align) - offset
}

/// What stands before and after a section's body: its head, and the crc32 of both.
pub(super) fn frame_section(kind: Kind, name: SegmentName, body: &[u8]) -> ([u8; HEAD_LEN], u32) {
    let head = encode_head(kind, name, body.len() as u64);
    let mut hasher = Hasher::new();
    hasher.update(&head);
    hasher.update(body);
    (head, hasher.finalize())
}

fn encode_head(kind: Kind, name: SegmentName, body_len: u64) -> [u8; HEAD_LEN] {
    let mut head = [0; HEAD_LEN];
    head[..8].copy_from_slice(&MAGIC);
    head[8..10].copy_from_slice(&(kind as u16).to_le_bytes());
    head[10..12].copy_from_slice(&SECTION_VERSION.to_le_bytes());
    head[16..20].copy_from_slice(&name.epoch.to_le_bytes());
    head[20..24].copy_from_slice(&name.writer.to_le_bytes());
    head[24..32].copy_from_slice(&name.seq.to_le_bytes());
    head[32..40].copy_from_slice(&body_len.to_le_bytes());
    head
}

/// Refuses a head that is not the one this file has for a section of `kind` with `len` bytes in all.
pub(super) fn check_head(head: &[u8], kind: Kind, name: SegmentName, len: u64) -> Result<(), &'static str> {
    let body_len = len.checked_sub((HEAD_LEN + CRC_LEN) as u64).ok_or("is too short for its head")?;
    if head.len() < HEAD_LEN || head[..8] != MAGIC {
        return Err("does not begin with its magic");
    }
    if head[..HEAD_LEN] != encode_head(kind, name, body_len) {
        return Err("has the head of another file, kind or length");
    }
    Ok(())
}

/// The body of a section that is wholly in memory, after its checksum and head were found right.
pub(super) fn decode_section(section: &[u8], kind: Kind, name: SegmentName) -> Result<&[u8], &'static str> {
    if section.len() < HEAD_LEN + CRC_LEN {
        return Err("is too short for its head");
    }
    let (covered, crc) = section.split_at(section.len() - CRC_LEN);
    if crc32fast::hash(covered).to_le_bytes() != *crc {
        return Err("does not match its checksum");
    }
    check_head(section, kind, name, section.len() as u64)?;
    Ok(&covered[HEAD_LEN..])
}

/// The text of [`KEY_FEATURES`] this version writes, for a segment with or without a vector index.
pub(super) fn features(has_index: bool) -> String {
    format!("{:x}:0", if has_index { HAS_INDEX } else { 0 })
}

/// Whether this version may read a file with these feature bits; `None` if the text is not understood.
pub(super) fn knows_features(text: &str) -> Option<bool> {
    let (_, incompatible) = text.split_once(':')?;
    Some(u64::from_str_radix(incompatible, 16).ok()? & !KNOWN_INCOMPATIBLE == 0)
}

/// The text of [`KEY_TAIL`] while the checksum is not known yet.
pub(super) fn tail_placeholder() -> String {
    format!("{TAIL_PREFIX}{:0TAIL_DIGITS$}", 0)
}

/// Where the 8 digits stand in a tail. They are in the last of our keys, and only `created_by` and column orders,
/// which are the same in every file, come after the keys.
pub(super) fn tail_digits(tail: &[u8]) -> Option<Range<usize>> {
    let key = last_index_of(tail, KEY_TAIL.as_bytes())? + KEY_TAIL.len();
    // Thrift: field 2 (delta 1, binary), then the length of the value.
    let prefix_len = TAIL_PREFIX.len();
    let value_len = u8::try_from(prefix_len + TAIL_DIGITS).ok()?;
    let value = tail.get(key..key + 2 + prefix_len + TAIL_DIGITS)?;
    let expected = value[..2] == [0x18, value_len] && value[2..2 + prefix_len] == *TAIL_PREFIX.as_bytes();
    let start = key + 2 + prefix_len;
    expected.then_some(start..start + TAIL_DIGITS)
}

/// The checksum of a tail whose digits stand at `digits`, and what those digits say.
pub(super) fn tail_crc32(tail: &[u8], digits: &Range<usize>) -> (u32, Option<u32>) {
    let mut hasher = Hasher::new();
    hasher.update(&tail[..digits.start]);
    hasher.update(&[b'0'; TAIL_DIGITS]);
    hasher.update(&tail[digits.end..]);
    let stated = std::str::from_utf8(&tail[digits.clone()])
        .ok()
        .filter(|text| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        .and_then(|text| u32::from_str_radix(text, 16).ok());
    (hasher.finalize(), stated)
}

/// Computes the checksum of a tail that holds the placeholder and writes its digits; `None` if there is no placeholder.
pub(super) fn seal_tail(tail: &mut [u8]) -> Option<u32> {
    let digits = tail_digits(tail)?;
    let (crc, _) = tail_crc32(tail, &digits);
    tail[digits].copy_from_slice(format!("{crc:0TAIL_DIGITS$x}").as_bytes());
    Some(crc)
}

/// The value of one of our keys in a thrift footer, found without parsing it: before its checksum is known to be
/// right a footer may not be given to a parser. `None` if the key is not there or its value not short text.
pub(super) fn find_key<'a>(footer: &'a [u8], key: &str) -> Option<&'a str> {
    let at = last_index_of(footer, key.as_bytes())? + key.len();
    let [0x18, len @ 0..0x80, rest @ ..] = footer.get(at..)? else { return None };
    std::str::from_utf8(rest.get(..usize::from(*len))?).ok()
}

fn last_index_of(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).rposition(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: SegmentName = SegmentName { epoch: 2, seq: 9, writer: 0xdead_beef };

    #[test]
    fn features_are_as_drawn() {
        assert_eq!((features(false), features(true)), ("0:0".to_string(), "1:0".to_string()));
    }

    #[test]
    fn a_section_reads_back_and_any_flipped_bit_is_refused() {
        let (head, crc) = frame_section(Kind::Ids, NAME, b"twelve bytes");
        let section = [&head[..], b"twelve bytes", &crc.to_le_bytes()].concat();
        assert_eq!(section.len(), HEAD_LEN + 12 + CRC_LEN);
        assert_eq!(decode_section(&section, Kind::Ids, NAME), Ok(&b"twelve bytes"[..]));
        assert!(decode_section(&section, Kind::Check, NAME).is_err());
        assert!(decode_section(&section, Kind::Ids, SegmentName { seq: 10, ..NAME }).is_err());
        for bit in 0..section.len() * 8 {
            let mut flipped = section.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_section(&flipped, Kind::Ids, NAME).is_err(), "bit {bit}");
        }
        for len in 0..section.len() {
            assert!(decode_section(&section[..len], Kind::Ids, NAME).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn the_last_tail_key_counts_even_when_data_imitates_it() {
        let mut tail = b"..akidb.tail_crc32\x18\x0dtail=99999999..".to_vec();
        tail.extend_from_slice(KEY_TAIL.as_bytes());
        tail.extend_from_slice(b"\x18\x0d");
        tail.extend_from_slice(tail_placeholder().as_bytes());
        tail.extend_from_slice(b"\0..PAR1");
        let crc = seal_tail(&mut tail).unwrap();
        let digits = tail_digits(&tail).unwrap();
        assert_eq!(tail_crc32(&tail, &digits), (crc, Some(crc)));
        assert_eq!(find_key(&tail, KEY_TAIL), Some(&*format!("tail={crc:08x}")));
    }

    #[test]
    fn an_unknown_incompatible_feature_is_not_read() {
        assert_eq!(knows_features(&features(true)), Some(true));
        assert_eq!(knows_features("ff:0"), Some(true));
        assert_eq!(knows_features("0:1"), Some(false));
        assert_eq!(knows_features("0"), None);
    }
}
