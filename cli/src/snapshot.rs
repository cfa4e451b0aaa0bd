//! `akidb snapshot`: moments of the database that are kept under a name.

use akidb::NamedSnapshot;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::database::Globals;
use crate::failure::{Failure, Result};
use crate::output::{Output, thousands};

/// Keep moments of the database under names
#[derive(Args, Debug)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Flush, and keep what the database holds now under a name, until it is removed
    Create {
        /// Letters, digits, dots, dashes and underscores
        name: String,
    },
    /// List them, oldest first
    Ls,
    /// Let one go; what only it kept is removed by the next open process, unless it is young enough to be kept anyway
    Rm {
        /// Name
        name: String,
    },
}

impl Snapshot {
    /// Whether this changes anything.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.what, What::Ls)
    }

    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        match self.what {
            What::Create { name } => create(globals, &name),
            What::Ls => list(globals),
            What::Rm { name } => {
                let db = globals.open_for_writing()?;
                db.remove_snapshot(&name)?;
                db.close()?;
                let object = json!({ "name": name, "removed": true });
                globals.output().report(&object, &format!("snapshot \"{name}\" is not kept any more"))
            }
        }
    }
}

fn create(globals: &Globals, name: &str) -> Result<()> {
    let db = globals.open_for_writing()?;
    let lsn = db.create_snapshot(name)?;
    let made = db.list_snapshots()?.into_iter().find(|snapshot| snapshot.name == name);
    db.close()?;
    let rows = made.as_ref().map_or(0, |snapshot| snapshot.rows.values().sum());
    let sentence = format!("snapshot \"{name}\" keeps {} rows as of LSN {lsn}", thousands(rows));
    globals.output().report(&made, &sentence)
}

fn list(globals: &Globals) -> Result<()> {
    let db = globals.open_for_reading()?;
    let (output, all) = (globals.output(), db.list_snapshots()?);
    if output.is_json() {
        all.iter().try_for_each(|snapshot| output.object(snapshot))?;
    } else if !all.is_empty() {
        table(output, &all)?;
    }
    let told = |snapshot: &NamedSnapshot| {
        let damage = snapshot.damage.as_ref()?;
        Some(format!("snapshot \"{}\" cannot be read whole: {damage}", snapshot.name))
    };
    let damaged: Vec<String> = all.iter().filter_map(told).collect();
    match damaged.is_empty() {
        true => Ok(()),
        false => Err(Failure::damaged(damaged.join("; "))
            .help("mend each as `akidb verify` says, or let the snapshot go with `akidb snapshot rm NAME`")),
    }
}

fn table(output: Output, all: &[NamedSnapshot]) -> Result<()> {
    let header = ["snapshot", "created", "lsn", "rows", "bytes", "own bytes"];
    output.table(
        &header,
        all.iter().map(|snapshot| {
            let rows = snapshot.rows.iter().map(|(name, rows)| format!("{name}:{rows}"));
            vec![
                snapshot.name.clone(),
                snapshot.created_at.clone(),
                snapshot.lsn.clone(),
                rows.collect::<Vec<_>>().join(" "),
                thousands(snapshot.bytes),
                thousands(snapshot.own_bytes),
            ]
        }),
    )
}
