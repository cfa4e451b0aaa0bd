//! Any bytes as the sections HEAD and CODES of a vector index: refused with a reason, or scanned to rows of the index,
//! without a panic.
//!
//! Input: u32 length of HEAD, HEAD, CODES (docs/formats/segment.md).
#![no_main]

use akidb::scan_index_sections;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((len, rest)) = input.split_first_chunk::<4>() else { return };
    let Some((head, codes)) = rest.split_at_checked(u32::from_le_bytes(*len) as usize) else { return };
    // A matrix for another dimension takes milliseconds to make: those below 192 are left to the tests.
    if head.get(10..12).is_some_and(|dim| u16::from_le_bytes([dim[0], dim[1]]) < 192) {
        return;
    }
    if let Ok(found) = scan_index_sections(head, codes) {
        let again = scan_index_sections(head, codes);
        assert_eq!(again, Ok(found), "the same bytes give the same rows");
    }
});
