//! Any bytes decode as a log frame or are refused, without a panic; what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| akidb_wal::fuzz_frame(bytes));
