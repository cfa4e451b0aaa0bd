//! The test kit: stores, servers and links that misbehave on purpose, as scripted or by a seed.
//!
//! Three layers, each with the faults that only it can show: [`FaultStore`] over any store; `FaultHttp` under the real
//! S3 client, with no socket (feature `s3`); [`Proxy`] in front of a live server. In a runtime whose time is paused,
//! [`VirtualClock`] and [`crate::TokioSleep`] make hours pass in milliseconds.

mod clock;
#[cfg(feature = "s3")]
mod http;
mod parts;
mod proxy;
mod script;
mod stale;
mod store;

pub use clock::VirtualClock;
#[cfg(feature = "s3")]
pub use http::{FaultHttp, HttpFault, Request};
pub use proxy::{Link, Proxy};
pub use script::{Call, Cause, Fault};
pub use store::FaultStore;

/// For the fuzzer: any bytes decode as a remote document or are refused with a typed error, and what decodes encodes to
/// the same bytes or to bytes that decode to the same document.
pub fn fuzz_document(bytes: &[u8]) {
    crate::numbered::fuzz(bytes);
}
