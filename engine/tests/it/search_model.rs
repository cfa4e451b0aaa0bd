//! Random writes, deletes, flushes, reopens and searches under filters, each answer compared with a plain list of rows.
//! Exact searches give its ids in its order. Searches for a recall reach it on average; none gives fewer than k rows
//! where k match, a row twice, one that was deleted, or an old version.
//!
//! Operations: `AKIDB_MODEL_OPERATIONS` (4,000 unless set); a failing run is repeated by the `AKIDB_MODEL_SEED` it prints.

use std::collections::HashSet;
use std::path::Path;

use akidb::{Collection, Db, Hit};
use akidb_host::Rng;

mod rows;
mod tally;
mod wanted;

use rows::{KINDS, Kind, Row, Truth};
use tally::Tally;
use wanted::Wanted;

const OPERATIONS: u64 = 4_000;
/// What searches ask for; `None` says nothing, which is 0.95.
const RECALLS: [Option<f32>; 5] = [None, None, Some(0.8), Some(0.9), Some(0.99)];
/// Of answers with more hits no payload is asked for: fetching it would be most of the run.
const PAYLOADS: usize = 40;
/// Rows rewritten before a large flush: so many that codes are scanned under filters, too.
const MANY: usize = 3_000;

/// A collection, and the plain list it is compared with.
struct Life<'a> {
    kind: Kind,
    dir: &'a Path,
    /// `None` while it is opened anew.
    open: Option<(Db, Collection)>,
    rows: Vec<Option<Row>>,
    writes: u64,
    /// Filters asked before: their results are cached.
    filters: Vec<Wanted>,
    tally: &'a mut Tally,
}

impl<'a> Life<'a> {
    fn new(kind: Kind, dir: &'a Path, tally: &'a mut Tally) -> Self {
        let db = Db::open(dir).unwrap();
        let docs = db.create_collection("rows", kind.schema()).unwrap();
        let rows = vec![None; kind.ids];
        Self { kind, dir, open: Some((db, docs)), rows, writes: 0, filters: Vec::new(), tally }
    }

    fn db(&self) -> &Db {
        &self.open.as_ref().unwrap().0
    }

    fn docs(&self) -> &Collection {
        &self.open.as_ref().unwrap().1
    }

    fn pick(&self, rng: &mut Rng) -> usize {
        usize::try_from(rng.below(self.kind.ids as u64)).unwrap()
    }

    /// A new version; now and then exactly where another row lies.
    fn new_version(&mut self, rng: &mut Rng) -> Row {
        self.writes += 1;
        let twin = (rng.below(25) == 0).then(|| self.rows[self.pick(rng)].clone()).flatten();
        let vector = twin.map_or_else(|| self.kind.vector(rng), |twin| twin.vector);
        Row::random(vector, self.writes, rng)
    }

    fn write(&mut self, n: usize, rng: &mut Rng) {
        let mut row = self.new_version(rng);
        row.lsn = self.docs().upsert(self.kind.id(n), &row.vector, row.payload()).unwrap();
        self.rows[n] = Some(row);
    }

    /// Writes these rows as batches; the same one may be twice in a batch.
    fn write_all(&mut self, numbers: &[usize], rng: &mut Rng) {
        for numbers in numbers.chunks(500) {
            let batch: Vec<(usize, Row)> = numbers.iter().map(|n| (*n, self.new_version(rng))).collect();
            let rows: Vec<_> = batch.iter().map(|(n, row)| row.new_row(self.kind.id(*n))).collect();
            let receipt = self.docs().submit(&rows).unwrap();
            let distinct: HashSet<usize> = numbers.iter().copied().collect();
            receipt.wait().unwrap();
            // Of a row twice in a batch the last counts, and it alone has an LSN.
            let mut seen = HashSet::new();
            let last: Vec<bool> = batch.iter().rev().map(|(n, _)| seen.insert(*n)).collect();
            let kept = batch.into_iter().zip(last.into_iter().rev()).filter(|(_, last)| *last);
            let first = receipt.first();
            for (at, ((n, mut row), _)) in kept.enumerate() {
                row.lsn = akidb::Lsn::new(first.epoch(), first.counter() + at as u64);
                self.rows[n] = Some(row);
            }
            assert_eq!(receipt.last().counter() - first.counter() + 1, distinct.len() as u64);
        }
    }

