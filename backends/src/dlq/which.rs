//! Which letters are meant, and how many there are.

use super::letter::{Letter, LetterState};
use crate::class::Class;

/// Which letters: those that fit everything that is said. The default fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// Of this backend.
    pub backend: Option<String>,
    /// Of this class.
    pub class: Option<Class>,
    /// In this state.
    pub state: Option<LetterState>,
}

impl Which {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Those of a backend.
    #[must_use]
    pub fn backend(name: impl Into<String>) -> Self {
        Self { backend: Some(name.into()), ..Self::default() }
    }

    /// And of this class.
    #[must_use]
    pub fn with_class(self, class: Class) -> Self {
        Self { class: Some(class), ..self }
    }

    /// And in this state.
    #[must_use]
    pub fn with_state(self, state: LetterState) -> Self {
        Self { state: Some(state), ..self }
    }

    /// Whether a letter is meant.
    #[must_use]
    pub fn fits(&self, letter: &Letter) -> bool {
        self.fits_note(&letter.backend, letter.class) && self.state.is_none_or(|state| state == letter.state)
    }

    pub(crate) fn fits_note(&self, backend: &str, class: Class) -> bool {
        self.backend.as_deref().is_none_or(|wanted| wanted == backend)
            && self.class.is_none_or(|wanted| wanted == class)
    }
}

/// Counts of the whole queue, or of one backend's part of it. Totals count since the open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DlqStats {
    /// Letters in the list.
    pub size: u64,
    /// Seconds since the oldest of them was made; 0 if there is none.
    pub oldest_entry_age_seconds: u64,
    /// Letters that went because the list was full.
    pub total_evictions: u64,
    /// Letters that went because of their age.
    pub total_expired: u64,
    /// Letters that were not taken because the list was full.
    pub rejected: u64,
    /// Letters that wait for a person.
    pub poison: u64,
    /// Letters whose upload is being tried.
    pub redriving: u64,
    /// Evicted, expired or rejected uploads that wait before they are tried again.
    pub parked: u64,
    /// Bad lines met by the open. Of the whole queue, always.
    pub corrupt_lines: u64,
    /// Why the list is not on disk as it is in memory, if so. Of the whole queue, always.
    pub degraded: Option<String>,
}
