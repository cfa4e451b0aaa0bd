//! Checked bytes as the Parquet library reads them, and its errors as ours.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelection,
};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::arrow_schema::{ID, LSN};
use super::checked_file::CheckedFile;
use super::pages::{Groups, Packed};
use crate::error::{Error, Result};

/// Bytes that match their checksums and still do not decode: written wrong, or a format we do not know.
pub(super) fn undecodable(file: &CheckedFile, what: &str) -> Error {
    let message = format!("a segment matches its checksums but does not decode: {what}");
    Error::corrupt("AKI-0508", &file.path, 0, message)
}

/// How pages lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Zstd,
    Plain,
    Other,
}

/// The columns of a file.
pub(super) struct Table {
    pub(super) arrow: ArrowReaderMetadata,
    is_packed: Arc<[bool]>,
    /// All columns but the vector and the ids that lie in place, as rows are read one after the other.
    rows: FieldLevels,
}

impl Table {
    /// `reads_ids` says whether ids are among what is read of rows.
    pub(super) fn new(metadata: ParquetMetaData, reads_ids: bool) -> ParquetResult<Self> {
        let Packed { metadata, is_packed } = Packed::of(metadata)?;
        let arrow = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new())?;
        let last = arrow.schema().fields().len().saturating_sub(1);
        let first = if reads_ids { ID } else { LSN };
        let rows = choose(&arrow, &(first..last).collect::<Vec<_>>())?;
        Ok(Self { arrow, is_packed, rows })
    }

    pub(super) fn metadata(&self) -> &ParquetMetaData {
        self.arrow.metadata()
    }

    /// All columns but the vector and ids that lie in place.
    pub(super) fn row_columns(&self) -> &FieldLevels {
        &self.rows
    }

    /// How the pages of a column chunk are packed.
    pub(super) fn packing(&self, group: usize, column: usize) -> Packing {
        let chunk = self.metadata().row_group(group);
        match self.is_packed.get(group * chunk.num_columns() + column) {
            Some(true) => Packing::Zstd,
            _ if chunk.column(column).compression() == Compression::UNCOMPRESSED => Packing::Plain,
            _ => Packing::Other,
        }
    }

    /// Columns by their positions in the file.
    pub(super) fn columns(&self, positions: &[usize]) -> ParquetResult<FieldLevels> {
        choose(&self.arrow, positions)
    }
}

fn choose(arrow: &ArrowReaderMetadata, positions: &[usize]) -> ParquetResult<FieldLevels> {
    let mask = ProjectionMask::roots(arrow.parquet_schema(), positions.iter().copied());
    parquet_to_arrow_field_levels(arrow.parquet_schema(), mask, Some(arrow.schema().fields()))
}

/// A Parquet reader that gives our errors.
pub(super) struct BatchReader {
    batches: ParquetRecordBatchReader,
    failed: Failure,
    file: Arc<CheckedFile>,
}

impl BatchReader {
    /// A reader of what `columns` chose, of `groups`, of the rows `selection` takes or of all.
    pub(super) fn new(
        file: &Arc<CheckedFile>,
        table: &Table,
        columns: &FieldLevels,
        groups: Vec<usize>,
        selection: Option<RowSelection>,
        batch_rows: usize,
    ) -> Result<Self> {
        let source = Arc::new(Source { file: Arc::clone(file), failed: Arc::default() });
        let failed = Arc::clone(&source.failed);
        let groups = Groups { source, metadata: table.arrow.metadata(), is_packed: &table.is_packed, groups };
        match ParquetRecordBatchReader::try_new_with_row_groups(
            columns,
            &groups,
            batch_rows.max(1),
            selection,
        ) {
            Ok(batches) => Ok(Self { batches, failed, file: Arc::clone(file) }),
            Err(e) => Err(take_failure(&failed).unwrap_or_else(|| undecodable(file, &e.to_string()))),
        }
    }

    /// The next rows; `None` after the last.
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        self.batches.next().transpose().map_err(|e: ArrowError| {
            take_failure(&self.failed).unwrap_or_else(|| undecodable(&self.file, &e.to_string()))
        })
    }
}

/// The error behind the text that Parquet makes of it.
type Failure = Arc<Mutex<Option<Error>>>;

fn take_failure(failed: &Failure) -> Option<Error> {
    failed.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The checked bytes as Parquet wants them.
pub(super) struct Source {
    file: Arc<CheckedFile>,
    failed: Failure,
}

impl Source {
    fn note(&self, error: Error) -> ParquetError {
        let text = error.to_string();
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        ParquetError::General(text)
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.file.blocks.covered()
    }
}

impl ChunkReader for Source {
    type T = SourceRead;

    fn get_read(&self, start: u64) -> ParquetResult<SourceRead> {
        let failed = Arc::clone(&self.failed);
        Ok(SourceRead { source: Self { file: Arc::clone(&self.file), failed }, position: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let range = self.file.check(start..start + length as u64).map_err(|e| self.note(e))?;
        Ok(self.file.blocks.unchecked().slice(range))
    }
}

/// Bytes from a position on, checked as they are read.
pub(super) struct SourceRead {
    source: Source,
    position: u64,
}

impl Read for SourceRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.source.file.blocks.covered().saturating_sub(self.position);
        let n = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = self.source.get_bytes(self.position, n).map_err(io::Error::other)?;
        out[..n].copy_from_slice(&bytes);
        self.position += n as u64;
        Ok(n)
    }
}
