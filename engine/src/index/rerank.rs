//! The exact comparison of candidates: nearest estimate first, until no estimate left can reach the best k.

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

/// Compares `candidates`, ascending by estimate. `soon` is told of a row some rows before it is compared; `keep` takes each row's exact score and gives the key of the k-th
/// best once there are k. Gives how many were compared.
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
    let mut kth = None;
    candidates.iter().take(AHEAD).for_each(&soon);
    for (at, candidate) in candidates.iter().enumerate() {
        // Half an error less than what let it be kept: the k-th exact is surer than the best estimates.
        if at >= k && kth.is_some_and(|kth: f32| candidate.estimate > kth + (width - 0.5) * candidate.error) {
            return Ok(at);
        }
        if let Some(later) = candidates.get(at + AHEAD) {
            soon(later);
        }
        kth = keep(exact(candidate)?, candidate);
    }
    Ok(candidates.len())
}
