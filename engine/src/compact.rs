//! From several segments to one: files first, then one manifest, then the new version. Which ones is decided in
//! `compact/policy.rs`, how rows are merged in `compact/merge.rs`.
//!
//! What is dead at the manifest's `flushed_lsn` is dropped; a row hidden since is carried along, because that manifest,
//! and a backend that holds it, must find it. Writes and flushes go on meanwhile: what they hide in the inputs is mapped
//! to the output at the end.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use akidb_host::seeded_bug;

use crate::catalog::{CollectionState, LiveSegment};
use crate::deletion_vector::DeletionVector;
use crate::engine::{Engine, Merging, Writer};
use crate::error::{Error, Result};
use crate::expiry::is_ripe;
use crate::flush;
use crate::manifest::{Manifest, Reason};
use crate::memory_budget::Charge;
use crate::overlay::Overlay;
use crate::segment::Segment;
use crate::segment_meta::SegmentMeta;

mod admission;
mod merge;
pub(crate) mod policy;

use admission::{Admission, Admitted, admit};
use merge::{Merge, RowMap};
use policy::SegmentLoad;

/// How the next segments to merge are chosen.
pub(crate) type Choose = fn(&[SegmentLoad], u64) -> Vec<usize>;

/// What a choice leaves out and looks for: segments that could not be rewritten alone, by their files.
#[derive(Debug, Default)]
pub(crate) struct Spared {
    /// Of these it is known, and they are left out.
    pub(crate) files: BTreeSet<String>,
    /// Of this one it turned out now.
    pub(crate) failed: Option<String>,
    /// Whether the indexes of all segments are read, so that damaged ones are made again.
    pub(crate) reads_indexes: bool,
}

/// Merges what `choose` takes of a collection; `false` if it takes nothing. Blocks for as long as that is, and before it for
/// `patience` where there is no memory for it, with no lock held.
///
/// # Errors
/// Whatever kept it from disk, `Full` without memory, `Corrupt` for a damaged input, `Closed`. Nothing is lost: the inputs stay.
pub(crate) fn compact(
    engine: &Engine,
    collection: u32,
    choose: Choose,
    patience: Duration,
    spared: &mut Spared,
) -> Result<bool> {
    let mut held = None;
    loop {
        let waited = held.is_some();
        let needed = match compact_once(engine, collection, choose, held, spared)? {
            Once::Merged(merged) => return Ok(merged),
            Once::Needs(bytes) => bytes,
        };
        if waited {
            // There is more to merge than when the wait began: another time.
            return Err(admission::taken(engine, needed));
        }
        held = Some(admission::wait(engine, needed, patience)?);
    }
}

/// What became of one look.
enum Once {
    /// Whether there was something to merge, and it is merged.
    Merged(bool),
    /// There is no memory for it, which needs so many bytes.
    Needs(u64),
}

/// Merges once within what is `held`, or what is there. Does not wait for memory.
fn compact_once(
    engine: &Engine,
    collection: u32,
    choose: Choose,
    held: Option<Charge>,
    spared: &mut Spared,
) -> Result<Once> {
    let writer = engine.writer()?;
    if let Some(poison) = writer.committer.poisoned() {
        // Nothing that is written now could be named by a manifest.
        return Err(poison.clone());
    }
    let _compacting = writer.compacting.lock().unwrap_or_else(PoisonError::into_inner);
    let current = writer.sequencer.applier().published().current();
    let Some(state) = current.content().collections.get(&collection) else { return Ok(Once::Merged(false)) };
    if state.damage.get().is_some() {
        return Ok(Once::Merged(false));
    }
    let loads = loads(engine, state, spared);
    let Admitted { chosen, max_rows, charge: _charge } = match admit(engine, state, &loads, choose, held) {
        Admission::Begins(admitted) => admitted,
        Admission::Needs(bytes) => return Ok(Once::Needs(bytes)),
        Admission::NotDue => {
            // What was left out still fails.
            if spared.files.is_empty() {
                engine.compactions.failures.note(collection, None);
            }
            return Ok(Once::Merged(false));
        }
    };
    engine.shrink_caches();
    let inputs: Vec<Arc<LiveSegment>> = chosen.iter().map(|at| Arc::clone(&state.segments[*at])).collect();
    let grown_rows = policy::grown_rows(max_rows);
    let small_inputs = inputs.iter().filter(|live| engine.is_small(live, grown_rows)).count();
    let merging = writer.begin_merge(Merging { collection, grown_rows, small_inputs });
    let _span = tracing::info_span!("compact", collection = %state.name, segments = inputs.len()).entered();
    let bytes = chosen.iter().map(|at| loads[*at].live_bytes()).sum();
    let result = engine.has_disk_for(bytes).and_then(|()| {
        let merged = merge(engine, writer, state, &inputs);
        drop(merging);
        merged.or_else(|error| {
            // Now that what it wrote no longer counts as in the making.
            engine.removals.owe();
            // Dropped meanwhile: there is nothing to merge.
            if error.is_dropped() { Ok(()) } else { Err(error) }
        })
    });
    if result.is_err() || spared.files.is_empty() {
        engine.compactions.failures.note(collection, result.as_ref().err().cloned());
    }
    if let [alone] = &inputs[..] {
        spared.failed = result.is_err().then(|| alone.segment.meta().file.clone());
    }
    result?;
    engine.stalls.notify();
    Ok(Once::Merged(true))
}

