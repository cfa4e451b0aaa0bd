//! Simulated machines for tests: a file system that asks before each call, a clock and threads that stand still.

mod clock;
mod disk;
mod gate;
mod heap;
mod hook;
mod script;
mod spawn;

pub use clock::FakeClock;
pub use disk::CrashDisk;
pub use gate::Gate;
pub use heap::{CountedHeap, LARGE_BYTES};
pub use hook::{Act, Call, EIO, ENOSPC, Hook, HookFs, Op};
pub use script::{act_at, fail_at, fail_from, kill_at};
pub use spawn::InlineSpawn;

pub use crate::map::in_forked_child;
