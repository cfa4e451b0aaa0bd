//! The only door to the machine: files, syncs, maps, clock, threads and randomness.
//!
//! Everything above asks for these through the traits here ([`Fs`], [`Clock`], [`Spawn`]), so that one
//! simulated machine can stand under the log, the segments, the manifests and the dead letters alike.
//! No formats and no checksums live here.

#![deny(unsafe_code)]

#[cfg(not(any(
    all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")),
    feature = "untested-platform"
)))]
compile_error!(
    "AkiDB is tested on Linux x86-64: elsewhere syncs, maps and locks may not keep the promises; the feature \
     `untested-platform` of akidb-host builds it all the same"
);

mod clock;
mod cpu;
mod fs;
mod map;
mod open_files;
mod panic;
mod rng;
mod seeded;
#[cfg(feature = "test-util")]
pub mod sim;
mod spawn;

pub use clock::{Clock, FastClock, RealClock, Timer};
pub use cpu::{pin_thread, process_cpu_time, thread_cpu_time};
pub use fs::{
    Access, Advice, DirEntry, EntryKind, File, Fs, FsKind, FsStats, LockGuard, Metadata, RealFs, publish_new,
    publish_over, read_file,
};
pub use map::{Appender, AtomicPage, ForkMark, LogRegion, NoRoom, Region, Tail, probe_folio};
pub use open_files::raise_open_files;
pub use panic::panic_text;
pub use rng::{Rng, SharedRng};
#[doc(hidden)]
pub use seeded::seeded_bug;
pub use spawn::{Job, Next, RealSpawn, Spawn, Tick, Ticker, Work};
