//! Column chunks of exactly one PLAIN, uncompressed v1 page, written by us so that values can be read where they lie.
//!
//! ```text
//! thrift compact PageHeader
//!   15 00         type = DATA_PAGE          15 <v>  uncompressed_page_size    15 <v>  compressed_page_size (the same)
//!   15 <v>        crc = crc32 of all that follows the header
//!   1c            data_page_header {
//!     15 <v>        num_values                15 00  encoding = PLAIN
//!     15 06         definition levels = RLE   15 06  repetition levels = RLE
//!   00 00         }
//! vectors only: u32 length, repetition levels; u32 length, definition levels
//! values, little endian, without gaps
//! ```
//! `v` is a zigzag varint. Levels of vectors: repetition 0 for the first number of a row and 1 for the others,
//! definition 1 throughout. With D >= 8 a row's repetition levels are one bit-packed group of eight (`03 fe`) and
//! one run of D - 8 ones; below, all levels are one bit-packed run.

use std::io::{self, Read};
use std::sync::Arc;

use arrow::datatypes::ToByteSlice;
use bytes::Bytes;
use crc32fast::Hasher;
use parquet::basic::{Encoding, PageType};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnDescPtr;

use crate::id::Id;
use crate::lsn::Lsn;
use crate::row::Row;

// Numbers lie in the file as they lie in memory; both are little endian.
const _: () = assert!(cfg!(target_endian = "little"), "segments are little endian");

/// Bytes of values converted at a time while a chunk is streamed.
const STREAM_BYTES: usize = 64 * 1024;

/// A column chunk of one page, ready to be appended to a row group.
pub(super) struct PlainPage<'a> {
    /// Header and levels.
    prefix: Bytes,
    values: Values<'a>,
    rows: usize,
    num_values: usize,
}

/// Where the values come from.
#[derive(Clone)]
enum Values<'a> {
    Vectors(&'a [(Lsn, Arc<Row>)]),
    Ints(&'a [(Lsn, Arc<Row>)]),
}

impl<'a> PlainPage<'a> {
    /// The vectors of `rows`, each of `dim` numbers.
    pub(super) fn vectors(rows: &'a [(Lsn, Arc<Row>)], dim: u16) -> Self {
        let levels = vector_levels(rows.len(), usize::from(dim));
        Self::new(levels, Values::Vectors(rows), rows.len(), rows.len() * usize::from(dim), 4)
    }

    /// The ids of `rows`, which are all integers.
    pub(super) fn int_ids(rows: &'a [(Lsn, Arc<Row>)]) -> Self {
        Self::new(Vec::new(), Values::Ints(rows), rows.len(), rows.len(), 8)
    }

    fn new(levels: Vec<u8>, values: Values<'a>, rows: usize, num_values: usize, width: usize) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&levels);
        let mut stream = PageRead::new(Bytes::new(), values.clone());
        while stream.refill() {
            hasher.update(&stream.buffer);
        }
        let mut prefix = page_header(levels.len() + num_values * width, hasher.finalize(), num_values);
        prefix.extend_from_slice(&levels);
        Self { prefix: prefix.into(), values, rows, num_values }
    }

    /// Bytes before the first value.
    pub(super) fn values_offset(&self) -> u64 {
        self.prefix.len() as u64
    }

    /// Bytes of the whole chunk.
    pub(super) fn len(&self) -> u64 {
        let width = match self.values {
            Values::Vectors(_) => 4,
            Values::Ints(_) => 8,
        };
        (self.prefix.len() + self.num_values * width) as u64
    }

    /// What the footer says of this chunk, with offsets counted from its first byte.
    pub(super) fn close_result(&self, column: ColumnDescPtr) -> ParquetResult<ColumnCloseResult> {
        let len = self.len();
        let signed_len = len.cast_signed();
        let metadata = ColumnChunkMetaData::builder(column)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
            .set_page_encoding_stats(vec![PageEncodingStats {
                page_type: PageType::DATA_PAGE,
                encoding: Encoding::PLAIN,
                count: 1,
            }])
            .set_num_values(self.num_values as i64)
            .set_total_compressed_size(signed_len)
            .set_total_uncompressed_size(signed_len)
            .set_data_page_offset(0)
            .build()?;
        let mut index = OffsetIndexBuilder::new();
        index.append_row_count(self.rows as i64);
        index.append_offset_and_size(0, i32::try_from(len)?);
        Ok(ColumnCloseResult {
            bytes_written: len,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(index.build()),
        })
    }
}

impl Length for PlainPage<'_> {
    fn len(&self) -> u64 {
        self.len()
    }
}

impl<'a> ChunkReader for PlainPage<'a> {
    type T = PageRead<'a>;

