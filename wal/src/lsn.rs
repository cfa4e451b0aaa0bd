//! Log sequence numbers: a dense counter under an epoch.

use std::fmt;
use std::str::FromStr;

const COUNTER_BITS: u32 = 40;
const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;

/// A log sequence number: `epoch << 40 | counter`, one a record, dense inside an epoch, never given out twice along
/// one line of opens of a directory. Below 2^63, so it fits an `i64`. [`Lsn::ZERO`] means "nothing".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Nothing: below every record.
    pub const ZERO: Self = Self(0);
    /// The largest epoch (23 bits).
    pub const MAX_EPOCH: u32 = (1 << 23) - 1;
    /// Above every record.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The number of record `counter` (from 1) of `epoch`.
    ///
    /// # Panics
    /// If either is out of range: our own mistake, an epoch is one open and a counter one record.
    #[must_use]
    pub fn new(epoch: u32, counter: u64) -> Self {
        assert!(epoch <= Self::MAX_EPOCH && counter <= COUNTER_MASK, "LSN out of range: {epoch}:{counter}");
        Self(u64::from(epoch) << COUNTER_BITS | counter)
    }

    /// The LSN with these bits, if they are one.
    #[must_use]
    pub fn from_u64(bits: u64) -> Option<Self> {
        (bits <= Self::MAX.0).then_some(Self(bits))
    }

    /// The bits, below 2^63.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The bits as the signed number that Parquet columns hold.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0.cast_signed()
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        (self.0 >> COUNTER_BITS) as u32
    }

    /// The counter inside the epoch; 0 names the start of the epoch, not a record.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 & COUNTER_MASK
    }

    /// The LSN `n` records later in the same epoch.
    ///
    /// # Panics
    /// If the counter would overflow its 40 bits.
    #[must_use]
    pub fn plus(self, n: u64) -> Self {
        Self::new(self.epoch(), self.counter() + n)
    }

    /// How many LSNs lie above this one in its epoch.
    pub(crate) const fn left(self) -> u64 {
        COUNTER_MASK - self.counter()
    }

    /// The number just above this one (`MAX` stays).
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 >= Self::MAX.0 { Self::MAX } else { Self(self.0 + 1) }
    }

    /// The number just below this one (`ZERO` stays): an upper bound for "everything before".
    #[must_use]
    pub const fn pred(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch(), self.counter())
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not `epoch:counter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an LSN: expected \"epoch:counter\"")]
pub struct ParseLsnError;

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let (epoch, counter) = text.split_once(':').ok_or(ParseLsnError)?;
        let epoch: u32 = epoch.parse().map_err(|_| ParseLsnError)?;
        let counter: u64 = counter.parse().map_err(|_| ParseLsnError)?;
        if epoch > Self::MAX_EPOCH || counter > COUNTER_MASK {
            return Err(ParseLsnError);
        }
        Ok(Self::new(epoch, counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_reads_back_from_its_text_and_orders_by_epoch_first() {
        let lsn = Lsn::new(3, 41);
        assert_eq!(lsn.to_string(), "3:41");
        assert_eq!("3:41".parse(), Ok(lsn));
        assert!(Lsn::new(2, 1_000_000) < lsn && lsn < Lsn::new(3, 42));
        assert_eq!("x:1".parse::<Lsn>(), Err(ParseLsnError));
        assert_eq!("8388608:1".parse::<Lsn>(), Err(ParseLsnError));
    }
}
