//! The sliding window of a breaker: a fixed ring of tagged counters, whatever the rate of calls.
//!
//! ```text
//! one bucket, an AtomicU64
//!  63       56 55            40 39                 20 19                  0
//! +-----------+----------------+---------------------+---------------------+
//! | epoch 8   | turn 16        | total 20            | failed 20           |
//! +-----------+----------------+---------------------+---------------------+
//! turn: how often the ring had gone round when the bucket was last opened
//! ```
//!
//! Nothing is ever cleared: a bucket of another turn or another epoch counts as empty, and the next one who counts in
//! it opens it anew. The tags wrap: counts come back to life after 256 epochs inside one window, or when nothing was
//! counted for exactly 65,536 windows (45 days at 60 s), which costs one cooldown at worst.

use akidb_host::seeded_bug;

use crate::sync::{AtomicU64, Ordering};

/// Buckets of a window. The models of loom have two: enough for a boundary and for reuse.
pub(crate) const BUCKETS: usize = if cfg!(akidb_loom) { 2 } else { 60 };

const COUNT_BITS: u32 = 20;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;

/// Calls and failed calls of the last while.
#[derive(Debug)]
pub(crate) struct Window {
    buckets: [AtomicU64; BUCKETS],
    bucket_ms: u64,
}

/// What a bucket held after a call was counted in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Calls in this bucket.
    pub(crate) total: u32,
    /// Whether this call was the first in it.
    pub(crate) opened: bool,
}

/// Calls of a whole window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) total: u64,
    pub(crate) failed: u64,
}

impl Sum {
    /// Failed calls of a million.
    pub(crate) fn failed_ppm(self) -> u64 {
        (self.failed * 1_000_000).checked_div(self.total).unwrap_or(0)
    }

