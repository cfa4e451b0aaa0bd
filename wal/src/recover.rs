//! What a directory of log files holds: the rule that tells a torn tail from damage, and what is proven.
//!
//! The files fall into *sessions*, one an open: a file made at the open, then the files it rotated into. The first
//! frame of the next session says where the one before ends for ever, so in all but the last session any bad frame
//! is damage. In the last one, at the first frame that is not intact and next in LSN order, with `n` the LSN
//! expected there, the rest of the log is searched for an intact header whose durable stamp is at least `n`, and
//! the caller's floor is asked. Either proves that record `n` was acknowledged: damage, nothing is modified.
//! Neither: a torn tail, cut there and reported.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Fate, Result};
use crate::frame::{Frame, FrameType, Misfit, Start, StartKind, frame_bytes, read_frame, read_head, u64_at};
use crate::header::{HEADER_PAGE_BYTES, file_name};
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

/// How a session that ends by itself is described.
const SEALED: &str = "a seal";

/// A stretch of intact frames in one file.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) path: PathBuf,
    pub(crate) source: Source,
    pub(crate) salt: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A file whose records lie at or below `last`.
#[derive(Clone, Debug)]
pub(crate) struct OldFile {
    pub(crate) seq: u64,
    pub(crate) path: PathBuf,
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
    /// Where the proven part ends: file and offset.
    pub(crate) proven_seq: u64,
    pub(crate) proven_end: u64,
    pub(crate) cut: Option<Cut>,
    pub(crate) max_epoch: u32,
    pub(crate) live: Vec<OldFile>,
    /// Files that no reader will look at again once a new session has begun.
    pub(crate) dead: Vec<PathBuf>,
}

/// Reads all of `views` (sorted by seq, of one log) and judges them. Changes nothing.
pub(crate) fn recover(views: &[View], floor: Lsn) -> Result<Findings> {
    if views.is_empty() {
        return Ok(Findings { proven: floor.pred(), last: floor.pred(), ..Findings::default() });
    }
    let front = find_front(views, floor);
    let mut walk = Walk::new(views, floor);
    walk.enter(front)?;
    let mut opens: Vec<usize> = (front + 1..views.len()).filter(|i| views[*i].made_at_open()).collect();
    opens.push(views.len());
    let mut from = front;
    for until in opens {
        let stop = match views.get(until) {
            Some(next) => Some(walk.session_start(next)?),
            None => None,
        };
        walk.session(from, until, stop)?;
        from = until;
    }
    walk.conclude()
}

/// The newest file that begins at or below the floor: what lies before it is not needed.
fn find_front(views: &[View], floor: Lsn) -> usize {
    (0..views.len())
        .rev()
        .find(|i| first_start(&views[*i]).is_some_and(|(_, start)| start.previous_last < floor))
        .unwrap_or(0)
}

fn first_start(view: &View) -> Option<(Frame<'_>, Start)> {
    let frame = read_frame(view.bytes(), HEADER_PAGE_BYTES, view.header.salt).ok()?;
    let start = Start::decode(frame.payload).filter(|_| frame.head.kind == FrameType::Start)?;
    Some((frame, start))
}

/// How reading one file ended.
enum FileEnd {
    /// At the place where the next session says it ends.
    Stopped,
    /// At a SEAL, at this offset.
    Sealed(u64),
    /// At an operator's CUT.
    Ordered(u64),
    /// At something else.
    Misfit(u64, Misfit),
}

/// Where a session ends according to the next one.
struct Stop {
    start: Start,
    said_by: PathBuf,
}

struct Walk<'a> {
    views: &'a [View],
    floor: Lsn,
    /// LSN expected next; ZERO before the first START was read.
    next: Lsn,
    last: Lsn,
    first: Lsn,
    /// Highest durable stamp seen.
    durable: Lsn,
    /// Index of the view where the last session began.
    session_from: usize,
    /// In the file being read, the START that opens its epoch was met.
    opened: bool,
    /// (view, end of its intact frames, last LSN at its end), in order.
    read: Vec<(usize, u64, Lsn)>,
    cut: Option<Cut>,
    max_epoch: u32,
}

impl<'a> Walk<'a> {
    fn new(views: &'a [View], floor: Lsn) -> Self {
        let max_epoch = views.iter().map(|v| v.header.epoch).max().unwrap_or(0);
        Self {
            views,
            floor,
            next: Lsn::ZERO,
            last: Lsn::ZERO,
            first: Lsn::ZERO,
            durable: floor.pred(),
            session_from: 0,
            opened: false,
            read: Vec::new(),
            cut: None,
            max_epoch,
        }
    }

