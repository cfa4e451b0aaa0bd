//! What the writer of a soak is told and what it says, a JSON object a line.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SoakError;
use super::latencies::Latencies;
use super::model::Script;
use super::rows::RowsPlan;

/// The line that ends the writing; the end of the input ends the process.
pub(super) const STOP: &str = "stop";

/// The first line of the writer's input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    /// Directory of the database.
    pub(super) db: PathBuf,
    pub(super) script: Script,
    pub(super) rows: RowsPlan,
    /// Changes acknowledged by the writers before this one.
    pub(super) acknowledged: u32,
    /// How many changes there shall be in all; none: until told to stop.
    pub(super) changes: Option<u32>,
    pub(super) manifest_keep: u32,
}

/// What the writer says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// The database is open and has answered a search.
    Opened(SoakOpened),
    /// Every row was compared with what was acknowledged before.
    Compared(Compared),
    /// So many changes are acknowledged.
    Acknowledged(u32),
    /// How long calls took since the last time this was said.
    Took(Took),
    /// Recall of one search that asks for no effort.
    Recall(f64),
    /// Everything is written and flushed.
    Flushed,
    /// The database is closed.
    Closed,
}

/// How long an open took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoakOpened {
    /// The call that opens.
    pub call_ms: f64,
    /// The same and the first answer.
    pub answer_ms: f64,
    /// Processor time of the process for both, all threads.
    pub cpu_ms: f64,
    /// Records of the log that were applied again.
    pub replayed: u64,
    /// The parts of the call: segments, log, manifest, removal, replay.
    pub parts_ms: [f64; 5],
}

/// Calls of about a second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Took {
    pub(super) searches: Latencies,
    /// The same searches in processor time of their thread: neighbours do not show in it.
    pub(super) search_cpu: Latencies,
    pub(super) exact_searches: Latencies,
    pub(super) writes: Latencies,
    /// Writes answered with `Full`, and tried again.
    pub(super) stalls: u64,
}

/// What a comparison with the model found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compared {
    /// Rows that are as acknowledged.
    pub(super) right: u64,
    /// Rows that are acknowledged, and not there as such.
    pub(super) lost: u64,
    /// Rows that are there and should not be, or not so.
    pub(super) wrong: u64,
}

/// Says it on standard output.
pub(super) fn say(said: &Said) -> Result<(), SoakError> {
    let write = || {
        let mut line = serde_json::to_vec(said)?;
        line.push(b'\n');
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()
    };
    write().map_err(|cause| SoakError::file("-".as_ref(), "telling", cause))
}
