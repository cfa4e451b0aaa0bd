//! Is everything that a database rests on fit for it? Its disk and each backend, tried out and left as they were.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb_backends::{Check, Client, TokioSleep, Verdict};
use akidb_host::{Clock, File, Fs, FsKind, RealClock, RealFs, RealSpawn, Rng};
use serde::Serialize;

use crate::config::{BackendKind, BackendSettings, EngineSettings};
use crate::error::{Error, Result};
use crate::upload::{backend_config, from_backend};

/// Syncs that are timed.
const SYNCS: usize = 16;
const SYNC_BYTES: usize = 4 << 10;
/// A disk whose sync takes longer holds up single writers.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// One thing found.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorFinding {
    /// What was looked at, in a word: `kind`, `space`, `sync`, `reach`, `put`, `get`, `list`, `conditions`, `clock`, `delete`,
    /// `leftovers`.
    pub check: String,
    /// `good`, `warning`, `failed` or `skipped`.
    pub verdict: String,
    /// In words.
    pub said: String,
    /// What mends it.
    pub help: Option<String>,
}

/// What was found in one place.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorReport {
    /// `disk` or `backend`.
    pub kind: &'static str,
    /// Name of the backend; the directory of a disk.
    pub name: String,
    /// Where it is, without secrets.
    pub url: String,
    /// Whether it can be used: nothing failed.
    pub ok: bool,
    /// Everything that was looked at.
    pub findings: Vec<DoctorFinding>,
}

impl DoctorReport {
    fn new(kind: &'static str, name: &str, url: &str, findings: Vec<DoctorFinding>) -> Self {
        let ok = findings.iter().all(|finding| finding.verdict != Verdict::Failed.to_string());
        Self { kind, name: name.to_owned(), url: url.to_owned(), ok, findings }
    }
}

fn finding(
    check: impl ToString,
    verdict: Verdict,
    said: impl Into<String>,
    help: Option<&str>,
) -> DoctorFinding {
    DoctorFinding {
        check: check.to_string(),
        verdict: verdict.to_string(),
        said: said.into(),
        help: help.map(str::to_owned),
    }
}

/// Examines a backend: whether it answers, the rights to put, get, list and delete, whether it honours conditional
/// puts, and how its clock stands. Small objects are made below `probe/` and removed; nothing is claimed, so a running
/// database is not disturbed. Blocks, up to the deadlines of the calls.
///
/// # Errors
/// `Internal` if no thread can be had. What the backend refuses is a finding, and so is one that cannot be opened.
pub fn examine_backend(backend: &BackendSettings, attempts: u32) -> Result<DoctorReport> {
    let report = |findings| DoctorReport::new("backend", &backend.name, &backend.url, findings);
    let opened = match akidb_backends::open_to_read(&backend_config(backend, attempts)) {
        Ok(opened) => opened,
        Err(error) if error.kind() == akidb_backends::ErrorKind::NotFound => {
            let missing = missing_directory(backend).unwrap_or_else(|| {
                let error = from_backend(&error);
                finding(Check::Reach, Verdict::Failed, error.message(), error.help())
            });
            return Ok(report(vec![missing]));
        }
        Err(error) => {
            let error = from_backend(&error);
            return Ok(report(vec![finding(Check::Reach, Verdict::Failed, error.message(), error.help())]));
        }
    };
    let client = Client::new(opened, Arc::new(TokioSleep), Rng::from_machine());
    let found = akidb_backends::examine(client, Arc::new(RealClock), Arc::new(RealSpawn))
        .map_err(|error| from_backend(&error))?;
    let findings = found.into_iter().map(|f| finding(f.check, f.verdict, f.said, f.help.as_deref()));
    Ok(report(findings.collect()))
}

/// That the directory of a `file://` backend is not there; looking must not make what a slip in the path names.
fn missing_directory(backend: &BackendSettings) -> Option<DoctorFinding> {
    let help = "mount it, correct the URL, or make it; a database that opens with this backend makes it too";
    let path = akidb_backends::directory_of(&backend.url).filter(|_| backend.kind == BackendKind::Local);
    path.map(|path| {
        let said = format!("the directory {} is not there", path.display());
        finding(Check::Reach, Verdict::Failed, said, Some(help))
    })
}

/// Examines the disk under `dir`: its kind, the free space, and the time a sync takes. A small file is made there and
/// removed.
///
/// # Errors
/// `NotFound`, `NoSpace`, `Unavailable`: the directory cannot be looked at or written.
pub fn examine_disk(dir: impl AsRef<Path>, settings: &EngineSettings) -> Result<DoctorReport> {
    let (dir, fs) = (dir.as_ref(), RealFs);
    let stats =
        fs.statfs(dir).map_err(|cause| Error::io("AKI-0220", dir, "could not look at the disk", &cause))?;
    let mut findings = Vec::new();
    findings.push(match stats.kind {
        FsKind::Local | FsKind::CopyOnWrite => finding("kind", Verdict::Good, "a local disk", None),
        FsKind::Memory => finding(
            "kind",
            Verdict::Warning,
            "memory only",
            Some("use a disk: nothing survives a reboot here"),
        ),
        FsKind::Network => {
            let help = "use a local disk: locks and flushes of a network file system cannot be relied on";
            finding("kind", Verdict::Failed, "a network file system", Some(help))
        }
    });
    let least = settings.min_free_disk(stats.total_bytes);
    let (free, said) =
        (stats.available_bytes, format!("{} bytes free, {least} are kept", stats.available_bytes));
    findings.push(match free {
        free if free < least => {
            finding("space", Verdict::Failed, said, Some("make room: writes are refused until then"))
        }
        free if free < least.saturating_mul(2) => {
            finding("space", Verdict::Warning, said, Some("make room soon"))
        }
        _ => finding("space", Verdict::Good, said, None),
    });
    let sync = sync_time(&fs, dir)
        .map_err(|cause| Error::io("AKI-0220", dir, "could not write a probe file", &cause))?;
    let said = format!("a sync takes {} us", sync.as_micros());
    findings.push(match sync > SLOW_SYNC {
        true => finding(
            "sync",
            Verdict::Warning,
            said,
            Some("single writers wait this long for each row; `akidb bench wal` tells more"),
        ),
        false => finding("sync", Verdict::Good, said, None),
    });
    let name = dir.display().to_string();
    Ok(DoctorReport::new("disk", &name, &name, findings))
}

/// The median time of a small write and its sync.
fn sync_time(fs: &dyn Fs, dir: &Path) -> std::io::Result<Duration> {
    let path = dir.join(format!("doctor-{:016x}.tmp", Rng::from_machine().u64()));
    let file = fs.create_new(&path)?;
    let timed = time_syncs(&*file);
    fs.unlink(&path)?;
    let mut times = timed?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn time_syncs(file: &dyn File) -> std::io::Result<Vec<Duration>> {
    let clock = RealClock;
    let bytes = [0x5a; SYNC_BYTES];
    file.write_at(&bytes, 0)?;
    file.sync_all()?;
    let one = |_| {
        let started = clock.now();
        file.write_at(&bytes, 0)?;
        file.sync_data()?;
        Ok(clock.now().saturating_duration_since(started))
    };
    (0..SYNCS).map(one).collect()
}
