//! Loom model of the budget.

use loom::sync::Arc;
use loom::thread;

use super::Budget;
use crate::class::Class;
use crate::explored::explore;

/// Bug `budget_load_then_store`.
#[test]
fn model_m9_no_token_is_made_or_lost_by_a_race() {
    explore("m9, spenders", || {
        let budget = Arc::new(Budget::new(20));
        let other = Arc::clone(&budget);
        let spends = thread::spawn(move || other.spend(Class::Transient));
        let paid = u64::from(budget.spend(Class::Transient)) + u64::from(spends.join().unwrap());
        assert_eq!((paid, budget.tokens()), (1, 6));
    });
    explore("m9, a spender and earners", || {
        let budget = Arc::new(Budget::new(28));
        assert!(budget.spend(Class::Transient));
        let (first, second) = (Arc::clone(&budget), Arc::clone(&budget));
        let spends = thread::spawn(move || assert!(first.spend(Class::Transient)));
        let earns = thread::spawn(move || second.earn());
        budget.earn();
        spends.join().unwrap();
        earns.join().unwrap();
        assert_eq!(budget.tokens(), 2);
    });
    explore("m9, never above full", || {
        let budget = Arc::new(Budget::new(15));
        assert!(budget.spend(Class::Transient));
        (0..13).for_each(|_| budget.earn());
        let other = Arc::clone(&budget);
        let earns = thread::spawn(move || other.earn());
        budget.earn();
        earns.join().unwrap();
        assert_eq!(budget.tokens(), 15);
    });
}
