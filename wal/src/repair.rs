//! `akidb repair wal-cut`: ends a damaged log at a frame boundary, by a person's order, keeping every byte aside.
//!
//! The file is copied to `FILE.damaged-<n>`, later files are renamed likewise, then the file is zeroed from the
//! offset on and a CUT frame is put there. CUT tells the next open that the log ends here by order, whatever the
//! stamps or the manifest say. Where nothing of the file is kept (its header or its first frame is damaged, or the
//! file is missing), a new file with nothing but a CUT takes its place: one made at an open must begin with a START.

use std::io;
use std::path::{Path, PathBuf};

use akidb_host::{Access, Fs, Rng};

use crate::config::WritePath;
use crate::control::read_control;
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::frame::{CUT_PAYLOAD_BYTES, FrameType, TRAILER_BYTES, encode_whole};
use crate::header::{HEADER_PAGE_BYTES, Header, Origin, file_name, parse_file_name};
use crate::log_file::{LogFile, Plan, View};
use crate::lsn::Lsn;

/// What a cut did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutReport {
    /// The copy of the damaged file as it was; `None` if there was no file.
    pub saved_as: Option<PathBuf>,
    /// Later log files, with the names they got.
    pub set_aside: Vec<(PathBuf, PathBuf)>,
    /// The last record of the file before the cut; [`Lsn::ZERO`] if it has none.
    pub last_kept: Lsn,
    /// Bytes of the file behind the cut.
    pub dropped_bytes: u64,
}

/// Cuts the log at `offset` of the log file `path` (as a `Corrupt` error names them). The log must not be open.
/// With `dry_run` only says what it would do.
///
/// # Errors
/// `Invalid` if the name is no log file's or `offset` is not the end of an intact frame; `Io`, `NoSpace`.
pub fn cut_at(fs: &dyn Fs, path: &Path, offset: u64, dry_run: bool) -> Result<CutReport> {
    let invalid = |text: String| Error::new(ErrorKind::Invalid(text), Fate::Untouched);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let seq = parse_file_name(name)
        .ok_or_else(|| invalid(format!("{} does not have the name of a log file", path.display())))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let files = Files::list(fs, dir)?;
    let exists = files.seqs.contains(&seq);
    let whole = offset <= HEADER_PAGE_BYTES as u64;
    let mut report = CutReport {
        saved_as: exists.then(|| files.aside(path)),
        set_aside: Vec::new(),
        last_kept: Lsn::ZERO,
        dropped_bytes: 0,
    };
    for later in files.seqs.iter().filter(|later| **later > seq) {
        let from = dir.join(file_name(*later));
        report.set_aside.push((from.clone(), files.aside(&from)));
    }
    let epoch = max_epoch(fs, dir, &files.seqs);
    if whole {
        let header = header_of_neighbour(fs, dir, &files.seqs, seq);
        if !dry_run {
            set_aside(fs, dir, &report)?;
            if let Some(saved) = &report.saved_as {
                fs.rename(path, saved).map_err(|e| Error::io("set aside", path, e))?;
            }
            replace(fs, dir, header, epoch)?;
        }
        return Ok(report);
    }
    let view = View::open(fs, path, seq)?;
    let (last, intact) = boundary(&view, offset)?;
    if !intact || offset + TRAILER_BYTES > view.header.file_bytes {
        return Err(invalid(format!(
            "offset {offset} of {} is not the end of an intact frame",
            path.display()
        )));
    }
    report.last_kept = last;
    report.dropped_bytes = (view.region.bytes().len() as u64).saturating_sub(offset);
    if !dry_run {
        let saved = report.saved_as.clone().expect("the file was opened");
        copy(fs, path, &saved)?;
        set_aside(fs, dir, &report)?;
        let cut = cut_frame(last, epoch, view.header.salt);
        cut_here(fs, path, offset, view.header.file_bytes, &cut).map_err(|e| Error::io("cut", path, e))?;
    }
    Ok(report)
}

/// The last record before `offset`, and whether intact frames lead exactly there.
///
/// # Errors
/// `Unreadable`.
fn boundary(view: &View, offset: u64) -> Result<(Lsn, bool)> {
    let mut last = Lsn::ZERO;
    let mut at = HEADER_PAGE_BYTES;
    while (at as u64) < offset {
        let Ok(frame) = view.frame(at)? else { return Ok((last, false)) };
        if frame.head.kind == FrameType::Batch {
            last = frame.head.last();
        }
        at += usize::try_from(frame.head.frame_bytes()).expect("the frame lies in memory");
    }
    Ok((last, at as u64 == offset))
}

fn cut_frame(last: Lsn, epoch: u32, salt: u64) -> Vec<u8> {
    let mut payload = [0; CUT_PAYLOAD_BYTES];
    payload[..4].copy_from_slice(&epoch.to_le_bytes());
    let next = if last == Lsn::ZERO { Lsn::ZERO } else { last.plus(1) };
    encode_whole(FrameType::Cut, next, last, &payload, salt)
}

