//! Loom models of the budget, on the type that ships.

use loom::thread;

use std::time::Duration;

use super::*;
use crate::loom_tests::explore;

/// Longer than any model.
const FOR_EVER: Duration = Duration::from_secs(1 << 20);

/// Who waits for memory is called when it comes back, whoever gives it: here a merge that ends, and a flush that moves a memtable
/// to its readers, who then end.
#[test]
fn loom_memory_wakes_who_waits() {
    explore("loom_memory_wakes_who_waits", None, || {
        let budget = MemoryBudget::new(16);
        let account = budget.account();
        let rows = account.charge(MemoryUse::Memtables, 11);
        let first = account.try_charge(MemoryUse::Merges, 4).expect("15 of 16");
        let waits = thread::spawn(move || {
            let second =
                account.charge_within(MemoryUse::Merges, 4, FOR_EVER, &|| true).expect("it waits for ever");
            let usage = account.budget().usage(MemoryUse::Merges);
            assert!(usage.bytes <= 4 && account.budget().used_bytes() <= 16, "{usage:?}");
            drop(second);
        });
        drop(first);
        rows.move_to(MemoryUse::Snapshots);
        drop(rows);
        waits.join().unwrap();
        assert_eq!(budget.used_bytes(), 0);
    });
}

/// Memtables of one database fill the memory, two merges wait, and the flush that ends it all needs more than is left: it
/// never waits, so everybody comes to an end, and who waited is within the limit.
#[test]
fn loom_memory_flush_never_waits() {
    explore("loom_memory_flush_never_waits", Some(2), || {
        let budget = MemoryBudget::new(16);
        let (one, two) = (budget.account(), budget.account());
        let rows = one.charge(MemoryUse::Memtables, 15);
        assert!(one.is_asked() && !two.is_asked());
        let merges: Vec<_> = [one.clone(), two]
            .into_iter()
            .map(|account| {
                thread::spawn(move || {
                    let merge = account.charge_within(MemoryUse::Merges, 3, FOR_EVER, &|| true);
                    let used = account.budget().usage(MemoryUse::Merges).bytes;
                    assert_eq!((merge.is_some(), used), (true, 3), "one at a time fits in their share");
                    drop(merge);
                })
            })
            .collect();
        let flush = one.charge(MemoryUse::Flushes, 2);
        drop(rows);
        drop(flush);
        merges.into_iter().for_each(|merge| merge.join().unwrap());
        assert_eq!(budget.used_bytes(), 0);
    });
}
