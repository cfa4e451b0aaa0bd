//! The exact comparison of candidates: nearest estimate first, those left out that cannot reach the best k.

use crate::index::candidates::Candidate;
use crate::schema::Metric;

/// A score and what estimates are compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exact {
    /// Higher is nearer.
    pub(crate) score: f32,
    /// The score in the units of estimates: smaller is nearer.
    pub(crate) key: f32,
}

impl Exact {
    pub(crate) fn of(metric: Metric, score: f32) -> Self {
        let key = match metric {
            Metric::Cosine => 2.0 - 2.0 * score,
            Metric::L2 => score * score,
            Metric::Dot => -score,
        };
        Self { score, key }
    }
}

/// Rows that are brought near while one is compared.
const AHEAD: usize = 16;

/// Whether a candidate may be among the best k, the k-th of which is at `kth` so far: its own error says, as those of lists,
/// of segments without lists and of memtables differ by a multiple. Half an error less than what let it be kept: the k-th
/// exact is surer than the best estimates.
#[inline]
pub(crate) fn is_open(candidate: &Candidate, kth: f32, width: f32) -> bool {
    candidate.estimate <= kth + (width - 0.5) * candidate.error
}

/// Compares `candidates`, ascending by estimate, leaving out those that cannot be among the best. `soon` is told of a row some
/// rows before it is compared; `keep` takes each row's exact score and gives the key of the k-th best once there are k. Gives
/// how many were compared.
///
/// # Errors
/// What `exact` fails with.
#[inline]
pub(crate) fn rerank<E>(
    candidates: &[Candidate],
    k: usize,
    width: f32,
    soon: impl Fn(&Candidate),
    exact: impl Fn(&Candidate) -> Result<Exact, E>,
    mut keep: impl FnMut(Exact, &Candidate) -> Option<f32>,
) -> Result<usize, E> {
    let (mut kth, mut compared): (Option<f32>, usize) = (None, 0);
    candidates.iter().take(AHEAD).for_each(&soon);
    for (at, candidate) in candidates.iter().enumerate() {
        let is_open = |candidate: &Candidate| kth.is_none_or(|kth| is_open(candidate, kth, width));
        if let Some(later) = candidates.get(at + AHEAD).filter(|later| is_open(later)) {
            soon(later);
        }
        if at < k || is_open(candidate) {
            kth = keep(exact(candidate)?, candidate);
            compared += 1;
        }
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two kinds of places, one's estimates are off by five times as much as the other's.
    #[test]
    fn a_sure_estimate_too_far_off_keeps_no_unsure_one_from_being_compared() {
        let candidate = |row, estimate, error| Candidate { estimate, error, source: 0, row };
        let candidates =
            [candidate(0, 1.0, 0.1), candidate(1, 1.4, 0.1), candidate(2, 1.5, 0.5), candidate(3, 1.9, 0.5)];
        let keys = [1.0, 1.4, 0.9, 1.8];
        let (mut met, mut best) = (Vec::new(), f32::INFINITY);
        let exact = |candidate: &Candidate| {
            Ok::<_, std::convert::Infallible>(Exact { score: 0.0, key: keys[candidate.row as usize] })
        };
        let Ok(compared) = rerank(
            &candidates,
            1,
            2.0,
            |_| (),
            exact,
            |exact, candidate| {
                met.push(candidate.row);
                best = best.min(exact.key);
                Some(best)
            },
        );
        assert_eq!((compared, met), (2, vec![0, 2]), "1 and 3 are out of reach");
    }
}
