//! Where a bench works, how its rates are shown, and what its failures say.

use std::path::{Path, PathBuf};

use akidb_benches::wal::Error;

use crate::failure::{Failure, Result};
use crate::output::thousands;

/// The directory asked for; else `target` of the current directory, else that directory itself. Never a default in
/// /tmp, which may be memory: its figures would be no disk's.
pub(super) fn of(asked: Option<PathBuf>) -> Result<PathBuf> {
    let dir = asked.unwrap_or_else(|| {
        let target = PathBuf::from("target");
        if target.is_dir() { target } else { PathBuf::from(".") }
    });
    match dir.metadata() {
        Ok(found) if found.is_dir() => Ok(dir),
        Ok(_) => Err(Failure::usage(format!("{} is no directory", dir.display()))),
        Err(cause) => Err(Failure::io(&dir, "looking for the directory of the bench", &cause)
            .help("name a directory on the disk to be measured by --dir DIR")),
    }
}

/// A rate as a whole number.
pub(super) fn rate(per_sec: f64) -> String {
    let whole = format!("{per_sec:.0}");
    whole.parse().map_or(whole, thousands)
}

/// A bench's failure as the command's.
pub(super) fn failure(dir: &Path, error: Error) -> Failure {
    match error {
        Error::Machine { action, at, source } => Failure::io(&at, action, &source),
        Error::Log(error) => {
            let failure = Failure::io(dir, "the log", &std::io::Error::other(error.to_string()));
            match error.help() {
                Some(help) => failure.help(help),
                None => failure,
            }
        }
    }
}
