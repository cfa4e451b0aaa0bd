//! Whether this process is a child of `fork()`: it holds the parent's handles and maps, but none of its threads,
//! so it must not write where the parent does.

use std::fmt;
use std::io;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Made where something must belong to one process, asked before each use. Costs one load: the number lies in
/// a page that the kernel hands to a child as zeros. Where it does not know how, each question is a `getpid`.
pub struct ForkMark {
    page: Option<MmapRaw>,
    pid: u32,
}

impl ForkMark {
    /// A mark of this process.
    #[must_use]
    pub fn new() -> Self {
        Self { page: wiped_page().ok(), pid: process::id() }
    }

    /// Whether this is another process than the one that made the mark.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        match &self.page {
            Some(page) => mark(page).load(Ordering::Relaxed) == 0,
            None => process::id() != self.pid,
        }
    }

    /// A mark that compares process ids, as where the kernel knows no better.
    #[cfg(all(test, feature = "test-util"))]
    fn by_pid() -> Self {
        Self { page: None, pid: process::id() }
    }
}

impl Default for ForkMark {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ForkMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForkMark").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// A private page that is not zero here and will be in a child.
#[cfg(target_os = "linux")]
fn wiped_page() -> io::Result<MmapRaw> {
    const PAGE_BYTES: usize = 4096;
    let page = MmapRaw::from(MmapOptions::new().len(PAGE_BYTES).map_anon()?);
    // SAFETY: the range is exactly the map made above, private and anonymous; the advice changes it in future
    // children of this process only.
    unsafe {
        rustix::mm::madvise(page.as_mut_ptr().cast(), PAGE_BYTES, rustix::mm::Advice::LinuxWipeOnFork)?;
    }
    mark(&page).store(1, Ordering::Relaxed);
    Ok(page)
}

#[cfg(not(target_os = "linux"))]
fn wiped_page() -> io::Result<MmapRaw> {
    Err(io::ErrorKind::Unsupported.into())
}

fn mark(page: &MmapRaw) -> &AtomicU64 {
    // SAFETY: the map is a page long, page-aligned, readable and writable, and lives as long as the borrow; it is
    // reached through this atomic alone. The kernel wipes the child's copy before the child runs.
    unsafe { AtomicU64::from_ptr(page.as_mut_ptr().cast()) }
}

#[cfg(feature = "test-util")]
mod child {
    use std::io;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// The exit code of a child whose closure panicked.
    const PANICKED: i32 = 101;
    /// A child that hangs (another thread held the allocator's or the output's lock at the fork) is killed.
    const LIFETIME_SECS: u32 = 60;

    // The C library's, which std is linked to anyhow: its fork keeps the allocator usable in the child.
    unsafe extern "C" {
        safe fn fork() -> i32;
        safe fn alarm(seconds: u32) -> u32;
        safe fn _exit(code: i32) -> !;
    }

    /// Runs `run` in a child made by `fork()` and gives its exit code: what `run` returned (0 to 255), or 101 if it
    /// panicked. Nothing else of the child is seen here. Blocks until it has ended. For tests: only the calling
    /// thread exists in the child, so `run` must not wait for another, nor print.
    ///
    /// # Errors
    /// Those of `fork` and `waitpid`; `Interrupted` if a signal ended the child.
    pub fn in_forked_child(run: impl FnOnce() -> u8) -> io::Result<i32> {
        let pid = fork();
        if pid == 0 {
            alarm(LIFETIME_SECS);
            _exit(catch_unwind(AssertUnwindSafe(run)).map_or(PANICKED, i32::from));
        }
        let Some(pid) = rustix::process::Pid::from_raw(pid).filter(|_| pid > 0) else {
            return Err(io::Error::last_os_error());
        };
        loop {
            match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()) {
                Err(rustix::io::Errno::INTR) | Ok(None) => {}
                Err(e) => return Err(e.into()),
                Ok(Some((_, status))) => {
                    return status.exit_status().ok_or_else(|| io::ErrorKind::Interrupted.into());
                }
            }
        }
    }
}

#[cfg(feature = "test-util")]
pub use child::in_forked_child;

#[cfg(test)]
#[cfg(feature = "test-util")]
mod tests {
    use super::{ForkMark, in_forked_child};

    #[test]
    fn a_child_knows_that_it_is_one_and_the_parent_does_not_change() {
        for mark in [ForkMark::new(), ForkMark::by_pid()] {
            assert!(!mark.is_forked());
            assert_eq!(in_forked_child(|| u8::from(mark.is_forked())).unwrap(), 1);
            assert!(!mark.is_forked());
            let mark_of_child = || !ForkMark::new().is_forked();
            assert_eq!(in_forked_child(|| u8::from(mark_of_child())).unwrap(), 1);
        }
    }

    #[test]
    fn the_kernel_of_this_machine_wipes_the_page() {
        assert!(ForkMark::new().page.is_some());
    }

    #[test]
    fn a_child_that_panics_is_told_apart() {
        let quiet = || -> u8 { std::panic::resume_unwind(Box::new(())) };
        assert_eq!(in_forked_child(quiet).unwrap(), 101);
    }
}
