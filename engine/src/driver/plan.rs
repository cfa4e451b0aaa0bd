//! What is due, as a pure function of how full things are.

use std::cmp::Reverse;

use crate::limits::Limits;
use crate::lsn::Lsn;

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Seals a collection's active memtable.
    Seal(u32),
    /// Flushes a collection's oldest sealed memtable.
    Flush(u32),
}

/// How full a collection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CollectionLoad {
    pub(crate) id: u32,
    pub(crate) active_bytes: u64,
    /// Its active memtable is to be sealed.
    pub(crate) active_full: bool,
    pub(crate) sealed: usize,
    pub(crate) oldest_unflushed: Option<Lsn>,
    pub(crate) damaged: bool,
    /// Its last flush failed, and it is not time to try again.
    pub(crate) failing: bool,
}

/// How full everything is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    pub(crate) collections: Vec<CollectionLoad>,
    /// Memory is short, and this database is the one to give some back.
    pub(crate) memory_asked: bool,
    pub(crate) live_wal_bytes: u64,
    /// Nobody has written for so long that everything is flushed.
    pub(crate) at_rest: bool,
}

impl Job {
    /// The collection it is of.
    pub(crate) fn collection(self) -> u32 {
        match self {
            Self::Seal(id) | Self::Flush(id) => id,
        }
    }
}

impl Load {
    /// Bytes that a flush of everything could give back, where the log's files take `log_bytes`: a damaged collection
    /// keeps its memtables, and of the log what holds its rows.
    pub(crate) fn gain_of_rest(&self, log_bytes: u64) -> u64 {
        let (damaged, healthy): (Vec<&CollectionLoad>, _) = self.collections.iter().partition(|c| c.damaged);
        let memtables: u64 = healthy.iter().map(|c| c.active_bytes).sum();
        let is_held = damaged.iter().any(|c| c.oldest_unflushed.is_some());
        memtables + if is_held { 0 } else { log_bytes }
    }
}

