//! Reads `.npy` matrices of 16- and 32-bit floats, row by row, and says where a bad file goes wrong.
//!
//! ```text
//! 0   6  magic \x93NUMPY
//! 6   1  major version, 1..=3
//! 7   1  minor version
//! 8   2  length of the header text, u16 LE (major 1); 4 bytes, u32 LE (major 2 and 3)
//! 10  .  header text: {'descr': '<f4', 'fortran_order': False, 'shape': (rows, dim), }, blanks, \n
//! ..     rows * dim values, C order, little endian
//! ```

use std::io::{self, Read};

use half::f16;
use half::slice::HalfFloatSliceExt;

const MAGIC: [u8; 6] = *b"\x93NUMPY";
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Longest row this reader takes; a bound on what a bad header can make it allocate.
pub const MAX_DIM: usize = 1 << 20;

/// Why a `.npy` file cannot be read. `offset` counts bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// Not an `.npy` file, or a header that cannot be understood.
    #[error("not a readable .npy file: {reason} (byte {offset})")]
    Header {
        /// Where.
        offset: u64,
        /// What was found and what is expected.
        reason: String,
    },
    /// An array of another kind than this reader takes.
    #[error("this .npy array cannot be used: {reason}")]
    Unsupported {
        /// What was found and what is expected.
        reason: String,
    },
    /// The file ends before its shape is filled.
    #[error("the .npy file ends at byte {offset}, inside row {row} of {rows}")]
    Truncated {
        /// Length of the file.
        offset: u64,
        /// First incomplete row, from 0.
        row: u64,
        /// Rows its header promises.
        rows: u64,
    },
    /// The file goes on after its shape is filled.
    #[error("the .npy file goes on at byte {offset}, after its last row ({rows} rows)")]
    Overlong {
        /// Where the array ends.
        offset: u64,
        /// Rows its header promises.
        rows: u64,
    },
    /// The reader failed.
    #[error("reading .npy at byte {offset}: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// What it said.
        source: io::Error,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    F16,
    F32,
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// An open matrix: an iterator over its rows as f32. After an error it yields nothing more.
#[derive(Debug)]
pub struct Npy<R> {
    reader: R,
    element: Element,
    rows: u64,
    dim: usize,
    next_row: u64,
    offset: u64,
    done: bool,
    buffer: Vec<u8>,
}

/// Reads the header of a matrix of shape (rows, dim); rows come from iterating.
/// Give a buffered reader: each row is one read.
///
/// # Errors
/// `Header` if it is no `.npy` file, `Unsupported` unless it is a two-dimensional C-order array of `<f2` or
/// `<f4`, `Io` if the reader fails.
pub fn read_npy<R: Read>(mut reader: R) -> Result<Npy<R>, NpyError> {
    let (text, offset) = read_header_text(&mut reader)?;
    let element = match quoted(value_of(&text, "descr", offset)?) {
        Some("<f2") => Element::F16,
        Some("<f4") => Element::F32,
        other => {
            let found = other.unwrap_or("a record type");
            return Err(unsupported(format!("its values are {found}, expected <f2 or <f4")));
        }
    };
    if !value_of(&text, "fortran_order", offset)?.starts_with("False") {
        return Err(unsupported("it is stored by columns (fortran_order), expected C order".into()));
    }
    let (rows, dim) = shape(value_of(&text, "shape", offset)?)?;
    let row_bytes = dim * element.bytes();
    Ok(Npy { reader, element, rows, dim, next_row: 0, offset, done: false, buffer: vec![0; row_bytes] })
}

impl<R> Npy<R> {
    /// Rows the header promises.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Values in a row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }
}

impl<R: Read> Npy<R> {
    fn fill_row(&mut self) -> Result<Vec<f32>, NpyError> {
        let read = read_up_to(&mut self.reader, &mut self.buffer, self.offset)?;
        if read < self.buffer.len() {
            let offset = self.offset + read as u64;
            return Err(NpyError::Truncated { offset, row: self.next_row, rows: self.rows });
        }
        self.offset += read as u64;
        self.next_row += 1;
        Ok(widen(self.element, &self.buffer))
    }

    fn check_end(&mut self) -> Result<(), NpyError> {
        match read_up_to(&mut self.reader, &mut [0], self.offset)? {
            0 => Ok(()),
            _ => Err(NpyError::Overlong { offset: self.offset, rows: self.rows }),
        }
    }
}

impl<R: Read> Iterator for Npy<R> {
    type Item = Result<Vec<f32>, NpyError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.next_row == self.rows {
            self.done = true;
            return self.check_end().err().map(Err);
        }
        let row = self.fill_row();
        self.done = row.is_err();
        Some(row)
    }
}

fn widen(element: Element, bytes: &[u8]) -> Vec<f32> {
    match element {
        Element::F16 => {
            let (halves, _) = bytes.as_chunks::<2>();
            let halves: Vec<f16> = halves.iter().map(|b| f16::from_le_bytes(*b)).collect();
            halves.to_f32_vec()
        }
        Element::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    }
}

