//! A file of a database that a person names by its path, and what the manifests say of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::Fs;

use crate::error::{Error, ErrorKind, Result, shell_word};
use crate::manifest::{CollectionMeta, Committed, Manifest, Store};
use crate::named_snapshots;
use crate::segment_meta::{DeletionVectorRef, SegmentMeta};

/// A segment, or a file of deletion vectors with the first segment of it, with the newest manifest that names it.
pub(crate) struct Named {
    /// Directory of the database.
    pub(crate) home: PathBuf,
    /// The file.
    pub(crate) path: PathBuf,
    /// The newest manifest that names it.
    pub(crate) manifest: Committed,
    /// Whether that is the newest of all.
    pub(crate) is_live: bool,
    /// The named snapshots that show it.
    pub(crate) snapshots: Vec<String>,
    /// Its collection there.
    pub(crate) collection: CollectionMeta,
    /// The segment there.
    pub(crate) meta: SegmentMeta,
    /// Whether the path names a file of deletion vectors.
    pub(crate) is_deletion_vector: bool,
}

/// Where a path says that its file lies.
struct Parts<'a> {
    home: PathBuf,
    collection: &'a str,
    file: &'a str,
    is_deletion_vector: bool,
}

impl Parts<'_> {
    /// `HOME/collections/COLLECTION/FILE.parquet`, or `HOME/collections/COLLECTION/dv/FILE.bin`.
    fn of(path: &Path) -> Option<Parts<'_>> {
        let file = path.file_name()?.to_str()?;
        let is_deletion_vector = file.ends_with(".bin");
        let mut dir = path.parent()?;
        if is_deletion_vector {
            dir = Some(dir).filter(|dir| dir.ends_with("dv"))?.parent()?;
        } else if !file.ends_with(".parquet") {
            return None;
        }
        let collection = dir.file_name()?.to_str()?;
        let collections = dir.parent().filter(|dir| dir.ends_with("collections"))?;
        let home = match collections.parent()? {
            here if here.as_os_str().is_empty() => PathBuf::from("."),
            home => home.to_path_buf(),
        };
        Some(Parts { home, collection, file, is_deletion_vector })
    }

    fn below_collections(&self) -> String {
        let dir = if self.is_deletion_vector { "dv/" } else { "" };
        format!("{}/{dir}{}", self.collection, self.file)
    }
}

/// The directory of the database that a file's path says it lies in.
///
/// # Errors
/// `Invalid`: it is in no such place.
pub(crate) fn home_of(path: &Path) -> Result<PathBuf> {
    Parts::of(path).map(|parts| parts.home).ok_or_else(|| {
        let message = "not a segment or deletion vector of a database by its place";
        Error::invalid("AKI-0284", message)
            .at(path, None)
            .help_is("name it as the error or `akidb verify` does: DIR/collections/COLLECTION/FILE")
    })
}

impl Named {
    /// Looks from the newest manifest down; older ones that are damaged are passed over, the newest must be whole.
    pub(crate) fn find(fs: &Arc<dyn Fs>, path: &Path) -> Result<Self> {
        let home = home_of(path)?;
        let parts = Parts::of(path).expect("it has a home");
        let store = Store::new(Arc::clone(fs), home.join("manifest"));
        let mut newest: Option<Manifest> = None;
        for number in store.numbers()?.into_iter().rev() {
            let manifest = match store.load(number) {
                Ok(manifest) => manifest,
                Err(error) if newest.is_none() || error.kind() != ErrorKind::Corrupt => return Err(error),
                Err(_) => continue,
            };
            let collections = &manifest.manifest.collections;
            let collection = collections.iter().find(|c| c.dir == parts.collection);
            let found = collection
                .and_then(|c| Some((c.clone(), c.segments.iter().find(|s| names(s, &parts))?.clone())));
            if let Some((collection, meta)) = found {
                let (path, is_deletion_vector) = (path.to_path_buf(), parts.is_deletion_vector);
                let is_live = newest.is_none();
                let newest = newest.as_ref().unwrap_or(&manifest.manifest);
                let mut names = named_snapshots::names_of_files(&store, newest);
                let snapshots = names.remove(&parts.below_collections()).unwrap_or_default();
                return Ok(Self {
                    home,
                    path,
                    manifest,
                    is_live,
                    snapshots,
                    collection,
                    meta,
                    is_deletion_vector,
                });
            }
            newest.get_or_insert(manifest.manifest);
        }
        Err(Error::new(ErrorKind::NotFound, "AKI-0285", "no manifest names this file")
            .at(path, None)
            .help_is("`akidb verify` lists the files that are damaged"))
    }

    /// The commands that give it up with all that depends on it: a file of deletion vectors may be that of several segments.
    pub(crate) fn commands_to_drop(&self) -> String {
        let is_it = |meta: &&SegmentMeta| match &self.meta.deletion_vector {
            Some(DeletionVectorRef::File { file, .. }) if self.is_deletion_vector => {
                has_vector_in(meta, file)
            }
            _ => meta.file == self.meta.file,
        };
        let dir = self.collection_dir();
        let command = |meta: &SegmentMeta| {
            format!("`akidb repair segment {} --drop`", shell_word(&dir.join(&meta.file)))
        };
        self.collection.segments.iter().filter(is_it).map(command).collect::<Vec<_>>().join(", ")
    }

    /// Directory of its collection.
    pub(crate) fn collection_dir(&self) -> PathBuf {
        self.home.join("collections").join(&self.collection.dir)
    }
}

fn names(meta: &SegmentMeta, parts: &Parts<'_>) -> bool {
    if !parts.is_deletion_vector {
        return meta.file == parts.file;
    }
    has_vector_in(meta, parts.file)
}

fn has_vector_in(meta: &SegmentMeta, name: &str) -> bool {
    matches!(&meta.deletion_vector, Some(DeletionVectorRef::File { file, .. }) if file == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_the_database_by_its_place() {
        let home = |path: &str| home_of(Path::new(path)).ok();
        assert_eq!(home("/a/db/collections/1-docs/x.parquet"), Some("/a/db".into()));
        assert_eq!(home("collections/1-docs/x.parquet"), Some(".".into()));
        assert_eq!(home("db/collections/1-docs/dv/x.bin"), Some("db".into()));
        let elsewhere =
            ["x.parquet", "/a/1-docs/x.parquet", "/a/collections/1/x.bin", "/a/collections/1/dv/x.txt"];
        assert!(elsewhere.iter().all(|path| home(path).is_none()));
    }
}
