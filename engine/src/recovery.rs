//! From a directory to a running database: lock, newest manifest, log, segments, replay.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::FsKind;
use akidb_wal::{Log, Options, Recovered};

use crate::apply::Applier;
use crate::catalog::{Catalog, CollectionState, LiveSegment};
use crate::commit::Committer;
use crate::config::{Durability, Settings};
use crate::deletion_vector::{self, DeletionVector};
use crate::directory_lock::{self, Shared};
use crate::engine::{Engine, Place, Writer, deletion_vector_dir};
use crate::error::{Error, ErrorKind, Result, shell_word};
use crate::flush;
use crate::gc;
use crate::idempotency::RecentKeys;
use crate::limits::Limits;
use crate::log::{EngineLog, from_wal};
use crate::lsn::Lsn;
use crate::manifest::{
    CollectionMeta, Committed, Kept, Manifest, Reason, Stamp, Store, named_manifests_stay,
};
use crate::memory_budget::{Account, MemoryUse};
use crate::memtable::Memtable;
use crate::named_snapshots;
use crate::ops::Memory;
use crate::row;
use crate::schema::Schema;
use crate::segment::Segment;
use crate::unfinished;
use crate::upload::{OpenBackends, Uploads};
use crate::write::Sequencer;
use crate::write_stall::Stalls;

mod decode;
mod line;
mod replay;
mod report;

pub use report::{CutReport, OpenTimes, RecoveryReport, UnsyncedReport};

use decode::{Piece, Schemas};
use replay::{Relief, apply, replay};
use report::{Lap, note_cut, unsynced};

/// What to do where another process writes.
const LOCKED_HELP: &str = "stop that process first; what only reads (`read_only`; `akidb get`, `search`, `ls`, `stats`) works beside it";
/// What the tail of a segment takes in memory, as it is read and as its table: at most so many times its bytes, about.
const TABLE_BYTES_OF_TAIL: u64 = 8;
/// Log files above which what an open replayed is flushed, so that the next one is short.
const MAX_LOG_FILES: usize = 6;

/// A database that runs, what its open found, and the backends that nothing was started for yet.
type Opened = (Arc<Engine>, RecoveryReport, OpenBackends);

/// Opens a directory for writing, making it if it does not exist and `create` says so.
pub(crate) fn open(place: Place, settings: &Settings, create: bool) -> Result<Opened> {
    let limits = Limits::new(settings, &place.memory);
    let mut lap = Lap::new(&place.clock);
    if create {
        make_dirs(&place)?;
    }
    refuse_network_disk(&place)?;
    let lock = directory_lock::take(&*place.fs, &place.dir, LOCKED_HELP)?;
    let store = Store::new(Arc::clone(&place.fs), place.manifest_dir());
    let mut report = RecoveryReport::default();
    let newest = newest_or_first(&place, &store)?;
    report.manifest = newest.manifest.number;
    let was_unsynced = newest.manifest.shows_unsynced();
    let did_nothing = newest.manifest.reason == Reason::Open;

    // What can be refused is, before anything is written: a start that fails is tried again and again.
    let (catalog, schemas) = load_catalog(&place, &newest.manifest, &limits)?;
    let backends = Uploads::open(settings, &place)?;
    report.took.segments_ms = lap.ms();
    let log_files = log_files(&place);
    let (log, recovered) = open_log(&place, limits.log_config(), &newest.manifest, false)?;
    report.took.log_ms = lap.ms();
    let epoch = log.epoch();
    let writer_id = place.rng.u32();
    let committer =
        Committer::new(store, Arc::clone(&place.clock), place.rng.clone(), newest, epoch, writer_id);
    // The manifest that records this epoch is durable before anything is appended under it.
    let opened = committer.commit(Reason::Open, |manifest| {
        manifest.note_shows_unsynced(limits.durability == Durability::Memory);
        Ok(())
    })?;
    let opened = &opened.manifest;
    report.took.manifest_ms = lap.ms();
    report.epoch = epoch;
    let text = format!(
        "pid {}, epoch {epoch}, since {}",
        std::process::id(),
        row::timestamp_text(place.clock.unix_micros())
    );
    // A message for people; nothing depends on it.
    let _ = lock.write_text(&text);

    let removal = remove_old(&place, committer.store(), opened, &limits, did_nothing);
    report.took.removal_ms = lap.ms();
    let applier = Applier::new(memory(&limits, opened), catalog, opened.floor.pred());
    let log = EngineLog::new(log, limits.durability, lock);
    // The log need not hold them any more, and knows no better than what it holds.
    log.note_synced(opened.floor.pred());
    let sequencer = Arc::new(Sequencer::new(log, applier));
    let writer = Writer::new(Arc::clone(&sequencer), committer, epoch, writer_id);
    let disk_bytes = place.fs.statfs(&place.dir).map_or(u64::MAX, |stats| stats.total_bytes);
    let min_free = settings.engine.min_free_disk(disk_bytes);
    let engine = Arc::new(Engine::writing(place, limits, min_free, writer));
    note_removal(&engine, removal);

    note_cut(&recovered, &mut report);
    if was_unsynced {
        report.unsynced = Some(unsynced(&engine.place, &recovered, opened.floor));
    }
    let log_end = recovered.last;
    let (to, mut relief) = (Arc::clone(&engine), Relief::new(Arc::clone(&engine)));
    let applying = Box::new(move |piece: &Piece| apply(piece, to.applier(), || relief.give()));
    replay(&recovered.records, opened.floor, &schemas, &mut report, applying, &engine.place)?;
    drop(recovered);
    show_all(sequencer.applier(), log_end);
    engine.writer()?.begin_codes();
    engine.measure_disk();
    if log_files > MAX_LOG_FILES {
        // The driver flushes them behind the open; the log holds everything until then.
        let writer = engine.writer()?;
        for entry in &opened.collections {
            flush::seal(writer, entry.id);
        }
    }
    drain_after_syncs(&sequencer, &engine.stalls);
    report.took.replay_ms = lap.ms();
    Ok((engine, report, backends))
}

