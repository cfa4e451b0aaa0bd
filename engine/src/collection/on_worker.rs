//! The async twins of calls that may read files before they answer or write: that part runs on a thread of the database.

use serde_json::Value;

use super::encode::{self, RowRef};
use super::patch::{merge, replace};
use super::{Collection, Receipt, StoredRow, as_payload};
use crate::error::Result;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::ops::Expect;
use crate::row::{self, Payload};

impl Collection {
    /// As [`Collection::get`], awaited.
    ///
    /// # Errors
    /// As [`Collection::get`]; `Full` when 4,096 async calls wait for a thread already.
    pub async fn get_async(&self, id: impl Into<Id>) -> Result<Option<StoredRow>> {
        Ok(self.get_many_async(vec![id.into()]).await?.pop().flatten())
    }

    /// As [`Collection::get_many`], awaited.
    ///
    /// # Errors
    /// As [`Collection::get_async`].
    pub async fn get_many_async(&self, ids: Vec<Id>) -> Result<Vec<Option<StoredRow>>> {
        let rows = self.clone();
        self.handle.engine.workers.run(move || rows.get_many(&ids)).await?
    }

    /// As [`Collection::upsert_if`], awaited; cancel safety as [`Collection::upsert_async`].
    ///
    /// # Errors
    /// As [`Collection::upsert_if`]; `Full` when 4,096 async calls wait for a thread already.
    pub async fn upsert_if_async(
        &self,
        id: impl Into<Id>,
        vector: Vec<f32>,
        payload: impl Into<Value>,
        expect: Expect,
    ) -> Result<Lsn> {
        let (id, payload) = (id.into(), as_payload(payload.into())?);
        let bytes = RowRef::of(&id, &vector, &payload).bytes();
        self.submitted(bytes, move |rows| {
            let row = RowRef::of(&id, &vector, &payload);
            rows.write_for_others(1, |state| encode::one_row(state, row, Some(expect)))
        })
        .await
    }

    /// As [`Collection::delete_if`], awaited; cancel safety as [`Collection::upsert_async`].
    ///
    /// # Errors
    /// As [`Collection::delete_if`]; `Full` when 4,096 async calls wait for a thread already.
    pub async fn delete_if_async(&self, id: impl Into<Id>, version: Lsn) -> Result<Lsn> {
        let id = id.into();
        let expect = Some(Expect::Version(version));
        self.submitted(0, move |rows| rows.write_for_others(1, |state| encode::delete(state, id, expect)))
            .await
    }

    /// As [`Collection::update_payload`], awaited; cancel safety as [`Collection::upsert_async`].
    ///
    /// # Errors
    /// As [`Collection::update_payload`]; `Full` when 4,096 async calls wait for a thread already.
    pub async fn update_payload_async(&self, id: impl Into<Id>, patch: impl Into<Value>) -> Result<Lsn> {
        let (id, patch) = (id.into(), as_payload(patch.into())?);
        let bytes = self.bytes_with(&patch);
        let change =
            move |rows: &Self| rows.submit_change(&id, false, |payload| merge(payload, patch.clone()));
        self.submitted(bytes, change).await
    }

    /// As [`Collection::replace_payload`], awaited; cancel safety as [`Collection::upsert_async`].
    ///
    /// # Errors
    /// As [`Collection::update_payload_async`].
    pub async fn replace_payload_async(&self, id: impl Into<Id>, payload: impl Into<Value>) -> Result<Lsn> {
        let (id, new) = (id.into(), as_payload(payload.into())?);
        let bytes = self.bytes_with(&new);
        let change = move |rows: &Self| rows.submit_change(&id, false, |payload| replace(payload, &new));
        self.submitted(bytes, change).await
    }

    /// Bytes of a row here with this payload, about; less once the collection is gone, which the write will say.
    fn bytes_with(&self, payload: &Payload) -> usize {
        self.view().map_or(0, |(_, state)| 4 * usize::from(state.schema.dim)) + row::text_bytes(payload)
    }

    /// Submits on a worker, which is free for the next as soon as the write has its place in the log: its sync is waited for on no
    /// thread. (One that finds the row not as demanded waits there until what it found is shown.) Before that a row of so many
    /// `bytes` waits for its turn while flushes are behind.
    async fn submitted(
        &self,
        bytes: usize,
        submit: impl FnOnce(&Self) -> Result<Receipt> + Send + 'static,
    ) -> Result<Lsn> {
        self.handle.engine.await_turn(std::iter::once((self.id, bytes as u64))).await;
        let rows = self.clone();
        let receipt = self.handle.engine.workers.run(move || submit(&rows)).await??;
        receipt.acknowledged_async().await
    }
}
