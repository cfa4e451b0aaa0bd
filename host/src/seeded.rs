//! Bugs that are seeded on purpose, so that a test can be shown to see them: one build holds them all, and
//! `AKIDB_SEEDED_BUG` names the one to be had.

/// Whether the bug of this name is to be had: never, but in a build with `--cfg seeded_bugs`.
#[doc(hidden)]
#[cfg(not(seeded_bugs))]
#[must_use]
#[inline(always)]
pub const fn seeded_bug(_name: &str) -> bool {
    false
}

/// Whether the bug of this name is to be had.
#[doc(hidden)]
#[cfg(seeded_bugs)]
#[must_use]
pub fn seeded_bug(name: &str) -> bool {
    static NAMED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    NAMED.get_or_init(|| std::env::var("AKIDB_SEEDED_BUG").ok()).as_deref() == Some(name)
}
