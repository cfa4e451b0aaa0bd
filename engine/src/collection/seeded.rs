//! For the seeded bug `ack_before_append`: single rows are acknowledged first and appended with a
//! later write. The demo built so must report lost rows.

use std::sync::{Mutex, PoisonError};

use super::{Collection, NewRow, Receipt};
use crate::error::Result;

/// Rows acknowledged but not appended yet.
const HELD_ROWS: usize = 8;

static HELD: Mutex<Vec<NewRow>> = Mutex::new(Vec::new());

impl Collection {
    /// A receipt for a row that is in nobody's log; now and then the rows before it are written.
    pub(super) fn acknowledge_first(&self, row: &NewRow) -> Result<Receipt> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(row.clone());
        if held.len() >= HELD_ROWS {
            let late: Vec<NewRow> = held.drain(..HELD_ROWS - 1).collect();
            self.write(true, late.len(), |state| super::encode::rows(state, &late, self.now_micros()))?
                .wait()?;
        }
        let visible = self.view()?.0.lsn();
        let engine = std::sync::Arc::clone(&self.handle.engine);
        Ok(Receipt {
            engine,
            ops: std::sync::Arc::default(),
            first: visible,
            last: visible,
            is_repeat: false,
            appended_micros: 0,
            span: tracing::Span::none(),
        })
    }
}
