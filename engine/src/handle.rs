//! What every handle of an open database shares; the last one dropped ends the database.

use std::sync::Arc;

use crate::engine::Engine;
use crate::recovery::RecoveryReport;
use crate::upload::Uploads;

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
