//! Ready-made hooks: fail or kill at the k-th call of a kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::hook::{Act, Hook, Op};

/// Kills the process (SIGKILL) instead of the `k`-th call, from 1, whose operation `ops` accepts.
#[must_use]
pub fn kill_at(k: u64, ops: impl Fn(Op) -> bool + Send + Sync + 'static) -> Hook {
    act_at(k, Act::Kill, ops)
}

/// Answers `act` to the `k`-th call, from 1, whose operation `ops` accepts.
#[must_use]
pub fn act_at(k: u64, act: Act, ops: impl Fn(Op) -> bool + Send + Sync + 'static) -> Hook {
    at(move |n| n == k, act, ops)
}

/// Fails the `k`-th call, from 1, that changes or syncs something and can fail, once and without doing it.
#[must_use]
pub fn fail_at(k: u64, errno: i32) -> Hook {
    at(move |n| n == k, Act::Fail(errno), |op| op.changes() && op.can_fail())
}

/// As [`fail_at`], with every later such call: a disk that stays full or broken.
#[must_use]
pub fn fail_from(k: u64, errno: i32) -> Hook {
    at(move |n| n >= k, Act::Fail(errno), |op| op.changes() && op.can_fail())
}

/// Counts the calls that `counts` accepts and answers `act` where `hit` accepts the number.
fn at(
    hit: impl Fn(u64) -> bool + Send + Sync + 'static,
    act: Act,
    counts: impl Fn(Op) -> bool + Send + Sync + 'static,
) -> Hook {
    let counted = AtomicU64::new(0);
    Arc::new(
        move |call| {
            if counts(call.op) && hit(counted.fetch_add(1, Ordering::Relaxed) + 1) { act } else { Act::Go }
        },
    )
}
