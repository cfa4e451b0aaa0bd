//! Rows as Arrow batches, both ways: columns `id`, `vector`, the declared fields, `payload` (JSON text), and on the
//! way out `lsn` or `score`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, FixedSizeListArray, Float32Array, Float64Builder, Int64Array,
    Int64Builder, ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field as ArrowField, Float32Type, Schema as ArrowSchema};
use serde_json::Value;

use crate::collection::{Collection, Hit, NewRow, StoredRow};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::lsn::Lsn;
use crate::row::{FieldValue, Payload, split_payload};
use crate::schema::{FieldType, IdKind, Schema};

impl Collection {
    /// Writes the rows of a batch as one, as [`Collection::upsert_batch`] does. Columns: `id` (utf8 or int64),
    /// `vector` (a fixed-size or plain list of float32), declared fields in their Arrow types, and optionally
    /// `payload` (utf8, a JSON object a row) for everything else.
    ///
    /// # Errors
    /// `Invalid` for a missing column, one of a wrong type or an unknown one (the valid ones are listed); else as
    /// [`Collection::upsert_batch`].
    pub fn upsert_arrow(&self, batch: &RecordBatch) -> Result<Lsn> {
        let schema = self.schema()?;
        self.upsert_batch(&rows_of(batch, &schema)?)
    }

    /// Rows as an Arrow batch: `id`, `lsn`, the declared fields, `payload`, `vector`.
    ///
    /// # Errors
    /// `NotFound` once dropped.
    pub fn to_arrow(&self, rows: &[StoredRow]) -> Result<RecordBatch> {
        let schema = self.schema()?;
        let lsns: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.lsn.as_i64())));
        let ids: Vec<&Id> = rows.iter().map(|row| &row.id).collect();
        let payloads: Vec<&Payload> = rows.iter().map(|row| &row.payload).collect();
        let mut columns = vec![("id".to_owned(), id_array(&schema, &ids)), ("lsn".to_owned(), lsns)];
        columns.extend(payload_arrays(&schema, &payloads)?);
        let floats = rows.iter().flat_map(|row| row.vector.iter().copied());
        let item = Arc::new(ArrowField::new("item", DataType::Float32, false));
        let values = Arc::new(Float32Array::from_iter_values(floats));
        let vectors =
            FixedSizeListArray::try_new(item, i32::from(schema.dim), values, None).map_err(|e| bad(&e))?;
        columns.push(("vector".to_owned(), Arc::new(vectors)));
        batch_of(columns)
    }

    /// Hits as an Arrow batch: `id`, `score`, `lsn`, the declared fields, `payload`; best first.
    ///
    /// # Errors
    /// `NotFound` once dropped.
    pub fn hits_to_arrow(&self, hits: &[Hit]) -> Result<RecordBatch> {
        let schema = self.schema()?;
        let ids: Vec<&Id> = hits.iter().map(|hit| &hit.id).collect();
        let payloads: Vec<&Payload> = hits.iter().map(|hit| &hit.payload).collect();
        let scores: ArrayRef = Arc::new(Float32Array::from_iter_values(hits.iter().map(|hit| hit.score)));
        let lsns: ArrayRef = Arc::new(Int64Array::from_iter_values(hits.iter().map(|hit| hit.lsn.as_i64())));
        let mut columns = vec![
            ("id".to_owned(), id_array(&schema, &ids)),
            ("score".to_owned(), scores),
            ("lsn".to_owned(), lsns),
        ];
        columns.extend(payload_arrays(&schema, &payloads)?);
        batch_of(columns)
    }
}

fn bad(error: &arrow::error::ArrowError) -> Error {
    Error::invalid("AKI-0280", format!("rows do not make an Arrow batch: {error}"))
}

fn batch_of(columns: Vec<(String, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<ArrowField> =
        columns.iter().map(|(name, array)| ArrowField::new(name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays).map_err(|e| bad(&e))
}

fn id_array(schema: &Schema, ids: &[&Id]) -> ArrayRef {
    match schema.id_kind {
        IdKind::Text => Arc::new(StringArray::from_iter_values(ids.iter().map(ToString::to_string))),
        IdKind::Int => Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| match id {
            Id::Int(n) => *n,
            Id::Text(_) => unreachable!("ids were checked against the schema"),
        }))),
    }
}

/// The declared fields as typed arrays, and the rest as JSON text.
fn payload_arrays(schema: &Schema, payloads: &[&Payload]) -> Result<Vec<(String, ArrayRef)>> {
    let mut split = Vec::with_capacity(payloads.len());
    for payload in payloads {
        split.push(split_payload(schema, payload)?);
    }
    let mut columns = Vec::with_capacity(schema.fields.len() + 1);
    for (n, field) in schema.fields.iter().enumerate() {
        let values: Vec<&FieldValue> = split.iter().map(|(fields, _)| &fields[n]).collect();
        columns.push((field.name.clone(), field_array(field.field_type, &values)));
    }
    let rest: StringArray = split.iter().map(|(_, rest)| rest.as_deref()).collect();
    columns.push(("payload".to_owned(), Arc::new(rest)));
    Ok(columns)
}