/// The jobs that are due, in order; empty when nothing is.
pub(crate) fn plan(load: &Load, limits: &Limits) -> Vec<Job> {
    let healthy = || load.collections.iter().filter(|c| !c.damaged && !c.failing);
    // A collection that cannot be flushed holds the floor: flushing the others again and again would free nothing.
    let oldest = || {
        let unflushed = load.collections.iter().filter(|c| c.oldest_unflushed.is_some());
        unflushed.min_by_key(|c| c.oldest_unflushed).filter(|c| !c.damaged && !c.failing)
    };
    let mut jobs = Vec::new();
    if load.live_wal_bytes >= limits.wal_flush_bytes {
        // The oldest row is what holds the log's floor, whatever the size of its collection: it goes first, or a busy
        // collection that always has a full memtable would keep it waiting for ever.
        jobs.extend(oldest().map(|c| if c.sealed > 0 { Job::Flush(c.id) } else { Job::Seal(c.id) }));
    }
    let first = jobs.first().copied();
    let sealed = healthy().filter(|c| c.sealed > 0).map(|c| Job::Flush(c.id));
    jobs.extend(sealed.filter(|job| Some(*job) != first));
    if jobs.is_empty() {
        let full = healthy().filter(|c| c.active_full);
        jobs.extend(full.map(|c| Job::Seal(c.id)));
    }
    if jobs.is_empty() && load.memory_asked {
        // The largest: a flush costs a manifest however little it gives back. Of two, the one with the older row.
        let unflushed = healthy().filter(|c| c.oldest_unflushed.is_some());
        let largest = unflushed.max_by_key(|c| (c.active_bytes, Reverse((c.oldest_unflushed, c.id))));
        jobs.extend(largest.map(|c| Job::Seal(c.id)));
    }
    if jobs.is_empty() && load.at_rest {
        let unflushed = healthy().filter(|c| c.oldest_unflushed.is_some());
        jobs.extend(unflushed.map(|c| Job::Seal(c.id)));
    }
    jobs
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Durability;
    use crate::idempotency::KeyBounds;
    use crate::manifest::Kept;

    fn limits() -> Limits {
        Limits {
            memtable_bytes: 100,
            durability: Durability::LocalSynced,
            wal_flush_bytes: 1_000,
            wal_max_bytes: 2_000,
            merge_bytes: 100,
            row_group_bytes: 100,
            sealed_memtables: 2,
            small_segments: 24,
            filter_cache_bytes: 0,
            page_cache_bytes: 0,
            max_pending_bytes: None,
            write_stall_timeout: Duration::ZERO,
            rest_after: Duration::ZERO,
            ttl_purge: Duration::ZERO,
            ttl_erase_micros: None,
            snapshot_max_age: Duration::ZERO,
            batch_keys: KeyBounds { keys: 0, window_micros: 0 },
            manifests: Kept::default(),
        }
    }

    fn collection(id: u32, active_bytes: u64, sealed: usize, oldest: u64) -> CollectionLoad {
        let oldest_unflushed = (oldest > 0).then(|| Lsn::new(1, oldest));
        CollectionLoad {
            id,
            active_bytes,
            active_full: active_bytes >= limits().memtable_bytes,
            sealed,
            oldest_unflushed,
            damaged: false,
            failing: false,
        }
    }

    #[test]
    fn what_is_sealed_is_flushed_before_anything_else_is_sealed() {
        let collections = vec![collection(1, 500, 0, 3), collection(2, 0, 1, 1)];
        let load = Load { collections, memory_asked: true, ..Load::default() };
        assert_eq!(plan(&load, &limits()), [Job::Flush(2)]);
    }

    #[test]
    fn a_long_log_seals_the_collection_with_the_oldest_row_however_small() {
        let collections = vec![collection(1, 90, 0, 7), collection(2, 1, 0, 2), collection(3, 0, 0, 0)];
        let load = Load { collections, memory_asked: false, live_wal_bytes: 1_000, at_rest: false };
        assert_eq!(plan(&load, &limits()), [Job::Seal(2)]);
    }

    #[test]
    fn a_busy_collection_does_not_keep_the_oldest_row_waiting() {
        let collections = vec![collection(1, 500, 1, 7), collection(2, 1, 0, 2), collection(3, 500, 0, 9)];
        let mut load = Load { collections, memory_asked: false, live_wal_bytes: 1_000, at_rest: false };
        assert_eq!(plan(&load, &limits()), [Job::Seal(2), Job::Flush(1)]);
        load.collections[1].sealed = 1;
        assert_eq!(plan(&load, &limits()), [Job::Flush(2), Job::Flush(1)]);
    }

    #[test]
    fn memory_is_given_back_by_the_largest_healthy_collection() {
        let mut collections = vec![collection(1, 3, 0, 4), collection(2, 9, 0, 7), collection(3, 50, 0, 2)];
        collections[2].damaged = true;
        let mut load = Load { collections, memory_asked: true, ..Load::default() };
        assert_eq!(plan(&load, &limits()), [Job::Seal(2)]);
        load.collections[0].active_bytes = 9;
        assert_eq!(plan(&load, &limits()), [Job::Seal(1)], "of two as large the one with the older row");
        // A long log is another matter: what holds it goes first.
        (load.live_wal_bytes, load.collections[0].active_bytes) = (1_000, 1);
        load.collections[2] = collection(3, 0, 0, 0);
        assert_eq!(plan(&load, &limits()), [Job::Seal(1)]);
    }

    #[test]
    fn many_small_collections_do_not_keep_a_large_one_from_giving_memory_back() {
        let mut collections: Vec<CollectionLoad> =
            (1..=10_000).map(|id| collection(id, 1, 0, u64::from(id))).collect();
        collections.push(collection(10_001, 90, 0, 20_000));
        let load = Load { collections, memory_asked: true, ..Load::default() };
        assert_eq!(plan(&load, &limits()), [Job::Seal(10_001)]);
    }

    #[test]
    fn at_rest_everything_is_flushed_and_what_is_empty_left_alone() {
        let collections = vec![collection(1, 5, 0, 7), collection(2, 0, 0, 0), collection(3, 1, 0, 2)];
        let mut load = Load { collections, at_rest: true, ..Load::default() };
        assert_eq!(plan(&load, &limits()), [Job::Seal(1), Job::Seal(3)]);
        load.at_rest = false;
        assert_eq!(plan(&load, &limits()), []);
    }

    #[test]
    fn what_a_damaged_collection_holds_is_no_gain_of_a_rest() {
        let mut load =
            Load { collections: vec![collection(1, 9, 0, 7), collection(2, 70, 0, 2)], ..Load::default() };
        assert_eq!(load.gain_of_rest(1_000), 1_079);
        load.collections[1].damaged = true;
        assert_eq!(load.gain_of_rest(1_000), 9);
        load.collections[1].oldest_unflushed = None;
        assert_eq!(load.gain_of_rest(1_000), 1_009);
    }

    #[test]
    fn one_whose_flush_fails_waits_and_the_others_give_memory_back() {
        let mut collections = vec![collection(1, 500, 1, 2), collection(2, 5, 0, 4), collection(3, 5, 1, 7)];
        collections[0].failing = true;
        let mut load = Load { collections, memory_asked: true, ..Load::default() };
        assert_eq!(plan(&load, &limits()), [Job::Flush(3)]);
        load.collections[2].sealed = 0;
        assert_eq!(plan(&load, &limits()), [Job::Seal(2)]);
        load.memory_asked = false;
        load.live_wal_bytes = 1_000;
        assert_eq!(plan(&load, &limits()), [], "the log is held by the one that fails");
        load.collections[0].failing = false;
        assert_eq!(plan(&load, &limits()), [Job::Flush(1)]);
    }

    #[test]
    fn a_damaged_collection_is_left_alone() {
        let mut damaged = collection(1, 500, 1, 1);
        damaged.damaged = true;
        let load =
            Load { collections: vec![damaged], memory_asked: true, live_wal_bytes: 5_000, at_rest: true };
        assert_eq!(plan(&load, &limits()), []);
    }
}
