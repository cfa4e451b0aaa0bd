//! Settings and components in, a database out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Clock, Fs, RealClock, RealFs, RealSpawn, Rng, Spawn};
use object_store::ObjectStore;

use crate::config::{BackendSettings, Durability, Settings, Tiering};
use crate::db::Db;
use crate::engine::Place;
use crate::error::{Error, Result};
use crate::memory_budget::MemoryBudget;

/// How a database is opened. Made by [`Db::builder`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    dir: PathBuf,
    settings: Settings,
    refused: Option<Error>,
    create: bool,
    read_only: bool,
    cold: bool,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    spawn: Arc<dyn Spawn>,
    rng: Rng,
    stores: Vec<(String, Arc<dyn ObjectStore>)>,
    memory: Option<MemoryBudget>,
}

impl Db {
    /// Opens the database in a directory for writing, with default settings; makes it if it is not there.
    ///
    /// Blocks while the log is replayed. On return every row acknowledged by an earlier writer is found.
    ///
    /// # Errors
    /// `Locked` with who holds the directory; `Corrupt` with file, offset and the mending command; `NewerFormat`;
    /// `NoSpace`; `Unavailable` when the directory cannot be written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Starts an open with settings or components of one's own.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder {
            dir: path.as_ref().to_path_buf(),
            settings: Settings::default(),
            refused: None,
            create: true,
            read_only: false,
            cold: false,
            fs: Arc::new(RealFs),
            clock: Arc::new(RealClock),
            spawn: Arc::new(RealSpawn),
            rng: Rng::from_machine(),
            stores: Vec::new(),
            memory: None,
        }
    }
}

impl Builder {
    /// Uses these settings.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Copies every flushed segment to one more backend: `file:///path`, or `s3://bucket/prefix` with the feature
    /// `s3`.
    /// A URL that cannot be used is told by [`Builder::open`].
    pub fn backend(mut self, name: impl Into<String>, url: &str) -> Self {
        match BackendSettings::new(name, url) {
            Ok(backend) => {
                self.settings.backends.push(backend);
                self.settings.tiering = Tiering::Mirror;
            }
            Err(error) => self.refused = Some(error),
        }
        self
    }

    /// Copies every flushed segment to a store that the program brings along: one of another make, a decorated or a
    /// scripted one. Its own retries should be off: each call is one attempt, and the backend's breakers count it. A call
    /// that panics has failed.
    ///
    /// [`crate::restore`] takes a backend's settings, [`crate::restore_on`] such a store.
    pub fn store(mut self, name: impl Into<String>, store: Arc<dyn ObjectStore>) -> Self {
        self.stores.push((name.into(), store));
        self
    }

    /// When a write counts as written: [`Durability::LocalSynced`] unless set. Stands above the settings given before
    /// it.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.engine.durability = durability;
        self
    }

    /// Takes memory from this budget, which other databases of the process may share, instead of one of its own with
    /// `engine.memory_bytes`. When it runs out the database that has most to flush flushes, whichever it is.
    pub fn memory(mut self, budget: MemoryBudget) -> Self {
        self.memory = Some(budget);
        self
    }

    /// Opens for reading only: writes nothing. Several may; while one reads the log, at the open, a writer waits for it, a
    /// second at most. Beside a writer that is there already it shows what is flushed.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Opens what the one backend given by [`Builder::backend`], the settings or [`Builder::store`] holds, for reading
    /// only and without downloading it: searches and reads fetch the pieces they need, in a few rounds of parallel
    /// requests, and keep them as long as the database is open, in files without names in the directory. The handle shows
    /// the backend's newest state at the open, for ever; nothing there is claimed or changed.
    ///
    /// [`Builder::open`] then also fails with `NotFound` if nothing was published there, `Unavailable`, and `Corrupt`
    /// naming the object; so do reads.
    pub fn cold(mut self, cold: bool) -> Self {
        self.cold = cold;
        self
    }

    /// Whether a directory that holds no database becomes one; `true` unless set.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Uses this file system, clock and threads instead of the machine's: simulated ones, in tests.
    pub fn components(mut self, fs: Arc<dyn Fs>, clock: Arc<dyn Clock>, spawn: Arc<dyn Spawn>) -> Self {
        self.fs = fs;
        self.clock = clock;
        self.spawn = spawn;
        self
    }

    /// Draws ids and salts from this generator instead of one seeded by the machine: in tests that repeat a run. No two
    /// opens of a directory may draw the same: a salt that comes twice lets old bytes of the log pass for new ones.
    pub fn random(mut self, rng: Rng) -> Self {
        self.rng = rng;
        self
    }

    /// Opens the database; see [`Db::open`].
    ///
    /// # Errors
    /// As [`Db::open`]; `Invalid` for settings that contradict each other; `NotFound` when `create` is off or
    /// `read_only` is on and the directory holds no database.
    pub fn open(self) -> Result<Db> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let Self { dir, fs, clock, spawn, rng, stores, cold, memory, .. } = self;
        let memory = memory.unwrap_or_else(|| MemoryBudget::new(self.settings.engine.memory_bytes)).account();
        // A segment is a file that stays open, and a process begins with 1,024 in many places.
        if let Err(error) = akidb_host::raise_open_files() {
            tracing::debug!(%error, "the limit on open files stays as it is");
        }
        let place = Place { dir, fs, clock, spawn, rng: rng.into(), stores, memory };
        if cold {
            return Db::start_cold(place, &self.settings);
        }
        Db::start(place, self.settings, self.create, self.read_only)
    }
}
