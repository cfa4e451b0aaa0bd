//! Ids of letters: UUIDs of version 7 that rise in the order they are given out.
//!
//! ```text
//! bits   48 milliseconds since the Unix epoch | 4 version 7 | 12 counter | 2 variant 10 | 62 random
//! ```

use akidb_host::Rng;

use super::letter::LetterId;

const COUNTER_BITS: u32 = 12;
const MILLIS_MASK: u64 = (1 << 48) - 1;

/// Gives out ids.
#[derive(Debug)]
pub(crate) struct Ids {
    rng: Rng,
    /// Time and counter of the last one.
    last: u64,
}

impl Ids {
    /// Ids above `newest`, whatever the clock says.
    pub(crate) fn after(newest: Option<&LetterId>, rng: Rng) -> Self {
        Self { rng, last: newest.and_then(stamp_of).unwrap_or(0) }
    }

    pub(crate) fn next(&mut self, now_unix_ms: i64) -> LetterId {
        let millis = u64::try_from(now_unix_ms).unwrap_or(0) & MILLIS_MASK;
        // Two in one millisecond, or a clock set back: the counter goes on, into the time if need be.
        self.last = (millis << COUNTER_BITS).max(self.last.wrapping_add(1) & (u64::MAX >> 4));
        let (millis, counter) = (self.last >> COUNTER_BITS, self.last & ((1 << COUNTER_BITS) - 1));
        let random = self.rng.u64();
        let text = format!(
            "{:08x}-{:04x}-7{counter:03x}-{:04x}-{:012x}",
            millis >> 16,
            millis & 0xffff,
            0x8000 | (random >> 48 & 0x3fff),
            random & MILLIS_MASK,
        );
        text.parse().expect("made of hex digits and dashes")
    }
}

/// Time and counter of an id; of one of another version, none.
fn stamp_of(id: &LetterId) -> Option<u64> {
    let (text, hex) = (id.as_str(), |part: &str| u64::from_str_radix(part, 16).ok());
    let millis = hex(&text[..8])? << 16 | hex(&text[9..13])?;
    text[14..].starts_with('7').then_some(millis << COUNTER_BITS | hex(&text[15..18])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_when_the_clock_stands_still_or_goes_back_and_over_a_restart() {
        let mut ids = Ids::after(None, Rng::seeded(1));
        let mut last = ids.next(1_767_225_600_000);
        assert_eq!(&last.as_str()[..19], "019b76da-a800-7000-");
        for n in 0..10_000 {
            if n % 1_000 == 0 {
                ids = Ids::after(Some(&last), Rng::seeded(n));
            }
            let next = ids.next(1_767_225_600_000 - i64::try_from(n).unwrap());
            assert!(next > last, "{next} after {last}");
            last = next;
        }
    }

    #[test]
    fn the_last_id_of_all_is_followed_by_one_of_now() {
        let last = "ffffffff-ffff-7fff-bfff-ffffffffffff".parse().unwrap();
        let next = Ids::after(Some(&last), Rng::seeded(1)).next(1_767_225_600_000);
        assert_eq!(&next.as_str()[..13], "019b76da-a800");
    }
}
