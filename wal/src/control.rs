//! The control page: file `control` beside the log files, 4,096 bytes, shared between processes through a map.
//!
//! It says who writes, how far the disk is, and who reads; other processes will follow the log by it. It is written
//! whole at each open for writing, then word by word, and never synced: losing it loses no record. One word of it is
//! evidence after a crash: `durable` is stored after the sync that it tells of returned, so no copy of it, however
//! old, is ahead of the disk. Little endian; what is not drawn is zero.
//!
//! ```text
//! line 0, the writer: written at open
//!   0  8 magic "AKIDBCTL"     8  2 major = 1   10  2 minor   12  4 crc32 of bytes 0..64 with this field zero
//!  16 16 log id              32 16 boot id     48  4 writer pid, 0 unknown    52  4 epoch
//!  56  8 start time of the writer (field 22 of /proc/<pid>/stat), 0 unknown
//! line 1, the disk: written by whoever leads a sync, after it
//!  64  8 durable: every record up to this LSN is on disk    72  4 seq of the active file (low 32 bits)
//!  76  4 wake: changes whenever durable does                80  4 check = crc32 of (log id, durable)
//! line 2, the log
//! 128  8 appended: at least so far    136  8 floor    144  4 state: 1 open, 2 poisoned, 3 closed
//! line 3: zero
//! 256 60 reader slots of 64 bytes
//!   0  4 pid, 0: the slot is free      4  4 epoch the reader saw      8  8 its start time, 0: not said yet
//!  16  8 seq of the file it reads
//! ```
//!
//! The identity is believed if its crc holds, `durable` if its check word does as well: a rotten one must not turn a
//! torn tail into damage. A crash between the stores of the two costs the evidence, nothing else.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use akidb_host::{Access, AtomicPage, Fs};

use crate::error::{Error, Result};
use crate::frame::{u32_at, u64_at};
use crate::header::file_name;
use crate::log_file::View;
use crate::lsn::Lsn;
use crate::open::Identity;

mod slots;

/// The file's name.
pub(crate) const NAME: &str = "control";
const TMP: &str = "control.tmp";
const MAGIC: &[u8; 8] = b"AKIDBCTL";
const MAJOR: u16 = 1;
const LINE_BYTES: usize = 64;
const DURABLE: usize = 64;
const ACTIVE_SEQ: usize = 72;
const WAKE: usize = 76;
const CHECK: usize = 80;
const APPENDED: usize = 128;
const FLOOR: usize = 136;
const STATE: usize = 144;
const SLOTS: usize = 256;

type Bytes = [u8; AtomicPage::BYTES];

/// What the writer of a control page last said about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlState {
    /// It writes, or it died: its pid and start time tell.
    Open = 1,
    /// A sync failed.
    Poisoned = 2,
    /// It closed the log cleanly.
    Closed = 3,
}

/// What a control page says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControlFacts {
    /// The log it belongs to.
    pub log_id: [u8; 16],
    /// The boot of the machine in which it was made, zeros where unknown. In another one only `durable` means
    /// anything.
    pub boot_id: [u8; 16],
    /// Process id of the writer, 0 where unknown.
    pub pid: u32,
    /// Start time of that process in clock ticks since the boot, 0 where unknown.
    pub start_ticks: u64,
    /// Epoch of the open that made it.
    pub epoch: u32,
    /// Every record up to here is on disk; `None` if the word is damaged.
    pub durable: Option<Lsn>,
    /// Low 32 bits of the number of the file being written.
    pub active_seq: u32,
    /// The log was appended to at least so far; a hint.
    pub appended: u64,
    /// Records below need not exist any more; a hint.
    pub floor: u64,
    /// `None` for a state this version does not know.
    pub state: Option<ControlState>,
    /// Taken reader slots.
    pub readers: u32,
}

/// Where a log stands when its page is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) durable: Lsn,
    pub(crate) floor: Lsn,
    pub(crate) active_seq: u64,
}

/// The page of a log that is open for writing. Without one every call does nothing.
#[derive(Debug, Default)]
pub(crate) struct Control {
    page: Option<AtomicPage>,
    log_id: [u8; 16],
    /// There may be readers in a page that this log cannot see.
    blind: bool,
}

