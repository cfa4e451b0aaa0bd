//! The files a search bench works on: a matrix of rows, one of queries, and a payload line for each row.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use akidb::Payload;

use super::SearchError;
use super::fvecs::{Fvecs, read_dim};
use crate::npy::read_npy;

/// Rows held out as queries where there is no file of them; a tenth of a small set.
const HELD_OUT_ROWS: u64 = 1_000;

/// A row to be written, without its id: the bench numbers rows.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRow {
    /// Vector.
    pub vector: Vec<f32>,
    /// Everything else; keys that every row has of itself are left out.
    pub payload: Payload,
}

/// Rows as they are read; nothing follows an error.
pub type SourceRows = Box<dyn Iterator<Item = Result<SourceRow, SearchError>>>;

/// A file of rows that can be read more than once.
pub trait RowsFile {
    /// Rows in it.
    fn rows(&self) -> u64;

    /// Reads it from its start.
    ///
    /// # Errors
    /// If it cannot be opened; a bad row is an item.
    fn read(&self) -> Result<SourceRows, SearchError>;
}

/// Opens a Parquet file for [`SearchSource::find`].
pub type OpenParquet<'a> = &'a dyn Fn(&Path) -> Result<Box<dyn RowsFile>, SearchError>;

/// Rows to write and vectors to ask for.
pub struct SearchSource {
    base: Box<dyn RowsFile>,
    queries: Option<PathBuf>,
}

impl std::fmt::Debug for SearchSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchSource")
            .field("rows", &self.base.rows())
            .field("queries", &self.queries)
            .finish()
    }
}

impl SearchSource {
    /// Looks into a directory: `base*.npy`, `*base*.fvecs` or `*.parquet` are the rows; `queries*.npy` or
    /// `*quer*.fvecs` the queries, else the last rows are held out; `payload.jsonl` or `payload.jsonl.zst` has a line
    /// for each row.
    ///
    /// # Errors
    /// `Input` where there is none or more than one of them, or a file is no good.
    pub fn find(dir: &Path, parquet: OpenParquet<'_>) -> Result<Self, SearchError> {
        let names = names(dir)?;
        let is_base = |name: &str| {
            (name.starts_with("base") && name.ends_with(".npy"))
                || (name.contains("base") && name.ends_with(".fvecs"))
                || name.ends_with(".parquet")
        };
        let is_queries = |name: &str| {
            (name.starts_with("queries") && name.ends_with(".npy"))
                || (name.contains("quer") && name.ends_with(".fvecs"))
        };
        let wanted = "base*.npy, *base*.fvecs or *.parquet";
        let Some(base) = only(dir, &names, is_base, wanted)? else {
            return Err(SearchError::input(dir, format!("there is no {wanted} in it")));
        };
        let queries = only(dir, &names, is_queries, "queries*.npy or *quer*.fvecs")?;
        let payload =
            only(dir, &names, |n| n == "payload.jsonl" || n == "payload.jsonl.zst", "payload.jsonl")?;
        let base: Box<dyn RowsFile> = if base.extension().is_some_and(|ending| ending == "parquet") {
            parquet(&base)?
        } else {
            Box::new(MatrixFile { rows: matrix_rows(&base)?, path: base, payload })
        };
        Ok(Self { base, queries })
    }

    /// Rows that can be written: all of them, or those not held out.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.base.rows() - self.held_out()
    }

    /// The first `rows` rows.
    ///
    /// # Errors
    /// If the file cannot be opened; a bad row is an item.
    pub fn read(
        &self,
        rows: u64,
    ) -> Result<impl Iterator<Item = Result<SourceRow, SearchError>>, SearchError> {
        Ok(self.base.read()?.take(usize::try_from(rows).unwrap_or(usize::MAX)))
    }

    /// The first `count` queries.
    ///
    /// # Errors
    /// If their file cannot be read.
    pub fn queries(&self, count: usize) -> Result<Vec<Vec<f32>>, SearchError> {
        if let Some(path) = &self.queries {
            return matrix(path)?.take(count).collect();
        }
        let mut rows = self.base.read()?;
        for row in rows.by_ref().take(usize::try_from(self.rows()).unwrap_or(usize::MAX)) {
            row?;
        }
        rows.take(count).map(|row| row.map(|row| row.vector)).collect()
    }

    fn held_out(&self) -> u64 {
        match &self.queries {
            Some(_) => 0,
            None => HELD_OUT_ROWS.min(self.base.rows() / 10),
        }
    }
}

