//! A search under way: memtables, then segments from the largest on, then the exact comparison of what they gave.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use akidb_host::{Clock, RealClock};

use crate::catalog::{Catalog, CollectionState};
use crate::distance::{Kernel, Scorer};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Alive, Expiry};
use crate::filter::Bound;
use crate::filter_cache::{Matches, OwnCodes};
use crate::index::{ByteCodes, Exact, Tail, can_code, rerank, width};
use crate::memtable::Memtable;
use crate::search::ahead;
use crate::search::codes::{Part, Scanned, Scratch, SubsetPart, TailPart};
use crate::search::exact::{self, Seen};
use crate::search::explain::{Explained, PartExplained, PartKind};
use crate::search::found::{self, At, Scored};
use crate::search::micros;
use crate::search::plan;
use crate::search::query::{Accuracy, Query};
use crate::topk::TopK;
use crate::version::View;

pub(super) struct Run<'a> {
    view: &'a View<Catalog>,
    state: &'a CollectionState,
    /// What the view shows of each segment.
    alive: &'a [Alive<'a>],
    query: &'a Query,
    bound: Option<&'a Bound>,
    scratch: &'a mut Scratch,
    kernel: Kernel,
    scorer: Scorer,
    /// Whether codes can say anything of this query.
    codable: bool,
    memtables: Vec<&'a Arc<Memtable>>,
    /// Rows with their exact scores.
    best: Vec<Scored>,
    /// What is to be searched by codes.
    by_codes: Vec<ByCodes<'a>>,
    explained: Explained,
    /// Whether this search has made codes for a filter: one segment's are enough for one search.
    made_codes: bool,
    lap: Instant,
}

/// A memtable or segment whose codes are scanned.
struct ByCodes<'a> {
    place: Place<'a>,
    /// Where `explained` has it.
    part: usize,
}

