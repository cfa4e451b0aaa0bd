//! Simulated machines for tests: a file system that asks before each call, a clock and threads that stand still.

mod clock;
mod gate;
mod hook;
mod script;
mod spawn;

pub use clock::FakeClock;
pub use gate::Gate;
pub use hook::{Act, Call, EIO, ENOSPC, Hook, HookFs, Op};
pub use script::{act_at, fail_at, fail_from, kill_at};
pub use spawn::InlineSpawn;

pub use crate::map::in_forked_child;
