//! The snapshot: one JSON document, one letter a line, each under a checksum of its own and all under one.
//!
//! ```text
//! {\n
//!   "format": "akidb dead letters",\n
//!   "version": 1,\n
//!   "count": 2,\n
//!   "last": 17,\n                          changes of the journal up to this number are in here
//!   "entries": [\n
//!     {"c":"<crc32>","v":1,"id":"…",…},\n    crc32 of the letter's JSON without the member c: {"v":1,…}
//!     {"c":"<crc32>","v":1,"id":"…",…}\n     oldest first
//!   ],\n
//!   "crc32": "<crc32>"\n                    of every byte before this line
//! }\n
//! ```
//! Where the whole is damaged, each line still speaks for itself.

use std::borrow::Borrow;
use std::io::Write as _;

use serde::Deserialize;

use super::letter::Letter;
use super::line::{MOST, hex};

const FORMAT: &str = "akidb dead letters";
const VERSION: u32 = 1;
const ENTRIES: &[u8] = b"  \"entries\": [\n";
const BEFORE_CRC: &[u8] = b"    {\"c\":\"";
const TRAILER_LEN: usize = TRAILER_START.len() + 8 + TRAILER_END.len();
const TRAILER_START: &[u8] = b"  \"crc32\": \"";
const TRAILER_END: &[u8] = b"\"\n}\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    version: u32,
    count: u64,
    last: u64,
}

#[derive(Deserialize)]
struct AnyHead {
    version: u64,
}

/// What a snapshot's bytes tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) letters: Vec<Letter>,
    /// Changes up to this number are in it; 0 where the head cannot be trusted.
    pub(crate) last: u64,
    /// Lines that were skipped.
    pub(crate) bad_lines: u64,
    /// Every byte is as it was written.
    pub(crate) is_intact: bool,
    /// Whole, but of a newer AkiDB: nothing was read.
    pub(crate) is_newer: bool,
}

/// The bytes of a snapshot.
pub(crate) fn write<L: Borrow<Letter>>(letters: &[L], last: u64) -> Vec<u8> {
    let mut to = Vec::with_capacity(256 + letters.len() * 768);
    let count = letters.len();
    let head = format!(
        "{{\n  \"format\": \"{FORMAT}\",\n  \"version\": {VERSION},\n  \"count\": {count},\n  \"last\": {last},\n"
    );
    to.extend_from_slice(head.as_bytes());
    to.extend_from_slice(ENTRIES);
    for (at, letter) in letters.iter().enumerate() {
        to.extend_from_slice(BEFORE_CRC);
        // Eight digits, a quote and a comma: the last byte takes the place of the letter's own brace for a moment.
        let crc = to.len();
        to.extend_from_slice(b"00000000\"");
        let body = to.len();
        serde_json::to_writer(&mut to, letter.borrow()).expect("strings and numbers into memory");
        let crc32 = hex(crc32fast::hash(&to[body..]));
        to[crc..crc + 8].copy_from_slice(&crc32);
        to[body] = b',';
        to.extend_from_slice(if at + 1 == count { b"\n" } else { b",\n" });
    }
    to.extend_from_slice(b"  ],\n");
    let crc32 = crc32fast::hash(&to);
    to.write_all(TRAILER_START).and_then(|()| to.write_all(&hex(crc32))).expect("into memory");
    to.extend_from_slice(TRAILER_END);
    to
}

/// Reads whatever is there; never fails.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let head = sealed(bytes).and_then(head_of);
    if let Some(Err(Newer)) = head {
        return Read { is_newer: true, ..Read::default() };
    }
    let mut read = Read::default();
    let start = bytes.windows(ENTRIES.len()).position(|at| at == ENTRIES).map_or(0, |at| at + ENTRIES.len());
    for line in bytes[start..].split(|&byte| byte == b'\n') {
        match letter_of(line) {
            Some(letter) => read.letters.push(letter),
            None if is_frame(line) => {}
            None => read.bad_lines += 1,
        }
    }
    if let Some(Ok(head)) = head
        && head.count == read.letters.len() as u64
    {
        read.is_intact = read.bad_lines == 0;
        read.last = head.last;
    } else {
        // Something is wrong with it, if only between the lines.
        read.bad_lines = read.bad_lines.max(1);
    }
    read
}

/// Everything before the last two lines, if the checksum there is right.
fn sealed(bytes: &[u8]) -> Option<&[u8]> {
    let (body, trailer) = bytes.split_at_checked(bytes.len().checked_sub(TRAILER_LEN)?)?;
    let crc32 = trailer.strip_prefix(TRAILER_START)?.strip_suffix(TRAILER_END)?;
    (*crc32 == hex(crc32fast::hash(body))).then_some(body)
}

struct Newer;

fn head_of(body: &[u8]) -> Option<Result<Head, Newer>> {
    let end = body.windows(ENTRIES.len()).position(|at| at == ENTRIES)?;
    let mut text = body[..end].strip_suffix(b",\n")?.to_vec();
    text.push(b'}');
    let version = serde_json::from_slice::<AnyHead>(&text).ok()?.version;
    if version > u64::from(VERSION) {
        return Some(Err(Newer));
    }
    let head: Head = serde_json::from_slice(&text).ok()?;
    (head.format == FORMAT && head.version == VERSION && head.last <= MOST).then_some(Ok(head))
}

fn letter_of(line: &[u8]) -> Option<Letter> {
    let rest = line.strip_prefix(BEFORE_CRC)?;
    let (crc32, rest) = rest.split_at_checked(8)?;
    let rest = rest.strip_prefix(b"\",")?;
    let members = rest.strip_suffix(b",").unwrap_or(rest);
    let mut json = Vec::with_capacity(members.len() + 1);
    json.push(b'{');
    json.extend_from_slice(members);
    if *crc32 != hex(crc32fast::hash(&json)) {
        return None;
    }
    serde_json::from_slice(&json).ok().filter(|letter: &Letter| letter.v == 1)
}

/// Lines behind the letters.
fn is_frame(line: &[u8]) -> bool {
    line.is_empty() || line == b"  ]," || line == b"}" || line.starts_with(TRAILER_START)
}
