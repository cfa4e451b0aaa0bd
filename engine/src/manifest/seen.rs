//! What is remembered of the manifests that were read or written: a manifest never changes, so none is decoded twice.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use akidb_host::seeded_bug;

use super::Manifest;

/// By number. Files that several manifests name are kept once, so a manifest costs 16 bytes a file, and a file its name:
/// manifests are bounded by those that are kept.
#[derive(Debug, Default)]
pub(super) struct Seen {
    manifests: BTreeMap<u64, One>,
    names: HashSet<Arc<str>>,
}

#[derive(Debug)]
struct One {
    /// Microseconds since the Unix epoch: what its file says, or for one that this process wrote what its steady clock said.
    created_at: i64,
    files: Arc<[Arc<str>]>,
}

impl Seen {
    /// Remembers a manifest; answers what it names, as [`Seen::files`].
    pub(super) fn note(&mut self, manifest: &Manifest) -> Arc<[Arc<str>]> {
        if let Some(files) = self.files(manifest.number) {
            return files;
        }
        let files: Arc<[Arc<str>]> = files_of(manifest).map(|name| self.shared(name)).collect();
        let one = One { created_at: manifest.created_at.as_microsecond(), files: Arc::clone(&files) };
        self.manifests.insert(manifest.number, one);
        files
    }

    fn shared(&mut self, name: String) -> Arc<str> {
        if let Some(known) = self.names.get(name.as_str()) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }

    pub(super) fn created_at(&self, number: u64) -> Option<i64> {
        self.manifests.get(&number).map(|one| one.created_at)
    }

    pub(super) fn grows_old_from(&mut self, number: u64, unix_micros: i64) {
        if let Some(one) = self.manifests.get_mut(&number) {
            one.created_at = unix_micros;
        }
    }

    /// The directories and files that it names, below `collections/`.
    pub(super) fn files(&self, number: u64) -> Option<Arc<[Arc<str>]>> {
        self.manifests.get(&number).map(|one| Arc::clone(&one.files))
    }

    /// Their files are about to go.
    pub(super) fn forget(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| drop(self.manifests.remove(number)));
        self.names.retain(|name| Arc::strong_count(name) > 1);
    }
}

/// The directories and files a manifest names, below `collections/`.
fn files_of(manifest: &Manifest) -> impl Iterator<Item = String> {
    let dirs = manifest.collections.iter().map(|collection| collection.dir.clone());
    let files = manifest.files().filter(|f| !f.is_deletion_vector || !seeded_bug("deletion_vectors_swept"));
    dirs.chain(files.map(|file| file.below_collections()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::sample;

    #[test]
    fn names_are_shared_between_manifests_and_go_with_the_last_of_them() {
        let (mut seen, first) = (Seen::default(), sample());
        let mut second = Manifest { number: first.number + 1, ..first.clone() };
        let gone = second.collections[0].segments.remove(0).file;
        seen.note(&first);
        seen.note(&second);
        let (of_first, of_second) = (seen.files(first.number).unwrap(), seen.files(second.number).unwrap());
        assert_eq!((of_first.len(), of_second.len(), seen.names.len()), (5, 4, 5), "{of_first:?}");
        assert!(of_first.iter().any(|name| name.contains("/dv/deletion_vector_")), "{of_first:?}");
        drop((of_first, of_second));
        seen.forget(&[first.number]);
        assert_eq!((seen.files(first.number), seen.created_at(first.number)), (None, None));
        assert!(seen.names.len() == 4 && !seen.names.iter().any(|name| name.ends_with(&gone)));
    }
}
