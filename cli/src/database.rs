//! The options every verb takes, and how a verb opens the database they name.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use akidb::{BackendSettings, Builder, Collection, Db, ErrorKind, Fate, Settings};
use clap::Args;

use crate::failure::{Failure, Result};
use crate::output::Output;

/// Names a database's directory may hold; anything else means the directory is somebody else's.
const OURS: [&str; 8] =
    ["LOCK", "wal", "manifest", "collections", "uploads", "dlq", "restored_from.json", "lost+found"];

/// Options of every verb.
#[derive(Args, Clone, Debug)]
pub(crate) struct Globals {
    /// Directory of the database
    #[arg(long, global = true, value_name = "DIR", default_value = ".")]
    pub(crate) db: PathBuf,
    /// Settings file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Copy segments to this backend too: file:///path or s3://bucket/prefix (repeatable)
    #[arg(long, global = true, value_name = "NAME=URL")]
    pub(crate) backend: Vec<String>,
    /// Read what the one backend named holds, without downloading it; --db names a directory for what is fetched meanwhile
    #[arg(long, global = true)]
    pub(crate) cold: bool,
    /// Print results as JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Globals {
    /// Where results go.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// The settings these options ask for, backends included.
    pub(crate) fn settings(&self) -> Result<Settings> {
        match &self.config {
            Some(file) => Ok(Settings::from_file(file)?),
            None => Ok(Settings::default()),
        }
    }

    fn builder(&self) -> Result<Builder> {
        let mut builder = Db::builder(&self.db).settings(self.settings()?);
        for text in &self.backend {
            let (name, url) = named_backend(text)?;
            builder = builder.backend(name, url);
        }
        Ok(builder)
    }

    /// Opens for reading: beside a running writer too, and without changing a byte.
    pub(crate) fn open_for_reading(&self) -> Result<Db> {
        if self.cold {
            return Ok(self.builder()?.cold(true).open()?);
        }
        // Backends are for writers: a reader needs none and claims none. A slip in the settings is told all the same.
        self.settings()?;
        let db = Db::builder(&self.db).settings(Settings::default()).read_only(true).open()?;
        let (output, recovery) = (self.output(), db.recovery());
        if recovery.beside_writer {
            output.aside(
                &"note: another process has this database open; its rows show once it has flushed them",
            );
        }
        if let Some([from, to]) = &recovery.unproven {
            output.aside(&format!(
                "note: records {from} to {to} were not proven to be on disk when the last writer stopped"
            ));
        }
        self.tell_cut(&db);
        Ok(db)
    }

    /// Opens for writing a database that is there.
    pub(crate) fn open_for_writing(&self) -> Result<Db> {
        self.refuse_cold()?;
        let db = self.builder()?.create(false).open()?;
        self.tell_cut(&db);
        Ok(db)
    }

    /// Opens for writing, making the database if there is none; `true` if it was made.
    pub(crate) fn open_or_create(&self) -> Result<(Db, bool)> {
        self.refuse_cold()?;
        let made = !holds_database(&self.db);
        if made {
            refuse_foreign(&self.db)?;
        }
        let db = self.builder()?.open()?;
        self.tell_cut(&db);
        Ok((db, made))
    }

    fn refuse_cold(&self) -> Result<()> {
        if !self.cold {
            return Ok(());
        }
        Err(Failure::usage("--cold is for reading: what lies on a backend alone cannot be written")
            .help("write to the database itself, or restore it with `akidb restore`"))
    }

    fn tell_cut(&self, db: &Db) {
        let Some(cut) = &db.recovery().cut else { return };
        self.output().aside(&format!(
            "note: the log ended in a torn tail: {}, byte {}, {} bytes, {} whole frames behind it",
            cut.file.display(),
            cut.offset,
            cut.bytes,
            cut.frames
        ));
    }

    /// The backends that settings file and options name.
    pub(crate) fn all_backends(&self) -> Result<Vec<BackendSettings>> {
        let mut backends = self.settings()?.backends;
        for text in &self.backend {
            let (name, url) = named_backend(text)?;
            backends.push(BackendSettings::new(name, url)?);
        }
        Ok(backends)
    }

