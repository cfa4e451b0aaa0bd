//! The head of a Parquet page, read without the library: a point read wants one page and no reader around it.
//!
//! ```text
//! thrift compact PageHeader, fields by number; those not named are passed over
//!   1 i32 type: 0 data page, 2 dictionary page     2 i32 unpacked length     3 i32 length in the file
//!   5 data_page_header { 1 i32 num_values  2 i32 encoding ... }     7 dictionary_page_header { 1 and 2 the same }
//! ```

/// Structs inside structs that are passed over: statistics have one level.
const MAX_DEPTH: usize = 4;

const BOOLS: [u8; 2] = [1, 2];
const BYTE: u8 = 3;
const INTEGERS: std::ops::RangeInclusive<u8> = 4..=6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const STRUCT: u8 = 12;

/// What a page says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// 0 for a data page of version 1, 2 for a dictionary.
    pub(super) kind: i64,
    /// Bytes once unpacked.
    pub(super) unpacked_len: usize,
    /// Bytes in the file, behind the header.
    pub(super) packed_len: usize,
    /// Values, nulls included.
    pub(super) values: usize,
    /// How they are encoded, as Parquet numbers it.
    pub(super) encoding: i64,
    /// Bytes of the header.
    pub(super) len: usize,
}

impl PageHeader {
    /// The header that `bytes` begin with; `None` for anything else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut header = Self::default();
        let mut thrift = Thrift { bytes, at: 0 };
        thrift.fields(&mut |field, kind, thrift| {
            match (field, kind) {
                (1, _) => header.kind = thrift.integer(kind)?,
                (2, _) => header.unpacked_len = thrift.number(kind)?,
                (3, _) => header.packed_len = thrift.number(kind)?,
                (5 | 7, STRUCT) => thrift.fields(&mut |field, kind, thrift| {
                    match field {
                        1 => header.values = thrift.number(kind)?,
                        2 => header.encoding = thrift.integer(kind)?,
                        _ => thrift.pass(kind, 0)?,
                    }
                    Some(())
                })?,
                _ => thrift.pass(kind, 0)?,
            }
            Some(())
        })?;
        header.len = thrift.at;
        Some(header)
    }
}

/// A place in bytes of thrift's compact protocol.
struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Takes the value of a field, by its number and type.
type Take<'t> = &'t mut dyn FnMut(i64, u8, &mut Thrift<'_>) -> Option<()>;

impl Thrift<'_> {
    /// Shows the fields of a struct to its end.
    fn fields(&mut self, take: Take<'_>) -> Option<()> {
        let mut field = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            field = match head >> 4 {
                0 => self.zigzag()?,
                step => field.wrapping_add(i64::from(step)),
            };
            take(field, head & 15, self)?;
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn integer(&mut self, kind: u8) -> Option<i64> {
        if INTEGERS.contains(&kind) { self.zigzag() } else { None }
    }

    /// A length or a number of values: 31 bits.
    fn number(&mut self, kind: u8) -> Option<usize> {
        i32::try_from(self.integer(kind)?).ok().and_then(|number| usize::try_from(number).ok())
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = varint(self.bytes, &mut self.at)?;
        Some(unzigzag(value))
    }

    /// Passes over a value nobody wants. There are no lists in a page header.
    fn pass(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            kind if BOOLS.contains(&kind) => {}
            BYTE => drop(self.byte()?),
            kind if INTEGERS.contains(&kind) => drop(self.zigzag()?),
            DOUBLE => self.skip(8)?,
            BINARY => {
                let len = varint(self.bytes, &mut self.at)?;
                self.skip(usize::try_from(len).ok()?)?;
            }
            STRUCT if depth < MAX_DEPTH => {
                self.fields(&mut |_, kind, thrift| thrift.pass(kind, depth + 1))?;
            }
            _ => return None,
        }
        Some(())
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.at = self.at.checked_add(len).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }
}

/// Seven bits a byte, low ones first, and where the next begins.
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// 0, -1, 1, -2 ... of 0, 1, 2, 3 ...
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_whatever_else_stands_in_it_and_nothing_else_is_one() {
        // As drawn in docs/formats/segment.md, with statistics behind the encodings.
        let plain = [
            0x15, 0x00, 0x15, 0xb6, 0x04, 0x15, 0xb6, 0x04, 0x15, 0x9f, 0x8b, 0x9d, 0x94, 0x06, 0x1c, 0x15,
            0x80, 0x01, 0x15, 0x10, 0x15, 0x06, 0x15, 0x06, 0x1c, 0x18, 2, 7, 7, 0x36, 4, 0x11, 0, 0x00,
            0x00,
        ];
        let wanted = PageHeader {
            kind: 0,
            unpacked_len: 283,
            packed_len: 283,
            values: 64,
            encoding: 8,
            len: plain.len(),
        };
        assert_eq!(PageHeader::parse(&plain), Some(wanted));
        let dictionary =
            [0x15, 0x04, 0x15, 0x08, 0x15, 0x06, 0x4c, 0x15, 0x02, 0x15, 0x00, 0x12, 0x00, 0x00, 9];
        let wanted = PageHeader {
            kind: 2,
            unpacked_len: 4,
            packed_len: 3,
            values: 1,
            encoding: 0,
            len: dictionary.len() - 1,
        };
        assert_eq!(PageHeader::parse(&dictionary), Some(wanted));
        for len in 0..plain.len() {
            assert_eq!(PageHeader::parse(&plain[..len]), None);
        }
        assert_eq!(PageHeader::parse(&[0x15, 0x01, 0x15, 0x01, 0x00]), None, "no length is below zero");
        let values = |number: &[u8]| {
            let bytes = [&[0x15, 0, 0x4c, 0x15], number, &[0x15, 0, 0, 0]].concat();
            PageHeader::parse(&bytes).map(|header| header.values)
        };
        assert_eq!(values(&[0xfe, 0xff, 0xff, 0xff, 0x0f]), Some(i32::MAX.cast_unsigned() as usize));
        assert_eq!(values(&[0x80, 0x80, 0x80, 0x80, 0x10]), None, "one more than a number holds");
        assert_eq!(values(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), None);
        // A field of the highest number there is, and one behind it.
        let far = [0x05, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0, 0xf5, 0, 0];
        assert!(PageHeader::parse(&far).is_some());
    }
}
