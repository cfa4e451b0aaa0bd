//! The scan of the codes of a segment: the nearest lists, the rows a filter wants, into the candidates of the search.

use std::cell::Cell;
use std::ops::{AddAssign, Range};
use std::sync::Arc;

use crate::distance::Kernel;
use crate::error::Result;
use crate::expiry::Alive;
use crate::filter_cache::{Matches, block_mask};
use crate::index::{
    Asked, Candidates, CoarseScratch, List, ListScan, Lists, Near, Rotation, Subset, Tail, Thinned, rotate,
};
use crate::memtable::Memtable;
use crate::schema::Metric;
use crate::search::exact::Seen;
use crate::search::plan::{self, Need};
use crate::search::query::Query;
use crate::segment::{Round, Segment, VectorIndex};

/// Slots of a list that are looked at for how many of its rows are shown.
const SAMPLE_SLOTS: usize = 16;

/// So many times the living slots are compared where all others are dead; none more where half of them are.
const MORE_AMONG_DEAD: f32 = 4.0;
/// Where less of a segment lives, lists are looked for as if so much did.
const LEAST_SHARE: f32 = 0.25;

/// Room that a thread keeps from search to search, so that a search allocates nothing that grows.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    rotated: Vec<f32>,
    /// What `rotated` was made under.
    rotation: Option<Arc<Rotation>>,
    norm: f32,
    asked: Asked,
    coarse: CoarseScratch,
    near: Vec<Near>,
    visited: Vec<bool>,
    pub(crate) candidates: Candidates,
}

impl Scratch {
    /// Begins a search for the k nearest, `k` rows as near as `known` being known already.
    pub(crate) fn begin(&mut self, k: usize, width: f32, known: f32) {
        self.rotation = None;
        self.candidates.begin(k, width, known);
    }

    fn rotate(&mut self, kernel: Kernel, metric: Metric, rotation: &Arc<Rotation>, vector: &[f32]) {
        if self.rotation.as_ref().is_none_or(|rotated| !Arc::ptr_eq(rotated, rotation)) {
            self.rotated.resize(rotation.coded(), 0.0);
            self.norm = rotate(kernel, metric, rotation, vector, &mut self.rotated);
            self.rotation = Some(Arc::clone(rotation));
        }
    }
}

/// What a scan did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) slots: u64,
    pub(crate) lists: u64,
    pub(crate) bytes: u64,
}

impl AddAssign for Scanned {
    fn add_assign(&mut self, more: Self) {
        self.slots += more.slots;
        self.lists += more.lists;
        self.bytes += more.bytes;
    }
}

/// A segment and what is asked of it.
pub(crate) struct Part<'a> {
    /// Its position among the state's segments.
    pub(crate) source: u32,
    pub(crate) alive: &'a Alive<'a>,
    pub(crate) index: &'a VectorIndex,
    pub(crate) matches: Option<&'a Matches>,
    /// The lists with the rows of `matches` only.
    pub(crate) thinned: Option<&'a Thinned>,
}

/// The rows of a segment that a filter takes, which have codes of their own.
pub(crate) struct SubsetPart<'a> {
    /// The segment's position among the state's.
    pub(crate) source: u32,
    pub(crate) alive: &'a Alive<'a>,
    pub(crate) rotation: &'a Arc<Rotation>,
    pub(crate) codes: &'a Subset,
}

impl SubsetPart<'_> {
    /// Scans all codes.
    pub(crate) fn scan(
        &self,
        kernel: Kernel,
        metric: Metric,
        query: &Query,
        scratch: &mut Scratch,
    ) -> Scanned {
        scratch.rotate(kernel, metric, self.rotation, &query.vector);
        let lists = self.codes.lists();
        lists.ask(kernel, &scratch.rotated, scratch.norm, &mut scratch.asked);
        let Scratch { asked, candidates, .. } = scratch;
        let scan = self.codes.scan(asked, self.source);
        let alive = |row: u32| self.alive.shows(row);
        let slots = scan.run(kernel, &asked.probe, lists.nibbles(), |_| u32::MAX, alive, candidates);
        Scanned { slots: u64::from(slots), lists: 1, bytes: scan.blocks.len() as u64 }
    }
}

