//! Object stores made safe to depend on: retries, verified uploads, a claimed and numbered remote document.
//!
//! This crate knows paths and bytes. What a file means is the caller's business: it hands over a
//! [`FilePlan`] (files with their whole-file checksums, and an opaque text that names them) and gets the
//! promise that no remote document ever names a file that was not verified on that backend.
//!
//! Every call reaches a store through the `Arc<dyn ObjectStore>` of a [`Backend`]: that is the seam where
//! decorators (breaker, limits) stand.
#![forbid(unsafe_code)]
#![cfg_attr(
    any(akidb_loom, akidb_shuttle),
    allow(dead_code, unused_imports, reason = "loom and shuttle see the pure modules alone")
)]

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
#[cfg(akidb_shuttle)]
#[cfg(test)]
mod shuttle_tests;

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod backend;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod chaos;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod client;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod contained;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod error;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod examine;
#[cfg(all(not(any(akidb_loom, akidb_shuttle)), any(test, feature = "test-util")))]
pub mod fault;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod gc;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod guard;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod known;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod local;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod multiparts;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod numbered;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod plan;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod probe;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod publish;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod put;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod reader;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg_attr(
    not(feature = "s3"),
    allow(dead_code, reason = "refusals come from the S3 client and from the test kit")
)]
mod refusal;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod restore;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod retry;
#[cfg(all(not(any(akidb_loom, akidb_shuttle)), feature = "s3"))]
mod s3;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod store;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod test_support;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
mod uploader;

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use backend::{Backend, HAS_S3, Kind, open, open_to_read};
pub use breaker::{Breaker, BreakerStatus, Failure, Permit, Reason, Refused, Settled, State, Totals};
pub use budget::Budget;
pub use class::{Class, Op};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use client::Client;
pub use config::{BackendConfig, BreakerSettings, Secret};
pub use dlq::{
    Attempt, Claim, DlqSettings, DlqStats, Letter, LetterId, LetterState, NewLetter, Overflow, Which,
};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use dlq::{DeadLetters, Loaded};
#[cfg(all(not(any(akidb_loom, akidb_shuttle)), feature = "test-util"))]
pub use dlq::{fuzz_dlq_journal, fuzz_dlq_snapshot};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use error::{Error, ErrorKind, Fate, Result};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use examine::{Check, Finding, Verdict, examine};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use gc::{SweepSettings, Swept};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use guard::{CallKind, Guard, GuardSettings, Held};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use known::Known;
pub use limiter::{Entry, InFlight, Limiter, LimiterSettings, Pace, Place, Share};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use local::directory_of;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use multiparts::{Aborted, Multiparts};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use numbered::{Chain, Content, Document, Identity, RemoteFile};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use plan::{FilePlan, PlanItem};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use probe::probe;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use publish::{PublishOptions, Published, Publisher};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use put::PieceMemory;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use reader::{Piece, Reader};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use restore::Restorer;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use retry::{ClockSleep, Schedule, Sleep, TokioSleep, Tries, classify};
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use store::GuardedStore;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
pub use uploader::{Status, Uploader, UploaderParts};
