//! Writes a segment: rows in, a file under its final name out, read back and checked before anyone may name it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Fs, seeded_bug};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListBuilder, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Schema as ArrowSchema;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::writer::SerializedFileWriter;

use super::arrow_schema::{
    FIELDS, ID, LSN, arrow_schema, column_count, group_bits, list_element, parquet_schema, payload_position,
};
use super::footer::{self, RowsKey};
use super::format::{ALIGN, Kind, SECTION_AREA_ALIGN, padding};
use super::name::SegmentName;
use super::plain_page::PlainPage;
use super::reader::Segment;
use super::row_group::{fewest, narrower};
use super::row_source::RowSource;
use super::sections::{Sections, pad};
use super::sink::{Sealed, Sink};
use super::{check, id_index};
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::id::Id;
use crate::lsn::Lsn;
use crate::memory_budget::Charge;
use crate::row::{FieldValue, Row};
use crate::schema::{Field, FieldType, IdKind, Schema};
use crate::segment_meta::{Place, SegmentMeta};

/// What the table of a segment takes in memory for a column of a row group, about.
const CHUNK_BYTES: u64 = 384;
/// Rows turned into Arrow arrays at a time.
const BATCH_ROWS: usize = 2_048;

/// Where a segment is written and what its rows look like.
#[derive(Clone, Copy)]
pub(crate) struct Writing<'a> {
    /// The machine.
    pub(crate) fs: &'a dyn Fs,
    /// The collection's directory, which exists.
    pub(crate) dir: &'a Path,
    /// The file's name, never used before.
    pub(crate) name: SegmentName,
    /// The collection's schema.
    pub(crate) schema: &'a Schema,
    /// 0 for a flush; a merge is one above the highest of what it merges.
    pub(crate) level: u8,
    /// What the rows of a row group may take in memory beside their vectors. Where they are longer, row groups have fewer
    /// of them.
    pub(crate) group_bytes: u64,
    /// What is held for its table, which grows with its row groups: as it is written, and as it is read back.
    pub(crate) table: &'a Charge,
}

type Rows<'a> = &'a [(Lsn, Arc<Row>)];

/// Writes the rows of `source`, one row group in memory at a time, and gives the manifest's entry. Blocks until the file is
/// synced, read back and checked, and its name is synced.
///
/// # Errors
/// Nothing stays under the final name, except after a failed directory sync (`Poisoned`: the outcome is unknown
/// until a reopen; no manifest names the file). After any other failure the same rows may be written again under a
/// *new* name: a file whose sync failed is never synced again. The rows themselves are still where they came from.
pub(crate) fn write_segment(writing: &Writing<'_>, source: &mut dyn RowSource) -> Result<SegmentMeta> {
    let tmp = writing.dir.join(format!("{}.tmp", writing.name));
    let done = write_tmp(writing, source, &tmp).and_then(|meta| publish(writing, &tmp).map(|()| meta));
    if done.is_err() {
        let _ = writing.fs.unlink(&tmp);
    }
    done
}

/// Our own invariants, said once before rows are written behind the row with the id `before`.
fn check_rows(schema: &Schema, before: Option<&Id>, rows: Rows<'_>) -> Result<()> {
    let internal = |message: String| Err(Error::new(ErrorKind::Internal, "AKI-0510", message));
    let is_int = schema.id_kind == IdKind::Int;
    for (at, (_, row)) in rows.iter().enumerate() {
        if row.id.is_int() != is_int || row.vector.len() != usize::from(schema.dim) {
            return internal(format!("row {at} (id {}) does not fit the schema of its collection", row.id));
        }
        if let Some(field) =
            row.fields.iter().zip(&schema.fields).find_map(|(v, f)| (!fits(v, f)).then_some(f))
        {
            return internal(format!(
                "row {at} (id {}) has a value of another type in {}",
                row.id, field.name
            ));
        }
        if row.fields.len() > schema.fields.len() {
            return internal(format!("row {at} (id {}) has more fields than its schema", row.id));
        }
        let previous = if at > 0 { Some(&rows[at - 1].1.id) } else { before };
        if previous.is_some_and(|previous| *previous >= row.id) {
            return internal(format!("row {at} (id {}) is out of order", row.id));
        }
    }
    Ok(())
}

fn fits(value: &FieldValue, field: &Field) -> bool {
    matches!(
        (value, field.field_type),
        (FieldValue::Null, _)
            | (FieldValue::Text(_), FieldType::Text)
            | (FieldValue::Int(_), FieldType::Int)
            | (FieldValue::Float(_), FieldType::Float)
            | (FieldValue::Bool(_), FieldType::Bool)
            | (FieldValue::Timestamp(_), FieldType::Timestamp)
            | (FieldValue::TextList(_), FieldType::TextList)
    )
}

