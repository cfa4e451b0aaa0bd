//! `akidb inspect`: what one file of a database holds.

use std::path::PathBuf;

use clap::Args;

use crate::database::Globals;
use crate::describe;
use crate::failure::Result;

/// Print what a log file, segment or manifest holds; no engine needs to run
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// The file
    file: PathBuf,
}

impl Inspect {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        describe::print(globals.output(), &akidb::inspect(&self.file)?)
    }
}
