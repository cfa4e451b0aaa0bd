//! Segments on disk answer as their rows do, within the bound, for many readers.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Barrier;

use akidb_host::RealFs;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::filter::arbitrary::{any_fields, any_filter, schema};
use crate::filter::{Filter, RowFields};
use crate::id::Id;
use crate::lsn::Lsn;
use crate::memory_budget::MemoryBudget;
use crate::row::{FieldRef, FieldValue, Row};
use crate::schema::IdKind;
use crate::segment::{RowsInMemory, SegmentName, Writing, write_segment};

mod batches;

/// Rows of a segment, and the segment, written under a schema that may lack the last fields.
struct Written {
    dir: TempDir,
    file: PathBuf,
    segment: Arc<Segment>,
    rows: Vec<(Lsn, Arc<Row>)>,
}

/// A cache with memory enough.
fn cache_of(max_bytes: u64) -> FilterCache {
    FilterCache::new(max_bytes, &MemoryBudget::new(1 << 40).account())
}

/// The schema of the tests with integer ids if asked for.
fn current(int_ids: bool) -> Schema {
    let mut schema = if int_ids { schema().int_ids() } else { schema() };
    schema.version = 2;
    schema
}

/// `fields` a row, of which the segment's own schema knows the first `known`.
fn write(schema: &Schema, known: usize, fields: Vec<Vec<FieldValue>>) -> Written {
    let mut own = schema.clone();
    own.fields.truncate(known);
    own.version = if known < schema.fields.len() { 1 } else { 2 };
    let row = |(at, mut fields): (i64, Vec<FieldValue>)| {
        fields.truncate(known);
        let id = if own.id_kind == IdKind::Int { Id::Int(at - 5) } else { Id::from(format!("k{at:05}")) };
        let vector = vec![1.0; own.dim.into()].into();
        let lsn = Lsn::new(3, 1 + (at * 7 % 5_000).cast_unsigned());
        (lsn, Arc::new(Row { id, vector, fields: fields.into(), rest: None }))
    };
    let rows: Vec<_> = (0..).zip(fields).map(row).collect();
    let dir = tempfile::tempdir().unwrap();
    let name = SegmentName { epoch: 3, seq: 1, writer: 9 };
    let (table, group_bytes) = (&MemoryBudget::new(0).account().charge(MemoryUse::Segments, 0), u64::MAX);
    let writing = Writing { fs: &RealFs, dir: dir.path(), name, schema: &own, level: 0, group_bytes, table };
    let meta = write_segment(&writing, &mut RowsInMemory::new(&rows, &|| None)).unwrap();
    let file = dir.path().join(&meta.file);
    let segment = Segment::open(&RealFs, &file, &meta, schema).unwrap();
    Written { dir, file, segment, rows }
}

/// A row as filters see it.
struct Given<'a>(&'a (Lsn, Arc<Row>));

impl RowFields for Given<'_> {
    fn id(&self) -> FieldRef<'_> {
        (&self.0.1.id).into()
    }

    fn lsn(&self) -> Lsn {
        self.0.0
    }

    fn field(&self, position: usize) -> FieldRef<'_> {
        self.0.1.fields.get(position).map_or(FieldRef::Null, FieldRef::from)
    }
}

fn expected(written: &Written, bound: &Bound) -> Vec<u32> {
    let rows = (0_u32..).zip(&written.rows);
    rows.filter(|(_, row)| bound.matches(&Given(row))).map(|(at, _)| at).collect()
}

fn check(cache: &FilterCache, written: &Written, schema: &Schema, filter: &Filter) -> Arc<Matches> {
    let bound = filter.bind(schema).unwrap();
    let matches = cache.matching(&written.segment, schema, &bound).unwrap();
    assert_eq!(matches.rows.iter().collect::<Vec<_>>(), expected(written, &bound), "{filter}");
    assert_eq!(matches.count, matches.rows.count(), "{filter}");
    assert_eq!(matches.rows.len(), written.segment.rows(), "{filter}");
    assert!(!matches.pruned || matches.count == 0, "{filter}");
    matches
}

fn filter(text: &str) -> Filter {
    text.parse().unwrap()
}

