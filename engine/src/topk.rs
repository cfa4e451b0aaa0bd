//! The best k of a stream of scored items: highest score first, equal scores by the smaller tie key.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Room made before the first push; a larger k grows as it fills.
const FIRST_CAPACITY: usize = 256;

/// Keeps the k best items pushed so far, whatever the order they come in. Scores are finite. The tie key is the
/// id, or the row number where rows lie in id order.
#[derive(Debug)]
pub(crate) struct TopK<K, T> {
    k: usize,
    /// The worst kept item on top.
    heap: BinaryHeap<Kept<K, T>>,
}

#[derive(Debug)]
struct Kept<K, T> {
    score: f32,
    tie: K,
    item: T,
}

/// Greater is worse, so that the heap's top is the item to drop.
impl<K: Ord, T> Ord for Kept<K, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.tie.cmp(&other.tie))
    }
}

impl<K: Ord, T> PartialOrd for Kept<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> PartialEq for Kept<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K: Ord, T> Eq for Kept<K, T> {}

impl<K: Ord, T> TopK<K, T> {
    /// Room for k items; with k = 0 nothing is kept.
    pub(crate) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.min(FIRST_CAPACITY)) }
    }

    /// The score to reach: that of the worst kept item, once there are k; nothing below it can be kept.
    pub(crate) fn threshold(&self) -> Option<f32> {
        if self.heap.len() < self.k { None } else { self.heap.peek().map(|kept| kept.score) }
    }

    /// Whether an item of this score may be kept: true at a tie, which only the key decides. Cheaper than building
    /// a key to push in vain.
    pub(crate) fn admits(&self, score: f32) -> bool {
        self.k > 0 && self.threshold().is_none_or(|threshold| score >= threshold)
    }

    /// Offers an item.
    pub(crate) fn push(&mut self, score: f32, tie: K, item: T) {
        debug_assert!(score.is_finite(), "score {score}");
        // Minus zero is zero: equal scores must compare equal, or ties would not be told by the key.
        let new = Kept { score: score + 0.0, tie, item };
        if self.heap.len() < self.k {
            self.heap.push(new);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && new < *worst
        {
            *worst = new;
        }
    }

    /// The kept items, best first.
    pub(crate) fn into_sorted(self) -> Vec<(f32, K, T)> {
        let kept = self.heap.into_sorted_vec();
        kept.into_iter().map(|kept| (kept.score, kept.tie, kept.item)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_scores_are_told_by_the_key_whatever_the_order_of_arrival() {
        for ids in [["a", "b", "c", "d"], ["d", "c", "b", "a"], ["c", "a", "d", "b"]] {
            let mut top = TopK::new(2);
            ids.iter().for_each(|id| top.push(0.5, *id, ()));
            assert_eq!(top.into_sorted(), [(0.5, "a", ()), (0.5, "b", ())]);
        }
    }

    #[test]
    fn minus_zero_ties_with_zero() {
        let mut top = TopK::new(1);
        top.push(0.0, 2, ());
        assert!(top.admits(-0.0));
        top.push(-0.0, 1, ());
        assert_eq!(top.into_sorted(), [(0.0, 1, ())]);
    }

    #[test]
    fn nothing_is_kept_for_k_zero() {
        let mut top = TopK::new(0);
        assert!(!top.admits(1.0));
        top.push(1.0, 1, ());
        assert!(top.into_sorted().is_empty());
    }

    #[test]
    fn the_threshold_is_there_once_k_items_are() {
        let mut top = TopK::new(2);
        top.push(3.0, 1, ());
        assert_eq!(top.threshold(), None);
        top.push(1.0, 2, ());
        assert_eq!(top.threshold(), Some(1.0));
        top.push(2.0, 3, ());
        assert_eq!(top.threshold(), Some(2.0));
        assert!(top.admits(2.0) && !top.admits(1.999));
    }

    proptest! {
        #[test]
        fn the_kept_are_the_first_k_of_everything_sorted(
            scores in prop::collection::vec(-4i8..4, 0..200),
            k in 0usize..40,
        ) {
            let mut top = TopK::new(k);
            let mut all: Vec<(f32, usize, ())> = Vec::new();
            for (n, score) in scores.iter().enumerate() {
                let (score, tie) = (f32::from(*score) / 2.0, n.wrapping_mul(7919) % 1009);
                if top.admits(score) {
                    top.push(score, tie, ());
                }
                all.push((score, tie, ()));
            }
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            all.truncate(k);
            prop_assert_eq!(top.into_sorted(), all);
        }
    }
}