    fn get_read(&self, start: u64) -> ParquetResult<PageRead<'a>> {
        assert_eq!(start, 0, "a page is appended from its beginning");
        Ok(PageRead::new(self.prefix.clone(), self.values.clone()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let mut out = vec![0; length];
        let mut read = self.get_read(0)?;
        io::copy(&mut (&mut read).take(start), &mut io::sink())?;
        read.read_exact(&mut out)?;
        Ok(out.into())
    }
}

/// A page's bytes in order: prefix, then values converted a few rows at a time.
pub(super) struct PageRead<'a> {
    buffer: Vec<u8>,
    taken: usize,
    prefix: Bytes,
    values: Values<'a>,
}

impl<'a> PageRead<'a> {
    fn new(prefix: Bytes, values: Values<'a>) -> Self {
        Self { buffer: Vec::new(), taken: 0, prefix, values }
    }

    /// Loads the next values into an empty buffer; false when there are none.
    fn refill(&mut self) -> bool {
        self.buffer.clear();
        self.taken = 0;
        if !self.prefix.is_empty() {
            self.buffer.extend_from_slice(&std::mem::take(&mut self.prefix));
            return true;
        }
        let (Values::Vectors(rows) | Values::Ints(rows)) = &mut self.values;
        let rows = std::mem::take(rows);
        let row_bytes = match (&self.values, rows.first()) {
            (_, None) => return false,
            (Values::Vectors(_), Some((_, row))) => (row.vector.len() * 4).max(1),
            (Values::Ints(_), Some(_)) => 8,
        };
        let (now, later) = rows.split_at((STREAM_BYTES / row_bytes).clamp(1, rows.len()));
        match &mut self.values {
            Values::Vectors(rest) => {
                for (_, row) in now {
                    self.buffer.extend_from_slice(row.vector.to_byte_slice());
                }
                *rest = later;
            }
            Values::Ints(rest) => {
                for (_, row) in now {
                    self.buffer.extend_from_slice(&int_of(&row.id).to_le_bytes());
                }
                *rest = later;
            }
        }
        true
    }
}

impl Read for PageRead<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() && !self.refill() {
            return Ok(0);
        }
        let n = out.len().min(self.buffer.len() - self.taken);
        out[..n].copy_from_slice(&self.buffer[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

/// The number in an integer id; the writer has refused text ids by then.
fn int_of(id: &Id) -> i64 {
    match id {
        Id::Int(n) => *n,
        Id::Text(_) => 0,
    }
}

fn page_header(page_len: usize, crc: u32, num_values: usize) -> Vec<u8> {
    let mut out = vec![0x15, 0x00];
    for value in [page_len as u64, page_len as u64] {
        out.push(0x15);
        put_varint(&mut out, value << 1);
    }
    out.push(0x15);
    let crc = crc.cast_signed();
    put_varint(&mut out, u64::from(((crc << 1) ^ (crc >> 31)).cast_unsigned()));
    out.extend_from_slice(&[0x1c, 0x15]);
    put_varint(&mut out, (num_values as u64) << 1);
    out.extend_from_slice(&[0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x00, 0x00]);
    out
}

/// Both level runs of `rows` vectors of `dim` numbers, each behind its length.
fn vector_levels(rows: usize, dim: usize) -> Vec<u8> {
    let mut repetition = Vec::new();
    if dim >= 8 {
        let mut row = vec![0x03, 0xfe];
        if dim > 8 {
            put_varint(&mut row, (dim as u64 - 8) << 1);
            row.push(0x01);
        }
        repetition = row.repeat(rows);
    } else {
        let groups = (rows * dim).div_ceil(8);
        put_varint(&mut repetition, (groups as u64) << 1 | 1);
        for group in 0..groups {
            let bits = (0..8).map(|bit| u8::from((group * 8 + bit) % dim != 0) << bit);
            repetition.push(bits.sum());
        }
    }
    let mut definition = Vec::new();
    put_varint(&mut definition, ((rows * dim) as u64) << 1);
    definition.push(0x01);
    let mut out = Vec::with_capacity(repetition.len() + definition.len() + 8);
    for levels in [repetition, definition] {
        let len = u32::try_from(levels.len()).expect("a row group has at most 65,536 rows of 4,096 numbers");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&levels);
    }
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_as_drawn() {
        assert_eq!(vector_levels(2, 10), [8, 0, 0, 0, 3, 0xfe, 4, 1, 3, 0xfe, 4, 1, 2, 0, 0, 0, 40, 1]);
        assert_eq!(vector_levels(1, 8), [2, 0, 0, 0, 3, 0xfe, 2, 0, 0, 0, 16, 1]);
        // Rows of three, low bits first: 0 1 1 0 1 1 0 1 | 1, and a pattern that goes on to the end of its byte.
        assert_eq!(vector_levels(3, 3)[..7], [3, 0, 0, 0, 5, 0b1011_0110, 0b0110_1101]);
    }

    #[test]
    fn a_varint_has_seven_bits_a_byte_low_ones_first() {
        let mut out = Vec::new();
        put_varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
    }
}
