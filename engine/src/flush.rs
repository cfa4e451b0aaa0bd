//! From a sealed memtable to a segment: files first, then one manifest, then the new version, then the log's floor.

use std::cell::OnceCell;
use std::sync::{Arc, PoisonError};

use akidb_host::{Clock, RealClock, seeded_bug};

use crate::catalog::{CollectionState, LiveSegment};
use crate::deletion_vector::{self, DeletionVector};
use crate::engine::{Engine, Writer, deletion_vector_dir};
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::index::{self, IndexBytes};
use crate::lsn::Lsn;
use crate::manifest::{Manifest, Reason};
use crate::memory_budget::MemoryUse;
use crate::memtable::Memtable;
use crate::overlay::Overlay;
use crate::row::Row;
use crate::segment::{RowSource, RowsInMemory, Segment, Writing, encoding_bytes, write_segment};
use crate::segment_meta::{DeletionVectorRef, SegmentMeta};
use crate::write::WriteLog;

mod unflushed;

use unflushed::{Unflushed, assert_synced};

/// New names tried when the sync of a segment file fails: the old file is never trusted again.
const SEGMENT_TRIES: u32 = 3;

/// Seals the active memtable of a collection, if it holds anything. Touches no file.
pub(crate) fn seal(writer: &Writer, collection: u32) -> bool {
    seal_when(writer, collection, |_| true)
}

/// As [`seal`], if the collection is `due` by the time the apply lock is held.
fn seal_when(writer: &Writer, collection: u32, due: impl FnOnce(&CollectionState) -> bool) -> bool {
    writer.sequencer.applier().change(|published, apply| {
        let current = published.current();
        let Some(state) = current.content().collections.get(&collection) else { return false };
        if state.active.first_op().is_none() || state.damage.get().is_some() || !due(state) {
            return false;
        }
        let next = sealed(writer, state, published.visible());
        published.publish(current.content().with(next), apply);
        true
    })
}

/// The collection with its active memtable sealed and a new one in its place.
fn sealed(writer: &Writer, state: &CollectionState, sealed_at: Lsn) -> CollectionState {
    let mut next = CollectionState::clone(state);
    next.sealed.push((Arc::clone(&state.active), sealed_at));
    next.active = Arc::new(state.active.next());
    next.active.begin_codes(writer.coding(state));
    next
}

/// Seals the active memtable of a collection if it is full and fewer than the allowed number wait already. Called by
/// writers, so that rows never outgrow the memtables while a flush runs. Touches no file.
pub(crate) fn seal_if_full(engine: &Engine, writer: &Writer, collection: u32) {
    let sealed = seal_when(writer, collection, |state| {
        engine.limits.is_active_full(state) && state.sealed.len() < engine.sealed_bound(state)
    });
    if sealed {
        engine.wake_driver();
    }
}

/// Seals and flushes everything that was visible at the call; blocks until it is on disk and published.
///
/// # Errors
/// The first failure; what was not flushed stays in memtables and log and is tried again by the driver.
pub(crate) fn flush_all(engine: &Engine) -> Result<()> {
    let writer = engine.writer()?;
    let ids: Vec<u32> =
        writer.sequencer.applier().published().current().content().collections.keys().copied().collect();
    let mut failure = None;
    for id in ids {
        seal(writer, id);
        // What comes later is for another call: a fast writer must not keep this one for ever.
        let up_to = writer.sequencer.applier().published().visible();
        // One collection that cannot be flushed does not hold up the others.
        while flush_oldest(engine, id).unwrap_or_else(|error| {
            failure.get_or_insert(error);
            false
        }) && waits_for_flush(writer, id, up_to)
        {}
    }
    failure.map_or(Ok(()), Err)
}

/// Whether a collection has a memtable that was sealed at `up_to` or before.
fn waits_for_flush(writer: &Writer, collection: u32, up_to: Lsn) -> bool {
    let current = writer.sequencer.applier().published().current();
    let state = current.content().collections.get(&collection);
    state.and_then(|state| state.sealed.first()).is_some_and(|(_, sealed_at)| *sealed_at <= up_to)
}

