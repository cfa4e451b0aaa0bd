//! A log in a temporary directory, its records as a plain list, and bytes changed behind its back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Fs, RealClock, RealFs, RealSpawn, Spawn};
use akidb_wal::{Appended, Config, Error, ErrorKind, Log, Lsn, Options, Recovered, WritePath, inspect};

/// LSN, last LSN of its batch, bytes.
pub(crate) type Row = (Lsn, Lsn, Vec<u8>);

/// A directory for one log.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) spawn: Arc<dyn Spawn>,
}

/// Small files, no reserve, no probe, and no stamps unless a test asks for them, so that each byte has one cause.
pub(crate) fn small_config() -> Config {
    let mut config = Config::default();
    config.first_file_bytes = 8192;
    config.max_file_bytes = 32768;
    config.reserve_bytes = 0;
    config.write_path = WritePath::Mapped;
    config.stamp_after = std::time::Duration::from_secs(3600);
    config
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            config: small_config(),
            fs: Arc::new(RealFs),
            spawn: Arc::new(RealSpawn),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("wal")
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            dir: self.path(),
            fs: self.fs.clone(),
            clock: Arc::new(RealClock),
            spawn: self.spawn.clone(),
            config: self.config.clone(),
            min_epoch: 0,
            floor: Lsn::ZERO,
            read_only: false,
        }
    }

    pub(crate) fn open(&self) -> (Log, Recovered) {
        Log::open(self.options()).unwrap()
    }

    pub(crate) fn fails(&self) -> Error {
        Log::open(self.options()).map(|_| ()).unwrap_err()
    }

    /// What a reader sees, without changing anything.
    pub(crate) fn peek(&self) -> Result<Recovered, Error> {
        Log::open(Options { read_only: true, ..self.options() }).map(|(_, recovered)| recovered)
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "wal"))
            .collect();
        files.sort();
        files
    }

    /// Without spares, which hold nothing yet.
    pub(crate) fn used_files(&self) -> Vec<PathBuf> {
        self.files().into_iter().filter(|file| !frames(file).is_empty()).collect()
    }

    pub(crate) fn last_file(&self) -> PathBuf {
        self.used_files().pop().unwrap()
    }

    /// A copy of the directory as it is now: what a crash of the process leaves.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self { config: self.config.clone(), ..Self::new() };
        fs::create_dir_all(copy.path()).unwrap();
        let mut files: Vec<_> =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        // A crash stops all files at once: the control page must not be from later than they are.
        files.sort_by_key(|path| path.file_name().is_some_and(|name| name != "control"));
        for from in files {
            fs::copy(&from, copy.path().join(from.file_name().unwrap())).unwrap();
        }
        copy
    }

    /// Every file with its bytes.
    pub(crate) fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_none_or(|e| e != "tmp"))
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        all.sort();
        all
    }
}

pub(crate) fn rows(recovered: &Recovered) -> Vec<Row> {
    let each = recovered.records.iter().map(|record| record.unwrap());
    each.map(|record| (record.lsn, record.frame_last, record.bytes.to_vec())).collect()
}

pub(crate) fn append(log: &Log, records: &[&[u8]], model: &mut Vec<Row>) -> Appended {
    let appended = log.append(records).unwrap();
    for (i, record) in records.iter().enumerate() {
        model.push((appended.first.plus(i as u64), appended.last, record.to_vec()));
    }
    appended
}

pub(crate) fn append_synced(log: &Log, records: &[&[u8]], model: &mut Vec<Row>) -> Appended {
    let appended = append(log, records, model);
    log.wait(appended.last).unwrap();
    appended
}

pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// (offset, kind, records, bytes on disk) of each intact frame.
pub(crate) fn frames(path: &Path) -> Vec<(usize, &'static str, u16, usize)> {
    let seen = inspect(&RealFs, path).unwrap();
    let on_disk = |len: u32| (40 + len as usize).next_multiple_of(8);
    seen.frames.iter().map(|f| (f.offset as usize, f.kind, f.count, on_disk(f.len))).collect()
}

pub(crate) fn corrupt_at(error: &Error) -> (PathBuf, u64, Lsn) {
    match error.kind() {
        ErrorKind::Corrupt { file, offset, lsn, .. } => (file.clone(), *offset, *lsn),
        other => panic!("expected Corrupt, got {other:?}"),
    }
}
