//! Parquet files: a column of ids, a `vector` column of lists of floats, and every other column as payload.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb::Payload;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::Value;

use super::columns::values;
use super::source::{Extent, Gathered, InputRow, Source, bad_row};
use crate::failure::{Failure, Result, Unit};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 512;

/// Rows of a Parquet file.
pub(crate) struct Table {
    batches: ParquetRecordBatchReader,
    file: PathBuf,
    id_field: String,
    left_out: Vec<String>,
    total_rows: u64,
    decoded: std::vec::IntoIter<InputRow>,
    next_row: u64,
    broken: Option<Failure>,
    done: bool,
}

impl Table {
    /// Opens a file.
    pub(crate) fn open(file: &Path, id_field: &str) -> Result<Self> {
        let open = File::open(file).map_err(|cause| Failure::io(file, "opening", &cause))?;
        let unreadable =
            |cause| Failure::input(file, format!("this file cannot be read as Parquet: {cause}"));
        let builder = ParquetRecordBatchReaderBuilder::try_new(open).map_err(unreadable)?;
        for name in [id_field, "vector"] {
            if builder.schema().column_with_name(name).is_none() {
                let names: Vec<&str> = builder.schema().fields().iter().map(|f| f.name().as_str()).collect();
                let message = format!("the file has no column \"{name}\"; it has {}", names.join(", "));
                return Err(Failure::input(file, message).help("name the column of ids by --id-field"));
            }
        }
        let total_rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let batches = builder.with_batch_size(BATCH_ROWS).build().map_err(unreadable)?;
        Ok(Self {
            batches,
            file: file.to_path_buf(),
            id_field: id_field.to_owned(),
            left_out: Vec::new(),
            total_rows,
            decoded: Vec::new().into_iter(),
            next_row: 0,
            broken: None,
            done: false,
        })
    }

    /// Passes over these columns, whatever they hold.
    pub(crate) fn leaving_out(mut self, names: &[String]) -> Self {
        self.left_out = names.to_vec();
        self
    }

    /// Rows of the file.
    pub(crate) fn rows(&self) -> u64 {
        self.total_rows
    }

    /// Decodes the next batch; `false` at the end. A bad row stops it, after the good ones before it.
    fn refill(&mut self) -> Result<bool> {
        let first = self.next_row + 1;
        let Some(batch) = self.batches.next() else { return Ok(false) };
        let mut batch =
            batch.map_err(|cause| bad_row(&self.file, first, format!("reading Parquet: {cause}")))?;
        let columns = loop {
            match Columns::of(&batch, &self.left_out, &self.id_field) {
                Ok(columns) => break columns,
                Err((0, reason)) => return Err(bad_row(&self.file, first, reason)),
                Err((at, reason)) => {
                    self.broken = Some(bad_row(&self.file, first + at as u64, reason));
                    batch = batch.slice(0, at);
                }
            }
        };
        let mut rows = Vec::with_capacity(batch.num_rows());
        for (place, at) in (first..).zip(0..batch.num_rows()) {
            match columns.row(at, place, &self.id_field) {
                Ok(row) => rows.push(row),
                Err(reason) => {
                    self.broken = Some(bad_row(&self.file, place, reason));
                    break;
                }
            }
        }
        self.decoded = rows.into_iter();
        Ok(true)
    }

    fn next_row(&mut self) -> Result<Option<InputRow>> {
        loop {
            if let Some(row) = self.decoded.next() {
                self.next_row = row.place;
                return Ok(Some(row));
            }
            if let Some(failure) = self.broken.take() {
                return Err(failure);
            }
            if !self.refill()? {
                return Ok(None);
            }
        }
    }
}

impl Iterator for Table {
    type Item = Result<InputRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let row = self.next_row().transpose();
        self.done = !matches!(row, Some(Ok(_)));
        row
    }
}