fn write_tmp(writing: &Writing<'_>, source: &mut dyn RowSource, tmp: &Path) -> Result<SegmentMeta> {
    let mut bits = group_bits(writing.schema.dim);
    loop {
        match write_groups(writing, source, tmp, bits)? {
            Encoded::Whole(meta) => {
                hold_table(writing, meta.vectors.len());
                Segment::open(writing.fs, tmp, &meta, writing.schema)?.verify()?;
                return Ok(meta);
            }
            // Row groups but the last are equal: from the first one on, then.
            Encoded::TooLong(fitting) => {
                bits = narrower(fitting, source.rows(), column_count(writing.schema));
                source.begin_again()?;
            }
        }
    }
}

/// Holds what the table of so many row groups takes.
fn hold_table(writing: &Writing<'_>, groups: usize) {
    writing.table.grow((groups * column_count(writing.schema)) as u64 * CHUNK_BYTES);
}

/// What became of a file.
enum Encoded<T> {
    Whole(T),
    /// Rows are so long that no more than so many fit in what a row group may take.
    TooLong(usize),
}

/// Writes and syncs a file with row groups of 2^`bits` rows.
fn write_groups(
    writing: &Writing<'_>,
    source: &mut dyn RowSource,
    tmp: &Path,
    bits: u8,
) -> Result<Encoded<SegmentMeta>> {
    match writing.fs.unlink(tmp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("AKI-0511", tmp, "removing a leftover file", &e));
        }
        _ => {}
    }
    let created = writing.fs.create_new(tmp);
    let file = created.map_err(|e| Error::io("AKI-0511", tmp, "creating a segment", &e))?;
    let encoded = encode(writing, source, Sink::new(Arc::clone(&file)), bits);
    let (sealed, meta) = match encoded.map_err(|e| encode_error(tmp, e))? {
        Encoded::Whole(whole) => whole,
        Encoded::TooLong(fitting) => return Ok(Encoded::TooLong(fitting)),
    };
    let synced = if seeded_bug("segment_not_synced") { Ok(()) } else { file.sync_data() };
    synced.map_err(|e| Error::io("AKI-0512", tmp, "syncing a segment", &e))?;
    drop(file);
    let meta = SegmentMeta { size: sealed.size, crc32: sealed.crc32, tail_crc32: sealed.tail_crc32, ..meta };
    Ok(Encoded::Whole(meta))
}

fn publish(writing: &Writing<'_>, tmp: &Path) -> Result<()> {
    let path: PathBuf = writing.dir.join(writing.name.to_string());
    writing.fs.hard_link(tmp, &path).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::Conflict, "AKI-0513", "a segment of this name exists").at(&path, None)
        }
        _ => Error::io("AKI-0511", &path, "naming a segment", &e),
    })?;
    let _ = writing.fs.unlink(tmp);
    let synced =
        if seeded_bug("segment_name_not_synced") { Ok(()) } else { writing.fs.sync_dir(writing.dir) };
    synced.map_err(|e| {
        Error::new(ErrorKind::Poisoned, "AKI-0514", format!("syncing the directory of a new segment: {e}"))
            .at(writing.dir, None)
            .fate_is(Fate::Unknown)
            .help_is("mend the disk: the rows are where they were, and another file is written before long")
    })
}

fn encode_error(path: &Path, cause: ParquetError) -> Error {
    let ParquetError::External(source) = cause else {
        return Error::new(ErrorKind::Internal, "AKI-0510", format!("encoding a segment: {cause}"))
            .at(path, None);
    };
    match source.downcast::<Error>() {
        // What the source of the rows answered.
        Ok(error) => *error,
        Err(source) => match source.downcast_ref::<std::io::Error>() {
            Some(io) => Error::io("AKI-0511", path, "writing a segment", io),
            None => Error::new(ErrorKind::Internal, "AKI-0510", format!("encoding a segment: {source}"))
                .at(path, None),
        },
    }
}

/// What becomes known of the rows as they pass.
#[derive(Default)]
struct Passed {
    rows: u32,
    ids: Option<[Id; 2]>,
    lsns: Option<[Lsn; 2]>,
    /// Of text ids, by row.
    id_hashes: Vec<u64>,
    vectors: Vec<u64>,
}

impl Passed {
    fn note(&mut self, rows: Rows<'_>) -> ParquetResult<()> {
        self.rows = u32::try_from(self.rows as usize + rows.len())?;
        for (lsn, row) in rows {
            let [low, high] = self.lsns.get_or_insert([*lsn; 2]);
            (*low, *high) = ((*low).min(*lsn), (*high).max(*lsn));
            if let Id::Text(text) = &row.id {
                self.id_hashes.push(id_index::hash(text));
            }
        }
        if let (Some((_, first)), Some((_, last))) = (rows.first(), rows.last()) {
            let first = self.ids.take().map_or_else(|| first.id.clone(), |[first, _]| first);
            self.ids = Some([first, last.id.clone()]);
        }
        Ok(())
    }

