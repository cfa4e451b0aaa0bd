//! A mark that only rises: an LSN that many threads read and a few raise.

use akidb_host::seeded_bug;

use crate::lsn::Lsn;
use crate::sync::{AtomicU64, Ordering};

/// A monotone LSN.
#[derive(Debug)]
pub(crate) struct Watermark(AtomicU64);

impl Watermark {
    pub(crate) fn new(at: Lsn) -> Self {
        Self(AtomicU64::new(at.as_u64()))
    }

    /// Acquire: whoever reads the mark sees everything done before it was raised to it.
    pub(crate) fn get(&self) -> Lsn {
        Lsn::from_u64(self.0.load(Ordering::Acquire)).expect("only LSNs are stored")
    }

    /// Raises the mark to `lsn`; a lower one changes nothing.
    pub(crate) fn raise(&self, lsn: Lsn) {
        if seeded_bug("leads_overlap") {
            return self.0.store(lsn.as_u64(), Ordering::Release);
        }
        self.0.fetch_max(lsn.as_u64(), Ordering::AcqRel);
    }
}
