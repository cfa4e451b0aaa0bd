//! What a directory of log files holds: the rule that tells a torn tail from damage, and what is proven.
//!
//! The files fall into *sessions*, one an open: a file made at the open, then the files it rotated into. The first
//! frame of the next session says where the one before ends for ever, so in all but the last session any bad frame
//! is damage. A session in which nothing was written is leapt over by the next one, which says where the one before
//! both ends: its files, if they are still there, say nothing. In the last session, at the first frame that is not
//! intact and next in LSN order, with `n` the LSN expected there, the rest of the log is searched for an intact header
//! whose durable stamp is at least `n`, and the control page and the caller's floor are asked. Any of them proves that
//! record `n` was acknowledged: damage, nothing is modified. None: a torn tail, cut there and reported.

use std::ops::Range;
use std::path::PathBuf;

use akidb_host::{Spawn, seeded_bug};

use crate::error::{Error, ErrorKind, Fate, Result};
use crate::findings::{Cut, Findings, ReadFile};
use crate::frame::{Frame, FrameType, Misfit, Start, StartKind};
use crate::header::{HEADER_PAGE_BYTES, file_name};
use crate::log_file::View;
use crate::lsn::Lsn;
use crate::scout::Scout;
use crate::search::search;

/// How a session that ends by itself is described.
const SEALED: &str = "a seal";

/// Reads all of `views` (sorted by seq, of one log) and judges them. Changes nothing. `on_disk` is the LSN that the
/// control page gives evidence for; [`Lsn::ZERO`] for none.
pub(crate) fn recover(views: &[View], floor: Lsn, on_disk: Lsn, spawn: &dyn Spawn) -> Result<Findings> {
    if views.is_empty() {
        return Ok(Findings { proven: floor.pred(), last: floor.pred(), ..Findings::default() });
    }
    let ranges = leapt(views)?;
    let is_leapt = |view: &View| ranges.iter().any(|seqs| seqs.contains(&view.header.seq));
    let (leapt, counting): (Vec<View>, Vec<View>) = views.iter().cloned().partition(is_leapt);
    let mut found = walk(&counting, floor, on_disk, spawn)?;
    found.max_epoch = leapt.iter().map(|view| view.header.epoch).fold(found.max_epoch, u32::max);
    found.dead.extend(leapt.into_iter().map(|view| view.path));
    Ok(found)
}

/// The numbers of files that a later session leaps over: from the first file of a session in which nothing was written up
/// to the first of that later one, which names a file before both as the one where the log ended.
fn leapt(views: &[View]) -> Result<Vec<Range<u64>>> {
    let mut leapt: Vec<Range<u64>> = Vec::new();
    // Of the next session that counts: the file before it, as it says, and its own first.
    let mut behind: Option<(u64, u64)> = None;
    for view in views.iter().rev().filter(|view| view.made_at_open()) {
        let seq = view.header.seq;
        match behind {
            Some((before, until)) if before < seq && before != 0 => {
                leapt.pop_if(|range| range.end == until);
                leapt.push(seq..until);
            }
            _ => behind = view.start()?.map(|(_, start)| (start.previous_seq, seq)),
        }
    }
    Ok(leapt)
}

fn walk(views: &[View], floor: Lsn, on_disk: Lsn, spawn: &dyn Spawn) -> Result<Findings> {
    let front = find_front(views, floor)?;
    let mut opens: Vec<usize> = (front + 1..views.len()).filter(|i| views[*i].made_at_open()).collect();
    let mut walk = Walk::new(views, floor, on_disk);
    walk.last_session = *opens.last().unwrap_or(&front);
    walk.scout = Some(Scout::send(&views[walk.last_session..], spawn));
    walk.enter(front)?;
    opens.push(views.len());
    let mut from = front;
    for until in opens {
        walk.sessions.push(from);
        let stop = match views.get(until) {
            Some(next) => Some(walk.session_start(next)?),
            None => None,
        };
        walk.session(from, until, stop)?;
        from = until;
    }
    Ok(walk.conclude())
}

/// The newest file that begins at or below the floor: what lies before it is not needed.
fn find_front(views: &[View], floor: Lsn) -> Result<usize> {
    for (i, view) in views.iter().enumerate().rev() {
        if view.start()?.is_some_and(|(_, start)| start.previous_last < floor) {
            return Ok(i);
        }
    }
    Ok(0)
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
    /// Every record up to here was on disk, says the control page.
    on_disk: Lsn,
    /// LSN expected next; ZERO before the first START was read.
    next: Lsn,
    last: Lsn,
    first: Lsn,
    /// Highest durable stamp seen.
    durable: Lsn,
    /// Indexes of the views where the sessions began, up to the one being read.
    sessions: Vec<usize>,
    /// Index of the view where the last session of all begins, and who looks at the empty ends from there on.
    last_session: usize,
    scout: Option<Scout>,
    /// In the file being read, the START that opens its epoch was met.
    opened: bool,
    /// In order.
    read: Vec<ReadFile>,
    cut: Option<Cut>,
    max_epoch: u32,
}

