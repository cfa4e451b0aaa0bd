//! A frame: one batch of records, or one mark of the log itself, as it lies in a log file.
//!
//! Little endian; a frame starts at a multiple of 8; the pad bytes after its payload are zero.
//!
//! ```text
//!  0  4 hcrc = crc32(bytes 4..40)          4  4 len (payload bytes)          8  8 lsn of its first record
//! 16  4 pcrc = crc32(payload)             20  1 type                        21  1 flags = 0    22  2 record count
//! 24  8 salt (= the file's)               32  8 durable: highest LSN known synced when this was encoded
//! 40 .. payload, then zeros up to a multiple of 8
//!
//! type 1 batch   count x u32 length, then the records; all or nothing; LSNs lsn .. lsn + count - 1
//!      2 start   first in a file, and where an epoch begins; 56 bytes, below
//!      3 seal    the file ends here; no payload
//!      4 stamp   nothing but its durable LSN; no payload
//!      5 cut     the log ends here by an operator's order; 8 bytes: u32 highest epoch set aside, u32 zero
//! start, seal, stamp and cut carry count 0 and the next LSN (cut: 0 where it is not known).
//!
//! start payload
//!  0  1 kind: 1 new (opens an epoch), 2 relog (frames under their old LSNs follow), 3 continue (rotation)
//!  1  7 zero      8  8 seq of the file before (0: none)      16  8 last LSN before this file
//! 24  8 offset where the file before ends for ever (new, relog)    32  4 epoch    36  4 zero    40 16 boot id
//! ```
//!
//! Two checksums, because the header's can only be made under the append lock (it holds the LSN and the durable
//! stamp) and the payload's must not be; and so that a frame whose payload is torn still gives evidence.

use crate::lsn::Lsn;

pub(crate) const FRAME_HEADER_BYTES: usize = 40;
pub(crate) const START_PAYLOAD_BYTES: usize = 56;
pub(crate) const CUT_PAYLOAD_BYTES: usize = 8;
/// Kept free at the end of each file, so that a SEAL or a CUT always fits.
pub(crate) const TRAILER_BYTES: u64 = (FRAME_HEADER_BYTES + CUT_PAYLOAD_BYTES) as u64;
/// The most payload a frame may claim; what claims more is not a frame.
pub(crate) const HARD_MAX_PAYLOAD_BYTES: u64 = 1 << 30;
/// The count is 16 bits.
pub(crate) const MAX_RECORDS: u64 = u16::MAX as u64;
pub(crate) const ALIGN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameType {
    Batch = 1,
    Start = 2,
    Seal = 3,
    Stamp = 4,
    Cut = 5,
}

impl FrameType {
    fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Batch,
            2 => Self::Start,
            3 => Self::Seal,
            4 => Self::Stamp,
            5 => Self::Cut,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Start => "start",
            Self::Seal => "seal",
            Self::Stamp => "stamp",
            Self::Cut => "cut",
        }
    }
}

/// A frame's header, without the length of its bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: FrameType,
    pub(crate) lsn: Lsn,
    pub(crate) count: u16,
    pub(crate) len: u32,
    pub(crate) pcrc: u32,
    pub(crate) durable: Lsn,
}

impl Head {
    pub(crate) fn encode(&self, salt: u64) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..16].copy_from_slice(&self.lsn.as_u64().to_le_bytes());
        out[16..20].copy_from_slice(&self.pcrc.to_le_bytes());
        out[20] = self.kind as u8;
        out[22..24].copy_from_slice(&self.count.to_le_bytes());
        out[24..32].copy_from_slice(&salt.to_le_bytes());
        out[32..40].copy_from_slice(&self.durable.as_u64().to_le_bytes());
        let hcrc = crc32fast::hash(&out[4..]);
        out[..4].copy_from_slice(&hcrc.to_le_bytes());
        out
    }

    /// The last record's LSN; of a frame without records, the one before its LSN.
    pub(crate) fn last(&self) -> Lsn {
        match self.count {
            0 => self.lsn.pred(),
            n => self.lsn.plus(u64::from(n) - 1),
        }
    }

    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(u64::from(self.len))
    }
}

/// Bytes on disk of a frame with this payload, pad included.
pub(crate) fn frame_bytes(payload: u64) -> u64 {
    (FRAME_HEADER_BYTES as u64 + payload).next_multiple_of(ALIGN as u64)
}

