//! An open segment: found, checked at the tail, mapped; vectors where they lie.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use akidb_host::{Access, Fs};
use arrow::buffer::ScalarBuffer;
use bytes::Bytes;

use super::arrow_schema::ID;
use super::blocks::Blocks;
use super::check::BLOCK_LEN;
use super::checked_file::{COLD_HELP, CheckedFile, Places};
use super::cold_file::ColdFile;
use super::footer::{self, Footer, place_of};
use super::format::{ALIGN, CRC_LEN, HEAD_LEN, Kind};
use super::name::SegmentName;
use super::origin::Origin;
use super::page_cache::Joined;
use super::source::Table;
use super::vector_index::Decoded;
use super::{id_index, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{IdKind, Schema};
use crate::segment_meta::{Place, SegmentMeta};

/// An immutable segment, shared by every version that names it. All reads check the 16 KiB blocks they touch once;
/// every call may therefore block on the disk and fail with `Corrupt` (file and offset) or `Unavailable`.
pub(crate) struct Segment {
    pub(super) shared: Arc<CheckedFile>,
    meta: SegmentMeta,
    pub(super) name: SegmentName,
    schema: Schema,
    pub(super) table: Table,
    /// The numbers of every row group where they lie.
    vectors: Vec<ScalarBuffer<f32>>,
    /// First byte of the ids of every row group; integer ids only.
    int_ids: Vec<u64>,
    /// The body of CODES; empty without an index.
    pub(super) codes: Range<u64>,
    /// Whether the heads of HEAD and CODES, and the checksum HEAD ends in, were found right.
    pub(super) index_checked: AtomicBool,
    /// What it keeps in memory from the first moment on, about.
    pub(super) own_bytes: u64,
    pub(super) decoded: Decoded,
    /// Where unpacked pages are kept, once somebody said where.
    pub(super) pages: OnceLock<Joined>,
}

/// Bytes checked and bytes asked for since open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Bytes of the blocks found right.
    pub(crate) verified_bytes: u64,
    /// Bytes asked for by the calls that had to check at least one block.
    pub(crate) touched_bytes: u64,
}

impl Segment {
    /// Opens the segment that `meta` names under `path`. Reads the tail (check table, page indexes, footer) and
    /// nothing else. `schema` is the collection's current one: the segment may have fewer fields.
    ///
    /// # Errors
    /// `Corrupt` when the file is not there, or size, tail or footer are not those of the segment the manifest names;
    /// `NewerFormat`.
    pub(crate) fn open(fs: &dyn Fs, path: &Path, meta: &SegmentMeta, schema: &Schema) -> Result<Arc<Self>> {
        let file = open_file(fs, path);
        let file = file.map_err(|error| error.of_named_file().mended_by(verify::mending(path)))?;
        Self::open_from(file, path, meta, schema)
    }

    /// As [`Segment::open`], of an object; reads its tail and the head of its vector index in one request, unless
    /// [`super::fetch_tails`] brought them. A damaged tail is fetched once more.
    ///
    /// # Errors
    /// As [`Segment::open`], and those of the backend.
    pub(crate) fn open_cold(cold: &Arc<ColdFile>, meta: &SegmentMeta, schema: &Schema) -> Result<Arc<Self>> {
        let open = || Self::open_from(Origin::Cold(Arc::clone(cold)), cold.place(), meta, schema);
        super::fetch_tails(&[(cold, meta)])?;
        open().or_else(|error| match error.kind() {
            ErrorKind::Corrupt => {
                cold.forget_from(tail_start(meta));
                super::fetch_tails(&[(cold, meta)])?;
                open().map_err(|error| error.help_is(COLD_HELP))
            }
            _ => Err(error),
        })
    }

    fn open_from(origin: Origin, path: &Path, meta: &SegmentMeta, schema: &Schema) -> Result<Arc<Self>> {
        let size = file_len(&origin, path)?;
        if size != meta.size {
            let message = format!("the segment has {size} bytes, the manifest says {}", meta.size);
            return Err(
                Error::corrupt("AKI-0503", path, size.min(meta.size), message).help_is(verify::mending(path))
            );
        }
        let tail = read_tail(&origin, path, meta.check, size)?;
        let footer = footer::parse(&tail, meta.check, size, path)?;
        check_same(&footer, meta, schema, path)?;
        Self::new(origin, path, meta.clone(), footer).map(Arc::new)
    }

