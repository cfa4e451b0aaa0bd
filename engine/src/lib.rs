//! An embedded, WAL-first vector storage engine.
#![deny(unsafe_code)]

mod config;
#[cfg_attr(not(test), expect(dead_code, reason = "flush, recovery and search, which call it, come next"))]
mod deletion_vector;
mod error;
mod id;
mod lsn;
pub mod manifest;
mod row;
mod schema;
#[cfg_attr(not(test), expect(dead_code, reason = "flush, recovery and search, which call it, come next"))]
mod segment;
mod segment_meta;

pub use config::{BackendKind, BackendSettings, EngineSettings, Secret, Settings, Tiering};
pub use error::{Error, ErrorKind, Fate, Result};
pub use id::{Id, MAX_ID_BYTES};
pub use lsn::Lsn;
pub use row::{FieldValue, Payload, Row};
pub use schema::{
    Field, FieldType, IdKind, MAX_DIM, MAX_FIELDS, MAX_NAME_BYTES, Metric, RESERVED_NAMES, Schema,
};
pub use segment::{Damage, RowGroupReport, SectionReport, SegmentReport, VerifyReport, inspect_segment};
pub use segment_meta::{DeletionVectorRef, Place, SegmentMeta};
