//! What recovery found, split at the proven LSN.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::seeded_bug;

use crate::frame::{FrameType, Misfit, Start, StartKind, TRAILER_BYTES, frame_bytes, read_frame, read_head};
use crate::header::HEADER_PAGE_BYTES;
use crate::log_file::{Source, View};
use crate::lsn::Lsn;

/// Where the log's intact part ended, and what lay behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: PathBuf,
    /// Where its intact part ends, in bytes.
    pub offset: u64,
    /// Bytes from there to the last one that is not zero, in this and later files.
    pub bytes: u64,
    /// Intact frame headers among them.
    pub frames: u64,
    /// Whether an operator ordered it (`akidb repair wal-cut`); else it is a torn tail, or damage in the last
    /// group, which nothing can tell from one.
    pub by_order: bool,
}

/// A stretch of intact frames in one file.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) path: PathBuf,
    pub(crate) source: Source,
    pub(crate) salt: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Payloads were checked in this very map and need not be again. ([`Frames`](crate::replay::Frames) says when.)
    pub(crate) judged: bool,
}

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct ReadFile {
    pub(crate) view: usize,
    /// Where its intact frames end, and the last record there.
    pub(crate) end: u64,
    pub(crate) last: Lsn,
    /// Ends of some batches, in order, each with its last record: so that what lies near the end is found again
    /// without a walk over all headers.
    pub(crate) marks: Vec<(u64, Lsn)>,
}

impl ReadFile {
    /// Bytes between two marks at least.
    const MARK_EVERY_BYTES: u64 = 256 << 10;

    /// A batch with this last record ended at `end`; whether that is worth a mark.
    pub(crate) fn batch(marks: &mut Vec<(u64, Lsn)>, end: u64, last: Lsn) -> bool {
        let far = marks.last().map_or(0, |(mark, _)| *mark) + Self::MARK_EVERY_BYTES <= end;
        if far {
            marks.push((end, last));
        }
        far
    }

    /// The last mark with nothing above `proven` before it.
    fn mark_below(&self, proven: Lsn) -> Option<(u64, Lsn)> {
        self.marks.iter().rev().find(|(_, last)| *last <= proven).copied()
    }
}

/// A file whose records lie at or below `last`.
#[derive(Clone, Debug)]
pub(crate) struct OldFile {
    pub(crate) seq: u64,
    pub(crate) path: Arc<Path>,
    /// Bytes that count, and bytes on disk.
    pub(crate) used: u64,
    pub(crate) size: u64,
    pub(crate) last: Lsn,
}

/// Everything an open needs to know about what it found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Frames at or below the proven LSN, then those above.
    pub(crate) proven_legs: Vec<Leg>,
    pub(crate) unproven_legs: Vec<Leg>,
    pub(crate) unproven_bytes: u64,
    pub(crate) proven: Lsn,
    pub(crate) last: Lsn,
    /// First record at or above the floor; ZERO if there is none.
    pub(crate) first: Lsn,
    /// Where the part ends that is certainly on disk: file and offset.
    pub(crate) proven_seq: u64,
    pub(crate) proven_end: u64,
    pub(crate) cut: Option<Cut>,
    pub(crate) max_epoch: u32,
    pub(crate) live: Vec<OldFile>,
    /// Files that no reader will look at again once a new session has begun.
    pub(crate) dead: Vec<PathBuf>,
}

impl Findings {
    /// Files what was read, in order, as proven or not. `sessions` are the views where sessions begin; everything before
    /// the last one is proven by it.
    pub(crate) fn collect(mut self, views: &[View], read: &[ReadFile], sessions: &[usize]) -> Self {
        let session_from = *sessions.last().expect("what was read begins with a session");
        let found = &mut self;
        let proven = found.proven;
        let mut before = None;
        for file in read {
            let ReadFile { view: i, end, last, .. } = file;
            let view = &views[*i];
            if *end == HEADER_PAGE_BYTES as u64 && !found.live.is_empty() {
                // A spare, or nothing but a CUT.
                continue;
            }
            let split = if *i < session_from || *last <= proven {
                *end
            } else {
                first_above(view, file, proven, &mut before)
            };
            if split < *end && found.unproven_legs.is_empty() {
                // What a stamp or the floor says may lie between two records; what ends here is a record.
                found.proven = before.unwrap_or(proven);
            }
            let from = HEADER_PAGE_BYTES as u64;
            let leg = |from, to| Leg {
                path: view.path.clone(),
                source: Source::Old(view.region.clone()),
                salt: view.header.salt,
                from,
                to,
                judged: false,
            };
            if found.unproven_legs.is_empty() {
                found.proven_legs.push(leg(from, split));
                found.live.push(OldFile {
                    seq: view.header.seq,
                    path: view.path.as_path().into(),
                    used: split,
                    size: view.header.file_bytes,
                    last: (*last).min(found.proven),
                });
            }
            if split < *end || !found.unproven_legs.is_empty() {
                let leg = leg(if split < *end { split } else { from }, *end);
                found.unproven_bytes += batch_bytes(&leg);
                found.unproven_legs.push(leg);
            }
            before = Some(*last);
        }
        let ends = read.iter().rev().filter(|file| file.view >= session_from);
        let on_disk =
            ends.filter_map(|file| Some((file.view, end_on_disk(&views[file.view], file, proven)?))).next();
        let (i, end) = on_disk.unwrap_or((session_from, HEADER_PAGE_BYTES as u64));
        (found.proven_seq, found.proven_end) = (views[i].header.seq, end);
        found.leave_out_idle(views, read, sessions);
        let live = |view: &&View| !found.live.iter().any(|old| old.seq == view.header.seq);
        found.dead = views.iter().filter(live).map(|view| view.path.clone()).collect();
        self
    }
}

