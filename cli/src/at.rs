//! The moment that a reading verb reads: now, a named snapshot, or the newest kept state up to an LSN.

use akidb::{Collection, Db, Lsn, Snapshot};
use clap::Args;

use crate::database::{Globals, collection};
use crate::failure::{Failure, Result};

/// Which moment is read; now, if nothing is said.
#[derive(Args, Clone, Debug)]
pub(crate) struct At {
    /// Read the snapshot of this name
    #[arg(long, value_name = "NAME", conflicts_with = "as_of")]
    snapshot: Option<String>,
    /// Read the newest state that is kept and shows nothing above this LSN (a line says which)
    #[arg(long, value_name = "EPOCH:COUNTER")]
    as_of: Option<String>,
}

impl At {
    /// The collection as it was then.
    pub(crate) fn collection(&self, globals: &Globals, db: &Db, name: &str) -> Result<Collection> {
        match self.open(globals, db)? {
            None => collection(db, name),
            Some(snapshot) => Ok(snapshot.collection(name)?),
        }
    }

    /// What is read, if it is not the newest.
    pub(crate) fn open(&self, globals: &Globals, db: &Db) -> Result<Option<Snapshot>> {
        if let Some(name) = &self.snapshot {
            return Ok(Some(db.at_snapshot(name)?));
        }
        let Some(text) = &self.as_of else { return Ok(None) };
        let lsn = text.parse::<Lsn>().map_err(|_| {
            Failure::usage(format!("{text:?} is no LSN")).help("write it as rows show theirs, such as 3:41")
        })?;
        let snapshot = db.as_of(lsn)?;
        if let Some(kept) = snapshot.kept() {
            let named = kept.name.as_ref().map_or_else(String::new, |name| format!(", snapshot \"{name}\""));
            let partly = match kept.complete_to == kept.lsn {
                true => String::new(),
                false => format!("; of some collections only up to {}", kept.complete_to),
            };
            globals.output().aside(&format!(
                "as of {}: manifest {}{named}, of {}{partly}",
                kept.lsn, kept.number, kept.created_at
            ));
        }
        Ok(Some(snapshot))
    }
}
