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
    /// A budget of rows; a larger one never finds less.
    Budget(usize),
}

/// Budgets swept beside exact search and the default effort, ascending. The engine has exact search alone: there is nothing to sweep.
const BUDGETS: [usize; 0] = [];

impl Effort {
    /// What takes a turn in each round.
    pub(super) fn swept() -> Vec<Self> {
        let budgets = BUDGETS.iter().map(|rows| Self::Budget(*rows));
        [Self::Exact].into_iter().chain(budgets).chain([Self::Default]).collect()
    }

    /// `search`, tried this hard.
    pub(super) fn of<'a>(self, search: Search<'a>) -> Search<'a> {
        match self {
            Self::Exact | Self::Default | Self::Budget(_) => search,
        }
    }

    /// A word for a table.
    pub(super) fn name(self) -> String {
        match self {
            Self::Exact => "exact".to_owned(),
            Self::Default => "default".to_owned(),
            Self::Budget(rows) => rows.to_string(),
        }
    }
}
