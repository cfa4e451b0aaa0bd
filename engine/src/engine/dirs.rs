//! The directories of collections: made, and their names synced, before a manifest names anything in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Place;
use crate::error::{Error, Result};

/// Directories whose names were synced since the open.
#[derive(Debug, Default)]
pub(crate) struct Dirs {
    settled: Mutex<BTreeSet<PathBuf>>,
}

impl Dirs {
    /// Makes one, its name and those above it synced. One that is there may have been made by a process that died before it
    /// synced the name, or by a call that failed there: it is synced once more.
    pub(crate) fn make(&self, place: &Place, dir: &Path) -> Result<()> {
        let (fs, root) = (&place.fs, place.dir.join("collections"));
        let mut below: Vec<&Path> = dir.ancestors().take_while(|above| *above != root).collect();
        below.reverse();
        for dir in below {
            let is_there = fs.metadata(dir).is_ok();
            if is_there && self.settled.lock().unwrap_or_else(PoisonError::into_inner).contains(dir) {
                continue;
            }
            let settled = match dir.parent() {
                Some(above) if is_there => fs.sync_dir(above),
                _ => fs.create_dir_all(dir),
            };
            settled.map_err(|cause| Error::io("AKI-0207", dir, "could not create", &cause))?;
            self.settled.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned());
        }
        Ok(())
    }

    /// Forgets all that lie in none of these.
    pub(crate) fn forget_all_but(&self, homes: &[&Path]) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.retain(|dir| homes.iter().any(|home| dir.starts_with(home)));
    }
}
