//! What every handle of an open database shares, and what those of one snapshot share; the last one dropped ends it.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::error::Result;
use crate::recovery::RecoveryReport;
use crate::upload::Uploads;
use crate::version::View;

/// Shared by `Db` and `Collection` handles.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) engine: Arc<Engine>,
    pub(crate) recovery: RecoveryReport,
    pub(crate) uploads: Arc<Uploads>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // No waiting here, whatever thread this is: the others see the mark and end by themselves.
        self.engine.mark_closed();
        self.engine.wake_driver();
        self.engine.wake_compactor();
    }
}

/// The right to read one moment of the database; letting it go frees what only it held.
#[derive(Debug)]
pub(crate) struct Moment {
    engine: Arc<Engine>,
    number: u64,
}

impl Drop for Moment {
    fn drop(&mut self) {
        self.engine.snapshots.release(self.number);
    }
}

impl Moment {
    pub(crate) fn new(engine: Arc<Engine>, number: u64) -> Self {
        Self { engine, number }
    }

    /// What is read.
    ///
    /// # Errors
    /// `Closed`; `NotFound` once it was held for too long.
    pub(crate) fn view(&self) -> Result<View<Catalog>> {
        self.engine.view()?;
        self.engine.snapshots.view(self.number)
    }
}
