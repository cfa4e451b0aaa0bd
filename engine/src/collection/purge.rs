//! Rows deleted by a filter.

use std::collections::BTreeSet;

use super::Collection;
use super::encode::{self, Write};
use super::write::{self, Differing};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::ops::Expect;
use crate::read;

/// Rows deleted with one frame: small beside the bound of a batch, large beside the cost of a sync.
const FRAME_ROWS: usize = 4_096;

impl Collection {
    /// Deletes the rows that match, and says how many it deleted. What matches is decided at the moment of the call; a
    /// row that another write replaced before its turn came is left alone, whether it would match now or not. Blocks
    /// until the deletes survive a power cut and every read sees them.
    ///
    /// Up to 4,096 rows go in one write: all of those are deleted together or none. More are deleted 4,096 at a time,
    /// in the order of their ids, and are **not** one: a reader, or a crash, may come between.
    ///
    /// # Errors
    /// `Invalid` for a filter that does not parse or names an unknown field; else as [`Collection::upsert`]: the message
    /// says how many rows were deleted before ([`Error::is_in_part`]), and calling it again goes on.
    pub fn delete_where(&self, filter: impl TryInto<Filter, Error = impl Into<Error>>) -> Result<u64> {
        let filter = filter.try_into().map_err(Into::into)?;
        self.check_writable()?;
        // As any write; a read would tell of the earlier one alone.
        let (view, state) = self.view()?;
        state.check_takes_writes()?;
        let (mut deleted, mut after) = (0, None);
        loop {
            let so_far = |error: Error| match deleted {
                0 => error,
                _ => error.about(&format!("after {deleted} rows were deleted")).in_part(),
            };
            let page = read::matching(&view, &state, &filter, after.as_ref(), FRAME_ROWS).map_err(so_far)?;
            let Some((last, _)) = page.last() else { return Ok(deleted) };
            after = Some(last.clone());
            deleted += self.delete_versions(&page).map_err(so_far)?;
        }
    }

    /// Deletes those of the rows that still have their version, as one write; answers how many.
    fn delete_versions(&self, rows: &[(Id, Lsn)]) -> Result<u64> {
        let mut rows: Vec<&(Id, Lsn)> = rows.iter().collect();
        loop {
            if rows.is_empty() {
                return Ok(0);
            }
            let (state, span) = self.begin(rows.len())?;
            let _entered = span.clone().entered();
            let writes = rows
                .iter()
                .enumerate()
                .map(|(n, (id, version))| (&*state, Write::Delete(id), Some(Expect::Version(*version)), n));
            let encoded = encode::writes(writes, None, self.now_micros())?;
            let differing = Differing::default();
            let states = std::slice::from_ref(&state);
            let receipt = write::append_unless(&self.handle.engine, states, &encoded, true, span, &differing);
            if let Err(error) = receipt {
                let replaced: BTreeSet<usize> = differing.take().into_iter().map(|(n, _)| n).collect();
                if replaced.is_empty() {
                    return Err(error);
                }
                // What was replaced once is out for good, so this ends.
                let mut n = 0..;
                rows.retain(|_| n.next().is_some_and(|n| !replaced.contains(&n)));
                continue;
            }
            receipt?.acknowledged()?;
            return Ok(rows.len() as u64);
        }
    }
}
