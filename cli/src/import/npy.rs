//! A `.npy` matrix with, beside it, a JSONL file whose line i is the payload of row i.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use akidb::{Id, Payload};
use akidb_benches::{Npy, read_npy};

use super::jsonl::Lines;
use super::source::{Extent, InputRow, Source, bad_line, bad_row};
use crate::failure::{Failure, Result, Unit};

/// Rows of a matrix and its payload file.
pub(crate) struct Matrix {
    rows: Npy<BufReader<File>>,
    file: PathBuf,
    payload: Option<(Lines, PathBuf)>,
    id_field: String,
    next_row: u64,
    done: bool,
}

impl Matrix {
    /// Opens both files. Without a payload file the row numbers, from 0, are the ids.
    pub(crate) fn open(file: &Path, payload: Option<&Path>, id_field: &str) -> Result<Self> {
        let open = File::open(file).map_err(|cause| Failure::io(file, "opening", &cause))?;
        let rows = read_npy(BufReader::with_capacity(256 << 10, open));
        let rows = rows.map_err(|cause| Failure::input(file, cause.to_string()))?;
        let payload = payload.map(|path| Lines::open(path).map(|lines| (lines, path.to_path_buf())));
        let (file, id_field) = (file.to_path_buf(), id_field.to_owned());
        Ok(Self { rows, file, payload: payload.transpose()?, id_field, next_row: 0, done: false })
    }

    fn next_pair(&mut self) -> Result<Option<InputRow>> {
        let place = self.next_row + 1;
        let vector = self.rows.next().transpose();
        let vector = vector.map_err(|cause| bad_row(&self.file, place, cause.to_string()))?;
        let line = self.payload.as_mut().and_then(|(lines, _)| lines.next(&self.id_field)).transpose()?;
        let Some(vector) = vector else { return self.check_end(line.is_some()) };
        let (id, payload) = match (line, &self.payload) {
            (Some((number, line)), Some((_, path))) => {
                if line.vector.is_some() {
                    return Err(bad_line(path, number, "the payload line has a \"vector\" of its own"));
                }
                let missing = || bad_line(path, number, format!("the row has no \"{}\"", self.id_field));
                (line.gathered.id.ok_or_else(missing)?, line.gathered.payload)
            }
            (None, Some((_, path))) => {
                let reason = format!(
                    "the payload ends after {} lines, but the matrix has {} rows",
                    self.next_row,
                    self.rows.rows()
                );
                return Err(bad_line(path, place, reason));
            }
            (_, None) => (Id::from(self.next_row.cast_signed()), Payload::new()),
        };
        self.next_row = place;
        Ok(Some(InputRow { id, vector, payload, place }))
    }

    fn check_end(&self, more_payload: bool) -> Result<Option<InputRow>> {
        match &self.payload {
            Some((_, path)) if more_payload => {
                let reason = format!(
                    "the payload goes on after line {}, but the matrix has no more rows",
                    self.rows.rows()
                );
                Err(bad_line(path, self.next_row + 1, reason))
            }
            _ => Ok(None),
        }
    }
}

impl Iterator for Matrix {
    type Item = Result<InputRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let row = self.next_pair().transpose();
        self.done = !matches!(row, Some(Ok(_)));
        row
    }
}

impl Source for Matrix {
    fn extent(&self) -> Extent {
        Extent::Rows(self.rows.rows())
    }

    fn position(&self) -> u64 {
        self.next_row
    }

    fn unit(&self) -> Unit {
        Unit::Row
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// A `.npy` file of f32 rows.
    pub(crate) fn npy(rows: u32, dim: u32, values: &[f32]) -> Vec<u8> {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(118_u16.to_le_bytes());
        bytes.extend(format!("{header:<117}\n").bytes());
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        bytes
    }

    fn read(matrix: &[u8], payload: Option<&str>) -> Vec<Result<InputRow>> {
        let dir = tempfile::tempdir().unwrap();
        let (file, beside) = (dir.path().join("m.npy"), dir.path().join("p.jsonl"));
        fs::write(&file, matrix).unwrap();
        fs::write(&beside, payload.unwrap_or_default()).unwrap();
        Matrix::open(&file, payload.map(|_| beside.as_path()), "key").unwrap().collect()
    }

    #[test]
    fn row_i_takes_line_i() {
        let payload = "{\"key\":\"a\",\"n\":1}\n{\"key\":\"b\",\"n\":2}\n";
        let rows: Vec<_> = read(&npy(2, 2, &[1.0, 2.0, 3.0, 4.0]), Some(payload));
        let second = rows[1].as_ref().unwrap();
        assert_eq!((second.id.clone(), second.vector.as_slice()), (Id::from("b"), &[3.0, 4.0][..]));
        assert_eq!(second.payload["n"], 2);
        let rows = read(&npy(2, 2, &[1.0, 2.0, 3.0, 4.0]), None);
        assert_eq!(rows[1].as_ref().unwrap().id, Id::from(1));
    }

    #[test]
    fn files_of_different_lengths_are_refused_where_they_part() {
        let values = [1.0, 2.0, 3.0, 4.0];
        let last = |payload| read(&npy(2, 2, &values), Some(payload)).pop().unwrap().unwrap_err().to_string();
        let short = last("{\"key\":\"a\"}\n");
        assert!(short.contains("ends after 1 lines, but the matrix has 2 rows"), "{short}");
        let long = last("{\"key\":\"a\"}\n{\"key\":\"b\"}\n{\"key\":\"c\"}\n");
        assert!(long.contains("goes on after line 2"), "{long}");
        let truncated = read(&npy(2, 2, &values[..3]), None).pop().unwrap().unwrap_err().to_string();
        assert!(truncated.contains("inside row 1 of 2"), "{truncated}");
    }
}
