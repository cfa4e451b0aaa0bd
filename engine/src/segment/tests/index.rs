//! The vector index in a segment: its bytes come back, its damage is found and named, its reads cost what they must.

use super::*;
use crate::error::{Error, ErrorKind};
use crate::segment::check::BLOCK_LEN;
use crate::segment_meta::Place;

const BLOCK: u64 = BLOCK_LEN as u64;
/// Head and checksum of a section.
const FRAME: u64 = 64 + 4;

fn indexed(head: usize, codes: usize) -> (Written, IndexBytes) {
    let schema = every_type(8);
    let index = index(head, codes, 0x1de);
    (Written::with_index(schema.clone(), rows(&schema, 600, 9), &index), index)
}

fn end(place: Place) -> u64 {
    place.offset + place.len
}

#[test]
fn bodies_of_any_length_come_back_from_multiples_of_64_and_head_is_last_before_the_tail() {
    for (head, codes) in [(0, 0), (1, 1), (64, 0), (0, 16_384), (16_000, 40_000), (3_000_000, 1_048_577)] {
        let (written, index) = indexed(head, codes);
        let meta = &written.meta;
        let (ids, at_codes, at_head) = (meta.id_index.unwrap(), meta.codes.unwrap(), meta.head.unwrap());
        assert_eq!((at_codes.len, at_head.len), (codes as u64 + FRAME, head as u64 + FRAME));
        assert_eq!(at_codes.offset, end(ids).next_multiple_of(64));
        assert_eq!(at_head.offset, end(at_codes).next_multiple_of(64));
        assert_eq!(meta.check.offset, end(at_head).next_multiple_of(64));
        let segment = written.open().unwrap();
        assert_eq!(segment.index_head().unwrap(), Some(&index.head[..]));
        assert_eq!(segment.codes_len(), codes as u64);
        assert!(segment.codes(0..codes as u64).unwrap() == index.codes);
        assert_reads_back(&written, &segment).unwrap();
        segment.verify().unwrap();
        assert_eq!(segment.codes(0..0).unwrap(), b"");
        let error = segment.codes(0..codes as u64 + 1).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Corrupt, Some(at_codes.offset + 64)));
        assert!(segment.codes(u64::MAX..u64::MAX).is_err());
    }
}

#[test]
fn a_segment_without_an_index_says_so() {
    let schema = every_type(8);
    let written = Written::new(schema.clone(), rows(&schema, 10, 9));
    let segment = written.open().unwrap();
    assert_eq!(segment.index_head().unwrap(), None);
    assert_eq!(segment.codes_len(), 0);
    assert!(segment.codes(0..1).is_err());
}

#[test]
fn inspect_lists_the_sections_in_file_order() {
    let (written, _) = indexed(100, 200);
    let report = crate::segment::inspect_segment(&RealFs, &written.path()).unwrap();
    let kinds: Vec<&str> = report.sections.iter().map(|s| s.kind.as_str()).collect();
    assert_eq!(kinds, ["IDS", "CODES", "HEAD", "CHK"]);
    assert!(report.sections.is_sorted_by_key(|s| s.offset));
}

/// Flips a bit at `at` of the file and opens it.
fn flipped(written: &Written, at: u64) -> Arc<Segment> {
    let mut bytes = written.bytes();
    bytes[usize::try_from(at).unwrap()] ^= 1 << (at % 8);
    std::fs::write(written.path(), bytes).unwrap();
    written.open().unwrap()
}

fn assert_named(error: &Error, written: &Written, at: u64, part: &str) {
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "AKI-0504"), "{error}");
    assert_eq!(error.file(), Some(&*written.path()));
    assert_eq!(error.offset(), Some(at / BLOCK * BLOCK));
    assert!(error.message().contains(part), "{error}");
}

#[test]
fn a_flip_in_the_head_is_named_by_verify_and_by_the_read_and_leaves_codes_and_rows_readable() {
    // Codes long enough that head and codes share at most the block between them.
    let (written, _) = indexed(40_000, 40_000);
    let (good, head) = (written.bytes(), written.meta.head.unwrap());
    for at in [head.offset, head.offset + 8, head.offset + 64, head.offset + 20_000, end(head) - 1] {
        let segment = flipped(&written, at);
        let part = "the vector index, head";
        assert_named(&segment.index_head().unwrap_err(), &written, at, part);
        assert_named(&segment.index_head().unwrap_err(), &written, at, part);
        let damages = segment.damages().unwrap().damages;
        assert_eq!(damages.len(), 1);
        assert!(damages[0].what.contains(part), "{damages:?}");
        segment.codes(0..BLOCK).unwrap();
        assert_rows_read_back(&written, &segment);
        std::fs::write(written.path(), &good).unwrap();
    }
}

#[test]
fn a_flip_in_the_codes_is_an_error_for_ranges_of_its_block_and_no_others() {
    let (written, index) = indexed(1_000, 200_000);
    let (good, codes) = (written.bytes(), written.meta.codes.unwrap());
    for at in [100_000, 199_999] {
        let in_file = codes.offset + 64 + at;
        let segment = flipped(&written, in_file);
        let part = "the vector index, codes";
        let first_of_block = (in_file / BLOCK * BLOCK) - codes.offset - 64;
        assert_named(&segment.codes(at..at + 1).unwrap_err(), &written, in_file, part);
        assert_named(&segment.codes(0..200_000).unwrap_err(), &written, in_file, part);
        assert_named(
            &segment.codes(first_of_block..first_of_block + 1).unwrap_err(),
            &written,
            in_file,
            part,
        );
        let before = segment.codes(0..first_of_block).unwrap();
        assert!(before == &index.codes[..before.len()]);
        let damages = segment.damages().unwrap().damages;
        assert_eq!((damages.len(), damages[0].offset), (1, in_file / BLOCK * BLOCK));
        assert!(damages[0].what.contains(part), "{damages:?}");
        assert_rows_read_back(&written, &segment);
        std::fs::write(written.path(), &good).unwrap();
    }
    // The section's head is read with the index's.
    let segment = flipped(&written, codes.offset + 3);
    assert_eq!(segment.index_head().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn blocks_of_codes_are_checked_when_touched_and_once() {
    let (written, _) = indexed(1_000, 400_000);
    let segment = written.open().unwrap();
    assert_eq!(segment.touched().verified_bytes, 0, "open touches no index");
    segment.codes(50_000..50_100).unwrap();
    let touched = segment.touched();
    assert_eq!(touched.verified_bytes, BLOCK);
    segment.codes(50_000..50_100).unwrap();
    assert_eq!(segment.touched(), touched);
    segment.index_head().unwrap();
    let touched = segment.touched();
    assert!(touched.verified_bytes <= 4 * BLOCK, "{touched:?}");
    segment.index_head().unwrap();
    assert_eq!(segment.touched(), touched);
}

#[test]
fn an_entry_that_places_the_index_elsewhere_or_nowhere_is_refused() {
    let (written, _) = indexed(1_000, 2_000);
    let meta = &written.meta;
    let moved = |place: Option<Place>| place.map(|p| Place { offset: p.offset + 64, ..p });
    for other in [
        SegmentMeta { head: None, codes: None, ..meta.clone() },
        SegmentMeta { head: moved(meta.head), ..meta.clone() },
        SegmentMeta { codes: moved(meta.codes), ..meta.clone() },
        SegmentMeta { head: meta.codes, codes: meta.head, ..meta.clone() },
    ] {
        let error = Segment::open(&RealFs, &written.path(), &other, &written.schema).unwrap_err();
        assert_eq!(error.code(), "AKI-0507", "{error}");
    }
}
