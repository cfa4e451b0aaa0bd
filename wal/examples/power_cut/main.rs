//! Writes to a log while a disk under it records every sector, and judges what a power cut left of it.
//!
//! `scripts/power-cut-ext4` runs both halves on a real ext4: `write` beside the recording, `check` on each crash
//! state it builds from the recording. They share the journal, which lies on another disk and is never cut.

mod checker;
mod journal;
mod record;
mod writer;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use akidb_host::{RealClock, RealFs, RealSpawn};
use akidb_wal::{Config, Durability, Lsn, Options, WritePath};

/// Bytes of the live log at which the writer meets `Full`.
const WRITER_MAX_BYTES: u64 = 192 << 10;
/// The check must have room to write on after it.
const CHECK_MAX_BYTES: u64 = 4 * WRITER_MAX_BYTES;

/// How a part of this program fails.
type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "power_cut write --dir D --journal J --write-log L --seed S --run R --threads N --batches N --seconds T\n\
                     \x20   --write-path auto|mapped|positioned --durability synced|memory\n\
                     power_cut check --dir D --journal J --cut BYTES --seed S";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let done = match verb.as_str() {
        "write" => writer::main(&words),
        "check" => checker::main(&words),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("power_cut {verb}: {e}");
            ExitCode::from(2)
        }
    }
}

/// The value after `--name`.
fn value<'a>(words: &'a [String], name: &str) -> Result<&'a str, Failure> {
    let at =
        words.iter().position(|word| word == name).ok_or_else(|| format!("{name} is missing\n{USAGE}"))?;
    Ok(words.get(at + 1).ok_or_else(|| format!("{name} has no value"))?)
}

/// The number after `--name`.
fn number<T: std::str::FromStr>(words: &[String], name: &str) -> Result<T, Failure> {
    value(words, name)?.parse().map_err(|_| format!("{name} is not a number").into())
}

/// How the log shall write and when a record counts for it. A check leaves both to their defaults.
fn ways(words: &[String]) -> Result<(WritePath, Durability), Failure> {
    let path = match value(words, "--write-path")? {
        "auto" => WritePath::Auto,
        "mapped" => WritePath::Mapped,
        "positioned" => WritePath::Positioned,
        other => return Err(format!("no write path {other}").into()),
    };
    let durability = match value(words, "--durability")? {
        "synced" => Durability::LocalSynced,
        "memory" => Durability::Memory,
        other => return Err(format!("no durability {other}").into()),
    };
    Ok((path, durability))
}

/// A log of small files, so that a short recording holds many rotations and truncations.
fn options(words: &[String], floor: Lsn, max_bytes: u64) -> Result<Options, Failure> {
    let mut config = Config::default();
    config.first_file_bytes = 16 << 10;
    config.max_file_bytes = 32 << 10;
    config.max_bytes = max_bytes;
    config.reserve_bytes = 64 << 10;
    Ok(Options {
        dir: PathBuf::from(value(words, "--dir")?),
        fs: Arc::new(RealFs),
        clock: Arc::new(RealClock),
        spawn: Arc::new(RealSpawn),
        config,
        min_epoch: 0,
        floor,
        read_only: false,
    })
}