    fn close(&mut self, clean: bool) {
        let (db, _) = self.open.take().unwrap();
        if clean {
            db.close().unwrap();
        }
    }

    fn reopen(&mut self, clean: bool) {
        self.close(clean);
        let db = Db::open(self.dir).unwrap();
        let docs = db.collection("rows").unwrap();
        self.open = Some((db, docs));
    }

    /// One operation of a hundred kinds of luck.
    fn step(&mut self, rng: &mut Rng) {
        let n = self.pick(rng);
        match rng.below(1_000) {
            0..300 => self.write(n, rng),
            300..360 => {
                let numbers: Vec<usize> = (0..1 + rng.below(20)).map(|_| self.pick(rng)).collect();
                self.write_all(&numbers, rng);
            }
            360..480 => {
                let existed = self.docs().delete(self.kind.id(n)).unwrap();
                assert_eq!(existed, self.rows[n].take().is_some(), "delete says whether there was a row");
            }
            480..560 => self.check_get(n),
            560..562 => self.db().flush().unwrap(),
            562 if rng.below(3) == 0 => {
                let numbers: Vec<usize> = (0..MANY).map(|_| self.pick(rng)).collect();
                self.write_all(&numbers, rng);
                self.db().flush().unwrap();
            }
            563 => self.reopen(rng.below(2) == 0),
            564..600 => self.check_count(rng),
            _ => self.check_search(rng),
        }
    }

    fn check_get(&self, n: usize) {
        let got = self.docs().get(self.kind.id(n)).unwrap();
        match (&self.rows[n], got) {
            (None, got) => assert!(got.is_none(), "row {n} came back from the dead"),
            (Some(row), got) => {
                let got = got.unwrap_or_else(|| panic!("row {n} is lost"));
                assert!(got.vector == row.vector && got.lsn == row.lsn, "row {n}");
                assert_eq!(got.payload, row.payload());
            }
        }
    }

    /// A filter, new or asked before; its place among those asked.
    fn filter(&mut self, rng: &mut Rng) -> usize {
        if self.filters.len() < 12 || rng.below(4) == 0 {
            self.filters.truncate(39);
            self.filters.push(Wanted::random(rng, self.kind.ids, self.kind.text_ids, 3));
            return self.filters.len() - 1;
        }
        usize::try_from(rng.below(self.filters.len() as u64)).unwrap()
    }

    fn check_count(&mut self, rng: &mut Rng) {
        let filter = self.filter(rng);
        let (wanted, text) = (&self.filters[filter], self.filters[filter].to_string());
        let live = self.rows.iter().enumerate().filter_map(|(n, row)| Some((n, row.as_ref()?)));
        let taken: Vec<usize> = live.filter(|(n, row)| wanted.takes(*n, row)).map(|(n, _)| n).collect();
        assert_eq!(self.docs().count_where(text.as_str()).unwrap(), taken.len() as u64, "{text}");
        let page = self.docs().scan().filter(text.as_str()).limit(50).run().unwrap();
        let page: Vec<usize> = page.iter().map(|row| Kind::number(&row.id)).collect();
        assert_eq!(page, taken[..taken.len().min(50)], "{text}");
    }