impl Part<'_> {
    /// The lists that hold `slots` slots, nearest first.
    pub(super) fn near<'s>(
        &self,
        kernel: Kernel,
        metric: Metric,
        query: &Query,
        slots: u32,
        scratch: &'s mut Scratch,
    ) -> &'s [Near] {
        let lists = &self.index.lists;
        scratch.rotate(kernel, metric, &self.index.rotation, &query.vector);
        lists.ask(kernel, &scratch.rotated, scratch.norm, &mut scratch.asked);
        lists.nearest(kernel, &scratch.asked, slots, &mut scratch.coarse, &mut scratch.near);
        &scratch.near
    }

    /// The slots to compare: more where rows in them have expired and are not deleted yet.
    #[expect(clippy::cast_precision_loss, reason = "a budget")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    pub(super) fn slots(&self, query: &Query) -> u32 {
        let slots = plan::slots(query.accuracy, query.k, &self.index.lists);
        let share = self.alive.share_shown(self.matches);
        if share < 1.0 { (slots as f32 / share) as u32 } else { slots }
    }

    /// The slots that hold so many of rows that are not deleted, if these lay evenly.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    pub(super) fn with_dead(&self, slots: u32) -> u32 {
        if self.matches.is_some() || !self.alive.hides_any() {
            return slots;
        }
        let share = self.alive.living() as f32 / self.index.lists.rows.max(1) as f32;
        (slots as f32 / share.max(LEAST_SHARE)) as u32
    }

    /// Scans the nearest lists until enough slots were compared.
    #[expect(clippy::cast_precision_loss, reason = "shares")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    pub(crate) fn scan(
        &self,
        kernel: Kernel,
        metric: Metric,
        query: &Query,
        scratch: &mut Scratch,
    ) -> Result<Scanned> {
        let lists = &self.index.lists;
        scratch.rotate(kernel, metric, &self.index.rotation, &query.vector);
        lists.ask(kernel, &scratch.rotated, scratch.norm, &mut scratch.asked);
        // Dead rows match as they did when they lived, and what is looked for is not among them: only living ones count as compared.
        let matched = self.matches.map_or(lists.rows, |matches| matches.count);
        let alive = self.matches.map_or(lists.rows, |matches| self.alive.matching(matches));
        let share_alive = alive as f32 / matched.max(1) as f32;
        let mut held = None;
        let slot_rows = || {
            // A row may have two slots.
            held = self.alive.segment().reading(8 * u64::from(lists.rows));
            self.alive.segment().slot_rows(lists)
        };
        // There is nothing else in lists that are thinned.
        let matches = self.matches.filter(|_| self.thinned.is_none());
        let masks = matches.map(|matches| matches.slots(slot_rows)).transpose()?;
        drop(held);
        let concentration =
            self.matches.map_or(1.0, |matches| matches.concentration(|| self.concentration(masks)));
        // Without a filter each list says how much of it is shown.
        let budget = match self.matches {
            None => plan::slots(query.accuracy, query.k, lists),
            Some(_) => self.slots(query),
        };
        let need = Need::new(budget, lists.rows, matched, concentration);
        let (mut scanned, mut living) = (Scanned::default(), 0.0);
        scratch.visited.clear();
        scratch.visited.resize(lists.lists.len(), false);
        let mut slots = self.with_dead(need.slots()).max(1);
        let mut is_first = true;
        loop {
            lists.nearest(kernel, &scratch.asked, slots, &mut scratch.coarse, &mut scratch.near);
            if !std::mem::take(&mut is_first) {
                fetch_more(self.alive.segment(), lists, &scratch.near, &scratch.visited)?;
            }
            for at in 0..scratch.near.len() {
                let near = scratch.near[at];
                if std::mem::replace(&mut scratch.visited[near.list as usize], true) {
                    continue;
                }
                query.go_on()?;
                let before = scanned.slots;
                let share = self.scan_list(kernel, at, masks, scratch, &mut scanned)?.unwrap_or(share_alive);
                living += (scanned.slots - before) as f32 * share;
                // Asked where nearly all is dead: what lives is far, and spread over more lists than around a row.
                let lives = living / scanned.slots.max(1) as f32;
                let dead = if self.matches.is_none() { 1.0 - lives } else { 0.0 };
                let more = 1.0 + (MORE_AMONG_DEAD - 1.0) * (2.0 * dead - 1.0).max(0.0);
                if need.is_met((living / more) as u64) {
                    return Ok(scanned);
                }
            }
            if slots == u32::MAX {
                return Ok(scanned);
            }
            // The lists nearby held fewer matching rows than a fair share.
            slots = slots.saturating_mul(4);
        }
    }

    /// The share of slots that match in the list of a matching row, on average.
    fn concentration(&self, masks: Option<&[u64]>) -> f32 {
        let (mut squares, mut all) = (0.0f64, 0.0f64);
        for (n, (list, first)) in self.index.lists.lists.iter().zip(&self.index.first_blocks).enumerate() {
            let matching: u32 = match (self.thinned, masks) {
                (Some(thinned), _) => thinned.slots(n),
                (None, Some(masks)) => {
                    let blocks = *first as usize..(*first + list.blocks) as usize;
                    blocks.map(|block| block_mask(masks, block).count_ones()).sum()
                }
                (None, None) => list.len(),
            };
            squares += f64::from(matching).powi(2) / f64::from(list.len().max(1));
            all += f64::from(matching);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a share")]
        let share = (squares / all.max(1.0)) as f32;
        share
    }

    /// The codes of a list that will be scanned, if they are here. What is wrong with them is told when they are.
    fn soon(&self, list: u32) -> &[u8] {
        let (segment, lists) = (self.alive.segment(), &self.index.lists);
        if let Some(thinned) = self.thinned {
            return thinned.list(lists, list as usize).1;
        }
        if segment.is_cold() {
            return &[];
        }
        segment.list_codes(lists, &lists.lists[list as usize]).unwrap_or(&[])
    }

    /// A list and its codes.
    fn list(&self, n: usize) -> Result<(&List, &[u8])> {
        let lists = &self.index.lists;
        if let Some(thinned) = self.thinned {
            return Ok(thinned.list(lists, n));
        }
        let list = &lists.lists[n];
        Ok((list, self.alive.segment().list_codes(lists, list)?))
    }

    /// Scans the list at this place among the nearest. Gives the share of its rows that the view shows, where that may differ from
    /// list to list: deleted rows often are near to each other, and what is looked for is not among them.
    fn scan_list(
        &self,
        kernel: Kernel,
        at: usize,
        masks: Option<&[u64]>,
        scratch: &mut Scratch,
        scanned: &mut Scanned,
    ) -> Result<Option<f32>> {
        let near = scratch.near[at];
        let (lists, list) = (&self.index.lists, near.list as usize);
        scanned.lists += 1;
        let first = self.index.first_blocks[list] as usize;
        let mask = |masks: &[u64], block: usize| block_mask(masks, first + block);
        let blocks = lists.lists[list].blocks as usize;
        if masks.is_some_and(|masks| (0..blocks).all(|block| mask(masks, block) == 0)) {
            return Ok(None);
        }
        let (list, bytes) = self.list(list)?;
        scanned.bytes += bytes.len() as u64;
        let soon = scratch.near.get(at + 1).map_or(&[][..], |next| self.soon(next.list));
        let scan = ListScan { soon, ..lists.scan_of(&scratch.asked, near, list, bytes, self.source) };
        let (probe, nibbles, candidates) = (&scratch.asked.probe, lists.nibbles(), &mut scratch.candidates);
        let rows = lists.rows;
        let refused = Cell::new(false);
        let alive = |row: u32| {
            let shows = row < rows && self.alive.shows(row);
            refused.set(refused.get() || !shows);
            shows
        };
        let compared = match masks {
            None => scan.run(kernel, probe, nibbles, |_| u32::MAX, alive, candidates),
            Some(masks) => scan.run(kernel, probe, nibbles, |block| mask(masks, block), alive, candidates),
        };
        scanned.slots += u64::from(compared);
        // Where none of its nearest rows is dead, few of the others are.
        let is_uneven = self.matches.is_none() && refused.get();
        Ok(is_uneven.then(|| self.share_shown(lists.row_numbers(list, bytes).unwrap_or(&[]), list.len())))
    }

    /// The share of the rows of a list that the view shows, as some of them do.
    #[expect(clippy::cast_precision_loss, reason = "some rows")]
    fn share_shown(&self, row_numbers: &[u8], len: u32) -> f32 {
        let numbers = row_numbers.as_chunks::<4>().0;
        let numbers = &numbers[..numbers.len().min(len as usize)];
        let looked = numbers.iter().step_by(numbers.len().div_ceil(SAMPLE_SLOTS).max(1));
        let (mut shown, mut of) = (0, 0);
        for number in looked {
            let row = u32::from_le_bytes(*number);
            shown += u32::from(row < self.index.lists.rows && self.alive.shows(row));
            of += 1;
        }
        if of == 0 { 1.0 } else { shown as f32 / of as f32 }
    }
}

