//! The slot between those who offer plans and the one thread that works on them: the newest plan, its pin, the bell.
//!
//! There is one place for a plan: a newer one replaces an older one that is not under way. A plan under way stays
//! pinned until its [`Turn`] is dropped, so that nobody removes files that are being read, even when a newer plan no
//! longer names them. Nothing here knows what a plan is.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use akidb_host::seeded_bug;

use crate::sync::Mutex;

/// The slot of one uploader. Never blocks for longer than its lock is held.
pub(crate) struct Queue<P> {
    slot: Mutex<Slot<P>>,
}

struct Slot<P> {
    /// The newest plan that is not done.
    target: Option<(u64, P)>,
    /// The number of the plan under way.
    working: Option<u64>,
    /// Somebody waits: no pause before the next attempt.
    hurry: bool,
    stopping: bool,
    /// The bell rang and nobody has heard it yet.
    rung: bool,
    waker: Option<Waker>,
}

/// What the thread shall do.
#[derive(Debug)]
pub(crate) enum Next<Q: Deref<Target = Queue<P>>, P: Clone> {
    /// End.
    Stop,
    /// There is no plan.
    Idle,
    /// Work on this one.
    Work(Turn<Q, P>),
}

impl<P: Clone> Queue<P> {
    pub(crate) fn new() -> Self {
        let slot =
            Slot { target: None, working: None, hurry: false, stopping: false, rung: false, waker: None };
        Self { slot: Mutex::new(slot) }
    }

    /// Changes the slot, and wakes who listens to the bell.
    fn ring(&self, change: impl FnOnce(&mut Slot<P>)) {
        let mut slot = self.slot.lock();
        change(&mut slot);
        let waker = slot.waker.take();
        // Heard later if nobody listens now.
        slot.rung = !seeded_bug("queue_wake_unheard") || waker.is_some();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Makes this the plan to work on next, unless a newer one is there.
    pub(crate) fn offer(&self, number: u64, plan: P) {
        self.ring(|slot| {
            if slot.target.as_ref().is_none_or(|(target, _)| *target <= number) {
                slot.target = Some((number, plan));
            }
        });
    }

    /// Makes the thread try again now instead of at the end of its pause.
    pub(crate) fn hurry(&self) {
        self.ring(|slot| slot.hurry = true);
    }

    /// Lets the thread look again: a breaker closed, a letter was asked for.
    pub(crate) fn wake(&self) {
        self.ring(|_| {});
    }

    /// Asks the thread to end.
    pub(crate) fn stop(&self) {
        self.ring(|slot| slot.stopping = true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.slot.lock().stopping
    }

    /// Whether a pause is over: somebody waits, or the end has come.
    pub(crate) fn is_urgent(&self) -> bool {
        let slot = self.slot.lock();
        slot.stopping || slot.hurry
    }

    /// The newest plan that is not done.
    pub(crate) fn target(&self) -> Option<P> {
        self.slot.lock().target.as_ref().map(|(_, plan)| plan.clone())
    }

    /// The numbers of the plans whose files must stay.
    pub(crate) fn pinned(&self) -> Vec<u64> {
        let slot = self.slot.lock();
        let working = slot.working.filter(|_| !seeded_bug("queue_pins_target_only"));
        slot.target.as_ref().map(|(number, _)| *number).into_iter().chain(working).collect()
    }

    /// Takes the next turn. One hurry is one turn, whatever it comes to.
    pub(crate) fn next<Q: Deref<Target = Self>>(queue: Q) -> Next<Q, P> {
        let mut slot = queue.slot.lock();
        if slot.stopping {
            return Next::Stop;
        }
        slot.hurry = false;
        let Some((number, plan)) = slot.target.clone() else { return Next::Idle };
        slot.working = Some(number);
        drop(slot);
        Next::Work(Turn { queue, number, plan })
    }

    /// A plan is done, or never will be: it and older ones are not offered any more.
    pub(crate) fn done(&self, number: u64) {
        self.slot.lock().target.take_if(|(target, _)| *target <= number);
    }

    /// Waits for the bell, whatever it rings for.
    pub(crate) fn bell(&self) -> Bell<'_, P> {
        Bell(self)
    }
}

/// A plan under way, pinned until this is dropped.
pub(crate) struct Turn<Q: Deref<Target = Queue<P>>, P: Clone> {
    queue: Q,
    number: u64,
    plan: P,
}

impl<Q: Deref<Target = Queue<P>>, P: Clone> Turn<Q, P> {
    pub(crate) fn plan(&self) -> &P {
        &self.plan
    }

    /// The newer plan that waits, if there is one.
    pub(crate) fn newer(&self) -> Option<P> {
        let slot = self.queue.slot.lock();
        slot.target.as_ref().filter(|(target, _)| *target > self.number).map(|(_, plan)| plan.clone())
    }

    /// Whether to go on with this plan alone is pointless: a newer plan is there, or the end has come.
    pub(crate) fn is_over(&self) -> bool {
        let slot = self.queue.slot.lock();
        slot.stopping || slot.target.as_ref().is_some_and(|(target, _)| *target > self.number)
    }
}

impl<Q: Deref<Target = Queue<P>>, P: Clone> Drop for Turn<Q, P> {
    fn drop(&mut self) {
        // A model that fails unwinds through this, where loom's locks work no more.
        let panics = cfg!(akidb_loom) && std::thread::panicking();
        if !panics && !seeded_bug("queue_turn_keeps_pin") {
            self.queue.slot.lock().working = None;
        }
    }
}

impl<Q: Deref<Target = Queue<P>>, P: Clone> fmt::Debug for Turn<Q, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The wait for the bell; one listens at a time.
#[must_use = "a wait that nobody polls never ends"]
pub(crate) struct Bell<'q, P>(&'q Queue<P>);

impl<P> Future for Bell<'_, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.0.slot.lock();
        if std::mem::take(&mut slot.rung) {
            return Poll::Ready(());
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(akidb_loom)]
#[cfg(test)]
mod model;
