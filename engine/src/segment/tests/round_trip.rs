//! What was written is what is read, whatever the types, sizes and dimensions.

use super::*;
use crate::error::ErrorKind;
use crate::filter::Source;

fn round_trip(schema: Schema, n: usize, seed: u64) -> (Written, Arc<Segment>) {
    println!("seed {seed}, {n} rows, dimension {}", schema.dim);
    let rows = rows(&schema, n, seed);
    let written = Written::new(schema, rows);
    let segment = written.open().unwrap();
    assert_reads_back(&written, &segment).unwrap();
    (written, segment)
}

#[test]
fn every_type_null_and_unicode_reads_back_with_text_and_with_integer_ids() {
    round_trip(every_type(12), 700, 1);
    round_trip(every_type(12).int_ids(), 700, 2);
}

#[test]
fn every_dimension_is_searched_in_place_bit_for_bit() {
    for dim in [1, 2, 3, 7, 8, 9, 100, 384, 1536, 4096] {
        let (written, segment) = round_trip(Schema::new(dim, Metric::Dot), 37, u64::from(dim));
        let all = segment.vectors(0..37).unwrap();
        let wanted: Vec<u32> = written.rows.iter().flat_map(|(_, row)| bits(&row.vector)).collect();
        assert_eq!(all.iter().flat_map(|s| bits(s)).collect::<Vec<_>>(), wanted);
        for slice in all {
            assert_eq!(slice.as_ptr().align_offset(64), 0, "dimension {dim}");
        }
    }
}

#[test]
fn every_number_of_rows_around_pages_and_row_groups_reads_back() {
    // 4,096 numbers a row: row groups of 1,024.
    for n in [1, 2, 1_023, 1_024, 1_025] {
        round_trip(Schema::new(4_096, Metric::L2).int("n"), n, n as u64);
    }
    for n in [511, 512, 513, 2_049] {
        round_trip(every_type(4), n, n as u64);
        round_trip(every_type(4).int_ids(), n, n as u64);
    }
}

#[test]
fn ids_of_any_range_are_those_of_its_rows_and_no_more() {
    for schema in [Schema::new(4_096, Metric::L2), every_type(4)] {
        let (written, segment) = round_trip(schema, 2_100, 12);
        for range in [0..1, 0..512, 0..1_024, 0..1_025, 500..1_024, 1_000..2_048, 1_030..2_100, 2_048..2_099]
        {
            let rows = range.start as usize..range.end as usize;
            let wanted: Vec<&Id> = written.rows[rows].iter().map(|(_, row)| &row.id).collect();
            let found = segment.ids(range.clone()).unwrap();
            assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{range:?}");
        }
    }
}

#[test]
fn several_row_groups_are_one_sequence_of_rows() {
    let (written, segment) = round_trip(Schema::new(4_096, Metric::L2).text("t").int_ids(), 2_500, 11);
    assert_eq!(segment.meta().vectors.len(), 3);
    let slices = segment.vectors(1_000..2_100).unwrap();
    assert_eq!(slices.iter().map(|s| s.len() / 4_096).collect::<Vec<_>>(), [24, 1_024, 52]);
    let flat: Vec<u32> = slices.iter().flat_map(|s| bits(s)).collect();
    let wanted: Vec<u32> = written.rows[1_000..2_100].iter().flat_map(|(_, r)| bits(&r.vector)).collect();
    assert!(flat == wanted);
    let picked = [2_499, 0, 1_024, 1_023, 0, 7];
    let found = segment.rows_at(&written.schema, &picked, true).unwrap();
    for (number, (lsn, row)) in picked.iter().zip(&found) {
        let (wanted_lsn, wanted) = &written.rows[*number as usize];
        assert_eq!((lsn, row), (wanted_lsn, &**wanted));
        assert_eq!(segment.lsn_at(*number).unwrap(), *wanted_lsn);
        assert_eq!(segment.id_at(*number).unwrap(), wanted.id);
    }
    let from = segment.scan(&written.schema, 1_020..1_030, false).unwrap();
    let from: Vec<_> = from.flat_map(|b| b.unwrap().rows).map(|(lsn, row)| (lsn, row.id)).collect();
    let wanted: Vec<_> = written.rows[1_020..1_030].iter().map(|(l, r)| (*l, r.id.clone())).collect();
    assert_eq!(from, wanted);
}

#[test]
fn absent_ids_are_not_found_and_ids_of_the_other_kind_neither() {
    for schema in [every_type(2), every_type(2).int_ids()] {
        let (written, segment) = round_trip(schema, 3_000, 21);
        for (_, row) in &written.rows {
            let absent = match &row.id {
                Id::Text(text) => Id::from(format!("{text}!")),
                Id::Int(n) if segment.find(&Id::Int(n + 1)).unwrap().is_none() => Id::Int(n + 1),
                Id::Int(_) => continue,
            };
            assert_eq!(segment.find(&absent).unwrap(), None, "{absent}");
        }
        for id in [Id::Int(i64::MIN), Id::Int(i64::MAX), Id::Int(0), Id::from("0"), Id::from("\u{10ffff}")] {
            assert_eq!(segment.find(&id).unwrap(), None, "{id}");
        }
        for (number, (_, row)) in (0..).zip(&written.rows) {
            assert_eq!(segment.find(&row.id).unwrap(), Some(number));
        }
    }
}