/// What the choice depends on, of every segment.
fn loads(engine: &Engine, state: &CollectionState, spared: &Spared) -> Vec<SegmentLoad> {
    let now_micros = engine.place.clock.unix_micros();
    let before = engine.limits.ttl_erase_micros.map(|after| now_micros.saturating_sub(after));
    let current = engine.current();
    let filters = &current.content().filters;
    let load = |live: &Arc<LiveSegment>| SegmentLoad {
        overdue: before.is_some_and(|before| is_ripe(filters, state, live, before)),
        unindexed: spared.reads_indexes && live.segment.is_index_damaged(),
        spared: spared.files.contains(&live.segment.meta().file),
        ..load(live)
    };
    state.segments.iter().map(load).collect()
}

fn load(live: &LiveSegment) -> SegmentLoad {
    SegmentLoad {
        rows: live.segment.rows(),
        dead: u32::try_from(live.deletion_vector.len()).expect("rows are u32"),
        bytes: live.segment.meta().size,
        overdue: false,
        unindexed: false,
        spared: false,
    }
}

/// A merged segment under its final name, named by no manifest yet.
struct Merged {
    /// None if every row was dead.
    output: Option<(SegmentMeta, Arc<Segment>)>,
    map: RowMap,
}

impl Merged {
    fn discard(&self, engine: &Engine, error: &Error) {
        if let Some((_, segment)) = &self.output {
            flush::discard(engine, segment, error);
        }
    }
}

fn merge(
    engine: &Engine,
    writer: &Writer,
    state: &CollectionState,
    inputs: &[Arc<LiveSegment>],
) -> Result<()> {
    let merged = write(engine, writer, state, inputs)?;
    commit(engine, writer, state.id, inputs, &merged).inspect_err(|error| merged.discard(engine, error))
}

/// Makes the manifest name the output instead of the inputs, and publishes that.
fn commit(
    engine: &Engine,
    writer: &Writer,
    collection: u32,
    inputs: &[Arc<LiveSegment>],
    merged: &Merged,
) -> Result<()> {
    let _flushing = writer.flushing.lock().unwrap_or_else(PoisonError::into_inner);
    let current = writer.sequencer.applier().published().current();
    let state = current.content().get(collection)?;
    // What a flush found dead meanwhile, in the same manifest.
    let late = late_deaths(state, inputs, &merged.map);
    let mut output = merged.output.as_ref().map(|(meta, _)| meta.clone());
    if let Some(meta) = &mut output
        && !late.is_empty()
        && !seeded_bug("late_deaths_not_mapped")
    {
        meta.deletion_vector = flush::write_deletion_vectors(engine, state, &[&late])?.pop();
    }
    let edit = |manifest: &mut Manifest| edit_manifest(manifest, collection, inputs, output.clone());
    writer.committer.commit(Reason::Compact, edit)?;
    note(engine, inputs, output.as_ref());
    install(writer, collection, inputs, merged, late);
    Ok(())
}