impl Control {
    /// Makes the page, or takes over the one of an earlier open with its readers. A log does without if that fails.
    pub(crate) fn make(fs: &dyn Fs, dir: &Path, me: &Identity, at: &Standing) -> Self {
        let made = begin(fs, dir, me, at);
        let blind = made.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Unsupported);
        if let Err(e) = made.as_ref().map_err(|e| e.to_string()) {
            tracing::warn!(file = %dir.join(NAME).display(), error = %e, "no control page");
        }
        Self { page: made.ok(), log_id: me.log_id, blind }
    }

    /// Every record up to `durable` is on disk now. For the leader of a sync, after the sync.
    pub(crate) fn raise(&self, durable: Lsn) {
        let Some(page) = &self.page else { return };
        page.store_u64(DURABLE, durable.as_u64(), Ordering::Release);
        page.store_u64(CHECK, u64::from(check(&self.log_id, durable.as_u64())), Ordering::Release);
        page.fetch_add_u32(WAKE, 1);
        self.appended(durable);
    }

    /// Writing goes on in file `seq`, behind record `appended`.
    pub(crate) fn rotated(&self, seq: u64, appended: Lsn) {
        let Some(page) = &self.page else { return };
        page.store_u32(ACTIVE_SEQ, low_half(seq));
        self.appended(appended);
    }

    pub(crate) fn set_floor(&self, floor: Lsn) {
        if let Some(page) = &self.page {
            page.store_u64(FLOOR, floor.as_u64(), Ordering::Release);
        }
    }

    pub(crate) fn set_state(&self, state: ControlState) {
        if let Some(page) = &self.page {
            page.store_u32(STATE, state as u32);
            page.fetch_add_u32(WAKE, 1);
        }
    }

    /// Whether a reader in another process has file `seq` open: such a file is unlinked, never written again. Ask it
    /// after [`Control::sweep`].
    pub(crate) fn is_pinned(&self, seq: u64) -> bool {
        self.page.as_ref().map_or(self.blind, |page| slots::is_pinned(page, seq))
    }

    /// Frees the slots of readers that are dead.
    pub(crate) fn sweep(&self, fs: &dyn Fs) {
        if let Some(page) = &self.page {
            slots::sweep(page, fs);
        }
    }

    /// A hint: two threads that store it at once may leave the lower one for a moment.
    fn appended(&self, lsn: Lsn) {
        let Some(page) = &self.page else { return };
        if page.load_u64(APPENDED, Ordering::Relaxed) < lsn.as_u64() {
            page.store_u64(APPENDED, lsn.as_u64(), Ordering::Release);
        }
    }
}

/// Reads the control page of a log's directory: `None` where there is none that can be believed. For evidence, read
/// it before the log files: a living writer goes on meanwhile.
///
/// Blocks for one read.
pub fn read_control(fs: &dyn Fs, dir: &Path) -> Option<ControlFacts> {
    facts(&*read(fs, &dir.join(NAME))?)
}

/// The highest LSN that a page proves to have been on disk, for a log of these files; [`Lsn::ZERO`] if none.
pub(crate) fn evidence(page: Option<&ControlFacts>, views: &[View]) -> Lsn {
    let ours = page.filter(|page| views.first().is_some_and(|view| view.header.log_id == page.log_id));
    ours.and_then(|page| page.durable).unwrap_or(Lsn::ZERO)
}

/// A log without files is a new one, or one of which nothing is needed any more; unless its page says that a record at or
/// above the floor was on disk.
///
/// # Errors
/// `Corrupt`, naming the file that was written last.
pub(crate) fn refuse_loss_of_all(page: Option<&ControlFacts>, dir: &Path, floor: Lsn) -> Result<()> {
    let Some((page, durable)) = page.and_then(|page| Some((page, page.durable?))) else { return Ok(()) };
    if durable == Lsn::ZERO || durable < floor {
        return Ok(());
    }
    let evidence = format!(
        "the file is missing, and so is every other log file of {}, whose control page says that {durable} was already on \
         disk: put them back if they are anywhere",
        dir.display()
    );
    let missing = dir.join(file_name(page.active_seq.into()));
    // Dense inside an epoch: there was a record at the floor. Else only of the last one that is certain.
    let lost = if floor.epoch() == durable.epoch() { floor } else { durable };
    Err(Error::corrupt(&missing, 0, lost, evidence))
}

fn read(fs: &dyn Fs, path: &Path) -> Option<Box<Bytes>> {
    let mut bytes = Box::new([0; AtomicPage::BYTES]);
    let file = fs.open(path, Access::Read).ok()?;
    if file.len().ok()? != bytes.len() as u64 {
        return None;
    }
    file.read_exact_at(&mut *bytes, 0).ok()?;
    Some(bytes)
}

