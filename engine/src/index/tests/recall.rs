//! Searches by codes against brute force: every metric, kind and awkward shape of rows.

use super::{clustered, slices};
use crate::distance::{Kernel, Scorer};
use crate::index::build::{Built, build_from};
use crate::index::calibrate::Trial;
use crate::index::lists::Budget;
use crate::index::rotation::Rotation;
use crate::index::rows::CodeRows;
use crate::schema::Metric;

const K: usize = 10;

/// The share of the true best k that a search of the index finds, over `queries`.
fn recall(metric: Metric, rows: &[Vec<f32>], queries: &[Vec<f32>], lists_from: usize, target: f32) -> f32 {
    let vectors = slices(rows);
    let rotation = Rotation::new(rows[0].len(), 31);
    let Built { lists, codes } =
        build_from(lists_from, metric, &rotation, &vectors, 3, &|| true).expect("rows that codes hold");
    let code_rows = CodeRows::new(Kernel::best(), metric, &rotation, &vectors, &|| true).unwrap();
    let mut trial = Trial::new(Kernel::best(), &lists, &codes, &rotation, &code_rows);
    let budget = lists.budget(target);
    let (mut found, mut of) = (0, 0);
    for query in queries {
        let scorer = Scorer::new(metric, query);
        let mut scores: Vec<f32> = rows.iter().map(|row| scorer.score(row)).collect();
        let answer = trial.near(query, budget, |_| true);
        assert_eq!(answer.len(), K.min(rows.len()), "k rows come back");
        let least = {
            let mut sorted = scores.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            sorted[K.min(rows.len()) - 1]
        };
        found += answer.iter().filter(|row| scores[**row as usize] >= least).count();
        of += answer.len();
        scores.clear();
    }
    #[expect(clippy::cast_precision_loss, reason = "a share of hundreds")]
    let share = found as f32 / of as f32;
    share
}

#[test]
fn flat_codes_find_what_brute_force_finds() {
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        for dim in [48, 100, 192, 384, 1_000] {
            let rows = clustered(600, dim, 7, 41);
            let got = recall(metric, &rows, &clustered(30, dim, 7, 41 + 1), usize::MAX, 0.99);
            println!("flat, {metric:?}, {dim}: {got}");
            // In many dimensions such rows are nearly all as far as each other.
            assert!(got >= 0.94, "{metric:?}, dimension {dim}: recall {got}");
        }
    }
}

#[test]
fn lists_reach_the_recall_they_are_asked_for() {
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        for dim in [64, 200] {
            let rows = clustered(6_000, dim, 300, 43);
            let queries: Vec<Vec<f32>> = clustered(6_060, dim, 300, 43).split_off(6_000);
            for target in [0.9, 0.99] {
                let got = recall(metric, &rows, &queries, 2_000, target);
                println!("lists, {metric:?}, {dim}, asked for {target}: {got}");
                assert!(
                    got >= target - 0.04,
                    "{metric:?}, dimension {dim}: recall {got}, asked for {target}"
                );
            }
        }
    }
}

#[test]
fn few_rows_equal_rows_and_great_differences_of_size_are_found() {
    let rows = clustered(300, 100, 4, 45);
    for count in [1, 7, 31, 32, 33, 300] {
        let got = recall(Metric::L2, &rows[..count], &rows[..count.min(20)], usize::MAX, 0.99);
        assert!(got >= 0.99, "{count} rows: {got}");
    }
    let equal = vec![rows[0].clone(); 3_000];
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        assert_eq!(recall(metric, &equal, &rows[..5], 2_000, 0.9), 1.0, "all rows equal, {metric:?}");
    }
    // One row a thousand times as long as the others must not flatten their factors away.
    let mut uneven = clustered(3_000, 100, 50, 46);
    uneven[7].iter_mut().for_each(|number| *number *= 1_000.0);
    for metric in [Metric::L2, Metric::Dot] {
        let got = recall(metric, &uneven, &clustered(3_040, 100, 50, 46).split_off(3_000), 2_000, 0.99);
        assert!(got >= 0.9, "one long row, {metric:?}: {got}");
    }
}

#[test]
fn a_row_that_dwarfs_the_others_leaves_a_small_segment_without_codes() {
    let rotation = Rotation::new(100, 31);
    for (factor, has_codes) in [(30.0, true), (1_000.0, false), (100_000.0, false)] {
        let mut rows = clustered(3_000, 100, 50, 46);
        rows[7].iter_mut().for_each(|number| *number *= factor);
        for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
            let built = build_from(usize::MAX, metric, &rotation, &slices(&rows), 3, &|| true);
            // Under cosine all are as long.
            assert_eq!(built.is_some(), has_codes || metric == Metric::Cosine, "{metric:?}, {factor} times");
        }
        if has_codes {
            let queries = clustered(3_040, 100, 50, 46).split_off(3_000);
            let got = recall(Metric::L2, &rows, &queries, usize::MAX, 0.99);
            assert!(got >= 0.95, "{factor} times as long: {got}");
        }
    }
}

