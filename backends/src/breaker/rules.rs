//! The settings of a breaker in the numbers it decides by.

use super::baseline::share_to_ppm;
use crate::config::BreakerSettings;

#[derive(Debug)]
pub(super) struct Rules {
    pub(super) threshold_ppm: u64,
    pub(super) minimum_calls: u64,
    pub(super) window_ms: u64,
    pub(super) half_open_successes: u8,
    pub(super) half_open_max_in_flight: u8,
    pub(super) half_open_max_secs: u16,
    /// A call longer than so many milliseconds is slow, and the share of slow calls above which the breaker opens.
    pub(super) slow: Option<(u64, u64)>,
    pub(super) adaptive: bool,
    cooldown_ms: u64,
    cooldown_max_ms: u64,
    multiplier: f64,
    jitter: f64,
    seed: u64,
}

impl Rules {
    /// Values out of range are taken as the nearest that can be used.
    pub(super) fn new(settings: &BreakerSettings, seed: u64) -> Self {
        let byte = |n: u32| u8::try_from(n.clamp(1, 255)).expect("clamped to a byte");
        let slow = settings.slow_call_duration_secs.filter(|_| settings.slow_call_threshold < 1.0);
        Self {
            threshold_ppm: share_to_ppm(settings.failure_threshold),
            minimum_calls: u64::from(settings.minimum_calls.max(1)),
            window_ms: settings.window_duration_secs.max(1).saturating_mul(1_000),
            half_open_successes: byte(settings.half_open_successes),
            half_open_max_in_flight: byte(settings.half_open_max_in_flight),
            half_open_max_secs: u16::try_from(settings.half_open_max_duration_secs)
                .unwrap_or(3_600)
                .clamp(1, 3_600),
            slow: slow.map(|secs| (whole_ms(secs * 1_000.0), share_to_ppm(settings.slow_call_threshold))),
            adaptive: settings.adaptive,
            cooldown_ms: settings.cooldown_duration_secs.saturating_mul(1_000),
            cooldown_max_ms: settings.cooldown_max_secs.saturating_mul(1_000),
            multiplier: settings.cooldown_multiplier.max(1.0),
            jitter: settings.cooldown_jitter.clamp(0.0, 0.5),
            seed,
        }
    }

    /// The cooldown that follows on `in_a_row` others without a success. Its jitter is a function of the seed and the
    /// epoch: one seed replays a run.
    pub(super) fn cooldown_ms(&self, in_a_row: u64, epoch: u32) -> u64 {
        let factor = self.multiplier.powi(i32::try_from(in_a_row.min(1_000)).unwrap_or(1_000));
        let grown = whole_ms(millis(self.cooldown_ms) * factor).min(self.cooldown_max_ms);
        let bound = grown.max(self.cooldown_ms);
        let off = (fraction(self.seed ^ u64::from(epoch)) - 0.5) * 2.0 * self.jitter;
        whole_ms(millis(bound) * (1.0 + off))
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of at most some weeks")]
fn millis(ms: u64) -> f64 {
    ms as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates, and NaN is 0")]
fn whole_ms(ms: f64) -> u64 {
    ms.round() as u64
}

/// A number in `[0, 1)` that looks random (splitmix64).
#[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
fn fraction(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cooldowns_lie_within_their_jitter_and_differ() {
        let rules = Rules::new(&BreakerSettings::default(), 7);
        let all: Vec<u64> = (0..200).map(|epoch| rules.cooldown_ms(0, epoch)).collect();
        assert!(all.iter().all(|ms| (270_000..=330_000).contains(ms)), "{all:?}");
        assert!(all.iter().min() < Some(&280_000) && all.iter().max() > Some(&320_000));
        assert_eq!(all[3], Rules::new(&BreakerSettings::default(), 7).cooldown_ms(0, 3));
    }

    #[test]
    fn cooldowns_grow_by_the_multiplier_up_to_their_bound() {
        let settings = BreakerSettings {
            cooldown_multiplier: 2.0,
            cooldown_max_secs: 1_000,
            cooldown_jitter: 0.0,
            ..BreakerSettings::default()
        };
        let rules = Rules::new(&settings, 0);
        let all: Vec<u64> = [0, 1, 2, 3, u64::MAX].map(|n| rules.cooldown_ms(n, 0) / 1_000).into();
        assert_eq!(all, [300, 600, 1_000, 1_000, 1_000]);
    }

    #[test]
    fn a_bound_below_the_first_cooldown_does_not_shorten_it() {
        let settings =
            BreakerSettings { cooldown_max_secs: 5, cooldown_jitter: 0.0, ..BreakerSettings::default() };
        assert_eq!(Rules::new(&settings, 0).cooldown_ms(4, 0), 300_000);
    }
}
