//! What open and reads touch: no more than they say.

use std::sync::atomic::{AtomicU64, Ordering};

use akidb_host::sim::{Act, HookFs, Op};

use super::*;
use crate::segment::check::BLOCK_LEN;

/// The real file system, and how many bytes were asked of it.
fn counting() -> (HookFs, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&read);
    let hook = move |call: &akidb_host::sim::Call<'_>| {
        if call.op == Op::ReadAt {
            counter.fetch_add(call.len, Ordering::Relaxed);
        }
        Act::Go
    };
    (HookFs::new(Arc::new(RealFs), Arc::new(hook)), read)
}

#[test]
fn bytes_verified_are_at_most_bytes_touched_plus_one_block_each_and_open_reads_256_kib() {
    let schema = every_type(384);
    let written = Written::new(schema.clone(), rows(&schema, 20_000, 8));
    let (fs, read) = counting();
    let segment = Segment::open(&fs, &written.path(), &written.meta, &schema).unwrap();
    let opened = read.load(Ordering::Relaxed);
    println!("open read {opened} of {} bytes", written.meta.size);
    assert!(opened <= 256 * 1024, "open read {opened} bytes");
    assert_eq!(segment.touched().verified_bytes, 0, "open touches nothing but the tail");
    let block = BLOCK_LEN as u64;
    let mut calls = 0;
    for row in (0..20_000).step_by(331) {
        calls += 1;
        segment.vector(row).unwrap();
        // An unaligned stretch reaches into one block at either end.
        let touched = segment.touched();
        assert!(touched.verified_bytes <= touched.touched_bytes + 2 * calls * block);
    }
    let touched = segment.touched();
    assert_eq!(read.load(Ordering::Relaxed) - opened, touched.verified_bytes, "every byte read was checked");
    segment.vector(0).unwrap();
    assert_eq!(segment.touched(), touched, "a second touch costs nothing");
    // One id: the hash blocks around its place, its row, and one page of ids.
    segment.find(&written.rows[12_345].1.id).unwrap().unwrap();
    let after = segment.touched();
    println!("one find verified {} bytes", after.verified_bytes - touched.verified_bytes);
    assert!(after.verified_bytes - touched.verified_bytes <= 8 * block);
}

#[test]
fn a_flip_after_open_and_before_first_touch_is_an_error_that_names_file_offset_and_rows() {
    let schema = every_type(384);
    let written = Written::new(schema.clone(), rows(&schema, 500, 8));
    let segment = written.open().unwrap();
    segment.vector(0).unwrap();
    let at = written.meta.vectors[0] + 400 * 384 * 4 + 5;
    let mut bytes = written.bytes();
    bytes[usize::try_from(at).unwrap()] ^= 4;
    // The same inode, as a disk that decays under an open file: the map sees it too.
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(written.path()).unwrap();
    file.write_all_at(&bytes[usize::try_from(at).unwrap()..][..1], at).unwrap();
    let error = segment.vector(400).unwrap_err();
    assert_eq!(error.code(), "AKI-0504");
    assert_eq!(error.file(), Some(&*written.path()));
    assert_eq!(error.offset(), Some(at / BLOCK_LEN as u64 * BLOCK_LEN as u64));
    assert!(error.message().contains("column vector, rows 0 to 499"), "{error}");
    assert!(segment.vector(0).is_ok(), "what was found right stays readable");
    assert_eq!(segment.damages().unwrap().damages.len(), 1);
}

#[test]
fn a_file_cut_short_after_open_is_an_error_not_a_signal() {
    let schema = every_type(384);
    let written = Written::new(schema.clone(), rows(&schema, 500, 8));
    let segment = written.open().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(written.path()).unwrap();
    file.set_len(written.meta.vectors[0] + 100_000).unwrap();
    let error = segment.vector(450).unwrap_err();
    assert_eq!(error.code(), "AKI-0503");
    assert!(segment.verify().is_err());
}

#[test]
fn threads_that_touch_a_cold_segment_together_read_the_same_and_check_each_block_once() {
    let schema = every_type(64);
    let written = Written::new(schema.clone(), rows(&schema, 3_000, 8));
    let segment = written.open().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_reads_back(&written, &segment).unwrap());
        }
    });
    let touched = segment.touched();
    assert!(touched.verified_bytes <= written.meta.check.offset, "{touched:?}");
}

#[test]
fn a_column_of_many_values_has_no_dictionary_longer_than_a_page_or_so() {
    let schema = every_type(8);
    let written = Written::new(schema.clone(), rows(&schema, 20_000, 8));
    let segment = written.open().unwrap();
    let mut dictionaries = 0;
    for column in segment.table.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let Some(start) = column.dictionary_page_offset() else { continue };
        let len = column.data_page_offset() - start;
        dictionaries += 1;
        // The writer looks after each 512 values: 4 KiB of numbers.
        assert!(len <= 20 * 1024 + 100, "{}: a dictionary of {len} bytes", column.column_path());
    }
    assert_eq!(dictionaries, 5, "every field but the bool");
}

#[test]
fn a_page_of_long_payloads_is_not_much_longer_than_its_bound() {
    let schema = every_type(8);
    let mut rows = rows(&schema, 2_000, 8);
    for (at, (_, row)) in rows.iter_mut().enumerate() {
        let text = format!("{{\"more\":\"{}\"}}", format!("{at:06}").repeat(170));
        Arc::make_mut(row).rest = Some(text.into());
    }
    let written = Written::new(schema.clone(), rows);
    let segment = written.open().unwrap();
    let metadata = segment.table.metadata();
    let payload = metadata.row_group(0).num_columns() - 2;
    let firsts: Vec<i64> = metadata.offset_index().unwrap()[0][payload]
        .page_locations
        .iter()
        .map(|page| page.first_row_index)
        .collect();
    // A kilobyte each: 16 KiB are full after 16, and the writer looks after each 16.
    assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] <= 32), "{firsts:?}");
    assert_eq!(metadata.row_group(0).column(payload).column_path().string(), "payload");
}
