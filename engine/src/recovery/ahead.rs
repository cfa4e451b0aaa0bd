//! Records of a long log decoded ahead of their turn, on a second thread where there is one.
//!
//! The frames are cut into batches, by the same rule on both sides. Whoever comes to a batch first decodes it: the
//! thread that applies them takes its own, the other one those beyond. It runs ahead of the first by
//! [`MAX_AHEAD_BYTES`] and a frame at most. Where the thread never runs, nothing is decoded ahead.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use akidb_host::{Job, Spawn};
use akidb_wal::Record;

use super::tail::Tail;
use crate::error::Result;
use crate::ops::Op;

/// A batch ends with the first frame at whose end it has so many bytes of records.
const BATCH_BYTES: usize = 32 << 10;
/// Records decoded and not yet applied.
const MAX_AHEAD_BYTES: usize = 1 << 20;

/// Cuts a run of records into batches.
#[derive(Debug, Default)]
pub(super) struct Batches {
    number: u64,
    bytes: usize,
    /// The batch before ended.
    over: bool,
}

impl Batches {
    /// The number of the record's batch.
    pub(super) fn of(&mut self, item: &Record<'_>) -> u64 {
        if std::mem::take(&mut self.over) {
            self.number += 1;
            self.bytes = 0;
        }
        self.bytes += item.bytes.len();
        self.over = self.bytes >= BATCH_BYTES && item.lsn == item.frame_last;
        self.number
    }
}

/// What one batch decoded to: an entry for each of its records at or above the floor, up to the first that failed.
pub(super) type Decoded = std::vec::IntoIter<Result<Op>>;

/// A thread that decodes. Dropping it stops and joins it.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
    job: Option<Box<dyn Job>>,
}

#[derive(Debug)]
struct Shared {
    tail: Arc<Tail>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The first batch that nobody has taken.
    next: u64,
    ready: BTreeMap<u64, (usize, Vec<Result<Op>>)>,
    ready_bytes: usize,
    stop: bool,
    /// The thread is over: what it had taken and not delivered never comes.
    gone: bool,
}

impl Ahead {
    /// Starts the thread; it decodes batches from `next` on.
    pub(super) fn start(tail: &Arc<Tail>, next: u64, spawn: &dyn Spawn) -> Self {
        let state = Mutex::new(State { next, ..State::default() });
        let shared = Arc::new(Shared { tail: Arc::clone(tail), state, changed: Condvar::new() });
        let inside = Gone(Arc::clone(&shared));
        // Without a thread nothing is decoded ahead.
        let job = spawn.job("akidb-replay", Box::new(move || inside.0.run())).ok();
        Self { shared, job }
    }

    /// What batch `number` decoded to; `None`, and then it is the caller's to decode. Waits for the thread if that is at
    /// it.
    pub(super) fn take(&self, number: u64) -> Option<Decoded> {
        let mut state = self.shared.lock();
        if state.next <= number {
            state.next = number + 1;
            return None;
        }
        loop {
            if let Some((bytes, ops)) = state.ready.remove(&number) {
                state.ready_bytes -= bytes;
                self.shared.changed.notify_all();
                return Some(ops.into_iter());
            }
            if state.gone {
                return None;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(job) = self.job.take() {
            job.join();
        }
    }
}

/// Says so when the thread ends, however it does.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.lock().gone = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch that nobody has taken, once there is room for it; `None`: stop.
    fn claim(&self) -> Option<u64> {
        let state = self.lock();
        let full = |state: &mut State| !state.stop && state.ready_bytes >= MAX_AHEAD_BYTES;
        let mut state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        if state.stop {
            return None;
        }
        state.next += 1;
        Some(state.next - 1)
    }

    fn run(&self) {
        let (mut batches, mut mine) = (Batches::default(), None);
        let (mut ops, mut bytes) = (Vec::new(), 0);
        for item in self.tail.records.iter() {
            // Whoever applies the records meets the error in its own time.
            let Ok(item) = item else { break };
            let number = batches.of(&item);
            if mine.is_some_and(|mine| mine < number) {
                self.deliver(mine.take().expect("just looked at"), bytes, std::mem::take(&mut ops));
                bytes = 0;
            }
            if mine.is_none() {
                let Some(claimed) = self.claim() else { return };
                mine = Some(claimed);
            }
            if mine == Some(number) && item.lsn >= self.tail.floor {
                bytes += item.bytes.len();
                ops.push(self.tail.op(&item));
            }
        }
        if let Some(mine) = mine {
            self.deliver(mine, bytes, ops);
        }
    }

    fn deliver(&self, number: u64, bytes: usize, ops: Vec<Result<Op>>) {
        let mut state = self.lock();
        state.ready_bytes += bytes;
        state.ready.insert(number, (bytes, ops));
        self.changed.notify_all();
    }
}
