//! One log file: made whole (filled, headed, synced) under a temporary name, then named, then appended to, either by
//! stores into its map or by one write call a group; and the view of a file that replay reads.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Access, Advice, Appender, File, Fs, FsKind, Region, Tail, probe_folio, seeded_bug};

use crate::config::WritePath;
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::frame::{
    ALIGN, FRAME_HEADER_BYTES, Frame, FrameType, Head, Misfit, START_PAYLOAD_BYTES, Start, TRAILER_BYTES,
    encode_whole, read_frame, read_head, u32_at,
};
use crate::header::{BadHeader, HEADER_PAGE_BYTES, Header, Origin, file_name};
use crate::loaded::Loaded;
use crate::lsn::Lsn;

/// Bytes that every log file spends on itself: header page, up to two STARTs, trailer.
pub const OVERHEAD_BYTES: u64 =
    HEADER_PAGE_BYTES as u64 + 2 * (40 + START_PAYLOAD_BYTES as u64) + TRAILER_BYTES;

/// The most that one stored byte may cost the disk before stores give way to write calls.
const MAX_FOLIO_BYTES: u64 = 8 << 10;
/// Bytes of staged frames above which they are written without waiting for the sync.
const STAGED_BYTES: usize = 256 << 10;

/// A file being written: synced through `file`, one handle for its life.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) header: Header,
    pub(crate) path: Arc<Path>,
    pub(crate) file: Arc<dyn File>,
    pub(crate) tail: Tail,
    appender: Appender,
    /// Frames on their way into the file where it is not written through its map.
    staged: Option<Vec<u8>>,
    /// The name it has until [`LogFile::publish`].
    tmp: PathBuf,
}

/// What a new file is made from.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) header: Header,
    pub(crate) dir: PathBuf,
    pub(crate) write_path: WritePath,
}

/// A file the log has done with, under a temporary name: its blocks serve another life.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) bytes: u64,
}

impl LogFile {
    /// Makes a file under its temporary name: every block written, header synced. Blocks for the whole fill.
    pub(crate) fn make(fs: &dyn Fs, plan: &Plan) -> Result<Self> {
        let path = plan.dir.join(file_name(plan.header.seq));
        let tmp = tmp_path(&plan.dir, &plan.header);
        let fill = || -> io::Result<Self> {
            remove_if_there(fs, &tmp)?;
            let file = fs.create_new(&tmp)?;
            file.zero_fill(0, plan.header.file_bytes)?;
            Self::begin(fs, plan, file, &path, &tmp)
        };
        fill().map_err(|e| {
            let _ = fs.unlink(&tmp);
            Error::io("make", &path, e)
        })
    }

    /// Makes a file from one that the log has done with: a new header with a new salt, so that what else lies in it
    /// is nobody's. Its blocks exist already. On failure the old file is gone.
    pub(crate) fn recycle(fs: &dyn Fs, plan: &Plan, retired: &Retired) -> Result<Self> {
        let path = plan.dir.join(file_name(plan.header.seq));
        assert_eq!(retired.bytes, plan.header.file_bytes, "a recycled file keeps its size");
        Self::begin(fs, plan, retired.file.clone(), &path, &retired.path).map_err(|e| {
            let _ = fs.unlink(&retired.path);
            Error::io("recycle", &path, e)
        })
    }

    fn begin(fs: &dyn Fs, plan: &Plan, file: Arc<dyn File>, path: &Path, tmp: &Path) -> io::Result<Self> {
        let size = plan.header.file_bytes;
        file.write_at(&plan.header.encode(), 0)?;
        let staged = if plan.header.origin == Origin::Open {
            // Its first frames go in by write calls; `LogFile::settle` syncs them with the rest, once.
            true
        } else {
            file.sync_all()?;
            is_staged(fs, &*file, plan)
        };
        let (mut appender, tail) = file.map_log(size)?.split();
        appender.seek(HEADER_PAGE_BYTES as u64);
        let staged = staged.then(|| Vec::with_capacity(STAGED_BYTES));
        Ok(Self { header: plan.header, path: path.into(), file, tail, appender, staged, tmp: tmp.into() })
    }