enum Place<'a> {
    /// Position among the memtables, and its rows with codes.
    Memtable(usize, Vec<(&'a Tail, Range<u32>)>),
    /// Position among the segments, the rows the filter takes, and their own codes if they have any.
    Segment(usize, Option<Arc<Matches>>, Option<OwnCodes>),
}

impl<'a> Run<'a> {
    pub(super) fn new(
        view: &'a View<Catalog>,
        state: &'a CollectionState,
        alive: &'a [Alive<'a>],
        query: &'a Query,
        bound: Option<&'a Bound>,
        scratch: &'a mut Scratch,
    ) -> Self {
        let kernel = Kernel::best();
        Self {
            view,
            state,
            alive,
            query,
            bound,
            scratch,
            kernel,
            scorer: Scorer::new(state.schema.metric, &query.vector),
            codable: can_code(kernel, state.schema.metric, &query.vector),
            memtables: state.memtables().collect(),
            best: Vec::new(),
            by_codes: Vec::new(),
            explained: Explained::default(),
            made_codes: false,
            lap: RealClock.now(),
        }
    }

    /// The best rows, k and what ties with the last.
    pub(super) fn finish(mut self) -> Result<(Vec<Scored>, Explained)> {
        {
            let _span = tracing::debug_span!("scan").entered();
            self.plan_memtables()?;
            self.plan_segments()?;
            self.scan_codes()?;
        }
        self.explained.scan_us = self.lap().saturating_sub(self.explained.filter_us);
        if self.rerank()? {
            self.scan_exactly()?;
        }
        found::keep_best(&mut self.best, self.query.k);
        self.explained.rerank_us = self.lap();
        self.explained.exact = self.explained.parts.iter().all(|part| part.exact);
        if let Accuracy::Recall(recall) = self.query.accuracy {
            self.explained.recall = Some(recall);
        }
        Ok((self.best, self.explained))
    }

    /// Microseconds since the last lap.
    fn lap(&mut self) -> u64 {
        let now = RealClock.now();
        micros(now.saturating_duration_since(std::mem::replace(&mut self.lap, now)))
    }

    fn seen(&self) -> Seen<'a> {
        let (view, state) = (self.view, self.state);
        Seen { state, lsn: view.lsn(), expiry: Expiry::of(view, state), bound: self.bound, k: self.query.k }
    }

    /// Scores the rows of memtables that have no codes; the others wait.
    fn plan_memtables(&mut self) -> Result<()> {
        let seen = self.seen();
        for at in 0..self.memtables.len() {
            self.query.go_on()?;
            let memtable = self.memtables[at];
            let len = memtable.len();
            if len == 0 {
                continue;
            }
            let mut coded: Vec<_> = memtable.codes().collect();
            let coded_rows = coded.iter().map(|(_, rows)| rows.end - rows.start).sum();
            let by_codes = self.codable
                && plan::scans_codes(self.query.accuracy, self.query.k, coded_rows, coded_rows, false);
            if !by_codes {
                coded.clear();
            }
            let mut scored = 0;
            let ends = coded.iter().map(|(_, rows)| rows.end);
            let starts = coded.iter().map(|(_, rows)| rows.start);
            for (from, to) in std::iter::once(0).chain(ends).zip(starts.chain([len])) {
                scored += exact::memtable(from..to, memtable, &seen, &self.scorer, &mut self.best);
            }
            self.explained.parts.push(PartExplained {
                matched: scored,
                scanned: scored,
                bytes: scored * 4 * self.scorer.dim() as u64,
                ..PartExplained::new(PartKind::Memtable, String::new(), len)
            });
            if by_codes {
                let place = Place::Memtable(at, coded);
                self.by_codes.push(ByCodes { place, part: self.explained.parts.len() - 1 });
            }
        }
        Ok(())
    }

    /// Evaluates the filter and searches at once what is searched exactly; the rest waits, the largest first.
    fn plan_segments(&mut self) -> Result<()> {
        let (state, filters) = (self.state, &self.view.content().filters);
        ahead::filter(state, self.bound, self.codable && self.query.accuracy != Accuracy::Exact)?;
        let mut order: Vec<usize> = (0..state.segments.len()).collect();
        order.sort_by_key(|n| std::cmp::Reverse(state.segments[*n].segment.rows()));
        let mut waiting = Vec::new();
        for n in order {
            self.query.go_on()?;
            let segment = &state.segments[n].segment;
            let started = RealClock.now();
            let matches =
                self.bound.map(|bound| filters.matching(segment, &state.schema, bound)).transpose()?;
            if matches.is_some() {
                self.explained.filter_us += micros(RealClock.now().saturating_duration_since(started));
            }
            let matched = matches.as_ref().map_or(segment.rows(), |matches| matches.count);
            let living = || self.alive[n].living();
            let alive = matches.as_ref().map_or_else(living, |matches| self.alive[n].matching(matches));
            // Of a segment that is mostly dead the few that live are compared, as those of a filter are.
            let filtered = matches.is_some() || alive < segment.rows() / 2;
            let (accuracy, k) = (self.query.accuracy, self.query.k);
            let own_codes = self.own_codes(n, matches.as_deref(), alive);
            let by_codes = self.codable
                && (own_codes.is_some() || plan::scans_codes(accuracy, k, segment.rows(), alive, filtered));
            let index = if by_codes { segment.vector_index() } else { None };
            let part = self.explained.parts.len();
            self.explained.parts.push(PartExplained {
                matched: u64::from(matched),
                pruned: matches.as_ref().is_some_and(|matches| matches.pruned),
                damaged_index: by_codes && index.is_none() && segment.meta().head.is_some(),
                ..PartExplained::new(PartKind::Exact, segment.meta().file.clone(), segment.rows())
            });
            if index.is_some() {
                waiting.push(ByCodes { place: Place::Segment(n, matches, own_codes), part });
            } else if alive > 0 {
                self.score_segment(n, matches.as_deref(), part)?;
            }
        }
        // The largest segments give the tightest threshold to what comes after them.
        waiting.append(&mut self.by_codes);
        self.by_codes = waiting;
        Ok(())
    }

    /// The own codes of the rows a filter takes of segment `n`, made now if it is time and none were made yet by this
    /// search.
    fn own_codes(&mut self, n: usize, matches: Option<&Matches>, alive: u32) -> Option<OwnCodes> {
        let (matches, bound) = (matches?, self.bound?);
        let segment = &self.state.segments[n].segment;
        // On a backend all vectors of the filter's rows would have to be fetched.
        if !self.codable || segment.is_cold() {
            return None;
        }
        let Query { accuracy, k, .. } = *self.query;
        let kind = plan::own_codes(accuracy, k, segment.rows(), (matches.count, alive))?;
        let filters = &self.view.content().filters;
        let kept = filters.own_codes(segment, &self.state.schema, bound);
        if kept.is_none() && !std::mem::replace(&mut self.made_codes, true) {
            self.made_codes = matches.is_due(kind);
            if self.made_codes {
                let made = filters.make_codes(segment, &self.state.schema, bound, matches, kind);
                matches.were_made();
                return made;
            }
        }
        kept
    }

    /// Codes that prove which of the rows a filter takes of segment `n` are not among the best, made now if it is time and none
    /// were made yet by this search. Who will be served by codes that find takes them if they are there.
    fn byte_codes(&mut self, n: usize, matches: Option<&Matches>) -> Option<Arc<ByteCodes>> {
        let (matches, bound) = (matches?, self.bound?);
        let segment = &self.state.segments[n].segment;
        let Query { accuracy, k, .. } = *self.query;
        let (rows, matched) = (segment.rows(), (matches.count, self.alive[n].matching(matches)));
        // On a backend all vectors of the filter's rows would have to be fetched.
        if segment.is_cold() || !plan::byte_codes(self.scorer.dim(), k, rows, matched) {
            return None;
        }
        let (filters, schema) = (&self.view.content().filters, &self.state.schema);
        let kept = filters.byte_codes(segment, schema, bound);
        let will_be_found = self.codable && plan::own_codes(accuracy, k, rows, matched).is_some();
        if kept.is_none() && !will_be_found && !self.made_codes && matches.byte_codes_are_due() {
            self.made_codes = true;
            let made = filters.make_byte_codes(segment, schema, bound, matches);
            matches.byte_codes_were_made();
            return made;
        }
        kept
    }

    fn score_segment(&mut self, n: usize, matches: Option<&Matches>, part: usize) -> Result<()> {
        if let Some(codes) = self.byte_codes(n, matches) {
            let (alive, best) = (&self.alive[n], &mut self.best);
            if let Some(scored) = exact::segment_by_codes(n, alive, self.query, &self.scorer, &codes, best)? {
                let part = &mut self.explained.parts[part];
                (part.exact, part.kind) = (true, PartKind::Subset);
                part.scanned += codes.len() as u64;
                part.reranked += scored;
                part.bytes += codes.bytes() + scored * 4 * self.scorer.dim() as u64;
                return Ok(());
            }
        }
        let scored = exact::segment(n, &self.alive[n], self.query, &self.scorer, matches, &mut self.best)?;
        let part = &mut self.explained.parts[part];
        (part.exact, part.kind) = (true, PartKind::Exact);
        part.scanned += scored;
        part.bytes += scored * 4 * self.scorer.dim() as u64;
        Ok(())
    }

    /// How many errors above the best estimates are compared.
    fn width(&self) -> f32 {
        match self.query.accuracy {
            Accuracy::Recall(recall) => width(recall),
            Accuracy::Effort(n) => plan::width_of_effort(n),
            Accuracy::Exact => width(1.0),
        }
    }

    fn scan_codes(&mut self) -> Result<()> {
        let (state, metric, alive, seen) = (self.state, self.state.schema.metric, self.alive, self.seen());
        let known = self.kth().threshold().map_or(f32::INFINITY, |score| Exact::of(metric, score).key);
        let has_own_codes = |by: &ByCodes| matches!(by.place, Place::Segment(_, _, Some(OwnCodes::Few(_))));
        let more = if self.by_codes.iter().any(has_own_codes) { plan::OWN_CODES_WIDTH } else { 0.0 };
        let width = self.width() + more;
        self.scratch.begin(self.query.k, width, known);
        if ahead::is_cold(state) {
            let parts = self.by_codes.iter().filter_map(|by_codes| match &by_codes.place {
                Place::Memtable(..) => None,
                Place::Segment(n, matches, _) => {
                    let index = state.segments[*n].segment.vector_index()?;
                    let (source, alive, matches) = (source(*n), &alive[*n], matches.as_deref());
                    Some(Part { source, alive, index, matches, thinned: None })
                }
            });
            ahead::codes(parts, self.kernel, metric, self.query, self.scratch)?;
        }
        let mut damaged = Vec::new();
        for (at, by_codes) in self.by_codes.iter().enumerate() {
            let (scanned, kind) = match &by_codes.place {
                Place::Memtable(m, coded) => {
                    let (memtable, source) = (self.memtables[*m], source(state.segments.len() + m));
                    let mut scanned = Scanned::default();
                    for (tail, rows) in coded {
                        let part = TailPart { source, memtable, tail, rows: rows.clone(), seen };
                        scanned += part.scan(self.kernel, metric, self.query, self.scratch);
                    }
                    (Ok(scanned), PartKind::Memtable)
                }
                Place::Segment(n, matches, own_codes) => {
                    let Some(index) = state.segments[*n].segment.vector_index() else { continue };
                    let (alive, matches) = (&alive[*n], matches.as_deref());
                    let (source, kernel, scratch) = (source(*n), self.kernel, &mut *self.scratch);
                    let (thinned, kind) = match own_codes {
                        Some(OwnCodes::Few(codes)) => {
                            let part = SubsetPart { source, alive, rotation: &index.rotation, codes };
                            let scanned = part.scan(kernel, metric, self.query, scratch);
                            note(&mut self.explained.parts[by_codes.part], PartKind::Subset, scanned);
                            continue;
                        }
                        Some(OwnCodes::Many(lists)) => (Some(&**lists), PartKind::Subset),
                        None if index.lists.coarse.is_some() => (None, PartKind::Lists),
                        None => (None, PartKind::Flat),
                    };
                    let part = Part { source, alive, index, matches, thinned };
                    (part.scan(kernel, metric, self.query, scratch), kind)
                }
            };
            match scanned {
                Ok(scanned) => note(&mut self.explained.parts[by_codes.part], kind, scanned),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(%error, "codes are damaged: their segment is searched exactly");
                    damaged.push(at);
                }
                Err(error) => return Err(error),
            }
        }
        for at in damaged.into_iter().rev() {
            let ByCodes { place, part } = self.by_codes.swap_remove(at);
            self.explained.parts[part].damaged_index = true;
            if let Place::Segment(n, matches, _) = place {
                self.scratch.candidates.forget(source(n));
                self.score_segment(n, matches.as_deref(), part)?;
            }
        }
        Ok(())
    }

    /// The best scores so far.
    fn kth(&self) -> TopK<usize, ()> {
        let mut top = TopK::new(self.query.k);
        self.best.iter().enumerate().for_each(|(at, scored)| top.push(scored.score, at, ()));
        top
    }

    /// Compares the candidates exactly. `true` if fewer than k rows came together although not all were compared.
    fn rerank(&mut self) -> Result<bool> {
        if self.by_codes.is_empty() {
            return Ok(false);
        }
        let _span = tracing::debug_span!("rerank").entered();
        let (state, metric, k, kernel) = (self.state, self.state.schema.metric, self.query.k, self.kernel);
        let mut top = self.kth();
        let width = self.scratch.candidates.width();
        let (scorer, memtables) = (&self.scorer, &self.memtables);
        let vector = |source: u32, row: u32| match state.segments.get(source as usize) {
            Some(live) => live.segment.vector(row),
            None => Ok(&*memtables[source as usize - state.segments.len()].slot(row).row().vector),
        };
        let (best, mut compared) = (&mut self.best, vec![0u64; state.segments.len() + memtables.len()]);
        let (candidates, is_cold) = (self.scratch.candidates.finish(), ahead::is_cold(state));
        ahead::vectors(state, self.query, scorer, best, candidates, width)?;
        rerank(
            candidates,
            k,
            width,
            |candidate| {
                // What is not here yet would be fetched for it, needed or not.
                if !is_cold && let Ok(vector) = vector(candidate.source, candidate.row) {
                    kernel.prefetch(vector);
                }
            },
            |candidate| {
                let score = scorer.score(vector(candidate.source, candidate.row)?);
                Ok::<_, Error>(Exact::of(metric, score))
            },
            |exact, candidate| {
                let source = candidate.source as usize;
                compared[source] += 1;
                top.push(exact.score, best.len(), ());
                let at = match memtables.get(source.wrapping_sub(state.segments.len())) {
                    Some(memtable) => {
                        let slot = memtable.slot(candidate.row);
                        At::Memory(slot.lsn(), Arc::clone(slot.row()))
                    }
                    None => At::Segment(source, candidate.row),
                };
                best.push(Scored { score: exact.score, at });
                top.threshold().map(|score| Exact::of(metric, score).key)
            },
        )?;
        for by_codes in &self.by_codes {
            let part = &mut self.explained.parts[by_codes.part];
            part.reranked = match by_codes.place {
                Place::Memtable(m, _) => compared[state.segments.len() + m],
                Place::Segment(n, ..) => compared[n],
            };
            part.bytes += part.reranked * 4 * self.scorer.dim() as u64;
        }
        Ok(self.best.len() < k)
    }

    /// The codes gave fewer than k rows: the vectors behind them are compared, so that if k rows match, k rows come
    /// back.
    fn scan_exactly(&mut self) -> Result<()> {
        let by_codes = std::mem::take(&mut self.by_codes);
        let seen = self.seen();
        // What the candidates gave is found again: everything from their places is dropped first.
        self.best.clear();
        let mut in_memory = Vec::new();
        for at in 0..self.memtables.len() {
            let memtable = self.memtables[at];
            in_memory.push(exact::memtable(0..memtable.len(), memtable, &seen, &self.scorer, &mut self.best));
        }
        let exact_already: Vec<usize> = (0..self.state.segments.len())
            .filter(|n| !by_codes.iter().any(|by| matches!(by.place, Place::Segment(m, ..) if m == *n)))
            .collect();
        let filters = &self.view.content().filters;
        for n in exact_already {
            let segment = &self.state.segments[n].segment;
            let matches = self.bound.map(|bound| filters.matching(segment, &self.state.schema, bound));
            let (alive, matches) = (&self.alive[n], matches.transpose()?);
            exact::segment(n, alive, self.query, &self.scorer, matches.as_deref(), &mut self.best)?;
        }
        for ByCodes { place, part } in by_codes {
            match place {
                Place::Memtable(at, _) => {
                    let part = &mut self.explained.parts[part];
                    (part.matched, part.exact) = (in_memory[at], true);
                }
                Place::Segment(n, matches, _) => self.score_segment(n, matches.as_deref(), part)?,
            }
        }
        Ok(())
    }
}

fn note(part: &mut PartExplained, kind: PartKind, scanned: Scanned) {
    (part.kind, part.exact) = (kind, false);
    part.scanned += scanned.slots;
    part.lists += scanned.lists;
    part.bytes += scanned.bytes;
}

fn source(n: usize) -> u32 {
    u32::try_from(n).expect("memtables and segments are few")
}
