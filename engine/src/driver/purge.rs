//! Rows that expired become ordinary deletes, each on the condition that the row has the version that was looked at; and
//! segments that held them are made ready to be rewritten.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use akidb_host::seeded_bug;

use crate::catalog::{Catalog, CollectionState, LiveSegment};
use crate::engine::{Engine, Room};
use crate::error::{ErrorKind, Result};
use crate::expiry::{Alive, Expiry, is_overdue};
use crate::flush;
use crate::ops::{Op, Verdict};
use crate::record::{self, Record};
use crate::version::View;
use crate::write::{Checked, Placed};

/// Rows deleted with one frame: a flush that is due waits for so many.
const FRAME_ROWS: usize = 1_024;
/// Rows looked up at a time, some 200 bytes each.
const LOOK_ROWS: usize = 16 * FRAME_ROWS;
/// Where writes are held back, what has expired is looked up again after so long, to be deleted.
const ROOM_AGAIN: Duration = Duration::from_secs(2);
/// A collection is flushed for the sake of what expired long ago at most this often: a segment that cannot be rewritten
/// must not cost a flush each minute.
const SEAL_EVERY: Duration = Duration::from_secs(3_600);

/// What has expired and is not deleted yet.
#[derive(Debug, Default)]
pub(super) struct Purge {
    next_look: Option<Instant>,
    found: VecDeque<Op>,
    /// When a collection was sealed here last.
    sealed: BTreeMap<u32, Instant>,
}

impl Purge {
    /// Deletes some of what has expired, if it is time for that. When there is more to do at once, says so; where writes
    /// are held back, or a delete fails, nothing is kept: what was found names segments, and a later look finds it again.
    pub(super) fn tick(&mut self, engine: &Engine, now: Instant) -> Option<Instant> {
        let within = engine.limits.ttl_purge;
        if within.is_zero() {
            return None;
        }
        if self.found.is_empty() && self.next_look.is_none_or(|next| next <= now) {
            self.look(engine, now);
            let all = self.found.len() < LOOK_ROWS;
            self.next_look = Some(if all { now + within / 2 } else { now });
        }
        match self.delete_some(engine) {
            Ok(true) => {}
            Ok(false) => {
                self.found.clear();
                self.next_look = Some(now + ROOM_AGAIN.min(within / 2));
                return None;
            }
            Err(error) => {
                if !engine.is_closed() {
                    tracing::warn!(%error, "expired rows could not be deleted; they stay hidden, and it is tried again");
                }
                self.found.clear();
                self.next_look = Some(now + within / 2);
                return None;
            }
        }
        (!self.found.is_empty() || self.next_look.is_some_and(|next| next <= now)).then_some(now)
    }

    fn look(&mut self, engine: &Engine, now: Instant) {
        let Ok(view) = engine.view() else { return };
        self.sealed.retain(|id, _| view.content().collections.contains_key(id));
        let expiring = view.content().collections.values().filter(|state| state.schema.expiry().is_some());
        for state in expiring.filter(|state| state.damage.get().is_none()) {
            self.collect(&view, state);
            self.make_ready(engine, &view, state, now);
        }
    }

    /// Notes the rows of a collection that have expired, up to the bound.
    fn collect(&mut self, view: &View<Catalog>, state: &CollectionState) {
        let (expiry, before) = (Expiry::of(view, state), self.found.len());
        if before == LOOK_ROWS {
            return;
        }
        for memtable in state.memtables() {
            let live = memtable.slots().map(|(_, slot)| slot).filter(|slot| slot.lives_at(view.lsn()));
            let expired = live.filter(|slot| expiry.hides(slot.row()));
            let removing = expired.map(|slot| Op::removing(state, (slot.row().id.clone(), slot.lsn()), None));
            self.found.extend(removing.take(LOOK_ROWS - self.found.len()));
        }
        let mut others = 0;
        for live in state.segments.iter() {
            let room = LOOK_ROWS - self.found.len();
            if room == 0 {
                break;
            }
            match self.collect_in(view, state, live, room) {
                Ok(more) => others += more,
                Err(error) => tracing::warn!(%error, "what expired in a segment cannot be told"),
            }
        }
        state.expired_rows.store((self.found.len() - before) as u64 + others, Ordering::Relaxed);
    }

    /// The same of a segment; says how many more there are in it.
    fn collect_in(
        &mut self,
        view: &View<Catalog>,
        state: &CollectionState,
        live: &Arc<LiveSegment>,
        room: usize,
    ) -> Result<u64> {
        let alive = Alive::of(view, state, live)?;
        let mut expired = alive.expired();
        let rows: Vec<u32> = expired.by_ref().take(room).collect();
        for rows in rows.chunks(FRAME_ROWS) {
            let keys = live.segment.keys_at(rows, false)?;
            let removing = rows.iter().zip(keys).map(|(row, (version, key))| {
                Op::removing(state, (key.id, version), Some((Arc::clone(live), *row)))
            });
            self.found.extend(removing);
        }
        Ok(expired.count() as u64)
    }

