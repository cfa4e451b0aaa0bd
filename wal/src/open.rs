//! Opening: look at the directory, judge it, begin a new session in a file of its own.

use std::io;
use std::path::{Path, PathBuf};

use akidb_host::{Access, Fs, FsKind, Rng, seeded_bug};

use crate::config::{Config, Options};
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::findings::{Findings, Leg};
use crate::frame::{FrameType, Head, Start, StartKind};
use crate::header::{HEADER_PAGE_BYTES, Header, Origin, parse_file_name};
use crate::log_file::{LogFile, OVERHEAD_BYTES, Plan, Source, View, remove_if_there};
use crate::lsn::Lsn;
use crate::replay::Frames;

/// The file kept so that a full disk can still be opened.
const RESERVE: &str = "reserve";
/// What it is filled as: one of a process that died meanwhile goes with the half-made log files.
const RESERVE_TMP: &str = "reserve.wal.tmp";

/// The log files of a directory, sorted, and the temporary names left by a crash.
pub(crate) fn survey(fs: &dyn Fs, dir: &Path) -> Result<(Vec<View>, Vec<PathBuf>)> {
    let names = match fs.list(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::io("list", dir, e)),
    };
    let (mut views, mut leftovers): (Vec<View>, _) = (Vec::new(), Vec::new());
    for entry in names {
        let path = dir.join(&entry.name);
        if let Some(seq) = parse_file_name(&entry.name) {
            views.push(View::open(fs, &path, seq)?);
        } else if entry.name.ends_with(".wal.tmp") {
            leftovers.push(path);
        }
    }
    views.sort_by_key(|view| view.header.seq);
    if let Some(foreign) = views.iter().find(|v| v.header.log_id != views[0].header.log_id) {
        return Err(Error::new(ErrorKind::ForeignLog { file: foreign.path.clone() }, Fate::Untouched));
    }
    Ok((views, leftovers))
}

/// Makes the directory and refuses a network file system.
pub(crate) fn check_dir(options: &Options) -> Result<()> {
    let (fs, dir) = (&*options.fs, &*options.dir);
    if !options.read_only {
        fs.create_dir_all(dir).map_err(|e| Error::io("make the directory", dir, e))?;
    }
    if options.config.allow_network_fs {
        return Ok(());
    }
    match fs.statfs(dir) {
        Ok(stats) if stats.kind == FsKind::Network => {
            Err(Error::new(ErrorKind::NetworkFs { dir: dir.into() }, Fate::Untouched))
        }
        Ok(_) => Ok(()),
        Err(e) if options.read_only && e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("ask for the file system of", dir, e)),
    }
}

/// The identity of a log and of this open of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) log_id: [u8; 16],
    pub(crate) epoch: u32,
    pub(crate) boot_id: [u8; 16],
}

pub(crate) fn rng(config: &Config, epoch: u32) -> Rng {
    config.salt_seed.map_or_else(Rng::from_machine, |seed| Rng::seeded(seed ^ u64::from(epoch) << 40))
}

pub(crate) fn fresh_salt(rng: &mut Rng) -> u64 {
    if seeded_bug("same_salt") { 1 } else { rng.u64() | 1 }
}

/// The next epoch: above every one ever seen here or known to the caller.
pub(crate) fn next_epoch(options: &Options, found: &Findings) -> Result<u32> {
    let highest = options.min_epoch.max(found.max_epoch).max(options.floor.epoch());
    if highest >= Lsn::MAX_EPOCH {
        let text = format!("epoch {highest} is the last one: this directory was opened too often");
        return Err(Error::new(ErrorKind::Invalid(text), Fate::Untouched));
    }
    Ok(highest + u32::from(!seeded_bug("same_epoch")))
}

/// The first file of a session: START(relog) and the unproven frames if there are any, then START(new). It gets
/// its name after all of that was synced, so a crash in between leaves the old files as they were, and a file
/// that has its name is complete.
pub(crate) fn begin(
    options: &Options,
    found: &Findings,
    me: &Identity,
    seq: u64,
    rng: &mut Rng,
) -> Result<LogFile> {
    let size = file_bytes(options.config.first_file_bytes, found.unproven_bytes);
    let header = Header {
        log_id: me.log_id,
        seq,
        salt: fresh_salt(rng),
        file_bytes: size,
        epoch: me.epoch,
        origin: Origin::Open,
    };
    let plan = Plan { header, dir: options.dir.clone(), write_path: options.config.write_path };
    let fs = &*options.fs;
    settle_names(fs, &options.dir, seq == 1)?;
    let mut file = LogFile::make(fs, &plan).or_else(|e| retry_on_reserve(fs, &plan, e))?;
    let written = fill(&mut file, found, me).and_then(|()| match () {
        () if seeded_bug("first_file_not_synced") => Ok(()),
        () => file.settle(fs, &plan).map_err(|e| Error::io("sync", &file.path, e)),
    });
    if let Err(e) = written {
        file.discard(fs);
        return Err(e);
    }
    file.publish(fs, &options.dir)?;
    Ok(file)
}

