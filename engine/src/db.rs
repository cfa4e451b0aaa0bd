//! The handle of an open database: collections by name, flush, figures, close.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::backends::Backends;
use crate::cold;
use crate::collection::{self, Batch, Collection, Receipt};
use crate::compact::{self, Spared, policy};
use crate::config::Settings;
use crate::ddl;
use crate::driver::{Driver, compactor::Compactor, encoder::Encoder};
use crate::engine::{Engine, Place};
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::flush;
use crate::handle::Handle;
use crate::kept;
use crate::limits::Limits;
use crate::log::from_wal;
use crate::lsn::Lsn;
use crate::manifest::{CollectionMeta, Reason};
use crate::metrics::{self, MetricFamily};
use crate::named_snapshots::{self, NamedSnapshot};
use crate::recovery::{self, RecoveryReport};
use crate::schema::{Schema, check_name};
use crate::snapshot::Snapshot;
use crate::stats::{Stats, stats};
use crate::upload::Uploads;

/// An open database. Cheap to clone; the last clone dropped ends it (rows acknowledged are on disk; nothing is
/// flushed and nobody waits). Safe to drop anywhere, also inside an async runtime.
#[derive(Clone, Debug)]
pub struct Db {
    handle: Arc<Handle>,
}

impl Db {
    pub(crate) fn start(place: Place, settings: Settings, create: bool, read_only: bool) -> Result<Self> {
        settings.check()?;
        if read_only {
            let limits = Limits::new(&settings, &place.memory);
            let (engine, recovery) = recovery::open_read_only(place, limits)?;
            Self::start_encoder(&engine);
            return Ok(Self::over(engine, recovery, Arc::new(Uploads::none())));
        }
        let (engine, recovery, backends) = recovery::open(place, &settings, create)?;
        let uploads = Arc::new(Uploads::start(backends, &settings, &engine)?);
        let driver = Box::new(Driver::new(Arc::downgrade(&engine), Arc::clone(&uploads)));
        let ticker = engine.place.spawn.ticker("akidb-driver", driver, Arc::clone(&engine.place.clock));
        let ticker = ticker
            .map_err(|cause| Error::io("AKI-0228", &engine.place.dir, "could not start a thread", &cause))?;
        engine.place.memory.set_driver(Arc::downgrade(&ticker));
        // Set once: nobody else has seen this engine.
        let _ = engine.driver.set(ticker);
        if settings.engine.compaction {
            Self::start_compactor(&engine)?;
        }
        Self::start_encoder(&engine);
        Ok(Self::over(engine, recovery, uploads))
    }

    fn start_compactor(engine: &Arc<Engine>) -> Result<()> {
        let compactor = Box::new(Compactor::new(Arc::downgrade(engine)));
        let ticker = engine.place.spawn.ticker("akidb-compactor", compactor, Arc::clone(&engine.place.clock));
        let ticker = ticker
            .map_err(|cause| Error::io("AKI-0228", &engine.place.dir, "could not start a thread", &cause))?;
        let _ = engine.compactor.set(ticker);
        Ok(())
    }

    fn start_encoder(engine: &Arc<Engine>) {
        let Some(encoder) = Encoder::after_replay(engine) else { return };
        let clock = Arc::clone(&engine.place.clock);
        match engine.place.spawn.ticker("akidb-encoder", Box::new(encoder), clock) {
            Ok(ticker) => {
                let _ = engine.encoder.set(ticker);
            }
            Err(error) => tracing::warn!(%error, "no thread: replayed rows are searched one by one"),
        }
    }

    pub(crate) fn start_cold(place: Place, settings: &Settings) -> Result<Self> {
        settings.check()?;
        let (engine, recovery) = cold::open(place, settings)?;
        Ok(Self::over(engine, recovery, Arc::new(Uploads::none())))
    }

    fn over(engine: Arc<Engine>, recovery: RecoveryReport, uploads: Arc<Uploads>) -> Self {
        Self { handle: Arc::new(Handle { engine, recovery, uploads }) }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.handle.engine
    }

