//! Object stores made safe to depend on: retries, verified uploads, a claimed and numbered remote document.
//!
//! This crate knows paths and bytes. What a file means is the caller's business: it hands over a
//! [`FilePlan`] (files with their whole-file checksums, and an opaque text that names them) and gets the
//! promise that no remote document ever names a file that was not verified on that backend.
//!
//! Every call reaches a store through the `Arc<dyn ObjectStore>` of a [`Backend`]: that is the seam where
//! decorators (breaker, limits) stand.
#![forbid(unsafe_code)]

mod backend;
mod client;
mod config;
mod error;
#[cfg(any(test, feature = "test-util"))]
pub mod fault;
mod gc;
mod known;
mod local;
mod numbered;
mod plan;
mod probe;
mod publish;
mod put;
mod restore;
mod retry;
#[cfg(feature = "s3")]
mod s3;
#[cfg(test)]
mod test_support;
mod uploader;

pub use backend::{Backend, Kind, open};
pub use client::Client;
pub use config::{BackendConfig, Secret};
pub use error::{Error, ErrorKind, Fate, Result};
pub use gc::Swept;
pub use known::Known;
pub use numbered::{Chain, Content, Document, Identity, RemoteFile};
pub use plan::{FilePlan, PlanItem};
pub use probe::probe;
pub use publish::{PublishOptions, Published, Publisher};
pub use restore::Restorer;
pub use retry::{Class, Op, Schedule, Sleep, TokioSleep, classify};
pub use uploader::{Status, Uploader, UploaderParts};
