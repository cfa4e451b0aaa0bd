//! Any bytes as the snapshot of the dead letters: read without a panic, nothing whose checksum is wrong, and what is
//! read is written and read again as the same.
//!
//! Chance does not find a CRC-32, so each input is also tried with the checksum of every entry put right, and with
//! that of the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// Up to an entry's checksum, and from there to what it covers (docs/formats/dlq.md).
const BEFORE: &[u8] = b"    {\"c\":\"";
const BODY_AT: usize = 20;
const TRAILER: &[u8] = b"  \"crc32\": \"";

fuzz_target!(|bytes: &[u8]| {
    akidb_backends::fuzz_dlq_snapshot(bytes);
    let lines: Vec<Vec<u8>> = bytes.split(|&byte| byte == b'\n').map(with_right_checksum).collect();
    let entries = lines.join(&b'\n');
    akidb_backends::fuzz_dlq_snapshot(&entries);
    akidb_backends::fuzz_dlq_snapshot(&with_right_trailer(entries));
});

fn with_right_checksum(line: &[u8]) -> Vec<u8> {
    let mut sealed = line.to_vec();
    if let Some(members) = line.get(BODY_AT..).filter(|_| line.starts_with(BEFORE)) {
        let json = [b"{", members.strip_suffix(b",").unwrap_or(members)].concat();
        sealed[BEFORE.len()..BEFORE.len() + 8]
            .copy_from_slice(format!("{:08x}", crc32fast::hash(&json)).as_bytes());
    }
    sealed
}

/// Everything from the last trailer on gives way to a right one.
fn with_right_trailer(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.windows(TRAILER.len()).rposition(|at| at == TRAILER).unwrap_or(bytes.len());
    bytes.truncate(end);
    let crc32 = crc32fast::hash(&bytes);
    bytes.extend_from_slice(format!("  \"crc32\": \"{crc32:08x}\"\n}}\n").as_bytes());
    bytes
}