    /// What the open found in log and directory.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.handle.recovery
    }

    /// Names of the collections, sorted.
    ///
    /// # Errors
    /// `Closed`.
    pub fn collections(&self) -> Result<Vec<String>> {
        let view = self.engine().view()?;
        let mut names: Vec<String> =
            view.content().collections.values().map(|c| c.name.to_string()).collect();
        names.sort();
        Ok(names)
    }

    /// The collection with this name.
    ///
    /// # Errors
    /// `NotFound`, naming the ones there are.
    pub fn collection(&self, name: &str) -> Result<Collection> {
        let view = self.engine().view()?;
        let state = collection::by_name(view.content(), name)?;
        Ok(Collection::new(Arc::clone(&self.handle), state.id))
    }

    /// Writes everything in the batch as one, whatever its collections: all of it is visible together or nothing is,
    /// after a crash too. Blocks as [`Collection::upsert`] does; returns the last LSN, of a batch that was written before
    /// under its [`Batch::idempotency_key`] the one of then.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; the message names the write. `NotFound` for an unknown collection; `Conflict` if a
    /// row is not as the batch expects; `Invalid` for an empty batch, one over 64 MiB, or one that writes a row twice
    /// and demands something of it, or one whose key is empty or over 128 bytes; `Conflict` if another batch was written
    /// under its key. In all of these nothing was written by this call.
    pub fn write(&self, batch: &Batch) -> Result<Lsn> {
        collection::submit(self.engine(), batch, true)?.acknowledged()
    }

    /// As [`Db::write`], awaited. Cancel safety: dropped before the first poll, nothing happens; dropped later, the batch may be
    /// written, whole, and nobody is told.
    ///
    /// # Errors
    /// As [`Db::write`]; `Full` when 4,096 async calls wait for a thread already.
    pub async fn write_async(&self, batch: Batch) -> Result<Lsn> {
        let engine = Arc::clone(self.engine());
        let rows = collection::rows_of(&engine, &batch);
        let bytes = rows.iter().map(|(_, bytes)| bytes).sum();
        engine.await_turn(rows.into_iter()).await;
        engine.await_queue(bytes, engine.patience_ends()).await?;
        let receipt = self.engine().workers.run(move || collection::submit(&engine, &batch, false)).await??;
        receipt.acknowledged_async().await
    }

    /// As [`Db::write`], without waiting for the disk: the receipt says when the batch is durable.
    ///
    /// # Errors
    /// As [`Db::write`], but for `Poisoned`, which the receipt tells.
    pub fn submit(&self, batch: &Batch) -> Result<Receipt> {
        collection::submit(self.engine(), batch, true)
    }

    /// Creates a collection, durable on return. One that exists with the same schema, or had it before fields were added,
    /// is returned. Waits for no flush; for another call that makes or changes a collection, until what that made is shown.
    ///
    /// # Errors
    /// `Invalid` for a bad name or schema; `Conflict` if the name is taken with another schema (case does not tell
    /// names apart).
    pub fn create_collection(&self, name: &str, schema: Schema) -> Result<Collection> {
        check_name("collection", name)?;
        schema.check()?;
        let engine = self.engine();
        let writer = engine.writer()?;
        let _altering = writer.altering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = writer.committer.newest().manifest.collection(name) {
            if existing.name == name && has_had(existing, &schema) {
                return Ok(Collection::new(Arc::clone(&self.handle), existing.id));
            }
            let message = format!("collection \"{}\" exists with another schema or case", existing.name);
            return Err(Error::new(ErrorKind::Conflict, "AKI-0211", message));
        }
        let mut created = None;
        writer.committer.commit(Reason::Ddl, |manifest| {
            let id = manifest.add_collection(name, schema.clone(), engine.place.rng.u64())?;
            let entry = manifest.collection_by_id(id).expect("just added");
            let dir = engine.place.collection_dir(&entry.dir);
            engine.dirs.make(&engine.place, &dir)?;
            created = Some(recovery::empty_collection(
                entry,
                dir,
                schema.clone(),
                Vec::new(),
                &engine.place.memory,
            ));
            Ok(())
        })?;
        let created = created.expect("the edit ran");
        let id = created.id;
        ddl::publish(writer, created);
        self.handle.uploads.offer(engine);
        Ok(Collection::new(Arc::clone(&self.handle), id))
    }

    /// Gives a collection another name, durable on return. Handles of it stay good; its directory keeps its name.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a bad name; `Conflict` if another collection has it (case does not tell names apart).
    pub fn rename_collection(&self, name: &str, new_name: &str) -> Result<()> {
        let id = self.collection(name)?.id();
        ddl::alter(self.engine(), id, |manifest| manifest.rename_collection(id, new_name))?;
        self.handle.uploads.offer(self.engine());
        Ok(())
    }

    /// Drops a collection and everything in it, durable on return. Handles answer `NotFound` from then on; searches
    /// that run finish. Files go when no kept manifest names them any more.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn drop_collection(&self, name: &str) -> Result<()> {
        let id = self.collection(name)?.id();
        let writer = self.engine().writer()?;
        let altering = writer.altering.lock().unwrap_or_else(PoisonError::into_inner);
        flush::drop_collection(writer, id, || {
            let gone = writer.sequencer.applier().change(|published, apply| {
                let mut next = published.current().content().clone();
                let gone = next.collections.remove(&id);
                if let Some(gone) = &gone {
                    // No flush frees them: they are there for those who still read them.
                    gone.memtables().for_each(|memtable| memtable.note_flushed());
                }
                published.publish(next, apply);
                gone
            });
            // Segments that close take their pages out of the cache: work for no lock.
            drop(gone);
        })?;
        drop(altering);
        self.engine().stalls.notify();
        self.handle.uploads.offer(self.engine());
        Ok(())
    }

    /// Writes everything that is visible to segments and blocks until they and their manifest are on disk. Never
    /// needed for safety: rows are durable when their write returns. Lets other readers see them, and makes the
    /// next open fast.
    ///
    /// # Errors
    /// What kept a segment from disk; nothing acknowledged is lost.
    pub fn flush(&self) -> Result<()> {
        flush::flush_all(self.engine())?;
        self.engine().wake_compactor();
        self.handle.uploads.offer(self.engine());
        Ok(())
    }

    /// Merges segments until none are left that one merge can hold together, and drops what is dead in them; blocks
    /// meanwhile. Never needed: the database merges by itself, a little later. Answers how many merges it made.
    ///
    /// # Errors
    /// `Corrupt` for a damaged segment, with file and offset; what kept a segment from disk; `Full` where there is no memory
    /// for a merge within `engine.write_stall_timeout_ms`. Nothing is lost.
    pub fn compact(&self) -> Result<u64> {
        let engine = self.engine();
        engine.writer()?;
        let states: Vec<(u32, usize)> =
            engine.current().content().collections.values().map(|c| (c.id, c.segments.len())).collect();
        let (mut merges, patience) = (0, engine.limits.write_stall_timeout);
        for (id, segments) in states {
            // As many as there are segments now: rows that die meanwhile are for another time.
            for _ in 0..segments {
                let mut looks = Spared { reads_indexes: true, ..Spared::default() };
                if !compact::compact(engine, id, policy::in_a_hurry, patience, &mut looks)? {
                    break;
                }
                merges += 1;
            }
        }
        self.handle.uploads.offer(engine);
        Ok(merges)
    }

    /// The database at this moment, to read for as long as it is held; `holder` says in [`Stats`] whose it is. Blocks
    /// nobody.
    ///
    /// # Errors
    /// `Invalid` for a holder of no or more than 128 bytes; `Full` when 1,024 are held; `Closed`.
    pub fn snapshot(&self, holder: &str) -> Result<Snapshot> {
        Snapshot::take(&self.handle, holder)
    }

    /// Flushes everything that is visible, at one LSN, and keeps that moment under `name` until
    /// [`Db::remove_snapshot`], whatever is written, merged or dropped meanwhile, after a reopen too. Durable on return: a
    /// crash before leaves either no snapshot or a whole one. Costs disk for the files that the database no longer needs.
    /// Answers the LSN. A collection that is created or dropped while this runs may be in it or not. Backends hold the
    /// newest state only, so a restore has no snapshots.
    ///
    /// # Errors
    /// `Invalid` unless the name is 1 to 128 letters, digits, dots, dashes and underscores; `Conflict` if there is one of
    /// that name (case does not tell names apart); `Full` when 256 are kept; `Corrupt` for a collection whose writes are
    /// stopped; else as [`Db::flush`].
    pub fn create_snapshot(&self, name: &str) -> Result<Lsn> {
        let lsn = named_snapshots::create(self.engine(), name)?;
        self.engine().wake_compactor();
        self.handle.uploads.offer(self.engine());
        Ok(lsn)
    }

    /// The named snapshots, oldest first.
    ///
    /// # Errors
    /// `Unavailable`; `Invalid` of a database that is read on a backend; `Closed`.
    pub fn list_snapshots(&self) -> Result<Vec<NamedSnapshot>> {
        named_snapshots::list(self.engine())
    }

    /// Lets a named snapshot go, durable on return. What only it kept is removed within seconds, unless its manifest is
    /// young enough to be kept anyway (`engine.manifest_keep`); who reads it goes on.
    ///
    /// # Errors
    /// `NotFound`, naming the ones there are.
    pub fn remove_snapshot(&self, name: &str) -> Result<()> {
        named_snapshots::remove(self.engine(), name)?;
        self.handle.uploads.offer(self.engine());
        self.engine().wake_driver();
        Ok(())
    }

    /// Opens a named snapshot for reading. Its files are mapped for as long as the handle is held, with the age limit of
    /// every [`Snapshot`]; open it again for longer.
    ///
    /// # Errors
    /// `NotFound`, naming the ones there are; `Corrupt` for a damaged file of it; `Invalid` of a database that is read on a
    /// backend; `Full` when 1,024 snapshots are held; `Closed`.
    pub fn at_snapshot(&self, name: &str) -> Result<Snapshot> {
        Snapshot::of_kept(&self.handle, name, kept::named(self.engine(), name)?)
    }

    /// Opens the newest kept manifest that shows nothing above `lsn`: a named snapshot, or a manifest that is not old
    /// enough to go (`engine.manifest_keep`, `engine.manifest_keep_hours`). [`Snapshot::kept`] says which; rows that were
    /// flushed later than it are not in it. Changes of collections have no LSN: it has those that were made up to its
    /// commit, and at the LSN of a named snapshot that snapshot is taken.
    ///
    /// # Errors
    /// `NotFound` naming the oldest and the newest LSN that are kept; else as [`Db::at_snapshot`].
    pub fn as_of(&self, lsn: Lsn) -> Result<Snapshot> {
        Snapshot::of_kept(&self.handle, &format!("as of {lsn}"), kept::as_of(self.engine(), lsn)?)
    }

    /// Blocks until every backend names everything flushed before the call.
    ///
    /// # Errors
    /// `Unavailable` after `timeout`, with each backend's last failure; `Fenced`.
    pub fn wait_uploaded(&self, timeout: Duration) -> Result<()> {
        self.handle.uploads.wait(self.engine(), timeout)
    }

    /// The operators' room: breakers and dead letters of the backends.
    #[must_use]
    pub fn backends(&self) -> Backends<'_> {
        Backends::new(&self.handle.uploads)
    }

    /// Figures of the database: rows, bytes, watermarks, what holds writers, backends.
    ///
    /// # Errors
    /// `Closed`.
    pub fn stats(&self) -> Result<Stats> {
        stats(self.engine(), &self.handle.uploads, self.recovery().manifest)
    }

    /// The same and more as metrics, by their stable names: what `akidb serve` prints for Prometheus. With the feature
    /// `metrics` the database also gives them to the `metrics` facade, once a second.
    ///
    /// # Errors
    /// `Closed`.
    pub fn metrics(&self) -> Result<Vec<MetricFamily>> {
        metrics::families(self.engine(), &self.handle.uploads)
    }

    /// Ends the database: waits for a running flush, seals the log, stops the threads. Does not flush: what the
    /// log holds is replayed by the next open. Calls on any handle answer `Closed` from then on, and the directory may be
    /// opened again, after an error too, whoever still holds one.
    ///
    /// # Errors
    /// `Poisoned` when the log's last sync failed: what was acknowledged is durable all the same.
    pub fn close(self) -> Result<()> {
        let engine = self.engine();
        if !engine.mark_closed() {
            return Ok(());
        }
        if let Some(driver) = engine.driver.get() {
            driver.stop();
        }
        if let Some(compactor) = engine.compactor.get() {
            // A merge under way is given up.
            compactor.stop();
        }
        if let Some(encoder) = engine.encoder.get() {
            encoder.stop();
        }
        engine.stalls.turns.stop();
        engine.snapshots.release_all();
        self.handle.uploads.stop(engine);
        let Some(writer) = engine.writer_if_any() else { return Ok(()) };
        // A flush or a change of collections that another thread is in ends first; no other begins.
        let _flushing = writer.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = writer.sequencer.log().inner().close();
        if sealed.is_ok()
            && writer.committer.newest().manifest.shows_unsynced()
            && let Err(error) = writer.committer.commit(Reason::Close, |manifest| {
                manifest.note_shows_unsynced(false);
                Ok(())
            })
        {
            tracing::warn!(%error, "the next open will say that this writer was not closed");
        }
        writer.committer.end(Error::new(ErrorKind::Closed, "AKI-0206", "the database is closed"));
        if sealed.is_ok() {
            writer.sequencer.drain();
        }
        // Of a poisoned log as well: its threads have ended, nothing is committed, and reopening is the repair.
        writer.sequencer.log().release_lock();
        sealed.map_err(|error| from_wal(&error).fate_is(Fate::Durable))
    }

    /// The last LSN every read sees.
    ///
    /// # Errors
    /// `Closed`.
    pub fn visible_lsn(&self) -> Result<Lsn> {
        Ok(self.engine().view()?.lsn())
    }
}

/// Whether a collection has this schema, or had it before fields were added; which version it is does not matter.
fn has_had(collection: &CollectionMeta, schema: &Schema) -> bool {
    collection.schemas.iter().any(|own| Schema { version: own.version, ..schema.clone() } == *own)
}
