//! Reading a whole segment again and comparing it with every checksum it has.

use std::path::Path;

use crc32fast::Hasher;
use serde::Serialize;

use super::check::BLOCK_LEN;
use super::checked_file::CheckedFile;
use super::format;

use crate::error::{Error, Result, shell_word};
use crate::segment_meta::SegmentMeta;

/// Bytes read at a time, a multiple of the block.
const READ_LEN: usize = 64 * BLOCK_LEN;

/// One damaged stretch of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// First byte of the block or region.
    pub offset: u64,
    /// Bytes of it.
    pub len: u64,
    /// What lies there: columns and rows.
    pub what: String,
}

/// What reading every byte of a segment found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Bytes read.
    pub bytes: u64,
    /// Everything that does not match its checksum, by offset.
    pub damages: Vec<Damage>,
}

impl VerifyReport {
    /// The first damage as an error.
    pub(super) fn into_result(self, path: &Path) -> Result<()> {
        let Some(first) = self.damages.first() else { return Ok(()) };
        let message = format!(
            "{} bytes of a segment do not match their checksum: {} ({} damaged stretches in all)",
            first.len,
            first.what,
            self.damages.len()
        );
        Err(Error::corrupt("AKI-0504", path, first.offset, message).help_is(mending(path)))
    }
}

/// What mends the damaged segment at `path`.
pub(crate) fn mending(path: &Path) -> String {
    let path = shell_word(path);
    format!(
        "take the file back from a backend that has it: `akidb repair segment {path} --from BACKEND`; if none has it, \
         `akidb repair segment {path} --drop` gives it up and names the ids that are lost"
    )
}

/// Reads and compares everything: blocks, tail, whole file.
pub(super) fn verify(shared: &CheckedFile, meta: &SegmentMeta) -> Result<VerifyReport> {
    let file = shared.blocks.origin();
    let path = &shared.path;
    let io = |offset: u64, e: &std::io::Error| {
        Error::io("AKI-0502", path, "reading a segment", e).at(path, Some(offset))
    };
    let mut damages = Vec::new();
    let len = file.len().map_err(|e| io(0, &e))?;
    if len != meta.size {
        let what = format!("the file has {len} bytes instead of {}", meta.size);
        damages.push(Damage { offset: len.min(meta.size), len: len.abs_diff(meta.size), what });
        return Ok(VerifyReport { bytes: 0, damages });
    }
    let mut whole = Hasher::new();
    let mut buffer = vec![0; READ_LEN];
    let covered = shared.blocks.covered();
    let mut offset = 0;
    for table in shared.blocks.table().chunks(READ_LEN / BLOCK_LEN) {
        let len = usize::try_from(covered - offset).unwrap_or(usize::MAX).min(READ_LEN);
        file.read_exact_at(&mut buffer[..len], offset).map_err(|e| io(offset, &e))?;
        whole.update(&buffer[..len]);
        for (crc, block) in table.iter().zip(buffer[..len].chunks(BLOCK_LEN)) {
            if crc32fast::hash(block) != *crc {
                damages.push(Damage { offset, len: block.len() as u64, what: shared.describe(offset) });
            }
            offset += block.len() as u64;
        }
    }
    let mut tail = vec![0; usize::try_from(meta.size - covered).unwrap_or(0)];
    file.read_exact_at(&mut tail, covered).map_err(|e| io(covered, &e))?;
    whole.update(&tail);
    let digits = format::tail_digits(&tail);
    let sealed = digits.map(|digits| format::tail_crc32(&tail, &digits));
    if sealed != Some((meta.tail_crc32, Some(meta.tail_crc32))) {
        let what = "check table, page indexes or footer".to_string();
        damages.push(Damage { offset: covered, len: tail.len() as u64, what });
    }
    if damages.is_empty() && whole.finalize() != meta.crc32 {
        let what = "the file is sound but not the one the manifest names".to_string();
        damages.push(Damage { offset: 0, len: meta.size, what });
    }
    Ok(VerifyReport { bytes: meta.size, damages })
}
