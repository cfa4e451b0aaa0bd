//! Damage: every flipped bit and every cut is the same answer or a typed error with file and offset.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::error::{Error, ErrorKind};

/// Opens a damaged copy and asks it everything, single rows first or last. Panics on a wrong answer.
fn ask(written: &Written, bytes: &[u8], cells_first: bool) -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(&written.meta.file);
    std::fs::write(&path, bytes).unwrap();
    let segment = Segment::open(&RealFs, &path, &written.meta, &written.schema)?;
    match cells_first {
        true => assert_reads_back_cells_first(written, &segment),
        false => assert_reads_back(written, &segment),
    }
}

fn assert_typed(error: &Error, what: &str) {
    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat), "{what}: {error}");
    assert!(error.file().is_some() && error.offset().is_some(), "{what}: {error}");
}

fn flips(schema: Schema, n: usize, count: usize, seed: u64) {
    println!("seed {seed}");
    let index = index(3_000, 50_000, seed);
    let written = Written::with_index(schema.clone(), rows(&schema, n, seed), &index);
    let good = written.bytes();
    ask(&written, &good, true).unwrap();
    let mut rng = Rng::seeded(seed);
    let mut answered = 0;
    for nth in 0..count {
        // Half of them in the tail, where damage is cheapest to overlook, and a quarter in what only we read.
        let tail = written.meta.check.offset;
        let from = [0, tail, written.meta.codes.unwrap().offset, tail][nth % 4];
        let at = usize::try_from(from + rng.below(good.len() as u64 - from)).unwrap();
        let bit = rng.below(8);
        let mut bad = good.clone();
        bad[at] ^= 1 << bit;
        let what = format!("seed {seed}, byte {at} bit {bit}");
        let asked = catch_unwind(AssertUnwindSafe(|| ask(&written, &bad, nth / 4 % 2 == 0)));
        match asked.unwrap_or_else(|_| panic!("{what}: a panic or a wrong answer")) {
            Ok(()) => answered += 1,
            Err(error) => assert_typed(&error, &what),
        }
        assert_found(&written, &bad, at, &what);
    }
    println!("{count} flips: {answered} gave the same answers, {} a typed error", count - answered);
}

/// `verify` finds it, wherever it is, and `inspect` does not fall over it.
fn assert_found(written: &Written, bad: &[u8], at: usize, what: &str) {
    std::fs::write(written.path(), bad).unwrap();
    match written.open() {
        Ok(segment) => {
            let error = segment.verify().expect_err(what);
            assert_typed(&error, what);
            let offset = usize::try_from(error.offset().unwrap()).unwrap();
            assert!((offset..offset + 16 * 1024).contains(&at), "{what}: {error}");
        }
        Err(error) => assert_typed(&error, what),
    }
    if let Err(error) = crate::segment::inspect_segment(&RealFs, &written.path()) {
        assert_typed(&error, what);
    }
}

#[test]
fn no_flipped_bit_of_500_gives_a_wrong_answer_or_escapes_verify() {
    flips(every_type(8), 600, 250, 0xf11b);
    flips(every_type(9).int_ids(), 600, 250, 0xf11c);
}

#[test]
fn no_flipped_bit_of_the_footer_panics() {
    let schema = every_type(8);
    let written = Written::new(schema.clone(), rows(&schema, 3, 1));
    let good = written.bytes();
    // All of the footer's bytes, one bit each.
    let from = usize::try_from(written.meta.check.offset).unwrap();
    for at in from..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let error = ask(&written, &bad, at % 2 == 0).unwrap_err();
        assert_typed(&error, &format!("byte {at}"));
    }
}

#[test]
fn a_cut_file_is_a_typed_error_at_every_length() {
    let schema = every_type(8);
    let written = Written::new(schema.clone(), rows(&schema, 300, 2));
    let good = written.bytes();
    let tail = usize::try_from(written.meta.check.offset).unwrap();
    let lengths = (0..64).chain((64..tail).step_by(997)).chain((tail..good.len()).step_by(61));
    for len in lengths.chain([good.len() - 1]) {
        assert_typed(&ask(&written, &good[..len], len % 2 == 0).unwrap_err(), &format!("{len} bytes"));
        std::fs::write(written.path(), &good[..len]).unwrap();
        let error = crate::segment::inspect_segment(&RealFs, &written.path()).unwrap_err();
        assert_typed(&error, &format!("{len} bytes"));
    }
    let longer = [&good[..], b"x"].concat();
    assert_typed(&ask(&written, &longer, true).unwrap_err(), "a byte too long");
}

#[test]
fn a_sound_segment_under_anothers_name_is_refused() {
    let schema = every_type(8);
    let written = Written::new(schema.clone(), rows(&schema, 50, 2));
    let mut meta = written.meta.clone();
    meta.file = "00000003-00000008-00c0ffee.parquet".to_string();
    let error = Segment::open(&RealFs, &written.path(), &meta, &schema).unwrap_err();
    assert_eq!(error.code(), "AKI-0507");
    let other = SegmentMeta { tail_crc32: 1, ..written.meta.clone() };
    assert_eq!(Segment::open(&RealFs, &written.path(), &other, &schema).unwrap_err().code(), "AKI-0507");
    let wider = every_type(9);
    assert_eq!(
        Segment::open(&RealFs, &written.path(), &written.meta, &wider).unwrap_err().code(),
        "AKI-0507"
    );
}
