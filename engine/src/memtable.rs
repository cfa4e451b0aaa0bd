//! Fresh rows: append-only slots that never move, an id map to the newest slot of an id, and when each was hidden.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::id::{Id, Marked};
use crate::index::{Coding, Tail};
use crate::lsn::Lsn;
use crate::memory_budget::{Account, Charge, MemoryUse};
use crate::row::Row;
use crate::slots::{self, Slots};

#[cfg(test)]
mod full_tests;
mod newest;

use newest::Newest;

/// Rows that a memtable holds at most, dead ones included: more than any one write has.
pub(crate) const MAX_SLOTS: usize = slots::MAX_SLOTS;
/// Writers seal it where one part in so many is left.
const SPARE_SHARE: usize = 32;
const NO_SLOT: u32 = u32::MAX;
/// What a slot costs beside its row's own bytes: slot, map entry, allocation headers.
const SLOT_OVERHEAD_BYTES: u64 = 160;
/// Of these the slot, which is counted when room is made for it.
const SLOT_BYTES: u64 = size_of::<OnceLock<Slot>>() as u64;

/// One version of a row. It lives at L iff `lsn <= L < hidden_at`.
#[derive(Debug)]
pub(crate) struct Slot {
    lsn: Lsn,
    row: Arc<Row>,
    hidden_at: AtomicU64,
    previous: u32,
}

impl Slot {
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }

    pub(crate) fn row(&self) -> &Arc<Row> {
        &self.row
    }

    pub(crate) fn hidden_at(&self) -> Lsn {
        Lsn::from_u64(self.hidden_at.load(Ordering::Acquire)).unwrap_or(Lsn::MAX)
    }

    pub(crate) fn lives_at(&self, lsn: Lsn) -> bool {
        self.lsn <= lsn && lsn < self.hidden_at()
    }
}

/// Slots in the order of their LSNs. One thread at a time appends and hides (the holder of the apply lock); any
/// number read. A slot is written once, then published by `len`: no reader meets a half-written one.
pub(crate) struct Memtable {
    slots: Slots<Slot>,
    len: AtomicU32,
    newest: RwLock<Newest>,
    bytes: AtomicU64,
    /// LSN of the first operation since this memtable became the active one, deletes included; 0 = none.
    first_op: AtomicU64,
    /// How rows are encoded, and the first that is encoded as it comes.
    coding: OnceLock<(Coding, u32)>,
    /// Codes of the rows inserted since they were begun, from the first such row on.
    codes: OnceLock<Box<Tail>>,
    /// Codes of the rows that were there before.
    earlier_codes: OnceLock<Box<Tail>>,
    /// `bytes`, and what encoding takes beside them, held of the budget.
    charge: Charge,
    /// [`MAX_SLOTS`], fewer in tests.
    most: usize,
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memtable")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl Memtable {
    /// An empty memtable, whose rows are held of this account.
    pub(crate) fn new(memory: &Account) -> Self {
        Self {
            slots: Slots::default(),
            len: AtomicU32::new(0),
            newest: RwLock::default(),
            bytes: AtomicU64::new(0),
            first_op: AtomicU64::new(0),
            coding: OnceLock::new(),
            codes: OnceLock::new(),
            earlier_codes: OnceLock::new(),
            charge: memory.charge(MemoryUse::Memtables, 0),
            most: most_slots(),
        }
    }

    /// Whose rows are held.
    pub(crate) fn account(&self) -> &Account {
        self.charge.account()
    }

    /// The next one of its collection, empty.
    pub(crate) fn next(&self) -> Self {
        Self { most: self.most, ..Self::new(self.account()) }
    }

    /// Its rows are in a segment: from now on it is in memory for the sake of those who read it.
    pub(crate) fn note_flushed(&self) {
        self.charge.move_to(MemoryUse::Snapshots);
    }

    /// Whether its rows are in a segment.
    pub(crate) fn is_flushed(&self) -> bool {
        self.charge.is_of(MemoryUse::Snapshots)
    }

    /// Encodes the rows inserted from now on. Apply lock.
    pub(crate) fn begin_codes(&self, coding: Option<Coding>) {
        if let Some(coding) = coding {
            self.coding.get_or_init(|| (coding, self.len()));
        }
    }

    /// The rows that [`Memtable::begin_codes`] came too late for; all, where nothing is inserted any more and it never came.
    pub(crate) fn earlier_rows(&self) -> u32 {
        self.coding.get().map_or_else(|| self.len(), |(_, start)| *start)
    }

    /// Encodes some of the rows in `0..earlier_rows()`, beside those that insert, hide and read. One thread at a time, from the
    /// first row on and leaving none out.
    pub(crate) fn encode_earlier(&self, coding: &Coding, rows: Range<u32>) {
        let codes = self.codes_in(&self.earlier_codes, coding, 0);
        self.hold(codes.row_bytes() * u64::from(rows.end - rows.start));
        rows.for_each(|at| self.encode(codes, &self.slot(at).row().vector));
    }

