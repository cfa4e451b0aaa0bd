//! Which blocks are asked for together: a request costs more than a few blocks that nobody wanted.

use std::ops::Range;

/// A gap of so many blocks costs less than one more request, always.
const NEAR_BLOCKS: u32 = 2;

/// How far apart blocks are asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// Requests to come down to ...
    pub(super) gets: usize,
    /// ... for so many unwanted blocks at most.
    pub(super) waste: u32,
}

/// Ranges that hold all of `blocks` (ascending, each once): the smallest gaps between them are closed first.
pub(super) fn joined(blocks: &[u32], limit: Limit) -> Vec<Range<u32>> {
    let mut gaps: Vec<(u32, usize)> = blocks
        .windows(2)
        .enumerate()
        .map(|(at, pair)| (pair[1] - pair[0] - 1, at))
        .filter(|(gap, _)| *gap > 0)
        .collect();
    gaps.sort_unstable();
    let (mut ranges, mut waste) = (gaps.len() + 1, limit.waste);
    let mut closed = vec![false; blocks.len()];
    for (gap, at) in gaps {
        if gap > NEAR_BLOCKS {
            if ranges <= limit.gets || gap > waste {
                break;
            }
            waste -= gap;
        }
        closed[at] = true;
        ranges -= 1;
    }
    let mut out: Vec<Range<u32>> = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        match out.last_mut() {
            Some(range) if range.end == *block || closed[at - 1] => range.end = block + 1,
            _ => out.push(*block..block + 1),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_gaps_are_closed_until_the_requests_are_few_or_the_waste_is_used_up() {
        let blocks = [1, 2, 5, 10, 30, 34, 100];
        let few = |gets, waste| joined(&blocks, Limit { gets, waste });
        assert_eq!(few(9, 0), [1..6, 10..11, 30..31, 34..35, 100..101], "near ones always");
        assert_eq!(few(4, 99), [1..6, 10..11, 30..35, 100..101]);
        assert_eq!(few(3, 99), [1..11, 30..35, 100..101]);
        assert_eq!(few(1, 7), [1..11, 30..35, 100..101], "19 more blocks are not there to be wasted");
        assert_eq!(few(1, 999), few(1, 3 + 4 + 19 + 65));
        assert_eq!(few(1, 999).len(), 1);
        assert_eq!(joined(&[], Limit { gets: 1, waste: 1 }), Vec::<Range<u32>>::new());
        assert_eq!(joined(&[7], Limit { gets: 0, waste: 0 }), vec![Range { start: 7, end: 8 }]);
    }
}
