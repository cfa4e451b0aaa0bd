//! What the searches of a run were, and how much they found.

use std::collections::BTreeMap;

use akidb::Explained;

#[derive(Default)]
pub(super) struct Tally {
    pub(super) searches: u64,
    /// Hits of exact searches, and those that stand where the model has a row of almost the same score.
    pub(super) places: u64,
    pub(super) near_ties: u64,
    /// How often a memtable or segment was searched in which way.
    parts: BTreeMap<String, u64>,
    /// Recalls of the searches by code, by the thousandths they asked for.
    recalls: BTreeMap<u32, Vec<f64>>,
}

impl Tally {
    pub(super) fn parts(&mut self, explained: &Explained, filtered: bool, what: &str) {
        for part in &explained.parts {
            assert!(!part.damaged_index, "{what}: {part:?}");
            let how = if part.exact { "exact" } else { "by codes" };
            let filtered = if filtered { ", filtered" } else { "" };
            *self.parts.entry(format!("{:?} {how}{filtered}", part.kind)).or_default() += 1;
        }
    }

    pub(super) fn recall(&mut self, asked: f32, found: f64) {
        self.recalls.entry((asked * 1e3).round() as u32).or_default().push(found);
    }

    /// Every recall was reached on average, and searches of every way are among them.
    pub(super) fn judge(&self) {
        println!(
            "{} searches; {} places of exact answers, {} of them by scores nearer than the bound; parts: {:?}",
            self.searches, self.places, self.near_ties, self.parts
        );
        for (asked, recalls) in &self.recalls {
            let (asked, count) = (f64::from(*asked) / 1e3, recalls.len() as f64);
            let mean = recalls.iter().sum::<f64>() / count;
            let variance = recalls.iter().map(|recall| (recall - mean).powi(2)).sum::<f64>() / count;
            let error = (variance / count).sqrt();
            println!("recall {asked}: {mean:.4} +- {error:.4} in {count} searches by code");
            assert!(mean >= asked, "recall {mean} where {asked} was asked for");
        }
        for part in ["Lists by codes", "Flat by codes", "Memtable by codes"] {
            let both = [part.to_owned(), format!("{part}, filtered")];
            assert!(both.iter().all(|part| self.parts.contains_key(part)), "nothing was searched as {part}");
        }
    }
}
