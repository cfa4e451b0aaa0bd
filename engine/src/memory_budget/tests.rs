//! What a budget grants, what it refuses, and whom it asks to give back.

use super::*;

const NOW: Duration = Duration::ZERO;

#[test]
fn uses_keep_to_their_shares_and_the_limit_and_give_back_on_drop() {
    let budget = MemoryBudget::new(800);
    let one = budget.account();
    let merge = one.try_charge(MemoryUse::Merges, 150).unwrap();
    assert!(one.try_charge(MemoryUse::Merges, 51).is_none(), "a quarter is the share of merges");
    let rest = one.try_charge(MemoryUse::Merges, 50).unwrap();
    assert_eq!((one.room(MemoryUse::Merges), budget.used_bytes()), (0, 200));
    drop((merge, rest));
    let rows = one.charge(MemoryUse::Memtables, 700);
    assert!(one.try_charge(MemoryUse::Merges, 101).is_none(), "and the limit is for all");
    assert_eq!(one.room(MemoryUse::Merges), 100);
    rows.grow(300);
    assert_eq!(
        (budget.used_bytes(), one.excess()),
        (1_000, 200),
        "what is in memory is counted, whatever the limit"
    );
    assert!(one.charge_within(MemoryUse::Merges, 1, NOW).is_none());
    drop(rows);
    assert!(one.charge_within(MemoryUse::Merges, 200, NOW).is_some());
    let usage = budget.usage(MemoryUse::Merges);
    assert_eq!((usage.bytes, usage.peak_bytes, usage.waits), (0, 200, 1));
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn caches_take_only_what_is_left_and_hold_up_nobody() {
    let account = MemoryBudget::new(800).account();
    let cached = account.try_charge(MemoryUse::FilterCaches, 200).unwrap();
    let rows = account.charge(MemoryUse::Memtables, 500);
    assert!(account.try_charge(MemoryUse::FilterCaches, 1).is_none());
    let merge = account.try_charge(MemoryUse::Merges, 200).expect("caches give way");
    assert_eq!(account.excess(), 100);
    drop(cached);
    assert_eq!(account.excess(), 0);
    assert!(account.try_charge(MemoryUse::FilterCaches, 101).is_none());
    drop((rows, merge));
}

#[test]
fn writers_wait_below_the_limit_until_memtables_are_empty() {
    let account = MemoryBudget::new(800).account();
    let merge = account.charge(MemoryUse::Merges, 690);
    assert!(!account.holds_back(10_000), "no flush could bring more");
    let rows = account.charge(MemoryUse::Memtables, 1);
    assert!(account.holds_back(10) && !account.holds_back(9), "an eighth is for flushes");
    assert!(!account.is_asked());
    account.want(10);
    assert!(account.is_asked(), "somebody waits");
    drop(merge);
    assert!(!account.is_asked(), "there is room again");
    account.note_waited(Duration::from_micros(7));
    let usage = account.budget().usage(MemoryUse::Memtables);
    assert_eq!((usage.waits, usage.waited_micros), (1, 7));
    drop(rows);
}

#[test]
fn the_database_with_most_to_flush_is_asked_first() {
    let budget = MemoryBudget::new(800);
    let (one, two) = (budget.account(), budget.account());
    let asked = || (one.is_asked(), two.is_asked());
    let small = one.charge(MemoryUse::Memtables, 150);
    let large = two.charge(MemoryUse::Memtables, 249);
    assert_eq!(asked(), (false, false));
    small.grow(1);
    assert_eq!(asked(), (false, true));
    two.note_flushes(0, true);
    assert_eq!(
        asked(),
        (false, false),
        "what cannot be flushed is no reason to flush the rest in small pieces"
    );
    one.want(301);
    assert_eq!(asked(), (true, false), "unless somebody waits");
    two.note_flushes(100, false);
    assert_eq!(asked(), (true, false), "rows of damaged collections do not count");
    two.note_flushes(0, false);
    assert_eq!(asked(), (false, true));
    large.move_to(MemoryUse::Snapshots);
    assert_eq!(asked(), (true, false), "flushed, and there is no room yet");
    drop(large);
    assert_eq!(asked(), (false, false), "now there is");
    small.grow(300);
    assert_eq!(asked(), (true, false));
    drop(one);
    assert_eq!(budget.usage(MemoryUse::Memtables).bytes, 451, "a charge holds its account");
    drop(small);
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn snapshots_of_one_database_leave_an_equal_part_to_those_of_another() {
    let budget = MemoryBudget::new(1_600);
    let (one, two) = (budget.account(), budget.account());
    assert_eq!(one.room_for_snapshots(), 200);
    let held = two.charge(MemoryUse::Snapshots, 70);
    assert_eq!((one.room_for_snapshots(), two.room_for_snapshots()), (130, 200));
    held.grow(100);
    assert_eq!((one.room_for_snapshots(), two.room_for_snapshots()), (100, 200));
}