    /// Syncs a file made at an open, with its first frames, and chooses the way of those to come.
    pub(crate) fn settle(&mut self, fs: &dyn Fs, plan: &Plan) -> io::Result<()> {
        self.flush()?;
        self.file.sync_all()?;
        if !is_staged(fs, &*self.file, plan) {
            self.staged = None;
        }
        Ok(())
    }

    /// What is left of a file that no reader looks at any more; `Err` if one does.
    pub(crate) fn retire(self, as_path: PathBuf) -> std::result::Result<Retired, ()> {
        let Self { header, file, tail, appender, .. } = self;
        drop(tail);
        // The region comes back only if nobody else holds a part of it; dropping it unmaps the file.
        let reclaimed = appender.reclaim().map(drop).map_err(drop);
        if !seeded_bug("recycled_under_readers") {
            reclaimed?;
        }
        Ok(Retired { path: as_path, file, bytes: header.file_bytes })
    }

    /// Gives the file its final name, for good: a power cut after this keeps it. Never replaces another file.
    pub(crate) fn publish(&self, fs: &dyn Fs, dir: &Path) -> Result<()> {
        let linked = fs.hard_link(&self.tmp, &self.path);
        let _ = fs.unlink(&self.tmp);
        linked.map_err(|e| Error::io("name", &self.path, e))?;
        if seeded_bug("name_not_synced") {
            return Ok(());
        }
        fs.sync_dir(dir).map_err(|e| {
            // A name that may be gone after a power cut must not be built on: take it back.
            let _ = fs.unlink(&self.path);
            Error::io("sync the directory of", &self.path, e)
        })
    }

    /// Removes a file that was not published.
    pub(crate) fn discard(self, fs: &dyn Fs) {
        let _ = fs.unlink(&self.tmp);
    }

    /// Which way frames go into this file; never `Auto`.
    pub(crate) fn write_path(&self) -> WritePath {
        if self.staged.is_some() { WritePath::Positioned } else { WritePath::Mapped }
    }

    /// Where the next frame goes; also the bytes used so far.
    pub(crate) fn end(&self) -> u64 {
        self.appender.end() + self.staged.as_ref().map_or(0, |staged| staged.len() as u64)
    }

