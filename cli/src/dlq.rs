//! `akidb dlq`: the uploads that failed for good, and what a person can do about each.

use akidb::{DlqSettings, Letter, LetterId, Loaded, edit_dead_letters, read_dead_letters};
use akidb_host::{Clock, RealClock};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::database::Globals;
use crate::describe;
use crate::failure::{Failure, Result};
use crate::letters;
use crate::output::{shortened, thousands};

/// Characters of an error message in a table.
const MESSAGE_CHARS: usize = 60;

/// Look at dead letters (uploads that failed for good), and have them tried again
#[derive(Args, Debug)]
pub(crate) struct Dlq {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    what: What,
}

/// Which letters are meant.
#[derive(Args, Clone, Debug)]
struct Filter {
    /// Of the backend of this name
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// Of this class of failure: permanent, local, transient, timeout, ...
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Count them
    Stats,
    /// List them, oldest first
    Ls {
        #[command(flatten)]
        filter: Filter,
        /// In this state: dead, redriving or poison
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = letters::LISTED)]
        limit: usize,
    },
    /// Show all of one
    Show {
        /// Its id
        id: String,
    },
    /// Have one tried now, or with the next open, poison too
    Retry {
        /// Its id
        id: String,
    },
    /// Have all tried now, or with the next open, poison too
    RetryAll {
        #[command(flatten)]
        filter: Filter,
    },
    /// Drop one; its file stays, and stays pending
    Drop {
        /// Its id
        id: String,
        /// Although it is all that says why a file is not uploaded
        #[arg(long)]
        forget: bool,
    },
}

impl What {
    fn changes(&self) -> bool {
        matches!(self, Self::Retry { .. } | Self::RetryAll { .. } | Self::Drop { .. })
    }
}

impl Dlq {
    /// Whether it changes anything.
    pub(crate) fn writes(&self) -> bool {
        self.what.changes()
    }

    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let server = self.admin.server()?;
        let value = match &server {
            Some(server) => {
                let (method, path, wishes) = request(&self.what)?;
                server.ask(method, &path, &wishes)?
            }
            None => {
                let settings = globals.settings()?.dlq_config;
                if self.what.changes() {
                    change(globals, &settings, &self.what)?
                } else {
                    look(globals, &settings, &self.what)?
                }
            }
        };
        tell(globals, &self.what, &value, server.is_some())
    }
}

/// The request that asks a server for the same.
fn request(what: &What) -> Result<(&'static str, String, Value)> {
    let one = |id: &str, rest: &str| Ok::<_, Failure>(format!("/admin/dlq/{}{rest}", letters::id(id)?));
    Ok(match what {
        What::Stats => ("GET", "/admin/dlq/stats".to_owned(), Value::Null),
        What::Ls { filter, state, limit } => {
            let wishes =
                json!({ "backend": filter.of, "class": filter.class, "state": state, "limit": limit });
            ("GET", "/admin/dlq".to_owned(), wishes)
        }
        What::Show { id } => ("GET", one(id, "")?, Value::Null),
        What::Retry { id } => ("POST", one(id, "/retry")?, Value::Null),
        What::RetryAll { filter } => {
            let wishes = json!({ "backend": filter.of, "class": filter.class });
            ("POST", "/admin/dlq/retry-all".to_owned(), wishes)
        }
        What::Drop { id, forget } => ("DELETE", one(id, "")?, json!({ "forget": forget })),
    })
}

