//! How much repeating a backend may be asked to bear: tokens that retries spend and successes earn.

use akidb_host::seeded_bug;

use crate::class::Class;
use crate::sync::{AtomicU64, Ordering};

/// Tokens of a full budget: about 35 retries in a row, as AWS's own clients have it.
const FULL: u64 = 500;
const TRANSIENT_COST: u64 = 14;
/// A call without an answer has held a connection for its whole deadline.
const TIMEOUT_COST: u64 = 28;

/// The retry budget of one backend. When it is empty, calls fail at their first failure and their plan waits: retries
/// never multiply the load on a backend that is going down.
#[derive(Debug)]
pub struct Budget {
    tokens: AtomicU64,
    full: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(FULL)
    }
}

impl Budget {
    /// A full budget of so many tokens.
    #[must_use]
    pub fn new(full: u64) -> Self {
        Self { tokens: AtomicU64::new(full), full }
    }

    /// Pays for one retry after a failure of this class, or says that it cannot. Being throttled costs nothing here:
    /// the limiter answers it.
    #[must_use]
    pub fn spend(&self, class: Class) -> bool {
        let cost = match class {
            Class::Throttle => return true,
            Class::Timeout => TIMEOUT_COST,
            _ => TRANSIENT_COST,
        };
        self.change(|tokens| tokens.checked_sub(cost))
    }

    /// A success gives one token back.
    pub fn earn(&self) {
        self.change(|tokens| (tokens < self.full).then_some(tokens + 1));
    }

    /// Tokens left.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> bool {
        let mut tokens = self.tokens.load(Ordering::Relaxed);
        loop {
            let Some(next) = next(tokens) else { return false };
            if seeded_bug("budget_load_then_store") {
                self.tokens.store(next, Ordering::Relaxed);
                return true;
            }
            match self.tokens.compare_exchange_weak(tokens, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => tokens = now,
            }
        }
    }
}

#[cfg(akidb_loom)]
#[cfg(test)]
mod model;

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_budget_pays_for_nothing_until_successes_have_earned_a_retry() {
        let budget = Budget::default();
        let paid = (0..1_000).filter(|_| budget.spend(Class::Transient)).count();
        assert_eq!((paid, budget.tokens()), (35, 10));
        (0..4).for_each(|_| budget.earn());
        assert!(!budget.spend(Class::Timeout));
        assert!(budget.spend(Class::Ambiguous));
        assert_eq!(budget.tokens(), 0);
    }

    #[test]
    fn it_never_holds_more_than_when_it_was_full() {
        let budget = Budget::default();
        (0..1_000).for_each(|_| budget.earn());
        assert_eq!(budget.tokens(), 500);
        assert!(budget.spend(Class::Timeout));
        assert_eq!(budget.tokens(), 472);
    }

    #[test]
    fn being_throttled_costs_nothing() {
        let budget = Budget::new(0);
        assert!(budget.spend(Class::Throttle));
        assert!(!budget.spend(Class::Transient));
    }
}