    /// Checks that nothing needed is missing before the first file.
    fn enter(&mut self, front: usize) -> Result<()> {
        let view = &self.views[front];
        let Some((_, start)) = first_start(view) else {
            self.last = self.floor.pred();
            return Ok(());
        };
        if start.previous_seq != 0 && start.previous_last >= self.floor {
            let missing = view.path.with_file_name(file_name(start.previous_seq));
            let evidence = format!("the file is missing, and {} continues it", view.path.display());
            return Err(Error::corrupt(&missing, 0, self.floor, evidence));
        }
        self.last = start.previous_last;
        Ok(())
    }

    /// The START with which a file made at an open begins; it was synced before the file got its name.
    fn session_start(&self, view: &View) -> Result<Stop> {
        match first_start(view) {
            Some((_, start)) => Ok(Stop { start, said_by: view.path.clone() }),
            None => Err(Error::corrupt(
                &view.path,
                HEADER_PAGE_BYTES as u64,
                self.next,
                "its first frame was on disk before the file got its name",
            )),
        }
    }

    /// Reads views `from..until`, one session.
    fn session(&mut self, from: usize, until: usize, stop: Option<Stop>) -> Result<()> {
        self.session_from = from;
        for i in from..until {
            let view = &self.views[i];
            self.check_neighbour(i, from)?;
            let stop_at = stop.as_ref().filter(|s| s.start.previous_seq == view.header.seq);
            let end = self.file(i, stop_at.map(|s| s.start.previous_end))?;
            match end {
                FileEnd::Stopped => {
                    let stop = stop_at.expect("only a stop stops");
                    return self.check_stop(i, stop);
                }
                FileEnd::Sealed(at) if i + 1 == until => return self.end_sealed(i, at, stop.as_ref()),
                FileEnd::Sealed(_) => {}
                FileEnd::Ordered(at) => return self.end_ordered(i, at, stop.as_ref()),
                FileEnd::Misfit(at, misfit) => return self.judge(i, at, misfit, until, stop.as_ref()),
            }
        }
        Ok(())
    }

    /// Files of a session lie side by side, made by one writer.
    fn check_neighbour(&self, i: usize, from: usize) -> Result<()> {
        if i == from {
            return Ok(());
        }
        let (before, view) = (&self.views[i - 1].header, &self.views[i]);
        if view.header.seq == before.seq + 1 && view.header.epoch == before.epoch {
            return Ok(());
        }
        let missing = view.path.with_file_name(file_name(before.seq + 1));
        let evidence =
            format!("the file is missing between its neighbours, {} is there", view.path.display());
        let seen = if view.header.seq == before.seq + 1 { view.path.clone() } else { missing };
        Err(Error::corrupt(&seen, 0, self.next, evidence))
    }

    fn check_stop(&self, i: usize, stop: &Stop) -> Result<()> {
        if self.last == stop.start.previous_last {
            return Ok(());
        }
        let evidence = format!(
            "{} says that {} was the last record before it, not {}",
            stop.said_by.display(),
            stop.start.previous_last,
            self.last
        );
        Err(Error::corrupt(&self.views[i].path, stop.start.previous_end, self.next, evidence))
    }

    fn end_sealed(&self, i: usize, at: u64, stop: Option<&Stop>) -> Result<()> {
        match stop {
            Some(stop) => Err(self.unreached(i, at, stop, SEALED)),
            None => self.check_floor(i, at),
        }
    }

    fn end_ordered(&mut self, i: usize, at: u64, stop: Option<&Stop>) -> Result<()> {
        if let Some(stop) = stop {
            return Err(self.unreached(i, at, stop, "an ordered cut"));
        }
        self.cut =
            Some(Cut { file: self.views[i].path.clone(), offset: at, bytes: 0, frames: 0, by_order: true });
        Ok(())
    }

    /// The next session says that this one goes on after `at`.
    fn unreached(&self, i: usize, at: u64, stop: &Stop, found: &str) -> Error {
        let path = &self.views[i].path;
        let Start { previous_seq, previous_end, previous_last, .. } = stop.start;
        if found == SEALED && previous_seq > self.views[i].header.seq {
            let missing = path.with_file_name(file_name(previous_seq));
            let evidence = format!("the file is missing, and {} continues it", stop.said_by.display());
            return Error::corrupt(&missing, 0, self.next, evidence);
        }
        let evidence = format!(
            "{} continues after {previous_last} at offset {previous_end} of {}; found here: {found}",
            stop.said_by.display(),
            file_name(previous_seq)
        );
        Error::corrupt(path, at, self.next, evidence)
    }

