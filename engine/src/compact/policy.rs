//! Which segments of a collection are merged next: a pure function of how large they are and how much of them is dead.
//!
//! Size-tiered (O'Neil et al., 1996, as in Cassandra and RocksDB's universal style): four segments of about one size
//! become one of the next, so a row is rewritten a logarithmic number of times and the number of files stays
//! logarithmic. Three bounds: the rows a merge can index within its share of the memory; its bytes, so that old and new
//! files together take little more space than either; and the dead, which are dropped once they are a quarter of a
//! segment. Merges of a tier come first, as writers wait where small segments pile up; then what expired long ago goes, a
//! segment at a time.

/// Segments of one tier that make a merge.
const FANOUT: usize = 4;
/// Upper bound of the lowest tier; each next one is four times larger.
const FIRST_TIER_BYTES: u64 = 1 << 20;
/// Merges up to this size are made whatever share of the whole they are: two of the smallest full memtables.
const SMALL_MERGE_BYTES: u64 = 20 << 20;
/// A larger merge is at most one part in so many of the collection: until its inputs are gone both take space.
const SPACE_SHARE: u64 = 6;
/// The same while nobody writes: the log takes no space then.
const SPACE_SHARE_AT_REST: u64 = 2;
/// Dead rows in a hundred above which a segment is rewritten for their sake alone.
const MOST_DEAD_PERCENT: u64 = 25;
/// The same while nobody writes.
const MOST_DEAD_AT_REST_PERCENT: u64 = 2;

/// What the choice depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentLoad {
    /// Rows, dead ones included.
    pub(crate) rows: u32,
    /// Rows that its deletion vector names.
    pub(crate) dead: u32,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// Whether the dead among them include such as expired so long ago that they must not be there any more.
    pub(crate) overdue: bool,
    /// Whether its index is damaged: searches compare every row of it.
    pub(crate) unindexed: bool,
    /// Whether it could not be rewritten a moment ago: no merge takes it until it is tried again.
    pub(crate) spared: bool,
}

impl SegmentLoad {
    fn live_rows(&self) -> u64 {
        u64::from(self.rows - self.dead)
    }

    /// Bytes without the dead rows, about.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.bytes * self.live_rows() / u64::from(self.rows.max(1))
    }

    fn is_dead_above(&self, percent: u64) -> bool {
        u64::from(self.dead) * 100 > u64::from(self.rows) * percent
    }

    /// Whether it has to go for what is dead in it, however little that is.
    fn is_overdue(&self) -> bool {
        self.overdue && self.dead > 0
    }

    fn tier(&self) -> u32 {
        (self.live_bytes() / FIRST_TIER_BYTES).checked_ilog2().map_or(0, |log| log / 2 + 1)
    }
}

/// The segments to merge next, by their places in `segments`, ascending; none if nothing is due.
pub(crate) fn due(segments: &[SegmentLoad], max_rows: u64) -> Vec<usize> {
    due_within(segments, max_rows, SPACE_SHARE)
}

/// `space_share`: a merge that is not small takes at most one part in so many of the bytes.
fn due_within(segments: &[SegmentLoad], max_rows: u64, space_share: u64) -> Vec<usize> {
    if let Some(dead) = segments.iter().position(|s| s.dead == s.rows && !s.spared) {
        return vec![dead];
    }
    let mut by_size: Vec<usize> = (0..segments.len()).filter(|at| !segments[*at].spared).collect();
    by_size.sort_by_key(|at| (segments[*at].live_bytes(), *at));
    let all: u64 = segments.iter().map(|s| s.bytes).sum();
    let bounds = Bounds { rows: max_rows, bytes: SMALL_MERGE_BYTES.max(all / space_share) };
    let chosen = full_tier(segments, &by_size, &bounds);
    // Before what is rewritten alone: writers wait for these.
    if chosen.len() >= 2 {
        return chosen;
    }
    // Rewritten alone: what is dead in it has had its time, or is more than what a merge with others would save. One that
    // was made with more memory than there is now stays.
    let fits = |at: &&usize| segments[**at].live_rows() <= max_rows;
    let overdue = by_size.iter().filter(fits).find(|at| segments[**at].is_overdue());
    let mostly_dead =
        || by_size.iter().filter(fits).find(|at| segments[**at].is_dead_above(MOST_DEAD_PERCENT));
    overdue.or_else(mostly_dead).copied().into_iter().collect()
}