    /// Whether the share of failed calls is strictly above `ppm` of a million, exactly.
    pub(crate) fn is_above(self, ppm: u64) -> bool {
        self.failed * 1_000_000 > self.total * ppm
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Bucket {
    epoch: u8,
    turn: u16,
    total: u32,
    failed: u32,
}

impl Bucket {
    fn unpack(bits: u64) -> Self {
        let count = |shift: u32| low32(bits >> shift) & COUNT_MAX;
        Self { epoch: bits.to_be_bytes()[0], turn: low16(bits >> 40), total: count(20), failed: count(0) }
    }

    fn pack(self) -> u64 {
        u64::from(self.epoch) << 56
            | u64::from(self.turn) << 40
            | u64::from(self.total) << COUNT_BITS
            | u64::from(self.failed)
    }

    /// One call more. A full bucket counts nothing more: its share stays what it is.
    fn plus(self, failed: bool) -> Self {
        if self.total == COUNT_MAX {
            return self;
        }
        Self { total: self.total + 1, failed: self.failed + u32::from(failed), ..self }
    }
}

fn low32(bits: u64) -> u32 {
    u32::try_from(bits & 0xffff_ffff).expect("masked to 32 bits")
}

fn low16(bits: u64) -> u16 {
    u16::try_from(bits & 0xffff).expect("masked to 16 bits")
}

/// Where a moment lies in the ring.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    turn: u16,
}

impl Place {
    /// Whether a bucket counts at this moment. A bucket newer than the moment counts too: whoever asks may have taken
    /// the time a while ago.
    fn covers(self, index: usize, turn: u16) -> bool {
        let older_by = self.turn.wrapping_sub(turn);
        older_by == 0 || older_by == u16::MAX || (older_by == 1 && index > self.index)
    }
}

impl Window {
    /// A window of `window_ms` milliseconds, rounded up to whole buckets.
    pub(crate) fn new(window_ms: u64) -> Self {
        let bucket_ms = window_ms.div_ceil(BUCKETS as u64).max(1);
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), bucket_ms }
    }

    fn place(&self, now_ms: u64) -> Place {
        let tick = now_ms / self.bucket_ms;
        let index = usize::try_from(tick % BUCKETS as u64).expect("below the number of buckets");
        // Turn 0 is that of a bucket never counted in, so real turns begin at 1.
        Place { index, turn: low16(tick / BUCKETS as u64 + 1) }
    }

    /// Counts a call of `epoch`, unless a bucket of another epoch stands there and `is_current` says that ours is
    /// over: then it is counted nowhere. The bucket's tag never decides which of two epochs is newer; the word of the
    /// breaker does.
    pub(crate) fn count(
        &self,
        now_ms: u64,
        epoch: u8,
        failed: bool,
        is_current: impl Fn() -> bool,
    ) -> Option<Counted> {
        let place = self.place(now_ms);
        let cell = &self.buckets[place.index];
        let mut bits = cell.load(Ordering::Acquire);
        loop {
            let bucket = Bucket::unpack(bits);
            let is_of_epoch = bucket.epoch == epoch || seeded_bug("window_mixes_epochs");
            let is_open = is_of_epoch && place.covers(place.index, bucket.turn);
            if !is_open && !is_current() {
                return None;
            }
            let fresh = Bucket { epoch, turn: place.turn, total: 0, failed: 0 };
            let next = if is_open { bucket } else { fresh }.plus(failed);
            match cell.compare_exchange_weak(bits, next.pack(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(Counted { total: next.total, opened: !is_open }),
                Err(now) => bits = now,
            }
        }
    }

    /// The calls of `epoch` in the window that ends now.
    pub(crate) fn sum(&self, now_ms: u64, epoch: u8) -> Sum {
        let place = self.place(now_ms);
        // As [`Place::covers`], on whole tags: this runs for every failure.
        let tag = |turn: u16| u64::from(epoch) << 16 | u64::from(turn);
        let (now, before, after) =
            (tag(place.turn), tag(place.turn.wrapping_sub(1)), tag(place.turn.wrapping_add(1)));
        let mut sum = Sum::default();
        for (index, cell) in self.buckets.iter().enumerate() {
            let bits = cell.load(Ordering::Acquire);
            let found = bits >> 40;
            if found == now || found == after || (found == before && index > place.index) {
                sum.total += bits >> COUNT_BITS & u64::from(COUNT_MAX);
                sum.failed += bits & u64::from(COUNT_MAX);
            }
        }
        sum
    }
}

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000;

    fn sum(total: u64, failed: u64) -> Sum {
        Sum { total, failed }
    }

    #[test]
    fn a_bucket_packs_and_unpacks() {
        for bucket in [
            Bucket { epoch: 0, turn: 0, total: 0, failed: 0 },
            Bucket { epoch: 255, turn: 65_535, total: COUNT_MAX, failed: COUNT_MAX },
            Bucket { epoch: 3, turn: 4, total: 5, failed: 2 },
        ] {
            assert!(Bucket::unpack(bucket.pack()) == bucket);
        }
    }

    #[test]
    fn calls_leave_the_window_after_its_length_and_not_before() {
        let window = Window::new(60 * SECOND);
        for second in 0..60 {
            window.count(second * SECOND, 1, second % 2 == 0, || true).unwrap();
        }
        assert_eq!(window.sum(59 * SECOND, 1), sum(60, 30));
        for second in 60..120 {
            let left = 119 - second;
            assert_eq!(window.sum(second * SECOND, 1).total, left, "at {second} s");
        }
        assert_eq!(window.sum(1 << 40, 1), sum(0, 0));
    }

    #[test]
    fn counts_of_another_epoch_are_not_there_and_are_replaced() {
        let window = Window::new(60 * SECOND);
        window.count(0, 1, true, || true).unwrap();
        assert_eq!(window.sum(0, 2), sum(0, 0));
        assert_eq!(window.count(0, 2, false, || true), Some(Counted { total: 1, opened: true }));
        assert_eq!((window.sum(0, 1), window.sum(0, 2)), (sum(0, 0), sum(1, 0)));
        assert_eq!(window.count(0, 1, true, || false), None, "an epoch that is over counts nowhere");
    }

    #[test]
    fn one_who_is_late_counts_in_the_newer_bucket_and_sees_the_newer_ones() {
        let window = Window::new(60 * SECOND);
        window.count(61 * SECOND, 1, true, || true).unwrap();
        assert_eq!(window.count(SECOND, 1, true, || true), Some(Counted { total: 2, opened: false }));
        assert_eq!(window.sum(0, 1), sum(2, 2));
        assert_eq!(window.sum(61 * SECOND, 1), sum(2, 2));
    }

    #[test]
    fn a_full_bucket_keeps_its_share() {
        let window = Window::new(60 * SECOND);
        window.buckets[0]
            .store(Bucket { epoch: 1, turn: 1, total: COUNT_MAX - 1, failed: 9 }.pack(), Ordering::Relaxed);
        for _ in 0..3 {
            window.count(0, 1, true, || true).unwrap();
        }
        assert_eq!(window.sum(0, 1), sum(u64::from(COUNT_MAX), 10));
    }

    #[test]
    fn above_means_strictly_above() {
        assert!(!sum(100, 50).is_above(500_000));
        assert!(sum(100, 51).is_above(500_000));
        assert!(!sum(0, 0).is_above(0));
        assert_eq!(sum(3, 1).failed_ppm(), 333_333);
    }

    #[test]
    fn a_window_of_a_second_has_buckets_of_its_sixtieth() {
        let window = Window::new(SECOND);
        window.count(0, 1, true, || true).unwrap();
        assert_eq!(window.sum(1_002, 1).total, 1);
        assert_eq!(window.sum(1_020, 1).total, 0);
    }
}
