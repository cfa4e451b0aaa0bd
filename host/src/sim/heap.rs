//! An allocator that counts what is alive, for tests that compare it with what a program says it holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Allocations of more bytes than this are large.
pub const LARGE_BYTES: usize = 64 << 10;

/// What is told of a large allocation: its bytes, those of it already counted.
type Watch = fn(&CountedHeap, usize);

/// The system's allocator, counted: make it the `#[global_allocator]` of a test binary. Bytes are those that were asked for.
/// A reallocation holds old and new at once until it is done, as where it moves.
#[derive(Debug)]
pub struct CountedHeap {
    live: AtomicUsize,
    large: AtomicUsize,
    watch: OnceLock<Watch>,
}

impl CountedHeap {
    /// An allocator that counted nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { live: AtomicUsize::new(0), large: AtomicUsize::new(0), watch: OnceLock::new() }
    }

    /// Bytes of all allocations that are alive.
    pub fn live_bytes(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// Bytes of the large ones of them.
    pub fn large_bytes(&self) -> usize {
        self.large.load(Ordering::SeqCst)
    }

    /// Has `watch` called just before each large allocation is made, on its thread: it may take locks that no thread holds while
    /// it allocates so much, and allocate less itself. The first one stays.
    pub fn watch(&self, watch: Watch) {
        self.watch.get_or_init(|| watch);
    }

    fn add(&self, bytes: usize) {
        self.live.fetch_add(bytes, Ordering::SeqCst);
        if bytes > LARGE_BYTES {
            self.large.fetch_add(bytes, Ordering::SeqCst);
            if let Some(watch) = self.watch.get() {
                watch(self, bytes);
            }
        }
    }

    fn remove(&self, bytes: usize) {
        self.live.fetch_sub(bytes, Ordering::SeqCst);
        if bytes > LARGE_BYTES {
            self.large.fetch_sub(bytes, Ordering::SeqCst);
        }
    }

    /// Counts an allocation that `make` makes.
    fn counted(&self, bytes: usize, make: impl FnOnce() -> *mut u8) -> *mut u8 {
        self.add(bytes);
        let made = make();
        if made.is_null() {
            self.remove(bytes);
        }
        made
    }
}

impl Default for CountedHeap {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(unsafe_code, reason = "an allocator is nothing else")]
// SAFETY: every call is passed on to the system's allocator as it came, and so is what it answers.
unsafe impl GlobalAlloc for CountedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of `GlobalAlloc::alloc`, which is the system's.
        self.counted(layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        self.counted(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller got `ptr` from here for this layout, and so from the system.
        unsafe { System.dealloc(ptr, layout) };
        self.remove(layout.size());
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as for `dealloc`; the new size is the caller's to answer for.
        let moved = self.counted(new_size, || unsafe { System.realloc(ptr, layout, new_size) });
        if !moved.is_null() {
            self.remove(layout.size());
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "an allocator is called by hand")]
    fn what_is_alive_is_counted_and_large_ones_apart() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        let heap = CountedHeap::new();
        heap.watch(|heap, bytes| {
            TOLD.fetch_max(heap.large_bytes() * 1_000 + bytes, Ordering::SeqCst);
        });
        let layout = |bytes| Layout::from_size_align(bytes, 8).expect("a layout");
        let counts = || (heap.live_bytes(), heap.large_bytes());
        // SAFETY: what is given back was got here, for the same layout.
        unsafe {
            let small = heap.alloc(layout(LARGE_BYTES));
            assert_eq!(counts(), (LARGE_BYTES, 0));
            let large = heap.realloc(small, layout(LARGE_BYTES), 3 * LARGE_BYTES);
            assert_eq!(counts(), (3 * LARGE_BYTES, 3 * LARGE_BYTES));
            assert_eq!(TOLD.load(Ordering::SeqCst), 3_003 * LARGE_BYTES);
            let zeroed = heap.alloc_zeroed(layout(2 * LARGE_BYTES));
            assert_eq!((counts().1, *zeroed), (5 * LARGE_BYTES, 0));
            let smaller = heap.realloc(large, layout(3 * LARGE_BYTES), 8);
            assert_eq!(counts(), (2 * LARGE_BYTES + 8, 2 * LARGE_BYTES));
            heap.dealloc(zeroed, layout(2 * LARGE_BYTES));
            heap.dealloc(smaller, layout(8));
        }
        assert_eq!(counts(), (0, 0));
    }
}