/// `n` rows whose year ascends and whose lang and tags repeat.
fn plain_fields(n: i64) -> Vec<Vec<FieldValue>> {
    let fields = |at: i64| {
        vec![
            FieldValue::Text(["de", "en", "fr"][usize::try_from(at % 3).unwrap()].into()),
            FieldValue::Int(at),
            FieldValue::Float(f64::from(u8::try_from(at % 10).unwrap()) / 2.0),
            FieldValue::Bool(at % 2 == 0),
            FieldValue::Timestamp(at * 1_000),
            FieldValue::TextList([format!("t{}", at % 4).into()].into()),
        ]
    };
    (0..n).map(fields).collect()
}

fn any_question(int_ids: bool) -> impl Strategy<Value = Filter> {
    let ids = match int_ids {
        false => ["id > 'k00003'", "id in ('k00000', 'x')", "not id <= 'k00001'", "id < 'a'"],
        true => ["id > 3", "id in (-5, 100)", "not id <= -4", "id < -5"],
    };
    let lsns = ["lsn >= '3:30'", "lsn in ('3:1', '3:8')", "lsn > '4:0'", "lsn is not null"];
    let of_row = prop::sample::select([ids, lsns].concat()).prop_map(filter);
    (any_filter(), of_row, 0..5).prop_map(|(a, b, how)| match how {
        0 => a.and(b),
        1 => b.or(a),
        2 => !(b.and(a)),
        3 => b,
        _ => a,
    })
}

