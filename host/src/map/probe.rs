//! What one stored byte costs the disk.

use crate::fs::{File, Fs};

/// A reading that no large folio gives: two pages, for the one stored to and one of somebody else's.
const SMALL_FOLIO_BYTES: u64 = 8 << 10;

/// How many bytes the disk writes for one byte stored through a map of `file` at `offset`: a page where the page
/// cache keeps the file in small folios, up to megabytes where it does not. `None` where the machine does not
/// tell or the file cannot be mapped.
///
/// The byte keeps its value. For a file nobody else maps or writes. Writes by other threads of this process
/// only raise a reading, so the smallest of three counts, and one small one is enough. Blocks for a few syncs.
pub fn probe_folio(fs: &dyn Fs, file: &dyn File, offset: u64) -> Option<u64> {
    let mut byte = [0_u8];
    file.read_exact_at(&mut byte, offset).ok()?;
    let mut least = None;
    for _ in 0..3 {
        file.sync_data().ok()?;
        let (mut appender, _tail) = file.map_log(file.len().ok()?).ok()?.split();
        let before = fs.written_bytes()?;
        appender.seek(offset);
        appender.append(&byte).ok()?;
        file.sync_data().ok()?;
        let grown = fs.written_bytes()?.saturating_sub(before);
        least = Some(least.map_or(grown, |l: u64| l.min(grown)));
        if grown <= SMALL_FOLIO_BYTES {
            break;
        }
    }
    least
}