fn cut_here(fs: &dyn Fs, path: &Path, offset: u64, size: u64, cut: &[u8]) -> io::Result<()> {
    let file = fs.open(path, Access::ReadWrite)?;
    if file.len()? < size {
        file.set_len(size)?;
    }
    file.zero_fill(offset, size)?;
    file.write_at(cut, offset)?;
    file.sync_all()
}

/// A file with nothing but a CUT, in place of one that cannot be read or is not there.
fn replace(fs: &dyn Fs, dir: &Path, header: Header, epoch: u32) -> Result<()> {
    let file = LogFile::make(fs, &Plan { header, dir: dir.into(), write_path: WritePath::Positioned })?;
    let written = file.file.write_at(&cut_frame(Lsn::ZERO, epoch, header.salt), HEADER_PAGE_BYTES as u64);
    written.and_then(|()| file.file.sync_all()).map_err(|e| Error::io("write", &file.path, e))?;
    file.publish(fs, dir)
}

/// The header of a replacement: of the same log and session as the file before it.
fn header_of_neighbour(fs: &dyn Fs, dir: &Path, seqs: &[u64], seq: u64) -> Header {
    let readable = |other: &&u64| View::open(fs, &dir.join(file_name(**other)), **other).ok();
    let before = seqs.iter().rev().filter(|other| **other < seq).find_map(|s| readable(&s));
    let any = before.clone().or_else(|| seqs.iter().find_map(|s| readable(&s)));
    // Where every file is gone the control page still knows whose log it is.
    let log_id = any.map(|view| view.header.log_id).or_else(|| Some(read_control(fs, dir)?.log_id));
    Header {
        log_id: log_id.unwrap_or([0; 16]),
        seq,
        salt: Rng::from_machine().u64() | 1,
        file_bytes: 2 * HEADER_PAGE_BYTES as u64,
        epoch: before.map_or(0, |view| view.header.epoch),
        origin: Origin::Spare,
    }
}

/// The highest epoch that any file or the control page bears witness to; it is not given out again although its files are set
/// aside, or gone.
fn max_epoch(fs: &dyn Fs, dir: &Path, seqs: &[u64]) -> u32 {
    let views = seqs.iter().filter_map(|seq| View::open(fs, &dir.join(file_name(*seq)), *seq).ok());
    let page = read_control(fs, dir).map(|page| page.epoch);
    views.map(|view| view.header.epoch).chain(page).max().unwrap_or(0)
}

/// Copies what the disk can read; where it cannot, the copy has zeros.
fn copy(fs: &dyn Fs, path: &Path, to: &Path) -> Result<()> {
    let copied = fs.create_new(to).and_then(|file| {
        let from = fs.open(path, Access::Read)?;
        let (len, mut page, mut at, mut lost) = (from.len()?, [0; HEADER_PAGE_BYTES], 0, 0_u64);
        file.set_len(len)?;
        while at < len {
            let room = usize::try_from(len - at).map_or(page.len(), |left| left.min(page.len()));
            match from.read_exact_at(&mut page[..room], at) {
                Ok(()) => file.write_at(&page[..room], at)?,
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(e),
                Err(_) => lost += room as u64,
            }
            at += room as u64;
        }
        if lost > 0 {
            tracing::warn!(file = %path.display(), copy = %to.display(), lost, "bytes that cannot be read are zeros in the copy");
        }
        file.sync_all()
    });
    copied.map_err(|e| {
        let _ = fs.unlink(to);
        Error::io("copy", path, e)
    })
}

/// Renames later files, the last one first, and makes their names durable.
fn set_aside(fs: &dyn Fs, dir: &Path, report: &CutReport) -> Result<()> {
    for (from, to) in report.set_aside.iter().rev() {
        fs.rename(from, to).map_err(|e| Error::io("set aside", from, e))?;
    }
    fs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}

struct Files {
    seqs: Vec<u64>,
    names: Vec<String>,
}

impl Files {
    fn list(fs: &dyn Fs, dir: &Path) -> Result<Self> {
        let names: Vec<_> = fs
            .list(dir)
            .map_err(|e| Error::io("list", dir, e))?
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        let mut seqs: Vec<_> = names.iter().filter_map(|name| parse_file_name(name)).collect();
        seqs.sort_unstable();
        Ok(Self { seqs, names })
    }

    /// A name beside `path` that nothing has.
    fn aside(&self, path: &Path) -> PathBuf {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let free = (1..).map(|n| format!("{name}.damaged-{n}")).find(|name| !self.names.contains(name));
        path.with_file_name(free.expect("there are more numbers than names"))
    }
}