/// Why the bytes at a place are not an intact frame of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// No room for a header: the file ends.
    End,
    /// The header's place holds zeros.
    Zero,
    /// The header is not one of this file's.
    Header,
    /// The header is intact, of a type or with flags this version does not know.
    Unknown { kind: u8, flags: u8 },
    /// The header is intact, what follows is not.
    Payload(Head),
}

impl Misfit {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::End => "the file ends",
            Self::Zero => "zeros",
            Self::Header => "no frame header of this file",
            Self::Unknown { .. } => "a frame of a newer version",
            Self::Payload(_) => "an intact header with a damaged payload",
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Reads and checks a header at `at`; the payload is not looked at.
pub(crate) fn read_head(bytes: &[u8], at: usize, salt: u64) -> Result<Head, Misfit> {
    let Some(raw) = bytes.get(at..at.saturating_add(FRAME_HEADER_BYTES)) else { return Err(Misfit::End) };
    if u64_at(raw, 24) != salt || crc32fast::hash(&raw[4..]) != u32_at(raw, 0) {
        return Err(if raw.iter().all(|b| *b == 0) { Misfit::Zero } else { Misfit::Header });
    }
    let (Some(lsn), Some(durable)) = (Lsn::from_u64(u64_at(raw, 8)), Lsn::from_u64(u64_at(raw, 32))) else {
        return Err(Misfit::Header);
    };
    let Some(kind) = FrameType::from_u8(raw[20]).filter(|_| raw[21] == 0) else {
        return Err(Misfit::Unknown { kind: raw[20], flags: raw[21] });
    };
    let count = u16_at(raw, 22);
    if (kind == FrameType::Batch) != (count > 0) || u64::from(count) > lsn.left() {
        return Err(Misfit::Header);
    }
    Ok(Head { kind, lsn, count, len: u32_at(raw, 4), pcrc: u32_at(raw, 16), durable })
}

/// An intact frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) head: Head,
    pub(crate) payload: &'a [u8],
}

/// Reads and checks the whole frame at `at`: header, payload, shape and pad.
pub(crate) fn read_frame(bytes: &[u8], at: usize, salt: u64) -> Result<Frame<'_>, Misfit> {
    read_with(bytes, at, salt, |head, payload| crc32fast::hash(payload) == head.pcrc)
}

/// As [`read_frame`] of a frame that was read before, without its payload's checksum: what it says of itself holds
/// together, so its records lie inside it.
pub(crate) fn reread_frame(bytes: &[u8], at: usize, salt: u64) -> Result<Frame<'_>, Misfit> {
    read_with(bytes, at, salt, |_, _| true)
}

#[inline]
fn read_with(
    bytes: &[u8],
    at: usize,
    salt: u64,
    is_whole: impl Fn(&Head, &[u8]) -> bool,
) -> Result<Frame<'_>, Misfit> {
    let head = read_head(bytes, at, salt)?;
    let damaged = Misfit::Payload(head);
    if u64::from(head.len) > HARD_MAX_PAYLOAD_BYTES {
        return Err(damaged);
    }
    let start = at + FRAME_HEADER_BYTES;
    let end = start + head.len as usize;
    let padded = end.next_multiple_of(ALIGN);
    let (Some(payload), Some(pad)) = (bytes.get(start..end), bytes.get(end..padded)) else {
        return Err(damaged);
    };
    if !is_whole(&head, payload) || pad.iter().any(|b| *b != 0) || !well_shaped(&head, payload) {
        return Err(damaged);
    }
    Ok(Frame { head, payload })
}

fn well_shaped(head: &Head, payload: &[u8]) -> bool {
    match head.kind {
        FrameType::Batch => {
            let table = usize::from(head.count) * 4;
            payload.len() >= table
                && (0..table).step_by(4).map(|at| u64::from(u32_at(payload, at))).sum::<u64>()
                    == (payload.len() - table) as u64
                && head.durable < head.lsn
        }
        FrameType::Start => {
            Start::decode(payload).is_some_and(|start| start.previous_last.max(head.durable) < head.lsn)
        }
        FrameType::Seal | FrameType::Stamp => payload.is_empty() && head.durable < head.lsn,
        FrameType::Cut => payload.len() == CUT_PAYLOAD_BYTES && u32_at(payload, 0) <= Lsn::MAX_EPOCH,
    }
}

