//! The log as a person looks at it: every frame of its files, and its last records. Reads only, takes no lock.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{EntryKind, Fs, RealClock, RealFs, RealSpawn};
use akidb_wal::{Config, FrameFacts, Log, Options, Recovered};
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::id::Id;
use crate::idempotency::BatchKey;
use crate::log::{LOOKS, from_wal};
use crate::lsn::Lsn;
use crate::manifest::{Manifest, Store};
use crate::paths::{lossy_cut, lossy_path};
use crate::record::{Op, Record};
use crate::row::timestamp_text;
use crate::schema::IdKind;
use crate::unfinished;

/// One log file: the facts of its header, its frames, and where and why its intact part ends.
#[derive(Clone, Debug, Serialize)]
pub struct LogFile {
    /// The file.
    #[serde(serialize_with = "lossy_path")]
    pub file: PathBuf,
    /// The log it belongs to, in hex.
    pub log_id: String,
    /// Its number, from 1.
    pub sequence: u64,
    /// Epoch of the writer that made it.
    pub epoch: u32,
    /// Made at an open; otherwise by rotation.
    pub made_at_open: bool,
    /// Size it was made with, bytes.
    pub file_bytes: u64,
    /// It is shorter than it was made.
    pub truncated: bool,
    /// Its frames in order; behind the first that is not whole, those found by searching.
    #[serde(skip)]
    pub frames: Vec<LogFrame>,
    /// Where the unbroken run of whole frames ends, bytes.
    pub end_offset: u64,
    /// Why it ends there. Whether anything was lost, only all files of a log can say.
    pub end_reason: &'static str,
}

/// One frame of a log file.
#[derive(Clone, Debug, Serialize)]
pub struct LogFrame {
    /// Where it begins, bytes from the file's start.
    pub offset: u64,
    /// `batch`, `start`, `seal`, `stamp` or `cut`.
    #[serde(rename = "type")]
    pub frame_type: &'static str,
    /// LSN of its first record, or the next one to come, as `epoch:counter`.
    pub lsn: String,
    /// Records in it.
    pub records: u16,
    /// Payload bytes.
    pub bytes: u32,
    /// Highest LSN known to be on disk when it was written.
    pub durable: String,
    /// Header and payload are whole; else only the header is.
    pub ok: bool,
    /// Its records, if they were asked for.
    #[serde(skip)]
    pub contents: Vec<LogRecord>,
}

/// One record of the log.
#[derive(Clone, Debug, Serialize)]
pub struct LogRecord {
    /// Its LSN as `epoch:counter`.
    pub lsn: String,
    /// Bytes it takes in its frame.
    pub bytes: usize,
    /// `upsert` or `delete`; `None` if the bytes are no record of this version.
    pub op: Option<&'static str>,
    /// Id of its collection.
    pub collection: Option<u32>,
    /// Name of that collection, if the newest manifest has it.
    pub collection_name: Option<String>,
    /// The row's id; in hex where the collection's kind of id is not known and the bytes are no text.
    pub key: Option<String>,
    /// The idempotency key of the batch that ends with this record, if it has one.
    pub batch_key: Option<String>,
    /// When the row expires, RFC 3339 in UTC, if it does.
    pub expires_at: Option<String>,
    /// Why the bytes could not be read, in words.
    pub undecodable: Option<String>,
    /// Below or at the proven LSN: on disk for certain. `None` where that was not looked at.
    pub proven: Option<bool>,
}

/// The end of a log.
#[derive(Clone, Debug, Serialize)]
pub struct LogTail {
    /// The last records, oldest first.
    #[serde(skip)]
    pub records: Vec<LogRecord>,
    /// How many records the log holds at or above the manifest's floor.
    pub live_records: u64,
    /// The last one's LSN.
    pub last: String,
    /// Every record up to here is provably on disk.
    pub proven: String,
    /// First and last record that are in the log but not proven to be on disk: a power cut now may take them.
    pub unproven: Option<[String; 2]>,
    /// Where reading stopped before the end of what is written, as file and offset, with bytes and whole frames behind it.
    #[serde(serialize_with = "lossy_cut")]
    pub cut: Option<(PathBuf, u64, u64, u64)>,
}

