//! A record that says who wrote it, and whose every other byte follows from that: what is found can be compared
//! byte by byte without having kept it.

use akidb_host::Rng;

const ID_BYTES: usize = 16;

/// One append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Batch {
    /// Which run of the writer on this log: a run begins where the crash of the one before it ended.
    pub(crate) run: u16,
    pub(crate) thread: u16,
    pub(crate) number: u32,
    /// Records in it.
    pub(crate) count: u16,
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) batch: Batch,
    pub(crate) index: u16,
}

impl Batch {
    pub(crate) fn ids(self) -> impl Iterator<Item = Id> {
        (0..self.count).map(move |index| Id { batch: self, index })
    }
}

impl Id {
    /// The record's bytes. Half of the seeds make all records equally long, as the vectors of one collection are:
    /// then stale frames line up with new ones.
    pub(crate) fn record(self, seed: u64) -> Vec<u8> {
        let Batch { run, thread, number, count } = self.batch;
        let mut bytes = Vec::with_capacity(ID_BYTES);
        bytes.extend(run.to_le_bytes());
        bytes.extend(thread.to_le_bytes());
        bytes.extend(number.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(self.index.to_le_bytes());
        bytes.extend([0; 4]);
        let who =
            u64::from(run) << 48 | u64::from(thread) << 40 | u64::from(number) << 8 | u64::from(self.index);
        let mut rng = Rng::seeded(seed ^ who.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let more = if seed & 1 == 0 { 400 } else { rng.below(40).pow(2) };
        bytes.resize(ID_BYTES + usize::try_from(more).unwrap_or(0), 0);
        rng.fill(&mut bytes[ID_BYTES..]);
        bytes
    }

    /// Whose record these bytes are, if they are one to the last byte.
    pub(crate) fn of(bytes: &[u8], seed: u64) -> Option<Self> {
        let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let number = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
        let batch = Batch { run: u16_at(0)?, thread: u16_at(2)?, number, count: u16_at(8)? };
        let id = Self { batch, index: u16_at(10)? };
        (id.record(seed) == bytes).then_some(id)
    }
}