fn make_dirs(place: &Place) -> Result<()> {
    for dir in [place.wal_dir(), place.manifest_dir(), place.dir.join("collections")] {
        let made = place.fs.create_dir_all(&dir);
        made.map_err(|cause| Error::io("AKI-0220", &dir, "could not create", &cause))?;
    }
    settle_dirs(place)
}

/// Directories that are there may have been made by a process that died before it synced their names: what is written into
/// them must not outlive them. Of a new database that is its own directory, too.
fn settle_dirs(place: &Place) -> Result<()> {
    let fs = &*place.fs;
    let failed = |dir: &Path, cause| Error::io("AKI-0220", dir, "could not sync", &cause);
    fs.sync_dir(&place.dir).map_err(|cause| failed(&place.dir, cause))?;
    let is_new = fs.list(&place.manifest_dir()).is_ok_and(|names| names.is_empty());
    let above = place.dir.parent().filter(|above| is_new && !above.as_os_str().is_empty());
    match above.map_or(Ok(()), |above| fs.sync_dir(above)) {
        // It is somebody else's, who let us have ours.
        Err(cause) if cause.kind() != std::io::ErrorKind::PermissionDenied => Err(failed(&place.dir, cause)),
        _ => Ok(()),
    }
}

/// Removes manifests beyond the number that is kept. The files that they named, and what a crash left of files that no manifest
/// names, are removed behind the open, by the driver: each takes a while. But where the writer before `did_nothing`, as one
/// whose open fails each time, no driver may come, and it is done here: `None` if it is not. An older manifest that
/// cannot be read costs space, not rows: it must not keep the database shut.
fn remove_old(
    place: &Place,
    store: &Store,
    opened: &Manifest,
    limits: &Limits,
    did_nothing: bool,
) -> Result<Option<gc::Swept>> {
    let swept = expire_manifests(place, store, opened, limits.manifests).and_then(|stays| {
        let swept = did_nothing.then(|| gc::remove_unnamed(place, store, opened, &|_| false)).transpose()?;
        stays.map_or(Ok(swept), Err)
    });
    swept.inspect_err(|error| {
        tracing::warn!(%error, "files that no manifest names were not removed; it is tried again");
    })
}

/// What the removal of an open did; where it was left to the driver, that it is owed.
fn note_removal(engine: &Engine, removal: Result<Option<gc::Swept>>) {
    match removal.transpose() {
        Some(removal) => {
            engine.removals.count(removal.as_ref().map_or(0, |swept| swept.removed));
            engine.removals.note(removal.map(|swept| swept.held_up), engine.place.clock.now());
        }
        None => engine.removals.owe(),
    }
}