/// What is due while nobody writes: also a segment of which more than two in a hundred are dead, the one with most of
/// them first. Each row that dies costs 50 others at most that are written again, by a machine with nothing else to do.
pub(crate) fn due_at_rest(segments: &[SegmentLoad], max_rows: u64) -> Vec<usize> {
    let chosen = due_within(segments, max_rows, SPACE_SHARE_AT_REST);
    if !chosen.is_empty() {
        return chosen;
    }
    let dirty = |at: &usize| segments[*at].is_dead_above(MOST_DEAD_AT_REST_PERCENT) && !segments[*at].spared;
    let fitting = (0..segments.len()).filter(|at| segments[*at].live_rows() <= max_rows);
    fitting.filter(dirty).max_by_key(|at| segments[*at].dead).into_iter().collect()
}

/// All that can be merged now, for somebody who does not want to wait until it is due: as many of the smallest as one
/// merge can hold.
pub(crate) fn in_a_hurry(segments: &[SegmentLoad], max_rows: u64) -> Vec<usize> {
    let mut by_size: Vec<usize> = (0..segments.len()).collect();
    by_size.sort_by_key(|at| (segments[*at].live_rows(), *at));
    let bounds = Bounds { rows: max_rows, bytes: u64::MAX };
    let chosen = bounds.cut(segments, by_size.clone());
    if chosen.len() >= 2 {
        return chosen;
    }
    let is_dirty = |segment: &SegmentLoad| segment.dead > 0 || segment.unindexed;
    let dirty = |at: &usize| is_dirty(&segments[*at]) && segments[*at].live_rows() <= max_rows;
    by_size.into_iter().filter(dirty).take(1).collect()
}

/// Live rows above which no merge takes a segment together with others: more than half of what one can hold.
pub(crate) fn grown_rows(max_rows: u64) -> u64 {
    max_rows / 2
}

/// The lowest tier with enough segments, everything below it, and what the result would meet above it.
fn full_tier(segments: &[SegmentLoad], by_size: &[usize], bounds: &Bounds) -> Vec<usize> {
    let growing = |at: &&usize| segments[**at].live_rows() <= grown_rows(bounds.rows);
    let growing: Vec<usize> = by_size.iter().filter(growing).copied().collect();
    let tier_of = |at: &usize| segments[*at].tier();
    let in_tier = |tier: u32| growing.iter().filter(|at| tier_of(at) == tier).count();
    let Some(mut tier) = growing.iter().map(tier_of).find(|tier| in_tier(*tier) >= FANOUT) else {
        return Vec::new();
    };
    loop {
        let wanted: Vec<usize> = growing.iter().copied().filter(|at| tier_of(at) <= tier).collect();
        let count = wanted.len();
        let chosen = bounds.cut(segments, wanted);
        // Nor would less than the tier make it any less full: with the next small segment it would be the same again.
        if chosen.len() < count && is_lopsided(segments, &chosen) {
            return Vec::new();
        }
        let sum = |part: fn(&SegmentLoad) -> u64| chosen.iter().map(|at| part(&segments[*at])).sum::<u64>();
        let merged = SegmentLoad {
            rows: u32::try_from(sum(SegmentLoad::live_rows)).unwrap_or(u32::MAX),
            dead: 0,
            bytes: sum(SegmentLoad::live_bytes),
            overdue: false,
            unindexed: false,
            spared: false,
        };
        // One more of the tier above would be a merge again at once.
        if merged.tier() <= tier || in_tier(merged.tier()) + 1 < FANOUT {
            return chosen;
        }
        tier = merged.tier();
    }
}

/// Whether one segment is more than four times all others: it would be rewritten for their sake.
fn is_lopsided(segments: &[SegmentLoad], chosen: &[usize]) -> bool {
    let bytes = || chosen.iter().map(|at| segments[*at].live_bytes());
    let largest = bytes().max().unwrap_or(0);
    largest > FANOUT as u64 * (bytes().sum::<u64>() - largest)
}

/// What one merge may hold.
struct Bounds {
    rows: u64,
    bytes: u64,
}

impl Bounds {
    /// The first of `chosen`, which are in the order of their sizes, that fit; by place.
    fn cut(&self, segments: &[SegmentLoad], chosen: Vec<usize>) -> Vec<usize> {
        let (mut rows, mut bytes) = (0, 0);
        let fits = |at: &usize| {
            rows += segments[*at].live_rows();
            bytes += segments[*at].live_bytes();
            rows <= self.rows && bytes <= self.bytes
        };
        let mut fitting: Vec<usize> = chosen.into_iter().take_while(fits).collect();
        fitting.sort_unstable();
        fitting
    }
}

#[cfg(test)]
mod tests {
    use akidb_host::Rng;

    use super::*;

    fn segment(rows: u32, dead: u32) -> SegmentLoad {
        let bytes = u64::from(rows) * 1_000;
        SegmentLoad { rows, dead, bytes, overdue: false, unindexed: false, spared: false }
    }