    fn codes_in<'a>(&self, place: &'a OnceLock<Box<Tail>>, coding: &Coding, start: u32) -> &'a Tail {
        place.get_or_init(|| {
            let codes = Box::new(Tail::new(coding.clone(), start));
            self.charge.grow(codes.bytes_beside_rows());
            codes
        })
    }

    fn encode(&self, codes: &Tail, vector: &[f32]) {
        let before = codes.bytes_beside_rows();
        codes.push(vector);
        let after = codes.bytes_beside_rows();
        if after > before {
            self.charge.grow(after - before);
        } else if after < before {
            self.charge.shrink(before - after);
        }
    }

    fn hold(&self, bytes: u64) {
        self.charge.grow(bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Codes of rows, each with the rows that have them by now, in the order of the rows.
    pub(crate) fn codes(&self) -> impl Iterator<Item = (&Tail, Range<u32>)> {
        let both = [self.earlier_codes.get(), self.codes.get()];
        both.into_iter().flatten().map(|codes| (&**codes, codes.coded()))
    }

    /// Slots, dead ones included.
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    /// Bytes of its rows, estimated: what says how full it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes held: these, and what encoding them takes for a while.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// Whether writers seal it for its rows; it is sealed long before, by its bytes, unless those are tiny.
    pub(crate) fn is_full(&self) -> bool {
        self.len() as usize + self.most / SPARE_SHARE >= self.most
    }

    /// Whether so many more rows find room.
    pub(crate) fn has_room_for(&self, rows: usize) -> bool {
        self.len() as usize + rows <= self.most
    }

    /// How rows are encoded as they come, if they are.
    pub(crate) fn coding(&self) -> Option<&Coding> {
        self.coding.get().map(|(coding, _)| coding)
    }

    /// LSN of the first operation applied while this was the active memtable.
    pub(crate) fn first_op(&self) -> Option<Lsn> {
        Lsn::from_u64(self.first_op.load(Ordering::Acquire)).filter(|lsn| *lsn != Lsn::ZERO)
    }

    /// Remembers that `lsn` changed this collection while this memtable was the active one. Apply lock.
    pub(crate) fn note_op(&self, lsn: Lsn) {
        if self.first_op.load(Ordering::Relaxed) == 0 {
            self.first_op.store(lsn.as_u64(), Ordering::Release);
        }
    }

    /// Appends the newest version of its id, which has this mark. Apply lock.
    ///
    /// # Panics
    /// If the memtable is full: whoever applies a frame asks [`Memtable::has_room_for`] first.
    pub(crate) fn insert(&self, lsn: Lsn, row: Arc<Row>, mark: u64) {
        let at = self.len.load(Ordering::Relaxed);
        assert!((at as usize) < self.most, "a memtable of {at} rows has no room for another");
        let mut room = self.slots.make_room(at as usize);
        if at == 0 {
            room += size_of::<Self>() as u64;
        }
        let codes = self.coding.get().map(|(coding, start)| self.codes_in(&self.codes, coding, *start));
        self.hold(room + bytes_of(&row) - SLOT_BYTES + codes.map_or(0, Tail::row_bytes));
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        let id = Marked { id: &row.id, mark };
        let previous = newest.insert(id, at, |slot| &self.slot(slot).row.id).unwrap_or(NO_SLOT);
        let vector = Arc::clone(&row.vector);
        self.slots
            .put(at as usize, Slot { lsn, row, hidden_at: AtomicU64::new(Lsn::MAX.as_u64()), previous });
        self.len.store(at + 1, Ordering::Release);
        drop(newest);
        if let Some(codes) = codes {
            self.encode(codes, &vector);
        }
    }

    /// Hides the newest version of `id` from `at` on. `Some(true)` if a live one was hidden, `Some(false)` if the
    /// id is here but already dead (so no live copy is anywhere older), `None` if it is not here. Apply lock.
    pub(crate) fn hide<'a>(&self, id: impl Into<Marked<'a>>, at: Lsn) -> Option<bool> {
        let newest = self.newest_of(id.into())?;
        let slot = self.slot(newest);
        if slot.hidden_at() != Lsn::MAX {
            return Some(false);
        }
        slot.hidden_at.store(at.as_u64(), Ordering::Release);
        Some(true)
    }

    /// What this memtable says of `id` at `lsn`: a live row, `Some(None)` for "known here, not alive", or `None`
    /// for "look in older places".
    pub(crate) fn get(&self, id: &Id, lsn: Lsn) -> Option<Option<&Slot>> {
        let mut at = self.newest_of(id.into())?;
        let mut known = false;
        loop {
            let slot = self.slot(at);
            if slot.lives_at(lsn) {
                return Some(Some(slot));
            }
            // A version from after `lsn` says nothing of what lived at `lsn`; one from before does.
            known |= slot.lsn <= lsn;
            if slot.previous == NO_SLOT {
                return known.then_some(None);
            }
            at = slot.previous;
        }
    }

    /// The newest version of `id` here, dead or alive, whether or not it is visible yet.
    pub(crate) fn newest(&self, id: &Id) -> Option<&Slot> {
        self.newest_of(id.into()).map(|at| self.slot(at))
    }

    /// Whether a version of `id` is here, dead or alive: then no older place has a live one.
    pub(crate) fn knows<'a>(&self, id: impl Into<Marked<'a>>) -> bool {
        self.newest_of(id.into()).is_some()
    }

    /// All slots in LSN order, dead ones included.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0..self.len()).map(|at| (at, self.slot(at)))
    }

    /// The slot at a position below [`Memtable::len`].
    pub(crate) fn slot(&self, at: u32) -> &Slot {
        self.slots.get(at as usize).expect("slots below len are written")
    }

    fn newest_of(&self, id: Marked<'_>) -> Option<u32> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.get(id, |slot| &self.slot(slot).row.id)
    }
}

