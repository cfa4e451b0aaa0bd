//! Any bytes as a segment, and any footer keys and check table in one whose checksums are right: `inspect_segment` gives
//! a report or a typed error that names the file, without a panic.
//!
//! Input: a byte, then with bit 0 clear the whole file; with bit 0 set patches `{part, u16 length, bytes}` of the golden
//! segment with an index. Parts 0 to 6 are the values of footer keys, 7 the body of the check table, whose length
//! stays. Chance does not find a CRC-32, so all checksums are put right behind them (docs/formats/segment.md); the
//! thrift around the values is left as it is, for the library that reads it panics on some of what is not.
#![no_main]

use std::path::Path;

use akidb::{ErrorKind, inspect_segment};
use akidb_host::Fs;
use akidb_host::sim::CrashDisk;
use libfuzzer_sys::fuzz_target;

const GOLDEN: &[u8] = include_bytes!("../../engine/tests/golden/segment_text_ids_index.parquet");
const PATCHES: u8 = 1;
const KEYS: [&str; 7] = [
    "akidb.format",
    "akidb.features",
    "akidb.segment",
    "akidb.schema",
    "akidb.rows",
    "akidb.sections",
    "akidb.check",
];
const TAIL_KEY: &str = "akidb.tail_crc32";
/// Bytes of a section before its body, and the checksum after it.
const SECTION_HEAD: usize = 64;
const CRC: usize = 4;

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else { return };
    if flags & PATCHES == 0 {
        check(rest);
    } else {
        check(&patched(rest));
    }
});

fn check(bytes: &[u8]) {
    let disk = CrashDisk::new(1);
    let path = Path::new("/x.parquet");
    let file = disk.create_new(path).expect("an empty disk takes a file");
    file.write_at(bytes, 0).expect("and its bytes");
    let asked = || inspect_segment(&disk, path);
    match asked() {
        Ok(report) => {
            assert_eq!(report.size, bytes.len() as u64);
            assert!(report.tail_offset < report.size && report.blocks as u64 <= report.size);
            let again = asked().expect("what was sound is sound");
            let text = |report| serde_json::to_string(report).expect("a report has a JSON form");
            assert_eq!(text(&report), text(&again));
        }
        Err(error) => {
            let typed = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat);
            assert!(typed && error.file() == Some(path), "{error}");
            assert!(bytes != GOLDEN, "the golden file is sound: {error}");
        }
    }
}

fn patched(mut patches: &[u8]) -> Vec<u8> {
    let footer_at = GOLDEN.len() - 8 - footer_len();
    let (mut before, mut footer) =
        (GOLDEN[..footer_at].to_vec(), GOLDEN[footer_at..GOLDEN.len() - 8].to_vec());
    let check_at = place_of_check();
    while let [part, low, high, rest @ ..] = patches {
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let (bytes, later) = rest.split_at(rest.len().min(len));
        patches = later;
        match KEYS.get(usize::from(*part) % (KEYS.len() + 1)) {
            Some(key) => replace_value(&mut footer, key, bytes),
            None => patch_check(&mut before[check_at..], bytes),
        }
    }
    let tail_len = u32::try_from(footer.len()).expect("footers are small");
    let mut file = [&before[..], &footer, &tail_len.to_le_bytes(), b"PAR1"].concat();
    seal(&mut file[check_at..]);
    file
}

fn footer_len() -> usize {
    let end = GOLDEN.len() - 8;
    u32::from_le_bytes(GOLDEN[end..end + 4].try_into().expect("4 bytes")) as usize
}

fn place_of_check() -> usize {
    let at = last_index_of(GOLDEN, b"AKCHK001").expect("the golden file has a check table");
    at - SECTION_HEAD
}

/// Where the value of `key` begins in a thrift footer (its length before it), and its length.
fn value_of(footer: &[u8], key: &str) -> Option<(usize, usize, usize)> {
    let at = last_index_of(footer, key.as_bytes())? + key.len() + 1;
    let (mut len, mut shift, mut next) = (0, 0, at);
    loop {
        let byte = *footer.get(next).filter(|_| shift < 32)?;
        len |= usize::from(byte & 0x7f) << shift;
        (shift, next) = (shift + 7, next + 1);
        if byte < 0x80 {
            return Some((at, next, len));
        }
    }
}

fn replace_value(footer: &mut Vec<u8>, key: &str, value: &[u8]) {
    // The last occurrence may be one that an earlier patch put into another value: then that is what is patched.
    let Some((len_at, value_at, len)) = value_of(footer, key) else { return };
    let Some(end) = value_at.checked_add(len).filter(|end| *end <= footer.len()) else { return };
    // Thrift text is UTF-8.
    let value = String::from_utf8_lossy(value);
    let mut new = Vec::new();
    let mut left = value.len();
    while left >= 0x80 {
        new.push(left.to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    new.push(left.to_le_bytes()[0]);
    new.extend_from_slice(value.as_bytes());
    footer.splice(len_at..end, new);
}

/// Puts `bytes` over the body of the check table that `tail` begins with, and its checksum right.
fn patch_check(tail: &mut [u8], bytes: &[u8]) {
    let len = usize::try_from(u64::from_le_bytes(tail[32..40].try_into().expect("8 bytes"))).expect("small");
    let (section, rest) = tail.split_at_mut(SECTION_HEAD + len);
    let body = &mut section[SECTION_HEAD..];
    let len = bytes.len().min(body.len());
    body[..len].copy_from_slice(&bytes[..len]);
    rest[..CRC].copy_from_slice(&crc32fast::hash(section).to_le_bytes());
}

/// Puts the checksum of a tail right, as the writer does.
fn seal(tail: &mut [u8]) {
    let Some(key) = last_index_of(tail, TAIL_KEY.as_bytes()) else { return };
    let at = key + TAIL_KEY.len() + 2 + "tail=".len();
    let Some(digits) = tail.get_mut(at..at + 8) else { return };
    digits.fill(b'0');
    let crc = format!("{:08x}", crc32fast::hash(tail));
    tail[at..at + 8].copy_from_slice(crc.as_bytes());
}

fn last_index_of(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).rposition(|w| w == needle)
}