    #[test]
    fn four_of_a_size_become_one_and_three_stay() {
        let three = [segment(4_000, 0); 3];
        assert!(due(&three, 1_000_000).is_empty());
        let four = [segment(4_000, 0); 4];
        assert_eq!(due(&four, 1_000_000), [0, 1, 2, 3]);
    }

    #[test]
    fn what_is_smaller_goes_along_and_what_is_larger_does_not() {
        let segments = [
            segment(500_000, 0),
            segment(15_000, 0),
            segment(9, 0),
            segment(15_000, 0),
            segment(14_000, 0),
            segment(11_000, 0),
        ];
        assert_eq!(due(&segments, 2_000_000), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn dead_rows_are_dropped_once_they_are_a_quarter() {
        assert!(due(&[segment(1_000, 249), segment(90_000, 0)], 1_000_000).is_empty());
        assert_eq!(due(&[segment(90_000, 0), segment(1_000, 251)], 1_000_000), [1]);
        assert_eq!(due(&[segment(90_000, 0), segment(7, 7)], 1_000_000), [1]);
        assert!(due(&[segment(90_000, 40_000)], 49_999).is_empty(), "made with more memory than there is");
        assert!(in_a_hurry(&[segment(90_000, 40_000)], 49_999).is_empty());
    }

    #[test]
    fn what_expired_long_ago_goes_however_little_it_is_and_that_ends() {
        let overdue = |rows, dead| SegmentLoad { overdue: true, ..segment(rows, dead) };
        let segments = [segment(90_000, 1), overdue(90_000, 1), overdue(1_000, 0)];
        assert_eq!(due(&segments, 1_000_000), [1], "neither what is not overdue nor what has nothing dead");
        assert!(due(&segments, 80_000).is_empty(), "made with more memory than there is");
        let four = [segment(4_000, 0), segment(4_000, 0), overdue(4_000, 9), segment(4_000, 0)];
        assert_eq!(due(&four, 1_000_000), [0, 1, 2, 3], "once, along with what is merged anyway");
        let others =
            [overdue(900_000, 9), segment(9_000, 0), segment(9_000, 0), segment(9_000, 0), segment(9_000, 0)];
        assert_eq!(due(&others, 1_000_000), [1, 2, 3, 4], "after what is merged anyway without it");
        assert_eq!(due(&others[..4], 1_000_000), [0]);
        assert_eq!(due_at_rest(&segments, 1_000_000), [1]);
    }

    /// A flush adds a segment again and again while many are overdue: those it adds are merged as ever.
    #[test]
    fn many_overdue_segments_hold_up_no_other_merge() {
        let overdue = SegmentLoad { overdue: true, ..segment(300_000, 1) };
        let mut segments = vec![overdue; 40];
        for _ in 0..400 {
            segments.push(segment(1_000, 0));
            let chosen = due(&segments, 500_000);
            let live: u64 = chosen.iter().map(|at| segments[*at].live_rows()).sum();
            for at in chosen.iter().rev() {
                segments.remove(*at);
            }
            if live > 0 {
                segments.push(segment(u32::try_from(live).unwrap(), 0));
            }
            let small = segments.iter().filter(|s| s.rows < 100_000).count();
            assert!(small <= 20, "{small} small segments");
        }
        assert!(!segments.iter().any(|s| s.overdue), "and the overdue ones come between");
    }

    #[test]
    fn a_segment_without_a_sound_index_is_rewritten_in_a_hurry() {
        let segments = [SegmentLoad { unindexed: true, ..segment(600_000, 0) }, segment(500_000, 0)];
        assert_eq!(in_a_hurry(&segments, 1_000_000), [0]);
        assert!(in_a_hurry(&segments, 550_000).is_empty(), "made with more memory than there is");
        assert!(due(&segments, 1_000_000).is_empty(), "nobody looks for it all the time");
    }

    #[test]
    fn what_could_not_be_rewritten_is_left_out_and_stops_nothing() {
        let spared = |segment| SegmentLoad { spared: true, ..segment };
        let overdue = SegmentLoad { overdue: true, ..segment(4_000, 9) };
        let segments = [spared(overdue), overdue, spared(segment(9, 9)), spared(segment(9_000, 8_000))];
        assert_eq!(due(&segments, 1_000_000), [1]);
        assert_eq!(due_at_rest(&segments[2..], 1_000_000), [0; 0]);
        let four = [segment(4_000, 0); 4];
        assert_eq!(due(&[&[spared(overdue)], &four[..]].concat(), 1_000_000), [1, 2, 3, 4]);
    }

    #[test]
    fn at_rest_two_dead_rows_in_a_hundred_are_enough() {
        let segments = [segment(1_000, 20), segment(90_000, 1_801), segment(1_000, 249), segment(500, 0)];
        assert!(due(&segments, 1_000_000).is_empty());
        assert_eq!(due_at_rest(&segments, 1_000_000), [1]);
        assert_eq!(due_at_rest(&segments, 50_000), [2], "the other does not fit");
        assert!(due_at_rest(&segments[..1], 1_000_000).is_empty());
        assert_eq!(
            due_at_rest(&[segment(9, 0), segment(1_000, 301)], 1_000),
            [1],
            "what is due anyway is first"
        );
    }

    #[test]
    fn no_merge_holds_more_rows_than_memory_allows_nor_needs_much_space() {
        let segments = [segment(40_000, 0); 20];
        assert_eq!(due(&segments, 100_000), [0, 1], "two fit");
        let large = [segment(90_000, 0); 13];
        assert_eq!(due(&large, 10_000_000), [0, 1], "a sixth of the bytes");
        assert_eq!(
            due_at_rest(&large, 10_000_000),
            [0, 1, 2, 3, 4, 5],
            "half of them where the log is empty"
        );
        assert_eq!(due(&[segment(6_000, 0); 4], 10_000_000), [0, 1, 2], "20 MiB whatever share that is");
    }

    /// Four segments of which no two fit a merge, and one small flush after the other: small ones wait for others of their size.
    #[test]
    fn a_tier_that_no_merge_holds_costs_small_segments_nothing() {
        let mut segments = vec![segment(40_000, 0); 4];
        let (mut written, mut most_files) = (0, 0);
        for _ in 0..200 {
            segments.push(segment(500, 0));
            loop {
                let chosen = due(&segments, 10_000_000);
                if chosen.is_empty() {
                    break;
                }
                let live: u64 = chosen.iter().map(|at| segments[*at].live_rows()).sum();
                written += live;
                for at in chosen.iter().rev() {
                    segments.remove(*at);
                }
                segments.push(segment(u32::try_from(live).unwrap(), 0));
            }
            most_files = most_files.max(segments.len());
        }
        assert!(written < 8 * 200 * 500, "{written} rows rewritten for {} flushed", 200 * 500);
        assert!(most_files <= 20, "{most_files} files");
    }

    #[test]
    fn a_hurry_merges_whatever_fits_and_ends() {
        assert_eq!(in_a_hurry(&[segment(10, 0), segment(400_000, 0)], 1_000_000), [0, 1]);
        assert!(in_a_hurry(&[segment(600_000, 0), segment(500_000, 0)], 1_000_000).is_empty());
        assert_eq!(in_a_hurry(&[segment(600_000, 1), segment(500_000, 0)], 1_000_000), [0]);
        assert!(in_a_hurry(&[segment(600_000, 0)], 1_000_000).is_empty());
    }

    /// A year of flushes: files stay few, each row is rewritten a few times, and every round of merges ends.
    #[test]
    fn files_stay_logarithmic_and_rewriting_bounded() {
        let mut rng = Rng::seeded(7);
        let (max_rows, mut written, mut flushed, mut most_files) = (400_000, 0u64, 0u64, 0);
        let mut segments: Vec<SegmentLoad> = Vec::new();
        for _ in 0..2_000 {
            let rows = 1 + u32::try_from(rng.below(30_000)).unwrap();
            flushed += u64::from(rows);
            segments.push(segment(rows, 0));
            for segment in &mut segments {
                segment.dead +=
                    u32::try_from(rng.below(u64::from(segment.rows - segment.dead) / 100 + 1)).unwrap();
            }
            for round in 0.. {
                assert!(round < 100, "merges end: {segments:?}");
                let chosen = due(&segments, max_rows);
                if chosen.is_empty() {
                    break;
                }
                let live: u64 = chosen.iter().map(|at| segments[*at].live_rows()).sum();
                assert!(live <= max_rows);
                for at in chosen.iter().rev() {
                    segments.remove(*at);
                }
                written += live;
                if live > 0 {
                    segments.push(segment(u32::try_from(live).unwrap(), 0));
                }
            }
            most_files = most_files.max(segments.len());
            let dead: u64 = segments.iter().map(|s| u64::from(s.dead)).sum();
            let rows: u64 = segments.iter().map(|s| u64::from(s.rows)).sum();
            assert!(dead * 100 <= rows * 26, "{dead} of {rows} are dead");
        }
        println!("{most_files} files at most, {written} rows rewritten for {flushed} flushed");
        let all_rows: u64 = segments.iter().map(|s| u64::from(s.rows)).sum();
        assert!(most_files as u64 <= 2 * all_rows / max_rows + 20, "{most_files} files for {all_rows} rows");
        assert!(written < 12 * flushed, "{written} rows rewritten for {flushed} flushed");
    }
}
