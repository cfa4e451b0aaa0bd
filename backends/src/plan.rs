//! What the caller wants published: files with their checksums, and the text that names them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::numbered::{Content, RemoteFile};

/// One immutable file that must be on the backend before the plan's text is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanItem {
    /// Where it goes: a relative path with `/`, never ending in `#digits`. Unique for ever: the same key
    /// always stands for the same bytes.
    pub key: String,
    /// Where it lies here.
    pub local: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// crc32 of all of it.
    pub crc32: u32,
    /// What goes up first: 0 before 1, and so on; among equals those named last in the plan.
    pub priority: u8,
    /// What it belongs to, for people who read a dead letter. Means nothing here.
    pub collection: String,
    /// Which segment it is or belongs to, for the same people.
    pub segment: String,
}

/// One local manifest and everything it names. The caller keeps the local files until the plan is published
/// or replaced by a newer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlan {
    /// The number of the local manifest; rises from plan to plan.
    pub local_number: u64,
    /// Every file the content names, uploaded already or not.
    pub items: Vec<PlanItem>,
    /// The manifest's text, as it will come back at restore.
    pub content: String,
}

impl FilePlan {
    /// Whether this plan needs the item too.
    pub(crate) fn names(&self, item: &PlanItem) -> bool {
        self.items.iter().any(|own| own.key == item.key)
    }

    /// Fails for a key no backend could hold, or one named twice.
    pub(crate) fn check(&self, backend: &str) -> Result<()> {
        let mut seen = BTreeSet::new();
        for item in &self.items {
            check_key(backend, &item.key)?;
            if !seen.insert(&item.key) {
                return Err(Error::invalid(backend, "the plan names a key twice").at(&item.key));
            }
        }
        Ok(())
    }

    pub(crate) fn content(&self) -> Content {
        let files = self
            .items
            .iter()
            .map(|item| RemoteFile { key: item.key.clone(), len: item.len, crc32: item.crc32 })
            .collect();
        Content { local_number: self.local_number, files, text: self.content.clone() }
    }
}

/// A key is a plain relative path: it also becomes a path on a disk at restore, so nothing in it may climb
/// out of the directory, and the local store hides names that end in `#digits`.
pub(crate) fn check_key(backend: &str, key: &str) -> Result<()> {
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.len() <= 200
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if key.split('/').all(plain) {
        return Ok(());
    }
    Err(Error::invalid(backend, "a key must be letters, digits, '-', '_' and '.', parted by '/'").at(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_climb_hide_or_confuse_are_refused() {
        for key in
            ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a#1", "a b", "a\\b", "a\0", "é", "C:x"]
        {
            assert!(check_key("b", key).is_err(), "{key:?}");
        }
        for key in ["a", "collections/1-x/00000001-00000001-deadbeef.parquet", "c/dv/deletion_vector_1.bin"] {
            check_key("b", key).unwrap();
        }
    }
}
