//! `akidb bench`: what this machine gives, each figure beside the floor of the same minute.

use clap::{Args, Subcommand};

use crate::database::Globals;
use crate::failure::Result;

mod place;
mod search;
pub(crate) mod soak;
mod upsert;
mod wal;

/// Measure this machine: the log and single upserts beside what the disk itself can do, searches beside exact search,
/// and a database under long writing and kills
#[derive(Args, Debug)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Wal(wal::Wal),
    Upsert(upsert::Upsert),
    Search(search::Search),
    Soak(soak::Soak),
}

impl Bench {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        match self.what {
            What::Wal(verb) => verb.run(globals.output()),
            What::Upsert(verb) => verb.run(globals.output()),
            What::Search(verb) => verb.run(globals.output()),
            What::Soak(verb) => verb.run(globals.output()),
        }
    }
}
