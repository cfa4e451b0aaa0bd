//! When a database is at rest: nobody has written for a while, and what it keeps for writers is given back.

use std::time::{Duration, Instant};

use crate::lsn::Lsn;

/// What memtables and log files must hold for a flush after a short rest to be worth it: more than a database that is
/// written to now and then has.
const WORTHWHILE_BYTES: u64 = 8 << 20;
/// After so many times the rest, anything is worth it: a replay saved, and a copy on the backends.
const LONG_REST: u32 = 30;

/// Since when nothing was appended, and whether that has been made use of.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    last: Option<(Lsn, Instant)>,
    taken: bool,
}

impl Rest {
    /// Looks whether something was appended since the last look. Whether the database is awake, that is, a rest that was
    /// taken has ended.
    pub(crate) fn look(&mut self, appended: Lsn, now: Instant) -> bool {
        if self.last.is_some_and(|(last, _)| last == appended) {
            return false;
        }
        self.last = Some((appended, now));
        std::mem::take(&mut self.taken)
    }

    /// Whether the rest is long enough to flush for, where that would give back so many bytes.
    pub(crate) fn is_due(&self, after: Duration, gain_bytes: u64, now: Instant) -> bool {
        let quiet = self.last.map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(since));
        let long = after.saturating_mul(LONG_REST);
        !after.is_zero() && !self.taken && (quiet >= long || quiet >= after && gain_bytes >= WORTHWHILE_BYTES)
    }

    /// All that could be given back was.
    pub(crate) fn take(&mut self) {
        self.taken = true;
    }
}

#[cfg(test)]
mod tests {
    use akidb_host::{Clock, RealClock};

    use super::*;

    #[test]
    fn a_rest_is_taken_once_and_ends_with_the_next_write() {
        let (start, after) = (RealClock.now(), Duration::from_secs(30));
        let at = |secs| start + Duration::from_secs(secs);
        let mut rest = Rest::default();
        assert!(!rest.is_due(after, u64::MAX, at(0)));
        assert!(!rest.look(Lsn::new(1, 5), at(0)));
        assert!(!rest.look(Lsn::new(1, 5), at(29)));
        assert!(!rest.is_due(after, u64::MAX, at(29)));
        assert!(rest.is_due(after, WORTHWHILE_BYTES, at(30)));
        assert!(!rest.is_due(after, WORTHWHILE_BYTES - 1, at(30)), "little is worth a long rest only");
        assert!(!rest.is_due(Duration::ZERO, u64::MAX, at(100_000)), "switched off");
        assert!(rest.is_due(after, 0, at(900)));
        rest.take();
        assert!(!rest.is_due(after, u64::MAX, at(9_000)));
        assert!(rest.look(Lsn::new(1, 6), at(9_001)), "awake");
        assert!(!rest.is_due(after, u64::MAX, at(9_030)));
        assert!(rest.is_due(after, u64::MAX, at(9_031)));
        assert!(!rest.look(Lsn::new(1, 7), at(9_032)), "no rest was taken in between");
    }
}
