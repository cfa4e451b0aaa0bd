//! What a budget grants, what it refuses, and whom it asks to give back.

use std::time::Duration;

use super::account::SLICE;
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
    assert!(one.charge_within(MemoryUse::Merges, 1, NOW, &|| true).is_none());
    drop(rows);
    assert!(one.charge_within(MemoryUse::Merges, 200, NOW, &|| true).is_some());
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
fn a_wait_for_memory_ends_when_its_time_is_over_or_nobody_wants_it_any_more() {
    let account = MemoryBudget::new(800).account();
    let rows = account.charge(MemoryUse::Memtables, 800);
    let asked = std::cell::Cell::new(0);
    let go_on = || {
        asked.set(asked.get() + 1);
        asked.get() < 3
    };
    assert!(account.charge_within(MemoryUse::Merges, 1, Duration::from_secs(1 << 20), &go_on).is_none());
    assert_eq!(asked.get(), 3);
    assert!(account.charge_within(MemoryUse::Merges, 1, 2 * SLICE, &|| true).is_none());
    let usage = account.budget().usage(MemoryUse::Merges);
    assert_eq!((usage.waits, usage.waited_micros), (2, 40_000), "four slices");
    drop(rows);
}

#[test]
fn writers_wait_below_the_limit_until_memtables_are_empty() {
    let account = MemoryBudget::new(800).account();
    let merge = account.charge(MemoryUse::Merges, 590);
    assert!(!account.holds_back(10_000), "no flush could bring more");
    let rows = account.charge(MemoryUse::Memtables, 10);
    assert!(account.holds_back(101) && !account.holds_back(100), "an eighth is for flushes");
    assert!(!account.is_asked());
    account.want(101);
    assert!(account.is_asked(), "somebody waits");
    drop(merge);
    assert!(!account.is_asked(), "there is room again");
    account.note_waited(Duration::from_micros(7));
    let usage = account.budget().usage(MemoryUse::Memtables);
    assert_eq!((usage.waits, usage.waited_micros), (1, 7));
    drop(rows);
}

#[test]
fn memtables_have_an_eighth_beside_what_no_flush_can_free() {
    let budget = MemoryBudget::new(800);
    let (damaged, failing, well) = (budget.account(), budget.account(), budget.account());
    let rows = [&damaged, &failing].map(|account| (account, account.charge(MemoryUse::Memtables, 400)));
    damaged.note_flushes(400, false);
    failing.note_flushes(400, true);
    assert!(!well.holds_back(700), "no flush could bring more");
    let own = well.charge(MemoryUse::Memtables, 55);
    assert!(!well.holds_back(45) && well.holds_back(46), "they are not flushed row by row");
    assert!(!well.is_asked());
    own.grow(1);
    assert!(well.is_asked(), "in time for writers to go on meanwhile");
    assert!(!damaged.holds_back(1) && failing.holds_back(1), "who fails does not fill what is of others");
    failing.note_flushes(0, false);
    assert!(failing.is_asked() && !well.is_asked(), "it is time to try again");
    failing.end_flushes();
    assert!(!failing.is_asked() && well.is_asked(), "nobody flushes it any more");
    failing.note_flushes(0, false);
    assert!(well.is_asked(), "for good");
    drop((rows, own));
    assert_eq!((budget.used_bytes(), budget.shared.state.lock().flushable), (0, 0));
}

#[test]
fn what_is_held_by_others_makes_flushes_begin_earlier() {
    let account = MemoryBudget::new(800).account();
    let rows = account.charge(MemoryUse::Memtables, 170);
    assert!(!account.is_asked());
    let others = account.charge(MemoryUse::Snapshots, 400);
    assert!(account.is_asked(), "four sevenths of what is left");
    drop((rows, others));
}

#[test]
fn uploads_beyond_their_share_hold_up_nobody() {
    let account = MemoryBudget::new(800).account();
    let pieces = account.charge(MemoryUse::Uploads, 8_000);
    let rows = account.charge(MemoryUse::Memtables, 300);
    assert!(!account.holds_back(300) && account.holds_back(301));
    assert!(account.try_charge(MemoryUse::Merges, 200).is_some());
    assert!(account.try_charge(MemoryUse::FilterCaches, 1).is_none());
    drop((pieces, rows));
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
    two.note_flushes(249, true);
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
    assert_eq!(asked(), (false, false), "flushed, and nobody says that he still waits");
    one.want(301);
    assert_eq!(asked(), (true, false), "there is no room yet");
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

#[test]
fn open_segments_take_no_more_than_their_share_from_caches() {
    let budget = MemoryBudget::new(1_600);
    let one = budget.account();
    let segments = one.charge(MemoryUse::Segments, 1_500);
    let page = one.try_charge(MemoryUse::PageCache, 200).unwrap();
    let column = one.try_charge(MemoryUse::FilterCaches, 400).unwrap();
    assert_eq!((one.excess(), budget.used_bytes()), (0, 2_100));
    let rows = one.charge(MemoryUse::Memtables, 850);
    assert_eq!(one.excess(), 50, "200 of the segments, and the others as they are");
    assert!(one.try_charge(MemoryUse::FilterCaches, 0).is_none());
    drop((segments, page, column, rows));
    assert_eq!(budget.used_bytes(), 0);
}
