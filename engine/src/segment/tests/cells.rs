//! Rows read one at a time are the rows that were written; their pages are kept within the bound, and no longer than the
//! segment.

use super::*;
use crate::segment::cells::Cells;
use crate::segment::page::{Nesting, Page};
use crate::segment::{PageCache, PageCounts};

fn cache(max_bytes: u64) -> Arc<PageCache> {
    Arc::new(PageCache::new(max_bytes))
}

/// Each row by itself, all of them at once, and its id and LSN.
fn assert_every_row(written: &Written, segment: &Segment) {
    let numbers: Vec<u32> = (0..segment.rows()).collect();
    let all = segment.rows_at(&written.schema, &numbers, true).unwrap();
    assert_eq!(all.len(), written.rows.len());
    for (number, (found, (lsn, row))) in numbers.iter().zip(all.iter().zip(&written.rows)) {
        assert_eq!((found.0, &found.1), (*lsn, &**row), "row {number} of all");
        let alone = segment.row_at(&written.schema, *number, &row.id).unwrap().unwrap();
        assert_eq!((alone.0, &alone.1), (*lsn, &**row), "row {number} alone");
        assert_eq!(segment.lsn_at(*number).unwrap(), *lsn);
        assert_eq!(segment.id_at(*number).unwrap(), row.id);
    }
}

#[test]
fn every_row_reads_back_alone_with_any_cache_and_with_none() {
    for (schema, seed) in [(every_type(4), 31), (every_type(4).int_ids(), 32)] {
        println!("seed {seed}");
        let written = Written::new(schema.clone(), rows(&schema, 3_000, seed));
        for max_bytes in [None, Some(0), Some(1), Some(40_000), Some(16 << 20)] {
            let segment = written.open().unwrap();
            let cache = max_bytes.map(cache);
            cache.iter().for_each(|cache| segment.keep_pages_in(cache));
            assert_every_row(&written, &segment);
            for (cache, max_bytes) in cache.iter().zip(max_bytes) {
                assert!(cache.counts().bytes <= max_bytes, "{cache:?}");
            }
        }
    }
}

/// One null in all, all null, none null, and whatever stands beside a list.
#[test]
fn pages_of_nulls_of_nothing_else_and_of_lists_of_any_length_read_back() {
    let schema = every_type(2);
    for seed in 40..44 {
        println!("seed {seed}");
        let mut all = rows(&schema, 1_200, seed);
        let mut rng = Rng::seeded(seed);
        for (at, (_, row)) in all.iter_mut().enumerate() {
            let row = Arc::make_mut(row);
            for (field, value_of) in row.fields.iter_mut().zip(&schema.fields) {
                let full = loop {
                    match value(value_of.field_type, &mut rng) {
                        FieldValue::Null => {}
                        value => break value,
                    }
                };
                let is_null = match seed {
                    40 => false,
                    41 => true,
                    42 => at == 700,
                    _ => at != 700,
                };
                *field = if is_null { FieldValue::Null } else { full };
            }
            if seed == 40 {
                // A list longer than a page of others, and empty ones.
                let texts = (0..if at == 5 { 2_000 } else { at % 3 }).map(|n| format!("{n}-{at}").into());
                row.fields[5] = FieldValue::TextList(texts.collect());
                row.rest = Some(format!("{{\"more\":\"{}\"}}", "x".repeat(at % 977)).into());
            }
        }
        let written = Written::new(schema.clone(), all);
        let segment = written.open().unwrap();
        segment.keep_pages_in(&cache(8 << 20));
        assert_every_row(&written, &segment);
    }
}

#[test]
fn a_page_is_unpacked_once_for_all_its_rows_and_found_later() {
    let schema = every_type(4);
    let written = Written::new(schema.clone(), rows(&schema, 2_000, 33));
    let segment = written.open().unwrap();
    let (kept, nothing) = (cache(16 << 20), cache(0));
    segment.keep_pages_in(&kept);
    // Id, LSN, six fields, payload, and dictionaries of five of them.
    segment.rows_at(&schema, &[3, 9, 100], false).unwrap();
    let first = kept.counts();
    assert!(first.unpacked <= 9 + 5 && first.unpacked >= 9, "{first:?}");
    assert_eq!(first.found, 0, "what is in hand is not looked for");
    segment.rows_at(&schema, &[4, 90], false).unwrap();
    let again = kept.counts();
    assert_eq!(again, PageCounts { found: first.unpacked, ..first });
    let bare = written.open().unwrap();
    bare.keep_pages_in(&nothing);
    bare.rows_at(&schema, &[3, 9, 100], false).unwrap();
    assert_eq!(nothing.counts(), PageCounts { bytes: 0, found: 0, unpacked: first.unpacked });
}

#[test]
fn pages_of_a_segment_that_is_gone_are_gone_and_those_of_others_are_not() {
    let schema = every_type(4);
    let written = Written::new(schema.clone(), rows(&schema, 2_000, 34));
    let cache = cache(16 << 20);
    let (one, other) = (written.open().unwrap(), written.open().unwrap());
    for segment in [&one, &other] {
        segment.keep_pages_in(&cache);
        segment.rows_at(&schema, &[7], false).unwrap();
    }
    let both = cache.counts();
    drop(one);
    assert_eq!(cache.counts().bytes, both.bytes / 2);
    other.rows_at(&schema, &[7], false).unwrap();
    assert_eq!(cache.counts().unpacked, both.unpacked);
    drop(other);
    assert_eq!(cache.counts().bytes, 0);
}

/// Checksums find damage; what a wrong writer wrote must still end in an error or a wrong value, never in a panic.
#[test]
fn no_unpacked_page_whatever_stands_in_it_makes_a_read_panic() {
    let schema = every_type(2);
    let written = Written::new(schema.clone(), rows(&schema, 600, 35));
    let segment = written.open().unwrap();
    let mut rng = Rng::seeded(36);
    println!("seed 36");
    let kinds = [FieldType::Text, FieldType::Int].into_iter();
    let kinds = kinds.chain(schema.fields.iter().map(|field| field.field_type)).chain([FieldType::Text]);
    for (column, kind) in kinds.enumerate() {
        let chunk = segment.table.metadata().row_group(0).column(column);
        let descriptor = chunk.column_descr();
        let nesting = Nesting::of(descriptor.max_def_level(), descriptor.max_rep_level()).unwrap();
        let index = &segment.table.metadata().offset_index().unwrap()[0][column];
        let page = &index.page_locations()[0];
        let place = page.offset.cast_unsigned();
        let place = place..place + u64::from(page.compressed_page_size.cast_unsigned());
        let (header, bytes) = segment.unpacked(0, column, place).unwrap();
        let mut read = 0;
        for _ in 0..2_000 {
            let mut bytes = bytes.to_vec();
            for _ in 0..=below(&mut rng, 3) {
                let at = below(&mut rng, bytes.len());
                bytes[at] ^= 1 << below(&mut rng, 8);
            }
            let Some(page) = Page::data(header, bytes.into(), nesting, kind) else { continue };
            read += (0..page.rows()).filter(|row| page.value(*row, kind, Some(&page)).is_some()).count();
        }
        println!("column {column}: {read} values");
        let cut = (0..bytes.len()).map(|len| bytes.slice(..len));
        let refused = cut.filter(|bytes| Page::data(header, bytes.clone(), nesting, kind).is_none());
        assert_eq!(refused.count(), bytes.len(), "a page is as long as its header says");
    }
    let mut cells = Cells::new(&segment, 1, FieldType::Text);
    assert_eq!(cells.id(0).unwrap_err().code(), "AKI-0508", "numbers are no ids");
}
