//! The lock of a database's directory: a writer or a repair has it alone, readers share it while they read the log.

use std::io;
use std::path::Path;

use akidb_host::{Access, Fs, LockGuard};

use crate::error::{Error, ErrorKind, Result};

/// The file that is locked. Its text is a message for people.
const NAME: &str = "LOCK";
/// How long is waited for readers, and for a handle that is being dropped in this process, in steps of 10 ms.
const TRIES: u32 = 100;

/// How a reader stands to writers.
#[derive(Debug)]
pub(crate) enum Shared {
    /// There is none, and none begins while this is held.
    Held {
        /// Dropping it lets writers begin.
        _lock: Box<dyn LockGuard>,
    },
    /// There is nothing to lock, as in a copy that left it out, or no locks on this medium: no writer either.
    NoLock,
    /// One has the directory.
    BesideWriter,
}

/// Keeps writers away, beside other readers. Writes nothing, and needs no right to.
///
/// # Errors
/// `Unavailable` where nobody can tell whether there is a writer.
pub(crate) fn share(fs: &dyn Fs, dir: &Path) -> Result<Shared> {
    let path = dir.join(NAME);
    match fs.try_lock_shared(&path) {
        Ok(Some(lock)) => Ok(Shared::Held { _lock: lock }),
        Ok(None) => Ok(Shared::BesideWriter),
        Err(cause) => match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::Unsupported => {
                Ok(Shared::NoLock)
            }
            _ => Err(Error::io("AKI-0223", &path, "could not take the lock", &cause).help_is(
                "a reader shares it, so that no writer changes what is read: let this user read the file",
            )),
        },
    }
}

/// Takes the lock for one who writes; waits up to a second for readers. `instead` says what to do about another writer.
///
/// # Errors
/// `Locked`, saying by whom; `Unavailable`.
pub(crate) fn take(fs: &dyn Fs, dir: &Path, instead: &str) -> Result<Box<dyn LockGuard>> {
    let path = dir.join(NAME);
    for left in (0..TRIES).rev() {
        let lock = fs.try_lock(&path);
        let lock = lock.map_err(|cause| Error::io("AKI-0223", &path, "could not take the lock", &cause))?;
        if let Some(lock) = lock {
            return Ok(lock);
        }
        // What can be shared nobody has alone: these are readers, who let go of it by themselves.
        let is_read = matches!(fs.try_lock_shared(&path), Ok(Some(_)));
        let refused = |message: String, help: &str| {
            Err(Error::new(ErrorKind::Locked, "AKI-0224", message).at(&path, None).help_is(help))
        };
        if is_read && left == 0 {
            let message = "the log is being read by those who open the database for reading";
            return refused(message.to_owned(), "try again: each holds the directory only while it opens");
        }
        let holder = text(fs, &path);
        // Another process will not let go by being waited for; a handle being dropped in this one will.
        if !is_read && (left == 0 || !holder.contains(&format!("pid {},", std::process::id()))) {
            return refused(format!("the directory is open for writing elsewhere ({holder})"), instead);
        }
        // Real time: what is waited for is other threads and processes, in real time too.
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    unreachable!("the last try returns")
}

fn text(fs: &dyn Fs, path: &Path) -> String {
    let read = || -> io::Result<String> {
        let file = fs.open(path, Access::Read)?;
        let mut text = vec![0; usize::try_from(file.len()?.min(512)).unwrap_or(512)];
        file.read_exact_at(&mut text, 0)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    read().ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "by whom is not known".to_owned())
}
