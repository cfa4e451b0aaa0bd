//! What is slow for a backend: answers compared with its usual ones for about as many bytes.

/// Upper bounds of the sizes that are compared with each other; above the last is one more class.
const SIZES_LEN_BYTES: [u64; 3] = [64 << 10, 1 << 20, 16 << 20];
/// Weight of an answer as usual, and of the slow ones of calls sent at the same time together: what stays slow becomes
/// usual, but not before the limit has followed it down, however many calls are under way.
const USUAL_WEIGHT: f64 = 1.0 / 32.0;
const SLOW_WEIGHT: f64 = 1.0 / 64.0;
/// Slow is above four times the usual and this much more: jitter of small answers is no congestion.
const SLOW_FACTOR: f64 = 4.0;
const SLOW_MARGIN_MS: f64 = 100.0;

/// Usual milliseconds of an answer by size; none before the first.
#[derive(Debug, Default)]
pub(super) struct Latency {
    usual_ms: [Option<f64>; SIZES_LEN_BYTES.len() + 1],
}

impl Latency {
    /// Takes in an answer and says whether it was slow. `is_first`: none of the calls sent with it was slow before.
    pub(super) fn is_slow(&mut self, bytes: u64, took_ms: u64, is_first: bool) -> bool {
        let class = SIZES_LEN_BYTES.iter().position(|&bound| bytes <= bound).unwrap_or(SIZES_LEN_BYTES.len());
        let took_ms = f64::from(u32::try_from(took_ms).unwrap_or(u32::MAX));
        let usual_ms = self.usual_ms[class].get_or_insert(took_ms);
        let is_slow = took_ms > *usual_ms * SLOW_FACTOR + SLOW_MARGIN_MS;
        *usual_ms += (took_ms - *usual_ms)
            * match (is_slow, is_first) {
                (false, _) => USUAL_WEIGHT,
                (true, true) => SLOW_WEIGHT,
                (true, false) => 0.0,
            };
        is_slow
    }
}

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_is_slow_until_it_has_become_usual() {
        let mut latency = Latency::default();
        assert!((0..100).all(|_| !latency.is_slow(1_000, 50, true)));
        assert!((0..5_000).all(|_| latency.is_slow(1_000, 5_000, false)), "of one moment");
        let spike = (0..5_000).take_while(|_| latency.is_slow(1_000, 5_000, true)).count();
        assert!((12..200).contains(&spike), "{spike}");
    }

    #[test]
    fn jitter_is_not_slow_and_large_answers_are_not_compared_with_small_ones() {
        let mut latency = Latency::default();
        assert!((0..100).all(|n| !latency.is_slow(1_000, 1 + n % 90, true)));
        assert!(!latency.is_slow(64 << 20, 20_000, true));
        assert!(latency.is_slow(1_000, 20_000, true));
    }
}