    fn new(origin: Origin, path: &Path, meta: SegmentMeta, footer: Footer) -> Result<Self> {
        let damaged = |what: String| Error::corrupt("AKI-0505", path, meta.check.offset, what);
        let is_cold = origin.cold().is_some();
        let blocks = Blocks::new(origin, footer.table, meta.check.offset, path)?;
        let dim = u64::from(footer.schema.dim);
        let metadata = footer.metadata;
        let places = Places::new(&metadata, &meta, is_cold);
        let shared = Arc::new(CheckedFile::new(path, blocks, places));
        check_groups(&metadata, &meta).map_err(&damaged)?;
        let mut vectors = Vec::new();
        for (group, start) in metadata.row_groups().iter().zip(&meta.vectors) {
            let len = group.num_rows().cast_unsigned() * dim * 4;
            let (at, chunk_len) = group.column(group.num_columns() - 1).byte_range();
            if start.checked_add(len) != Some(at + chunk_len) || !start.is_multiple_of(4) {
                return Err(damaged(format!("vectors at {start} do not end their column chunk")));
            }
            vectors.push(shared.floats(*start, len).ok_or_else(|| damaged("vectors lie outside".into()))?);
        }
        let mut int_ids = Vec::new();
        if footer.schema.id_kind == IdKind::Int {
            for group in metadata.row_groups() {
                let (at, chunk_len) = group.column(ID).byte_range();
                let start = (at + chunk_len).checked_sub(group.num_rows().cast_unsigned() * 8);
                int_ids.push(start.ok_or_else(|| damaged("the id column is too short".into()))?);
            }
        }
        let table = Table::new(metadata, footer.schema.id_kind == IdKind::Text)
            .map_err(|e| damaged(format!("the footer does not read as a table: {e}")))?;
        let codes =
            meta.codes.map_or(0..0, |p| p.offset + HEAD_LEN as u64..p.offset + p.len - CRC_LEN as u64);
        let index_checked = AtomicBool::new(false);
        let (name, schema) = (footer.name, footer.schema);
        // Of a block its checksum and a bit; of a row group where its vectors and ids lie, here and in the manifest's entry.
        let beside = 5 * (meta.size / BLOCK_LEN as u64) + 96 * vectors.len() as u64;
        let own_bytes = table.metadata().memory_size() as u64 + beside;
        Ok(Self {
            shared,
            meta,
            name,
            schema,
            table,
            vectors,
            int_ids,
            codes,
            index_checked,
            own_bytes,
            decoded: Decoded::default(),
            pages: OnceLock::new(),
        })
    }

    /// The manifest's entry.
    pub(crate) fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Rows of every row group but the last.
    pub(crate) fn group_rows(&self) -> u32 {
        1 << self.meta.group_bits
    }

