//! Files that no whole manifest names are kept aside before a step back: damaged ones may have named them, and the next open
//! removes what none names.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{EntryKind, Fs};

use super::segment::ASIDE;
use crate::error::{Error, ErrorKind, Result};
use crate::gc;
use crate::manifest::Store;

/// A file, and where it is kept.
pub(super) struct Unnamed {
    from: PathBuf,
    pub(super) to: PathBuf,
}

/// Segments and deletion vectors of the database at `home` that no manifest names which can be read. What a merge or a flush
/// was making when its process ended may be among them.
pub(super) fn find(fs: &dyn Fs, home: &Path, store: &Store) -> Result<Vec<Unnamed>> {
    let mut named: HashSet<Arc<str>> = HashSet::new();
    for number in store.numbers()? {
        match store.files_of(number) {
            Ok(files) => named.extend(files.iter().cloned()),
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            Err(error) => return Err(error),
        }
    }
    let root = home.join("collections");
    let named: HashSet<PathBuf> = named.iter().map(|name| root.join(&**name)).collect();
    let mut found = Vec::new();
    for (collection, _) in gc::list(fs, &root)?.into_iter().filter(|(_, kind)| *kind == EntryKind::Dir) {
        let dir = root.join(collection);
        for place in [dir.clone(), dir.join("dv")] {
            let whole =
                |name: &str| gc::is_ours(name) && [".parquet", ".bin"].iter().any(|end| name.ends_with(end));
            for (name, kind) in gc::list(fs, &place)? {
                let from = place.join(&name);
                if kind == EntryKind::File && whole(&name) && !named.contains(&from) {
                    found.push(Unnamed { from, to: dir.join(ASIDE).join(name) });
                }
            }
        }
    }
    Ok(found)
}

/// Gives each a second name in `damaged/` of its collection, and makes those durable.
pub(super) fn keep(fs: &dyn Fs, files: &[Unnamed]) -> Result<()> {
    let mut homes = HashSet::new();
    for Unnamed { from, to } in files {
        let failed = |cause: &io::Error| Error::io("AKI-0286", from, "keeping a file aside", cause);
        let aside = to.parent().unwrap_or(to);
        if homes.insert(aside) {
            fs.create_dir_all(aside).map_err(|cause| failed(&cause))?;
        }
        match fs.hard_link(from, to) {
            Ok(()) => {}
            // Of an attempt that was broken off: no two files ever have one name.
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(failed(&cause)),
        }
    }
    for aside in homes {
        let failed = |cause: &io::Error| Error::io("AKI-0286", aside, "keeping files aside", cause);
        fs.sync_dir(aside).map_err(|cause| failed(&cause))?;
        if let Some(dir) = aside.parent() {
            fs.sync_dir(dir).map_err(|cause| failed(&cause))?;
        }
    }
    Ok(())
}
