//! Where an uploader stands, for people and gauges.

use crate::error::Error;

/// Where an uploader stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The newest local manifest that this open has put on the backend.
    pub published_local_number: Option<u64>,
    /// The remote document that names it (or the claim).
    pub remote_number: Option<u64>,
    /// The newest plan that is not on the backend yet.
    pub target_local_number: Option<u64>,
    /// Files of that plan that are not on the backend.
    pub pending_files: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Those bytes of them that it is known to lack: before the first look at it, files that came after the first plan.
    pub lacking_bytes: u64,
    /// Those of them that wait for a redrive, or for a person.
    pub parked_files: u64,
    /// How long the longest of them has been waiting, in seconds, counted from the open at the earliest.
    pub oldest_pending_secs: Option<u64>,
    /// Files put since the start.
    pub files_put: u64,
    /// Their bytes.
    pub bytes_put: u64,
    /// Failed plans in a row.
    pub failures: u32,
    /// Why the last attempt failed; none after a success.
    pub last_error: Option<Error>,
    /// Whether it was claimed with nothing there of what an earlier open published.
    pub found_empty: bool,
    /// Set once another writer, or another database, owns the backend: nothing more is published from here.
    pub refused: Option<Error>,
    /// Objects that sweeps have removed since the start: nothing named them.
    pub swept_objects: u64,
    /// Old remote documents that sweeps have removed since the start.
    pub pruned_documents: u64,
}
