//! Keys of batches, and those of the batches written lately: one that is sent again under its key is answered, not
//! written. In its last record a batch that has a key carries
//!
//! ```text
//! offset size  field      little endian
//!      0    8  at         when it was written: microseconds since the Unix epoch
//!      8    4  digest     crc32 of what it writes and demands
//!     12    4  records    how many it has
//!     16       the key: 1..=128 bytes of UTF-8
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;

/// Longest key of a batch, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 128;
/// Bytes before the key.
const HEADER_BYTES: usize = 16;

/// The key of a batch that is written now, or that the log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchKey {
    pub(crate) at_micros: i64,
    pub(crate) digest: u32,
    pub(crate) records: u32,
    pub(crate) text: Arc<str>,
}

impl BatchKey {
    /// Refuses a key that cannot be kept.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn check(text: &str) -> Result<()> {
        if (1..=MAX_KEY_BYTES).contains(&text.len()) {
            return Ok(());
        }
        let message = format!("an idempotency key of {} bytes; 1 to {MAX_KEY_BYTES} can be kept", text.len());
        Err(Error::invalid("AKI-0229", message).help_is("a UUID, or a hash of what names the request"))
    }

    /// What the last record of the batch carries.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.text.len());
        out.extend_from_slice(&self.at_micros.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(self.text.as_bytes());
        out
    }

    /// Reads it back from the record with this LSN; `None` if it cannot be that.
    pub(crate) fn decode(bytes: &[u8], lsn: Lsn) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        let (records, text) = rest.split_first_chunk()?;
        let records = u32::from_le_bytes(*records);
        let text = std::str::from_utf8(text).ok()?;
        let fits = records > 0 && u64::from(records) <= lsn.counter() && Self::check(text).is_ok();
        fits.then(|| Self {
            at_micros: i64::from_le_bytes(*at),
            digest: u32::from_le_bytes(*digest),
            records,
            text: text.into(),
        })
    }

    /// The key of a batch that ends at `last`.
    pub(crate) fn kept(&self, last: Lsn) -> KeptKey {
        let first = Lsn::from_u64(last.as_u64() - u64::from(self.records - 1));
        KeptKey {
            first: first.expect("a batch lies within its epoch"),
            last,
            at_micros: self.at_micros,
            digest: self.digest,
            key: Arc::clone(&self.text),
        }
    }
}

/// The key of a batch that was written. In JSON one text: first and last LSN, when, digest in hex, and the key, which
/// may have spaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeptKey {
    /// The batch's first record.
    pub first: Lsn,
    /// Its last.
    pub last: Lsn,
    /// When it was written, in microseconds since the Unix epoch.
    pub at_micros: i64,
    /// crc32 of what it wrote and demanded.
    pub digest: u32,
    /// The key.
    pub key: Arc<str>,
}

impl fmt::Display for KeptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, at_micros, digest, key } = self;
        write!(f, "{first} {last} {at_micros} {digest:08x} {key}")
    }
}

impl From<KeptKey> for String {
    fn from(kept: KeptKey) -> Self {
        kept.to_string()
    }
}

impl TryFrom<String> for KeptKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = || {
            let mut parts = text.splitn(5, ' ');
            let mut next = || parts.next();
            let (first, last) = (next()?.parse().ok()?, next()?.parse().ok()?);
            let (at_micros, digest) = (next()?.parse().ok()?, u32::from_str_radix(next()?, 16).ok()?);
            let kept = Self { first, last, at_micros, digest, key: next()?.into() };
            // As it was written, and in no other form.
            (kept.to_string() == text).then_some(kept)
        };
        parsed().ok_or_else(|| format!("not a key of a batch: {text:?}"))
    }
}

/// How many keys are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyBounds {
    pub(crate) keys: usize,
    pub(crate) window_micros: i64,
}

impl KeyBounds {
    /// A clock that was set back makes a key stay longer, never shorter.
    fn is_over(&self, kept: &KeptKey, now_micros: i64) -> bool {
        now_micros.saturating_sub(kept.at_micros) > self.window_micros
    }
}

/// The keys of the batches that were appended lately. Changed under the sequencer lock, so that of two batches with one
/// key one is written; looked at by anyone.
#[derive(Debug)]
pub(crate) struct RecentKeys {
    bounds: KeyBounds,
    kept: Mutex<Kept>,
}

/// By the LSN of the batch's last record, and where each key stands. The oldest go first.
#[derive(Debug, Default)]
struct Kept {
    by_lsn: BTreeMap<Lsn, KeptKey>,
    by_key: HashMap<Arc<str>, Lsn>,
}

impl RecentKeys {
    /// With those a manifest kept.
    pub(crate) fn new(bounds: KeyBounds, kept: &[KeptKey]) -> Self {
        let keys = Self { bounds, kept: Mutex::default() };
        kept.iter().for_each(|key| keys.remember(key.clone()));
        keys
    }

