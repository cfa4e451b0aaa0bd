//! Object stores made safe to depend on: retries, verified uploads, a claimed and numbered remote document.
//!
//! This crate knows paths and bytes. What a file means is the caller's business: it hands over a
//! [`FilePlan`] (files with their whole-file checksums, and an opaque text that names them) and gets the
//! promise that no remote document ever names a file that was not verified on that backend.
//!
//! Every call reaches a store through the `Arc<dyn ObjectStore>` of a [`Backend`]: that is the seam where
//! decorators (breaker, limits) stand.
#![forbid(unsafe_code)]
#![cfg_attr(akidb_loom, allow(dead_code, unused_imports, reason = "the models see the pure modules alone"))]

mod breaker;
mod budget;
mod class;
mod config;
mod dlq;
mod limiter;
mod queue;
mod sync;
mod window;

#[cfg(akidb_loom)]
#[cfg(test)]
mod explored;

#[cfg(not(akidb_loom))]
mod backend;
#[cfg(not(akidb_loom))]
#[cfg(test)]
mod chaos;
#[cfg(not(akidb_loom))]
mod client;
#[cfg(not(akidb_loom))]
mod error;
#[cfg(not(akidb_loom))]
mod examine;
#[cfg(all(not(akidb_loom), any(test, feature = "test-util")))]
pub mod fault;
#[cfg(not(akidb_loom))]
mod gc;
#[cfg(not(akidb_loom))]
mod guard;
#[cfg(not(akidb_loom))]
mod known;
#[cfg(not(akidb_loom))]
mod local;
#[cfg(not(akidb_loom))]
mod multiparts;
#[cfg(not(akidb_loom))]
mod numbered;
#[cfg(not(akidb_loom))]
mod plan;
#[cfg(not(akidb_loom))]
mod probe;
#[cfg(not(akidb_loom))]
mod publish;
#[cfg(not(akidb_loom))]
mod put;
#[cfg(not(akidb_loom))]
#[cfg_attr(
    not(feature = "s3"),
    allow(dead_code, reason = "refusals come from the S3 client and from the test kit")
)]
mod refusal;
#[cfg(not(akidb_loom))]
mod restore;
#[cfg(not(akidb_loom))]
mod retry;
#[cfg(all(not(akidb_loom), feature = "s3"))]
mod s3;
#[cfg(not(akidb_loom))]
mod store;
#[cfg(not(akidb_loom))]
#[cfg(test)]
mod test_support;
#[cfg(not(akidb_loom))]
mod uploader;

#[cfg(not(akidb_loom))]
pub use backend::{Backend, Kind, open};
pub use breaker::{Breaker, BreakerStatus, Failure, Permit, Reason, Refused, Settled, State, Totals};
pub use budget::Budget;
pub use class::{Class, Op};
#[cfg(not(akidb_loom))]
pub use client::Client;
pub use config::{BackendConfig, BreakerSettings, Secret};
pub use dlq::{
    Attempt, Claim, DlqSettings, DlqStats, Letter, LetterId, LetterState, NewLetter, Overflow, Which,
};
#[cfg(not(akidb_loom))]
pub use dlq::{DeadLetters, Loaded};
#[cfg(all(not(akidb_loom), feature = "test-util"))]
pub use dlq::{fuzz_dlq_journal, fuzz_dlq_snapshot};
#[cfg(not(akidb_loom))]
pub use error::{Error, ErrorKind, Fate, Result};
#[cfg(not(akidb_loom))]
pub use examine::{Check, Finding, Verdict, examine};
#[cfg(not(akidb_loom))]
pub use gc::{SweepSettings, Swept};
#[cfg(not(akidb_loom))]
pub use guard::{CallKind, Guard, GuardSettings, Held};
#[cfg(not(akidb_loom))]
pub use known::Known;
pub use limiter::{Entry, InFlight, Limiter, LimiterSettings, Pace, Place, Share};
#[cfg(not(akidb_loom))]
pub use multiparts::{Aborted, Multiparts};
#[cfg(not(akidb_loom))]
pub use numbered::{Chain, Content, Document, Identity, RemoteFile};
#[cfg(not(akidb_loom))]
pub use plan::{FilePlan, PlanItem};
#[cfg(not(akidb_loom))]
pub use probe::probe;
#[cfg(not(akidb_loom))]
pub use publish::{PublishOptions, Published, Publisher};
#[cfg(not(akidb_loom))]
pub use restore::Restorer;
#[cfg(not(akidb_loom))]
pub use retry::{ClockSleep, Schedule, Sleep, TokioSleep, Tries, classify};
#[cfg(not(akidb_loom))]
pub use store::GuardedStore;
#[cfg(not(akidb_loom))]
pub use uploader::{Status, Uploader, UploaderParts};