fn begin(fs: &dyn Fs, dir: &Path, me: &Identity, at: &Standing) -> io::Result<AtomicPage> {
    let path = dir.join(NAME);
    let mut page = encode(fs, me, at);
    let old = read(fs, &path).filter(|old| facts(old).is_some_and(|old| old.log_id == me.log_id));
    if let Some(old) = old {
        // The same file, so that readers see the epoch rise; whole, so that it has no hole to be killed by.
        page[SLOTS..].copy_from_slice(&old[SLOTS..]);
        put_u32(&mut page, WAKE, u32_at(&old[..], WAKE).wrapping_add(1));
        let file = fs.open(&path, Access::ReadWrite)?;
        file.write_at(&*page, 0)?;
        return file.map_atomics();
    }
    let tmp = dir.join(TMP);
    match fs.unlink(&tmp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let made = fs.create_new(&tmp).and_then(|file| {
        file.write_at(&*page, 0)?;
        let page = file.map_atomics()?;
        fs.rename(&tmp, &path)?;
        Ok(page)
    });
    made.inspect_err(|_| {
        // Unused; if it stays, the next open removes it.
        let _ = fs.unlink(&tmp);
    })
}

fn encode(fs: &dyn Fs, me: &Identity, at: &Standing) -> Box<Bytes> {
    let (pid, start) = slots::this_process(fs);
    let mut page = Box::new([0; AtomicPage::BYTES]);
    page[..8].copy_from_slice(MAGIC);
    page[8..10].copy_from_slice(&MAJOR.to_le_bytes());
    page[16..32].copy_from_slice(&me.log_id);
    page[32..48].copy_from_slice(&me.boot_id);
    put_u32(&mut page, 48, pid);
    put_u32(&mut page, 52, me.epoch);
    put_u64(&mut page, 56, start);
    let crc = crc32fast::hash(&page[..LINE_BYTES]);
    put_u32(&mut page, 12, crc);
    put_u64(&mut page, DURABLE, at.durable.as_u64());
    put_u32(&mut page, ACTIVE_SEQ, low_half(at.active_seq));
    put_u32(&mut page, CHECK, check(&me.log_id, at.durable.as_u64()));
    put_u64(&mut page, APPENDED, at.durable.as_u64());
    put_u64(&mut page, FLOOR, at.floor.as_u64());
    put_u32(&mut page, STATE, ControlState::Open as u32);
    page
}

/// `None` if it is no control page of this version, or its identity is damaged.
fn facts(page: &Bytes) -> Option<ControlFacts> {
    let mut line = [0; LINE_BYTES];
    line.copy_from_slice(&page[..LINE_BYTES]);
    line[12..16].fill(0);
    let major = u16::from_le_bytes([line[8], line[9]]);
    let epoch = u32_at(&line, 52);
    if line[..8] != *MAGIC || crc32fast::hash(&line) != u32_at(page, 12) || major != MAJOR {
        return None;
    }
    let log_id: [u8; 16] = line[16..32].try_into().expect("16 bytes");
    let durable = u64_at(page, DURABLE);
    let holds = u32_at(page, CHECK) == check(&log_id, durable);
    Some(ControlFacts {
        log_id,
        boot_id: line[32..48].try_into().expect("16 bytes"),
        pid: u32_at(&line, 48),
        start_ticks: u64_at(&line, 56),
        epoch,
        durable: Lsn::from_u64(durable).filter(|_| holds),
        active_seq: u32_at(page, ACTIVE_SEQ),
        appended: u64_at(page, APPENDED),
        floor: u64_at(page, FLOOR),
        state: match u32_at(page, STATE) {
            1 => Some(ControlState::Open),
            2 => Some(ControlState::Poisoned),
            3 => Some(ControlState::Closed),
            _ => None,
        },
        readers: slots::taken(page),
    })
}

fn check(log_id: &[u8; 16], durable: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(log_id);
    crc.update(&durable.to_le_bytes());
    crc.finalize()
}

fn low_half(seq: u64) -> u32 {
    u32::try_from(seq & u64::from(u32::MAX)).expect("32 bits are left")
}

fn put_u32(page: &mut Bytes, at: usize, value: u32) {
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(page: &mut Bytes, at: usize, value: u64) {
    page[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
