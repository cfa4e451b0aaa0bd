//! How each segment is searched: by its codes, or row by row where that is as cheap or the codes cannot say.

use crate::filter_cache::OwnCodesKind;
use crate::index::Lists;
use crate::search::query::Accuracy;

/// So few matching rows are compared one by one: cheaper than any scan of codes that finds them all.
const FEW_ROWS: u32 = 2_000;
/// ... or one row in so many.
const FEW_SHARE: u32 = 64;
/// A search for more than one in so many of the matching rows is exact.
const LARGE_K_SHARE: u64 = 8;
/// So is one for more rows than this: their fetch costs more than the scan.
const LARGE_K: usize = 1_000;
/// Filters that take so many rows of a segment may have codes of their own, encoded anew: fewer are compared as fast, for
/// more the segment's lists are better.
const OWN_ROWS: std::ops::RangeInclusive<u32> = 256..=16_384;
/// Those that take more, up to this share, may have the segment's lists with their rows only.
const THINNED_SHARE: f32 = 0.75;
/// From this dimension on codes of a byte a number are enough shorter than the vectors to be worth having for exact searches.
const BYTE_CODES_DIM: usize = 64;
/// Where rows of a filter are one in so many of a segment's, or more, all are read one behind the other instead.
const SCATTERED_SHARE: u32 = 4;
/// So many errors more are compared where a filter has codes of its own: it goes with the vectors more often than not,
/// distances are alike then, and of few rows few more are compared.
pub(crate) const OWN_CODES_WIDTH: f32 = 0.5;
/// Filters that let more than this share through are not discounted.
const NEARLY_ALL: f32 = 0.9;
/// With a filter fewer matching slots are needed: the budget times the matching share to this power.
const DISCOUNT: f32 = 0.68;
/// A filter whose rows lie in lists that match so many times oftener than all rows do goes with the vectors.
const CORRELATED: f32 = 2.0;
/// Then most queries are far from all that matches, distances are alike, and so many times the budget is needed.
const CORRELATED_NEED: u32 = 4;

/// Whether the codes are scanned. `matched` are the rows the filter lets through, all of `rows` without one.
pub(crate) fn scans_codes(accuracy: Accuracy, k: usize, rows: u32, matched: u32, filtered: bool) -> bool {
    let few = filtered && matched <= FEW_ROWS.max(rows / FEW_SHARE);
    !few && codes_serve(accuracy, k, matched)
}

/// What codes of just the `matched` rows that a filter lets through, `alive` of them living, are worth having and asking, if
/// any.
#[expect(clippy::cast_precision_loss, reason = "a share")]
pub(crate) fn own_codes(
    accuracy: Accuracy,
    k: usize,
    rows: u32,
    (matched, alive): (u32, u32),
) -> Option<OwnCodesKind> {
    if alive == 0 || !codes_serve(accuracy, k, matched) {
        None
    } else if OWN_ROWS.contains(&matched) {
        Some(OwnCodesKind::Few)
    } else {
        let is_part = matched > *OWN_ROWS.end() && matched as f32 <= THINNED_SHARE * rows as f32;
        // Where the segment's lists would not be asked, these are not either.
        (is_part && scans_codes(accuracy, k, rows, alive, true)).then_some(OwnCodesKind::Many)
    }
}

/// The rows a recall was measured for.
const CALIBRATED_K: f32 = 10.0;
/// Slots grow with this power of the rows asked for: 116,659 sentence embeddings need 1.55 times as many for the same share of the
/// best 50, 1.8 of 100, 2.75 of 300.
const MORE_FOR_K: f32 = 0.3;

/// Whether so few of a segment's `rows` match that their vectors are read one by one.
pub(crate) fn are_scattered(rows: u32, matched: u32) -> bool {
    matched < rows / SCATTERED_SHARE
}

/// Whether codes of a byte a number, of just the `matched` rows that a filter lets through, are worth having and asking where the
/// `k` best of those are to be found for sure. `alive` of them live.
pub(crate) fn byte_codes(dim: usize, k: usize, rows: u32, (matched, alive): (u32, u32)) -> bool {
    let few_wanted = (k as u64) * LARGE_K_SHARE <= u64::from(alive);
    dim >= BYTE_CODES_DIM && OWN_ROWS.contains(&matched) && are_scattered(rows, matched) && few_wanted
}

/// Whether the answer need not be exact, and `k` rows are few enough to be found by codes of `matched`.
fn codes_serve(accuracy: Accuracy, k: usize, matched: u32) -> bool {
    let exact = match accuracy {
        Accuracy::Exact => true,
        Accuracy::Recall(recall) => recall >= 1.0,
        Accuracy::Effort(_) => false,
    };
    !exact && k <= LARGE_K && (k as u64) * LARGE_K_SHARE <= u64::from(matched)
}

/// The slots of an index that a search may compare. What a recall costs was measured for 10 rows: the farther ones of more lie in
/// more lists.
#[expect(clippy::cast_precision_loss, reason = "a budget")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
pub(crate) fn slots(accuracy: Accuracy, k: usize, lists: &Lists) -> u32 {
    match accuracy {
        Accuracy::Recall(recall) => {
            let more = (k as f32 / CALIBRATED_K).max(1.0).powf(MORE_FOR_K);
            (lists.budget(recall).slots as f32 * more) as u32
        }
        Accuracy::Effort(n) => lists.slots_of_effort(n),
        Accuracy::Exact => u32::MAX,
    }
}

/// How many errors above the best estimates are compared, for an effort.
#[expect(clippy::cast_precision_loss, reason = "an effort")]
pub(crate) fn width_of_effort(n: u32) -> f32 {
    (1.25 + 0.25 * (n as f32 / 8.0).log2()).clamp(1.25, 3.0)
}

/// When a scan of lists has compared enough slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// Share of the rows that match.
    share: f32,
    /// Matching slots to compare.
    slots: u32,
}

impl Need {
    /// `slots` is the budget without a filter, `concentration` the share that matches in the list of a matching row,
    /// on average.
    #[expect(clippy::cast_precision_loss, reason = "shares")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    pub(crate) fn new(slots: u32, rows: u32, matched: u32, concentration: f32) -> Self {
        let share = matched as f32 / rows.max(1) as f32;
        let slots = if share > NEARLY_ALL {
            slots
        } else if concentration > CORRELATED * share {
            slots.saturating_mul(CORRELATED_NEED)
        } else {
            (slots as f32 * share.powf(DISCOUNT)).ceil() as u32
        };
        Self { share, slots }
    }

    /// Slots of all rows among which as many matching ones as are needed are expected.
    #[expect(clippy::cast_precision_loss, reason = "shares")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    pub(crate) fn slots(self) -> u32 {
        (self.slots as f32 / self.share.max(1e-6)).ceil() as u32
    }

    /// Whether so many matching slots are enough.
    pub(crate) fn is_met(self, compared: u64) -> bool {
        compared >= u64::from(self.slots)
    }
}
