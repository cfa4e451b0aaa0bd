//! The reader slots of the control page: who reads which file, and which of them are dead.
//!
//! A reader takes a free slot by an exchange of its first word, from zero to its pid and epoch; stores its start time
//! and the file's seq; then looks at the epoch and the floor again, because the writer may have swept or moved on
//! meanwhile. It frees the slot by storing zeros, the first word last.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use akidb_host::{Access, AtomicPage, Fs};

use super::{Bytes, SLOTS};
use crate::frame::u32_at;

const SLOT_BYTES: usize = 64;
const COUNT: usize = (AtomicPage::BYTES - SLOTS) / SLOT_BYTES;
const START: usize = 8;
const SEQ: usize = 16;
/// In place of a pid: the writer is clearing this slot.
const SWEEPING: u64 = u32::MAX as u64;

fn all() -> impl Iterator<Item = usize> {
    (0..COUNT).map(|i| SLOTS + i * SLOT_BYTES)
}

pub(super) fn taken(page: &Bytes) -> u32 {
    all().map(|slot| u32::from(u32_at(page, slot) != 0)).sum()
}

pub(super) fn is_pinned(page: &AtomicPage, seq: u64) -> bool {
    all().any(|slot| {
        page.load_u64(slot, Ordering::Acquire) & u64::from(u32::MAX) != 0
            && page.load_u64(slot + SEQ, Ordering::Acquire) == seq
    })
}

/// Frees the slots whose process is gone. Without a `/proc` that names this process nobody is known to be dead.
pub(super) fn sweep(page: &AtomicPage, fs: &dyn Fs) {
    let taken = |slot: &usize| page.load_u64(*slot, Ordering::Acquire) != 0;
    let mut slots = all().filter(taken).peekable();
    if slots.peek().is_none() || this_process(fs).0 == 0 {
        return;
    }
    for slot in slots {
        let owner = page.load_u64(slot, Ordering::Acquire);
        let start = page.load_u64(slot + START, Ordering::Acquire);
        let unfinished = owner == SWEEPING;
        if !unfinished && !is_dead(fs, owner & u64::from(u32::MAX), start) {
            continue;
        }
        // Exchanged, not stored: a dead reader's slot is nobody else's to take before it is clear.
        if unfinished || page.compare_exchange(slot, owner, SWEEPING).is_ok() {
            page.store_u64(slot + SEQ, 0, Ordering::Release);
            page.store_u64(slot + START, 0, Ordering::Release);
            page.store_u64(slot, 0, Ordering::Release);
        }
    }
}

/// Whether the process that took a slot is known to be gone: no such pid, another process under it, or one that has
/// ended and waits for its parent.
fn is_dead(fs: &dyn Fs, pid: u64, start: u64) -> bool {
    match stat(fs, &format!("/proc/{pid}/stat")) {
        Ok(process) => process.ended || start != 0 && process.start != start,
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

/// Pid and start time of this process; zeros where the machine does not say.
pub(super) fn this_process(fs: &dyn Fs) -> (u32, u64) {
    stat(fs, "/proc/self/stat").map_or((0, 0), |process| (process.pid, process.start))
}

struct Process {
    pid: u32,
    ended: bool,
    /// Clock ticks since the boot.
    start: u64,
}

fn stat(fs: &dyn Fs, path: &str) -> io::Result<Process> {
    let file = fs.open(Path::new(path), Access::Read)?;
    let mut buf = [0; 1024];
    let len = file.read_at(&mut buf, 0)?;
    parse(&String::from_utf8_lossy(&buf[..len])).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `pid (name) state ...`, where the name may hold anything and field 22 is the start time.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(' ')?;
    let (_, fields) = rest.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let ended = matches!(fields.next()?, "Z" | "X");
    let start = fields.nth(18)?.parse().ok()?;
    Some(Process { pid: pid.parse().ok()?, ended, start })
}

#[cfg(test)]
#[cfg(not(akidb_loom))]
mod tests {
    use akidb_host::RealFs;

    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let fields = "4 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        let process = parse(&format!("12 (a) R (b c) S {fields} 777 9 9")).unwrap();
        assert_eq!((process.pid, process.ended, process.start), (12, false, 777));
        assert!(parse(&format!("12 (x) Z {fields} 777 9")).unwrap().ended);
        assert!(parse("12 (x) S 1").is_none() && parse("").is_none());
        let (pid, start) = this_process(&RealFs);
        assert_eq!(pid, std::process::id());
        assert!(start > 0);
    }

    #[test]
    fn only_the_slots_of_the_dead_are_swept() {
        let page = AtomicPage::in_memory().unwrap();
        let (pid, start) = this_process(&RealFs);
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let dead = u64::from(ended.id());
        let owners = [(u64::from(pid), start), (dead, 1), (u64::from(pid), start + 1), (u64::from(pid), 0)];
        for (i, (owner, start)) in owners.into_iter().enumerate() {
            let slot = SLOTS + i * SLOT_BYTES;
            page.store_u64(slot, 1 << 32 | owner, Ordering::Release);
            page.store_u64(slot + START, start, Ordering::Release);
            page.store_u64(slot + SEQ, 10 + i as u64, Ordering::Release);
        }
        page.store_u64(SLOTS + 59 * SLOT_BYTES, SWEEPING, Ordering::Release);
        assert!((10..14).all(|seq| is_pinned(&page, seq)) && !is_pinned(&page, 14));
        sweep(&page, &RealFs);
        let pinned: Vec<_> = (10..14).filter(|seq| is_pinned(&page, *seq)).collect();
        assert_eq!(pinned, [10, 13], "a reader that lives, and one that has not said its start time");
        assert_eq!(taken(&page.copy()), 2);
        assert!(!is_pinned(&page, 0), "a free slot pins nothing");
    }
}
