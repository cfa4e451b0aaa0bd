//! `akidb wal`: the log as it lies on the disk, and its last records; no engine needs to run.

use std::path::{Path, PathBuf};

use akidb::{LogFile, LogFrame, LogRecord, LogTail, Lsn};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::database::Globals;
use crate::failure::{Failure, Result};
use crate::output::{Output, shortened};

/// Records that `tail` shows unless told otherwise.
const SHOWN: usize = 10;
/// Characters of an id in a table.
const KEY_CHARS: usize = 40;

/// Look at the log: every frame of its files, or its last records; nothing is changed and no lock taken
#[derive(Args, Debug)]
pub(crate) struct Wal {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print every frame of a log file, or of all log files of a database
    Dump {
        /// A log file, or the directory of a log or database; the --db directory if left out
        path: Option<PathBuf>,
        /// Also list the records of each frame: LSN, what it does, collection, id
        #[arg(long)]
        records: bool,
    },
    /// Print the last records of a database's log; works beside a running writer
    Tail {
        /// Directory of the database; the --db directory if left out
        dir: Option<PathBuf>,
        /// How many (10, or all from --from on)
        #[arg(short = 'n', long)]
        number: Option<usize>,
        /// Only records from this LSN on, such as 3:120
        #[arg(long, value_name = "EPOCH:COUNTER")]
        from: Option<Lsn>,
    },
}

impl Wal {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let output = globals.output();
        match self.what {
            What::Dump { path, records } => dump(output, path.as_deref().unwrap_or(&globals.db), records),
            What::Tail { dir, number, from } => {
                let number = number.unwrap_or(if from.is_some() { usize::MAX } else { SHOWN });
                tail(output, &akidb::tail_log(dir.as_deref().unwrap_or(&globals.db), number, from)?)
            }
        }
    }
}

/// Every file is told before a damaged one ends the command.
fn dump(output: Output, path: &Path, records: bool) -> Result<()> {
    let mut failed = None;
    for file in akidb::log_files(path)? {
        if !output.is_heard() {
            break;
        }
        match akidb::dump_log_file(&file, records) {
            Ok(found) if output.is_json() => dump_json(output, &found)?,
            Ok(found) => dump_table(output, &found)?,
            Err(error) => {
                let failure = Failure::from(error).without_fate();
                // The first is told at the end, too: with `--json` only there.
                if failed.is_some() || !output.is_json() {
                    output.aside(&format!("{}: {failure}", file.display()));
                }
                failed.get_or_insert(failure);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn dump_json(output: Output, found: &LogFile) -> Result<()> {
    output.object(&tagged("file", found, &found.file)?)?;
    for frame in found.frames.iter().take_while(|_| output.is_heard()) {
        output.object(&tagged("frame", frame, &found.file)?)?;
        for record in &frame.contents {
            output.object(&tagged("record", record, &found.file)?)?;
        }
    }
    Ok(())
}

/// The object with its `kind` and `file`.
fn tagged(kind: &str, object: &impl serde::Serialize, file: &Path) -> Result<Value> {
    let mut value = serde_json::to_value(object).map_err(std::io::Error::from)?;
    value["kind"] = json!(kind);
    value["file"] = json!(file.to_string_lossy());
    Ok(value)
}

fn dump_table(output: Output, found: &LogFile) -> Result<()> {
    output.sentence(&format!(
        "{}\nlog {}, file {} of epoch {}, {}, made with {} bytes{}",
        found.file.display(),
        found.log_id,
        found.sequence,
        found.epoch,
        if found.made_at_open { "made at an open" } else { "made by rotation" },
        found.file_bytes,
        if found.truncated { " and shorter now: TRUNCATED" } else { "" }
    ))?;
    let row = |frame: &LogFrame| {
        vec![
            frame.offset.to_string(),
            frame.frame_type.to_owned(),
            frame.lsn.clone(),
            frame.records.to_string(),
            frame.bytes.to_string(),
            frame.durable.clone(),
            if frame.ok { "ok".to_owned() } else { "DAMAGED".to_owned() },
        ]
    };
    let header = ["offset", "type", "lsn", "records", "bytes", "durable", "frame"];
    output.table(&header, found.frames.iter().map(row))?;
    let contents: Vec<&LogRecord> = found.frames.iter().flat_map(|frame| &frame.contents).collect();
    if !contents.is_empty() {
        records_table(output, &contents)?;
    }
    output.sentence(&format!("ends at byte {}: {}\n", found.end_offset, found.end_reason))
}

fn tail(output: Output, tail: &LogTail) -> Result<()> {
    if output.is_json() {
        for record in tail.records.iter().take_while(|_| output.is_heard()) {
            let mut value = serde_json::to_value(record).map_err(std::io::Error::from)?;
            value["kind"] = json!("record");
            output.object(&value)?;
        }
        let mut value = serde_json::to_value(tail).map_err(std::io::Error::from)?;
        value["kind"] = json!("tail");
        return output.object(&value);
    }
    if !tail.records.is_empty() {
        records_table(output, &tail.records.iter().collect::<Vec<_>>())?;
    }
    output.sentence(&format!(
        "{} records in the log; the last is {}; on disk for certain up to {}",
        tail.live_records, tail.last, tail.proven
    ))?;
    if let Some([first, last]) = &tail.unproven {
        output.sentence(&format!(
            "not proven to be on disk: {first} to {last}; a running writer may have synced them, the next open \
             copies and syncs them"
        ))?;
    }
    if let Some((file, offset, bytes, frames)) = &tail.cut {
        output.sentence(&format!(
            "reading stopped at byte {offset} of {}: {bytes} bytes and {frames} whole frames behind it, a torn tail \
             or a write going on",
            file.display()
        ))?;
    }
    Ok(())
}

fn records_table(output: Output, records: &[&LogRecord]) -> Result<()> {
    let row = |record: &&LogRecord| {
        let collection = match (&record.collection_name, record.collection) {
            (Some(name), _) => name.clone(),
            (None, Some(id)) => format!("#{id}"),
            (None, None) => String::new(),
        };
        let what = match (record.op, &record.undecodable) {
            (Some(op), _) => op.to_owned(),
            (None, why) => format!("no record: {}", why.as_deref().unwrap_or_default()),
        };
        let key = record.key.as_deref().map_or_else(String::new, |key| shortened(key, KEY_CHARS));
        let proven = match record.proven {
            None => "",
            Some(true) => "on disk",
            Some(false) => "not proven",
        };
        vec![record.lsn.clone(), what, collection, key, record.bytes.to_string(), proven.to_owned()]
    };
    output.table(&["lsn", "op", "collection", "id", "bytes", ""], records.iter().map(row))
}