/// Seals every dirty collection at one LSN, flushes up to it and makes `edit` of the manifest that then is the database
/// at that LSN durable, before anything newer is flushed. Writes go on. Answers the LSN.
///
/// Nearly everything is flushed before the LSN is chosen, one memtable at a time with other flushes in between: no
/// other flush runs from the choice to the commit, and writers wait once their memtables are full.
///
/// # Errors
/// `Corrupt` if a collection cannot be flushed any more; else as [`flush_oldest`], and what `edit` answered.
pub(crate) fn at_one_lsn(
    engine: &Engine,
    edit: impl FnOnce(&mut Manifest, Lsn) -> Result<()>,
) -> Result<Lsn> {
    let writer = engine.writer()?;
    flush_all(engine)?;
    // From the seal to the commit: no other flush, no end of a merge, no change of a name or of fields.
    let _flushing = writer.flushing.lock().unwrap_or_else(PoisonError::into_inner);
    let sealed_at = seal_everything(writer)?;
    if sealed_at > writer.sequencer.log().synced() {
        // Shown before it is synced: a writer, and the drain after the sync, take none of the locks held here.
        writer.sequencer.log().wait(sealed_at)?;
    }
    let flushed = match seeded_bug("named_before_it_is_flushed") {
        true => Ok(()),
        false => flush_up_to(engine, writer, sealed_at),
    };
    engine.stalls.notify();
    flushed?;
    let unflushed = Unflushed::of(writer, |_, _| true);
    let committed = writer.committer.commit(Reason::Ddl, |manifest| {
        unflushed.raise_floor(writer, manifest);
        edit(manifest, sealed_at)
    })?;
    if let Err(error) = truncate_log(writer, committed.manifest.floor) {
        tracing::warn!(%error, "the log could not be truncated; the next flush tries again");
    }
    Ok(sealed_at)
}

/// Seals what is dirty in one step; answers the LSN that everything was visible up to.
fn seal_everything(writer: &Writer) -> Result<Lsn> {
    writer.sequencer.applier().change(|published, apply| {
        let current = published.current();
        let sealed_at = published.visible();
        let mut next = current.content().clone();
        for state in current.content().collections.values() {
            state.check_damage(writer.sequencer.log().synced())?;
            if state.active.first_op().is_some() {
                next.collections.insert(state.id, Arc::new(sealed(writer, state, sealed_at)));
            }
        }
        published.publish(next, apply);
        Ok(sealed_at)
    })
}

/// Flushes what was sealed at `sealed_at` or before.
fn flush_up_to(engine: &Engine, writer: &Writer, sealed_at: Lsn) -> Result<()> {
    let current = writer.sequencer.applier().published().current();
    for id in current.content().collections.keys() {
        while waits_for_flush(writer, *id, sealed_at) {
            let flushed = flush_locked(engine, writer, *id);
            // Of one that was dropped the end is durable, and about to be shown.
            if flushed.as_ref().is_err_and(Error::is_dropped) {
                break;
            }
            engine.flush_failures.note(*id, flushed.as_ref().err().cloned());
            flushed?;
        }
    }
    Ok(())
}

/// Flushes the oldest sealed memtable of a collection; `false` if there is none. Where rows are shown before they are
/// synced, waits for the sync of what is flushed first, with no lock held.
///
/// # Errors
/// Whatever kept it from disk. Nothing acknowledged is lost: the rows stay in the memtable and the log.
pub(crate) fn flush_oldest(engine: &Engine, collection: u32) -> Result<bool> {
    let writer = engine.writer()?;
    let result = loop {
        if let Err(error) = sync_sealed(writer, collection) {
            break Err(error);
        }
        let _flushing = writer.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        match flush_locked(engine, writer, collection) {
            // Another flush took the one that was waited for.
            Ok(Flush::Unsynced) => {}
            Ok(Flush::Done) => break Ok(true),
            Ok(Flush::Nothing) => break Ok(false),
            Err(error) => break Err(error),
        }
    };
    engine.flush_failures.note(collection, result.as_ref().err().cloned());
    engine.stalls.notify();
    result
}

/// Blocks until the oldest sealed memtable of a collection is synced whole.
fn sync_sealed(writer: &Writer, collection: u32) -> Result<()> {
    let current = writer.sequencer.applier().published().current();
    let oldest = current.content().collections.get(&collection).and_then(|state| state.sealed.first());
    match oldest {
        Some((_, sealed_at)) if *sealed_at > writer.sequencer.log().synced() => {
            writer.sequencer.log().wait(*sealed_at)
        }
        _ => Ok(()),
    }
}

