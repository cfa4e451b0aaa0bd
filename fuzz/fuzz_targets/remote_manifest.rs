//! Any bytes decode as a numbered remote document or are refused with a typed error, without a panic; what decodes
//! encodes to the same document.
//!
//! Chance does not find a CRC-32, so each input is also tried with its last line put right: behind it lie versions,
//! parents, keys and lengths to be wrong about.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    akidb_backends::fault::fuzz_document(bytes);
    akidb_backends::fault::fuzz_document(&sealed(bytes));
});

/// The first line of the input, and the checksum line that belongs to it (drawn at the top of backends/src/numbered.rs).
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default().to_vec();
    sealed.push(b'\n');
    let last = format!("{{\"crc32\":\"{:08x}\"}}\n", crc32fast::hash(&sealed));
    sealed.extend_from_slice(last.as_bytes());
    sealed
}
