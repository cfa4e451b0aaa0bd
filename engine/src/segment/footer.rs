//! The tail of a segment, from the check table to the end of the file: checked first, parsed after.

use std::path::Path;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use serde::{Deserialize, Serialize};

use super::check;
use super::format::{
    self, FOOTER_END_LEN, FORMAT, KEY_CHECK, KEY_FEATURES, KEY_FORMAT, KEY_ROWS, KEY_SCHEMA, KEY_SECTIONS,
    KEY_SEGMENT, KEY_TAIL, Kind,
};
use super::name::SegmentName;
use super::verify::mending;
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::schema::Schema;
use crate::segment_meta::Place;

/// The value of `akidb.rows`. Members a later version adds are passed over: what may not be is a feature bit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowsKey {
    pub(super) level: u8,
    pub(super) rows: u32,
    pub(super) group_bits: u8,
    pub(super) ids: [String; 2],
    #[serde(with = "crate::lsn::text")]
    pub(super) min_lsn: Lsn,
    #[serde(with = "crate::lsn::text")]
    pub(super) max_lsn: Lsn,
    /// First byte of the vectors of every row group.
    pub(super) vectors: Vec<u64>,
}

/// One entry of `akidb.sections`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SectionKey {
    pub(super) kind: String,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) crc32: u32,
}

/// A parsed tail.
pub(super) struct Footer {
    pub(super) metadata: ParquetMetaData,
    pub(super) name: SegmentName,
    pub(super) schema: Schema,
    pub(super) rows: RowsKey,
    pub(super) sections: Vec<SectionKey>,
    pub(super) tail_crc32: u32,
    /// Checksums of the blocks before the tail.
    pub(super) table: Vec<u32>,
}

/// Where the section of that kind lies.
pub(super) fn place_of(sections: &[SectionKey], kind: Kind) -> Option<Place> {
    let section = sections.iter().find(|s| s.kind == kind.name())?;
    Some(Place { offset: section.offset, len: section.len })
}

/// The footer keys of a segment, but for the tail's checksum, which must come last.
pub(super) fn keys(
    name: SegmentName,
    schema: &Schema,
    rows: &RowsKey,
    sections: &[SectionKey],
    check: Place,
) -> serde_json::Result<Vec<KeyValue>> {
    let key = |name: &str, value: String| KeyValue::new(name.to_string(), value);
    Ok(vec![
        key(KEY_FORMAT, FORMAT.to_string()),
        key(KEY_FEATURES, format::features(place_of(sections, Kind::Head).is_some())),
        key(KEY_SEGMENT, name.stem()),
        key(KEY_SCHEMA, serde_json::to_string(schema)?),
        key(KEY_ROWS, serde_json::to_string(rows)?),
        key(KEY_SECTIONS, serde_json::to_string(sections)?),
        key(KEY_CHECK, format!("{}:{}", check.offset, check.len)),
        key(KEY_TAIL, format::tail_placeholder()),
    ])
}

/// Parses the tail of a file of `size` bytes that begins with the check table at `check`. Nothing is parsed before
/// the checksum of all of it was found right.
pub(super) fn parse(tail: &Bytes, check: Place, size: u64, path: &Path) -> Result<Footer> {
    let at = check.offset;
    let damaged = |offset: u64, what: &str| {
        Error::corrupt("AKI-0505", path, offset, format!("the tail of a segment is damaged: {what}"))
            .help_is(mending(path))
    };
    let digits =
        format::tail_digits(tail).ok_or_else(|| damaged(at, "its checksum is not where it was written"))?;
    let (tail_crc32, stated) = format::tail_crc32(tail, &digits);
    if stated != Some(tail_crc32) {
        return Err(damaged(at, "it does not match its checksum"));
    }
    if !tail.ends_with(b"PAR1") {
        return Err(damaged(size - 4, "the file does not end in PAR1"));
    }
    let mut reader = ParquetMetaDataReader::new().with_offset_index_policy(PageIndexPolicy::Required);
    let parsed = reader.try_parse_sized(tail, size).and_then(|()| reader.finish());
    let metadata = parsed.map_err(|e| unreadable(path, at, &e))?;
    let keys = metadata.file_metadata().key_value_metadata().map_or(&[][..], Vec::as_slice);
    let value = |name: &str| {
        let found = keys.iter().rev().find(|k| k.key == name).and_then(|k| k.value.as_deref());
        found.ok_or_else(|| damaged(at, &format!("the footer has no key {name}")))
    };
    check_version(value(KEY_FORMAT)?, value(KEY_FEATURES)?, path)?;
    let bad = |name: &str| damaged(at, &format!("the footer key {name} does not read"));
    let name = SegmentName::from_stem(value(KEY_SEGMENT)?).ok_or_else(|| bad(KEY_SEGMENT))?;
    let schema = serde_json::from_str(value(KEY_SCHEMA)?).map_err(|_| bad(KEY_SCHEMA))?;
    let rows = serde_json::from_str(value(KEY_ROWS)?).map_err(|_| bad(KEY_ROWS))?;
    let sections = serde_json::from_str(value(KEY_SECTIONS)?).map_err(|_| bad(KEY_SECTIONS))?;
    let section = usize::try_from(check.len).ok().and_then(|len| tail.get(..len));
    let section = section.ok_or_else(|| damaged(at, "the check table is longer than the tail"))?;
    let table = format::decode_section(section, Kind::Check, name)
        .and_then(|body| check::decode(body, check.offset))
        .map_err(|what| damaged(at, &format!("the check table {what}")))?;
    Ok(Footer { metadata, name, schema, rows, sections, tail_crc32, table })
}

fn check_version(format: &str, features: &str, path: &Path) -> Result<()> {
    if format == FORMAT && format::knows_features(features) == Some(true) {
        return Ok(());
    }
    let message = format!("segment format {format}, features {features}; this version reads format {FORMAT}");
    Err(Error::new(ErrorKind::NewerFormat, "AKI-0506", message)
        .at(path, None)
        .help_is("open it with the version of AkiDB that wrote it, or a newer one"))
}

/// Where the check table of a file of `size` bytes lies, from its last bytes alone: for a file no manifest names.
/// `footer` is the footer with the 8 bytes after it.
pub(super) fn find_check(footer: &[u8], size: u64) -> Option<Place> {
    let (offset, len) = format::find_key(footer, KEY_CHECK)?.split_once(':')?;
    let place = Place { offset: offset.parse().ok()?, len: len.parse().ok()? };
    let fits = place.offset.checked_add(place.len)?.checked_add(FOOTER_END_LEN as u64)? <= size;
    fits.then_some(place)
}

fn unreadable(path: &Path, offset: u64, cause: &ParquetError) -> Error {
    Error::corrupt(
        "AKI-0505",
        path,
        offset,
        format!("the footer matches its checksum but does not parse: {cause}"),
    )
}
