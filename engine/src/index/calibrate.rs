//! What a recall costs: rows of the index asked for their neighbours, themselves left out, with more and more slots
//! until the answers are as good as asked.

use crate::distance::{Kernel, Scorer};
use crate::index::candidates::Candidates;
use crate::index::coarse::CoarseScratch;
use crate::index::lists::{Asked, Budget, Calibrated, Lists, width};
use crate::index::rerank::{Exact, rerank};
use crate::index::rotation::Rotation;
use crate::index::rows::CodeRows;
use crate::index::train;

/// Recalls that are measured.
const TARGETS: [f32; 7] = [0.80, 0.90, 0.95, 0.97, 0.98, 0.99, 0.995];
/// Rows that are asked.
const ASKED: usize = 128;
/// Neighbours a row is asked for.
const K: usize = 10;
/// How the answers that count as true are found: all slots, this wide.
const TRUE_WIDTH: f32 = 4.0;
/// Queries from outside miss so many times what rows of the index miss with the same budget: measured on sentence
/// embeddings with held-out queries, 1.05 to 1.4.
const HARDER: f32 = 1.5;
/// Slots are raised by this factor at a time.
const STEP: f32 = 1.3;
/// Slots to begin with: this times the root of the rows.
const FIRST: f32 = 3.0;

/// Measures every target. Empty for an index of one list: there is nothing to choose.
pub(crate) fn calibrate(
    kernel: Kernel,
    lists: &Lists,
    codes: &[u8],
    rotation: &Rotation,
    rows: &CodeRows<'_>,
    seed: u64,
) -> Vec<Calibrated> {
    if lists.coarse.is_none() {
        return Vec::new();
    }
    let mut trial = Trial::new(kernel, lists, codes, rotation, rows);
    let mut asked = train::sample(rows.len(), ASKED, lists.bits, seed ^ 0x5eed_ca11);
    asked.truncate(ASKED);
    let all = Budget { slots: u32::MAX, width: TRUE_WIDTH };
    let truths: Vec<Vec<u32>> = asked.iter().map(|row| trial.answer(*row, all)).collect();
    let total = lists.slots();
    #[expect(clippy::cast_precision_loss, reason = "a budget")]
    let mut slots = FIRST * (lists.rows as f32).sqrt();
    let mut calibrated = Vec::with_capacity(TARGETS.len());
    for target in TARGETS {
        let (mut below, mut tried) = ((0.0f32, 0.0f32), 0.0f32);
        loop {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
            let budget = Budget { slots: slots as u32, width: width(target) };
            let found = trial.recall(&asked, &truths, budget);
            if found >= target || budget.slots >= total {
                let at = if tried > 0.0 && found > target {
                    between(below, (slots, found), target)
                } else {
                    slots
                };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a cast saturates"
                )]
                let slots = (at as u32).min(total);
                calibrated.push(Calibrated { target, slots, found: found.min(target.max(below.1)) });
                break;
            }
            (below, tried) = ((slots, found), slots);
            slots *= STEP;
        }
    }
    calibrated
}

/// The slots at which the recall passes `target`, on a straight line over the logarithm of the slots.
fn between(low: (f32, f32), high: (f32, f32), target: f32) -> f32 {
    let part = (target - low.1) / (high.1 - low.1).max(1e-6);
    low.0 * (high.0 / low.0).powf(part.clamp(0.0, 1.0))
}

/// A search of the rows the index is being built from.
pub(super) struct Trial<'a> {
    kernel: Kernel,
    lists: &'a Lists,
    codes: &'a [u8],
    rotation: &'a Rotation,
    rows: &'a CodeRows<'a>,
    rotated: Vec<f32>,
    asked: Asked,
    scratch: CoarseScratch,
    near: Vec<super::coarse::Near>,
    candidates: Candidates,
}

impl<'a> Trial<'a> {
    pub(super) fn new(
        kernel: Kernel,
        lists: &'a Lists,
        codes: &'a [u8],
        rotation: &'a Rotation,
        rows: &'a CodeRows<'a>,
    ) -> Self {
        Self {
            kernel,
            lists,
            codes,
            rotation,
            rows,
            rotated: vec![0.0; lists.coded()],
            asked: Asked::default(),
            scratch: CoarseScratch::default(),
            near: Vec::new(),
            candidates: Candidates::default(),
        }
    }

    fn answer(&mut self, row: u32, budget: Budget) -> Vec<u32> {
        self.near(self.rows.vector(row), budget, |found| found != row)
    }

    /// The rows nearest to `vector` among those that are `alive`, best first.
    pub(super) fn near(&mut self, vector: &[f32], budget: Budget, alive: impl Fn(u32) -> bool) -> Vec<u32> {
        let lists = self.lists;
        let norm = super::rows::rotate(self.kernel, lists.metric, self.rotation, vector, &mut self.rotated);
        lists.ask(self.kernel, &self.rotated, norm, &mut self.asked);
        lists.nearest(self.kernel, &self.asked, budget.slots, &mut self.scratch, &mut self.near);
        self.candidates.begin(K, budget.width, f32::INFINITY);
        for near in &self.near {
            let list = &lists.lists[near.list as usize];
            let start = usize::try_from(list.offset).expect("codes lie in memory");
            let bytes = &self.codes[start..start + lists.list_len(list)];
            let scan = lists.scan(&self.asked, *near, bytes, 0);
            scan.run(
                self.kernel,
                &self.asked.probe,
                lists.nibbles(),
                |_| u32::MAX,
                &alive,
                &mut self.candidates,
            );
        }
        let scorer = Scorer::new(lists.metric, vector);
        let mut best: Vec<(f32, u32)> = Vec::with_capacity(K + 1);
        let exact = |candidate: &super::candidates::Candidate| {
            Ok::<_, std::convert::Infallible>(Exact::of(
                lists.metric,
                scorer.score(self.rows.vector(candidate.row)),
            ))
        };
        let Ok(_) = rerank(
            self.candidates.finish(),
            K,
            budget.width,
            |_| (),
            exact,
            |exact, candidate| {
                let at = best.partition_point(|(score, _)| *score >= exact.score);
                best.insert(at, (exact.score, candidate.row));
                best.truncate(K);
                (best.len() == K).then(|| Exact::of(lists.metric, best[K - 1].0).key)
            },
        );
        best.into_iter().map(|(_, row)| row).collect()
    }

    /// The recall of a budget for queries from outside, less a standard error of the measure.
    #[expect(clippy::cast_precision_loss, reason = "shares of some hundred")]
    fn recall(&mut self, asked: &[u32], truths: &[Vec<u32>], budget: Budget) -> f32 {
        let (mut sum, mut squares) = (0.0f32, 0.0f32);
        for (row, truth) in asked.iter().zip(truths) {
            let answer = self.answer(*row, budget);
            let found = truth.iter().filter(|row| answer.contains(row)).count();
            let share = found as f32 / truth.len().max(1) as f32;
            (sum, squares) = (sum + share, squares + share * share);
        }
        let count = asked.len().max(1) as f32;
        let mean = sum / count;
        let variance = (squares / count - mean * mean).max(0.0);
        (1.0 - HARDER * (1.0 - mean) - (variance / count).sqrt()).max(0.0)
    }
}