/// The log files that `path` names: itself, or those in a log's or a database's directory, oldest first.
///
/// # Errors
/// `NotFound`; `Invalid` if there is no log file; `Unavailable`.
pub fn log_files(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    let unreadable = |cause: &std::io::Error| Error::io("AKI-0247", path, "looking for log files", cause);
    if RealFs.metadata(path).map_err(|cause| unreadable(&cause))?.kind != EntryKind::Dir {
        // The control file beside them is none, and would be called damaged.
        return match path.extension().is_some_and(|ending| ending == "wal") {
            true => Ok(vec![path.into()]),
            false => Err(no_log_file(path)),
        };
    }
    let inside = path.join("wal");
    let dir = if RealFs.metadata(&inside).is_ok() { inside } else { path.into() };
    let names = RealFs.list(&dir).map_err(|cause| unreadable(&cause))?;
    // Their names are their numbers in hex, all of one length.
    let files: Vec<_> = names
        .iter()
        .filter(|entry| entry.name.ends_with(".wal"))
        .map(|entry| dir.join(&entry.name))
        .collect();
    if files.is_empty() {
        return Err(no_log_file(path));
    }
    Ok(files)
}

fn no_log_file(path: &Path) -> Error {
    let message = "no log file here: name one that ends in .wal, or the directory of a database";
    Error::invalid("AKI-0271", message).at(path, None)
}

/// Reads one log file, with its records if `records` says so. Beside a living writer the last frame may be half
/// written when it is looked at.
///
/// # Errors
/// `Corrupt` or `NewerFormat` if the header cannot be read; `NotFound`, `Unavailable`.
pub fn dump_log_file(file: impl AsRef<Path>, records: bool) -> Result<LogFile> {
    let file = file.as_ref();
    let names = if records { Names::beside(file) } else { Names::default() };
    let mut contents: BTreeMap<u64, Vec<LogRecord>> = BTreeMap::new();
    let mut note = |frame: &FrameFacts, lsn: Lsn, bytes: &[u8]| {
        if records {
            contents.entry(frame.offset).or_default().push(names.describe(lsn, bytes, None));
        }
    };
    let found = akidb_wal::inspect_records(&RealFs, file, &mut note).map_err(|error| from_wal(&error))?;
    let frame = |facts: &FrameFacts| LogFrame {
        offset: facts.offset,
        frame_type: facts.kind,
        lsn: facts.lsn.to_string(),
        records: facts.count,
        bytes: facts.len,
        durable: facts.durable.to_string(),
        ok: facts.ok,
        contents: contents.remove(&facts.offset).unwrap_or_default(),
    };
    let frames = found.frames.iter().map(frame).collect();
    Ok(LogFile {
        file: file.into(),
        log_id: found.header.log_id.iter().map(|byte| format!("{byte:02x}")).collect(),
        sequence: found.header.seq,
        epoch: found.header.epoch,
        made_at_open: found.header.made_at_open,
        file_bytes: found.header.file_bytes,
        truncated: found.header.truncated,
        frames,
        end_offset: found.end_offset,
        end_reason: found.end_reason,
    })
}

/// The last `count` records of the log of the database in `dir`, of those at or above `from` if it is given. Takes no
/// lock: beside a living writer it looks again, a few times, when a file changed while it was read.
///
/// # Errors
/// `NotFound` if there is no database; `Corrupt` with file and offset; `NewerFormat`, `Conflict`, `Unavailable`.
pub fn tail_log(dir: impl AsRef<Path>, count: usize, from: Option<Lsn>) -> Result<LogTail> {
    let dir = dir.as_ref();
    let mut before: Option<Error> = None;
    for _ in 0..LOOKS {
        let error = match look(dir, count, from) {
            Ok(tail) => return Ok(tail),
            Err(error) => error,
        };
        // Damage stays where it is; what a writer changes meanwhile moves on.
        let again = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unavailable);
        if !again || before.as_ref().is_some_and(|before| before.place() == error.place()) {
            return Err(error);
        }
        before = Some(error);
    }
    Err(before.expect("each look that did not return left its error"))
}

fn look(dir: &Path, count: usize, from: Option<Lsn>) -> Result<LogTail> {
    let newest = Store::new(Arc::new(RealFs), dir.join("manifest")).newest()?;
    let Some(newest) = newest else {
        unfinished::refuse(&RealFs, dir)?;
        let message = format!("{} holds no database", dir.display());
        return Err(Error::new(ErrorKind::NotFound, "AKI-0221", message));
    };
    let options = Options {
        dir: dir.join("wal"),
        fs: Arc::new(RealFs),
        clock: Arc::new(RealClock),
        spawn: Arc::new(RealSpawn),
        config: Config::default(),
        min_epoch: 0,
        floor: newest.manifest.floor,
        read_only: true,
    };
    let (_log, recovered) = Log::open(options).map_err(|error| from_wal(&error))?;
    collect(&recovered, &Names::of(&newest.manifest), count, from)
}

