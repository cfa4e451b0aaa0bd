//! `akidb stats`: the figures of a database.

use clap::Args;

use crate::database::Globals;
use crate::describe;
use crate::failure::Result;

/// Print the database's figures
#[derive(Args, Debug)]
pub(crate) struct Stats {}

impl Stats {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let db = globals.open_for_reading()?;
        let mut stats = serde_json::to_value(db.stats()?).map_err(std::io::Error::from)?;
        stats["recovery"] = serde_json::to_value(db.recovery()).map_err(std::io::Error::from)?;
        describe::print(globals.output(), &stats)
    }
}