#[test]
fn a_large_common_part_costs_no_recall() {
    let shift = |rows: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
        rows.into_iter().map(|row| row.iter().map(|number| number + 20.0).collect()).collect()
    };
    let all = clustered(3_040, 200, 60, 47);
    let (rows, queries) = (shift(all[..3_000].to_vec()), shift(all[3_000..].to_vec()));
    for metric in [Metric::Cosine, Metric::L2] {
        let got = recall(metric, &rows, &queries, usize::MAX, 0.99);
        assert!(got >= 0.97, "{metric:?}: {got}");
    }
}

/// Embeddings of a model whose vectors all point one way: under dot every factor of a row has one sign, and the estimates of the
/// nearest pass what 16 bits hold.
#[test]
fn unit_vectors_with_a_common_part_are_found_by_their_inner_product() {
    let unit = |vector: Vec<f32>| -> Vec<f32> {
        let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        vector.into_iter().map(|number| number / norm).collect()
    };
    let common = unit(clustered(1, 200, 1, 52).remove(0));
    for share in [0.5f32, 0.7, 0.8] {
        let of = |row: Vec<f32>| -> Vec<f32> {
            let own = unit(row);
            unit(
                own.iter()
                    .zip(&common)
                    .map(|(own, common)| (1.0 - share).sqrt() * own + share.sqrt() * common)
                    .collect(),
            )
        };
        let all: Vec<Vec<f32>> = clustered(6_040, 200, 300, 53).into_iter().map(of).collect();
        let (rows, queries) = all.split_at(6_000);
        for lists_from in [usize::MAX, 2_000] {
            let got = recall(Metric::Dot, rows, queries, lists_from, 0.99);
            println!("{share} of each in common, lists from {lists_from}: {got}");
            assert!(got >= 0.95, "{share} of each in common, lists from {lists_from}: {got}");
        }
    }
}

/// What is common to all rows moves the inner product with each centroid: lists are looked into in that order.
#[test]
fn a_common_part_makes_no_inner_product_dearer() {
    let rotation = Rotation::new(64, 31);
    let slots = |shift: f32| {
        let rows: Vec<Vec<f32>> = clustered(6_000, 64, 300, 54);
        let rows: Vec<Vec<f32>> =
            rows.into_iter().map(|row| row.iter().map(|number| number + shift).collect()).collect();
        let built = build_from(2_000, Metric::Dot, &rotation, &slices(&rows), 3, &|| true).unwrap();
        (built.lists.budget(0.95).slots, built.lists.slots())
    };
    let ((without, _), (with, all)) = (slots(0.0), slots(3.0));
    println!("{without} slots without it, {with} of {all} with it");
    // The longest rows along it are near to every query, whichever list they stand in.
    assert!(with < all / 4, "{without} slots without it, {with} of {all} with it");
}

#[test]
fn magnitudes_that_codes_do_not_hold_have_no_index() {
    let rotation = Rotation::new(64, 31);
    for scale in [1e-15f32, 1e18] {
        let rows: Vec<Vec<f32>> =
            clustered(40, 64, 2, 48).into_iter().map(|row| row.iter().map(|n| n * scale).collect()).collect();
        assert!(
            build_from(usize::MAX, Metric::L2, &rotation, &slices(&rows), 1, &|| true).is_none(),
            "scale {scale}"
        );
    }
    for scale in [1e-12f32, 1e-8, 1e8, 1e10] {
        let scaled = |rows: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
            rows.into_iter().map(|row| row.iter().map(|n| n * scale).collect()).collect()
        };
        let rows = scaled(clustered(500, 64, 5, 49));
        for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
            let got = recall(metric, &rows, &scaled(clustered(20, 64, 5, 50)), usize::MAX, 0.99);
            assert!(got >= 0.97, "{metric:?} at scale {scale}: {got}");
        }
    }
}

#[test]
fn only_rows_that_are_alive_are_found() {
    let rows = clustered(900, 64, 9, 51);
    let vectors = slices(&rows);
    let rotation = Rotation::new(64, 31);
    let Built { lists, codes } = build_from(500, Metric::L2, &rotation, &vectors, 3, &|| true).unwrap();
    let code_rows = CodeRows::new(Kernel::best(), Metric::L2, &rotation, &vectors, &|| true).unwrap();
    let mut trial = Trial::new(Kernel::best(), &lists, &codes, &rotation, &code_rows);
    let all = Budget { slots: u32::MAX, width: 3.0 };
    let answer = trial.near(&rows[3], all, |row| row % 2 == 0);
    assert!(answer.len() == K && answer.iter().all(|row| row % 2 == 0), "{answer:?}");
}