impl<'a> Frame<'a> {
    /// The records of a batch, with their LSNs.
    pub(crate) fn records(&self) -> FrameRecords<'a> {
        FrameRecords { frame: *self, i: 0, at: usize::from(self.head.count) * 4 }
    }

    /// The highest epoch this frame bears witness to.
    pub(crate) fn epoch(&self) -> u32 {
        match self.head.kind {
            FrameType::Cut => u32_at(self.payload, 0).max(self.head.lsn.epoch()),
            _ => self.head.lsn.epoch(),
        }
    }
}

/// The records of one frame.
#[derive(Clone, Debug)]
pub(crate) struct FrameRecords<'a> {
    frame: Frame<'a>,
    i: u16,
    at: usize,
}

impl<'a> Iterator for FrameRecords<'a> {
    type Item = (Lsn, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let Frame { head, payload } = self.frame;
        if self.i == head.count {
            return None;
        }
        let len = u32_at(payload, usize::from(self.i) * 4) as usize;
        let record = (head.lsn.plus(u64::from(self.i)), &payload[self.at..self.at + len]);
        self.i += 1;
        self.at += len;
        Some(record)
    }
}

/// How a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartKind {
    New = 1,
    Relog = 2,
    Continue = 3,
}

/// The payload of a START frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) kind: StartKind,
    pub(crate) previous_seq: u64,
    pub(crate) previous_last: Lsn,
    pub(crate) previous_end: u64,
    pub(crate) epoch: u32,
    pub(crate) boot_id: [u8; 16],
}

impl Start {
    pub(crate) fn encode(&self) -> [u8; START_PAYLOAD_BYTES] {
        let mut out = [0; START_PAYLOAD_BYTES];
        out[0] = self.kind as u8;
        out[8..16].copy_from_slice(&self.previous_seq.to_le_bytes());
        out[16..24].copy_from_slice(&self.previous_last.as_u64().to_le_bytes());
        out[24..32].copy_from_slice(&self.previous_end.to_le_bytes());
        out[32..36].copy_from_slice(&self.epoch.to_le_bytes());
        out[40..56].copy_from_slice(&self.boot_id);
        out
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let raw: &[u8; START_PAYLOAD_BYTES] = payload.try_into().ok()?;
        let kind = match raw[0] {
            1 => StartKind::New,
            2 => StartKind::Relog,
            3 => StartKind::Continue,
            _ => return None,
        };
        let epoch = u32_at(raw, 32);
        let zeros = raw[1..8].iter().chain(&raw[36..40]).all(|b| *b == 0);
        Some(Self {
            kind,
            previous_seq: u64_at(raw, 8),
            previous_last: Lsn::from_u64(u64_at(raw, 16))?,
            previous_end: u64_at(raw, 24),
            epoch,
            boot_id: raw[40..56].try_into().expect("16 bytes"),
        })
        .filter(|_| zeros && epoch <= Lsn::MAX_EPOCH)
    }
}

/// A whole frame with a payload in one piece: header, payload, pad. For the marks of the log, and for files
/// written by hand.
pub(crate) fn encode_whole(kind: FrameType, lsn: Lsn, durable: Lsn, payload: &[u8], salt: u64) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a mark is small");
    let head = Head { kind, lsn, count: 0, len, pcrc: crc32fast::hash(payload), durable };
    let mut out = head.encode(salt).to_vec();
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    out
}

/// For the fuzzer: any bytes decode as a frame or are refused, and what decodes encodes to the same bytes.
#[cfg(feature = "test-util")]
pub fn fuzz_frame(bytes: &[u8]) {
    let salt = if bytes.len() >= FRAME_HEADER_BYTES { u64_at(bytes, 24) } else { 0 };
    let Ok(frame) = read_frame(bytes, 0, salt) else { return };
    assert_eq!(frame.head.encode(salt), bytes[..FRAME_HEADER_BYTES], "a header reads back as it was");
    let total: usize = frame.records().map(|(_, record)| record.len()).sum();
    assert!(total <= frame.payload.len(), "records lie inside their frame");
    if let Some(start) = Start::decode(frame.payload).filter(|_| frame.head.kind == FrameType::Start) {
        assert_eq!(start.encode(), frame.payload, "a start reads back as it was");
    }
}

#[cfg(test)]
mod tests;