    fn last_id(&self) -> Option<&Id> {
        self.ids.as_ref().map(|[_, last]| last)
    }
}

/// Writes the whole file; the entry still lacks size and checksums.
fn encode(
    writing: &Writing<'_>,
    source: &mut dyn RowSource,
    sink: Sink,
    bits: u8,
) -> ParquetResult<Encoded<(Sealed, SegmentMeta)>> {
    let schema = writing.schema;
    let arrow = arrow_schema(schema);
    let (root, properties) = parquet_schema(schema, &arrow, bits)?;
    let mut file = SerializedFileWriter::new(sink, root, Arc::new(properties))?;
    let most_bytes = if bits > fewest(source.rows(), column_count(writing.schema)) {
        writing.group_bytes
    } else {
        u64::MAX
    };
    let mut passed = Passed::default();
    loop {
        let group = source.next_rows(1 << bits, most_bytes).map_err(external)?;
        if group.is_empty() {
            break;
        }
        if group.len() < 1 << bits && source.has_more() {
            return Ok(Encoded::TooLong(group.len()));
        }
        check_rows(schema, passed.last_id(), &group).map_err(external)?;
        hold_table(writing, 1);
        passed.vectors.push(write_group(&mut file, schema, &arrow, &group)?);
        passed.note(&group)?;
    }
    let (Some(ids), Some([min_lsn, max_lsn])) = (&passed.ids, passed.lsns) else {
        return Err(external(Error::new(ErrorKind::Internal, "AKI-0510", "a segment of 0 rows")));
    };
    let key = RowsKey {
        level: writing.level,
        rows: passed.rows,
        group_bits: bits,
        ids: ids.each_ref().map(ToString::to_string),
        min_lsn,
        max_lsn,
        vectors: passed.vectors,
    };
    pad(&mut file, SECTION_AREA_ALIGN)?;
    let mut sections = Sections::new(writing.name);
    if schema.id_kind == IdKind::Text {
        sections.write(&mut file, Kind::Ids, &id_index::encode(&passed.id_hashes))?;
    }
    if let Some(index) = source.index().map_err(external)? {
        sections.write(&mut file, Kind::Codes, &index.codes)?;
        sections.write(&mut file, Kind::Head, &index.head)?;
    }
    let (sealed, check) = write_tail(file, writing, &key, &mut sections)?;
    let meta = SegmentMeta {
        file: writing.name.to_string(),
        size: 0,
        crc32: 0,
        tail_crc32: 0,
        level: key.level,
        rows: key.rows,
        group_bits: bits,
        schema: schema.version,
        ids: key.ids,
        min_lsn: key.min_lsn,
        max_lsn: key.max_lsn,
        check,
        vectors: key.vectors,
        id_index: sections.place(Kind::Ids),
        head: sections.place(Kind::Head),
        codes: sections.place(Kind::Codes),
        deletion_vector: None,
    };
    Ok(Encoded::Whole((sealed, meta)))
}