impl<'a> Walk<'a> {
    fn new(views: &'a [View], floor: Lsn, on_disk: Lsn) -> Self {
        let max_epoch = views.iter().map(|v| v.header.epoch).max().unwrap_or(0);
        Self {
            views,
            floor,
            on_disk,
            next: Lsn::ZERO,
            last: Lsn::ZERO,
            first: Lsn::ZERO,
            durable: floor.pred().max(on_disk),
            sessions: Vec::new(),
            last_session: 0,
            scout: None,
            opened: false,
            read: Vec::new(),
            cut: None,
            max_epoch,
        }
    }

    /// Checks that nothing needed is missing before the first file.
    fn enter(&mut self, front: usize) -> Result<()> {
        let view = &self.views[front];
        let Some((frame, start)) = view.start()? else {
            self.last = self.floor.pred();
            return Ok(());
        };
        if start.previous_seq != 0 && start.previous_last >= self.floor {
            let missing = view.path.with_file_name(file_name(start.previous_seq));
            let evidence = format!("the file is missing, and {} continues it", view.path.display());
            return Err(Error::corrupt(&missing, 0, self.floor, evidence));
        }
        // What will not be taken for the beginning of this file says nothing about what came before it.
        let fits = self.is_next(&frame, HEADER_PAGE_BYTES, view);
        self.last = if fits { start.previous_last } else { self.floor.pred() };
        Ok(())
    }

    /// The START with which a file made at an open begins; it was synced before the file got its name.
    fn session_start(&self, view: &View) -> Result<Stop> {
        match view.start()? {
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
        for i in from..until {
            let view = &self.views[i];
            self.check_neighbour(i, from)?;
            let stop_at = stop.as_ref().filter(|s| s.start.previous_seq == view.header.seq);
            self.opened = false;
            let mut at = HEADER_PAGE_BYTES;
            let end = loop {
                let end = self.file(i, at, stop_at.map(|s| s.start.previous_end))?;
                let FileEnd::Misfit(misfit_at, misfit) = end else { break end };
                let judged = self.judge(i, misfit_at, misfit, until, stop.as_ref());
                if judged.is_ok() || !self.has_grown(i, misfit_at) {
                    return judged;
                }
                self.read.pop();
                at = usize::try_from(misfit_at).expect("the file lies in memory");
            };
            match end {
                FileEnd::Stopped => {
                    let stop = stop_at.expect("only a stop stops");
                    return self.check_stop(i, stop);
                }
                FileEnd::Sealed(at) if i + 1 == until => return self.end_sealed(i, at, stop.as_ref()),
                FileEnd::Sealed(_) => {}
                FileEnd::Ordered(at) => return self.end_ordered(i, at, stop.as_ref()),
                FileEnd::Misfit(..) => unreachable!("judged above"),
            }
        }
        Ok(())
    }

    /// Files of a session lie side by side, made by one writer.
    fn check_neighbour(&self, i: usize, from: usize) -> Result<()> {
        let Some(missing) = self.missing_before(i).filter(|_| i != from) else { return Ok(()) };
        let evidence = format!("the file is missing, and {} is there", self.views[i].path.display());
        Err(Error::corrupt(&missing, 0, self.next, evidence))
    }

    /// The file that must have stood before view `i`, if it is not the one that does. A CUT may stand anywhere.
    fn missing_before(&self, i: usize) -> Option<PathBuf> {
        let (before, view) = (&self.views[i.checked_sub(1)?].header, &self.views[i]);
        let same_epoch = view.header.epoch == before.epoch;
        let cut = || {
            let frame = view.frame(HEADER_PAGE_BYTES).ok();
            frame.and_then(std::result::Result::ok).is_some_and(|frame| frame.head.kind == FrameType::Cut)
        };
        if view.made_at_open() || same_epoch && view.header.seq == before.seq + 1 || cut() {
            return None;
        }
        // The file made at an open is followed at once by those it rotated into.
        let seq = if same_epoch { before.seq + 1 } else { view.header.seq - 1 };
        Some(view.path.with_file_name(file_name(seq)))
    }

    /// Words for an error about view `i` if a later file is missing: that may be all that is wrong.
    fn missing_after(&self, i: usize) -> String {
        let missing = (i + 1..self.views.len()).find_map(|later| self.missing_before(later));
        missing.map_or_else(String::new, |path| format!("; {} is missing", path.display()))
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
            None => self.check_page(i, at, SEALED).and_then(|()| self.check_floor(i, at)),
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
            "{} continues after {previous_last} at offset {previous_end} of {}; found here: {found}{}",
            stop.said_by.display(),
            file_name(previous_seq),
            self.missing_after(i)
        );
        Error::corrupt(path, at, self.next, evidence)
    }