fn write(
    engine: &Engine,
    writer: &Writer,
    state: &CollectionState,
    inputs: &[Arc<LiveSegment>],
) -> Result<Merged> {
    let level = inputs.iter().map(|live| live.segment.meta().level).max().unwrap_or(0).saturating_add(1);
    let go_on = || !engine.is_closed();
    let begin = || Merge::new(&state.schema, inputs, engine.limits.row_group_bytes, &go_on);
    if inputs.iter().map(|live| load(live)).all(|load| load.dead == load.rows) {
        return Ok(Merged { output: None, map: RowMap::default() });
    }
    let (meta, segment, merge) = flush::write_new_segment(engine, writer, state, level, begin)?;
    Ok(Merged { output: Some((meta, segment)), map: merge.into_map() })
}

/// The live segment of this version that is `input`.
fn now<'a>(state: &'a CollectionState, input: &LiveSegment) -> &'a Arc<LiveSegment> {
    let same = |live: &&Arc<LiveSegment>| Arc::ptr_eq(&live.segment, &input.segment);
    state.segments.iter().find(same).expect("segments only leave by a merge, and there is one at a time")
}

/// Rows of the output that deletion vectors name by now and did not when the merge began.
fn late_deaths(state: &CollectionState, inputs: &[Arc<LiveSegment>], map: &RowMap) -> DeletionVector {
    let mut late = DeletionVector::new();
    for (at, input) in inputs.iter().enumerate() {
        let dead_now = now(state, input).deletion_vector.iter();
        dead_now.filter(|row| !input.deletion_vector.contains(*row)).for_each(|row| {
            late.insert(map.to(at, row));
        });
    }
    late
}

fn edit_manifest(
    manifest: &mut Manifest,
    collection: u32,
    inputs: &[Arc<LiveSegment>],
    output: Option<SegmentMeta>,
) -> Result<()> {
    let Some(entry) = manifest.collection_mut(collection) else {
        return Err(Error::dropped());
    };
    let is_input = |file: &str| inputs.iter().any(|live| live.segment.meta().file == file);
    // In the place of the oldest of them.
    let at = entry.segments.iter().position(|segment| is_input(&segment.file)).unwrap_or(0);
    entry.segments.retain(|segment| !is_input(&segment.file));
    if let Some(output) = output {
        entry.segments.insert(at, output);
    }
    Ok(())
}

fn note(engine: &Engine, inputs: &[Arc<LiveSegment>], output: Option<&SegmentMeta>) {
    let counted = &engine.compactions;
    let read: u64 = inputs.iter().map(|live| live.segment.meta().size).sum();
    counted.runs.fetch_add(1, Ordering::Relaxed);
    counted.segments_merged.fetch_add(inputs.len() as u64, Ordering::Relaxed);
    counted.bytes_read.fetch_add(read, Ordering::Relaxed);
    counted.bytes_written.fetch_add(output.map_or(0, |meta| meta.size), Ordering::Relaxed);
}

/// Publishes what the manifest now says; carries hides that no deletion vector names yet to the output.
fn install(
    writer: &Writer,
    collection: u32,
    inputs: &[Arc<LiveSegment>],
    merged: &Merged,
    late: DeletionVector,
) {
    writer.sequencer.applier().change(|published, apply| {
        let current = published.current();
        let Some(state) = current.content().collections.get(&collection) else { return };
        let is_input =
            |live: &LiveSegment| inputs.iter().any(|input| Arc::ptr_eq(&live.segment, &input.segment));
        let at = state.segments.iter().position(|live| is_input(live)).unwrap_or(0);
        let mut segments: Vec<Arc<LiveSegment>> =
            state.segments.iter().filter(|live| !is_input(live)).cloned().collect();
        if let Some((_, segment)) = &merged.output {
            let overlay = Overlay::new(segment.rows());
            for (n, input) in inputs.iter().enumerate() {
                let live = now(state, input);
                let hidden = live.overlay.entries().filter(|(row, _)| !live.deletion_vector.contains(*row));
                if seeded_bug("hides_not_mapped") {
                    continue;
                }
                for (row, at) in hidden {
                    overlay.hide(merged.map.to(n, row), at);
                }
            }
            let segment = Arc::clone(segment);
            let live = LiveSegment { segment, deletion_vector: Arc::new(late), overlay: Arc::new(overlay) };
            segments.insert(at, Arc::new(live));
        }
        let mut next = CollectionState::clone(state);
        next.segments = Arc::new(segments);
        next.generation += 1;
        published.publish(current.content().with(next), apply);
    });
}