/// What became of a flush.
enum Flush {
    Done,
    Nothing,
    /// The oldest sealed memtable holds rows that are not synced.
    Unsynced,
}

fn flush_locked(engine: &Engine, writer: &Writer, collection: u32) -> Result<Flush> {
    let current = writer.sequencer.applier().published().current();
    let Some(state) = current.content().collections.get(&collection) else { return Ok(Flush::Nothing) };
    let Some((memtable, sealed_at)) = state.sealed.first().cloned() else { return Ok(Flush::Nothing) };
    let synced = writer.sequencer.log().synced();
    if sealed_at > synced {
        return Ok(Flush::Unsynced);
    }
    state.check_damage(synced)?;
    if let Some(poison) = writer.committer.poisoned() {
        // Nothing that is written now could be named by a manifest.
        return Err(poison.clone());
    }
    let _span = tracing::info_span!("flush", collection = %state.name, lsn = %sealed_at).entered();
    let _charge = engine.place.memory.charge(MemoryUse::Flushes, flush_bytes(engine, state, &memtable));
    engine.shrink_caches();

    let began = RealClock.now();
    let flushed =
        write_files(engine, writer, state, &memtable, sealed_at).inspect_err(|_| engine.removals.owe())?;
    let unflushed = Unflushed::without(writer, collection, &memtable);
    if seeded_bug("floor_before_manifest") {
        truncate_log(writer, Lsn::MAX)?;
        // Wide enough for one kill to fall into it.
        std::thread::park_timeout(std::time::Duration::from_secs(5));
    }
    if seeded_bug("log_released_before_manifest") {
        truncate_log(writer, sealed_at.next())?;
    }
    let committed = writer.committer.commit(Reason::Flush, |manifest| {
        edit_manifest(manifest, collection, sealed_at, &flushed)?;
        unflushed.raise_floor(writer, manifest);
        Ok(())
    });
    let committed = committed.inspect_err(|error| {
        engine.removals.owe();
        if let Some((_, segment, _)) = &flushed.segment {
            discard(engine, segment, error);
        }
    })?;
    install(writer, collection, &memtable, sealed_at, flushed);
    if memtable.bytes() >= engine.limits.telling_memtable_bytes() {
        let took = RealClock.now().saturating_duration_since(began);
        engine.pace.note_flush(memtable.bytes(), took);
    }
    memtable.note_flushed();
    // The manifest that covers everything below is durable now, and the rows are in a segment whatever becomes of the log; the
    // next flush truncates it as well.
    if let Err(error) = truncate_log(writer, committed.manifest.floor) {
        tracing::warn!(%error, "the log could not be truncated after a flush");
    }
    Ok(Flush::Done)
}

/// Bytes in memory that a flush takes, at most about: a pointer to each row twice, and what writing a segment takes.
fn flush_bytes(engine: &Engine, state: &CollectionState, memtable: &Memtable) -> u64 {
    let rows = u64::from(memtable.len());
    let vectors = 4 * u64::from(state.schema.dim) * rows;
    let beside = memtable.bytes().saturating_sub(vectors).min(engine.limits.row_group_bytes);
    // The vectors are written from where they lie in the memtable, and so are the rows.
    64 * rows + index::build_bytes_per_row(usize::from(state.schema.dim)) * rows + encoding_bytes(beside)
}

/// Makes the end of a collection durable, and with it that its rows no longer hold the log: `publish` runs between
/// the manifest and the truncation.
pub(crate) fn drop_collection(writer: &Writer, id: u32, publish: impl FnOnce()) -> Result<()> {
    let unflushed = Unflushed::of(writer, |state, _| state.id != id);
    let committed = writer.committer.commit(Reason::Ddl, |manifest| {
        if !manifest.drop_collection(id) {
            return Err(Error::dropped());
        }
        unflushed.raise_floor(writer, manifest);
        Ok(())
    })?;
    publish();
    // The collection is gone whatever becomes of the log; the next flush truncates it as well.
    if let Err(error) = truncate_log(writer, committed.manifest.floor) {
        tracing::warn!(%error, "the log could not be truncated after a collection was dropped");
    }
    Ok(())
}

fn truncate_log(writer: &Writer, floor: Lsn) -> Result<()> {
    let _span = tracing::debug_span!("truncate", %floor).entered();
    let log = writer.sequencer.log().inner();
    log.truncate_below(floor).map_err(|error| crate::log::from_wal(&error))?;
    Ok(())
}

