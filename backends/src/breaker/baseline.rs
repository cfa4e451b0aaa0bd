//! The usual share of failures of a backend, for the adaptive threshold.

use std::sync::atomic::{AtomicU64, Ordering};

/// Weight of the newest observation: the last hundred or so matter.
const WEIGHT: f32 = 0.02;
/// Above this no threshold rises: a backend that always fails is down, however usual that may be.
const CEILING: f32 = 0.95;

/// Mean and variance of the share of failures, moving slowly. One word: `[mean f32][variance f32]`.
///
/// It moves a threshold and nothing else, so a lost update does no harm.
#[derive(Debug, Default)]
pub(super) struct Baseline(AtomicU64);

impl Baseline {
    pub(super) fn observe(&self, failed_ppm: u64) {
        let (mean, variance) = self.get();
        let off = ppm_to_share(failed_ppm) - mean;
        let step = WEIGHT * off;
        let variance = (1.0 - WEIGHT) * (variance + off * step);
        let bits = u64::from((mean + step).to_bits()) << 32 | u64::from(variance.to_bits());
        self.0.store(bits, Ordering::Relaxed);
    }

    /// The threshold in parts of a million: the configured one, or four standard deviations above the usual.
    pub(super) fn threshold_ppm(&self, configured_ppm: u64) -> u64 {
        let (mean, variance) = self.get();
        let usual = (mean + 4.0 * variance.max(0.0).sqrt()).clamp(0.0, CEILING);
        configured_ppm.max(share_to_ppm(f64::from(usual)))
    }

    fn get(&self) -> (f32, f32) {
        let bits = self.0.load(Ordering::Relaxed);
        let [a, b, c, d, e, f, g, h] = bits.to_be_bytes();
        (f32::from_be_bytes([a, b, c, d]), f32::from_be_bytes([e, f, g, h]))
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a million")]
fn ppm_to_share(ppm: u64) -> f32 {
    ppm.min(1_000_000) as f32 / 1_000_000.0
}

/// Parts of a million of a share; what is no share is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1, and a cast of NaN is 0"
)]
pub(super) fn share_to_ppm(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1_000_000.0).round() as u64
}

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_failures_the_configured_threshold_stands() {
        let baseline = Baseline::default();
        for _ in 0..1_000 {
            baseline.observe(0);
        }
        assert_eq!(baseline.threshold_ppm(500_000), 500_000);
    }

    #[test]
    fn a_backend_that_always_fails_a_little_too_much_raises_it_and_a_dead_one_does_not_raise_it_to_the_top() {
        let baseline = Baseline::default();
        for n in 0..2_000 {
            baseline.observe(if n % 2 == 0 { 540_000 } else { 560_000 });
        }
        let threshold = baseline.threshold_ppm(500_000);
        assert!((560_000..700_000).contains(&threshold), "{threshold}");
        for _ in 0..2_000 {
            baseline.observe(1_000_000);
        }
        assert_eq!(baseline.threshold_ppm(500_000), 950_000);
    }

    #[test]
    fn a_share_is_exact_in_parts_of_a_million() {
        assert_eq!((share_to_ppm(0.5), share_to_ppm(0.51), share_to_ppm(1.0)), (500_000, 510_000, 1_000_000));
        assert_eq!((share_to_ppm(-1.0), share_to_ppm(f64::NAN)), (0, 0));
    }
}
