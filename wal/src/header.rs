//! The header page of a log file: 4,096 bytes, written and synced before the file gets its name, never touched
//! afterwards.
//!
//! ```text
//!  0  8 magic "AKIDBWAL"        8  2 major = 1   10  2 minor   12  4 crc32 of bytes 0..128 with this field zero
//! 16 16 log id (random at create; a file of another log is refused)    32  8 file seq (from 1)
//! 40  8 salt (random, never zero, new for each life of the file)       48  8 file size in bytes
//! 56  4 align = 8   60  4 first frame offset = 4096   64  8 incompatible features   72  8 compatible features
//! 80  4 epoch of the writer that made the file        84  1 origin: 1 made at an open, 2 a spare,
//!    3 a spare made from an older file   85 43 zero
//! 2048  the same 128 bytes again, in another sector; the rest of the page is zero
//! ```
//!
//! A file made at an open has its first frames, up to the START that opens the epoch, synced before it gets its
//! name: there a damaged frame is damage, never a torn tail. A file of origin 3 holds frames of its earlier life, whole
//! and with another salt: behind the last frame they are no news.

use crate::frame::{u32_at, u64_at};
use crate::lsn::Lsn;

pub(crate) const HEADER_PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 128;
const COPY_AT: usize = 2048;
const MAGIC: &[u8; 8] = b"AKIDBWAL";
const MAJOR: u16 = 1;

/// Why a file came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Open = 1,
    Spare = 2,
    Recycled = 3,
}

/// The facts of a header page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) log_id: [u8; 16],
    pub(crate) seq: u64,
    pub(crate) salt: u64,
    pub(crate) file_bytes: u64,
    pub(crate) epoch: u32,
    pub(crate) origin: Origin,
}

/// Why a header page could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Both copies fail their checksum.
    Damaged,
    /// Intact, but not of this version.
    Newer(String),
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_PAGE_BYTES] {
        let mut page = [0; HEADER_PAGE_BYTES];
        page[..8].copy_from_slice(MAGIC);
        page[8..10].copy_from_slice(&MAJOR.to_le_bytes());
        page[16..32].copy_from_slice(&self.log_id);
        page[32..40].copy_from_slice(&self.seq.to_le_bytes());
        page[40..48].copy_from_slice(&self.salt.to_le_bytes());
        page[48..56].copy_from_slice(&self.file_bytes.to_le_bytes());
        page[56..60].copy_from_slice(&8_u32.to_le_bytes());
        page[60..64].copy_from_slice(&4096_u32.to_le_bytes());
        page[80..84].copy_from_slice(&self.epoch.to_le_bytes());
        page[84] = self.origin as u8;
        let crc = crc32fast::hash(&page[..HEADER_BYTES]);
        page[12..16].copy_from_slice(&crc.to_le_bytes());
        page.copy_within(..HEADER_BYTES, COPY_AT);
        page
    }

    /// Reads the first intact copy of the header in a file's first page.
    pub(crate) fn decode(page: &[u8]) -> Result<Self, BadHeader> {
        match Self::decode_copy(page, 0) {
            Err(BadHeader::Damaged) => Self::decode_copy(page, COPY_AT),
            answer => answer,
        }
    }

    fn decode_copy(page: &[u8], at: usize) -> Result<Self, BadHeader> {
        let mut raw: [u8; HEADER_BYTES] =
            page.get(at..at + HEADER_BYTES).and_then(|b| b.try_into().ok()).ok_or(BadHeader::Damaged)?;
        let stored = u32_at(&raw, 12);
        raw[12..16].fill(0);
        if raw[..8] != *MAGIC || crc32fast::hash(&raw) != stored {
            return Err(BadHeader::Damaged);
        }
        let major = u16::from_le_bytes([raw[8], raw[9]]);
        let features = u64_at(&raw, 64);
        if major != MAJOR {
            return Err(BadHeader::Newer(format!("major version {major}, this version reads {MAJOR}")));
        }
        if features != 0 {
            return Err(BadHeader::Newer(format!("features {features:#x} are not known to this version")));
        }
        let origin = match raw[84] {
            1 => Origin::Open,
            2 => Origin::Spare,
            3 => Origin::Recycled,
            _ => return Err(BadHeader::Newer("unknown origin".into())),
        };
        let epoch = u32_at(&raw, 80);
        if u32_at(&raw, 56) != 8 || u32_at(&raw, 60) != 4096 || epoch > Lsn::MAX_EPOCH {
            return Err(BadHeader::Newer("another alignment, first offset or epoch range".into()));
        }
        Ok(Self {
            log_id: raw[16..32].try_into().expect("16 bytes"),
            seq: u64_at(&raw, 32),
            salt: u64_at(&raw, 40),
            file_bytes: u64_at(&raw, 48),
            epoch,
            origin,
        })
    }
}

/// The name of the log file with this number.
pub(crate) fn file_name(seq: u64) -> String {
    format!("{seq:016x}.wal")
}

/// The number in a log file's name.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let hex = name.strip_suffix(".wal").filter(|h| h.len() == 16)?;
    u64::from_str_radix(hex, 16).ok().filter(|seq| file_name(*seq) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { log_id: [7; 16], seq: 3, salt: 9, file_bytes: 8192, epoch: 2, origin: Origin::Open }
    }

    #[test]
    fn a_header_survives_the_loss_of_one_copy_but_not_of_both() {
        let mut page = header().encode();
        page[40] ^= 1;
        assert_eq!(Header::decode(&page), Ok(header()));
        page[2048 + 40] ^= 1;
        assert_eq!(Header::decode(&page), Err(BadHeader::Damaged));
        assert_eq!(Header::decode(&[]), Err(BadHeader::Damaged));
    }

    #[test]
    fn a_newer_major_version_or_an_unknown_feature_is_named_not_called_damage() {
        for at in [8, 64] {
            let mut page = header().encode();
            page[at] = 2;
            page[12..16].fill(0);
            let crc = crc32fast::hash(&page[..128]);
            page[12..16].copy_from_slice(&crc.to_le_bytes());
            assert!(matches!(Header::decode(&page), Err(BadHeader::Newer(_))), "byte {at}");
        }
    }

    #[test]
    fn only_canonical_names_are_log_files() {
        assert_eq!(parse_file_name("000000000000000a.wal"), Some(10));
        for name in ["000000000000000A.wal", "a.wal", "000000000000000a.wal.tmp", "+00000000000000a.wal"] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
