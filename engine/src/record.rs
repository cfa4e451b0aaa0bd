//! One logical write, encoded: what a frame of the log carries and what replay reads back.
//!
//! ```text
//! offset size  field            little endian; drawn byte by byte in docs/formats/record.md
//!      0    1  version          1
//!      1    1  op               1 upsert, 2 delete
//!      2    2  flags            bit 0: the last record of a batch that has an idempotency key; others are unknown
//!      4    4  collection       id of the collection, durable in a manifest before it may stand here
//!      8    2  schema           version of the collection's schema the row was checked against
//!     10    2  dim              numbers in the vector; 0 for a delete
//!     12    8  expires_at       microseconds since the Unix epoch; 0 never
//!     20    2  key_len          bytes of the key, 1..=512
//!     22    2  idem_len         bytes of the idempotency key (of the batch with bit 0); 0 none
//!     24    4  payload_len      bytes of the payload, up to 1 MiB; 0 none
//!     28       key, idempotency key, payload (a JSON object, UTF-8), dim x f32
//! ```

use std::sync::Arc;

use crate::id::MAX_ID_BYTES;
use crate::schema::MAX_DIM;

#[cfg(test)]
mod tests;

/// Bytes before the key.
pub(crate) const HEADER_BYTES: usize = 28;
/// Largest payload in bytes of JSON text.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Where the flags stand.
const FLAGS_AT: usize = 2;
/// Where the schema's version stands.
const SCHEMA_AT: usize = 8;
/// Where its time to expire lies.
const EXPIRES_AT: usize = 12;
/// Where the key's length stands.
const KEY_LEN_AT: usize = 20;
/// Where the idempotency key's length stands.
const IDEM_LEN_AT: usize = 22;
/// Where the payload's length stands: the last of the header.
const PAYLOAD_LEN_AT: usize = HEADER_BYTES - 4;
/// The flag of a record that carries the key of its batch ([`crate::idempotency::BatchKey`]).
const NAMES_BATCH: u16 = 1;
/// The version written.
const VERSION: u8 = 1;

/// What the write does to its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Puts the row, whatever was there.
    Upsert,
    /// Removes the row.
    Delete,
}

/// One write. Everything is borrowed: from the caller when encoding, from the log when decoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Record<'a> {
    /// What to do.
    pub op: Op,
    /// Id of the collection.
    pub collection: u32,
    /// Version of the schema the row was checked against.
    pub schema: u16,
    /// Microseconds since the Unix epoch; 0 never.
    pub expires_at: i64,
    /// Key bytes of the id, 1..=512 ([`crate::id::Id::key`]).
    pub key: &'a [u8],
    /// Whether the idempotency key is that of the whole batch, which ends with this record.
    pub names_batch: bool,
    /// An idempotency key; empty for none.
    pub idempotency_key: &'a [u8],
    /// The whole payload, declared fields included, as the text of one JSON object; empty for none.
    pub payload: &'a str,
    /// The vector; empty for a delete.
    pub vector: Vector<'a>,
}

/// The numbers of a record: the caller's floats, or little endian bytes of any alignment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vector<'a>(Numbers<'a>);

#[derive(Clone, Copy, Debug)]
enum Numbers<'a> {
    Floats(&'a [f32]),
    Bytes(&'a [[u8; 4]]),
}

impl<'a> Vector<'a> {
    /// No numbers: the vector of a delete.
    const EMPTY: Self = Self(Numbers::Floats(&[]));

    /// How many numbers.
    pub(crate) fn dim(&self) -> usize {
        match self.0 {
            Numbers::Floats(floats) => floats.len(),
            Numbers::Bytes(bytes) => bytes.len(),
        }
    }

    /// The numbers, copied out once.
    pub(crate) fn to_f32(self) -> Arc<[f32]> {
        match self.0 {
            Numbers::Floats(floats) => floats.into(),
            Numbers::Bytes(bytes) => bytes.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        }
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        match self.0 {
            Numbers::Floats(floats) => {
                let from = out.len();
                out.resize(from + 4 * floats.len(), 0);
                for (to, x) in out[from..].as_chunks_mut().0.iter_mut().zip(floats) {
                    *to = x.to_le_bytes();
                }
            }
            Numbers::Bytes(bytes) => out.extend_from_slice(bytes.as_flattened()),
        }
    }
}

/// A vector about to be encoded.
impl<'a> From<&'a [f32]> for Vector<'a> {
    fn from(floats: &'a [f32]) -> Self {
        Self(Numbers::Floats(floats))
    }
}

