//! What only the log holds, and so how far its floor may rise.

use std::collections::BTreeMap;
use std::sync::Arc;

use akidb_host::seeded_bug;

use crate::catalog::CollectionState;
use crate::engine::Writer;
use crate::lsn::Lsn;
use crate::manifest::Manifest;
use crate::memtable::Memtable;

/// What only the log holds once a memtable is flushed: the oldest LSN of each collection that has one. What is
/// appended meanwhile is newer than `settled`, so the answer stays right however long the commit takes.
pub(super) struct Unflushed {
    /// Everything up to here is shown and synced: a manifest may say so.
    settled: Lsn,
    oldest: BTreeMap<u32, Lsn>,
}

impl Unflushed {
    pub(super) fn without(writer: &Writer, collection: u32, flushed: &Arc<Memtable>) -> Self {
        Self::of(writer, |state, memtable| state.id != collection || !Arc::ptr_eq(memtable, flushed))
    }

    /// What the log alone holds, of the memtables that `counts` takes.
    pub(super) fn of(writer: &Writer, counts: impl Fn(&CollectionState, &Arc<Memtable>) -> bool) -> Self {
        writer.sequencer.applier().change(|published, _apply| {
            let current = published.current();
            let settled = published.visible().min(writer.sequencer.log().synced());
            let oldest = current.content().collections.values().filter_map(|state| {
                let counted = state.memtables().filter(|memtable| counts(state, memtable));
                let oldest = counted.filter_map(|memtable| memtable.first_op()).min()?;
                Some((state.id, oldest.min(settled.next())))
            });
            Self { settled, oldest: oldest.collect() }
        })
    }

    /// Raises the floor as far as nothing but the log holds anything, and keeps the keys of the batches below it: the
    /// log may go. The one way to a higher floor.
    pub(super) fn raise_floor(&self, writer: &Writer, manifest: &mut Manifest) {
        let held = |id| self.oldest.get(&id).copied().filter(|_| !seeded_bug("floor_of_one_collection"));
        manifest.settle_floor(self.settled, held);
        if !seeded_bug("batch_keys_left_to_the_log") {
            let now_micros = manifest.created_at.as_microsecond();
            manifest.idempotency_keys =
                writer.sequencer.applier().target().keys.below(manifest.floor, now_micros);
        }
        assert_manifest_synced(writer, manifest);
    }
}

/// Nothing above `synced` ever enters a segment, a deletion vector, a manifest or, by way of a manifest, a backend.
pub(super) fn assert_synced(writer: &Writer, last: Lsn) {
    let synced = writer.sequencer.log().synced();
    assert!(last <= synced, "{last} would leave the log before it is synced; {synced} is");
}

/// [`assert_synced`] of everything a manifest says of records.
fn assert_manifest_synced(writer: &Writer, manifest: &Manifest) {
    assert_synced(writer, manifest.floor.pred());
    manifest.collections.iter().for_each(|collection| assert_synced(writer, collection.flushed_lsn));
}