    /// Whether a frame of so many bytes fits before the room kept for the trailer.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.end() + bytes + TRAILER_BYTES <= self.appender.capacity()
    }

    /// Whether it is time to make the next file.
    pub(crate) fn is_half_full(&self) -> bool {
        self.end() > (self.appender.capacity() + HEADER_PAGE_BYTES as u64) / 2
    }

    /// Writes one frame; readers see it at once, or after [`LogFile::flush`] where frames are staged. The caller has
    /// checked the room.
    ///
    /// # Errors
    /// Of the write call of staged frames: what of this frame is in the file is not known.
    pub(crate) fn write(
        &mut self,
        head: &Head,
        table: impl Iterator<Item = u32>,
        records: &[&[u8]],
    ) -> io::Result<()> {
        let from = self.end();
        self.put(&head.encode(self.header.salt))?;
        let mut chunk = [0; 256];
        let mut used = 0;
        for len in table {
            chunk[used..used + 4].copy_from_slice(&len.to_le_bytes());
            used += 4;
            if used == chunk.len() {
                self.put(&chunk)?;
                used = 0;
            }
        }
        self.put(&chunk[..used])?;
        for record in records {
            self.put(record)?;
        }
        let pad = self.end().next_multiple_of(ALIGN as u64) - self.end();
        self.put(&[0; ALIGN][..usize::try_from(pad).expect("less than 8")])?;
        assert_eq!(self.end() - from, head.frame_bytes(), "a frame is as long as its header says");
        self.show();
        Ok(())
    }

    /// Writes a mark: START, SEAL, STAMP.
    ///
    /// # Errors
    /// As [`LogFile::write`].
    pub(crate) fn write_mark(
        &mut self,
        kind: FrameType,
        lsn: Lsn,
        durable: Lsn,
        payload: &[u8],
    ) -> io::Result<()> {
        self.put(&encode_whole(kind, lsn, durable, payload, self.header.salt))?;
        self.show();
        Ok(())
    }

    /// Puts staged frames into the file and shows them to readers; nothing where frames are stored.
    ///
    /// # Errors
    /// Of the write call.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(staged) = self.staged.as_mut().filter(|staged| !staged.is_empty()) else { return Ok(()) };
        self.appender.write_through(&*self.file, staged)?;
        staged.clear();
        self.appender.publish();
        Ok(())
    }

    fn show(&mut self) {
        if self.staged.is_none() {
            self.appender.publish();
        }
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(staged) = &mut self.staged else {
            if !bytes.is_empty() {
                self.appender.append(bytes).expect("room was checked before the frame was begun");
            }
            return Ok(());
        };
        while staged.len() + bytes.len() > STAGED_BYTES {
            let (now, later) = bytes.split_at(STAGED_BYTES - staged.len());
            staged.extend_from_slice(now);
            // Not shown: this may be half a frame.
            self.appender.write_through(&*self.file, staged)?;
            staged.clear();
            bytes = later;
        }
        staged.extend_from_slice(bytes);
        Ok(())
    }
}

fn is_staged(fs: &dyn Fs, file: &dyn File, plan: &Plan) -> bool {
    match plan.write_path {
        WritePath::Positioned => true,
        WritePath::Mapped => false,
        WritePath::Auto => stores_take_room(fs, plan) || !stores_are_cheap(fs, file, plan.header.file_bytes),
    }
}

/// Whether a store may find the disk full, although every block of the file was written: then it ends the process. A write
/// call answers.
fn stores_take_room(fs: &dyn Fs, plan: &Plan) -> bool {
    fs.statfs(&plan.dir).is_ok_and(|stats| stats.kind == FsKind::CopyOnWrite)
}

/// Whether a byte stored through a map makes the disk write a page or two, not a large folio. Where the machine does
/// not say, write calls are the safe way.
fn stores_are_cheap(fs: &dyn Fs, file: &dyn File, size: u64) -> bool {
    let cheap = || probe_folio(fs, file, size - 1).is_some_and(|bytes| bytes <= MAX_FOLIO_BYTES);
    cheap() || {
        // A file read back from disk may lie in large folios; once dropped it comes back page by page.
        file.advise(Advice::DontNeed);
        cheap()
    }
}

pub(crate) fn remove_if_there(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.unlink(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The name a file is made under. It holds the epoch: what an earlier open left half-made has another.
fn tmp_path(dir: &Path, header: &Header) -> PathBuf {
    let name = file_name(header.seq);
    dir.join(name.replace(".wal", &format!(".{}.wal.tmp", header.epoch)))
}

/// Bytes of a log file that replay may look at: a map of an old file, or the published part of a live one.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Old(Region),
    Live(Tail),
}

impl Source {
    /// The bytes from the file's start to `end`; shorter where the file is.
    pub(crate) fn up_to(&self, end: u64) -> &[u8] {
        match self {
            Self::Old(region) => {
                let bytes = region.bytes();
                &bytes[..usize::try_from(end).map_or(bytes.len(), |end| end.min(bytes.len()))]
            }
            Self::Live(tail) => {
                let range: Range<u64> = 0..end.min(tail.end());
                tail.bytes(range).expect("below the published end")
            }
        }
    }
}

/// A log file found in the directory, its header checked.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) region: Region,
    pub(crate) loaded: Loaded,
    /// The file is shorter than its header says: something cut it after it was made.
    pub(crate) truncated: bool,
}

