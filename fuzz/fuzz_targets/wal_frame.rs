//! Any bytes decode as a log frame or are refused, without a panic; what decodes encodes to the same bytes.
//!
//! Chance does not find a CRC-32, so each input is also tried with both of its checksums put right: behind them lie
//! lengths, counts and types to be wrong about.
#![no_main]

use libfuzzer_sys::fuzz_target;

const HEADER_BYTES: usize = 40;

fuzz_target!(|bytes: &[u8]| {
    akidb_wal::fuzz_frame(bytes);
    if let Some(sealed) = with_right_checksums(bytes) {
        akidb_wal::fuzz_frame(&sealed);
    }
});

/// Header crc at 0 over bytes 4..40, payload length at 4, payload crc at 16 (docs/formats/wal.md). A length that
/// points outside becomes the length of what is there.
fn with_right_checksums(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = bytes.to_vec();
    let rest = sealed.len().checked_sub(HEADER_BYTES)?;
    let mut len = u32::from_le_bytes(sealed[4..8].try_into().ok()?) as usize;
    if len > rest {
        len = rest;
        sealed[4..8].copy_from_slice(&u32::try_from(rest).ok()?.to_le_bytes());
    }
    let payload_crc = crc32fast::hash(&sealed[HEADER_BYTES..HEADER_BYTES + len]);
    sealed[16..20].copy_from_slice(&payload_crc.to_le_bytes());
    let header_crc = crc32fast::hash(&sealed[4..HEADER_BYTES]);
    sealed[..4].copy_from_slice(&header_crc.to_le_bytes());
    Some(sealed)
}