/// Reads the files, beside a running process too.
fn look(globals: &Globals, settings: &DlqSettings, what: &What) -> Result<Value> {
    let (all, loaded) = read_dead_letters(&globals.db, settings)?;
    warn(globals, &loaded);
    match what {
        What::Ls { filter, state, limit } => {
            let which = letters::which(filter.of.clone(), filter.class.as_deref(), state.as_deref())?;
            let limit = (1..=letters::MAX_LISTED).contains(limit).then_some(*limit).ok_or_else(|| {
                Failure::usage(format!("--limit {limit} is no number from 1 to {}", letters::MAX_LISTED))
            })?;
            let fitting: Vec<&Letter> = all.iter().filter(|letter| which.fits(letter)).take(limit).collect();
            Ok(json!({ "letters": fitting, "size": all.len() }))
        }
        What::Show { id } => {
            let id = letters::id(id)?;
            let letter = all.iter().find(|letter| letter.id == id).ok_or_else(|| letters::gone(&id))?;
            Ok(serde_json::to_value(letter).map_err(std::io::Error::from)?)
        }
        _ => {
            let now = RealClock.unix_micros() / 1_000_000;
            let oldest = all.iter().map(|letter| letter.created_at).min();
            // What the process counts since its open is not in the files.
            Ok(json!({
                "size": all.len(),
                "oldest_entry_age_seconds": oldest.map_or(0, |oldest| now.saturating_sub(oldest).max(0)),
                "total_evictions": null,
                "total_expired": null,
            }))
        }
    }
}

/// Changes the files under the directory's lock; the next open does what is asked.
fn change(globals: &Globals, settings: &DlqSettings, what: &What) -> Result<Value> {
    // Before the lock is taken: a slip in an id or a word changes nothing.
    let id_of = |what: &What| match what {
        What::Retry { id } | What::Drop { id, .. } => letters::id(id).map(Some),
        _ => Ok(None),
    };
    let id = id_of(what)?;
    let closed = edit_dead_letters(&globals.db, settings)?;
    let there = |id: &LetterId, done: bool| if done { Ok(()) } else { Err(letters::gone(id)) };
    let value = match (what, &id) {
        (What::Retry { .. }, Some(id)) => {
            there(id, closed.letters().ask_retry(id))?;
            json!({ "id": id, "asked": true })
        }
        (What::Drop { forget, .. }, Some(id)) => {
            there(id, closed.drop_letter(id, *forget)?)?;
            json!({ "id": id, "dropped": true })
        }
        (What::RetryAll { filter }, _) => {
            let which = letters::which(filter.of.clone(), filter.class.as_deref(), None)?;
            json!({ "asked": closed.letters().ask_retry_all(&which) })
        }
        _ => unreachable!("a verb that looks changes nothing"),
    };
    closed.close()?;
    Ok(value)
}

fn warn(globals: &Globals, loaded: &Loaded) {
    let output = globals.output();
    if loaded.is_newer {
        output.aside(&"note: the list was written by a newer version and is not shown");
    }
    if loaded.corrupt_lines > 0 {
        output.aside(&format!(
            "note: {} lines of the list are damaged and not shown; what has to be uploaded does not depend on it",
            loaded.corrupt_lines
        ));
    }
}

fn tell(globals: &Globals, what: &What, value: &Value, is_running: bool) -> Result<()> {
    let output = globals.output();
    let when =
        if is_running { "now" } else { "by the next process that opens the database with its backends" };
    match what {
        What::Stats | What::Show { .. } => describe::print(output, value),
        What::Ls { .. } if output.is_json() => {
            value["letters"].as_array().into_iter().flatten().try_for_each(|letter| output.object(letter))
        }
        What::Ls { .. } => {
            let listed = value["letters"].as_array().map_or(&[][..], Vec::as_slice);
            if !listed.is_empty() {
                let header = ["id", "backend", "class", "state", "redrives", "key", "error"];
                output.table(&header, listed.iter().map(row))?;
            }
            let size = value["size"].as_u64().unwrap_or(0);
            output.sentence(&format!(
                "{} of {} dead letters",
                thousands(listed.len() as u64),
                thousands(size)
            ))
        }
        What::Retry { id } => output.report(value, &format!("{id} is tried {when}")),
        What::RetryAll { .. } => {
            let asked = thousands(value["asked"].as_u64().unwrap_or(0));
            output.report(value, &format!("{asked} dead letters are tried {when}"))
        }
        What::Drop { id, .. } => {
            output.report(value, &format!("dropped {id}; its file stays, and stays pending"))
        }
    }
}

fn row(letter: &Value) -> Vec<String> {
    let text = |key: &str| letter[key].as_str().map_or_else(|| letter[key].to_string(), str::to_owned);
    let mut row: Vec<String> = ["id", "backend", "class", "state", "redrives", "key"].map(text).into();
    row.push(shortened(&text("error_message"), MESSAGE_CHARS));
    row
}