fn field_array(field_type: FieldType, values: &[&FieldValue]) -> ArrayRef {
    macro_rules! build {
        ($builder:expr, $kind:path) => {{
            let mut builder = $builder;
            for value in values {
                match value {
                    $kind(value) => builder.append_value(value.clone()),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }};
    }
    match field_type {
        FieldType::Text => build!(StringBuilder::new(), FieldValue::Text),
        FieldType::Int => build!(Int64Builder::new(), FieldValue::Int),
        FieldType::Float => build!(Float64Builder::new(), FieldValue::Float),
        FieldType::Bool => build!(BooleanBuilder::new(), FieldValue::Bool),
        FieldType::Timestamp => {
            build!(TimestampMicrosecondBuilder::new().with_timezone("UTC"), FieldValue::Timestamp)
        }
        FieldType::TextList => {
            let mut builder = ListBuilder::new(StringBuilder::new());
            for value in values {
                match value {
                    FieldValue::TextList(list) => builder.append_value(list.iter().map(|text| Some(&**text))),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
    }
}

fn rows_of(batch: &RecordBatch, schema: &Schema) -> Result<Vec<NewRow>> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| {
            Error::invalid(
                "AKI-0281",
                format!("the Arrow batch has no column \"{name}\"; it needs id and vector"),
            )
        })
    };
    for field in batch.schema().fields() {
        let known = ["id", "vector", "payload"].contains(&field.name().as_str())
            || schema.position(field.name()).is_some();
        if !known {
            let names: Vec<&str> = schema.fields.iter().map(|f| f.name.as_str()).collect();
            let message = format!(
                "the Arrow batch has an unknown column \"{}\"; there are: id, vector, payload, {}",
                field.name(),
                names.join(", ")
            );
            return Err(Error::invalid("AKI-0282", message));
        }
    }
    let (ids, vectors) = (column("id")?, column("vector")?);
    (0..batch.num_rows())
        .map(|row| {
            let id = id_in(ids, row)?;
            let payload = payload_in(batch, schema, row)?;
            Ok(NewRow { id, vector: vector_in(vectors, row)?, payload, expires: None })
        })
        .collect()
}

fn wrong(column: &str, row: usize, want: &str, array: &ArrayRef) -> Error {
    let message = format!("column \"{column}\", row {row}: expected {want}, got {}", array.data_type());
    Error::invalid("AKI-0283", message)
}

fn id_in(ids: &ArrayRef, row: usize) -> Result<Id> {
    let text = ids.as_string_opt::<i32>().filter(|a| a.is_valid(row)).map(|a| Id::from(a.value(row)));
    let number = || {
        let numbers = ids.as_primitive_opt::<arrow::datatypes::Int64Type>()?;
        numbers.is_valid(row).then(|| Id::Int(numbers.value(row)))
    };
    text.or_else(number).ok_or_else(|| wrong("id", row, "utf8 or int64 without nulls", ids))
}

fn vector_in(vectors: &ArrayRef, row: usize) -> Result<Vec<f32>> {
    let one = match vectors.data_type() {
        DataType::FixedSizeList(..) => {
            vectors.as_fixed_size_list_opt().filter(|a| a.is_valid(row)).map(|a| a.value(row))
        }
        DataType::List(_) => vectors.as_list_opt::<i32>().filter(|a| a.is_valid(row)).map(|a| a.value(row)),
        _ => None,
    };
    let floats = one
        .as_ref()
        .and_then(|one| one.as_primitive_opt::<Float32Type>())
        .filter(|one| one.null_count() == 0);
    let floats = floats.ok_or_else(|| wrong("vector", row, "a list of float32 without nulls", vectors))?;
    Ok(floats.values().to_vec())
}

fn payload_in(batch: &RecordBatch, schema: &Schema, row: usize) -> Result<Payload> {
    let mut payload = Payload::new();
    if let Some(rest) = batch.column_by_name("payload") {
        let texts = rest.as_string_opt::<i32>().ok_or_else(|| wrong("payload", row, "utf8", rest))?;
        if texts.is_valid(row) {
            payload = crate::row::payload_from_json(texts.value(row))?;
        }
    }
    for field in &schema.fields {
        let Some(array) = batch.column_by_name(&field.name) else { continue };
        if array.is_null(row) {
            continue;
        }
        let value = value_in(array, row, field.field_type);
        let value = value.ok_or_else(|| wrong(&field.name, row, field.field_type.name(), array))?;
        payload.insert(field.name.clone(), value);
    }
    Ok(payload)
}

fn value_in(array: &ArrayRef, row: usize, field_type: FieldType) -> Option<Value> {
    use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
    Some(match field_type {
        FieldType::Text => Value::from(array.as_string_opt::<i32>()?.value(row)),
        FieldType::Int => Value::from(array.as_primitive_opt::<Int64Type>()?.value(row)),
        FieldType::Float => Value::from(array.as_primitive_opt::<Float64Type>()?.value(row)),
        FieldType::Bool => Value::from(array.as_boolean_opt()?.value(row)),
        FieldType::Timestamp => Value::from(array.as_primitive_opt::<TimestampMicrosecondType>()?.value(row)),
        FieldType::TextList => {
            let list = array.as_list_opt::<i32>()?.value(row);
            let texts = list.as_string_opt::<i32>()?;
            Value::from((0..texts.len()).map(|n| texts.value(n).to_owned()).collect::<Vec<_>>())
        }
    })
}