    /// Every record below the floor was durable: a log that ends before it has lost some.
    fn check_floor(&self, i: usize, at: u64) -> Result<()> {
        if self.next == Lsn::ZERO || self.next >= self.floor {
            return Ok(());
        }
        let evidence = format!("the database knows that every record below {} was on disk", self.floor);
        Err(Error::corrupt(&self.views[i].path, at, self.next, evidence))
    }

    /// The rule, at the first frame that is not intact and next.
    fn judge(&mut self, i: usize, at: u64, misfit: Misfit, until: usize, stop: Option<&Stop>) -> Result<()> {
        let view = &self.views[i];
        if let Misfit::Unknown { kind, flags } = misfit {
            let what = format!("frame type {kind}, flags {flags} at offset {at}");
            return Err(Error::new(
                ErrorKind::NewerFormat { file: view.path.clone(), what },
                Fate::Untouched,
            ));
        }
        if let Some(stop) = stop {
            return Err(self.unreached(i, at, stop, misfit.reason()));
        }
        let corrupt = |evidence: String| Err(Error::corrupt(&view.path, at, self.next, evidence));
        if view.truncated {
            let (is, was) = (view.region.bytes().len(), view.header.file_bytes);
            return corrupt(format!("the file was made with {was} bytes and has {is}"));
        }
        if view.made_at_open() && !self.opened {
            return corrupt("these frames were on disk before the file got its name".into());
        }
        let rest = search(&self.views[i..until], at);
        let expected = self.next.max(self.floor);
        if let Some(witness) = rest.witness.filter(|w| w.durable >= expected) {
            return corrupt(format!(
                "the frame at offset {} of {} was written when {} was already on disk; found there: {}",
                witness.offset,
                self.views[i + witness.view].path.display(),
                witness.durable,
                misfit.reason()
            ));
        }
        self.check_floor(i, at)?;
        self.durable = self.durable.max(rest.witness.map_or(Lsn::ZERO, |w| w.durable));
        if rest.bytes > 0 {
            let (bytes, frames) = (rest.bytes, rest.frames);
            self.cut = Some(Cut { file: view.path.clone(), offset: at, bytes, frames, by_order: false });
        }
        Ok(())
    }

    /// Reads the frames of one file until something ends it.
    fn file(&mut self, i: usize, stop_at: Option<u64>) -> Result<FileEnd> {
        let view = &self.views[i];
        let bytes = view.bytes();
        let mut at = HEADER_PAGE_BYTES;
        self.opened = false;
        let end = loop {
            if stop_at == Some(at as u64) {
                break FileEnd::Stopped;
            }
            let frame = match read_frame(bytes, at, view.header.salt) {
                Ok(frame) if self.is_next(&frame, at, view) => frame,
                Ok(frame) => break FileEnd::Misfit(at as u64, Misfit::Payload(frame.head)),
                Err(misfit) => break FileEnd::Misfit(at as u64, misfit),
            };
            self.max_epoch = self.max_epoch.max(frame.epoch());
            if frame.head.kind == FrameType::Cut {
                break FileEnd::Ordered(at as u64);
            }
            self.take(&frame);
            let here = at as u64;
            at += usize::try_from(frame.head.frame_bytes()).expect("the frame lies in memory");
            if frame.head.kind == FrameType::Seal && stop_at != Some(at as u64) {
                break FileEnd::Sealed(here);
            }
        };
        self.read.push((i, at as u64, self.last));
        Ok(end)
    }

    /// Whether an intact frame is the one that must stand here.
    fn is_next(&self, frame: &Frame<'_>, at: usize, view: &View) -> bool {
        let head = &frame.head;
        match head.kind {
            FrameType::Cut => true,
            FrameType::Start => {
                let Some(start) = Start::decode(frame.payload) else { return false };
                let first = at == HEADER_PAGE_BYTES;
                let fresh = self.next == Lsn::ZERO;
                match start.kind {
                    StartKind::Continue => first && !view.made_at_open() && (fresh || head.lsn == self.next),
                    StartKind::Relog => first && view.made_at_open() && head.lsn > start.previous_last,
                    StartKind::New => {
                        !self.opened
                            && view.made_at_open()
                            && head.lsn == Lsn::new(start.epoch, 1)
                            && head.lsn > self.last
                    }
                }
            }
            _ => at != HEADER_PAGE_BYTES && head.lsn == self.next,
        }
    }

