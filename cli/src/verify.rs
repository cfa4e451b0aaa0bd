//! `akidb verify`: every byte at rest against its checksum.

use akidb::Verification;
use clap::Args;

use crate::database::Globals;
use crate::failure::{Failure, Result};
use crate::output::thousands;
use crate::remedy::runnable;

/// Read every file of the database and check every checksum
#[derive(Args, Debug)]
pub(crate) struct Verify {}

impl Verify {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        if globals.cold {
            return Err(Failure::usage(
                "verify reads the files of a database directory, and with --cold there are none",
            )
            .help("`akidb restore` checks every file that it takes from a backend"));
        }
        let mut found = akidb::verify(&globals.db)?;
        for damage in &mut found.damages {
            damage.help = runnable(&damage.help, &globals.db);
        }
        let output = globals.output();
        if output.is_json() {
            output.object(&found)?;
        } else {
            for sentence in sentences(&found) {
                output.sentence(&sentence)?;
            }
        }
        match found.damages.len() {
            0 if !found.unread.is_empty() => {
                let message = match found.unread.len() {
                    1 => "1 file could not be read".to_owned(),
                    n => format!("{n} files could not be read"),
                };
                Err(Failure::unread(message).help("the lines above say which, and what gives access to them"))
            }
            0 => Ok(()),
            1 => Err(Failure::damaged("1 damaged place")),
            n => Err(Failure::damaged(format!("{n} damaged places"))),
        }
    }
}

fn sentences(found: &Verification) -> Vec<String> {
    let mut lines = vec![format!("read {} files, {} bytes", thousands(found.files), thousands(found.bytes))];
    if let Some((file, offset)) = &found.torn_tail {
        lines.push(format!(
            "the log ends in what may be a torn tail (no damage): {}, byte {offset}; the next open for writing cuts it",
            file.display()
        ));
    }
    for file in &found.set_aside {
        lines.push(format!(
            "given up by `akidb repair segment`, still named by older manifests: {}",
            file.display()
        ));
    }
    for damage in &found.damages {
        let at = damage.offset.map_or(String::new(), |offset| format!(", byte {offset}"));
        lines.push(format!("damaged: {}{at}: {}", damage.file.display(), damage.what));
        match (&damage.rows, damage.manifest) {
            (_, Some(_)) if !damage.snapshots.is_empty() => {
                lines.push("  only older manifests name it: no row of the database is touched".to_owned());
            }
            (_, Some(number)) => lines.push(format!(
                "  only older manifests name it, the newest of them is {number}: no row of the database is touched"
            )),
            (Some(rows), None) => lines.push(format!("  {}", rows.describe())),
            (None, None) => {}
        }
        if !damage.snapshots.is_empty() {
            lines.push(format!("  snapshots that show it: {}", damage.snapshots.join(", ")));
        }
        lines.push(format!("  help: {}", damage.help));
    }
    for unread in &found.unread {
        lines.push(format!("not read: {}: {}", unread.file.display(), unread.what));
        lines.push(format!("  help: {}", unread.help));
    }
    if found.damages.is_empty() && !found.unread.is_empty() {
        lines.push("no damage in what was read".to_owned());
    } else if found.damages.is_empty() {
        lines.push("no damage".to_owned());
    }
    lines
}