/// By their number alone: an open that fails behind its manifest leaves one each time, and no driver comes to remove them.
fn expire_manifests(place: &Place, store: &Store, opened: &Manifest, kept: Kept) -> Result<Option<Error>> {
    if store.numbers()?.len() <= kept.count {
        return Ok(None);
    }
    let kept = Kept { for_secs: u64::MAX, ..kept };
    let expired = store.expired(kept, place.clock.unix_micros(), &named_snapshots::kept(opened))?;
    let broken = named_manifests_stay(opened, &expired).err();
    assert!(broken.is_none(), "{broken:?}");
    store.remove(&expired)
}

/// Whoever finished a sync shows what it covered, with none of the log's locks held.
fn drain_after_syncs(sequencer: &Arc<Sequencer<EngineLog, Memory>>, stalls: &Arc<Stalls>) {
    let (drained, stalls) = (Arc::downgrade(sequencer), Arc::clone(stalls));
    sequencer.log().inner().on_synced(Arc::new(move |synced| {
        if let Some(sequencer) = drained.upgrade() {
            sequencer.log().note_synced(synced);
            sequencer.drain();
            stalls.notify_at_queue();
        }
    }));
}

/// Opens a directory for reading only: writes nothing, and keeps writers away while it reads the log. Beside a living writer
/// it shows what is flushed; after a crash it replays the log up to the last whole frame.
pub(crate) fn open_read_only(place: Place, limits: Limits) -> Result<(Arc<Engine>, RecoveryReport)> {
    place.memory.end_flushes();
    let mut lap = Lap::new(&place.clock);
    // The lock first: while it is held no writer can move on between the manifest and the log that are read.
    let lock = directory_lock::share(&*place.fs, &place.dir);
    let store = Store::new(Arc::clone(&place.fs), place.manifest_dir());
    let Some(Committed { manifest: newest, .. }) = store.newest()? else {
        return Err(unfinished::refuse(&*place.fs, &place.dir).err().unwrap_or_else(|| no_database(&place)));
    };
    let lock = lock?;
    let mut report =
        RecoveryReport { manifest: newest.number, epoch: newest.writer_epoch, ..Default::default() };
    let (catalog, schemas) = load_catalog(&place, &newest, &limits)?;
    report.took.segments_ms = lap.ms();
    let applier = Applier::new(memory(&limits, &newest), catalog, newest.floor.pred());
    let engine = Arc::new(Engine::read_only(place, limits, applier));
    let place = &engine.place;
    if !matches!(lock, Shared::BesideWriter) {
        let (log, recovered) = open_log(place, akidb_wal::Config::default(), &newest, true)?;
        report.took.log_ms = lap.ms();
        note_cut(&recovered, &mut report);
        if newest.shows_unsynced() {
            report.unsynced = Some(unsynced(place, &recovered, newest.floor));
        }
        if recovered.last > recovered.proven {
            report.unproven = Some([recovered.proven.to_string(), recovered.last.to_string()]);
        }
        let log_end = recovered.last;
        let to = Arc::clone(&engine);
        let applying = Box::new(move |piece: &Piece| apply(piece, to.applier(), || Ok(())));
        replay(&recovered.records, newest.floor, &schemas, &mut report, applying, place)?;
        drop(recovered);
        show_all(engine.applier(), log_end);
        drop(log);
        report.took.replay_ms = lap.ms();
    } else {
        report.beside_writer = true;
        let flushed = newest.collections.iter().map(|c| c.flushed_lsn).max();
        show_all(engine.applier(), flushed.unwrap_or(Lsn::ZERO));
    }
    drop(lock);
    engine.measure_disk();
    Ok((engine, report))
}

fn no_database(place: &Place) -> Error {
    Error::new(ErrorKind::NotFound, "AKI-0221", format!("{} holds no database", place.dir.display()))
        .help_is(format!("create one with `akidb init --db {}`", shell_word(&place.dir)))
}

fn refuse_network_disk(place: &Place) -> Result<()> {
    let stats = place.fs.statfs(&place.dir);
    let stats = stats.map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => no_database(place),
        _ => Error::io("AKI-0220", &place.dir, "could not look at", &cause),
    })?;
    if stats.kind == FsKind::Network {
        let message = format!(
            "{} is on a network file system, whose locks and flushes cannot be relied on",
            place.dir.display()
        );
        return Err(Error::invalid("AKI-0222", message).help_is("put the directory on a local disk"));
    }
    Ok(())
}

