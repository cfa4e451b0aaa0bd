//! Candidates come out nearest first, each once, as a sort of all that was offered would have them.

use std::collections::BTreeSet;

use akidb_host::Rng;
use proptest::prelude::*;

use crate::distance::Kernel;
use crate::index::candidates::{Candidate, Candidates};
use crate::index::coarse::{Coarse, CoarseScratch};
use crate::index::code::Bits;
use crate::index::probe::Probe;
use crate::index::tests::clustered;

const DIM: usize = 64;

proptest! {
    #[test]
    fn the_kept_are_what_the_final_threshold_lets_through_each_once(
        offered in prop::collection::vec((-40i8..40, 0u32..60, 0u32..3), 0..400),
        k in 1usize..60,
        known in prop::option::of(-20i8..20),
    ) {
        const WIDTH: f32 = 1.5;
        let known = known.map_or(f32::INFINITY, |known| f32::from(known) / 4.0);
        let mut candidates = Candidates::default();
        candidates.begin(k, WIDTH, known);
        let mut all: Vec<Candidate> = Vec::new();
        for (estimate, row, source) in offered {
            let candidate = Candidate { estimate: f32::from(estimate) / 4.0, error: 0.5, source, row };
            candidates.offer(candidate);
            all.push(candidate);
        }
        all.sort_by(|a, b| a.estimate.total_cmp(&b.estimate));
        let rank = all.get(2 * k - 1).map_or(f32::INFINITY, |candidate| candidate.estimate);
        let limit = known.min(rank) + WIDTH * 0.5;
        // On the very limit the moment of an offer decides; nothing above it is kept, everything below.
        let mut expected: Vec<(f32, u32, u32)> = Vec::new();
        for candidate in all.iter().filter(|candidate| candidate.estimate < limit) {
            if !expected.iter().any(|(_, source, row)| (*source, *row) == (candidate.source, candidate.row)) {
                expected.push((candidate.estimate, candidate.source, candidate.row));
            }
        }
        let kept = candidates.finish();
        prop_assert!(kept.is_sorted_by(|a, b| a.estimate <= b.estimate), "nearest first");
        prop_assert!(kept.iter().all(|candidate| candidate.estimate <= limit));
        let mut below: Vec<_> =
            kept.iter().filter(|c| c.estimate < limit).map(|c| (c.estimate, c.source, c.row)).collect();
        let order = |a: &(f32, u32, u32), b: &(f32, u32, u32)| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2)));
        below.sort_by(order);
        expected.sort_by(order);
        prop_assert_eq!(below, expected);
        let mut rows: Vec<_> = kept.iter().map(|candidate| (candidate.source, candidate.row)).collect();
        rows.sort_unstable();
        rows.dedup();
        prop_assert_eq!(rows.len(), kept.len(), "each once");
    }
}

/// More than is kept: the best are there in the end, in their order, and a search for many before changes nothing.
#[test]
fn of_more_than_are_kept_the_best_stay() {
    let mut candidates = Candidates::default();
    for (k, kept) in [(10, 600), (2_000, 40_000), (10, 600)] {
        candidates.begin(k, 1e9, f32::INFINITY);
        let count = 3 * u32::try_from(kept).unwrap();
        for at in 0..count {
            // Every number once, in no order.
            let estimate = (u64::from(at) * 7_919 % u64::from(count)) as f32;
            candidates.offer(Candidate { estimate, error: 1.0, source: at % 3, row: at });
        }
        let found: Vec<f32> = candidates.finish().iter().map(|candidate| candidate.estimate).collect();
        assert!(found.len() >= kept && found.len() <= 2 * kept + 64, "{} of {kept}", found.len());
        assert!(found[..kept].iter().enumerate().all(|(at, estimate)| *estimate == at as f32), "k = {k}");
    }
}

/// Rows whose estimates are far off, the luckiest of them far below what they are, and nearer rows whose estimates are sure.
#[test]
fn lucky_estimates_leave_no_sure_ones_out() {
    let mut candidates = Candidates::default();
    for (unsure_first, rows) in [(true, 400), (false, 400), (true, 8_000), (false, 8_000)] {
        candidates.begin(10, 1.75, f32::INFINITY);
        // At 1.0, off by their error as a normal distribution has it.
        let mut random = Rng::seeded(u64::from(rows));
        #[expect(clippy::cast_possible_truncation, reason = "test data")]
        let mut off = move || ((0..12).map(|_| random.f64()).sum::<f64>() - 6.0) as f32;
        let unsure = (0..rows).map(|row: u32| (1.0 + 0.5 * off(), 0.5, 0, row));
        // At 0.9.
        let sure = (0..30u32).map(|row| (0.9 + 0.05 * (row as f32 / 15.0 - 1.0), 0.05, 1, row));
        let all: Vec<_> =
            if unsure_first { unsure.chain(sure).collect() } else { sure.chain(unsure).collect() };
        for (estimate, error, source, row) in all {
            candidates.take_from(source == 1);
            candidates.offer(Candidate { estimate, error, source, row });
        }
        let kept = candidates.finish().iter().filter(|candidate| candidate.source == 1).count();
        assert_eq!(kept, 30, "{rows} unsure ones, those first: {unsure_first}");
    }
}

/// Of how many lists so many are asked for; 33 fill a block of centroids and begin the next.
#[test]
fn the_nearest_lists_come_in_the_order_of_their_distance_and_radius() {
    for (count, wanted) in [(33, 5), (64, 64), (200, 1), (1_000, 12), (1_000, 900), (40, 100)] {
        let vectors = clustered(count + 1, DIM, 20, 3 + count as u64);
        let mut probe = Probe::default();
        let zeros = [0.0; DIM];
        for kernel in Kernel::all() {
            let centroids: Vec<f32> = vectors[..count].concat();
            let mut coarse = Coarse::new(kernel, Bits::Two, DIM, &centroids);
            coarse.set_bonus(
                (0..count).map(|list| f32::from(u8::try_from(list % 7).unwrap()) * 0.01).collect(),
            );
            probe.set(kernel, Bits::Two, &vectors[count], 1.0, &zeros);
            let (mut scratch, mut near) = (CoarseScratch::default(), Vec::new());
            coarse.nearest(kernel, &probe, wanted, &mut scratch, &mut near);
            assert_eq!(near.len(), wanted.min(count), "{wanted} of {count}");
            let ordered = near.is_sorted_by(|a, b| (a.key, a.list) < (b.key, b.list));
            assert!(ordered, "{wanted} of {count}: {near:?}");
            for near in &near {
                let list = near.list as usize;
                assert_eq!(near.distance_squared, coarse.distance_squared(kernel, &probe, list));
                assert_eq!(near.key, near.distance_squared + coarse.bonus[list]);
            }
            // Lists are told apart by codes of a bit or two first: most of the nearest are among them, and each once.
            let mut all: Vec<(f32, u32)> = (0..count)
                .map(|list| {
                    (
                        coarse.distance_squared(kernel, &probe, list) + coarse.bonus[list],
                        u32::try_from(list).unwrap(),
                    )
                })
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let expected: BTreeSet<u32> = all.iter().take(wanted).map(|(_, list)| *list).collect();
            let lists: BTreeSet<u32> = near.iter().map(|near| near.list).collect();
            assert_eq!(lists.len(), near.len(), "every list once");
            let met = expected.intersection(&lists).count();
            assert!(met * 10 >= expected.len() * 8, "{met} of the {wanted} nearest of {count}");
        }
    }
}
