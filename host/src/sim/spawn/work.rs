//! Work that is polled when it was woken.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use super::lock;
use crate::spawn::{Job, Work};

thread_local! {
    /// Work under way, by its number: it never leaves the thread that polled it first.
    static UNDER_WAY: RefCell<HashMap<u64, Work>> = RefCell::default();
}

/// One piece of work, and whether it was woken since it was polled last.
pub(super) struct InlineWork {
    name: String,
    number: u64,
    state: Mutex<State>,
    bell: Arc<Bell>,
}

enum State {
    Unmade(Box<dyn FnOnce() -> Work + Send>),
    Waiting,
    Running,
    Ended { well: bool },
}

struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl InlineWork {
    pub(super) fn new(name: &str, make: Box<dyn FnOnce() -> Work + Send>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (state, bell) = (Mutex::new(State::Unmade(make)), Arc::new(Bell(AtomicBool::new(true))));
        Self { name: name.to_owned(), number, state, bell }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_woken() && matches!(*lock(&self.state), State::Unmade(_) | State::Waiting)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(*lock(&self.state), State::Ended { .. })
    }

    fn is_woken(&self) -> bool {
        self.bell.0.load(Ordering::SeqCst)
    }

    /// Polls it once, with no lock held, unless that is what is going on already. A panic of it is the caller's.
    pub(super) fn poll(&self) {
        let before = {
            let mut state = lock(&self.state);
            if !matches!(*state, State::Unmade(_) | State::Waiting) {
                return;
            }
            std::mem::replace(&mut *state, State::Running)
        };
        let mut ended = Ended { work: self, well: false };
        let mut work = match before {
            State::Unmade(make) => make(),
            _ => self.take().expect("it is polled on one thread"),
        };
        self.bell.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.bell));
        if work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            // What it owns may call back while it is dropped.
            drop(work);
            ended.well = true;
        } else {
            UNDER_WAY.with_borrow_mut(|all| all.insert(self.number, work));
            *lock(&self.state) = State::Waiting;
        }
    }

    fn take(&self) -> Option<Work> {
        UNDER_WAY.try_with(|all| all.borrow_mut().remove(&self.number)).ok().flatten()
    }
}

impl Drop for InlineWork {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Work that does not wait after it was polled has ended, one way or the other.
struct Ended<'w> {
    work: &'w InlineWork,
    well: bool,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.work.state);
        if matches!(*state, State::Running) {
            *state = State::Ended { well: self.well };
        }
    }
}

impl fmt::Debug for InlineWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineWork").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct WorkHandle(pub(super) Arc<InlineWork>);

impl Job for WorkHandle {
    /// # Panics
    /// When the work waits for something that nobody does meanwhile: on a thread of its own it would wait for ever.
    fn join(&self) -> bool {
        loop {
            match *lock(&self.0.state) {
                State::Ended { well } => return well,
                State::Running => return true,
                State::Unmade(_) | State::Waiting => {}
            }
            assert!(self.0.is_woken(), "{} is waited for, and waits", self.0.name);
            self.0.poll();
        }
    }
}
