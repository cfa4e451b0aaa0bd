//! The bytes of a manifest file.
//!
//! ```text
//! {                              one JSON object, indented by two spaces, fields in the order of `Manifest`
//!   "format": ...,
//!   ...
//! }\n                            <- the checksum covers everything up to and with this newline
//! {"crc32":"0a1b2c3d"}\n         last line, always these 21 bytes: crc32 (IEEE) in lower-case hex
//! ```
//!
//! The file is `manifest/<number in 20 digits>.json`. The checksum is checked before a byte of the document is
//! parsed. docs/formats/manifest.md explains the fields.

use std::path::Path;

use serde::Deserialize;

use super::features::KNOWN_INCOMPATIBLE;
use super::{Committed, Manifest, hex, invariants};
use crate::error::{Error, ErrorKind, Result, shell_word};

/// Major format this version writes and reads.
pub const FORMAT_MAJOR: u16 = 1;
/// Highest minor format this version reads and writes. A manifest says the lowest that has all it uses.
pub const FORMAT_MINOR: u16 = 2;
/// The minor format that has `head` and `codes`, the vector index of a segment.
pub(super) const MINOR_OF_INDEX: u16 = 1;
/// The minor format that has `idempotency_keys`.
pub(super) const MINOR_OF_KEYS: u16 = 2;

const TRAILER_HEAD: &[u8] = b"{\"crc32\":\"";
const TRAILER_TAIL: &[u8] = b"\"}\n";
const TRAILER_LEN: usize = TRAILER_HEAD.len() + 8 + TRAILER_TAIL.len();

/// What mends a damaged newest manifest, the file at `path`.
pub(super) fn repair_help(path: &Path) -> String {
    let home = path.parent().filter(|dir| dir.ends_with("manifest")).and_then(Path::parent);
    format!(
        "run `{}` to step back to the one before it (it keeps the damaged file), or restore from a backend into a new \
         directory: `akidb restore URL NEW_DIR`",
        repair_command(home)
    )
}

/// The command that steps back from a damaged manifest of the database in `home`.
pub(super) fn repair_command(home: Option<&Path>) -> String {
    match home {
        Some(home) if home.as_os_str().is_empty() => "akidb repair manifest".to_owned(),
        Some(home) => format!("akidb repair manifest --db {}", shell_word(home)),
        None => "akidb repair manifest --db DIR".to_owned(),
    }
}

/// The name of the file of manifest `number`.
#[must_use]
pub fn file_name(number: u64) -> String {
    format!("{number:020}.json")
}

/// The number in the name of a manifest's file; `None` if the name is not one.
#[must_use]
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number > 0)
}

impl Manifest {
    /// The bytes of the file, and the crc32 in its last line.
    ///
    /// # Errors
    /// `Internal`: a field that has no JSON form, which no manifest has.
    pub fn encode(&self) -> Result<(Vec<u8>, u32)> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::new(ErrorKind::Internal, "AKI-0303", format!("manifest as JSON: {e}")))?;
        bytes.push(b'\n');
        let crc32 = crc32fast::hash(&bytes);
        bytes.extend_from_slice(TRAILER_HEAD);
        bytes.extend_from_slice(format!("{crc32:08x}").as_bytes());
        bytes.extend_from_slice(TRAILER_TAIL);
        Ok((bytes, crc32))
    }

    /// Reads the bytes of `file`: the checksum first, then the document, then the rules it must obey.
    ///
    /// # Errors
    /// `Corrupt` with file and offset where that is known; `NewerFormat`.
    pub fn decode(file: &Path, bytes: &[u8]) -> Result<Committed> {
        let (document, crc32) = checked_document(file, bytes)?;
        check_format(file, document)?;
        let manifest: Manifest =
            serde_json::from_slice(document).map_err(|e| unreadable(file, document, &e))?;
        invariants::check_alone(&manifest).map_err(|broken| {
            Error::corrupt("AKI-0307", file, 0, broken.to_string()).help_is(repair_help(file))
        })?;
        Ok(Committed { manifest, crc32 })
    }
}

