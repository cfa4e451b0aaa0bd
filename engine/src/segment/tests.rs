//! Tests of whole segments: what they share stands here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{RealFs, Rng};
use tempfile::TempDir;

use super::{RowsInMemory, Segment, SegmentName, Writing, write_segment};
use crate::error::Result;
use crate::id::Id;
use crate::index::IndexBytes;
use crate::lsn::Lsn;
use crate::memory_budget::{MemoryBudget, MemoryUse};
use crate::row::{FieldValue, Row};
use crate::schema::{FieldType, Metric, Schema};
use crate::segment_meta::SegmentMeta;

mod cells;
mod damage;
mod faults;
mod golden;
mod index;
mod readers;
mod round_trip;
mod touch;

const _: fn() = || {
    fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<Segment>();
};

type Rows = Vec<(Lsn, Arc<Row>)>;

/// A segment on disk and what it was made of.
struct Written {
    dir: TempDir,
    meta: SegmentMeta,
    schema: Schema,
    rows: Rows,
    index: Option<IndexBytes>,
}

impl Written {
    fn new(schema: Schema, rows: Rows) -> Self {
        Self::of(schema, rows, None)
    }

    fn with_index(schema: Schema, rows: Rows, index: &IndexBytes) -> Self {
        Self::of(schema, rows, Some(index))
    }

    fn of(schema: Schema, rows: Rows, index: Option<&IndexBytes>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let meta = write(dir.path(), &schema, &rows, index).unwrap();
        Self { dir, meta, schema, rows, index: index.cloned() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(&self.meta.file)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    fn open(&self) -> Result<Arc<Segment>> {
        Segment::open(&RealFs, &self.path(), &self.meta, &self.schema)
    }
}

const NAME: SegmentName = SegmentName { epoch: 3, seq: 7, writer: 0x00c0_ffee };

fn write(dir: &Path, schema: &Schema, rows: &Rows, index: Option<&IndexBytes>) -> Result<SegmentMeta> {
    let table = &MemoryBudget::new(0).account().charge(MemoryUse::Segments, 0);
    let writing = Writing { fs: &RealFs, dir, name: NAME, schema, level: 0, group_bytes: u64::MAX, table };
    let index = || index.map(|index| Arc::new(index.clone()));
    write_segment(&writing, &mut RowsInMemory::new(rows, &index))
}

/// A vector index of that many bytes of head and codes, which looks like nothing.
fn index(head: usize, codes: usize, seed: u64) -> IndexBytes {
    let mut rng = Rng::seeded(seed);
    let mut bytes = |len| {
        let mut out = vec![0; len];
        rng.fill(&mut out);
        out
    };
    IndexBytes { head: bytes(head), codes: bytes(codes) }
}

/// A schema with a field of every type.
fn every_type(dim: u16) -> Schema {
    Schema::new(dim, Metric::L2)
        .text("lang")
        .int("year")
        .float("weight")
        .bool("seen")
        .timestamp("at")
        .text_list("tags")
}

/// `n` rows of `schema` in id order; the same for the same seed. About a third of all values are null.
fn rows(schema: &Schema, n: usize, seed: u64) -> Rows {
    let mut rng = Rng::seeded(seed);
    let is_int = schema.id_kind == crate::schema::IdKind::Int;
    let mut ids: Vec<Id> = (0..n)
        .map(|i| match is_int {
            true => Id::Int((rng.u64() >> 20).cast_signed() - (1 << 43) + i as i64),
            false => Id::from(format!("{}-{i:06}", word(&mut rng))),
        })
        .collect();
    ids.sort_by_key(Id::key);
    ids.dedup();
    assert_eq!(ids.len(), n, "seed {seed} repeats an id");
    let mut counters: Vec<u64> = (1..=n as u64).collect();
    for at in (1..n).rev() {
        counters.swap(at, below(&mut rng, at + 1));
    }
    ids.into_iter()
        .zip(counters)
        .map(|(id, c)| (Lsn::new(3, c), Arc::new(row(schema, id, &mut rng))))
        .collect()
}

const WORDS: [&str; 8] =
    ["a", "ärger", "日本語", "zebra", "𝔘nicode", "\"quoted\"", "with space", "nul\0byte"];

fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).unwrap()
}

fn word(rng: &mut Rng) -> &'static str {
    WORDS[below(rng, WORDS.len())]
}