impl Source for Table {
    fn extent(&self) -> Extent {
        Extent::Rows(self.total_rows)
    }

    fn position(&self) -> u64 {
        self.next_row
    }

    fn unit(&self) -> Unit {
        Unit::Row
    }
}

/// A decoded batch, column by column.
struct Columns {
    vectors: ArrayRef,
    others: Vec<(String, Vec<Value>)>,
}

impl Columns {
    /// The first row of the batch, from 0, that has no place among rows, and why.
    fn of(batch: &RecordBatch, left_out: &[String], id_field: &str) -> Result<Self, (usize, String)> {
        let mut others = Vec::new();
        let mut vectors = None;
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            match field.name().as_str() {
                "vector" => vectors = Some(as_lists(column).map_err(|reason| (0, reason))?),
                // An exported row's own version; the import gives it a new one.
                "lsn" => {}
                name if name != id_field && left_out.iter().any(|left| left == name) => {}
                name => {
                    let values = values(column).map_err(|reason| bad_value(column, name, &reason))?;
                    others.push((name.to_owned(), values));
                }
            }
        }
        let vectors = vectors.ok_or_else(|| (0, "the batch has no column \"vector\"".to_owned()))?;
        Ok(Self { vectors, others })
    }

    fn row(&self, at: usize, place: u64, id_field: &str) -> Result<InputRow, String> {
        let mut gathered = Gathered::default();
        for (name, values) in &self.others {
            let value = match (name.as_str(), &values[at]) {
                (name, Value::Null) if name != id_field => continue,
                ("payload", Value::String(text)) => Value::Object(json_payload(text)?),
                (_, value) => value.clone(),
            };
            gathered.add(name, value, id_field)?;
        }
        let vector = self.vector(at)?;
        let id = gathered.id.ok_or_else(|| format!("the row has no \"{id_field}\""))?;
        Ok(InputRow { id, vector, payload: gathered.payload, place })
    }

    fn vector(&self, at: usize) -> Result<Vec<f32>, String> {
        let lists = self.vectors.as_list::<i64>();
        if lists.is_null(at) {
            return Err("the row has no \"vector\"".into());
        }
        let list = lists.value(at);
        if list.null_count() > 0 {
            return Err("the vector has a null among its numbers".into());
        }
        Ok(list.as_primitive::<Float32Type>().values().to_vec())
    }
}

/// The first row whose value in this column is refused, and why.
fn bad_value(column: &ArrayRef, name: &str, of_all: &str) -> (usize, String) {
    let refused = |at: usize| values(&column.slice(at, 1)).err().map(|reason| (at, reason));
    let (at, reason) = (0..column.len()).find_map(refused).unwrap_or_else(|| (0, of_all.to_owned()));
    (at, format!("column \"{name}\": {reason}"))
}

/// The payload column of a segment is the text of a JSON object.
fn json_payload(text: &str) -> Result<Payload, String> {
    serde_json::from_str(text).map_err(|cause| format!("the payload is no JSON object: {cause}"))
}