/// The names found here may be those of a process that died before it synced them. What is built on them must not
/// outlive them: a file that continues another is damage without it. Of a new log it is the directory's own name.
fn settle_names(fs: &dyn Fs, dir: &Path, new: bool) -> Result<()> {
    if seeded_bug("found_names_not_synced") {
        return Ok(());
    }
    let dir = if new { dir.parent().unwrap_or(dir) } else { dir };
    fs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}

fn retry_on_reserve(fs: &dyn Fs, plan: &Plan, error: Error) -> Result<LogFile> {
    if !matches!(error.kind(), ErrorKind::NoSpace { .. }) || fs.unlink(&plan.dir.join(RESERVE)).is_err() {
        return Err(error);
    }
    tracing::warn!(dir = %plan.dir.display(), "the disk is full; opening on the reserve");
    LogFile::make(fs, plan)
}

fn fill(file: &mut LogFile, found: &Findings, me: &Identity) -> Result<()> {
    let failed = |path: &Path, e| Error::io("write", path, e);
    let start = |kind, seq, last, end| Start {
        kind,
        previous_seq: seq,
        previous_last: last,
        previous_end: end,
        epoch: me.epoch,
        boot_id: me.boot_id,
    };
    let opens = Lsn::new(me.epoch, 1);
    if found.unproven_legs.is_empty() {
        let new = start(StartKind::New, found.proven_seq, found.last, found.proven_end);
        let written = file.write_mark(FrameType::Start, opens, found.last, &new.encode());
        return written.and_then(|()| file.flush()).map_err(|e| failed(&file.path, e));
    }
    let mut begun = false;
    for frame in Frames::new(&found.unproven_legs) {
        let frame = frame?;
        if !begun {
            let relog = start(StartKind::Relog, found.proven_seq, found.proven, found.proven_end);
            file.write_mark(FrameType::Start, frame.head.lsn, found.proven, &relog.encode())
                .map_err(|e| failed(&file.path, e))?;
            begun = true;
        }
        let head = Head { durable: found.proven, ..frame.head };
        file.write(&head, std::iter::empty(), &[frame.payload]).map_err(|e| failed(&file.path, e))?;
    }
    let new = start(StartKind::New, file.header.seq, found.last, file.end());
    let written = file.write_mark(FrameType::Start, opens, found.last, &new.encode());
    written.and_then(|()| file.flush()).map_err(|e| failed(&file.path, e))
}

/// The part of a new session's file that holds re-logged records, as replay reads it.
pub(crate) fn relogged(file: &LogFile) -> Leg {
    Leg {
        path: file.path.to_path_buf(),
        source: Source::Live(file.tail.clone()),
        salt: file.header.salt,
        from: HEADER_PAGE_BYTES as u64,
        to: file.end(),
        judged: false,
    }
}

/// Size of a file that has `wanted` bytes in general and must hold `payload` bytes of frames.
pub(crate) fn file_bytes(wanted: u64, payload: u64) -> u64 {
    let page = HEADER_PAGE_BYTES as u64;
    wanted.max(2 * page).max(payload + OVERHEAD_BYTES).next_multiple_of(page)
}

/// Makes the reserve file if it is missing or too short; a failure only means that there is none yet. Where the disk is
/// nearly full the log itself has better use for what is left.
pub(crate) fn keep_reserve(fs: &dyn Fs, dir: &Path, bytes: u64) {
    let (path, tmp) = (dir.join(RESERVE), dir.join(RESERVE_TMP));
    if bytes == 0 || fs.metadata(&path).is_ok_and(|found| found.len >= bytes) {
        return;
    }
    if fs.statfs(dir).is_ok_and(|space| space.available_bytes < bytes.saturating_mul(2)) {
        tracing::warn!(file = %path.display(), "no reserve for a full disk: it is nearly full already");
        return;
    }
    let made = remove_if_there(fs, &tmp).and_then(|()| fs.create_new(&tmp)).and_then(|file| {
        file.zero_fill(0, bytes)?;
        file.sync_all()?;
        fs.rename(&tmp, &path)
    });
    if let Err(e) = made {
        tracing::warn!(file = %path.display(), error = %e, "no reserve for a full disk");
        let _ = fs.unlink(&tmp);
    }
}

/// This boot of the machine, zeros where it does not say: a note in START for people who read dumps.
pub(crate) fn boot_id(fs: &dyn Fs) -> [u8; 16] {
    let mut text = [0; 36];
    let read = fs
        .open(Path::new("/proc/sys/kernel/random/boot_id"), Access::Read)
        .and_then(|file| file.read_exact_at(&mut text, 0));
    let mut id = [0; 16];
    if read.is_ok() {
        let digits = text.iter().filter_map(|b| char::from(*b).to_digit(16));
        for (i, digit) in digits.take(32).enumerate() {
            id[i / 2] = id[i / 2] << 4 | u8::try_from(digit).expect("a hex digit");
        }
    }
    id
}

pub(crate) fn fresh_log_id(rng: &mut Rng) -> [u8; 16] {
    let mut id = [0; 16];
    rng.fill(&mut id);
    id
}