    /// The same question for the exact answer and for a recall.
    fn check_search(&mut self, rng: &mut Rng) {
        let own = (rng.below(10) == 0).then(|| self.rows[self.pick(rng)].clone()).flatten();
        let query = own.map_or_else(|| self.kind.vector(rng), |row| row.vector);
        let k = match rng.below(20) {
            0..12 => 10,
            12..19 => usize::try_from(1 + rng.below(40)).unwrap(),
            _ => usize::try_from(1 + rng.below(1_500)).unwrap(),
        };
        let filter = (rng.below(2) == 0).then(|| self.filter(rng));
        let recall = RECALLS[usize::try_from(rng.below(RECALLS.len() as u64)).unwrap()];
        let filter = filter.map(|n| &self.filters[n]);
        let text = filter.map(ToString::to_string);
        let docs = self.docs().clone();
        let search = || {
            let search = docs.search(&query).k(k).with_payload(k <= PAYLOADS);
            match text.as_deref() {
                Some(text) => search.filter(text),
                None => search,
            }
        };
        let truth = Truth::of(self.kind, &self.rows, &query, filter, k);
        let what = format!("{:?}, k = {k}, {text:?}", self.kind);

        let exact = search().exact().run().unwrap();
        let found = self.check_hits(&exact, &truth, filter, &what);
        self.tally.searches += 1;
        for ((score, n), (best, there)) in found.iter().zip(&truth.best) {
            self.tally.places += 1;
            if n != there {
                self.tally.near_ties += 1;
                let (_, bound) = truth.score(self.rows[*n].as_ref().unwrap());
                assert!(
                    bound > 0.0 && (score - best).abs() <= 2.0 * bound,
                    "{what}: {n} stands where {there} should, {score} {best}"
                );
            }
        }
        let asked = recall.unwrap_or(0.95);
        let (hits, explained) = match recall {
            Some(recall) => search().recall(recall),
            None => search(),
        }
        .explain()
        .unwrap();
        let found = self.check_hits(&hits, &truth, filter, &what);
        self.tally.parts(&explained, filter.is_some(), &what);
        if explained.exact {
            assert_eq!(hits, exact, "{what}: exact, it says");
        } else {
            self.tally.recall(asked, truth.recall(&found));
        }
    }

    /// What holds for every answer; the hits with their true scores.
    fn check_hits(
        &self,
        hits: &[Hit],
        truth: &Truth<'_>,
        filter: Option<&Wanted>,
        what: &str,
    ) -> Vec<(f64, usize)> {
        assert_eq!(hits.len(), truth.best.len(), "{what}: {} rows match", truth.matching);
        let ordered = |a: &Hit, b: &Hit| a.score > b.score || (a.score == b.score && a.id < b.id);
        assert!(hits.is_sorted_by(ordered), "{what}: order, or a row twice");
        let check = |hit: &Hit| {
            let n = Kind::number(&hit.id);
            let row = self.rows[n].as_ref().unwrap_or_else(|| panic!("{what}: row {n} was deleted"));
            assert!(
                hit.lsn == row.lsn && (truth.k > PAYLOADS || hit.payload == row.payload()),
                "{what}: row {n} is an old version"
            );
            assert!(filter.is_none_or(|filter| filter.takes(n, row)), "{what}: row {n} does not match");
            let (score, bound) = truth.score(row);
            let off = (f64::from(hit.score) - score).abs();
            assert!(
                off <= bound,
                "{what}: row {n} has {}, not {score}: off by {off}, bound {bound}",
                hit.score
            );
            (score, n)
        };
        hits.iter().map(check).collect()
    }
}

fn live(kind: Kind, operations: u64, seed: u64, tally: &mut Tally) {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(seed);
    let mut life = Life::new(kind, dir.path(), tally);
    let mut numbers: Vec<usize> = (0..kind.ids).collect();
    for at in (1..numbers.len()).rev() {
        numbers.swap(at, usize::try_from(rng.below(at as u64 + 1)).unwrap());
    }
    life.write_all(&numbers[..kind.first], &mut rng);
    life.db().flush().unwrap();
    for _ in 0..operations * kind.share / 100 {
        life.step(&mut rng);
    }
    life.reopen(false);
    (0..kind.ids).step_by(7).for_each(|n| life.check_get(n));
    let alive = life.rows.iter().flatten().count() as u64;
    assert_eq!(life.docs().count().unwrap(), alive);
    life.close(true);
}

#[test]
fn searches_among_all_that_happens_to_a_collection_are_those_of_a_plain_list() {
    let number = |name| std::env::var(name).ok().and_then(|n: String| n.parse().ok());
    let operations: u64 = number("AKIDB_MODEL_OPERATIONS").unwrap_or(OPERATIONS);
    let seed: u64 = number("AKIDB_MODEL_SEED").unwrap_or_else(|| Rng::from_machine().u64() >> 20);
    println!("search model: {operations} operations, AKIDB_MODEL_SEED={seed}");
    let mut tally = Tally::default();
    for (n, kind) in KINDS.into_iter().enumerate() {
        live(kind, operations, seed + n as u64, &mut tally);
    }
    tally.judge();
}