/// The files of one flush, all synced under their final names, named by no manifest yet.
struct Flushed {
    /// The new segment, and for each of its rows the memtable slot it came from.
    segment: Option<(SegmentMeta, Arc<Segment>, Vec<u32>)>,
    /// Deletion vectors that grew, by segment file name.
    deletions: Vec<(String, DeletionVectorRef, Arc<DeletionVector>)>,
}

fn write_files(
    engine: &Engine,
    writer: &Writer,
    state: &CollectionState,
    memtable: &Memtable,
    sealed_at: Lsn,
) -> Result<Flushed> {
    let _span = tracing::debug_span!("segment").entered();
    assert_synced(writer, sealed_at);
    let mut live: Vec<(u32, Lsn, Arc<Row>)> = memtable
        .slots()
        .filter(|(_, slot)| slot.lives_at(sealed_at))
        .map(|(at, slot)| (at, slot.lsn(), Arc::clone(slot.row())))
        .collect();
    live.sort_unstable_by(|a, b| a.2.id.cmp(&b.2.id));
    let segment = if live.is_empty() {
        None
    } else {
        let rows: Vec<(Lsn, Arc<Row>)> = live.iter().map(|(_, lsn, row)| (*lsn, Arc::clone(row))).collect();
        let (meta, segment) = write_rows(engine, writer, state, &rows)?;
        Some((meta, segment, live.into_iter().map(|(at, ..)| at).collect()))
    };
    let discarded = |error: &Error| {
        if let Some((_, segment, _)) = &segment {
            discard(engine, segment, error);
        }
    };
    let grown = state
        .segments
        .iter()
        .filter_map(|live| Some((live.segment.meta().file.clone(), grown_deletion_vector(live, sealed_at)?)));
    let (files, grown): (Vec<String>, Vec<DeletionVector>) = grown.unzip();
    let references =
        write_deletion_vectors(engine, state, &grown.iter().collect::<Vec<_>>()).inspect_err(discarded)?;
    let placed = files.into_iter().zip(references).zip(grown);
    let deletions = placed.map(|((file, reference), grown)| (file, reference, Arc::new(grown))).collect();
    Ok(Flushed { segment, deletions })
}

fn write_rows(
    engine: &Engine,
    writer: &Writer,
    state: &CollectionState,
    rows: &[(Lsn, Arc<Row>)],
) -> Result<(SegmentMeta, Arc<Segment>)> {
    // Most of the work, and the same for every file that is tried: none of it is done before there is one.
    let made = OnceCell::new();
    let index = || made.get_or_init(|| build_index(state, rows)).clone();
    write_new_segment(engine, writer, state, 0, || Ok(RowsInMemory::new(rows, &index)))
        .map(|(meta, segment, _)| (meta, segment))
}

fn build_index(state: &CollectionState, rows: &[(Lsn, Arc<Row>)]) -> Option<Arc<IndexBytes>> {
    let _span = tracing::debug_span!("index").entered();
    let vectors: Vec<&[f32]> = rows.iter().map(|(_, row)| &*row.vector).collect();
    index::index_bytes(state.schema.metric, &vectors, index::BUILD_SEED, &|| true).map(Arc::new)
}

/// Writes and opens a segment of a collection under a name of its own, from what `rows` begins: again, and under
/// another name, where the sync of the file failed. Gives the source back.
pub(crate) fn write_new_segment<S: RowSource>(
    engine: &Engine,
    writer: &Writer,
    state: &CollectionState,
    level: u8,
    mut rows: impl FnMut() -> Result<S>,
) -> Result<(SegmentMeta, Arc<Segment>, S)> {
    let fs = &*engine.place.fs;
    let table = &engine.place.memory.charge(MemoryUse::Segments, 0);
    // Empty, it may have been taken for a leftover by a look at the manifests from just before the collection's.
    engine.dirs.make(&engine.place, &state.dir)?;
    let mut tries = 0;
    let (meta, source) = loop {
        tries += 1;
        let name = writer.next_segment_name();
        let group_bytes = engine.limits.row_group_bytes;
        let file = Writing { fs, dir: &state.dir, name, schema: &state.schema, level, group_bytes, table };
        let mut source = rows()?;
        match write_segment(&file, &mut source) {
            Err(error) if error.kind() == ErrorKind::Unavailable && tries < SEGMENT_TRIES => {
                tracing::warn!(%error, "writing a segment failed; a new file is tried");
            }
            written => break (written?, source),
        }
    };
    let path = state.dir.join(&meta.file);
    let segment = Segment::open(fs, &path, &meta, &state.schema).inspect_err(|_| drop(fs.unlink(&path)))?;
    Ok((meta, segment, source))
}