/// The document without its last line, once the checksum there was found right.
fn checked_document<'a>(file: &Path, bytes: &'a [u8]) -> Result<(&'a [u8], u32)> {
    let end = bytes.len().saturating_sub(TRAILER_LEN);
    let (document, trailer) = bytes.split_at(end);
    let Some(stored) = parse_trailer(trailer) else {
        let message = "the last line is not a checksum: the manifest is cut short or damaged";
        let at = first_difference(trailer).unwrap_or(0);
        return Err(Error::corrupt("AKI-0304", file, (end + at) as u64, message).help_is(repair_help(file)));
    };
    let found = crc32fast::hash(document);
    if found == stored {
        return Ok((document, stored));
    }
    let (at, place) = match flipped_byte(document.len(), found ^ stored) {
        Some(at) => (at, "; one flipped bit at that byte would explain it"),
        None => (0, ""),
    };
    let message = format!("the manifest's checksum is {found:08x}, its last line says {stored:08x}{place}");
    Err(Error::corrupt("AKI-0305", file, at as u64, message).help_is(repair_help(file)))
}

fn parse_trailer(line: &[u8]) -> Option<u32> {
    let digits = line.strip_prefix(TRAILER_HEAD)?.strip_suffix(TRAILER_TAIL)?;
    hex::parse_u32(std::str::from_utf8(digits).ok()?)
}

/// Where the last line first differs from the shape it must have.
fn first_difference(line: &[u8]) -> Option<usize> {
    let digits = TRAILER_HEAD.len()..TRAILER_HEAD.len() + 8;
    (0..TRAILER_LEN).find(|&at| match line.get(at) {
        None => true,
        Some(b) if digits.contains(&at) => !matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        Some(b) if at < digits.start => *b != TRAILER_HEAD[at],
        Some(b) => *b != TRAILER_TAIL[at - digits.end],
    })
}

/// Which byte of `len_bytes` holds the one flipped bit that explains a wrong checksum. crc32 is linear: a flip
/// changes the sum by a value that depends on the bit's place alone, so walking back from the end finds it.
fn flipped_byte(len_bytes: usize, difference: u32) -> Option<usize> {
    // The sums of a lone bit in the last byte; moving it one byte back is one more zero byte behind it.
    let mut sums = [0_u32; 8];
    for (bit, sum) in sums.iter_mut().enumerate() {
        *sum = shifted_by_a_byte(1 << bit);
    }
    for at in (0..len_bytes).rev() {
        if sums.contains(&difference) {
            return Some(at);
        }
        sums = sums.map(shifted_by_a_byte);
    }
    None
}

/// The crc32 register after eight more zero bits (reflected polynomial).
fn shifted_by_a_byte(register: u32) -> u32 {
    (0..8).fold(register, |r, _| if r & 1 == 1 { (r >> 1) ^ 0xedb8_8320 } else { r >> 1 })
}

/// The one field that is read before all others, whatever else the document holds.
#[derive(Deserialize)]
struct Head {
    format: Major,
}

#[derive(Deserialize)]
struct Major {
    major: u16,
    #[serde(default)]
    minor: u16,
    #[serde(default)]
    incompatible: Vec<String>,
}

fn check_format(file: &Path, document: &[u8]) -> Result<()> {
    let head: Head = serde_json::from_slice(document).map_err(|e| unreadable(file, document, &e))?;
    let format = head.format;
    if format.major == 0 {
        let message = "manifest format 0 does not exist";
        return Err(Error::corrupt("AKI-0306", file, 0, message).help_is(repair_help(file)));
    }
    let unknown = format.incompatible.iter().find(|f| !KNOWN_INCOMPATIBLE.contains(&f.as_str()));
    if (format.major, format.minor) <= (FORMAT_MAJOR, FORMAT_MINOR) && unknown.is_none() {
        return Ok(());
    }
    let feature = unknown.map(|f| format!(" with feature \"{f}\"")).unwrap_or_default();
    let message = format!(
        "manifest format {}.{}{feature}; this version reads {FORMAT_MAJOR}.{FORMAT_MINOR}",
        format.major, format.minor
    );
    let help = "open it with the newer akidb that wrote it";
    Err(Error::new(ErrorKind::NewerFormat, "AKI-0308", message).at(file, None).help_is(help))
}

/// A document whose checksum is right but which is not a manifest: our own mistake or a forged file.
fn unreadable(file: &Path, document: &[u8], e: &serde_json::Error) -> Error {
    let at = byte_of(document, e.line(), e.column());
    Error::corrupt("AKI-0306", file, at as u64, format!("not a manifest: {e}")).help_is(repair_help(file))
}

/// The byte at a line and column, both from 1 (0 where unknown).
fn byte_of(document: &[u8], line: usize, column: usize) -> usize {
    let before: usize =
        document.split_inclusive(|b| *b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)).min(document.len())
}
