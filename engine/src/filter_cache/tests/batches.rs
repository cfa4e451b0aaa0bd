//! Columns read in many batches answer as their rows do, and take the memory of a batch and of what is made of it.

use super::*;
use crate::filter_cache::decode;
use crate::memory_budget::MemoryUse;
use crate::segment::PageCache;

/// The columns of a segment, each read in batches of so many rows.
struct InBatches<'a>(&'a Written, &'a Schema, usize);

impl Columns for InBatches<'_> {
    fn column(&self, source: Source) -> Result<Arc<Coded>> {
        let Self(written, schema, batch_rows) = self;
        let segment = &written.segment;
        Ok(Arc::new(match segment.whole_column(schema, source) {
            Some(column) => decode::read(segment, column.by(*batch_rows))?,
            None => Coded::null(segment.rows()),
        }))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_segment_answers_as_its_rows_do_whatever_the_batches(
        (int_ids, known, fields, filters) in any_segment(),
        batch_rows in prop::sample::select(vec![1_usize, 2, 3, 7, 64, 8_192]),
    ) {
        let schema = current(int_ids);
        let written = write(&schema, known, fields);
        for filter in &filters {
            let bound = filter.bind(&schema).unwrap();
            let rows = bound.matching(&InBatches(&written, &schema, batch_rows)).unwrap();
            prop_assert_eq!(rows.iter().collect::<Vec<_>>(), expected(&written, &bound), "{}", filter);
        }
    }
}

/// Rows whose `lang` is one of `distinct` texts of 4 KiB.
fn long_texts(rows: i64, distinct: i64) -> Vec<Vec<FieldValue>> {
    let mut fields = plain_fields(rows);
    for (at, row) in (0_i64..).zip(&mut fields) {
        row[0] = FieldValue::Text(format!("{}{}", at % distinct, "x".repeat(4_096)).into());
    }
    fields
}

#[test]
fn a_column_is_never_in_memory_whole_beside_what_is_made_of_it() {
    let schema = current(true);
    let column_bytes = 2_000 * 4_096;
    // Of three texts a few bytes a row are made, of a text a row the texts once more.
    for (distinct, most_made) in [(3, 100_000), (2_000, column_bytes * 5 / 4)] {
        let written = write(&schema, 6, long_texts(2_000, distinct));
        let budget = MemoryBudget::new(1 << 30);
        written.segment.keep_pages_in(&Arc::new(PageCache::new(1 << 20, &budget.account())));
        let column = written.segment.whole_column(&schema, Source::Field(0)).unwrap().by(20);
        assert!(column.bytes() >= column_bytes && column.batch_bytes() < 100_000);
        let coded = decode::read(&written.segment, column).unwrap();
        let reads = budget.usage(MemoryUse::Reads);
        assert_eq!(reads.bytes, 0);
        let made = coded.bytes();
        assert!(made <= most_made, "{made} bytes of codes");
        assert!(reads.peak_bytes <= 2 * made + 400_000, "{} held for {made}", reads.peak_bytes);
    }
}
