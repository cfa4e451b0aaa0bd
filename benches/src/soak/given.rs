//! Given vectors as files that any of them can be read from alone: held in memory, they would be most of what the writer
//! takes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::SoakError;
use super::rows::Given;
use crate::search::{SearchError, SearchSource};

/// Queries that are asked for in turn.
const QUERIES: usize = 1_000;

/// Writes the source's vectors into `home`; their dimension.
pub(super) fn write_given(source: &SearchSource, home: &Path) -> Result<(u16, Given), SoakError> {
    let (base, queries) = (home.join("base.f32"), home.join("queries.f32"));
    let mut dim = None;
    let base_rows = write(&base, &mut dim, source.read(source.rows())?.map(|row| Ok(row?.vector)))?;
    let query_rows = write(&queries, &mut dim, source.queries(QUERIES)?.into_iter().map(Ok))?;
    match dim.and_then(|dim| u16::try_from(dim).ok()) {
        Some(dim) if base_rows > 0 && query_rows > 0 => {
            Ok((dim, Given { base, base_rows, queries, query_rows }))
        }
        _ => Err(SearchError::Plan("the source lacks rows or queries".to_owned()).into()),
    }
}

fn write(
    path: &Path,
    dim: &mut Option<usize>,
    vectors: impl Iterator<Item = Result<Vec<f32>, SearchError>>,
) -> Result<u64, SoakError> {
    let failed = |cause: io::Error| SoakError::file(path, "writing", cause);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    let mut rows = 0;
    for vector in vectors {
        let vector = vector?;
        if *dim.get_or_insert(vector.len()) != vector.len() {
            return Err(
                SearchError::Plan("vectors of the source differ in their dimension".to_owned()).into()
            );
        }
        for number in vector {
            file.write_all(&number.to_ne_bytes()).map_err(failed)?;
        }
        rows += 1;
    }
    file.flush().map_err(failed)?;
    Ok(rows)
}
