//! Is a backend fit to be used? Each right and each promise that uploads rest on, tried on objects of its own that are
//! removed again.

use std::fmt;
use std::sync::Arc;

use akidb_host::{Clock, Spawn};
use bytes::Bytes;
use object_store::PutMode;

use crate::backend::Kind;
use crate::class::Class;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::restore::Restorer;

/// Where the objects of an examination are made.
const PREFIX: &str = "probe";
/// Dates of objects have whole seconds, and the request took its time.
const CLOCK_SLACK_MICROS: i64 = 2_000_000;
/// From here on it is worth a word.
const CLOCK_WARNING_MICROS: i64 = 60_000_000;
/// S3 refuses signatures that are older.
const CLOCK_FAILURE_MICROS: i64 = 900_000_000;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// Does it answer at all?
    Reach,
    /// May objects be stored?
    Put,
    /// May they be read, and are they what was stored?
    Get,
    /// May names be listed, and is a new one among them?
    List,
    /// Is a conditional put of a name that is taken refused?
    Conditions,
    /// Does its clock agree with this machine's?
    Clock,
    /// May objects be removed?
    Delete,
    /// Does somebody clear up what unfinished multipart uploads leave behind?
    Leftovers,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reach => "reach",
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Conditions => "conditions",
            Self::Clock => "clock",
            Self::Delete => "delete",
            Self::Leftovers => "leftovers",
        })
    }
}

/// How it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Good,
    /// It works; somebody should look at it.
    Warning,
    /// Uploads cannot work like this.
    Failed,
    /// Not looked at, because of what failed before.
    Skipped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

/// One thing found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How it was found.
    pub verdict: Verdict,
    /// In words.
    pub said: String,
    /// What mends it.
    pub help: Option<String>,
}

/// Examines a backend: stores, reads, lists and removes small objects below `probe/`, with the number of attempts the
/// backend is set to. Blocks, on a thread of its own; nothing is claimed, and no object of a database is touched.
///
/// # Errors
/// If it could not be examined at all (no thread). What the backend refuses is a finding.
pub fn examine(client: Client, clock: Arc<dyn Clock>, spawn: Arc<dyn Spawn>) -> Result<Vec<Finding>> {
    let runner = Restorer::new(client.clone(), spawn);
    runner.run(async move {
        let key = format!("{PREFIX}/{}", client.random_id());
        let mut examination = Examination { client, clock, key, findings: Vec::new() };
        examination.all().await;
        Ok(examination.findings)
    })
}

struct Examination {
    client: Client,
    clock: Arc<dyn Clock>,
    key: String,
    findings: Vec<Finding>,
}

impl Examination {
    async fn all(&mut self) {
        if self.reach().await && self.put().await {
            self.get().await;
            self.list().await;
            self.conditions().await;
            self.delete().await;
        }
        self.leftovers();
        for check in [Check::Put, Check::Get, Check::List, Check::Conditions, Check::Clock, Check::Delete] {
            if self.findings.iter().all(|finding| finding.check != check) {
                self.note(check, Verdict::Skipped, "not tried, because of what failed before", None);
            }
        }
        self.findings.sort_by_key(|finding| finding.check as u8);
    }

    fn note(&mut self, check: Check, verdict: Verdict, said: impl Into<String>, help: Option<&str>) {
        self.findings.push(Finding { check, verdict, said: said.into(), help: help.map(str::to_owned) });
    }

    fn good(&mut self, check: Check, said: impl Into<String>) {
        self.note(check, Verdict::Good, said, None);
    }

    fn failed(&mut self, check: Check, error: &Error) {
        let skewed = "check the access key, its secret and its rights, and this machine's clock: S3 refuses a \
                      signature that is 15 minutes off";
        let help = match (error.kind(), error.class()) {
            (_, Class::Auth) => skewed,
            // Its usual help is about uploads that go on by themselves; here somebody asked for the cause.
            (ErrorKind::Unavailable, _) => {
                "check the URL, the endpoint, name resolution and the network between"
            }
            _ => error.help(),
        };
        self.note(check, Verdict::Failed, error.to_string(), Some(help));
    }

    async fn reach(&mut self) -> bool {
        let started = self.clock.now();
        let answer = self.client.head(&self.key).await;
        let millis = self.clock.now().saturating_duration_since(started).as_millis();
        match answer {
            Err(error) if matches!(error.class(), Class::Transient | Class::Timeout | Class::Throttle) => {
                self.failed(Check::Reach, &error);
                false
            }
            // A refusal is an answer: the checks to come say what is refused.
            _ => {
                self.good(Check::Reach, format!("answers, in {millis} ms"));
                true
            }
        }
    }

    fn body() -> Bytes {
        Bytes::from_static(b"akidb looks whether this backend can be used; this object may be removed\n")
    }

    async fn put(&mut self) -> bool {
        let before = self.clock.unix_micros();
        let stored = self.client.put_once(&self.key, Self::body(), PutMode::Overwrite).await;
        let after = self.clock.unix_micros();
        match stored {
            Ok(()) => {
                self.good(Check::Put, "objects can be stored");
                self.clocks(before, after).await;
                true
            }
            Err(error) => {
                self.failed(Check::Put, &error);
                // An answer that was lost may have been a yes.
                let _ = self.client.delete(&self.key).await;
                false
            }
        }
    }

