//! One log file as a person sees it: header facts, frames, and why reading stopped. Reads only.

use std::path::{Path, PathBuf};

use akidb_host::Fs;

use crate::error::Result;
use crate::frame::{Frame, Head, Misfit, read_frame};
use crate::header::{HEADER_PAGE_BYTES, Origin, parse_file_name};
use crate::log_file::View;
use crate::lsn::Lsn;

/// Facts of a log file's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFacts {
    /// The log it belongs to.
    pub log_id: [u8; 16],
    /// Its number, from 1.
    pub seq: u64,
    /// What its frames are salted with.
    pub salt: u64,
    /// Size it was made with, bytes.
    pub file_bytes: u64,
    /// Epoch of the writer that made it.
    pub epoch: u32,
    /// Made at an open; otherwise by rotation.
    pub made_at_open: bool,
    /// It is shorter than it was made.
    pub truncated: bool,
}

/// Facts of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameFacts {
    /// Where it begins, bytes from the file's start.
    pub offset: u64,
    /// `batch`, `start`, `seal`, `stamp` or `cut`.
    pub kind: &'static str,
    /// LSN of its first record, or the next one to come.
    pub lsn: Lsn,
    /// Records in it.
    pub count: u16,
    /// Payload bytes.
    pub len: u32,
    /// Highest LSN known durable when it was written.
    pub durable: Lsn,
    /// Header and payload are intact; else only the header is.
    pub ok: bool,
}

/// What one log file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The file.
    pub file: PathBuf,
    /// Its header.
    pub header: HeaderFacts,
    /// Its frames in order. After the first that is not intact come those found by searching behind it.
    pub frames: Vec<FrameFacts>,
    /// Where the first unbroken run of intact frames ends, bytes.
    pub end_offset: u64,
    /// Why it ends there, in words.
    pub end_reason: &'static str,
}

/// Reads one log file. Says what is there, not whether anything was lost: that needs all files of the log.
///
/// # Errors
/// `Io`; `Corrupt` or `NewerFormat` if the header cannot be read.
pub fn inspect(fs: &dyn Fs, path: &Path) -> Result<Inspection> {
    inspect_records(fs, path, &mut |_, _, _| {})
}

/// As [`inspect`], showing `each` record of an intact frame on the way: its frame, its LSN, its bytes.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_records(
    fs: &dyn Fs,
    path: &Path,
    each: &mut dyn FnMut(&FrameFacts, Lsn, &[u8]),
) -> Result<Inspection> {
    let view = View::open_any(fs, path, path.file_name().and_then(|n| parse_file_name(n.to_str()?)))?;
    let bytes = view.bytes();
    let salt = view.header.salt;
    let mut frames = Vec::new();
    let mut at = HEADER_PAGE_BYTES;
    let mut whole = |at, frame: &Frame<'_>| {
        let facts = facts(at, &frame.head, true);
        frame.records().for_each(|(lsn, record)| each(&facts, lsn, record));
        facts
    };
    // `None`: the disk cannot read what comes next.
    let misfit = loop {
        match view.frame(at) {
            Ok(Ok(frame)) => {
                frames.push(whole(at, &frame));
                at += usize::try_from(frame.head.frame_bytes()).expect("the frame lies in memory");
            }
            Ok(Err(misfit)) => break Some(misfit),
            Err(_) => break None,
        }
    };
    let sealed = frames.last().is_some_and(|frame| frame.kind == "seal");
    let is_read = misfit.is_some() && view.load(at..bytes.len()).is_ok();
    let end_reason = match misfit {
        Some(Misfit::Zero) if sealed => "sealed",
        Some(misfit) if is_read => misfit.reason(),
        _ => "the disk cannot read all of what follows",
    };
    let behind = if is_read { at..bytes.len() } else { 0..0 };
    for behind in behind.step_by(8) {
        match read_frame(bytes, behind, salt) {
            Ok(frame) => frames.push(whole(behind, &frame)),
            Err(Misfit::Payload(head)) => frames.push(facts(behind, &head, false)),
            Err(_) => {}
        }
    }
    let header = HeaderFacts {
        log_id: view.header.log_id,
        seq: view.header.seq,
        salt,
        file_bytes: view.header.file_bytes,
        epoch: view.header.epoch,
        made_at_open: view.header.origin == Origin::Open,
        truncated: view.truncated,
    };
    Ok(Inspection { file: path.into(), header, frames, end_offset: at as u64, end_reason })
}

fn facts(at: usize, head: &Head, ok: bool) -> FrameFacts {
    FrameFacts {
        offset: at as u64,
        kind: head.kind.name(),
        lsn: head.lsn,
        count: head.count,
        len: head.len,
        durable: head.durable,
        ok,
    }
}