    /// Rows, dead ones included.
    pub(crate) fn rows(&self) -> u32 {
        self.meta.rows
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The schema it was written under.
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Bytes checked so far.
    pub(crate) fn touched(&self) -> Touched {
        let (verified_bytes, touched_bytes) = self.shared.blocks.counters();
        Touched { verified_bytes, touched_bytes }
    }

    /// The vector of `row`, where it lies: a few nanoseconds beside the load once its block was touched.
    #[inline]
    pub(crate) fn vector(&self, row: u32) -> Result<&[f32]> {
        self.check_row(row)?;
        self.group_vectors(row >> self.meta.group_bits, row..row + 1)
    }

    /// The vectors of `rows`, one slice of `len * dim` numbers a row group. Ask for a few thousand rows at a time:
    /// the whole range is checked before the first slice is given.
    pub(crate) fn vectors(&self, rows: Range<u32>) -> Result<Vec<&[f32]>> {
        let bits = self.meta.group_bits;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.check_row(rows.end - 1)?;
        let groups = rows.start >> bits..=(rows.end - 1) >> bits;
        groups
            .map(|group| {
                let (start, end) = (group << bits, (u64::from(group) + 1) << bits);
                let end = u32::try_from(end).unwrap_or(u32::MAX).min(rows.end);
                self.group_vectors(group, start.max(rows.start)..end)
            })
            .collect()
    }

    /// The vectors of `rows`, all in `group`.
    #[inline]
    fn group_vectors(&self, group: u32, rows: Range<u32>) -> Result<&[f32]> {
        let mask = (1 << self.meta.group_bits) - 1;
        let dim = usize::from(self.schema.dim);
        let first = (rows.start & mask) as usize * dim;
        let len = (rows.end - rows.start) as usize * dim;
        let start = self.meta.vectors[group as usize] + first as u64 * 4;
        self.shared.check(start..start + len as u64 * 4)?;
        Ok(&self.vectors[group as usize][first..first + len])
    }

    /// First byte of the integer ids of a row group.
    pub(super) fn int_id_start(&self, group: u32) -> u64 {
        self.int_ids[group as usize]
    }

    /// The integer id of `row`, read where it lies.
    pub(super) fn int_id(&self, row: u32) -> Result<i64> {
        let bytes = self.int_id_at(row)?;
        Ok(i64::from_le_bytes(bytes.try_into().expect("eight bytes were asked for")))
    }

    pub(super) fn int_id_at(&self, row: u32) -> Result<&[u8]> {
        let start = self.int_ids[(row >> self.meta.group_bits) as usize];
        let at = start + u64::from(row & ((1 << self.meta.group_bits) - 1)) * 8;
        self.shared.get(at..at + 8)
    }

    /// How many row groups have integer ids.
    pub(super) fn int_groups(&self) -> u32 {
        u32::try_from(self.int_ids.len()).expect("groups are fewer than rows")
    }

    /// The rows of a group.
    pub(super) fn int_rows_of(&self, group: u32) -> Range<u32> {
        let first = group << self.meta.group_bits;
        first..first + (self.rows() - first).min(1 << self.meta.group_bits)
    }

    /// The integer ids of all rows of a group, read where they lie.
    pub(super) fn int_ids_of(&self, group: u32) -> Result<&[[u8; 8]]> {
        let (rows, start) = (self.int_rows_of(group), self.int_ids[group as usize]);
        let bytes = self.shared.get(start..start + u64::from(rows.end - rows.start) * 8)?;
        Ok(bytes.as_chunks().0)
    }

    /// Refuses a row number past the end: our own mistake, said aloud instead of a panic in a search.
    #[inline]
    pub(super) fn check_row(&self, row: u32) -> Result<()> {
        if row < self.rows() { Ok(()) } else { Err(self.no_such_row(row)) }
    }

    #[cold]
    fn no_such_row(&self, row: u32) -> Error {
        let message = format!("row {row} of a segment of {} rows", self.rows());
        Error::new(ErrorKind::Internal, "AKI-0510", message).at(self.path(), None)
    }

    /// Reads every byte again and compares it with every checksum; what earlier reads found right does not count.
    ///
    /// # Errors
    /// The first damage; [`Segment::damages`] lists all.
    pub(crate) fn verify(&self) -> Result<()> {
        verify::verify(&self.shared, &self.meta)?.into_result(self.path())
    }

    /// As [`Segment::verify`], listing every damaged block with what lies in it. `Err` only when the disk fails.
    pub(crate) fn damages(&self) -> Result<verify::VerifyReport> {
        verify::verify(&self.shared, &self.meta)
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("path", &self.shared.path).field("rows", &self.meta.rows).finish()
    }
}

/// Where what is read of every object begins: the head of the vector index, or the tail.
pub(super) fn tail_start(meta: &SegmentMeta) -> u64 {
    meta.head.map_or(meta.check.offset, |head| head.offset.min(meta.check.offset))
}

fn open_file(fs: &dyn Fs, path: &Path) -> Result<Origin> {
    fs.open(path, Access::Read)
        .map(Origin::Local)
        .map_err(|e| Error::io("AKI-0501", path, "opening a segment", &e))
}

fn file_len(file: &Origin, path: &Path) -> Result<u64> {
    file.len().map_err(|e| Error::io("AKI-0502", path, "asking for the size of a segment", &e))
}

fn read_tail(file: &Origin, path: &Path, check: Place, size: u64) -> Result<Bytes> {
    let len = size.checked_sub(check.offset).and_then(|len| usize::try_from(len).ok());
    let len = len.filter(|len| *len as u64 >= check.len).ok_or_else(|| {
        Error::corrupt(
            "AKI-0503",
            path,
            size,
            "the check table that the manifest names lies outside the file",
        )
    })?;
    let mut tail = vec![0; len];
    file.read_exact_at(&mut tail, check.offset).map_err(|e| match e.downcast::<Error>() {
        Ok(error) => error.about("reading the tail of a segment"),
        Err(e) => {
            Error::io("AKI-0502", path, "reading the tail of a segment", &e).at(path, Some(check.offset))
        }
    })?;
    Ok(tail.into())
}

/// The tail of the segment at `path` and its size, found without a manifest.
pub(super) fn find_tail(fs: &dyn Fs, path: &Path) -> Result<(Bytes, Place, u64)> {
    let file = open_file(fs, path)?;
    let size = file_len(&file, path)?;
    let foreign = |what: &str| {
        Error::corrupt("AKI-0509", path, size.saturating_sub(8), format!("not a segment of AkiDB: {what}"))
    };
    let read = |offset: u64, len: u64| -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| foreign("the footer is too long"))?];
        file.read_exact_at(&mut bytes, offset)
            .map_err(|e| Error::io("AKI-0502", path, "reading the footer", &e).at(path, Some(offset)))?;
        Ok(bytes)
    };
    if size < 12 {
        return Err(foreign("it is too short for a Parquet file"));
    }
    let end = read(size - 8, 8)?;
    if end[4..] != *b"PAR1" {
        return Err(foreign("it does not end in PAR1"));
    }
    let footer_len = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]])) + 8;
    if footer_len > size {
        return Err(foreign("its footer is longer than the file"));
    }
    let footer = read(size - footer_len, footer_len)?;
    let check = footer::find_check(&footer, size)
        .ok_or_else(|| foreign("its footer has no check table (a plain Parquet file, or a damaged one)"))?;
    let tail = read_tail(&file, path, check, size)?;
    Ok((tail, check, size))
}