    /// The backend that `text` means: by its URL, or by its name in the settings file or among the options.
    pub(crate) fn backend_at(&self, text: &str) -> Result<BackendSettings> {
        let configured = self.all_backends()?;
        if let Some(backend) = configured.iter().find(|b| b.name == text || b.url == text) {
            return Ok(backend.clone());
        }
        if !text.contains("://") {
            let names: Vec<&str> = configured.iter().map(|b| b.name.as_str()).collect();
            let message = match names.is_empty() {
                true => format!("{text:?} is no URL, and no --config names a backend so"),
                false => {
                    format!("{text:?} is no URL and no backend of the settings ({})", names.join(", "))
                }
            };
            return Err(Failure::usage(message).help("write file:///path or s3://bucket/prefix"));
        }
        Ok(BackendSettings::new("restore", text)?)
    }

    /// Whether the options name a backend.
    pub(crate) fn has_backends(&self) -> Result<bool> {
        Ok(!self.backend.is_empty() || !self.settings()?.backends.is_empty())
    }
}

/// The collection with this name; the failure names the command that lists them.
pub(crate) fn collection(db: &Db, name: &str) -> Result<Collection> {
    db.collection(name).map_err(|error| Failure::from(error).help("list the collections with `akidb ls`"))
}

/// What became of a wait for the backends.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    /// Whether every backend has everything.
    pub(crate) is_done: bool,
    failure: Option<Failure>,
}

impl Upload {
    /// Waits for the backends if there are any. That one does not answer undoes nothing that was written here: it is for the
    /// end of the verb's report.
    pub(crate) fn wait(db: &Db, globals: &Globals, wait_secs: u64) -> Result<Self> {
        if wait_secs == 0 || !globals.has_backends()? {
            return Ok(Self::default());
        }
        let waited = db.wait_uploaded(Duration::from_secs(wait_secs));
        let failure = waited.err().map(|error| {
            let goes_on = error.kind() == ErrorKind::Unavailable;
            Failure::from(error).without_fate().note(if goes_on { UPLOADS_GO_ON } else { WRITTEN })
        });
        Ok(Self { is_done: failure.is_none(), failure })
    }

    /// What the verb ends with.
    pub(crate) fn outcome(self) -> Result<()> {
        self.failure.map_or(Ok(()), Err)
    }
}

const WRITTEN: &str = "everything is written and on disk here";
const UPLOADS_GO_ON: &str = "everything is written and on disk here; the next open for writing with this backend goes on with the \
                             upload";

/// Flushes, and waits for the backends if there are any.
pub(crate) fn flush_and_upload(db: &Db, globals: &Globals, wait_secs: u64) -> Result<Upload> {
    let flushed = db.flush();
    // What could not be flushed is in the log, and the next open has it.
    flushed.map_err(|error| {
        let is_known = error.fate() != Fate::Unknown;
        let failure = Failure::from(error).without_partial_fate();
        if is_known { failure.note("the rows are not lost: the log has them") } else { failure }
    })?;
    Upload::wait(db, globals, wait_secs)
}

/// Name and URL of a `--backend` option.
fn named_backend(text: &str) -> Result<(&str, &str)> {
    text.split_once('=').filter(|(name, _)| !name.contains(':')).ok_or_else(|| {
        Failure::usage(format!("--backend {text:?} names no backend"))
            .help("write --backend NAME=URL, such as --backend local=file:///mnt/copy")
    })
}

/// Whether a database is in `dir`.
pub(crate) fn holds_database(dir: &Path) -> bool {
    fs::read_dir(dir.join("manifest")).is_ok_and(|mut entries| entries.next().is_some())
}

/// A directory with other things in it does not become a database by a slip.
fn refuse_foreign(dir: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    let mut names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    match names.find(|name| !OURS.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Failure::usage(format!(
            "{} is no database and holds other things ({name:?}); nothing was made there",
            dir.display()
        ))
        .help("name a new or empty directory by --db DIR")),
    }
}