impl Findings {
    /// Leaves out the last sessions in which nothing was written, but the first of all: what begins now says itself where
    /// the one before them ends, as they did. A log that is opened again and again, and never gets to a record, would have
    /// a file more each time. One whose end was cut stays: that is all there is to see of what was lost.
    fn leave_out_idle(&mut self, views: &[View], read: &[ReadFile], sessions: &[usize]) {
        if self.cut.is_some() {
            return;
        }
        let mut until = views.len();
        for from in sessions.iter().skip(1).rev() {
            let mut files = read.iter().filter(|file| (*from..until).contains(&file.view));
            let (Some(file), None) = (files.next(), files.next()) else { return };
            let Some(start) = idle_since(&views[file.view], file) else { return };
            (self.proven_seq, self.proven_end) = (start.previous_seq, start.previous_end);
            let path = &views[file.view].path;
            self.live.retain(|old| *old.path != **path);
            self.proven_legs.retain(|leg| leg.path != *path);
            until = *from;
        }
    }
}

/// The START(new) of a session's first file, if no record was written behind it.
fn idle_since(view: &View, file: &ReadFile) -> Option<Start> {
    // It was read before: nothing can be wrong with the disk there.
    let (_, start) = view.start().ok().flatten().filter(|(_, start)| start.kind == StartKind::New)?;
    let mut at = HEADER_PAGE_BYTES;
    while (at as u64) < file.end {
        let head = read_head(view.bytes(), at, view.header.salt).ok()?;
        if head.kind == FrameType::Batch {
            return None;
        }
        at += usize::try_from(head.frame_bytes()).expect("the frame lies in memory");
    }
    // What an earlier open cut off lies behind the end: it is all there is to see of it.
    let until = (view.bytes().len() as u64).saturating_sub(TRAILER_BYTES);
    let rest = at..usize::try_from(until).expect("the file lies in memory");
    view.load(rest.clone()).ok()?;
    view.bytes().get(rest)?.iter().all(|byte| *byte == 0).then_some(start)
}

/// Offset of the first intact frame of `file` whose records lie above `proven`, or its end. `before` becomes the last
/// record before that frame; it comes with the last one before this file, if another was read.
fn first_above(view: &View, file: &ReadFile, proven: Lsn, before: &mut Option<Lsn>) -> u64 {
    let mut at = HEADER_PAGE_BYTES;
    if let Some((mark, last)) = file.mark_below(proven) {
        at = usize::try_from(mark).expect("the frame lies in memory");
        *before = Some(last);
    }
    while (at as u64) < file.end {
        let Ok(head) = read_head(view.bytes(), at, view.header.salt) else { break };
        if head.kind == FrameType::Batch && head.last() > proven {
            break;
        }
        match head.kind {
            FrameType::Batch => *before = Some(head.last()),
            FrameType::Start if before.is_none() => {
                let frame = read_frame(view.bytes(), at, view.header.salt).ok();
                *before =
                    frame.and_then(|frame| Start::decode(frame.payload)).map(|start| start.previous_last);
            }
            _ => {}
        }
        at += usize::try_from(head.frame_bytes()).expect("the frame lies in memory");
    }
    at as u64
}

/// Where the frames of a file end that are certainly on disk: behind the last proven batch, or behind the START that was
/// synced before the file got its name. What follows, a STAMP, a SEAL, or the START of a file rotated into, was perhaps
/// never synced: a session that began behind such a frame would take its loss in a power cut for damage.
fn end_on_disk(view: &View, file: &ReadFile, proven: Lsn) -> Option<u64> {
    let on_disk = file.mark_below(proven).map(|(mark, _)| mark);
    let at = on_disk.unwrap_or(HEADER_PAGE_BYTES as u64);
    let (mut at, mut on_disk) = (usize::try_from(at).expect("the frame lies in memory"), on_disk);
    while (at as u64) < file.end {
        let Ok(head) = read_head(view.bytes(), at, view.header.salt) else { break };
        if head.kind == FrameType::Batch && head.last() > proven {
            break;
        }
        at += usize::try_from(head.frame_bytes()).expect("the frame lies in memory");
        let synced = match head.kind {
            FrameType::Batch => true,
            FrameType::Start => view.made_at_open(),
            _ => false,
        };
        if synced || seeded_bug("session_begins_behind_a_mark") {
            on_disk = Some(at as u64);
        }
    }
    on_disk
}

fn batch_bytes(leg: &Leg) -> u64 {
    let bytes = leg.source.up_to(leg.to);
    let (mut at, mut sum) = (leg.from, 0);
    while at < leg.to {
        let Ok(head) =
            usize::try_from(at).map_err(|_| Misfit::End).and_then(|at| read_head(bytes, at, leg.salt))
        else {
            break;
        };
        if head.kind == FrameType::Batch {
            sum += head.frame_bytes();
        }
        at += frame_bytes(u64::from(head.len));
    }
    sum
}
