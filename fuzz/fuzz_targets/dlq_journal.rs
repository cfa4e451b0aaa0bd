//! Any bytes as the journal of the dead letters: read without a panic, nothing whose checksum is wrong, and what is
//! read is written and read again as the same.
//!
//! Chance does not find a CRC-32, so each input is also tried with the checksum of every line put right.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// Up to the checksum, and from there to what it covers (docs/formats/dlq.md).
const BEFORE: &[u8] = b"{\"c\":\"";
const BODY_AT: usize = 20;

fuzz_target!(|bytes: &[u8]| {
    akidb_backends::fuzz_dlq_journal(bytes);
    let lines: Vec<Vec<u8>> = bytes.split(|&byte| byte == b'\n').map(with_right_checksum).collect();
    akidb_backends::fuzz_dlq_journal(&lines.join(&b'\n'));
});

fn with_right_checksum(line: &[u8]) -> Vec<u8> {
    let mut sealed = line.to_vec();
    if let Some(body) = line.get(BODY_AT..line.len().saturating_sub(1)).filter(|_| line.starts_with(BEFORE)) {
        sealed[BEFORE.len()..BEFORE.len() + 8]
            .copy_from_slice(format!("{:08x}", crc32fast::hash(body)).as_bytes());
    }
    sealed
}
