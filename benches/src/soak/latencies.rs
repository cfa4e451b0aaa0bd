//! How long calls took: counted in buckets a thirty-second of their value wide, so that memory is bounded and slices of
//! a run can be added up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets of an octave, a power of two.
const IN_AN_OCTAVE: u64 = 32;
const BITS: u32 = IN_AN_OCTAVE.ilog2();

/// Counts of microseconds by bucket.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Latencies(BTreeMap<u32, u64>);

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        *self.0.entry(bucket(micros)).or_default() += 1;
    }

    pub(super) fn add_all(&mut self, others: &Self) {
        for (bucket, count) in &others.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Microseconds below which so many thousandths lie, at most a thirty-second too many; none of none.
    pub(super) fn per_mille(&self, thousandths: u64) -> Option<f64> {
        let wanted = (self.count() * thousandths).div_ceil(1_000).max(1);
        let mut seen = 0;
        let reaches = |(_, count): &(&u32, &u64)| {
            seen += **count;
            seen >= wanted
        };
        let (bucket, _) = self.0.iter().find(reaches)?;
        Some(top(*bucket) as f64)
    }

    /// The same in milliseconds.
    pub(super) fn per_mille_ms(&self, thousandths: u64) -> Option<f64> {
        Some(self.per_mille(thousandths)? / 1e3)
    }
}

fn bucket(micros: u64) -> u32 {
    if micros < IN_AN_OCTAVE {
        return u32::try_from(micros).expect("small");
    }
    let octave = micros.ilog2() - BITS;
    let within = u32::try_from(micros >> octave).expect("six bits");
    (octave << BITS) + within
}

/// The largest number of microseconds in a bucket.
fn top(bucket: u32) -> u64 {
    let octave = (bucket >> BITS).saturating_sub(1);
    let within = u64::from(bucket - (octave << BITS));
    ((within + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_put_into_it_and_is_narrow() {
        let mut before = 0;
        for micros in (0..5_000).chain((1 << 20)..(1 << 20) + 90_000).chain([1 << 40]) {
            let (at, most) = (bucket(micros), top(bucket(micros)));
            assert!(micros <= most && most - micros <= micros / IN_AN_OCTAVE, "{micros} in one up to {most}");
            assert!(at >= before, "{micros}");
            assert_eq!(bucket(most), at);
            before = at;
        }
    }

    #[test]
    fn percentiles_of_parts_are_those_of_the_whole() {
        let (mut a, mut b) = (Latencies::default(), Latencies::default());
        assert_eq!(a.per_mille(500), None);
        (0..99).for_each(|_| a.add(Duration::from_micros(10)));
        b.add(Duration::from_millis(9));
        a.add_all(&b);
        assert_eq!((a.count(), a.per_mille(500), a.per_mille(990)), (100, Some(10.0), Some(10.0)));
        assert!(a.per_mille_ms(1_000).is_some_and(|ms| (9.0..9.3).contains(&ms)));
        let told: Latencies = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
        assert_eq!(told.0, a.0);
    }
}