fn as_lists(column: &ArrayRef) -> Result<ArrayRef, String> {
    let refused = || format!("column \"vector\" holds {}, expected lists of floats", column.data_type());
    let item = match column.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item,
        _ => return Err(refused()),
    };
    if !matches!(item.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64) {
        return Err(refused());
    }
    let item = Field::new(item.name(), DataType::Float32, true);
    arrow::compute::cast(column, &DataType::LargeList(Arc::new(item))).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use akidb::Id;
    use arrow::array::{
        BinaryArray, FixedSizeListArray, Float64Array, Int64Array, ListArray, StringArray,
        TimestampMillisecondArray, UInt8Array,
    };
    use arrow::datatypes::{Int32Type, Schema};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::Compression;
    use parquet::file::properties::WriterProperties;
    use serde_json::json;

    use super::*;

    fn read(columns: Vec<(&str, ArrayRef)>, id_field: &str) -> Vec<Result<InputRow>> {
        read_without(columns, id_field, &[])
    }

    fn read_without(
        columns: Vec<(&str, ArrayRef)>,
        id_field: &str,
        left_out: &[String],
    ) -> Vec<Result<InputRow>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
            .collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let snappy = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), Some(snappy)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        match Table::open(file.path(), id_field) {
            Ok(table) => table.leaving_out(left_out).collect(),
            Err(failure) => vec![Err(failure)],
        }
    }

    fn pairs(rows: usize) -> ArrayRef {
        let numbers: Vec<f64> = (0..rows * 2).map(|n| f64::from(u32::try_from(n).unwrap())).collect();
        let item = Arc::new(Field::new("item", DataType::Float64, true));
        Arc::new(FixedSizeListArray::new(item, 2, Arc::new(Float64Array::from(numbers)), None))
    }

    #[test]
    fn columns_become_payload_and_any_list_of_floats_is_a_vector() {
        let tags = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)]), None]);
        let rows = read(
            vec![
                ("id", Arc::new(StringArray::from(vec!["a", "b"]))),
                ("lsn", Arc::new(Int64Array::from(vec![1, 2]))),
                ("small", Arc::new(UInt8Array::from(vec![Some(7), None]))),
                ("tags", Arc::new(tags)),
                ("payload", Arc::new(StringArray::from(vec![Some("{\"x\":1}"), None]))),
                ("vector", pairs(2)),
            ],
            "id",
        );
        let rows: Vec<InputRow> = rows.into_iter().map(Result::unwrap).collect();
        assert_eq!(rows[0].id, Id::from("a"));
        assert_eq!(Value::Object(rows[0].payload.clone()), json!({"small": 7, "tags": [1], "x": 1}));
        assert_eq!((rows[1].payload.len(), rows[1].place), (0, 2), "nulls are absent");
        assert_eq!(rows[1].vector, [2.0, 3.0]);
    }

    #[test]
    fn good_rows_before_a_bad_one_are_read() {
        let id: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None, Some(6)]));
        let rows = read(vec![("key", id), ("vector", pairs(3))], "key");
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].as_ref().unwrap().id, Id::from(5));
        let message = rows[1].as_ref().unwrap_err().to_string();
        assert!(message.contains("the id \"key\" is null") && message.contains("row: 2"), "{message}");
    }

    #[test]
    fn a_time_out_of_range_is_told_with_its_row_and_can_be_left_out() {
        let id: ArrayRef = Arc::new(Int64Array::from(vec![5, 6, 7]));
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1_500, i64::MAX, 0]));
        let raw: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"x", b"y", b"z"]));
        let columns = vec![("key", id), ("at", times), ("raw", raw), ("vector", pairs(3))];
        let rows = read_without(columns.clone(), "key", &["raw".to_owned()]);
        assert_eq!(rows.len(), 2, "the good row before it, and the failure");
        assert_eq!(rows[0].as_ref().unwrap().payload["at"], "1970-01-01T00:00:01.500Z");
        let message = rows[1].as_ref().unwrap_err().to_string();
        assert!(message.contains("column \"at\"") && message.contains("row: 2"), "{message}");
        let rows = read_without(columns, "key", &["raw".to_owned(), "at".to_owned()]);
        assert!(rows.len() == 3 && rows.iter().all(Result::is_ok));
    }

    #[test]
    fn other_files_are_refused_by_what_they_are() {
        let id: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let refusal = |columns| read(columns, "id").pop().unwrap().unwrap_err().to_string();
        assert!(refusal(vec![("id", id.clone())]).contains("no column \"vector\"; it has id"));
        assert!(refusal(vec![("id", id.clone()), ("vector", id)]).contains("expected lists of floats"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = Table::open(file.path(), "id").err().unwrap().to_string();
        assert!(message.contains("cannot be read as Parquet"), "{message}");
    }
}
