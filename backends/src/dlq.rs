//! The dead letter queue: uploads that failed for good, each with its diagnosis, until a redrive or a person.
//!
//! It is a worklist that points at local files and holds none of their bytes. What has to be uploaded is derived
//! from the manifests, never from here: full, expired, damaged or deleted, it costs explanations and no row.
//!
//! ```text
//! dlq.json             snapshot: one JSON document, one entry a line, under a checksum of its own and one of all;
//!                      compressed if that is wished
//! dlq.journal.jsonl    what changed since: {"c":"<crc32 of e>","e":{"n":17,"op":"add","letter":{…}}}
//! dlq.evicted.jsonl    what was evicted, for people; never read
//! ```
//! Drawn byte by byte in `docs/formats/dlq.md`. From the pure to the outer: `letter`, `letters` (bounds, order,
//! schedule, states), `ledger` (who writes, who waits), `line`, `snapshot`, `packed`, `load`, `disk` (bytes and files),
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

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod age;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod disk;
#[cfg(all(not(any(akidb_loom, akidb_shuttle)), feature = "test-util"))]
mod fuzz;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod id;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod line;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod load;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod packed;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod queue;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod snapshot;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod test_letters;

pub use claim::Claim;
#[cfg(all(not(any(akidb_loom, akidb_shuttle)), feature = "test-util"))]
pub use fuzz::{fuzz_dlq_journal, fuzz_dlq_snapshot};
pub(crate) use ledger::Trouble;
#[cfg(akidb_shuttle)]
#[cfg(test)]
pub(crate) use ledger::{Ledger, Sink};
pub use letter::{Attempt, Letter, LetterId, LetterState, NewLetter};
#[cfg(akidb_shuttle)]
#[cfg(test)]
pub(crate) use letters::{Added, Change, Letters, What};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use load::Loaded;
#[cfg(akidb_shuttle)]
#[cfg(test)]
pub(crate) use parked::PARKED_MS;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use queue::DeadLetters;
pub use settings::{DlqSettings, Overflow};
pub use which::{DlqStats, Which};
