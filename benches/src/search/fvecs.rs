//! Reads `.fvecs` matrices row by row: the form many public vector sets come in.
//!
//! ```text
//! each row:  0  4  dimension, i32 LE, the same in every row
//!            4  .  so many values, f32 LE
//! ```

use std::io::{self, Read};

use crate::npy::MAX_DIM;

/// An open matrix: an iterator over its rows. After an error it yields nothing more.
#[derive(Debug)]
pub(crate) struct Fvecs<R> {
    reader: R,
    dim: usize,
    row: u64,
    done: bool,
}

/// The dimension that the first row of a file says; `None` of an empty one.
///
/// # Errors
/// `InvalidData` for a dimension that no row can have, or what the reader says.
pub(crate) fn read_dim(reader: &mut impl Read) -> io::Result<Option<usize>> {
    let mut head = [0_u8; 4];
    let mut filled = 0;
    while filled < head.len() {
        match reader.read(&mut head[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(bad("it ends inside the dimension of a row".to_owned())),
            n => filled += n,
        }
    }
    let dim = i32::from_le_bytes(head);
    match usize::try_from(dim) {
        Ok(dim) if dim > 0 && dim <= MAX_DIM => Ok(Some(dim)),
        _ => Err(bad(format!("a row has {dim} values, expected 1 to {MAX_DIM}"))),
    }
}

impl<R: Read> Fvecs<R> {
    /// Reads rows of `dim` values.
    pub(crate) fn new(reader: R, dim: usize) -> Self {
        Self { reader, dim, row: 0, done: false }
    }

    fn read_row(&mut self) -> io::Result<Option<Vec<f32>>> {
        let Some(dim) = read_dim(&mut self.reader)? else { return Ok(None) };
        if dim != self.dim {
            return Err(bad(format!("the row has {dim} values, the first one {}", self.dim)));
        }
        let mut bytes = vec![0; dim * 4];
        self.reader.read_exact(&mut bytes)?;
        Ok(Some(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
    }
}

impl<R: Read> Iterator for Fvecs<R> {
    type Item = io::Result<Vec<f32>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let number = self.row;
        let at = |cause: io::Error| {
            io::Error::new(cause.kind(), format!("row {number} of the .fvecs file: {cause}"))
        };
        let row = match self.read_row() {
            Ok(row) => row.map(Ok),
            Err(cause) => Some(Err(at(cause))),
        };
        self.row += 1;
        self.done = !matches!(row, Some(Ok(_)));
        row
    }
}

fn bad(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rows: &[&[f32]]) -> Vec<u8> {
        let row = |row: &&[f32]| {
            let dim = i32::try_from(row.len()).unwrap().to_le_bytes();
            dim.into_iter().chain(row.iter().flat_map(|v| v.to_le_bytes())).collect::<Vec<u8>>()
        };
        rows.iter().flat_map(row).collect()
    }

    #[test]
    fn rows_come_back_and_every_cut_is_an_error() {
        let bytes = file(&[&[1.0, -2.0], &[0.5, 3.0]]);
        assert_eq!(read_dim(&mut &bytes[..]).unwrap(), Some(2));
        assert_eq!(read_dim(&mut &bytes[..0]).unwrap(), None);
        let rows: Vec<Vec<f32>> = Fvecs::new(&bytes[..], 2).map(Result::unwrap).collect();
        assert_eq!(rows, [[1.0, -2.0], [0.5, 3.0]]);
        for cut in (1..bytes.len()).filter(|cut| cut % 12 != 0) {
            let rows: io::Result<Vec<Vec<f32>>> = Fvecs::new(&bytes[..cut], 2).collect();
            assert!(rows.unwrap_err().to_string().contains("row "), "{cut}");
        }
    }

    #[test]
    fn a_row_of_another_length_is_refused() {
        let bytes = file(&[&[1.0, -2.0], &[0.5]]);
        let mut rows = Fvecs::new(&bytes[..], 2);
        assert!(rows.next().unwrap().is_ok());
        let message = rows.next().unwrap().unwrap_err().to_string();
        assert_eq!(message, "row 1 of the .fvecs file: the row has 1 values, the first one 2");
        assert!(rows.next().is_none());
        assert!(read_dim(&mut &[0_u8, 0, 0, 0][..]).is_err() && read_dim(&mut &[255_u8; 4][..]).is_err());
    }
}
