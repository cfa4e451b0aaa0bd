//! One log file: made whole (filled, headed, synced) under a temporary name, then named, then appended to through
//! its map; and the view of a file that replay reads.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Access, Advice, Appender, File, Fs, Region, Tail};

use crate::error::{Error, ErrorKind, Fate, Result};
use crate::frame::{ALIGN, FrameType, Head, START_PAYLOAD_BYTES, TRAILER_BYTES, encode_whole};
use crate::header::{BadHeader, HEADER_PAGE_BYTES, Header, Origin, file_name};
use crate::lsn::Lsn;

/// Bytes that every file spends on itself: header page, up to two STARTs, trailer.
pub(crate) const OVERHEAD_BYTES: u64 =
    HEADER_PAGE_BYTES as u64 + 2 * (40 + START_PAYLOAD_BYTES as u64) + TRAILER_BYTES;

/// A file being written: synced through `file`, one handle for its life.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) header: Header,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) tail: Tail,
    appender: Appender,
}

/// What a new file is made from.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) header: Header,
    pub(crate) dir: PathBuf,
}

impl LogFile {
    /// Makes a file under its temporary name: every block written, header synced. Blocks for the whole fill.
    pub(crate) fn make(fs: &dyn Fs, plan: &Plan) -> Result<Self> {
        let path = plan.dir.join(file_name(plan.header.seq));
        let tmp = tmp_path(&path);
        Self::fill(fs, plan, &tmp).map_err(|e| {
            let _ = fs.unlink(&tmp);
            Error::io("make", &path, e)
        })
    }

    fn fill(fs: &dyn Fs, plan: &Plan, tmp: &Path) -> io::Result<Self> {
        match fs.unlink(tmp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let size = plan.header.file_bytes;
        let file = fs.create_new(tmp)?;
        file.zero_fill(0, size)?;
        file.write_at(&plan.header.encode(), 0)?;
        file.sync_all()?;
        let (mut appender, tail) = file.map_log(size)?.split();
        appender.seek(HEADER_PAGE_BYTES as u64);
        Ok(Self {
            header: plan.header,
            path: plan.dir.join(file_name(plan.header.seq)),
            file,
            tail,
            appender,
        })
    }

    /// Gives the file its final name, for good: a power cut after this keeps it. Never replaces another file.
    pub(crate) fn publish(&self, fs: &dyn Fs, dir: &Path) -> Result<()> {
        let tmp = tmp_path(&self.path);
        let linked = fs.hard_link(&tmp, &self.path);
        let _ = fs.unlink(&tmp);
        linked.map_err(|e| Error::io("name", &self.path, e))?;
        fs.sync_dir(dir).map_err(|e| {
            // A name that may be gone after a power cut must not be built on: take it back.
            let _ = fs.unlink(&self.path);
            Error::io("sync the directory of", &self.path, e)
        })
    }

    /// Where the next frame goes; also the bytes used so far.
    pub(crate) fn end(&self) -> u64 {
        self.appender.end()
    }

    /// Whether a frame of so many bytes fits before the room kept for the trailer.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.end() + bytes + TRAILER_BYTES <= self.appender.capacity()
    }

    /// Whether it is time to make the next file.
    pub(crate) fn is_half_full(&self) -> bool {
        self.end() > (self.appender.capacity() + HEADER_PAGE_BYTES as u64) / 2
    }

    /// Writes one frame and shows it to readers. The caller has checked the room.
    pub(crate) fn write(&mut self, head: &Head, table: impl Iterator<Item = u32>, records: &[&[u8]]) {
        let from = self.end();
        self.put(&head.encode(self.header.salt));
        let mut chunk = [0; 256];
        let mut used = 0;
        for len in table {
            chunk[used..used + 4].copy_from_slice(&len.to_le_bytes());
            used += 4;
            if used == chunk.len() {
                self.put(&chunk);
                used = 0;
            }
        }
        self.put(&chunk[..used]);
        for record in records {
            self.put(record);
        }
        let pad = self.end().next_multiple_of(ALIGN as u64) - self.end();
        self.put(&[0; ALIGN][..usize::try_from(pad).expect("less than 8")]);
        assert_eq!(self.end() - from, head.frame_bytes(), "a frame is as long as its header says");
        self.appender.publish();
    }

    /// Writes a mark: START, SEAL, STAMP.
    pub(crate) fn write_mark(&mut self, kind: FrameType, lsn: Lsn, durable: Lsn, payload: &[u8]) {
        self.put(&encode_whole(kind, lsn, durable, payload, self.header.salt));
        self.appender.publish();
    }

    fn put(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.appender.append(bytes).expect("room was checked before the frame was begun");
        }
    }
}

pub(crate) fn tmp_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
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
        let region = fs
            .open(path, Access::Read)
            .and_then(|file| {
                file.advise(Advice::Sequential);
                file.map()
            })
            .map_err(|e| Error::io("open", path, e))?;
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
        Ok(Self { path: path.into(), header, region, truncated })
    }

    /// The bytes the header vouches for.
    pub(crate) fn bytes(&self) -> &[u8] {
        let bytes = self.region.bytes();
        &bytes[..usize::try_from(self.header.file_bytes).map_or(bytes.len(), |size| size.min(bytes.len()))]
    }

    pub(crate) fn made_at_open(&self) -> bool {
        self.header.origin == Origin::Open
    }
}