/// Makes deletion vectors durable, in one file or, small ones, in what a manifest says of their segments.
pub(crate) fn write_deletion_vectors(
    engine: &Engine,
    state: &CollectionState,
    dead: &[&DeletionVector],
) -> Result<Vec<DeletionVectorRef>> {
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    let dir = deletion_vector_dir(&state.dir);
    engine.dirs.make(&engine.place, &dir)?;
    let mut random = [0; 16];
    engine.place.rng.fill(&mut random);
    deletion_vector::write(&*engine.place.fs, &dir, dead, random)
}

/// The deletion vector with the overlay's entries up to `sealed_at` folded in, if that adds any.
fn grown_deletion_vector(live: &LiveSegment, sealed_at: Lsn) -> Option<DeletionVector> {
    if live.overlay.len() == 0 {
        return None;
    }
    let mut grown = DeletionVector::clone(&live.deletion_vector);
    let mut added = false;
    for row in live.overlay.hidden_at(sealed_at) {
        added |= grown.insert(row);
    }
    added.then_some(grown)
}

fn edit_manifest(manifest: &mut Manifest, collection: u32, sealed_at: Lsn, flushed: &Flushed) -> Result<()> {
    let Some(entry) = manifest.collection_mut(collection) else {
        return Err(Error::dropped());
    };
    entry.flushed_lsn = sealed_at;
    for (file, reference, _) in flushed.deletions.iter().filter(|_| !seeded_bug("deletions_left_out")) {
        let segment = entry.segments.iter_mut().find(|segment| segment.file == *file);
        segment.expect("a live segment is in the manifest").deletion_vector = Some(reference.clone());
    }
    if let Some((meta, ..)) = &flushed.segment {
        entry.segments.push(meta.clone());
    }
    Ok(())
}

/// Publishes what the manifest now says; carries hides that came after the seal to the new segment.
fn install(writer: &Writer, collection: u32, memtable: &Arc<Memtable>, sealed_at: Lsn, flushed: Flushed) {
    writer.sequencer.applier().change(|published, apply| {
        let current = published.current();
        let Some(state) = current.content().collections.get(&collection) else { return };
        let mut next = CollectionState::clone(state);
        next.sealed.retain(|(sealed, _)| !Arc::ptr_eq(sealed, memtable));
        next.flushed_lsn = sealed_at;
        let mut segments: Vec<Arc<LiveSegment>> = state.segments.to_vec();
        for (file, _, grown) in flushed.deletions {
            let live = segments.iter_mut().find(|live| live.segment.meta().file == file);
            let live = live.expect("segments only leave by compaction");
            *live = Arc::new(LiveSegment {
                segment: Arc::clone(&live.segment),
                deletion_vector: grown,
                overlay: Arc::clone(&live.overlay),
            });
        }
        if let Some((_, segment, slots)) = flushed.segment {
            let overlay = Overlay::new(segment.rows());
            for (row, slot) in (0u32..).zip(slots) {
                let hidden_at = memtable.slot(slot).hidden_at();
                if hidden_at != Lsn::MAX && !seeded_bug("late_hides_left_behind") {
                    assert!(hidden_at > sealed_at, "a row dead at the seal was flushed");
                    overlay.hide(row, hidden_at);
                }
            }
            let live = LiveSegment {
                segment,
                deletion_vector: Arc::new(DeletionVector::new()),
                overlay: Arc::new(overlay),
            };
            segments.push(Arc::new(live));
        }
        next.segments = Arc::new(segments);
        next.generation += u64::from(!seeded_bug("generation_stands_still"));
        published.publish(current.content().with(next), apply);
    });
}

/// Removes a segment whose manifest was not written because of `error`, if that is certain.
pub(crate) fn discard(engine: &Engine, segment: &Segment, error: &Error) {
    if error.fate() != Fate::Unknown {
        // What stays is owed.
        let _ = engine.place.fs.unlink(segment.path());
    }
}
