//! `akidb stats`: the figures of a database.

use akidb::Db;
use clap::Args;
use serde_json::Value;

use crate::database::Globals;
use crate::describe;
use crate::failure::Result;
use crate::remedy::runnable;

/// Print the database's figures
#[derive(Args, Debug)]
pub(crate) struct Stats {}

impl Stats {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let db = globals.open_for_reading()?;
        let mut figures = figures(&db)?;
        if let Some(failure) = figures["removal_failure"].as_str() {
            figures["removal_failure"] = runnable(failure, &globals.db).into();
        }
        describe::print(globals.output(), &figures)
    }
}

/// The figures as one object, with what the open found.
pub(crate) fn figures(db: &Db) -> Result<Value> {
    let mut stats = serde_json::to_value(db.stats()?).map_err(std::io::Error::from)?;
    stats["recovery"] = serde_json::to_value(db.recovery()).map_err(std::io::Error::from)?;
    Ok(stats)
}
