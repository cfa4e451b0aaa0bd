//! Evidence behind the intact part of a log: headers whose stamps say what was durable.

use crate::error::Result;
use crate::frame::{FRAME_HEADER_BYTES, read_head, u64_at};
use crate::header::HEADER_PAGE_BYTES;
use crate::log_file::View;
use crate::lsn::Lsn;
use crate::scout::Found;

/// An intact header whose stamp says what was durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Witness {
    pub(crate) view: usize,
    pub(crate) offset: u64,
    pub(crate) durable: Lsn,
}

/// What lies behind the intact part.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) witness: Option<Witness>,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// Searches the rest of the first view from `at`, and all of the others, for intact headers.
///
/// A later file that was never in use is searched only if anything lies behind `at`. An acknowledged record in it would
/// have come to the disk with its START, and after the end of the file before it. So where the place of its START is
/// empty and nothing at all lies behind `at`, frames of its own would be ones that nobody was told of, behind a START
/// that a power cut took, and evidence only in a log that also lost its synced end, to zeros, to the last byte.
pub(crate) fn search(views: &[View], at: u64, ends: &[Found]) -> Result<Rest> {
    let used = search_where(views, at, ends, |i| i == 0 || !ends[i].unused)?;
    if used.bytes == 0 { Ok(used) } else { search_where(views, at, ends, |_| true) }
}

fn search_where(views: &[View], at: u64, ends: &[Found], wanted: impl Fn(usize) -> bool) -> Result<Rest> {
    assert_eq!(views.len(), ends.len(), "one end a view");
    let mut rest = Rest::default();
    for (i, (view, end)) in views.iter().zip(ends).enumerate().filter(|(i, _)| wanted(*i)) {
        let bytes = view.bytes();
        let from = if i == 0 { usize::try_from(at).unwrap_or(usize::MAX) } else { HEADER_PAGE_BYTES };
        view.load(from..end.empty_from.saturating_add(2 * FRAME_HEADER_BYTES))?;
        let Some(tail) = bytes.get(from..end.empty_from) else { continue };
        let (mut used, tail) = if view.is_recycled() {
            (0, tail)
        } else {
            let used = without_zeros(tail);
            (used, &bytes[from..(from + used + FRAME_HEADER_BYTES).min(bytes.len())])
        };
        for salt_at in salts(tail, view.header.salt) {
            let Some(offset) = (from + salt_at).checked_sub(SALT_AT).filter(|offset| *offset >= from) else {
                continue;
            };
            // In a recycled file the bytes of its earlier life are no news; a header of this one is, intact or not.
            used = used.max(offset + FRAME_HEADER_BYTES - from);
            let Ok(head) = read_head(bytes, offset, view.header.salt) else { continue };
            rest.frames += 1;
            if rest.witness.is_none_or(|w| w.durable < head.durable) {
                rest.witness = Some(Witness { view: i, offset: offset as u64, durable: head.durable });
            }
        }
        rest.bytes += used as u64;
    }
    Ok(rest)
}

/// Zeros are looked for in blocks of this size: one look a block, and no branch in it.
const BLOCK_BYTES: usize = 4096;

/// Whether all of `bytes` are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(BLOCK_BYTES).all(|block| block.iter().fold(0, |any, byte| any | byte) == 0)
}

/// Whether an 8-byte word of `bytes` is the salt, or differs from it in one bit. They begin at a multiple of 8 of a file.
pub(crate) fn may_hold_salt(bytes: &[u8], salt: u64) -> bool {
    salts(bytes, salt).next().is_some()
}

/// How many bytes there are up to the last that is not zero. Most of a log file is zeros: they go by in blocks.
fn without_zeros(bytes: &[u8]) -> usize {
    let blocks =
        bytes.rchunks(BLOCK_BYTES).take_while(|block| is_zero(block)).map(<[u8]>::len).sum::<usize>();
    let left = &bytes[..bytes.len() - blocks];
    left.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
}

/// Where in a frame header its salt stands.
const SALT_AT: usize = 24;

/// Offsets of 8-byte words that are the salt, or differ from it in one bit as a damaged one does.
fn salts(bytes: &[u8], salt: u64) -> impl Iterator<Item = usize> {
    const BLOCK_BYTES: usize = 128;
    let is_salt = move |word: u64| {
        let wrong = word ^ salt;
        wrong & wrong.wrapping_sub(1) == 0
    };
    let word_at = move |at: usize| bytes.get(at..at + 8).map_or(!salt, |_| u64_at(bytes, at));
    let hits = move |block: &[u8]| {
        let (words, _) = block.as_chunks::<8>();
        words.iter().fold(false, |hit, word| hit | is_salt(u64::from_le_bytes(*word)))
    };
    let blocks = bytes.chunks(BLOCK_BYTES).enumerate().filter(move |(_, block)| hits(block));
    blocks.flat_map(move |(n, block)| {
        let from = n * BLOCK_BYTES;
        (from..from + block.len()).step_by(8).filter(move |at| is_salt(word_at(*at)))
    })
}
