//! A crash disk that shows a test every call of its own thread that changes something.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use akidb_host::sim::{Act, Call, CrashDisk, Hook, HookFs};
use akidb_host::{Fs, Rng};

use super::in_dir;

/// What a test does in a call.
type Inside = Box<dyn Fn(&Call<'_>) -> Act + Send + Sync>;

/// Disks, each with the moment it is of.
pub(crate) type Cuts = Arc<Mutex<Vec<(String, CrashDisk)>>>;

/// A disk whose changing calls of this thread, but for those in the log, are numbered from 1 and shown to what the test sets.
pub(crate) struct Watched {
    pub(crate) disk: CrashDisk,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) calls: Arc<AtomicU64>,
    inside: Arc<OnceLock<Inside>>,
}

impl Watched {
    pub(crate) fn new(seed: u64) -> Self {
        let disk = CrashDisk::new(seed);
        let (calls, inside) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::<Inside>::new()));
        let (counted, asked, own) = (Arc::clone(&calls), Arc::clone(&inside), std::thread::current().id());
        let hook: Hook = Arc::new(move |call| {
            let is_ours = std::thread::current().id() == own && !in_dir(call.path, "wal");
            match asked.get() {
                Some(inside) if is_ours && call.op.changes() => {
                    let n = counted.fetch_add(1, Ordering::SeqCst) + 1;
                    inside(&Call { n, ..*call })
                }
                _ => Act::Go,
            }
        });
        let fs = Arc::new(HookFs::new(Arc::new(disk.clone()), hook));
        Self { disk, fs, calls, inside }
    }

    pub(crate) fn watch(&self, inside: impl Fn(&Call<'_>) -> Act + Send + Sync + 'static) {
        assert!(self.inside.set(Box::new(inside)).is_ok());
    }
    /// Keeps disks as a power cut or a kill before each of these calls leaves them.
    pub(crate) fn cut_everywhere(&self, seed: u64) -> Cuts {
        let cuts = Cuts::default();
        let (taken, disk, rng) = (Arc::clone(&cuts), self.disk.clone(), Mutex::new(Rng::seeded(seed)));
        self.watch(move |call| {
            let (mut rng, mut taken) = (rng.lock().unwrap(), taken.lock().unwrap());
            let name = format!("{:?} {}", call.op, call.path.display());
            (0..3).for_each(|_| taken.push((format!("a cut before {name}"), disk.power_cut(&mut rng))));
            taken.push((format!("a kill before {name}"), disk.kill()));
            Act::Go
        });
        cuts
    }
}