/// Equal when every number has the same bits.
impl PartialEq for Vector<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.to_f32(), other.to_f32());
        a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
    }
}

/// Why bytes are not a record of this version. Offsets count from the first byte of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Shorter or longer than its header says.
    #[error("a record of {len} bytes says it has {expected}")]
    Length {
        /// Bytes there are.
        len: usize,
        /// Bytes the header asks for; 28 when the header itself is cut.
        expected: usize,
    },
    /// Written by a newer version.
    #[error("record version {0}, this build reads 1")]
    Version(u8),
    /// An operation this version does not know.
    #[error("record op {0}, this build knows 1 (upsert) and 2 (delete)")]
    Op(u8),
    /// Flags this version does not know.
    #[error("record flags {0:#06x}, this build knows 0x0001")]
    Flags(u16),
    /// A number out of its range.
    #[error("{what} is {value}, at byte {offset} of the record")]
    Range {
        /// Which field.
        what: &'static str,
        /// What it holds.
        value: usize,
        /// Where the field stands.
        offset: usize,
    },
    /// The payload is not text.
    #[error("the payload is not UTF-8 at byte {offset} of the record")]
    PayloadNotUtf8 {
        /// The first bad byte.
        offset: usize,
    },
}

impl RecordError {
    /// Whether a newer version of the program may have written these bytes; otherwise they are damaged.
    pub(crate) fn is_newer_format(self) -> bool {
        matches!(self, Self::Version(v) if v > VERSION) || matches!(self, Self::Op(3..) | Self::Flags(_))
    }
}

impl<'a> Record<'a> {
    /// An upsert checked against this version of the schema, with everything else empty: to be filled in.
    pub(crate) fn new(schema: u16) -> Self {
        Self {
            op: Op::Upsert,
            collection: 0,
            schema,
            expires_at: 0,
            key: &[],
            names_batch: false,
            idempotency_key: &[],
            payload: "",
            vector: Vector::EMPTY,
        }
    }

    /// Bytes this record takes.
    pub(crate) fn encoded_len(&self) -> usize {
        HEADER_BYTES
            + self.key.len()
            + self.idempotency_key.len()
            + self.payload.len()
            + 4 * self.vector.dim()
    }

    /// Appends the encoded record.
    ///
    /// # Panics
    /// If the record would not decode: the checks of [`crate::row`] come before it.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let encoded = self.encode_with(out, |out| {
            out.extend_from_slice(self.payload.as_bytes());
            Ok::<(), std::convert::Infallible>(())
        });
        encoded.expect("nothing in it can fail");
    }

    /// As [`Record::encode_into`], the payload being what `payload` appends: it is written where it will lie.
    ///
    /// # Errors
    /// What `payload` answered; `out` then ends in half a record.
    ///
    /// # Panics
    /// As [`Record::encode_into`].
    pub(crate) fn encode_with<E>(
        &self,
        out: &mut Vec<u8>,
        payload: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let dim = u16::try_from(self.vector.dim()).expect("a checked dimension fits u16");
        let key_len = u16::try_from(self.key.len()).expect("a checked id fits u16");
        let idem_len = u16::try_from(self.idempotency_key.len()).expect("a checked idempotency key fits u16");
        out.reserve(self.encoded_len());
        let from = out.len();
        out.push(VERSION);
        out.push(match self.op {
            Op::Upsert => 1,
            Op::Delete => 2,
        });
        out.extend_from_slice(&(u16::from(self.names_batch) * NAMES_BATCH).to_le_bytes());
        out.extend_from_slice(&self.collection.to_le_bytes());
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.extend_from_slice(&dim.to_le_bytes());
        out.extend_from_slice(&self.expires_at.to_le_bytes());
        out.extend_from_slice(&key_len.to_le_bytes());
        out.extend_from_slice(&idem_len.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.idempotency_key);
        let before = out.len();
        payload(out)?;
        let payload_bytes = out.len() - before;
        let checked = check_ranges(self.op, self.key.len(), payload_bytes, self.vector.dim());
        assert_eq!(checked, Ok(()), "a record is checked before it is encoded");
        let payload_len = u32::try_from(payload_bytes).expect("a checked payload fits u32");
        out[from + PAYLOAD_LEN_AT..from + HEADER_BYTES].copy_from_slice(&payload_len.to_le_bytes());
        self.vector.append_to(out);
        Ok(())
    }

    /// Reads a record that fills `bytes`. Any bytes are welcome. The payload is text but not yet known to be
    /// JSON, and the numbers of the vector not yet known to be finite.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let len = bytes.len();
        let cut = RecordError::Length { len, expected: HEADER_BYTES };
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(cut)?;
        if header[0] != VERSION {
            return Err(RecordError::Version(header[0]));
        }
        let op = match header[1] {
            1 => Op::Upsert,
            2 => Op::Delete,
            other => return Err(RecordError::Op(other)),
        };
        let flags = u16_at(header, 2);
        if flags & !NAMES_BATCH != 0 {
            return Err(RecordError::Flags(flags));
        }
        let dim = usize::from(u16_at(header, 10));
        let key_len = usize::from(u16_at(header, 20));
        let idem_len = usize::from(u16_at(header, 22));
        let payload_len = u32_at(header, 24) as usize;
        check_ranges(op, key_len, payload_len, dim)?;
        let expected = HEADER_BYTES + key_len + idem_len + payload_len + 4 * dim;
        if len != expected {
            return Err(RecordError::Length { len, expected });
        }
        let (key, rest) = body.split_at(key_len);
        let (idempotency_key, rest) = rest.split_at(idem_len);
        let (payload, numbers) = rest.split_at(payload_len);
        let payload = std::str::from_utf8(payload).map_err(|e| RecordError::PayloadNotUtf8 {
            offset: HEADER_BYTES + key_len + idem_len + e.valid_up_to(),
        })?;
        Ok(Self {
            op,
            collection: u32_at(header, 4),
            schema: u16_at(header, 8),
            expires_at: i64::from_le_bytes(eight_at(header, 12)),
            key,
            names_batch: flags & NAMES_BATCH != 0,
            idempotency_key,
            payload,
            vector: Vector(Numbers::Bytes(numbers.as_chunks().0)),
        })
    }
}

