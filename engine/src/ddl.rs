//! Collections that begin, and changes of those that stay: names and fields. The manifest first, then the version.

use std::sync::{Arc, PoisonError};

use crate::catalog::CollectionState;
use crate::engine::{Engine, Writer};
use crate::error::Result;
use crate::manifest::{Manifest, Reason};

/// Makes `edit` of collection `id` durable in the next manifest, then shows it to every later call. Waits for a flush
/// under way, so that each works on one schema from its first file to what it publishes.
///
/// # Errors
/// What `edit` answered: nothing was changed. Else as every commit of a manifest.
pub(crate) fn alter(engine: &Engine, id: u32, edit: impl FnOnce(&mut Manifest) -> Result<()>) -> Result<()> {
    let writer = engine.writer()?;
    let _flushing = writer.flushing.lock().unwrap_or_else(PoisonError::into_inner);
    let _altering = writer.altering.lock().unwrap_or_else(PoisonError::into_inner);
    let committed = writer.committer.commit(Reason::Ddl, edit)?;
    let Some(entry) = committed.manifest.collection_by_id(id) else { return Ok(()) };
    writer.sequencer.applier().change(|published, apply| {
        let current = published.current();
        // Dropped meanwhile: then there is nothing to show.
        let Some(state) = current.content().collections.get(&id) else { return };
        let next = CollectionState {
            name: entry.name.as_str().into(),
            schema: Arc::new(entry.schema().clone()),
            ..CollectionState::clone(state)
        };
        published.publish(current.content().with(next), apply);
    });
    Ok(())
}

/// Shows a collection whose manifest is durable; under the lock of [`Writer::altering`], held since before that.
pub(crate) fn publish(writer: &Writer, created: CollectionState) {
    created.active.begin_codes(writer.coding(&created));
    writer.sequencer.applier().change(|published, apply| {
        let next = published.current().content().with(created);
        published.publish(next, apply);
    });
}
