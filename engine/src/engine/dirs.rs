//! The directories of collections: made, and their names synced, before a manifest names anything in them.

use std::collections::{BTreeSet, HashSet};
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

    /// Forgets all that lie in none of these. Each is looked up, not compared with all: whoever makes a directory waits meanwhile.
    pub(crate) fn forget_all_but(&self, homes: &HashSet<&Path>) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.retain(|dir| dir.ancestors().any(|above| homes.contains(above)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_home_is_remembered_and_nothing_beside_it() {
        let dirs = Dirs::default();
        let names = ["c/1-a", "c/1-a/dv", "c/2-b", "c/2-b/dv", "c/20-b", "c/3-c/dv"];
        *dirs.settled.lock().unwrap() = names.iter().map(PathBuf::from).collect();
        dirs.forget_all_but(&["c/1-a", "c/20-b", "c/3-c"].map(Path::new).into());
        let left: Vec<String> =
            dirs.settled.lock().unwrap().iter().map(|dir| dir.display().to_string()).collect();
        assert_eq!(left, ["c/1-a", "c/1-a/dv", "c/20-b", "c/3-c/dv"]);
    }
}
