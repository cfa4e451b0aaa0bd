//! What several tests need: a database over the real disk with a hook in every call, copies of directories, the memory of this process.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use akidb::{Db, Settings};
use akidb_host::sim::{Act, Call, HookFs, Op};
use akidb_host::{Clock, RealClock, RealFs, RealSpawn};

mod watched;

pub(crate) use watched::Watched;

/// Opens a database whose file calls pass through `hook`.
pub(crate) fn hooked(
    dir: &Path,
    hook: Arc<dyn Fn(&Call<'_>) -> Act + Send + Sync>,
    settings: Settings,
) -> Db {
    let fs = Arc::new(HookFs::new(Arc::new(RealFs), hook));
    Db::builder(dir)
        .settings(settings)
        .components(fs, Arc::new(RealClock), Arc::new(RealSpawn))
        .open()
        .unwrap()
}

/// Whether the log syncs what was appended: not the thread that makes its next file, which tries out what a sync of that costs.
pub(crate) fn syncs_log(call: &Call<'_>) -> bool {
    call.op == Op::SyncData && in_dir(call.path, "wal") && thread::current().name() != Some("wal-prepare")
}

/// What is waited for at most.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Looks until it is so: for what has no event to wait for.
#[track_caller]
pub(crate) fn until(is_so: impl Fn() -> bool) {
    let since = RealClock.now();
    while !is_so() {
        assert!(RealClock.now().duration_since(since) < LONG, "it did not come to be");
        thread::yield_now();
    }
}

/// Memory of this process that is not of files: maps do not count.
pub(crate) fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Whether a path lies in this part of a database.
pub(crate) fn in_dir(path: &Path, name: &str) -> bool {
    path.components().any(|part| part.as_os_str() == name)
}

/// Everything that was on disk at the last sync, as a power cut may leave it.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