    /// Lets deletes reach the deletion vectors of segments whose rows expired long ago, and the compactor look at those.
    fn make_ready(&mut self, engine: &Engine, view: &View<Catalog>, state: &CollectionState, now: Instant) {
        let Some(after) = engine.limits.ttl_erase_micros else { return };
        let before = view.now_micros().saturating_sub(after);
        let overdue = || state.segments.iter().filter(|live| is_overdue(state, &live.segment, before));
        let is_time = || self.sealed.get(&state.id).is_none_or(|at| *at + SEAL_EVERY <= now);
        if overdue().any(|live| live.has_unflushed_hides())
            && is_time()
            && let Ok(writer) = engine.writer()
        {
            flush::seal(writer, state.id);
            self.sealed.insert(state.id, now);
        }
        if overdue().any(|live| !live.deletion_vector.is_empty()) {
            engine.wake_compactor();
        }
    }

    /// Deletes a frame of what was found; `false` where writes are held back.
    fn delete_some(&mut self, engine: &Engine) -> Result<bool> {
        let Some(first) = self.found.front() else { return Ok(true) };
        let collection = first.collection();
        let same = self.found.iter().take(FRAME_ROWS).take_while(|op| op.collection() == collection).count();
        let mut ops: Vec<Op> = self.found.drain(..same).collect();
        while !ops.is_empty() {
            let current = engine.current();
            let Ok(state) = current.content().get(collection) else { return Ok(true) };
            state.check_takes_writes()?;
            let rows = ops.len();
            let (frame, tried) = append(engine, state, ops)?;
            let undeleted = |rows: usize| {
                let less = |before: u64| Some(before.saturating_sub(rows as u64));
                // Nobody else writes it.
                let _ = state.expired_rows.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            };
            match tried {
                Tried::Deleted => {
                    undeleted(rows);
                    return Ok(true);
                }
                Tried::NoRoom => return Ok(false),
                Tried::Stale => frame.iter().try_for_each(|op| op.prepare(state))?,
                Tried::Replaced(replaced) => {
                    let mut places = 0..;
                    ops = frame;
                    ops.retain(|_| places.next().is_some_and(|at| replaced.binary_search(&at).is_err()));
                    undeleted(replaced.len());
                    continue;
                }
            }
            ops = frame;
        }
        Ok(true)
    }
}

/// What became of a frame.
enum Tried {
    Deleted,
    /// Writes are held back.
    NoRoom,
    /// The segments changed: to be looked up again.
    Stale,
    /// These have another version by now, or none.
    Replaced(Vec<usize>),
}

/// Tries to log the deletes as one frame; gives them back unless that is done.
fn append(engine: &Engine, state: &CollectionState, ops: Vec<Op>) -> Result<(Vec<Op>, Tried)> {
    let sequencer = &engine.writer()?.sequencer;
    let records: Vec<Vec<u8>> = ops.iter().map(|op| record_of(state, op)).collect();
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    if !has_room(engine, state.id, records.iter().map(|record| record.len() as u64 + 8).sum())? {
        return Ok((ops, Tried::NoRoom));
    }
    let (frame, replaced) = (Arc::new(ops), RefCell::default());
    let placed = sequencer.submit_nowait(&records, &frame, || check(engine, &frame, &replaced));
    // A sync that covered the append may have come before it was queued.
    sequencer.drain();
    let replaced = replaced.into_inner();
    let tried = match placed {
        Ok(Placed::At(_, last)) => {
            sequencer.acknowledge(last)?;
            return Ok((Vec::new(), Tried::Deleted));
        }
        Ok(Placed::Stale) => Tried::Stale,
        Ok(Placed::NoRoom | Placed::Earlier(..)) => Tried::NoRoom,
        Err(_) if !replaced.is_empty() => Tried::Replaced(replaced),
        Err(error) if matches!(error.kind(), ErrorKind::Full { .. }) => Tried::NoRoom,
        Err(error) => return Err(error),
    };
    Ok((Arc::try_unwrap(frame).expect("what was not queued is nobody else's"), tried))
}

fn record_of(state: &CollectionState, op: &Op) -> Vec<u8> {
    let key = op.id().map(|id| id.key().to_vec()).unwrap_or_default();
    let record = Record {
        op: record::Op::Delete,
        collection: state.id,
        key: &key,
        ..Record::new(state.schema.version)
    };
    let mut bytes = Vec::with_capacity(record.encoded_len());
    record.encode_into(&mut bytes);
    bytes
}

/// Whether a write of so many bytes goes on without waiting.
fn has_room(engine: &Engine, collection: u32, bytes: u64) -> Result<bool> {
    if engine.room(collection, bytes) == Room::SealFirst {
        flush::seal_if_full(engine, engine.writer()?, collection);
    }
    Ok(engine.room(collection, bytes) == Room::Yes)
}

/// Under the sequencer lock: every row has the version that had expired. Whether it has expired by now is not asked: a
/// version never changes, and had its time.
fn check(engine: &Engine, ops: &[Op], replaced: &RefCell<Vec<usize>>) -> Result<Checked> {
    if engine.is_closed() {
        engine.view()?;
    }
    if seeded_bug("purge_ignores_lsn") {
        return Ok(Checked::Holds);
    }
    let applier = engine.writer()?.sequencer.applier();
    let (mut replaced, mut conflict) = (replaced.borrow_mut(), None);
    replaced.clear();
    for (n, op) in ops.iter().enumerate() {
        match op.verdict(applier, i64::MIN)? {
            Verdict::Holds => {}
            Verdict::Stale => {
                replaced.clear();
                return Ok(Checked::Stale);
            }
            Verdict::Differs(newest) => {
                replaced.push(n);
                conflict.get_or_insert_with(|| op.conflict(&newest));
            }
        }
    }
    conflict.map_or(Ok(Checked::Holds), Err)
}