fn any_segment() -> impl Strategy<Value = (bool, usize, Vec<Vec<FieldValue>>, Vec<Filter>)> {
    any::<bool>().prop_flat_map(|int_ids| {
        // Small segments have narrow statistics, so that many filters are decided by those alone.
        let rows = prop_oneof![
            prop::collection::vec(any_fields(), 1..4),
            prop::collection::vec(any_fields(), 4..90)
        ];
        (Just(int_ids), 0..=6_usize, rows, prop::collection::vec(any_question(int_ids), 10..40))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_segment_of_any_schema_answers_as_its_rows_do((int_ids, known, fields, filters) in any_segment()) {
        let schema = current(int_ids);
        let written = write(&schema, known, fields);
        let cache = cache_of(1 << 20);
        for _ in 0..2 {
            for filter in &filters {
                check(&cache, &written, &schema, filter);
            }
        }
    }
}

#[test]
fn nothing_everything_and_one_row() {
    let schema = current(false);
    let written = write(&schema, 6, plain_fields(1_000));
    let cache = cache_of(1 << 20);
    for (text, count, pruned) in [
        ("lang = 'xx'", 0, true),
        ("lang = 'ee'", 0, false),
        ("lang in ('a', 'x')", 0, true),
        ("year > 999", 0, true),
        ("year >= 999", 1, false),
        ("lang = 'en' and year < 0", 0, true),
        ("year < 0 or year > 2000", 0, true),
        ("year < 0 or year > 998", 1, false),
        ("year is null", 0, true),
        ("tags contains 'z'", 0, true),
        ("at >= '1970-01-01T00:00:01Z'", 0, true),
        ("weight > 4.5", 0, true),
        ("weight = 4.5", 100, false),
        ("id = 'k00500'", 1, false),
        ("id > 'l'", 0, true),
        ("lsn < '3:1'", 0, true),
        ("year is not null", 1_000, false),
        ("not (year < 0)", 1_000, false),
    ] {
        let matches = check(&cache, &written, &schema, &filter(text));
        assert_eq!((matches.count, matches.pruned), (count, pruned), "{text}");
    }
}

#[test]
fn a_field_younger_than_the_segment_is_null_in_it() {
    let schema = current(false);
    let written = write(&schema, 1, plain_fields(100));
    let cache = cache_of(1 << 20);
    for (text, count, pruned) in [
        ("year is null", 100, false),
        ("year is not null", 0, true),
        ("year = 1", 0, true),
        ("not year = 1", 0, false),
        ("year != 1 or lang = 'en'", 33, false),
        ("tags contains 't1' or tags is null", 100, false),
    ] {
        let matches = check(&cache, &written, &schema, &filter(text));
        assert_eq!((matches.count, matches.pruned), (count, pruned), "{text}");
    }
}

#[test]
fn statistics_of_every_row_group_are_asked() {
    // 4,096 numbers a vector make groups of 1,024 rows.
    let mut schema = current(true);
    schema.dim = 4_096;
    let written = write(&schema, 6, plain_fields(1_100));
    assert_eq!(written.segment.group_count(), 2);
    let cache = cache_of(1 << 20);
    for (text, count, pruned) in [
        ("year = 1090", 1, false),
        ("year = 10", 1, false),
        ("year < 1000 and at > 1050000", 0, true),
        ("year > 1099", 0, true),
        ("id > 2000 or id < -5", 0, true),
        ("id > 1094 or id < -5", 0, true),
        ("id > 1093 or id < -4", 2, false),
    ] {
        let matches = check(&cache, &written, &schema, &filter(text));
        assert_eq!((matches.count, matches.pruned), (count, pruned), "{text}");
    }
}

#[test]
fn what_was_asked_before_is_given_out_again() {
    let schema = current(false);
    let written = write(&schema, 6, plain_fields(100));
    let cache = cache_of(1 << 20);
    let ask = |text: &str| check(&cache, &written, &schema, &filter(text));
    let first = ask("lang = 'en' and year > 7");
    let weight = cache.kept.weight();
    assert!(Arc::ptr_eq(&first, &ask("year > 7 and lang = 'en'")));
    assert_eq!((cache.kept.weight(), cache.kept.len()), (weight, 3), "two columns and one result");
    assert!(!Arc::ptr_eq(&first, &ask("year > 8 and lang = 'en'")));
    assert_eq!(cache.kept.len(), 4);
    // Another version of the schema is another question.
    let mut newer = schema.clone();
    newer.version += 1;
    assert!(!Arc::ptr_eq(&first, &check(&cache, &written, &newer, &filter("lang = 'en' and year > 7"))));
}

#[test]
fn the_bound_holds_and_answers_stay_right() {
    let schema = current(false);
    let written = write(&schema, 6, plain_fields(2_000));
    for max_bytes in [0, 1_000, 20_000, 60_000] {
        let cache = cache_of(max_bytes);
        for round in 0..3 {
            for year in 0..60 {
                let text = format!("year >= {} and lang = 'en' or weight = {}", year * 30, round + 1);
                check(&cache, &written, &schema, &filter(&text));
                check(&cache, &written, &schema, &filter("tags contains 't1' and seen = true"));
                assert!(cache.kept.weight() <= max_bytes, "{cache:?}");
            }
        }
        assert_eq!(cache.kept.is_empty(), max_bytes <= 1_000, "{cache:?}");
    }
}

#[test]
fn a_segment_that_is_gone_is_forgotten_and_never_mistaken_for_another() {
    let schema = current(false);
    let cache = cache_of(1 << 20);
    for n in 1..20 {
        let written = write(&schema, 6, plain_fields(n * 10));
        let matches = check(&cache, &written, &schema, &filter("lang = 'en' or year >= 0"));
        assert_eq!(i64::from(matches.count), n * 10);
    }
    // The last to be read had nobody to forget it.
    assert_eq!(cache.kept.len(), 3, "{cache:?}");
    cache.forget_dropped();
    assert_eq!((cache.kept.len(), cache.kept.weight()), (0, 0));
}

#[test]
fn many_readers_share_one_result() {
    let schema = current(false);
    let written = write(&schema, 6, plain_fields(5_000));
    let cache = cache_of(1 << 20);
    let start = Barrier::new(8);
    let all: Vec<Vec<Arc<Matches>>> = std::thread::scope(|threads| {
        let reader = || {
            start.wait();
            let ask =
                |n: i32| check(&cache, &written, &schema, &filter(&format!("lang = 'de' and year > {n}")));
            (0..20).map(ask).collect()
        };
        let readers: Vec<_> =
            (0..8).map(|_| std::thread::Builder::new().spawn_scoped(threads, reader).unwrap()).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    for others in &all[1..] {
        assert!(all[0].iter().zip(others).all(|(a, b)| Arc::ptr_eq(a, b)));
    }
    assert_eq!(cache.kept.len(), 22, "two columns and twenty results");
}

#[test]
fn slots_are_the_same_set_in_another_order() {
    let schema = current(false);
    let written = write(&schema, 6, plain_fields(300));
    let matches = check(&cache_of(1 << 20), &written, &schema, &filter("year < 100"));
    // Rows backwards, every third slot empty, and some rows twice.
    let order: Vec<u32> = (0..300)
        .rev()
        .chain(50..150)
        .flat_map(|row| if row % 2 == 0 { vec![row, u32::MAX] } else { vec![row] })
        .collect();
    let words = matches.slots(|| Ok::<_, ()>(order.clone())).unwrap();
    assert_eq!(words.len(), order.len().div_ceil(64));
    for (slot, row) in order.iter().enumerate() {
        assert_eq!(words[slot / 64] >> (slot % 64) & 1 == 1, *row < 100, "slot {slot}");
    }
    assert_eq!(words.iter().map(|word| word.count_ones()).sum::<u32>(), 150);
    let again = matches.slots(|| -> std::result::Result<Vec<u32>, ()> { panic!("asked once") });
    assert!(std::ptr::eq(words, again.unwrap()));
}

#[test]
fn codes_that_prove_are_paid_for_kept_within_their_share_and_gone_with_their_segment() {
    let schema = current(false);
    let written = write(&schema, 6, plain_fields(1_000));
    let bound = filter("year >= 400").bind(&schema).unwrap();
    for (max_bytes, limit_bytes, fits) in
        [(1 << 20, 1 << 40, true), (100_000, 1 << 40, false), (0, 1 << 40, false), (1 << 20, 0, false)]
    {
        let budget = MemoryBudget::new(limit_bytes);
        let cache = FilterCache::new(max_bytes, &budget.account());
        let held = || budget.usage(MemoryUse::FilterCaches).bytes;
        let matches = cache.matching(&written.segment, &schema, &bound).unwrap();
        let due: Vec<bool> = (0..30).map(|_| matches.byte_codes_are_due()).collect();
        assert_eq!(due.iter().position(|is_due| *is_due), Some(23), "asked often");
        assert_eq!(due.iter().filter(|is_due| **is_due).count(), 1, "one makes them");
        let (before, made) = (held(), cache.make_byte_codes(&written.segment, &schema, &bound, &matches));
        let kept = cache.byte_codes(&written.segment, &schema, &bound);
        assert_eq!((made.is_some(), kept.is_some()), (fits, fits), "{max_bytes} of {limit_bytes}");
        matches.byte_codes_were_made();
        assert!(!matches.byte_codes_are_due(), "counted from here on");
        let (Some(made), Some(kept)) = (made, kept) else {
            assert_eq!(held(), before, "nothing is held for what is not there");
            continue;
        };
        assert!(Arc::ptr_eq(&made, &kept) && made.len() == 600);
        assert!(held() >= before + made.bytes() && cache.kept.weight() <= max_bytes, "{cache:?}");
        cache.give_back(u64::MAX);
        assert!(cache.byte_codes(&written.segment, &schema, &bound).is_none());
        assert!(held() < before + made.bytes(), "{} held", held());
    }
}

#[test]
fn a_damaged_column_is_an_error_every_time_and_nothing_is_kept() {
    let schema = current(false);
    let written = write(&schema, 6, plain_fields(2_000));
    let meta = written.segment.meta().clone();
    let mut bytes = std::fs::read(&written.file).unwrap();
    bytes[1_000] ^= 1;
    std::fs::write(&written.file, bytes).unwrap();
    let segment = Segment::open(&RealFs, &written.file, &meta, &schema).unwrap();
    let cache = cache_of(1 << 20);
    let bound = filter("id > 'k00100'").bind(&schema).unwrap();
    let mut told = String::new();
    for _ in 0..2 {
        let error = cache.matching(&segment, &schema, &bound).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Corrupt);
        assert!(error.file().is_some_and(|file| file.starts_with(written.dir.path())));
        write!(told, "{error}").unwrap();
    }
    assert!(cache.kept.is_empty(), "{told}");
}
