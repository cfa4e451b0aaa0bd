//! The Arrow and Parquet faces of a collection's schema: column order, types, encodings.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema, TimeUnit};
use parquet::arrow::{ArrowSchemaConverter, PARQUET_FIELD_ID_META_KEY, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnPath, TypePtr};

use super::format::CREATED_BY;
use crate::schema::{Field, FieldType, IdKind, Schema};

/// Position of the id among a segment's columns.
pub(super) const ID: usize = 0;
/// Position of the LSN.
pub(super) const LSN: usize = 1;
/// Position of the first declared field; then the payload, then the vector.
pub(super) const FIELDS: usize = 2;

/// Rows of a data page at most.
const PAGE_ROWS: usize = 512;
/// Rows after which the bytes of a page are looked at: long payloads fill one within few rows.
const CHECK_ROWS: usize = 16;
/// Bytes of a page after which the next begins: a point read decodes one page a column, and its dictionary. A column
/// whose dictionary would be longer goes on without.
const PAGE_BYTES: usize = 16 * 1024;
/// Bytes of a text kept as smallest or largest of a page: the page index lies in the tail, which is read at open.
const PAGE_MIN_MAX_BYTES: usize = 16;
const ZSTD_LEVEL: i32 = 3;
/// Row groups have at least this many rows, as a power of two, unless rows are long.
const LEAST_GROUP_BITS: u8 = 10;
/// Bytes of vectors a row group aims at.
const ROW_GROUP_BYTES: u32 = 24 * 1024 * 1024;
/// Parquet field ids of the columns every segment has; declared fields have their own stable ids, from 1.
const FIRST_FIXED_FIELD_ID: i32 = 1_000_000_001;

/// Position of the payload column.
pub(super) fn payload_position(fields: usize) -> usize {
    FIELDS + fields
}

/// How many columns a segment has.
pub(crate) fn column_count(schema: &Schema) -> usize {
    payload_position(schema.fields.len()) + 2
}

/// Rows of every row group but the last, as a power of two: about 24 MiB of vectors, 1,024 to 65,536 rows.
pub(super) fn group_bits(dim: u16) -> u8 {
    let rows = ROW_GROUP_BYTES / (4 * u32::from(dim.max(1)));
    let bits = rows.max(1).ilog2().clamp(LEAST_GROUP_BITS.into(), 16);
    u8::try_from(bits).expect("at most 16")
}

/// The Arrow type of a declared field.
pub(super) fn arrow_type(field_type: FieldType) -> DataType {
    match field_type {
        FieldType::Text => DataType::Utf8,
        FieldType::Int => DataType::Int64,
        FieldType::Float => DataType::Float64,
        FieldType::Bool => DataType::Boolean,
        FieldType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        FieldType::TextList => DataType::List(list_element()),
    }
}

/// The element of a list of text: never null.
pub(super) fn list_element() -> Arc<ArrowField> {
    Arc::new(ArrowField::new("element", DataType::Utf8, false))
}

/// The Arrow schema of a segment: `id, lsn, <fields>, payload, vector`.
pub(super) fn arrow_schema(schema: &Schema) -> Arc<ArrowSchema> {
    let id_type = match schema.id_kind {
        IdKind::Text => DataType::Utf8,
        IdKind::Int => DataType::Int64,
    };
    let element = Arc::new(ArrowField::new("element", DataType::Float32, false));
    let vector = DataType::FixedSizeList(element, i32::from(schema.dim));
    let mut columns = vec![fixed("id", id_type, false, 0), fixed("lsn", DataType::Int64, false, 1)];
    columns.extend(schema.fields.iter().map(declared));
    columns.push(fixed("payload", DataType::Utf8, true, 2));
    columns.push(fixed("vector", vector, false, 3));
    Arc::new(ArrowSchema::new(columns))
}

fn fixed(name: &str, data_type: DataType, nullable: bool, nth: i32) -> ArrowField {
    with_id(ArrowField::new(name, data_type, nullable), FIRST_FIXED_FIELD_ID + nth)
}

fn declared(field: &Field) -> ArrowField {
    let column = ArrowField::new(&field.name, arrow_type(field.field_type), true);
    match i32::try_from(field.id) {
        Ok(id) if id < FIRST_FIXED_FIELD_ID => with_id(column, id),
        _ => column,
    }
}

fn with_id(column: ArrowField, id: i32) -> ArrowField {
    column.with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string())]))
}

/// The Parquet schema and how its columns are written, in row groups of 2^`bits` rows: where rows are so long that these are
/// few, a page holds no more of them than it must.
pub(super) fn parquet_schema(
    schema: &Schema,
    arrow: &ArrowSchema,
    bits: u8,
) -> ParquetResult<(TypePtr, WriterProperties)> {
    let parquet = ArrowSchemaConverter::new().schema_root("akidb").convert(arrow)?;
    let zstd = Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?);
    let column = |name: &str| ColumnPath::new(vec![name.to_string()]);
    let mut properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_string())
        .set_compression(zstd)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(if bits < LEAST_GROUP_BITS { 1 } else { CHECK_ROWS })
        .set_data_page_size_limit(PAGE_BYTES)
        .set_dictionary_page_size_limit(PAGE_BYTES)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_column_index_truncate_length(Some(PAGE_MIN_MAX_BYTES))
        .set_sorting_columns(Some(vec![SortingColumn {
            column_idx: 0,
            descending: false,
            nulls_first: false,
        }]))
        .set_column_dictionary_enabled(column("id"), false)
        .set_column_statistics_enabled(column("id"), EnabledStatistics::Chunk)
        .set_column_dictionary_enabled(column("lsn"), false)
        .set_column_encoding(column("lsn"), Encoding::DELTA_BINARY_PACKED)
        .set_column_statistics_enabled(column("lsn"), EnabledStatistics::Chunk)
        .set_column_dictionary_enabled(column("payload"), false)
        .set_column_statistics_enabled(column("payload"), EnabledStatistics::None);
    for field in &schema.fields {
        // A dictionary of two values or of doubles that never repeat only costs a page.
        if matches!(field.field_type, FieldType::Bool) {
            properties = properties.set_column_dictionary_enabled(column(&field.name), false);
        }
    }
    let mut properties = properties.build();
    add_encoded_arrow_schema_to_metadata(arrow, &mut properties);
    Ok((parquet.root_schema_ptr(), properties))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_group_holds_about_24_mib_of_vectors_in_a_power_of_two_of_rows() {
        let rows = [1, 96, 100, 384, 768, 1536, 4096].map(|dim| 1_u32 << group_bits(dim));
        assert_eq!(rows, [65_536, 65_536, 32_768, 16_384, 8_192, 4_096, 1_024]);
    }
}
