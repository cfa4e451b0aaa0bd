//! What a store that is slow to tell the truth still does not say: lists of the past, objects that appear late.

use object_store::ObjectMeta;
use object_store::path::Path;

/// What changed, newest last, while the store was told to be behind.
#[derive(Debug, Default)]
pub(super) struct History {
    changes: Vec<Change>,
    /// Lists show the store as it was before so many changes.
    pub(super) list_lag_changes: usize,
    /// The last so many new objects are not found yet by their names.
    pub(super) get_lag_changes: usize,
}

#[derive(Debug)]
struct Change {
    path: Path,
    /// What a list showed for it before; none if it is new.
    before: Option<ObjectMeta>,
}

impl History {
    pub(super) fn is_kept(&self) -> bool {
        self.list_lag_changes > 0 || self.get_lag_changes > 0
    }

    pub(super) fn note(&mut self, path: &Path, before: Option<ObjectMeta>) {
        self.changes.push(Change { path: path.clone(), before });
    }

    fn latest(&self, lag: usize) -> &[Change] {
        &self.changes[self.changes.len().saturating_sub(lag)..]
    }

    /// Whether an object is too new to be found by its name.
    pub(super) fn is_late(&self, path: &Path) -> bool {
        self.latest(self.get_lag_changes).iter().any(|c| c.path == *path && c.before.is_none())
    }

    /// A list as it was some changes ago.
    pub(super) fn rewind(&self, prefix: Option<&Path>, mut list: Vec<ObjectMeta>) -> Vec<ObjectMeta> {
        for change in self.latest(self.list_lag_changes).iter().rev() {
            if prefix.is_some_and(|prefix| !change.path.prefix_matches(prefix)) {
                continue;
            }
            list.retain(|meta| meta.location != change.path);
            list.extend(change.before.clone());
        }
        list
    }
}
