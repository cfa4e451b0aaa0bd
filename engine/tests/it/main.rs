//! Tests of the engine through its public face.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails where it stands"
)]

mod alter;
mod arrow_and_async;
mod async_writes;
mod backends;
mod bad_disk;
mod bad_input;
mod broke_others;
mod churn;
mod cold;
mod compaction;
mod created_together;
mod deletion_vector_files;
mod docs;
mod durability;
mod every_file_flips;
mod expiry;
mod failing_opens;
mod filters;
mod flips;
mod history;
mod index_flips;
mod keyed;
mod kill;
mod kill_uploads;
mod locks;
mod many;
mod memory;
mod model;
mod named_snapshots;
mod oracle;
mod pace;
mod promised;
mod promises;
mod queued;
mod removal;
mod repair;
mod replay;
mod rest;
mod restore;
mod review;
mod sample;
mod search;
mod search_batch;
mod search_model;
mod sim;
mod snapshots;
mod spans;
mod support;
mod tidy;
mod verify;
mod writes;
mod young;
