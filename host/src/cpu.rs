//! Processor time, and which processor a thread runs on: what counts on a machine that is shared.

use std::io;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Processor time of this process so far: all its threads, those that ended too, in user and system mode.
#[must_use]
pub fn process_cpu_time() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// Processor time of the calling thread so far, in user and system mode.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

/// Binds the calling thread to one of the processors it may use, the `nth` from the last, round and round; returns its
/// number. Threads that it makes are bound too.
///
/// # Errors
/// What the machine says.
pub fn pin_thread(nth: usize) -> io::Result<usize> {
    let allowed = sched_getaffinity(None)?;
    let mut processors = (0..CpuSet::MAX_CPU).rev().filter(|cpu| allowed.is_set(*cpu)).cycle();
    let cpu = processors.nth(nth).ok_or(io::ErrorKind::NotFound)?;
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one)?;
    Ok(cpu)
}

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RealSpawn, Spawn};

    /// Works until the calling thread has used so much more.
    fn burn(time: Duration) {
        let before = thread_cpu_time();
        while thread_cpu_time() - before < time {
            std::hint::black_box((0..1_000_u64).sum::<u64>());
        }
    }

    #[test]
    fn a_thread_counts_its_own_work_and_the_process_that_of_all() {
        let (own, all) = (thread_cpu_time(), process_cpu_time());
        let work = Duration::from_millis(20);
        assert!(RealSpawn.job("burn", Box::new(move || burn(work))).unwrap().join());
        assert!(process_cpu_time() - all >= work);
        assert!(thread_cpu_time() - own < process_cpu_time() - all, "a join is no work");
    }

    #[test]
    fn a_pinned_thread_has_one_processor() {
        let pin = || {
            let cpu = pin_thread(0).unwrap();
            let allowed = sched_getaffinity(None).unwrap();
            assert!(allowed.count() == 1 && allowed.is_set(cpu));
            assert_eq!(pin_thread(7).unwrap(), cpu, "no other is left");
        };
        assert!(RealSpawn.job("pinned", Box::new(pin)).unwrap().join());
    }
}