fn collect(recovered: &Recovered, names: &Names, count: usize, from: Option<Lsn>) -> Result<LogTail> {
    let mut last = VecDeque::new();
    let (mut live, mut unproven) = (0, None::<(Lsn, Lsn)>);
    for record in &recovered.records {
        let record = record.map_err(|error| from_wal(&error))?;
        live += 1;
        let proven = record.lsn <= recovered.proven;
        if !proven {
            unproven = Some((unproven.map_or(record.lsn, |(first, _)| first), record.lsn));
        }
        if count == 0 || from.is_some_and(|from| record.lsn < from) {
            continue;
        }
        if last.len() == count {
            last.pop_front();
        }
        last.push_back(names.describe(record.lsn, record.bytes, Some(proven)));
    }
    Ok(LogTail {
        records: last.into(),
        live_records: live,
        last: recovered.last.to_string(),
        proven: recovered.proven.to_string(),
        unproven: unproven.map(|(first, last)| [first.to_string(), last.to_string()]),
        cut: recovered.cut.as_ref().map(|cut| (cut.file.clone(), cut.offset, cut.bytes, cut.frames)),
    })
}

/// What the newest manifest says of collections: name and kind of id.
#[derive(Debug, Default)]
struct Names(BTreeMap<u32, (String, IdKind)>);

impl Names {
    fn of(manifest: &Manifest) -> Self {
        let kind = |schemas: &[crate::schema::Schema]| schemas.last().map(|schema| schema.id_kind);
        let known =
            manifest.collections.iter().filter_map(|c| Some((c.id, (c.name.clone(), kind(&c.schemas)?))));
        Self(known.collect())
    }

    /// Of the database that a log file lies in; empty if it lies in none, or none whose manifest can be read.
    fn beside(file: &Path) -> Self {
        let Some(home) = file.parent().and_then(Path::parent) else { return Self::default() };
        let newest = Store::new(Arc::new(RealFs), home.join("manifest")).newest();
        newest.ok().flatten().map(|newest| Self::of(&newest.manifest)).unwrap_or_default()
    }

    fn describe(&self, lsn: Lsn, bytes: &[u8], proven: Option<bool>) -> LogRecord {
        let decoded = Record::decode(bytes);
        let known = decoded.as_ref().ok().and_then(|record| self.0.get(&record.collection));
        let op = |record: &Record<'_>| match record.op {
            Op::Upsert => "upsert",
            Op::Delete => "delete",
        };
        LogRecord {
            lsn: lsn.to_string(),
            bytes: bytes.len(),
            op: decoded.as_ref().ok().map(op),
            collection: decoded.as_ref().ok().map(|record| record.collection),
            collection_name: known.map(|(name, _)| name.clone()),
            key: decoded.as_ref().ok().map(|record| key_text(record.key, known.map(|(_, kind)| *kind))),
            batch_key: decoded.as_ref().ok().and_then(|record| batch_key(record, lsn)),
            expires_at: decoded
                .as_ref()
                .ok()
                .filter(|record| record.expires_at != 0)
                .map(|record| timestamp_text(record.expires_at)),
            undecodable: decoded.err().map(|error| error.to_string()),
            proven,
        }
    }
}

fn batch_key(record: &Record<'_>, lsn: Lsn) -> Option<String> {
    let key = record.names_batch.then(|| BatchKey::decode(record.idempotency_key, lsn))?;
    key.map(|key| key.text.to_string())
}

fn key_text(key: &[u8], kind: Option<IdKind>) -> String {
    match Id::from_key(key, kind == Some(IdKind::Int)) {
        Some(id) => id.to_string(),
        None => key.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_as_the_collection_means_it() {
        assert_eq!(key_text(b"hello", None), "hello");
        assert_eq!(key_text(&Id::from(-7).key(), Some(IdKind::Int)), "-7");
        assert_eq!(key_text(&Id::from(7).key(), None), "0x8000000000000007");
    }

    #[test]
    fn bytes_that_are_no_record_are_told_as_such() {
        let told = Names::default().describe(Lsn::new(1, 2), b"\x09short", None);
        assert_eq!((told.op, told.key, told.bytes), (None, None, 6));
        assert!(told.undecodable.is_some_and(|why| why.contains("6 bytes")));
    }
}