/// The file must be the one the manifest names, not merely a sound one.
fn check_same(footer: &Footer, meta: &SegmentMeta, schema: &Schema, path: &Path) -> Result<()> {
    let differs = |what: String| {
        Err(Error::corrupt(
            "AKI-0507",
            path,
            meta.check.offset,
            format!("not the segment the manifest names: {what}"),
        )
        .help_is(verify::mending(path)))
    };
    if footer.name.to_string() != meta.file {
        return differs(format!("it calls itself {}, the manifest {}", footer.name, meta.file));
    }
    if footer.tail_crc32 != meta.tail_crc32 {
        let (found, named) = (footer.tail_crc32, meta.tail_crc32);
        return differs(format!("its tail has checksum {found:08x}, the manifest says {named:08x}"));
    }
    let rows = &footer.rows;
    let same = (rows.rows, rows.group_bits, rows.min_lsn, rows.max_lsn, &rows.ids, &rows.vectors)
        == (meta.rows, meta.group_bits, meta.min_lsn, meta.max_lsn, &meta.ids, &meta.vectors);
    if !same || footer.schema.version != meta.schema {
        return differs("rows, ids, LSNs, schema version or vectors differ".to_string());
    }
    let sections = [(Kind::Ids, meta.id_index), (Kind::Codes, meta.codes), (Kind::Head, meta.head)];
    for (kind, place) in sections {
        if place_of(&footer.sections, kind) != place {
            return differs(format!("section {} lies elsewhere", kind.name()));
        }
        if place.is_some_and(|place| !is_section(place, meta.check.offset)) {
            return differs(format!("section {} does not lie before the check table", kind.name()));
        }
    }
    if meta.head.is_some() != meta.codes.is_some() {
        return differs("half of a vector index".to_string());
    }
    if meta.id_index.is_some_and(|ids| ids.len != id_index::section_len(meta.rows)) {
        return differs("the id index has another number of rows".to_string());
    }
    let of_file = &footer.schema;
    if (of_file.dim, of_file.id_kind) != (schema.dim, schema.id_kind) {
        return differs(format!("dimension {} and {:?} ids", of_file.dim, of_file.id_kind));
    }
    for field in &of_file.fields {
        if schema.fields.iter().any(|f| f.id == field.id && f.field_type != field.field_type) {
            return differs(format!("field {} is a {} there", field.name, field.field_type.name()));
        }
    }
    Ok(())
}

/// Whether a section can lie there, in a file whose check table begins at `check`.
fn is_section(place: Place, check: u64) -> bool {
    let end = place.offset.checked_add(place.len);
    let before_check = end.is_some_and(|end| end <= check);
    before_check && place.len >= (HEAD_LEN + CRC_LEN) as u64 && place.offset.is_multiple_of(ALIGN)
}

/// Row groups must be as the entry's `group_bits` says, or row numbers would lead elsewhere.
fn check_groups(
    metadata: &parquet::file::metadata::ParquetMetaData,
    meta: &SegmentMeta,
) -> Result<(), String> {
    let full = 1_i64 << meta.group_bits;
    let groups = metadata.row_groups();
    let total: i64 = groups.iter().map(|g| g.num_rows()).sum();
    let (last, before) = groups.split_last().ok_or("the file has no row groups")?;
    let regular = before.iter().all(|g| g.num_rows() == full) && (1..=full).contains(&last.num_rows());
    if total != i64::from(meta.rows) || !regular || groups.len() != meta.vectors.len() {
        return Err(format!("row groups do not add up to {} rows in groups of {full}", meta.rows));
    }
    Ok(())
}