    /// Where the batch was written before, from its first LSN to its last, if that is known.
    ///
    /// # Errors
    /// `Conflict` if another batch was written under this key.
    pub(crate) fn earlier(&self, batch: &BatchKey) -> Result<Option<(Lsn, Lsn)>> {
        let kept = self.lock();
        let found = kept.by_key.get(&batch.text).map(|last| &kept.by_lsn[last]);
        let Some(found) = found.filter(|found| !self.bounds.is_over(found, batch.at_micros)) else {
            return Ok(None);
        };
        if (found.digest, found.last) == (batch.digest, found.first.plus(u64::from(batch.records) - 1)) {
            return Ok(Some((found.first, found.last)));
        }
        let message = format!(
            "another batch was written with the idempotency key {:?}, as {} to {}",
            batch.text, found.first, found.last
        );
        Err(Error::new(ErrorKind::Conflict, "AKI-0219", message)
            .help_is("send the batch as it was, or another one with a key of its own"))
    }

    /// Keeps the key of a batch that was appended.
    pub(crate) fn remember(&self, key: KeptKey) {
        let mut kept = self.lock();
        let now = key.at_micros;
        if let Some(before) = kept.by_key.insert(Arc::clone(&key.key), key.last) {
            kept.by_lsn.remove(&before);
        }
        kept.by_lsn.insert(key.last, key);
        while kept.by_lsn.len() > self.bounds.keys {
            kept.forget_oldest();
        }
        self.forget_old(&mut kept, now);
    }

    /// Those whose batch lies wholly below the log's floor: what the log will not tell again.
    pub(crate) fn below(&self, floor: Lsn, now_micros: i64) -> Vec<KeptKey> {
        let mut kept = self.lock();
        self.forget_old(&mut kept, now_micros);
        kept.by_lsn.range(..floor).map(|(_, key)| key.clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().by_lsn.len()
    }

    fn forget_old(&self, kept: &mut Kept, now_micros: i64) {
        while kept.by_lsn.first_key_value().is_some_and(|(_, oldest)| self.bounds.is_over(oldest, now_micros))
        {
            kept.forget_oldest();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.by_lsn.pop_first() {
            self.by_key.remove(&oldest.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: KeyBounds = KeyBounds { keys: 3, window_micros: 100 };

    fn batch(text: &str, at_micros: i64, digest: u32) -> BatchKey {
        BatchKey { at_micros, digest, records: 2, text: text.into() }
    }

    fn lsn(n: u64) -> Lsn {
        Lsn::new(1, n)
    }

    #[test]
    fn a_key_reads_back_from_its_record_and_from_a_manifest() {
        let key = batch("order 17, ä", -5, 0xab);
        assert_eq!(BatchKey::decode(&key.encode(), lsn(9)), Some(key.clone()));
        assert_eq!(BatchKey::decode(&key.encode(), lsn(1)), None, "two records do not end at the first LSN");
        for len in 0..=HEADER_BYTES {
            assert_eq!(BatchKey::decode(&key.encode()[..len], lsn(9)), None, "{len} bytes");
        }
        let kept = key.kept(lsn(9));
        assert_eq!((kept.first, kept.last), (lsn(8), lsn(9)));
        assert_eq!(kept.to_string(), "1:8 1:9 -5 000000ab order 17, ä");
        assert_eq!(KeptKey::try_from(kept.to_string()), Ok(kept));
        for bad in
            ["", "1:8 1:9 -5 000000ab", "1:8 1:9 -5 ab k", "1:8 1:9  5 000000ab k", "x 1:9 5 000000ab k"]
        {
            assert!(KeptKey::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_go_by_number_and_by_age_the_oldest_first() {
        let keys = RecentKeys::new(BOUNDS, &[batch("a", 0, 1).kept(lsn(2))]);
        for (n, key) in [(4, "b"), (6, "c")] {
            keys.remember(batch(key, 10, 1).kept(lsn(n)));
        }
        assert_eq!(keys.earlier(&batch("a", 100, 1)).unwrap(), Some((lsn(1), lsn(2))));
        assert_eq!(keys.earlier(&batch("a", 101, 1)).unwrap(), None, "its window is over");
        assert_eq!(keys.earlier(&batch("a", 101, 2)).unwrap(), None, "and other content is welcome");
        assert_eq!(keys.earlier(&batch("a", 100, 2)).unwrap_err().code(), "AKI-0219");
        assert_eq!(
            keys.earlier(&batch("b", -1_000, 1)).unwrap(),
            Some((lsn(3), lsn(4))),
            "the clock went back"
        );
        keys.remember(batch("d", 20, 1).kept(lsn(8)));
        assert_eq!((keys.earlier(&batch("a", 20, 1)).unwrap(), keys.len()), (None, 3));
        keys.remember(batch("b", 111, 7).kept(lsn(10)));
        assert_eq!(keys.len(), 2, "c is over its window, and b moved");
        assert_eq!(keys.earlier(&batch("b", 111, 7)).unwrap(), Some((lsn(9), lsn(10))));
        let below: Vec<_> = keys.below(lsn(10), 111).into_iter().map(|kept| kept.key).collect();
        assert_eq!(below, ["d".into()], "the log still has the other");
        assert!(keys.below(lsn(11), 1_000).is_empty());
        assert_eq!(keys.len(), 0);
    }
}
