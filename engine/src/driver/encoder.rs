//! The thread that encodes the rows an open replayed: until it has, searches compare them one by one.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Instant;

use akidb_host::{Next, Tick};

use crate::engine::Engine;
use crate::index::Coding;
use crate::memtable::Memtable;

/// Rows encoded before it looks whether they are still wanted.
const ROWS_AT_ONCE: u32 = 1_024;
/// Fewer rows are compared one by one sooner than a thread is there.
const LEAST_ROWS: u32 = 512;

/// The core of that thread, which ends when it is done. It holds the engine weakly, and memtables too: a dropped database ends
/// it, and a flushed memtable needs no codes.
#[derive(Debug)]
pub(crate) struct Encoder {
    engine: Weak<Engine>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    memtable: Weak<Memtable>,
    coding: Coding,
    /// The first row that has no code.
    next: u32,
}

impl Encoder {
    /// What is to be encoded after a replay; `None` if that is nothing. Those that are flushed last come first.
    pub(crate) fn after_replay(engine: &Arc<Engine>) -> Option<Self> {
        let current = engine.current();
        let collections = current.content().collections.values();
        let waiting: VecDeque<Waiting> = collections
            .filter_map(|state| Some((state, state.coding()?)))
            .flat_map(|(state, coding)| state.memtables().map(move |memtable| (memtable, coding.clone())))
            .filter(|(memtable, _)| memtable.earlier_rows() >= LEAST_ROWS)
            .map(|(memtable, coding)| Waiting { memtable: Arc::downgrade(memtable), coding, next: 0 })
            .collect();
        (!waiting.is_empty()).then(|| Self { engine: Arc::downgrade(engine), waiting })
    }
}

impl Tick for Encoder {
    fn tick(&mut self, now: Instant) -> Next {
        let is_over = self.engine.upgrade().is_none_or(|engine| engine.is_closed());
        let Some(first) = self.waiting.front_mut().filter(|_| !is_over) else { return Next::Done };
        let memtable = first.memtable.upgrade().filter(|memtable| !memtable.is_flushed());
        let rows = memtable.as_ref().map_or(0, |memtable| memtable.earlier_rows());
        let until = (first.next + ROWS_AT_ONCE).min(rows);
        if let Some(memtable) = memtable.filter(|_| first.next < until) {
            memtable.encode_earlier(&first.coding, first.next..until);
        }
        first.next = until;
        if until == rows {
            self.waiting.pop_front();
        }
        Next::At(now)
    }
}
