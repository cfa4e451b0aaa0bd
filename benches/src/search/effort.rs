//! How hard a search tries: the one place that turns an effort into calls of the engine, and says which are swept.

use akidb::Search;
use serde::Serialize;

/// An effort of one search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Effort {
    /// Every row is compared: the yardstick, and the truth that recall is counted against.
    Exact,
    /// What a search does that says nothing.
    Default,
    /// So many times the root of a segment's rows compared by code.
    Roots(u32),
}

/// Efforts swept beside exact search and the default, ascending.
const EFFORTS: [u32; 11] = [4, 6, 9, 13, 19, 27, 38, 54, 76, 108, 160];

impl Effort {
    /// What takes a turn in each round.
    pub(super) fn swept() -> Vec<Self> {
        let efforts = EFFORTS.iter().map(|n| Self::Roots(*n));
        [Self::Exact].into_iter().chain(efforts).chain([Self::Default]).collect()
    }

    /// `search`, tried this hard.
    pub(super) fn of<'a>(self, search: Search<'a>) -> Search<'a> {
        match self {
            Self::Exact => search.exact(),
            Self::Default => search,
            Self::Roots(n) => search.effort(n),
        }
    }

    /// A word for a table.
    pub(super) fn name(self) -> String {
        match self {
            Self::Exact => "exact".to_owned(),
            Self::Default => "default".to_owned(),
            Self::Roots(n) => n.to_string(),
        }
    }
}