/// Each of many ids at once as one by one: there and absent, several times, at both ends, of the other kind, in any order.
#[test]
fn many_ids_at_once_are_found_as_one_by_one() {
    for schema in [every_type(2), every_type(2).int_ids()] {
        let seed = 23;
        println!("seed {seed}");
        let mut rng = Rng::seeded(seed);
        let (written, segment) = round_trip(schema, 3_000, seed);
        let known = |n: u64| written.rows[usize::try_from(n % 3_000).unwrap()].1.id.clone();
        for count in [0, 1, 2, 40, 5_000] {
            let mut ids: Vec<Id> = (0..count)
                .map(|_| match (rng.below(8), known(rng.u64())) {
                    (0, Id::Text(text)) => Id::from(format!("{text}!")),
                    (0, Id::Int(n)) => Id::Int(n + 1),
                    (1, _) => Id::Int(i64::from_le_bytes(rng.u64().to_le_bytes())),
                    (2, _) => Id::from("\u{10ffff}"),
                    (_, id) => id,
                })
                .collect();
            ids.extend([known(0), known(2_999)].into_iter().take(usize::try_from(count).unwrap()));
            let asked: Vec<&Id> = ids.iter().collect();
            let mut found = segment.find_each(&asked).unwrap();
            found.sort_unstable();
            let one_by_one = ids.iter().map(|id| segment.find(id).unwrap()).enumerate();
            let wanted: Vec<(usize, u32)> = one_by_one.filter_map(|(at, row)| Some((at, row?))).collect();
            assert_eq!(found, wanted, "{count} ids");
        }
    }
}

#[test]
fn a_field_added_later_is_null_in_older_segments_and_order_does_not_matter() {
    let (written, segment) = round_trip(every_type(3), 40, 5);
    let mut newer = every_type(3);
    newer.fields.reverse();
    newer = newer.int("added");
    newer.version = 2;
    let found = segment.rows_at(&newer, &[3], false).unwrap();
    let wanted: Vec<_> = written.rows[3].1.fields.iter().rev().cloned().chain([FieldValue::Null]).collect();
    assert_eq!(found[0].1.fields.to_vec(), wanted);
    assert!(found[0].1.vector.is_empty());
    assert!(segment.whole_column(&newer, Source::Field(6)).is_none());
    for batch_rows in [1, 7, 40, 8_192] {
        let column = |source| {
            let column = segment.whole_column(&newer, source).unwrap().by(batch_rows);
            column.read().unwrap().map(Result::unwrap).collect::<Vec<_>>()
        };
        let (ids, lsns) = (column(Source::Id), column(Source::Lsn));
        let fields = column(Source::Field(0));
        assert_eq!([ids.len(), lsns.len(), fields.len()], [40_usize.div_ceil(batch_rows); 3]);
        for (at, (lsn, row)) in written.rows.iter().enumerate() {
            let (batch, at) = (at / batch_rows, at % batch_rows);
            assert_eq!(fields[batch].value(at), row.fields[5]);
            assert_eq!(ids[batch].id(at), Some(row.id.clone()));
            assert_eq!(lsns[batch].value(at), FieldValue::Int(lsn.as_i64()));
        }
    }
}

#[test]
fn keys_are_the_same_whatever_the_batches_they_are_read_in() {
    let (written, segment) = round_trip(every_type(3), 100, 8);
    for batch_rows in [1, 7, 100, 8_192] {
        let lsns = segment.load_lsns(segment.whole_lsns().by(batch_rows)).unwrap();
        let ids = segment.load_ids(segment.whole_ids().by(batch_rows)).unwrap();
        assert_eq!((lsns.len(), ids.len()), (100, 100));
        for (at, (lsn, row)) in written.rows.iter().enumerate() {
            assert_eq!((lsns[at], Id::from(ids.get(at))), (lsn.as_i64(), row.id.clone()));
        }
    }
}

#[test]
fn a_name_is_never_written_twice_and_a_refused_write_leaves_nothing() {
    let schema = every_type(2);
    let rows = rows(&schema, 5, 9);
    let written = Written::new(schema.clone(), rows.clone());
    let before = written.bytes();
    let error = write(written.dir.path(), &schema, &rows[..3].to_vec(), None).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "AKI-0513"));
    assert_eq!(written.bytes(), before);
    let mut swapped = rows.clone();
    swapped.swap(0, 1);
    for bad in [Vec::new(), swapped] {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write(dir.path(), &schema, &bad, None).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    let names: Vec<_> =
        std::fs::read_dir(written.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [written.meta.file.as_str()]);
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

#[test]
fn inspect_finds_everything_from_the_footer_alone() {
    let written = Written::new(every_type(384), rows(&every_type(384), 300, 4));
    let report = crate::segment::inspect_segment(&RealFs, &written.path()).unwrap();
    assert_eq!(report.segment, written.meta.file);
    assert_eq!((report.rows, report.size, &report.ids), (300, written.meta.size, &written.meta.ids));
    assert_eq!(report.schema, written.schema);
    assert_eq!(report.tail_offset, written.meta.check.offset);
    let kinds: Vec<_> = report.sections.iter().map(|s| s.kind.as_str()).collect();
    assert_eq!(kinds, ["IDS", "CHK"]);
    let bytes = written.bytes();
    for section in &report.sections {
        let (start, end) = (to_usize(section.offset), to_usize(section.offset + section.len));
        let crc = crc32fast::hash(&bytes[start..end - 4]);
        assert_eq!(section.crc32, format!("{crc:08x}"));
        assert_eq!(bytes[end - 4..end], crc.to_le_bytes());
    }
    assert_eq!(report.row_groups[0].vectors_offset, written.meta.vectors[0]);
    let not_ours = written.dir.path().join("x.parquet");
    std::fs::write(&not_ours, b"PAR1 and nothing PAR1").unwrap();
    assert_eq!(crate::segment::inspect_segment(&RealFs, &not_ours).unwrap_err().code(), "AKI-0509");
}