fn row(schema: &Schema, id: Id, rng: &mut Rng) -> Row {
    let vector = (0..schema.dim).map(|_| number(rng)).collect();
    let fields = schema.fields.iter().map(|f| value(f.field_type, rng)).collect();
    let rest = match rng.below(4) {
        0 => None,
        1 => Some("{}".into()),
        2 => Some(format!("{{\"note\":\"{}\"}}", word(rng).escape_default()).into()),
        _ => Some(format!("{{\"n\":{}}}", rng.u32()).into()),
    };
    Row { id, vector, fields, rest }
}

/// Any finite number, subnormal and negative zero included.
fn number(rng: &mut Rng) -> f32 {
    let x = f32::from_bits(rng.u32());
    if x.is_finite() { x } else { -0.0 }
}

fn value(field_type: FieldType, rng: &mut Rng) -> FieldValue {
    if rng.below(3) == 0 {
        return FieldValue::Null;
    }
    match field_type {
        FieldType::Text => FieldValue::Text(word(rng).into()),
        FieldType::Int => FieldValue::Int(rng.u64().cast_signed()),
        FieldType::Float => FieldValue::Float(f64::from(number(rng)) * 1e3),
        FieldType::Bool => FieldValue::Bool(rng.below(2) == 0),
        FieldType::Timestamp => FieldValue::Timestamp((rng.u64() >> 12).cast_signed()),
        FieldType::TextList => {
            let texts = (0..rng.below(4)).map(|_| word(rng).into());
            FieldValue::TextList(texts.collect())
        }
    }
}

/// Bits of a vector, so that equal means equal bit for bit.
fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|x| x.to_bits()).collect()
}

/// Everything a segment can be asked, compared with what it was made of.
fn assert_reads_back(written: &Written, segment: &Segment) -> Result<()> {
    assert_columns_read_back(written, segment)?;
    assert_cells_read_back(written, segment)
}

/// The same in the other order: single rows meet damage before a scan does.
fn assert_reads_back_cells_first(written: &Written, segment: &Segment) -> Result<()> {
    assert_cells_read_back(written, segment)?;
    assert_columns_read_back(written, segment)
}

fn assert_columns_read_back(written: &Written, segment: &Segment) -> Result<()> {
    let n = segment.rows();
    assert_eq!(n as usize, written.rows.len());
    let mut scanned = 0;
    for batch in segment.scan(&written.schema, 0..n, true)? {
        let batch = batch?;
        assert_eq!(batch.first_row, scanned);
        for ((lsn, row), (wanted_lsn, wanted)) in batch.rows.iter().zip(&written.rows[scanned as usize..]) {
            assert_eq!((lsn, row), (wanted_lsn, &**wanted));
            assert_eq!(bits(&row.vector), bits(&wanted.vector));
        }
        scanned += u32::try_from(batch.rows.len()).unwrap();
    }
    assert_eq!(scanned, n, "a scan gives every row once");
    Ok(())
}

/// Single rows, and the index.
fn assert_cells_read_back(written: &Written, segment: &Segment) -> Result<()> {
    let n = segment.rows();
    assert_eq!(n as usize, written.rows.len());
    let picked: Vec<u32> = (0..n).step_by((n as usize / 97).max(1)).collect();
    for (number, found) in picked.iter().zip(segment.rows_at(&written.schema, &picked, true)?) {
        let (lsn, row) = &written.rows[*number as usize];
        assert_eq!((found.0, &found.1), (*lsn, &**row), "row {number}");
    }
    for (number, (_, row)) in (0..).zip(&written.rows).step_by((n as usize / 97).max(1)) {
        assert_eq!(segment.find(&row.id)?, Some(number));
        assert_eq!(bits(segment.vector(number)?), bits(&row.vector));
    }
    let index = written.index.as_ref();
    assert!(segment.index_head()? == index.map(|i| &i.head[..]));
    assert!(segment.codes(0..segment.codes_len())? == index.map_or(&[][..], |i| &i.codes));
    Ok(())
}

/// The rows alone: what a search without the index needs.
fn assert_rows_read_back(written: &Written, segment: &Segment) {
    for (number, (_, row)) in (0..).zip(&written.rows).step_by(7) {
        assert_eq!(segment.find(&row.id).unwrap(), Some(number));
        assert_eq!(bits(segment.vector(number).unwrap()), bits(&row.vector));
    }
}
