//! How fast writes go while flushes are behind: about as fast as memtables are flushed, and slower the fuller the last one is,
//! so that many writes wait a little instead of one for a whole flush.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest that one write waits for its own bytes: what it lacks then is not made up for by others ...
pub(crate) const LONGEST: Duration = Duration::from_secs(1);
/// ... and for those of others before it, where it holds a thread; where it holds none, as long again as for its own.
pub(crate) const LONGEST_FOR_OTHERS: Duration = Duration::from_millis(50);
/// Shorter waits are left to the next write: a thread that sleeps wakes later than it asked to.
const SHORTEST: Duration = Duration::from_micros(200);
/// Writes begin faster than flushes, and however full it is go at least at this share of their pace.
const FASTEST: f64 = 2.0;
const SLOWEST: f64 = 0.1;
/// What is assumed before the first flush.
const ASSUMED_BYTES_PER_SEC: u64 = 16 << 20;

/// The pace, and how far ahead of it writes are.
#[derive(Debug, Default)]
pub(crate) struct WritePace {
    /// Of the last memtable that was large enough to tell; 0: not known yet.
    flushed_bytes_per_sec: AtomicU64,
    /// When what was written so far would have been written at the pace.
    due: Mutex<Option<Instant>>,
    writes: AtomicU64,
    waited_micros: AtomicU64,
}

impl WritePace {
    /// Takes down that a memtable of so many bytes was flushed.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn note_flush(&self, bytes: u64, took: Duration) {
        let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
        self.flushed_bytes_per_sec.store((rate as u64).max(1), Ordering::Relaxed);
    }

    /// How long a write of so many bytes is to wait, at `now`, where the last memtable is filled to this share. Writers that
    /// ask at once share the pace: this one waits for `for_others` at most of what those before it were promised.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn wait_of(&self, bytes: u64, filled: f64, for_others: Duration, now: Instant) -> Duration {
        let flushed = match self.flushed_bytes_per_sec() {
            0 => ASSUMED_BYTES_PER_SEC,
            known => known,
        };
        let pace = flushed as f64 * (FASTEST * (1.0 - filled)).max(SLOWEST);
        let takes = Duration::from_secs_f64((bytes as f64 / pace).min(LONGEST.as_secs_f64()));
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let from = due.map_or(now, |due| due.clamp(now, now + for_others));
        *due = Some(from + takes);
        let wait = (from + takes).saturating_duration_since(now);
        if wait < SHORTEST { Duration::ZERO } else { wait }
    }

    /// Of the last memtable that was large enough to tell; 0 before one was flushed.
    pub(crate) fn flushed_bytes_per_sec(&self) -> u64 {
        self.flushed_bytes_per_sec.load(Ordering::Relaxed)
    }

    /// Takes down that a write waited.
    pub(crate) fn note_wait(&self, waited: Duration) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waited_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many writes waited, and for how many microseconds together.
    pub(crate) fn waited(&self) -> (u64, u64) {
        (self.writes.load(Ordering::Relaxed), self.waited_micros.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use akidb_host::Clock;
    use akidb_host::sim::FakeClock;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// Seconds in which so many writes of 10 KiB go through, the memtable filling from `filled` on with each.
    fn seconds_of(pace: &WritePace, writes: u32, mut filled: f64, fill_by: f64) -> f64 {
        let clock = FakeClock::default();
        let began = clock.now();
        for _ in 0..writes {
            let wait = pace.wait_of(10 << 10, filled, LONGEST_FOR_OTHERS, clock.now());
            assert!(wait <= LONGEST);
            clock.advance(wait);
            filled += fill_by;
        }
        clock.now().duration_since(began).as_secs_f64()
    }

    #[test]
    fn before_a_flush_told_the_pace_one_is_assumed() {
        let took = seconds_of(&WritePace::default(), 1_024, 0.5, 0.0);
        assert!((0.6..0.65).contains(&took), "{took}");
    }

    #[test]
    fn writes_go_at_twice_the_pace_first_and_slower_and_slower() {
        let pace = WritePace::default();
        pace.note_flush(20 * MIB, Duration::from_secs(2));
        // 10 MiB a second: 1,024 writes of 10 KiB are a second's.
        let empty = seconds_of(&pace, 1_024, 0.0, 0.0);
        let half = seconds_of(&pace, 1_024, 0.5, 0.0);
        let nearly_full = seconds_of(&pace, 1_024, 0.9, 0.0);
        let beyond = seconds_of(&pace, 1_024, 1.5, 0.0);
        assert!((0.45..0.55).contains(&empty), "{empty}");
        assert!((0.95..1.05).contains(&half), "{half}");
        assert!((4.9..5.1).contains(&nearly_full), "{nearly_full}");
        assert!((9.9..10.1).contains(&beyond), "never to a stand: {beyond}");
    }

    #[test]
    fn a_memtable_is_not_full_before_the_one_ahead_of_it_is_flushed() {
        let pace = WritePace::default();
        // 32 MiB in 2 seconds; the next 32 MiB are 3,277 writes of 10 KiB.
        pace.note_flush(32 * MIB, Duration::from_secs(2));
        let took = seconds_of(&pace, 3_277, 0.0, 1.0 / 3_277.0);
        assert!(took > 2.0, "{took}");
    }

    #[test]
    fn writers_share_the_pace_and_a_long_wait_is_not_owed_for_ever() {
        let pace = WritePace::default();
        pace.note_flush(MIB, Duration::from_secs(1));
        let clock = FakeClock::default();
        let waits: Vec<u128> =
            (0..4).map(|_| pace.wait_of(4 << 10, 0.5, LONGEST_FOR_OTHERS, clock.now()).as_micros()).collect();
        assert!(waits.windows(2).all(|pair| pair[0] + 3_900 <= pair[1]), "{waits:?}");
        // A batch that takes minutes at the pace waits as long as any may, and who comes later is not held by it.
        let most = pace.wait_of(64 * MIB, 0.5, LONGEST_FOR_OTHERS, clock.now());
        assert!((LONGEST..=LONGEST + LONGEST_FOR_OTHERS).contains(&most), "{most:?}");
        let behind = pace.wait_of(1 << 10, 0.5, LONGEST_FOR_OTHERS, clock.now());
        assert!(behind < LONGEST_FOR_OTHERS + Duration::from_millis(2), "{behind:?}");
        clock.advance(LONGEST_FOR_OTHERS);
        assert!(pace.wait_of(1 << 10, 0.5, LONGEST_FOR_OTHERS, clock.now()) < LONGEST_FOR_OTHERS);
    }

    #[test]
    fn waits_are_counted() {
        let pace = WritePace::default();
        pace.note_wait(Duration::from_millis(2));
        pace.note_wait(Duration::from_millis(3));
        assert_eq!(pace.waited(), (2, 5_000));
    }
}
