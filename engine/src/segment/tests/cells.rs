//! Rows read one at a time are the rows that were written; their pages are kept within the bound, and no longer than the
//! segment.

use bytes::Bytes;

use super::*;
use crate::segment::cells::Cells;
use crate::segment::page::{Nesting, Page};
use crate::segment::page_header::PageHeader;
use crate::segment::{PageCache, PageCounts};

fn cache(max_bytes: u64) -> Arc<PageCache> {
    Arc::new(PageCache::new(max_bytes, &MemoryBudget::new(1 << 30).account()))
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
        let [(key_lsn, key)] = &segment.keys_at(&[*number], true).unwrap()[..] else { panic!("one row") };
        assert_eq!((key_lsn, &key.id, &key.vector), (lsn, &row.id, &row.vector));
        assert_eq!((key.fields.len(), &key.rest), (0, &None), "nothing else was asked for");
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

/// The dictionary is looked at between rows: one row may put more into it than 16 bits tell apart.
#[test]
fn a_list_of_more_texts_than_16_bits_tell_apart_reads_back_and_so_do_the_rows_beside_it() {
    let schema = Schema::new(2, Metric::L2).text_list("tags").text("lang");
    for (seed, n, long) in [(50, 40, 20), (51, 1, 0), (52, 600, 599)] {
        println!("seed {seed}");
        let mut all = rows(&schema, n, seed);
        let texts = (0..70_000).map(|n| format!("{n:x}").into());
        Arc::make_mut(&mut all[long].1).fields[0] = FieldValue::TextList(texts.collect());
        let written = Written::new(schema.clone(), all);
        let segment = written.open().unwrap();
        segment.keep_pages_in(&cache(8 << 20));
        assert_every_row(&written, &segment);
        assert_reads_back(&written, &segment).unwrap();
    }
}

/// What a page is charged with is no less than what it holds, its levels included.
#[test]
fn a_page_that_holds_its_unpacked_bytes_is_charged_with_all_of_them() {
    let schema = every_type(2);
    let written = Written::new(schema.clone(), rows(&schema, 600, 37));
    let segment = written.open().unwrap();
    for (column, kind) in columns(&schema) {
        let (header, bytes, nesting, n) = first_page(&segment, column);
        let page = Page::data(header, bytes.clone(), nesting, kind, n).unwrap();
        let holds = !page.needs_dictionary() && column != 1;
        assert!(!holds || page.bytes() > bytes.len(), "column {column}: {} bytes", page.bytes());
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

/// Ids and LSNs of a few rows take the pages that hold them, however many rows there are.
#[test]
fn keys_of_some_rows_unpack_two_pages_a_row_at_most() {
    for (schema, columns) in [(every_type(4), 2), (every_type(4).int_ids(), 1)] {
        let written = Written::new(schema.clone(), rows(&schema, 3_000, 38));
        let segment = written.open().unwrap();
        let cache = cache(16 << 20);
        segment.keep_pages_in(&cache);
        let found = segment.keys_at(&[3, 5, 2_900, 3], false).unwrap();
        for ((lsn, row), number) in found.iter().zip([3, 5, 2_900, 3]) {
            let (wanted_lsn, wanted) = &written.rows[number];
            assert_eq!((lsn, &row.id, row.vector.len()), (wanted_lsn, &wanted.id, 0));
        }
        assert_eq!(cache.counts().unpacked, 2 * columns, "{cache:?}");
        assert!(!segment.has_keys(), "whole columns stay where they are");
        assert_eq!(segment.keys_at(&[3_000], false).unwrap_err().code(), "AKI-0510");
    }
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
    let idle = written.open().unwrap();
    idle.keep_pages_in(&cache);
    drop(idle);
    assert_eq!(cache.counts(), both, "a segment that was never read had none");
    drop(one);
    assert_eq!(cache.counts().bytes, both.bytes / 2);
    other.rows_at(&schema, &[7], false).unwrap();
    assert_eq!(cache.counts().unpacked, both.unpacked);
    drop(other);
    assert_eq!(cache.counts().bytes, 0);
}

/// Columns that are read by the cell, and as what.
fn columns(schema: &Schema) -> impl Iterator<Item = (usize, FieldType)> {
    let kinds = [FieldType::Text, FieldType::Int].into_iter();
    kinds.chain(schema.fields.iter().map(|field| field.field_type)).chain([FieldType::Text]).enumerate()
}

/// The first data page of a column, unpacked, and how many rows it has.
fn first_page(segment: &Segment, column: usize) -> (PageHeader, Bytes, Nesting, usize) {
    let metadata = segment.table.metadata();
    let descriptor = metadata.row_group(0).column(column).column_descr();
    let nesting = Nesting::of(descriptor.max_def_level(), descriptor.max_rep_level()).unwrap();
    let index = &metadata.offset_index().unwrap()[0][column];
    let page = &index.page_locations()[0];
    let rows = index.page_locations().get(1).map_or(i64::from(segment.rows()), |page| page.first_row_index);
    let place = page.offset.cast_unsigned();
    let place = place..place + u64::from(page.compressed_page_size.cast_unsigned());
    let (header, bytes) = segment.unpacked(0, column, place).unwrap();
    (header, bytes, nesting, usize::try_from(rows).unwrap())
}

/// Checksums find damage; what a wrong writer wrote must still end in an error or a wrong value, never in a panic.
#[test]
fn no_unpacked_page_whatever_stands_in_it_makes_a_read_panic() {
    let schema = every_type(2);
    let written = Written::new(schema.clone(), rows(&schema, 600, 35));
    let segment = written.open().unwrap();
    let mut rng = Rng::seeded(36);
    println!("seed 36");
    for (column, kind) in columns(&schema) {
        let (header, bytes, nesting, rows) = first_page(&segment, column);
        // The values that every row of a page gives, or none where it is refused.
        let ask = |header: PageHeader, bytes: Bytes, rows: usize| {
            let Some(page) = Page::data(header, bytes, nesting, kind, rows) else { return 0 };
            (0..=page.rows()).filter(|row| page.value(*row, kind, Some(&page)).is_some()).count()
        };
        let (mut read, mut other_header) = (0, 0);
        for _ in 0..2_000 {
            let mut bytes = bytes.to_vec();
            for _ in 0..=below(&mut rng, 3) {
                let at = below(&mut rng, bytes.len());
                bytes[at] ^= 1 << below(&mut rng, 8);
            }
            read += ask(header, bytes.clone().into(), rows);
            let encoding = [0, 2, 3, 5, 8][below(&mut rng, 5)];
            let values = [0, 1, rows - 1, rows, rows + 1, 1 << 16, i32::MAX as usize][below(&mut rng, 7)];
            let wrong = PageHeader { encoding, values, ..header };
            other_header += ask(wrong, bytes.clone().into(), rows);
            other_header += ask(wrong, bytes.into(), values.min(1 << 16));
        }
        println!("column {column}: {read} values, {other_header} under another header");
        assert!(read > 0, "column {column} was always refused");
        for len in 0..bytes.len() {
            let cut = bytes.slice(..len);
            assert!(Page::data(header, cut.clone(), nesting, kind, rows).is_none(), "its header says more");
            ask(PageHeader { unpacked_len: len, ..header }, cut.clone(), rows);
            ask(PageHeader { unpacked_len: len, values: len / 2, ..header }, cut, len / 2);
        }
        assert!(Page::data(header, bytes.clone(), nesting, kind, rows + 1).is_none(), "the index says more");
        assert!(Page::data(header, bytes, nesting, kind, rows).is_some());
    }
    let mut cells = Cells::new(&segment, 1, FieldType::Text);
    assert_eq!(cells.id(0).unwrap_err().code(), "AKI-0508", "numbers are no ids");
}
