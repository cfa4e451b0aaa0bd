//! Checked bytes as the Parquet library reads them, and its errors as ours.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use super::checked_file::CheckedFile;
use crate::error::{Error, Result};

/// Bytes that match their checksums and still do not decode: written wrong, or a format we do not know.
pub(super) fn undecodable(file: &CheckedFile, what: &str) -> Error {
    let message = format!("a segment matches its checksums but does not decode: {what}");
    Error::corrupt("AKI-0508", &file.path, 0, message)
}

/// A Parquet reader that gives our errors.
pub(super) struct BatchReader {
    batches: ParquetRecordBatchReader,
    failed: Failure,
    file: Arc<CheckedFile>,
}

impl BatchReader {
    /// A reader of `columns` (positions in the file) of `groups`, of the rows `selection` takes or of all.
    pub(super) fn new(
        file: &Arc<CheckedFile>,
        arrow: &ArrowReaderMetadata,
        columns: &[usize],
        groups: Vec<usize>,
        selection: Option<RowSelection>,
        batch_rows: usize,
    ) -> Result<Self> {
        let source = Source { file: Arc::clone(file), failed: Arc::default() };
        let failed = Arc::clone(&source.failed);
        let mask = ProjectionMask::roots(arrow.parquet_schema(), columns.iter().copied());
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source, arrow.clone())
            .with_projection(mask)
            .with_row_groups(groups)
            .with_batch_size(batch_rows.max(1));
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        match builder.build() {
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
struct Source {
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
struct SourceRead {
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