fn names(dir: &Path) -> Result<Vec<String>, SearchError> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    };
    list().map_err(|cause| SearchError::file(dir, "listing the directory", cause))
}

/// The one file that fits, if there is one.
fn only(
    dir: &Path,
    names: &[String],
    fits: impl Fn(&str) -> bool,
    wanted: &str,
) -> Result<Option<PathBuf>, SearchError> {
    let found: Vec<&String> = names.iter().filter(|name| fits(name)).collect();
    match found[..] {
        [] => Ok(None),
        [name] => Ok(Some(dir.join(name))),
        [first, second, ..] => {
            let reason = format!("{first} and {second} both are {wanted}; leave one there");
            Err(SearchError::input(dir, reason))
        }
    }
}

/// A matrix, and perhaps a file with a payload for each of its rows.
struct MatrixFile {
    path: PathBuf,
    payload: Option<PathBuf>,
    rows: u64,
}

impl RowsFile for MatrixFile {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn read(&self) -> Result<SourceRows, SearchError> {
        let vectors = matrix(&self.path)?;
        let Some(path) = self.payload.clone() else {
            let row = |vector| SourceRow { vector, payload: Payload::new() };
            return Ok(Box::new(vectors.map(move |vector| vector.map(row))));
        };
        let mut lines = lines(&path)?;
        let mut number = 0_u64;
        Ok(Box::new(vectors.map(move |vector| {
            number += 1;
            let payload = match lines.next() {
                Some(line) => payload(&path, number, line)?,
                None => {
                    return Err(SearchError::input(
                        &path,
                        format!("it has no line {number}, but the row is there"),
                    ));
                }
            };
            Ok(SourceRow { vector: vector?, payload })
        })))
    }
}

/// A line without what every row has of itself.
fn payload(path: &Path, number: u64, line: io::Result<String>) -> Result<Payload, SearchError> {
    let line = line.map_err(|cause| SearchError::file(path, "reading", cause))?;
    let mut payload: Payload = serde_json::from_str(&line)
        .map_err(|cause| SearchError::input(path, format!("line {number} is no JSON object: {cause}")))?;
    payload.retain(|name, _| !akidb::RESERVED_NAMES.contains(&name.as_str()));
    Ok(payload)
}

fn lines(path: &Path) -> Result<impl Iterator<Item = io::Result<String>> + use<>, SearchError> {
    let open = || -> io::Result<Box<dyn Read>> {
        let file = File::open(path)?;
        Ok(match path.extension() {
            Some(ending) if ending == "zst" => Box::new(zstd::stream::read::Decoder::new(file)?),
            _ => Box::new(file),
        })
    };
    let reader = open().map_err(|cause| SearchError::file(path, "opening", cause))?;
    Ok(BufReader::with_capacity(256 << 10, reader).lines())
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "npy")
}

fn opened(path: &Path) -> Result<BufReader<File>, SearchError> {
    let file = File::open(path).map_err(|cause| SearchError::file(path, "opening", cause))?;
    Ok(BufReader::with_capacity(256 << 10, file))
}

fn matrix_rows(path: &Path) -> Result<u64, SearchError> {
    let mut reader = opened(path)?;
    if is_npy(path) {
        return Ok(read_npy(reader).map_err(|error| SearchError::input(path, error.to_string()))?.rows());
    }
    let bytes =
        reader.get_ref().metadata().map_err(|cause| SearchError::file(path, "looking at", cause))?.len();
    let dim = fvecs_dim(path, &mut reader)?;
    Ok(bytes / (4 + dim as u64 * 4))
}

fn fvecs_dim(path: &Path, reader: &mut impl Read) -> Result<usize, SearchError> {
    let dim = read_dim(reader).map_err(|error| SearchError::input(path, error.to_string()))?;
    dim.ok_or_else(|| SearchError::input(path, "it is empty"))
}

type Vectors = Box<dyn Iterator<Item = Result<Vec<f32>, SearchError>>>;

fn matrix(path: &Path) -> Result<Vectors, SearchError> {
    let path = path.to_path_buf();
    if is_npy(&path) {
        let npy = read_npy(opened(&path)?).map_err(|error| SearchError::input(&path, error.to_string()))?;
        return Ok(Box::new(
            npy.map(move |row| row.map_err(|error| SearchError::input(&path, error.to_string()))),
        ));
    }
    let dim = fvecs_dim(&path, &mut opened(&path)?)?;
    let rows = Fvecs::new(opened(&path)?, dim);
    Ok(Box::new(rows.map(move |row| row.map_err(|error| SearchError::input(&path, error.to_string())))))
}
