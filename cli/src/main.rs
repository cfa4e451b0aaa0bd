//! The `akidb` command: one verb a file, results on standard output, failures on standard error.
//!
//! Exit codes: 0 done, 1 nothing found (or a failure of no other class), 2 the command or its input is wrong,
//! 3 damaged data found, 4 a backend or the disk does not answer.
#![forbid(unsafe_code)]

mod admin;
mod alter;
mod at;
mod bench;
mod breaker;
mod compact;
mod config;
mod database;
mod demo;
mod describe;
mod dlq;
mod doctor;
mod drill;
mod failure;
mod flush;
mod get;
mod import;
mod init;
mod inspect;
mod letters;
mod ls;
mod output;
mod remedy;
mod repair;
mod restore;
mod rm;
mod row_text;
mod rows;
mod search;
mod serve;
mod snapshot;
mod stats;
mod upsert;
mod verify;
mod wal;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::database::Globals;
use crate::failure::{Exit, Result};

/// An embedded, WAL-first vector storage engine.
#[derive(Debug, Parser)]
#[command(
    name = "akidb",
    version,
    after_help = "Exit codes: 0 done, 1 nothing found or another failure, 2 wrong command or input, \
                  3 damaged data found, 4 a backend or the disk does not answer."
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::Demo),
    Init(init::Init),
    Alter(alter::Alter),
    Import(import::Import),
    Upsert(upsert::Upsert),
    Get(get::Get),
    Rm(rm::Rm),
    Search(search::Search),
    Ls(ls::Ls),
    Stats(stats::Stats),
    Flush(flush::Flush),
    Compact(compact::Compact),
    Snapshot(snapshot::Snapshot),
    Inspect(inspect::Inspect),
    Verify(verify::Verify),
    Repair(repair::Repair),
    Doctor(doctor::Doctor),
    Dlq(dlq::Dlq),
    Breaker(breaker::Breaker),
    Restore(restore::Restore),
    Serve(serve::Serve),
    Config(config::Config),
    Wal(wal::Wal),
    Bench(bench::Bench),
    Drill(drill::Drill),
    #[command(hide = true)]
    DemoWriter(demo::writer::DemoWriter),
    #[command(hide = true)]
    SoakWriter(bench::soak::SoakWriter),
}

impl Verb {
    /// Whether an error's word on the fate of the write means anything.
    fn writes(&self) -> bool {
        if let Self::Dlq(verb) = self {
            return verb.writes();
        }
        if let Self::Snapshot(verb) = self {
            return verb.writes();
        }
        !matches!(
            self,
            Self::Get(_)
                | Self::Search(_)
                | Self::Ls(_)
                | Self::Stats(_)
                | Self::Inspect(_)
                | Self::Verify(_)
                | Self::Serve(_)
                | Self::Doctor(_)
                | Self::Breaker(_)
                | Self::Config(_)
                | Self::Wal(_)
                | Self::Bench(_)
                | Self::Drill(_)
        )
    }

    fn run(self, globals: &Globals) -> Result<()> {
        match self {
            Self::Demo(verb) => verb.run(globals),
            Self::Init(verb) => verb.run(globals),
            Self::Alter(verb) => verb.run(globals),
            Self::Import(verb) => verb.run(globals),
            Self::Upsert(verb) => verb.run(globals),
            Self::Get(verb) => verb.run(globals),
            Self::Rm(verb) => verb.run(globals),
            Self::Search(verb) => verb.run(globals),
            Self::Ls(verb) => verb.run(globals),
            Self::Stats(verb) => verb.run(globals),
            Self::Flush(verb) => verb.run(globals),
            Self::Compact(verb) => verb.run(globals),
            Self::Snapshot(verb) => verb.run(globals),
            Self::Inspect(verb) => verb.run(globals),
            Self::Verify(verb) => verb.run(globals),
            Self::Repair(verb) => verb.run(globals),
            Self::Doctor(verb) => verb.run(globals),
            Self::Dlq(verb) => verb.run(globals),
            Self::Breaker(verb) => verb.run(globals),
            Self::Restore(verb) => verb.run(globals),
            Self::Serve(verb) => verb.run(globals),
            Self::Config(verb) => verb.run(globals),
            Self::Wal(verb) => verb.run(globals),
            Self::Bench(verb) => verb.run(globals),
            Self::Drill(verb) => verb.run(globals),
            Self::DemoWriter(verb) => verb.run(),
            Self::SoakWriter(_) => bench::soak::SoakWriter::run(),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let writes = cli.verb.writes();
    let Err(failure) = cli.verb.run(&cli.globals) else { return ExitCode::from(Exit::Ok.code()) };
    if failure.is_silent() {
        return ExitCode::from(Exit::Ok.code());
    }
    let failure = if writes { failure } else { failure.without_fate() }.runnable(&cli.globals.db);
    let text = if cli.globals.json { failure.json() } else { failure.to_string() };
    // Nobody is left to tell if standard error is gone; the exit code still speaks.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(failure.exit_code())
}