#[cfg(not(test))]
fn most_slots() -> usize {
    MAX_SLOTS
}

#[cfg(test)]
fn most_slots() -> usize {
    full_tests::MOST_SLOTS.get()
}

/// What a row takes here, beside its codes.
pub(crate) fn bytes_of(row: &Row) -> u64 {
    4 * row.vector.len() as u64 + row.bytes_beside_vector() + SLOT_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Bits, Rotation};
    use crate::memory_budget::MemoryBudget;
    use crate::schema::Metric;

    fn row(id: &str) -> Arc<Row> {
        Arc::new(Row { id: id.into(), vector: Arc::from([1.0f32]), fields: Box::default(), rest: None })
    }

    fn lsn(n: u64) -> Lsn {
        Lsn::new(1, n)
    }

    #[test]
    fn a_row_lives_from_its_lsn_until_it_is_hidden() {
        let table = Memtable::new(&MemoryBudget::new(0).account());
        let insert = |n, row: Arc<Row>| table.insert(lsn(n), Arc::clone(&row), row.id.mark());
        let hide = |id: &str, at| table.hide(&Id::from(id), at);
        insert(1, row("a"));
        assert_eq!(hide("a", lsn(3)), Some(true));
        insert(3, row("a"));
        assert_eq!(hide("b", lsn(4)), None);
        assert_eq!(hide("a", lsn(5)), Some(true));
        assert_eq!(hide("a", lsn(6)), Some(false));
        let at = |n| table.get(&"a".into(), lsn(n)).map(|slot| slot.map(|slot| slot.lsn().counter()));
        assert_eq!(at(0), None);
        assert_eq!(at(1), Some(Some(1)));
        assert_eq!(at(2), Some(Some(1)));
        assert_eq!(at(3), Some(Some(3)));
        assert_eq!(at(5), Some(None));
    }

    #[test]
    fn what_it_takes_is_held_from_the_first_row_on_and_is_little_while_there_are_few() {
        let budget = MemoryBudget::new(0);
        let table = Memtable::new(&budget.account());
        assert_eq!((table.bytes(), budget.used_bytes()), (0, 0));
        assert!(size_of::<Memtable>() < 1_024, "{}", size_of::<Memtable>());
        let rotation = Arc::new(Rotation::new(64, 7));
        table.begin_codes(Some(Coding { metric: Metric::L2, dim: 64, bits: Bits::One, rotation }));
        assert_eq!((table.bytes(), table.earlier_rows()), (0, 0), "nothing for what is not there");
        let mut most_waiting = 0;
        for n in 0..400u64 {
            let vector = (0..64u16).map(|i| f32::from(i) + n as f32).collect();
            let row = Row { id: n.to_string().into(), vector, fields: Box::default(), rest: None };
            let (row, rows) = (Arc::new(row), n + 1);
            let bytes = table.held_bytes();
            table.insert(lsn(rows), Arc::clone(&row), row.id.mark());
            assert_eq!(table.held_bytes(), budget.used_bytes());
            assert!(table.bytes() <= table.held_bytes());
            let of_rows = rows * (bytes_of(&row) - SLOT_BYTES);
            match n {
                0 => assert!((2_048..8_192).contains(&table.held_bytes()), "{}", table.held_bytes()),
                // The copies of the rows that wait for their centre.
                1..255 => assert!(table.held_bytes() > of_rows + rows * (SLOT_BYTES + 4 * 64)),
                255 => assert!(table.held_bytes() < bytes, "they are gone"),
                _ => assert!(table.held_bytes() > of_rows + rows * SLOT_BYTES),
            }
            most_waiting = most_waiting.max(table.held_bytes() - of_rows);
        }
        assert!(most_waiting < 256 * 4 * 64 + 32_768, "{most_waiting}");
        drop(table);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn slots_cross_chunks_and_keep_their_order() {
        let table = Memtable::new(&MemoryBudget::new(0).account());
        for n in 0..3_000u64 {
            table.note_op(lsn(n + 1));
            let row = row(&n.to_string());
            table.insert(lsn(n + 1), Arc::clone(&row), row.id.mark());
        }
        assert_eq!(table.len(), 3_000);
        assert!(table.slots().all(|(at, slot)| slot.lsn().counter() == u64::from(at) + 1));
        assert_eq!(table.first_op(), Some(lsn(1)));
    }
}