fn newest_or_first(place: &Place, store: &Store) -> Result<Committed> {
    let rng = &place.rng;
    if let Some(newest) = store.newest()? {
        return Ok(newest);
    }
    unfinished::refuse(&*place.fs, &place.dir)?;
    let stamp =
        Stamp { writer_epoch: 1, writer_id: 0, commit_id: rng.u64(), unix_micros: place.clock.unix_micros() };
    let mut bytes = [0; 16];
    rng.fill(&mut bytes);
    store.commit(None, Manifest::first(uuid::Builder::from_random_bytes(bytes).into_uuid(), stamp))
}

fn open_log(
    place: &Place,
    mut config: akidb_wal::Config,
    newest: &Manifest,
    read_only: bool,
) -> Result<(Log, Recovered)> {
    config.salt_seed = Some(place.rng.u64());
    let options = Options {
        dir: place.wal_dir(),
        fs: Arc::clone(&place.fs),
        clock: Arc::clone(&place.clock),
        spawn: Arc::clone(&place.spawn),
        config,
        min_epoch: newest.writer_epoch,
        floor: newest.floor,
        read_only,
    };
    Log::open(options).map_err(|error| from_wal(&error))
}

fn load_catalog(place: &Place, manifest: &Manifest, limits: &Limits) -> Result<(Catalog, Schemas)> {
    let catalog = load_segments(place, manifest, limits.empty_catalog(&place.memory))?;
    let mut schemas = Schemas::new();
    for entry in &manifest.collections {
        let versions = entry.schemas.iter().cloned().map(Arc::new).collect();
        schemas.insert(entry.id, (versions, entry.flushed_lsn));
    }
    Ok((catalog, schemas))
}

/// What a manifest names, opened and put into `catalog`; nothing is in memory.
pub(crate) fn load_segments(place: &Place, manifest: &Manifest, mut catalog: Catalog) -> Result<Catalog> {
    // Until the catalog has them they are counted by what is read of them.
    let segments = manifest.collections.iter().flat_map(|entry| &entry.segments);
    let tails: u64 = segments.map(|meta| meta.size.saturating_sub(meta.check.offset)).sum();
    let _opening = place.memory.charge(MemoryUse::Segments, TABLE_BYTES_OF_TAIL * tails);
    for entry in &manifest.collections {
        catalog.insert(load_collection(place, entry)?);
    }
    Ok(catalog)
}

fn load_collection(place: &Place, entry: &CollectionMeta) -> Result<CollectionState> {
    let dir = place.collection_dir(&entry.dir);
    let schema = entry.schema().clone();
    let mut segments = Vec::with_capacity(entry.segments.len());
    let mut vectors = deletion_vector::Vectors::new(&*place.fs, deletion_vector_dir(&dir));
    for meta in &entry.segments {
        let segment = Segment::open(&*place.fs, &dir.join(&meta.file), meta, &schema)?;
        let dead = match &meta.deletion_vector {
            None => DeletionVector::new(),
            Some(reference) => vectors.read(reference, meta.rows)?,
        };
        segments.push(Arc::new(LiveSegment::new(segment, dead)));
    }
    Ok(empty_collection(entry, dir, schema, segments, &place.memory))
}

/// What frames are applied to, with the keys of batches that the log does not tell again.
pub(crate) fn memory(limits: &Limits, manifest: &Manifest) -> Memory {
    Memory::new(RecentKeys::new(limits.batch_keys, &manifest.idempotency_keys))
}

/// A collection with nothing in memory.
pub(crate) fn empty_collection(
    entry: &CollectionMeta,
    dir: PathBuf,
    schema: Schema,
    segments: Vec<Arc<LiveSegment>>,
    memory: &Account,
) -> CollectionState {
    CollectionState {
        id: entry.id,
        name: entry.name.as_str().into(),
        dir: Arc::new(dir),
        schema: Arc::new(schema),
        flushed_lsn: entry.flushed_lsn,
        active: Arc::new(Memtable::new(memory)),
        sealed: Vec::new(),
        segments: Arc::new(segments),
        generation: 0,
        damage: Arc::default(),
        expired_rows: Arc::default(),
    }
}

/// How many log files there are.
fn log_files(place: &Place) -> usize {
    let entries = place.fs.list(&place.wal_dir()).unwrap_or_default();
    entries.iter().filter(|entry| entry.name.ends_with(".wal")).count()
}

/// Nothing is pending and nothing else runs: everything the log holds is shown.
fn show_all(applier: &Applier<Memory>, last: Lsn) {
    applier.change(|published, apply| {
        if last > published.visible() {
            published.set_visible(last, apply);
        }
    });
}