    fn take(&mut self, frame: &Frame<'_>) {
        let head = &frame.head;
        self.durable = self.durable.max(head.durable);
        match head.kind {
            FrameType::Batch => {
                self.last = head.last();
                self.next = self.last.plus(1);
                if self.first == Lsn::ZERO && self.last >= self.floor {
                    self.first = head.lsn.max(self.floor);
                }
            }
            FrameType::Start => {
                let start = Start::decode(frame.payload).expect("checked by is_next");
                self.next = head.lsn;
                self.opened |= start.kind == StartKind::New;
                if start.kind != StartKind::Continue {
                    self.durable = self.durable.max(start.previous_last);
                }
            }
            FrameType::Seal | FrameType::Stamp | FrameType::Cut => {}
        }
    }

    /// Splits what was read at the proven LSN.
    fn conclude(self) -> Result<Findings> {
        let proven = self.durable.min(self.last);
        let mut found = Findings {
            proven,
            last: self.last,
            first: self.first,
            cut: self.cut.clone(),
            max_epoch: self.max_epoch,
            ..Findings::default()
        };
        for (i, end, last) in &self.read {
            let view = &self.views[*i];
            let split = if *i < self.session_from || *last <= proven {
                *end
            } else {
                first_above(view, *end, proven)
            };
            let from = HEADER_PAGE_BYTES as u64;
            let leg = |from, to| Leg {
                path: view.path.clone(),
                source: Source::Old(view.region.clone()),
                salt: view.header.salt,
                from,
                to,
            };
            if found.unproven_legs.is_empty() {
                found.proven_legs.push(leg(from, split));
                (found.proven_seq, found.proven_end) = (view.header.seq, split);
                found.live.push(OldFile {
                    seq: view.header.seq,
                    path: view.path.clone(),
                    used: split,
                    size: view.header.file_bytes,
                    last: (*last).min(proven),
                });
            }
            if split < *end || !found.unproven_legs.is_empty() {
                let leg = leg(if split < *end { split } else { from }, *end);
                found.unproven_bytes += batch_bytes(&leg);
                found.unproven_legs.push(leg);
            }
        }
        let live = |view: &&View| !found.live.iter().any(|old| old.seq == view.header.seq);
        found.dead = self.views.iter().filter(live).map(|view| view.path.clone()).collect();
        Ok(found)
    }
}

/// Offset of the first frame of intact bytes `..end` whose records lie above `proven`.
fn first_above(view: &View, end: u64, proven: Lsn) -> u64 {
    let mut at = HEADER_PAGE_BYTES;
    while (at as u64) < end {
        let Ok(head) = read_head(view.bytes(), at, view.header.salt) else { break };
        if head.kind == FrameType::Batch && head.last() > proven {
            break;
        }
        at += usize::try_from(head.frame_bytes()).expect("the frame lies in memory");
    }
    at as u64
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

/// An intact header whose stamp says what was durable.
#[derive(Clone, Copy, Debug)]
struct Witness {
    view: usize,
    offset: u64,
    durable: Lsn,
}

/// What lies behind the intact part.
#[derive(Debug, Default)]
struct Rest {
    witness: Option<Witness>,
    frames: u64,
    bytes: u64,
}

/// Searches the rest of the first view from `at`, and all of the others, for intact headers.
fn search(views: &[View], at: u64) -> Rest {
    let mut rest = Rest::default();
    for (i, view) in views.iter().enumerate() {
        let bytes = view.bytes();
        let from = if i == 0 { usize::try_from(at).unwrap_or(usize::MAX) } else { HEADER_PAGE_BYTES };
        let Some(tail) = bytes.get(from..) else { continue };
        let used = tail.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        rest.bytes += used as u64;
        for offset in (from..from + used).step_by(8) {
            if bytes.len() - offset < 40 || u64_at(bytes, offset + 24) != view.header.salt {
                continue;
            }
            let Ok(head) = read_head(bytes, offset, view.header.salt) else { continue };
            rest.frames += 1;
            if rest.witness.is_none_or(|w| w.durable < head.durable) {
                rest.witness = Some(Witness { view: i, offset: offset as u64, durable: head.durable });
            }
        }
    }
    rest
}
