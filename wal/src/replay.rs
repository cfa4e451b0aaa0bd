//! The records of a recovered log, in LSN order, out of the maps in which the log was judged.

use std::path::Path;

use crate::error::{Error, Result};
use crate::findings::{Cut, Leg};
use crate::frame::{Frame, FrameRecords, FrameType, read_frame, reread_frame};
use crate::lsn::Lsn;

/// What an open found.
#[derive(Debug)]
pub struct Recovered {
    /// The first record in `records`; [`Lsn::ZERO`] if there is none.
    pub first: Lsn,
    /// The last record of the log; below the floor if all of it was flushed, [`Lsn::ZERO`] if there never was one.
    pub last: Lsn,
    /// The highest LSN that was provably durable before this open. Records above it are intact too; an open for
    /// writing has copied them into a new file and synced it, a read-only open has not.
    pub proven: Lsn,
    /// Where the log was cut, if bytes lay behind its intact part.
    pub cut: Option<Cut>,
    /// Everything at or above the floor.
    pub records: Records,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number.
    pub lsn: Lsn,
    /// The number of the last record of its batch: a batch is applied entirely or not at all.
    pub frame_last: Lsn,
    /// What was appended.
    pub bytes: &'a [u8],
}

/// Records in maps of the log's files. The maps live as long as this does, also after the files are removed.
#[derive(Debug)]
pub struct Records {
    pub(crate) legs: Vec<Leg>,
    pub(crate) floor: Lsn,
}

impl Records {
    /// From the first record to the last. After an error, which names file and offset, it ends.
    #[must_use]
    pub fn iter(&self) -> RecordsIter<'_> {
        RecordsIter { frames: Frames::new(&self.legs), floor: self.floor, open: None }
    }

    /// How many bytes their frames take.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        self.legs.iter().map(|leg| leg.to - leg.from).sum()
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>>;
    type IntoIter = RecordsIter<'a>;

    fn into_iter(self) -> RecordsIter<'a> {
        self.iter()
    }
}

/// Iterator over [`Records`].
#[derive(Debug)]
pub struct RecordsIter<'a> {
    frames: Frames<'a>,
    floor: Lsn,
    open: Option<(Lsn, FrameRecords<'a>)>,
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = Result<Record<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((frame_last, records)) = &mut self.open {
                for (lsn, bytes) in records {
                    if lsn >= self.floor {
                        return Some(Ok(Record { lsn, frame_last: *frame_last, bytes }));
                    }
                }
            }
            match self.frames.next()? {
                Ok(frame) => self.open = Some((frame.head.last(), frame.records())),
                Err(e) => {
                    self.open = None;
                    return Some(Err(e));
                }
            }
        }
    }
}

/// The batches of some legs, each frame checked again as it is read.
///
/// Of a judged leg the payload's checksum is left out: recovery has computed it a moment ago, over the same bytes of the
/// same map, and none of this process writes to an old file. What could still change those bytes is a second writer,
/// whom the caller's lock keeps out (a read-only open has no such promise: its legs are never judged), or a page
/// dropped and read again from a disk that answers differently the second time. Header and shape are checked all the
/// same, so whatever the bytes are, the records handed out lie inside their frames. Frames that are copied into a new file
/// and those read from it are checked in full.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    legs: std::slice::Iter<'a, Leg>,
    leg: Option<(&'a Leg, &'a [u8], u64)>,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(legs: &'a [Leg]) -> Self {
        Self { legs: legs.iter(), leg: None }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((leg, bytes, at)) = self.leg.as_mut() else {
                let leg = self.legs.next()?;
                self.leg = Some((leg, leg.source.up_to(leg.to), leg.from));
                continue;
            };
            if *at >= leg.to {
                self.leg = None;
                continue;
            }
            let read = if leg.judged { reread_frame } else { read_frame };
            let read = usize::try_from(*at).ok().and_then(|at| read(bytes, at, leg.salt).ok());
            let Some(frame) = read else {
                let error = changed(&leg.path, *at);
                self.legs = [].iter();
                self.leg = None;
                return Some(Err(error));
            };
            *at += frame.head.frame_bytes();
            if frame.head.kind == FrameType::Batch {
                return Some(Ok(frame));
            }
        }
    }
}

fn changed(path: &Path, offset: u64) -> Error {
    Error::corrupt(path, offset, Lsn::ZERO, "the frame was intact when the log was opened")
}