/// Fetches the codes of the lists of `near` that were not `visited`, of a segment on a backend: the first ones held too few rows.
fn fetch_more(segment: &Segment, lists: &Lists, near: &[Near], visited: &[bool]) -> Result<()> {
    if !segment.is_cold() {
        return Ok(());
    }
    let mut round = Round::default();
    let more = near.iter().filter(|near| !visited[near.list as usize]);
    round.lists(segment, lists, more.map(|near| lists.lists[near.list as usize]));
    round.fetch()
}

/// The coded rows of a memtable and what is asked of them.
pub(crate) struct TailPart<'a> {
    pub(crate) source: u32,
    pub(crate) memtable: &'a Memtable,
    pub(crate) tail: &'a Tail,
    /// The rows with codes, as they were when the others were looked at.
    pub(crate) rows: Range<u32>,
    pub(crate) seen: Seen<'a>,
}

impl TailPart<'_> {
    /// Scans all codes.
    pub(crate) fn scan(
        &self,
        kernel: Kernel,
        metric: Metric,
        query: &Query,
        scratch: &mut Scratch,
    ) -> Scanned {
        let mut scanned = Scanned { lists: 1, ..Scanned::default() };
        let Some(shape) = self.tail.shape() else { return scanned };
        scratch.rotate(kernel, metric, self.tail.rotation(), &query.vector);
        shape.ask(kernel, &scratch.rotated, scratch.norm, &mut scratch.asked);
        let Scratch { asked, candidates, .. } = scratch;
        for scan in self.tail.scans(asked, self.rows.clone(), self.source) {
            let alive = |row: u32| self.seen.matches(self.memtable.slot(row));
            let slots = scan.run(kernel, &asked.probe, shape.nibbles(), |_| u32::MAX, alive, candidates);
            scanned.slots += u64::from(slots);
            scanned.bytes += scan.blocks.len() as u64;
        }
        scanned
    }
}