    /// Compares the date the store gave to the new object with the time here between which it was made.
    async fn clocks(&mut self, before: i64, after: i64) {
        let made = match self.client.head(&self.key).await {
            Ok(Some(meta)) => meta.last_modified.timestamp_micros(),
            Ok(None) => return self.note(Check::Clock, Verdict::Warning, "the new object has no date", None),
            Err(error) => return self.failed(Check::Clock, &error),
        };
        let (verdict, said) = clock_verdict(made, before, after);
        let help = (verdict != Verdict::Good).then_some("set both clocks by NTP");
        self.note(Check::Clock, verdict, said, help);
    }

    async fn get(&mut self) {
        match self.client.get(&self.key).await {
            Ok(Some(found)) if found == Self::body() => self.good(Check::Get, "objects can be read"),
            Ok(found) => {
                let what = if found.is_some() { "other bytes than were stored" } else { "nothing" };
                let said = format!("a read right after the put found {what}");
                self.note(Check::Get, Verdict::Failed, said, Some("this store cannot be used"));
            }
            Err(error) => self.failed(Check::Get, &error),
        }
    }

    async fn list(&mut self) {
        match self.client.list(PREFIX).await {
            Ok(names) if names.iter().any(|meta| meta.location.as_ref() == self.key) => {
                self.good(Check::List, "names can be listed");
            }
            Ok(_) => {
                let said = "a new object is not in the list";
                self.note(
                    Check::List,
                    Verdict::Failed,
                    said,
                    Some("this store cannot be used: its lists lag behind"),
                );
            }
            Err(error) => self.failed(Check::List, &error),
        }
    }

    async fn conditions(&mut self) {
        let other = Bytes::from_static(b"another\n");
        let again = self.client.put_once(&self.key, other, PutMode::Create).await;
        let found = self.client.get(&self.key).await;
        match (again, found) {
            (Err(error), Ok(Some(found))) if error.class() == Class::Conflict && found == Self::body() => {
                self.good(Check::Conditions, "a conditional put of a name that is taken is refused");
            }
            (Ok(()), _) => self.lies("a conditional put of a name that is taken was accepted"),
            (_, Ok(Some(found))) if found != Self::body() => {
                self.lies("a conditional put replaced an existing object");
            }
            (Err(error), _) => self.failed(Check::Conditions, &error),
        }
    }

    /// The store ignores conditions. An operator may have vouched that nobody else writes here.
    fn lies(&mut self, said: &str) {
        if self.client.backend().single_writer_unchecked() {
            let said = format!("{said}: two writers are not told apart");
            let help =
                "see to it that nobody else ever writes here, as `single_writer_unchecked = true` says";
            return self.note(Check::Conditions, Verdict::Warning, said, Some(help));
        }
        let help = "two writers could overwrite each other here; use another store, or set \
                    `single_writer_unchecked = true` if nobody else will ever write here";
        self.note(Check::Conditions, Verdict::Failed, said, Some(help));
    }

    async fn delete(&mut self) {
        if let Err(error) = self.client.delete(&self.key).await {
            self.failed(Check::Delete, &error);
            let left = format!("{} is left behind", self.key);
            return self.note(Check::Delete, Verdict::Warning, left, Some("remove it by hand"));
        }
        match self.client.head(&self.key).await {
            Ok(Some(_)) => self.note(Check::Delete, Verdict::Failed, "a removed object is still there", None),
            // Whether a missing object may be asked for is not what this is about.
            Ok(None) | Err(_) => self.good(Check::Delete, "objects can be removed"),
        }
    }

    fn leftovers(&mut self) {
        if self.client.backend().kind() == Kind::S3 {
            let said = "unfinished multipart uploads are aborted by the next open; what a lost machine leaves only a \
                        lifecycle rule of the bucket removes, and rules cannot be read from here";
            let help = "give the bucket the rule AbortIncompleteMultipartUpload with DaysAfterInitiation = 1";
            self.note(Check::Leftovers, Verdict::Warning, said, Some(help));
        }
    }
}

/// Judges the date of an object that was made between two moments of this machine.
fn clock_verdict(made: i64, before: i64, after: i64) -> (Verdict, String) {
    let (early, late) = (before - CLOCK_SLACK_MICROS - made, made - after - CLOCK_SLACK_MICROS);
    let (off, word) = if early > late { (early, "behind") } else { (late, "ahead of") };
    let seconds = (off.max(0) + CLOCK_SLACK_MICROS) / 1_000_000;
    let said = format!("the server's clock is {seconds} s {word} this machine's");
    match off {
        ..=0 => (Verdict::Good, "the server's clock agrees with this machine's".to_owned()),
        off if off < CLOCK_WARNING_MICROS => (Verdict::Good, said),
        off if off < CLOCK_FAILURE_MICROS => (Verdict::Warning, said),
        _ => (Verdict::Failed, said),
    }
}

#[cfg(test)]
mod tests;
