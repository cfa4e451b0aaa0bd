//! Features that keep versions away which do not know them, for as long as a manifest uses them.

use super::Manifest;
use super::named::NAMED_SNAPSHOTS;

/// The incompatible feature of a manifest with a collection whose rows expire: a version that does not know it would show
/// them for ever.
pub(super) const ROW_EXPIRY: &str = "row-expiry";

/// Incompatible features this version knows.
pub(super) const KNOWN_INCOMPATIBLE: [&str; 2] = [NAMED_SNAPSHOTS, ROW_EXPIRY];

impl Manifest {
    /// Whether rows of a collection expire.
    pub(super) fn has_expiry(&self) -> bool {
        self.collections.iter().any(|c| c.schemas.iter().any(|schema| schema.expires_by.is_some()))
    }

    /// Says which versions must stay away: to be called when snapshots or collections come and go.
    pub(super) fn note_features(&mut self) {
        let uses = [(NAMED_SNAPSHOTS, !self.snapshots.is_empty()), (ROW_EXPIRY, self.has_expiry())];
        for (feature, used) in uses {
            self.format.incompatible.retain(|said| said != feature);
            if used {
                self.format.incompatible.push(feature.to_owned());
            }
        }
    }

    pub(super) fn says_incompatible(&self, feature: &str) -> bool {
        self.format.incompatible.iter().any(|said| said == feature)
    }
}
