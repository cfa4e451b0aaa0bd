//! Bytes of a budget that somebody holds.

use super::{Account, MemoryUse};
use crate::sync::Mutex;

/// Bytes that are held; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Account,
    held: Mutex<(MemoryUse, u64)>,
}

impl Charge {
    /// Of bytes that have been added to what the account holds.
    pub(super) fn new(account: &Account, usage: MemoryUse, bytes: u64) -> Self {
        Self { account: account.clone(), held: Mutex::new((usage, bytes)) }
    }

    /// Takes more, without asking.
    pub(crate) fn grow(&self, bytes: u64) {
        let mut held = self.held.lock();
        self.account.shared().state.lock().add(self.account.number(), held.0, bytes);
        held.1 += bytes;
    }

    /// Gives some back.
    pub(crate) fn shrink(&self, bytes: u64) {
        let mut held = self.held.lock();
        let shared = self.account.shared();
        let mut state = shared.state.lock();
        state.remove(self.account.number(), held.0, bytes);
        held.1 -= bytes;
        shared.release(state);
    }

    /// Holds them for another use from now on.
    pub(crate) fn move_to(&self, usage: MemoryUse) {
        let mut held = self.held.lock();
        let (number, shared) = (self.account.number(), self.account.shared());
        let mut state = shared.state.lock();
        if held.0 == MemoryUse::Memtables {
            // Of a flush that ended. Who still waits wants again; who gave up must not be flushed for.
            state.wanted = 0;
        }
        state.remove(number, held.0, held.1);
        state.add(number, usage, held.1);
        held.0 = usage;
        shared.release(state);
    }

    /// How many.
    pub(crate) fn bytes(&self) -> u64 {
        self.held.lock().1
    }

    /// Whether they are held for this use.
    pub(crate) fn is_of(&self, usage: MemoryUse) -> bool {
        self.held.lock().0 == usage
    }

    /// The part of the budget it is of.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let (usage, bytes) = *self.held.lock();
        let shared = self.account.shared();
        let mut state = shared.state.lock();
        state.remove(self.account.number(), usage, bytes);
        shared.release(state);
    }
}