fn read_header_text(reader: &mut impl Read) -> Result<(String, u64), NpyError> {
    let mut fixed = [0_u8; 8];
    let read = read_up_to(reader, &mut fixed, 0)?;
    if read < fixed.len() || fixed[..6] != MAGIC {
        return Err(header(0, "it does not start with \\x93NUMPY"));
    }
    let length_bytes = match fixed[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(header(6, format!("format version {version}, expected 1 to 3"))),
    };
    let mut length = [0_u8; 4];
    if read_up_to(reader, &mut length[..length_bytes], 8)? < length_bytes {
        return Err(header(8, "it ends inside the header"));
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER_BYTES {
        return Err(header(8, format!("its header claims {length} bytes, at most {MAX_HEADER_BYTES}")));
    }
    let start = 8 + length_bytes as u64;
    let mut text = vec![0; length];
    if read_up_to(reader, &mut text, start)? < length {
        return Err(header(start, "it ends inside the header"));
    }
    let text = String::from_utf8(text).map_err(|_| header(start, "its header is not text"))?;
    Ok((text, start + length as u64))
}

/// What stands after `'key':` in the header's dictionary.
fn value_of<'a>(text: &'a str, key: &str, end: u64) -> Result<&'a str, NpyError> {
    let missing = || header(end - text.len() as u64, format!("its header has no '{key}'"));
    let at = text.find(&format!("'{key}'")).ok_or_else(missing)?;
    let rest = text[at + key.len() + 2..].trim_start();
    rest.strip_prefix(':').map(str::trim_start).ok_or_else(missing)
}

fn quoted(value: &str) -> Option<&str> {
    value.strip_prefix('\'')?.split_once('\'').map(|(inside, _)| inside)
}

fn shape(value: &str) -> Result<(u64, usize), NpyError> {
    let inside = value.strip_prefix('(').and_then(|v| v.split_once(')')).map_or("", |(v, _)| v);
    let sizes: Vec<&str> = inside.split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
    let refused = || unsupported(format!("its shape is ({inside}), expected (rows, dimension)"));
    let [rows, dim] = sizes[..] else { return Err(refused()) };
    let (Ok(rows), Ok(dim)) = (rows.parse::<u64>(), dim.parse::<usize>()) else { return Err(refused()) };
    if dim == 0 || dim > MAX_DIM {
        return Err(unsupported(format!("its rows have {dim} values, expected 1 to {MAX_DIM}")));
    }
    Ok((rows, dim))
}

fn header(offset: u64, reason: impl Into<String>) -> NpyError {
    NpyError::Header { offset, reason: reason.into() }
}

fn unsupported(reason: String) -> NpyError {
    NpyError::Unsupported { reason }
}

/// Fills `buffer` unless the file ends before; how many bytes were read.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8], offset: u64) -> Result<usize, NpyError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(NpyError::Io { offset: offset + filled as u64, source }),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
        let text = format!("{text:<117}\n");
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(values);
        bytes
    }

    fn two_rows() -> Vec<u8> {
        let values: Vec<u8> = [1.0_f32, -2.5, 0.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        file("<f4", "False", "(2, 2)", &values)
    }

    fn refusal(bytes: &[u8]) -> String {
        read_npy(bytes).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn rows_come_back_as_written_in_both_widths() {
        let bytes = two_rows();
        let npy = read_npy(&bytes[..]).unwrap();
        assert_eq!((npy.rows(), npy.dim()), (2, 2));
        let rows: Vec<Vec<f32>> = npy.map(Result::unwrap).collect();
        assert_eq!(rows, [vec![1.0, -2.5], vec![0.0, 3.0]]);

        let halves: Vec<u8> =
            [f16::ONE, f16::MIN, f16::EPSILON].iter().flat_map(|v| v.to_le_bytes()).collect();
        let bytes = file("<f2", "False", "(1, 3)", &halves);
        let rows: Vec<Vec<f32>> = read_npy(&bytes[..]).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows, [vec![1.0, -65_504.0, f16::EPSILON.to_f32()]]);
    }

    #[test]
    fn every_truncation_is_an_error_that_names_its_byte() {
        let bytes = two_rows();
        for length in 0..bytes.len() {
            let outcome: Result<Vec<_>, _> = read_npy(&bytes[..length]).and_then(Iterator::collect);
            let message = outcome.unwrap_err().to_string();
            assert!(message.contains("byte"), "{length}: {message}");
        }
        let mut npy = read_npy(&bytes[..bytes.len() - 1]).unwrap();
        assert!(npy.next().unwrap().is_ok());
        let message = npy.next().unwrap().unwrap_err().to_string();
        assert_eq!(message, format!("the .npy file ends at byte {}, inside row 1 of 2", bytes.len() - 1));
        assert!(npy.next().is_none(), "nothing follows an error");
    }

    #[test]
    fn bytes_after_the_last_row_are_an_error() {
        let mut bytes = two_rows();
        bytes.push(0);
        let last = read_npy(&bytes[..]).unwrap().last().unwrap();
        assert!(matches!(last, Err(NpyError::Overlong { rows: 2, .. })), "{last:?}");
    }

    #[test]
    fn other_arrays_are_refused_by_what_they_are() {
        assert!(refusal(b"id,vector\n1,2").contains("does not start with"));
        assert!(refusal(&file("<f8", "False", "(1, 2)", &[])).contains("<f8, expected <f2 or <f4"));
        assert!(refusal(&file("<f4", "True", "(1, 2)", &[])).contains("C order"));
        for shape in ["(8,)", "()", "(1, 2, 3)", "(-1, 2)", "(1, 99999999999999999999)", "x"] {
            assert!(refusal(&file("<f4", "False", shape, &[])).contains("expected (rows, dimension)"));
        }
        assert!(refusal(&file("<f4", "False", "(1, 0)", &[])).contains("expected 1 to"));
        assert!(refusal(&file("<f4", "False", "(1, 99999999999)", &[])).contains("expected 1 to"));
        let mut version = two_rows();
        version[6] = 9;
        assert!(refusal(&version).contains("version 9"));
        let mut huge = two_rows();
        huge.splice(6..10, [2, 0, 255, 255, 255, 255]);
        assert!(refusal(&huge).contains("claims 4294967295 bytes"));
    }
}