impl View {
    /// Opens and maps a file and checks its header; `seq` is the number in its name.
    pub(crate) fn open(fs: &dyn Fs, path: &Path, seq: u64) -> Result<Self> {
        Self::open_any(fs, path, Some(seq))
    }

    /// As [`View::open`], of a file that may have another name (a copy set aside).
    pub(crate) fn open_any(fs: &dyn Fs, path: &Path, seq: Option<u64>) -> Result<Self> {
        let (region, loaded) = fs
            .open(path, Access::Read)
            .and_then(|file| {
                file.advise(Advice::Sequential);
                if seeded_bug("served_after_a_sync") {
                    file.sync_data()?;
                }
                Ok((file.map()?, Loaded::new(file)))
            })
            .map_err(|e| Error::io("open", path, e))?;
        loaded.ask(&region, 0..HEADER_PAGE_BYTES, path)?;
        let bytes = region.bytes();
        let header = Header::decode(bytes).map_err(|bad| match bad {
            BadHeader::Damaged => Error::corrupt(path, 0, Lsn::ZERO, "both copies of its header are damaged"),
            BadHeader::Newer(what) => {
                Error::new(ErrorKind::NewerFormat { file: path.into(), what }, Fate::Untouched)
            }
        })?;
        if seq.is_some_and(|seq| seq != header.seq) {
            let evidence = format!("its header says it is file {}", file_name(header.seq));
            return Err(Error::corrupt(path, 0, Lsn::ZERO, evidence));
        }
        let truncated = (bytes.len() as u64) < header.file_bytes;
        Ok(Self { path: path.into(), header, region, loaded, truncated })
    }

    /// The frame at `at`, once it was read from the disk.
    ///
    /// # Errors
    /// `Unreadable`.
    pub(crate) fn frame(&self, at: usize) -> Result<std::result::Result<Frame<'_>, Misfit>> {
        let header_end = at.saturating_add(FRAME_HEADER_BYTES);
        self.load(at..header_end)?;
        let claimed = self.bytes().get(at..header_end).map_or(0, |header| u32_at(header, 4) as usize);
        // What is loaded anyway costs no second look at the header.
        if !self.loaded.reaches(header_end.saturating_add(claimed + ALIGN))
            && let Ok(head) = read_head(self.bytes(), at, self.header.salt)
        {
            self.load(at..header_end.saturating_add(head.len as usize + ALIGN))?;
        }
        Ok(read_frame(self.bytes(), at, self.header.salt))
    }

    /// Has a part of the file read from the disk; what lies in no such part must not be looked at.
    ///
    /// # Errors
    /// `Unreadable`.
    pub(crate) fn load(&self, range: Range<usize>) -> Result<()> {
        self.loaded.ask(&self.region, range, &self.path)
    }

    /// The bytes the header vouches for. Only those that were [loaded](View::load) may be looked at.
    pub(crate) fn bytes(&self) -> &[u8] {
        let bytes = self.region.bytes();
        &bytes[..usize::try_from(self.header.file_bytes).map_or(bytes.len(), |size| size.min(bytes.len()))]
    }

    /// What else lies in it may be of its earlier life.
    pub(crate) fn is_recycled(&self) -> bool {
        self.header.origin == Origin::Recycled
    }

    pub(crate) fn made_at_open(&self) -> bool {
        self.header.origin == Origin::Open
    }

    /// The START with which it begins, if that is intact.
    ///
    /// # Errors
    /// `Unreadable`.
    pub(crate) fn start(&self) -> Result<Option<(Frame<'_>, Start)>> {
        let Ok(frame) = self.frame(HEADER_PAGE_BYTES)? else { return Ok(None) };
        let start = Start::decode(frame.payload).filter(|_| frame.head.kind == FrameType::Start);
        Ok(start.map(|start| (frame, start)))
    }
}
