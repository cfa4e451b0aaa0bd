//! Seeded randomness, passed in wherever it is needed: one seed replays a run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A small deterministic generator (wyrand); not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// The generator that replays `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A generator seeded by the machine: for ids and salts, which need to differ, not to repeat.
    #[must_use]
    pub fn from_machine() -> Self {
        Self(fastrand::Rng::new())
    }

    /// The next 32 bits.
    pub fn u32(&mut self) -> u32 {
        self.0.u32(..)
    }

    /// The next 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.u64(0..bound) }
    }

    /// A number in `[0, 1)`.
    pub fn f64(&mut self) -> f64 {
        self.0.f64()
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }
}

/// One generator that many draw from: clones share it.
#[derive(Clone, Debug)]
pub struct SharedRng(Arc<Mutex<Rng>>);

impl From<Rng> for SharedRng {
    fn from(rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(rng)))
    }
}

impl SharedRng {
    fn lock(&self) -> MutexGuard<'_, Rng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next 32 bits.
    #[must_use]
    pub fn u32(&self) -> u32 {
        self.lock().u32()
    }

    /// The next 64 bits.
    #[must_use]
    pub fn u64(&self) -> u64 {
        self.lock().u64()
    }

    /// Fills `out` with random bytes.
    pub fn fill(&self, out: &mut [u8]) {
        self.lock().fill(out);
    }

    /// A generator of one's own, seeded by this one.
    #[must_use]
    pub fn child(&self) -> Rng {
        Rng::seeded(self.u64())
    }
}
