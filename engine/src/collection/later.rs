//! The async twin of writes and searches. It needs no runtime, and its futures never block the thread that polls them.

use serde_json::Value;
use tracing::Instrument;

use super::{Collection, Hit, NewRow, Receipt, Search, as_payload};
use crate::error::{Fate, Result};
use crate::id::Id;
use crate::log::from_wal;
use crate::lsn::Lsn;

impl Collection {
    /// As [`Collection::upsert`], awaited. Cancel safety: dropped before the first poll, nothing happens; dropped
    /// later, the write may happen and nobody is told. Either way no other write waits for it.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; `Full` when 4,096 async calls wait already.
    pub async fn upsert_async(
        &self,
        id: impl Into<Id>,
        vector: &[f32],
        payload: impl Into<Value>,
    ) -> Result<Lsn> {
        let row = NewRow { id: id.into(), vector: vector.to_vec(), payload: as_payload(payload.into())? };
        self.upsert_batch_async(vec![row]).await
    }

    /// As [`Collection::upsert_batch`], awaited; cancel safety as [`Collection::upsert_async`].
    ///
    /// # Errors
    /// As [`Collection::upsert_async`].
    pub async fn upsert_batch_async(&self, rows: Vec<NewRow>) -> Result<Lsn> {
        let collection = self.clone();
        self.handle.workers.run(move || collection.submit(&rows)).await??.synced().await
    }

    /// As [`Collection::delete`], awaited; cancel safety as [`Collection::upsert_async`].
    ///
    /// # Errors
    /// As [`Collection::upsert_async`].
    pub async fn delete_async(&self, id: impl Into<Id>) -> Result<bool> {
        let (collection, id) = (self.clone(), id.into());
        let receipt = self.handle.workers.run(move || collection.write(&[], &[id], true)).await??;
        receipt.synced().await?;
        Ok(receipt.existed())
    }
}

impl Receipt {
    /// As [`Receipt::wait`], awaited. Dropping the future cancels only the waiting.
    ///
    /// # Errors
    /// As [`Receipt::wait`].
    pub async fn synced(&self) -> Result<Lsn> {
        let Some(writer) = self.engine.writer_if_any() else { unreachable!("a receipt comes from a writer") };
        let span = tracing::debug_span!(parent: &self.span, "sync", lsn = %self.last);
        let synced = writer.sequencer.log().inner().synced(self.last).instrument(span);
        synced.await.map_err(|error| from_wal(&error).fate_is(Fate::Unknown))?;
        writer.sequencer.drain();
        self.check_applied()?;
        self.wake_if_due();
        Ok(self.last)
    }
}

impl Search<'_> {
    /// As [`Search::run`], awaited, on a thread of the database. Dropping the future gives the answer up.
    ///
    /// # Errors
    /// As [`Search::run`]; `Full` when 4,096 async calls wait already.
    pub async fn run_async(self) -> Result<Vec<Hit>> {
        let collection = self.collection.clone();
        let parts = self.into_parts()?;
        let workers = collection.handle.clone();
        workers.workers.run(move || parts.run(&collection)).await?
    }
}