/// Carries an error of ours through the Parquet writer.
fn external(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// The check table, the keys, and what the Parquet writer puts behind them.
fn write_tail(
    mut file: SerializedFileWriter<Sink>,
    writing: &Writing<'_>,
    rows: &RowsKey,
    sections: &mut Sections,
) -> ParquetResult<(Sealed, Place)> {
    pad(&mut file, ALIGN)?;
    // The sink must have seen every byte before the table can be asked for.
    file.flush()?;
    let (table, covered) = file.inner_mut().begin_tail();
    let check = sections.write(&mut file, Kind::Check, &check::encode(&table, covered))?;
    assert_eq!(check.offset, covered, "the table covers all that lies before it");
    let keys = footer::keys(writing.name, writing.schema, rows, sections.keys(), check);
    for key in keys.map_err(|e| ParquetError::General(e.to_string()))? {
        file.append_key_value_metadata(key);
    }
    file.finish()?;
    Ok((file.inner_mut().finish()?, check))
}

/// Writes one row group and gives the offset of its first vector, a multiple of 64.
fn write_group(
    file: &mut SerializedFileWriter<Sink>,
    schema: &Schema,
    arrow: &Arc<ArrowSchema>,
    rows: Rows<'_>,
) -> ParquetResult<u64> {
    let mut chunks = scalar_chunks(file, schema, arrow, rows)?.into_iter();
    let ids = (schema.id_kind == IdKind::Int).then(|| PlainPage::int_ids(rows));
    let vectors = PlainPage::vectors(rows, schema.dim);
    let scalars_len: i64 = chunks.as_slice().iter().map(|c| c.close().metadata.compressed_size()).sum();
    let before =
        scalars_len.cast_unsigned() + ids.as_ref().map_or(0, PlainPage::len) + vectors.values_offset();
    // Zeros between row groups are old custom (HDFS block padding); zeros inside one would not be.
    let zeros = padding(file.bytes_written() as u64 + before, ALIGN);
    file.write_all(&vec![0; usize::try_from(zeros)?])?;
    let values_offset = file.bytes_written() as u64 + before;
    let columns = file.schema_descr().columns().to_vec();
    let mut group = file.next_row_group()?;
    match ids {
        Some(page) => group.append_column(&page, page.close_result(Arc::clone(&columns[ID]))?)?,
        None => append(chunks.next(), &mut group)?,
    }
    for chunk in chunks {
        append(Some(chunk), &mut group)?;
    }
    let vector_column = columns.last().ok_or_else(|| ParquetError::General("no columns".into()))?;
    group.append_column(&vectors, vectors.close_result(Arc::clone(vector_column))?)?;
    let written = group.close()?;
    let chunk = written.column(written.num_columns() - 1);
    let found = chunk.data_page_offset().cast_unsigned() + vectors.values_offset();
    assert_eq!((found, found % ALIGN), (values_offset, 0), "vectors lie where they were meant to");
    Ok(values_offset)
}

fn append(
    chunk: Option<ArrowColumnChunk>,
    group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, Sink>,
) -> ParquetResult<()> {
    chunk.ok_or_else(|| ParquetError::General("a column has no chunk".into()))?.append_to_row_group(group)
}

/// The encoded chunks of all columns but the vector, and but the id when it is an integer.
fn scalar_chunks(
    file: &SerializedFileWriter<Sink>,
    schema: &Schema,
    arrow: &Arc<ArrowSchema>,
    rows: Rows<'_>,
) -> ParquetResult<Vec<ArrowColumnChunk>> {
    let factory = ArrowRowGroupWriterFactory::new(file, Arc::clone(arrow));
    let group = file.flushed_row_groups().len();
    let first = if schema.id_kind == IdKind::Int { LSN } else { ID };
    let last = payload_position(schema.fields.len());
    // Every column here has exactly one leaf, so positions of columns and of writers agree.
    let mut writers: Vec<_> =
        factory.create_column_writers(group)?.into_iter().skip(first).take(last + 1 - first).collect();
    for batch in rows.chunks(BATCH_ROWS) {
        for (column, writer) in (first..=last).zip(&mut writers) {
            for leaf in compute_leaves(arrow.field(column), &array(schema, column, batch))? {
                writer.write(&leaf)?;
            }
        }
    }
    writers.into_iter().map(|w| w.close()).collect()
}

/// The values of one column, by its position in the file.
fn array(schema: &Schema, column: usize, rows: Rows<'_>) -> ArrayRef {
    match column {
        ID => Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, row)| match &row.id {
            Id::Text(text) => &**text,
            Id::Int(_) => "",
        }))),
        LSN => Arc::new(Int64Array::from_iter_values(rows.iter().map(|(lsn, _)| lsn.as_i64()))),
        _ => match schema.fields.get(column - FIELDS) {
            Some(field) => field_array(field, column - FIELDS, rows),
            None => Arc::new(rows.iter().map(|(_, row)| row.rest.as_deref()).collect::<StringArray>()),
        },
    }
}

/// The values of a declared field. There are none of another type: [`check_rows`] has seen to it.
fn field_array(field: &Field, position: usize, rows: Rows<'_>) -> ArrayRef {
    let values = rows.iter().map(|(_, row)| row.fields.get(position).unwrap_or(&FieldValue::Null));
    match field.field_type {
        FieldType::Text => Arc::new(StringArray::from_iter(values.map(|v| match v {
            FieldValue::Text(text) => Some(&**text),
            _ => None,
        }))),
        FieldType::Int => Arc::new(Int64Array::from_iter(values.map(|v| match v {
            FieldValue::Int(n) => Some(*n),
            _ => None,
        }))),
        FieldType::Float => Arc::new(Float64Array::from_iter(values.map(|v| match v {
            FieldValue::Float(x) => Some(*x),
            _ => None,
        }))),
        FieldType::Bool => Arc::new(BooleanArray::from_iter(values.map(|v| match v {
            FieldValue::Bool(b) => Some(*b),
            _ => None,
        }))),
        FieldType::Timestamp => {
            let micros = values.map(|v| match v {
                FieldValue::Timestamp(micros) => Some(*micros),
                _ => None,
            });
            Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
        }
        FieldType::TextList => {
            let mut lists = ListBuilder::new(StringBuilder::new()).with_field(list_element());
            for value in values {
                let FieldValue::TextList(texts) = value else {
                    lists.append_null();
                    continue;
                };
                texts.iter().for_each(|text| lists.values().append_value(text));
                lists.append(true);
            }
            Arc::new(lists.finish())
        }
    }
}
