//! The snapshot compressed: zstd frames one behind the other, each of whole lines and with a checksum of its own, so
//! that damage in one costs the lines in it and no others.
//!
//! ```text
//! frame of at least 16 KiB of lines | frame | … | frame of what is left
//! 28 b5 2f fd …
//! ```
//! `zstd -dc` of the file gives the plain snapshot.

use std::borrow::Cow;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, find_frame_compressed_size};

/// How a frame begins. No text does: these bytes are not UTF-8.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A frame ends with the line that reaches this length: a few dozen letters.
const FRAME_LEN_BYTES: usize = 16 << 10;
/// No frame of ours holds more; one that says so is damaged.
const MOST_FRAME_LEN_BYTES: usize = 16 << 20;
/// As fast as it is worth: a snapshot is written while others wait.
const LEVEL: i32 = 1;

/// The compressed form of a snapshot.
pub(crate) fn pack(plain: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(LEVEL).expect("a level zstd has");
    compressor.set_parameter(CParameter::ChecksumFlag(true)).expect("a parameter zstd has");
    let mut packed = Vec::with_capacity(plain.len() / 4);
    let mut rest = plain;
    while !rest.is_empty() {
        let least = rest.len().min(FRAME_LEN_BYTES);
        let line_end = rest[least - 1..].iter().position(|&byte| byte == b'\n');
        let (frame, after) = rest.split_at(line_end.map_or(rest.len(), |at| least + at));
        packed.extend(compressor.compress(frame).expect("from memory into memory"));
        rest = after;
    }
    packed
}

/// The plain form of either; of a damaged compressed one what its whole frames hold.
pub(crate) fn unpack(bytes: &[u8]) -> Cow<'_, [u8]> {
    // A flipped bit at the start hides no frame: then one is looked for.
    if bytes.starts_with(b"{\n") {
        return Cow::Borrowed(bytes);
    }
    let Some(mut at) = next_frame(bytes, 0) else { return Cow::Borrowed(bytes) };
    let mut decompressor = Decompressor::new().expect("memory for a decompressor");
    let mut plain = Vec::with_capacity(bytes.len() * 4);
    loop {
        let frame = &bytes[at..];
        let len = find_frame_compressed_size(frame).ok().filter(|len| (1..=frame.len()).contains(len));
        let lines = len.and_then(|len| decompressor.decompress(&frame[..len], MOST_FRAME_LEN_BYTES).ok());
        // Behind a damaged frame, whose length may be wrong too, the next is looked for.
        let after = match (&lines, len) {
            (Some(_), Some(len)) => at + len,
            _ => at + MAGIC.len(),
        };
        plain.extend(lines.unwrap_or_default());
        match next_frame(bytes, after) {
            Some(next) => at = next,
            None => return Cow::Owned(plain),
        }
    }
}

fn next_frame(bytes: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(MAGIC.len()).position(|at| at == MAGIC).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::snapshot;
    use crate::dlq::test_letters::letters;

    #[test]
    fn a_packed_snapshot_is_the_plain_one_and_a_tenth_as_long() {
        for count in [0, 1, 500] {
            let plain = snapshot::write(&letters(count), 7);
            let packed = pack(&plain);
            println!("{count} letters: {} bytes, packed {}", plain.len(), packed.len());
            assert_eq!(unpack(&packed), plain);
            assert_eq!(unpack(&plain), plain, "the plain one is left as it is");
            assert!(count < 500 || packed.len() * 8 < plain.len());
        }
    }

    #[test]
    fn a_frame_that_says_it_is_huge_is_damaged() {
        let mut compressor = Compressor::new(LEVEL).unwrap();
        let huge = compressor.compress(&vec![b' '; MOST_FRAME_LEN_BYTES + 1]).unwrap();
        let plain = snapshot::write(&letters(3), 7);
        assert_eq!(unpack(&[huge, pack(&plain)].concat()), plain);
    }
}