/// Puts the key of a batch into its last record, which begins at `from` and ends the bytes.
pub(crate) fn name_batch(bytes: &mut Vec<u8>, from: usize, batch_key: &[u8]) {
    let record = &mut bytes[from..];
    let idem_len = u16::try_from(batch_key.len()).expect("a checked idempotency key fits u16");
    assert_eq!(record[IDEM_LEN_AT..IDEM_LEN_AT + 2], [0; 2], "a record has one idempotency key");
    record[FLAGS_AT..FLAGS_AT + 2].copy_from_slice(&NAMES_BATCH.to_le_bytes());
    record[IDEM_LEN_AT..IDEM_LEN_AT + 2].copy_from_slice(&idem_len.to_le_bytes());
    let key_len = u16::from_le_bytes([record[KEY_LEN_AT], record[KEY_LEN_AT + 1]]);
    let at = from + HEADER_BYTES + usize::from(key_len);
    bytes.splice(at..at, batch_key.iter().copied());
}

/// The bytes of an encoded record that say what is written: all but the version of the schema it was checked against, which
/// rises when fields are added, and 0 for the time it expires, which its payload says too, and the header only once the
/// collection expires.
pub(crate) fn content_of(record: &[u8]) -> [&[u8]; 4] {
    let at = EXPIRES_AT..EXPIRES_AT + 8;
    [&record[..SCHEMA_AT], &record[SCHEMA_AT + 2..at.start], &[0; 8], &record[at.end..]]
}

/// The same facts are asserted before writing and demanded after reading.
fn check_ranges(op: Op, key_len: usize, payload_len: usize, dim: usize) -> Result<(), RecordError> {
    let range = |what, value, offset| Err(RecordError::Range { what, value, offset });
    if key_len == 0 || key_len > MAX_ID_BYTES {
        return range("the key length", key_len, 20);
    }
    match op {
        Op::Upsert if dim == 0 || dim > usize::from(MAX_DIM) => range("the dimension", dim, 10),
        Op::Upsert if payload_len > MAX_PAYLOAD_BYTES => range("the payload length", payload_len, 24),
        Op::Delete if dim != 0 => range("the dimension of a delete", dim, 10),
        Op::Delete if payload_len != 0 => range("the payload length of a delete", payload_len, 24),
        Op::Upsert | Op::Delete => Ok(()),
    }
}

fn u16_at(header: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_le_bytes([header[at], header[at + 1]])
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn eight_at(header: &[u8; HEADER_BYTES], at: usize) -> [u8; 8] {
    std::array::from_fn(|i| header[at + i])
}