    /// Every record up to what the control page says was durable: a log that ends before it has lost some.
    fn check_page(&self, i: usize, at: u64, found: &str) -> Result<()> {
        let expected = self.next.max(self.floor);
        if self.on_disk == Lsn::ZERO || self.on_disk < expected {
            return Ok(());
        }
        let evidence = format!(
            "the control page says that {} was already on disk; found here: {found}{}",
            self.on_disk,
            self.missing_after(i)
        );
        Err(Error::corrupt(&self.views[i].path, at, expected, evidence))
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
        let next = self.next;
        let corrupt = |evidence: String| Err(Error::corrupt(&view.path, at, next, evidence));
        if view.truncated {
            let (is, was) = (view.region.bytes().len(), view.header.file_bytes);
            return corrupt(format!("the file was made with {was} bytes and has {is}"));
        }
        if view.made_at_open() && !self.opened {
            return corrupt("these frames were on disk before the file got its name".into());
        }
        let ends = self.scout.as_mut().expect("sent before the first frame was read").ends()?;
        let rest =
            search(&self.views[i..until], at, &ends[i - self.last_session..until - self.last_session])?;
        let expected = next.max(self.floor);
        if let Some(witness) = rest.witness.filter(|w| w.durable >= expected && !seeded_bug("stamps_ignored"))
        {
            return corrupt(format!(
                "the frame at offset {} of {} was written when {} was already on disk; found here: {}{}",
                witness.offset,
                self.views[i + witness.view].path.display(),
                witness.durable,
                misfit.reason(),
                self.missing_after(i)
            ));
        }
        self.check_page(i, at, misfit.reason())?;
        self.check_floor(i, at)?;
        self.durable = self.durable.max(rest.witness.map_or(Lsn::ZERO, |w| w.durable));
        if rest.bytes > 0 {
            let (bytes, frames) = (rest.bytes, rest.frames);
            self.cut = Some(Cut { file: view.path.clone(), offset: at, bytes, frames, by_order: false });
        }
        Ok(())
    }

    /// Whether the right frame stands at `at` by now: beside a writer the file grows while it is read, and what was found
    /// further on came after it.
    fn has_grown(&self, i: usize, at: u64) -> bool {
        let view = &self.views[i];
        let Ok(at) = usize::try_from(at) else { return false };
        let frame = view.frame(at).ok().and_then(std::result::Result::ok);
        frame.is_some_and(|frame| self.is_next(&frame, at, view))
    }

    /// Reads the frames of one file from `at` until something ends it.
    fn file(&mut self, i: usize, mut at: usize, stop_at: Option<u64>) -> Result<FileEnd> {
        let view = &self.views[i];
        let mut marks = Vec::new();
        let end = loop {
            if stop_at == Some(at as u64) {
                break FileEnd::Stopped;
            }
            let frame = match view.frame(at)? {
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
            if frame.head.kind == FrameType::Batch && ReadFile::batch(&mut marks, at as u64, self.last) {
                self.checked(i, at);
            }
            if frame.head.kind == FrameType::Seal && stop_at != Some(at as u64) {
                break FileEnd::Sealed(here);
            }
        };
        self.read.push(ReadFile { view: i, end: at as u64, last: self.last, marks });
        Ok(end)
    }

    fn checked(&self, i: usize, at: usize) {
        if let (Some(scout), Some(index)) = (&self.scout, i.checked_sub(self.last_session)) {
            scout.checked(index, at);
        }
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
                    StartKind::Continue => {
                        let follows = head.lsn == self.next && start.previous_last == self.last;
                        first && !view.made_at_open() && (fresh || follows)
                    }
                    StartKind::Relog => first && view.made_at_open() && head.lsn > start.previous_last,
                    StartKind::New => {
                        !self.opened
                            && view.made_at_open()
                            && head.lsn == Lsn::new(start.epoch, 1)
                            && (fresh || start.previous_last == self.last)
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
                if head.lsn < self.floor && self.floor <= head.last() {
                    // A floor inside a batch: a batch is on disk whole or not at all.
                    self.durable = self.durable.max(head.last());
                }
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

    fn conclude(self) -> Findings {
        let found = Findings {
            proven: match self.durable.min(self.last) {
                _ if seeded_bug("served_unproven") || seeded_bug("served_after_a_sync") => self.last,
                proven => proven,
            },
            last: self.last,
            first: self.first,
            cut: self.cut,
            max_epoch: self.max_epoch,
            ..Findings::default()
        };
        found.collect(self.views, &self.read, &self.sessions)
    }
}

#[cfg(test)]
mod tests;
