//! Recall beside speed: the points of a sweep, and the speed at a recall between them.

/// The recalls that figures are given at.
pub(super) const GOALS: [f64; 3] = [0.90, 0.95, 0.99];

/// Searches a second at `goal`: of the fastest point that reaches it, or between two neighbours, the logarithm of the
/// speed taken as linear in recall. `None` if no point reaches the goal. `points` are (recall, searches a second).
pub(super) fn at_recall(points: &[(f64, f64)], goal: f64) -> Option<f64> {
    let mut points = points.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let reached = points.iter().filter(|(recall, _)| *recall >= goal).map(|(_, qps)| *qps);
    let between = points.windows(2).filter_map(|pair| match pair {
        [(low, slow), (high, fast)] if *low < goal && goal <= *high => {
            let part = (goal - low) / (high - low);
            Some(((1.0 - part) * slow.ln() + part * fast.ln()).exp())
        }
        _ => None,
    });
    reached.chain(between).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_points_the_logarithm_is_linear() {
        let points = [(0.98, 100.0), (0.90, 10_000.0)];
        let middle = at_recall(&points, 0.94).unwrap();
        assert!((middle - 1_000.0).abs() < 1e-6, "{middle}");
        assert_eq!(at_recall(&points, 0.90), Some(10_000.0));
        let end = at_recall(&points, 0.98).unwrap();
        assert!((end - 100.0).abs() < 1e-9, "{end}");
    }

    #[test]
    fn what_is_never_reached_has_no_speed_and_what_is_passed_counts_in_full() {
        let points = [(0.95, 500.0), (0.97, 400.0)];
        assert_eq!(at_recall(&points, 0.99), None);
        assert_eq!(at_recall(&points, 0.90), Some(500.0), "the easiest setting is above the goal");
        assert_eq!(at_recall(&[(1.0, 7.0)], 0.99), Some(7.0));
        assert_eq!(at_recall(&[], 0.5), None);
        // A slower point of less recall does not pull the figure down.
        assert_eq!(at_recall(&[(0.5, 10.0), (0.96, 300.0)], 0.95), Some(300.0));
    }
}
