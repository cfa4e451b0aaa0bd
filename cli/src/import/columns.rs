//! Arrow columns as JSON values, for payloads.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, UInt64Type};
use serde_json::{Map, Number, Value};

/// One JSON value a row. Times become RFC 3339 texts in UTC (a time without a zone is taken as UTC).
///
/// The reason if the column's type has no JSON form, or a float is not finite.
pub(crate) fn values(column: &ArrayRef) -> Result<Vec<Value>, String> {
    match column.data_type() {
        DataType::Null => Ok(vec![Value::Null; column.len()]),
        DataType::Boolean => {
            Ok(column.as_boolean().iter().map(|v| v.map_or(Value::Null, Value::Bool)).collect())
        }
        DataType::UInt64 => Ok(integers(column.as_primitive::<UInt64Type>().iter())),
        integer if integer.is_integer() => {
            let wide = as_type(column, &DataType::Int64)?;
            Ok(integers(wide.as_primitive::<Int64Type>().iter()))
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => floats(column),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Date32 | DataType::Date64 => {
            texts(column)
        }
        DataType::Timestamp(_, _) => {
            texts(&as_type(column, &DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())))?)
        }
        DataType::Dictionary(_, value_type) => values(&as_type(column, value_type)?),
        DataType::List(item) => lists(&as_type(column, &DataType::LargeList(item.clone()))?),
        DataType::FixedSizeList(item, _) => lists(&as_type(column, &DataType::LargeList(item.clone()))?),
        DataType::LargeList(_) => lists(column),
        DataType::Struct(_) => objects(column),
        other => Err(format!("its type {other} has no place in a payload")),
    }
}

fn as_type(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    // A value that does not fit is told, and not made a null.
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() })
        .map_err(|cause| cause.to_string())
}

fn integers<N: Into<Number>>(column: impl Iterator<Item = Option<N>>) -> Vec<Value> {
    column.map(|v| v.map_or(Value::Null, |n| Value::Number(n.into()))).collect()
}

fn floats(column: &ArrayRef) -> Result<Vec<Value>, String> {
    let wide = as_type(column, &DataType::Float64)?;
    let json = |value: Option<f64>| {
        let Some(value) = value else { return Ok(Value::Null) };
        let number = Number::from_f64(value).ok_or_else(|| format!("{value} has no place in a payload"))?;
        Ok(Value::Number(number))
    };
    wide.as_primitive::<Float64Type>().iter().map(json).collect()
}

fn texts(column: &ArrayRef) -> Result<Vec<Value>, String> {
    let texts = as_type(column, &DataType::LargeUtf8)?;
    let texts = texts.as_string::<i64>();
    Ok(texts.iter().map(|v| v.map_or(Value::Null, |text| Value::String(text.to_owned()))).collect())
}

fn lists(column: &ArrayRef) -> Result<Vec<Value>, String> {
    let lists = column.as_list::<i64>();
    lists.iter().map(|list| list.map_or(Ok(Value::Null), |list| values(&list).map(Value::Array))).collect()
}

fn objects(column: &ArrayRef) -> Result<Vec<Value>, String> {
    let structs = column.as_struct();
    let mut objects = vec![Map::new(); structs.len()];
    for (name, inner) in structs.column_names().into_iter().zip(structs.columns()) {
        for (object, value) in objects.iter_mut().zip(values(inner)?) {
            object.insert(name.to_owned(), value);
        }
    }
    let json = |(at, object)| if structs.is_null(at) { Value::Null } else { Value::Object(object) };
    Ok(objects.into_iter().enumerate().map(json).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, DictionaryArray, Float32Array, Int8Array, StringArray,
        StructArray, TimestampMillisecondArray, UInt64Array,
    };
    use arrow::datatypes::{Field, Int32Type};
    use serde_json::json;

    use super::*;

    fn all(column: impl Array + 'static) -> Value {
        Value::Array(values(&(Arc::new(column) as ArrayRef)).unwrap())
    }

    #[test]
    fn columns_have_the_json_people_expect() {
        assert_eq!(all(Int8Array::from(vec![Some(-1), None])), json!([-1, null]));
        assert_eq!(all(UInt64Array::from(vec![u64::MAX])), json!([u64::MAX]));
        assert_eq!(all(Float32Array::from(vec![0.5])), json!([0.5]));
        assert_eq!(all(BooleanArray::from(vec![true])), json!([true]));
        assert_eq!(all(Date32Array::from(vec![1])), json!(["1970-01-02"]));
        let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
        assert_eq!(all(words), json!(["a", null, "a"]));
        let times = TimestampMillisecondArray::from(vec![1_500]);
        assert_eq!(all(times.clone()), json!(["1970-01-01T00:00:01.500Z"]));
        assert_eq!(all(times.with_timezone("+02:00")), json!(["1970-01-01T00:00:01.500Z"]));
        let inner: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let objects = StructArray::from(vec![(Arc::new(Field::new("k", DataType::Utf8, true)), inner)]);
        assert_eq!(all(objects), json!([{"k": "x"}]));
    }

    #[test]
    fn what_has_no_json_is_refused() {
        let refusal = |column: ArrayRef| values(&column).unwrap_err();
        assert!(refusal(Arc::new(Float32Array::from(vec![f32::NAN]))).contains("NaN"));
        let far = TimestampMillisecondArray::from(vec![1, i64::MAX]);
        assert!(refusal(Arc::new(far)).contains("9223372036854775807"));
        assert!(refusal(Arc::new(BinaryArray::from_vec(vec![b"x"]))).contains("Binary"));
    }
}
