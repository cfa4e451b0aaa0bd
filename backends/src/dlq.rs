//! The dead letter queue: uploads that failed for good, each with its diagnosis, until a redrive or a person.
//!
//! It is a worklist that points at local files and holds none of their bytes. What has to be uploaded is derived
//! from the manifests, never from here: full, expired, damaged or deleted, it costs explanations and no row.
//!
//! ```text
//! dlq.json             snapshot: one JSON document, one entry a line, under a checksum of its own and one of all
//! dlq.journal.jsonl    what changed since: {"c":"<crc32 of e>","e":{"n":17,"op":"add","letter":{…}}}
//! dlq.evicted.jsonl    what was evicted, for people; never read
//! ```
//! Drawn byte by byte in `docs/formats/dlq.md`. From the pure to the outer: `letter`, `letters` (bounds, order,
//! schedule, states), `ledger` (who writes, who waits), `line`, `snapshot`, `load`, `disk` (bytes and files),
//! `queue` (clock, chores and the public face).

mod claim;
mod lane;
mod ledger;
mod letter;
mod letters;
#[cfg(akidb_loom)]
#[cfg(test)]
mod model;
mod parked;
mod settings;
mod which;

#[cfg(not(akidb_loom))]
mod age;
#[cfg(not(akidb_loom))]
mod disk;
#[cfg(all(not(akidb_loom), feature = "test-util"))]
mod fuzz;
#[cfg(not(akidb_loom))]
mod id;
#[cfg(not(akidb_loom))]
mod line;
#[cfg(not(akidb_loom))]
mod load;
#[cfg(not(akidb_loom))]
mod queue;
#[cfg(not(akidb_loom))]
mod snapshot;
#[cfg(not(akidb_loom))]
#[cfg(test)]
mod test_letters;

pub use claim::Claim;
#[cfg(all(not(akidb_loom), feature = "test-util"))]
pub use fuzz::{fuzz_dlq_journal, fuzz_dlq_snapshot};
#[cfg(not(akidb_loom))]
pub(crate) use ledger::Trouble;
pub use letter::{Attempt, Letter, LetterId, LetterState, NewLetter};
#[cfg(not(akidb_loom))]
pub use load::Loaded;
#[cfg(not(akidb_loom))]
pub use queue::DeadLetters;
pub use settings::{DlqSettings, Overflow};
pub use which::{DlqStats, Which};
