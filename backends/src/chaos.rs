//! What a backend may do to us, row by row: each test holds what must stay true whatever happens.
//!
//! Here: breaker, limiter, retries, uploads, documents. Time is the runtime's, and paused: an hour takes milliseconds.
//! The rows that need the uploader's loop or the dead letter queue stand beside them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb_host::Rng;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::breaker::State;
use crate::fault::{FaultStore, VirtualClock};
use crate::guard::{CallKind, Guard};
use crate::test_support::{identity, item, real_fs};
use crate::{
    Backend, BackendConfig, BreakerSettings, Client, Known, Multiparts, PlanItem, PublishOptions, Publisher,
    TokioSleep,
};

mod broken;
mod down;
#[cfg(feature = "s3")]
mod http;
mod rivals;
mod slow;

/// A guarded backend over faults, in the runtime's time.
struct Rig {
    faults: FaultStore,
    client: Client,
    clock: VirtualClock,
}

/// Breakers whose cooldown is exact.
fn exact() -> BreakerSettings {
    BreakerSettings { cooldown_jitter: 0.0, ..BreakerSettings::default() }
}

fn rig(breaker: BreakerSettings, seed: u64) -> Rig {
    let faults = FaultStore::over_parts(Arc::new(InMemory::new()));
    let config = BackendConfig { circuit_breaker_config: breaker, ..BackendConfig::new("t", "memory") };
    let backend = Backend::assemble_with_parts(&config, crate::Kind::Custom, Arc::new(faults.clone()));
    let clock = VirtualClock::start();
    let backend = backend.guarded(Arc::new(clock), Arc::new(TokioSleep), seed);
    Rig { faults, client: Client::new(backend, Arc::new(TokioSleep), Rng::seeded(seed)), clock }
}

impl Rig {
    fn guard(&self) -> &Arc<Guard> {
        self.client.backend().guard().unwrap()
    }

    fn store(&self) -> &Arc<dyn ObjectStore> {
        self.client.backend().store()
    }

    fn state(&self, kind: CallKind) -> State {
        self.guard().status(kind).state
    }

    /// No call is under way and every permit was answered for.
    fn assert_all_given_back(&self) {
        let left = self.guard().in_flight();
        assert_eq!((left.calls, left.bytes, left.waiting), (0, 0, 0));
    }
}

fn publisher(client: &Client, epoch: u64, journal: Option<&Arc<Multiparts>>) -> Publisher {
    let options = PublishOptions { part_len_bytes: 2_000, ..PublishOptions::default() };
    let writer = u32::try_from(epoch).unwrap();
    let clock = Arc::new(VirtualClock::start());
    let identity = identity(epoch, writer);
    let publisher = Publisher::new(client.clone(), real_fs(), clock, identity, Known::default(), options);
    match journal {
        Some(journal) => publisher.with_multiparts(Arc::clone(journal)),
        None => publisher,
    }
}

fn items(dir: &Path, names: &[&str], len: usize, rng: &mut Rng) -> Vec<PlanItem> {
    names.iter().map(|name| item(dir, name, len, rng)).collect()
}

/// Lets this much of the runtime's time pass.
#[expect(clippy::disallowed_methods, reason = "the time of a paused runtime")]
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
