//! Backends: every local manifest is offered to each backend's uploader as a plan of files and the text naming them.

use std::collections::BTreeSet;
use std::io::ErrorKind as IoErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use akidb_backends::{
    Backend, BackendConfig, CallKind, Client, ClockSleep, DeadLetters, FilePlan, Guard, Identity, InFlight,
    Known, Multiparts, PlanItem, Reason, Secret, Sleep, State, SweepSettings, Totals, Uploader,
    UploaderParts,
};
use akidb_host::{publish_over, read_file};
use serde::Serialize;

use crate::config::{BackendSettings, Settings};
use crate::engine::{Engine, Place};
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::manifest::Committed;

mod memory;

/// Segments above this go up last: small ones make more rows safe in less time.
const LARGE_BYTES: u64 = 64 << 20;

/// Backends that nothing was started for yet.
#[derive(Debug)]
pub(crate) struct OpenBackends {
    backends: Vec<Backend>,
    /// None without a backend.
    letters: Option<Arc<DeadLetters>>,
}

/// Where a backend stands.
#[derive(Clone, Debug, Serialize)]
pub struct BackendStats {
    /// Its name.
    pub name: String,
    /// Its URL, without secrets.
    pub url: String,
    /// Whether writers wait, and local bytes stay, for its sake.
    pub required: bool,
    /// The newest local manifest it holds, all of whose files are verified there; none since this open otherwise.
    pub uploaded_manifest: Option<u64>,
    /// Number of the remote document that names it.
    pub remote_document: Option<u64>,
    /// Files of the newest manifest that it lacks.
    pub pending_files: u64,
    /// Their bytes: what is lost with this machine, besides the log.
    pub pending_bytes: u64,
    /// Those of them that wait for a redrive, or for a person: see the dead letters.
    pub parked_files: u64,
    /// How long the longest of them has been waiting, in seconds, counted from the open at the earliest.
    pub oldest_pending_secs: Option<u64>,
    /// Files put since the open.
    pub files_put: u64,
    /// Plans that failed in a row.
    pub failures: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// Whether nothing was there any more of what this database had published, when this open claimed it: another disk may stand
    /// where its own was. Everything is uploaded again.
    pub found_empty: bool,
    /// Why nothing more is published there from here: another writer or another database owns it.
    pub refused: Option<String>,
    /// Objects that nothing named, and old remote documents, removed since the open.
    pub swept: u64,
    /// How its breakers stand.
    pub breakers: Vec<BreakerView>,
}

/// How one breaker of one backend stands.
#[derive(Clone, Debug, Serialize)]
pub struct BreakerView {
    /// The backend.
    pub backend: String,
    /// The calls it is for.
    pub kind: CallKind,
    /// Closed, open, half open.
    pub state: State,
    /// Why it is open.
    pub reason: Option<Reason>,
    /// Whether it lets every call through whatever happens: switched off, or held closed.
    pub bypassed: bool,
    /// Share of failed calls in the window, 0 to 1; of one that is not closed, the share at which it opened.
    pub error_rate: f64,
    /// When the next call may be let through, in seconds; 0 if now.
    pub retry_in_secs: f64,
    /// Everything since the open.
    pub totals: Totals,
}

/// What one backend may have under way, and has.
#[derive(Clone, Debug)]
pub(crate) struct LimitsView {
    pub(crate) backend: String,
    pub(crate) in_flight: InFlight,
    pub(crate) budget_tokens: u64,
}

/// The uploaders of a database.
pub(crate) struct Uploads {
    backends: Vec<One>,
    /// One queue a database; none without backends.
    letters: Option<Arc<DeadLetters>>,
    offered: AtomicU64,
}

struct One {
    name: String,
    url: String,
    required: bool,
    guard: Option<Arc<Guard>>,
    client: Client,
    uploader: Uploader,
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.backends.iter().map(|one| &one.name)).finish()
    }
}

impl Uploads {
    /// None at all.
    pub(crate) fn none() -> Self {
        Self { backends: Vec::new(), letters: None, offered: AtomicU64::new(0) }
    }

    /// Opens the backends that the settings and the program name, and their dead letters; none of them has to answer. What is
    /// refused here is refused before an open writes anything.
    pub(crate) fn open(settings: &Settings, place: &Place) -> Result<OpenBackends> {
        if settings.backends.is_empty() && place.stores.is_empty() {
            return Ok(OpenBackends { backends: Vec::new(), letters: None });
        }
        let letters = Arc::new(open_letters(settings, place)?);
        let mut backends = Vec::new();
        for backend in &settings.backends {
            let config = of_breakers(settings, backend_config(backend, settings.engine.upload_attempts));
            backends.push(akidb_backends::open(&config).map_err(|error| from_backend(&error))?);
        }
        for (name, store) in &place.stores {
            let config = BackendConfig {
                attempts: settings.engine.upload_attempts,
                ..of_breakers(settings, BackendConfig::new(name, store.to_string()))
            };
            backends.push(Backend::over(&config, Arc::clone(store)).map_err(|error| from_backend(&error))?);
        }
        Ok(OpenBackends { backends, letters: Some(letters) })
    }

    /// Starts an uploader for each backend.
    pub(crate) fn start(opened: OpenBackends, settings: &Settings, engine: &Arc<Engine>) -> Result<Self> {
        let Some(letters) = opened.letters else { return Ok(Self::none()) };
        let mut backends = Vec::new();
        for backend in opened.backends {
            backends.push(start_one(backend, settings, engine, &letters)?);
        }
        let uploads = Self { backends, letters: Some(letters), offered: AtomicU64::new(0) };
        uploads.offer(engine);
        uploads.measure(engine);
        Ok(uploads)
    }

    /// Offers the newest manifest to every backend, if they do not have the offer yet. Never blocks on a backend.
    pub(crate) fn offer(&self, engine: &Engine) {
        let Some(writer) = engine.writer_if_any() else { return };
        if self.backends.is_empty() {
            return;
        }
        let newest = writer.committer.newest();
        if self.offered.load(Ordering::Acquire) >= newest.manifest.number {
            return;
        }
        match plan(engine, &newest) {
            Ok(plan) => {
                self.backends.iter().for_each(|one| one.uploader.offer(plan.clone()));
                self.offered.fetch_max(newest.manifest.number, Ordering::AcqRel);
            }
            Err(error) => {
                tracing::error!(%error, "the newest manifest could not be offered to the backends; it is tried again");
            }
        }
    }

    /// Manifests that must not be removed while an upload may read their files.
    pub(crate) fn pinned(&self) -> BTreeSet<u64> {
        self.backends.iter().flat_map(|one| one.uploader.pinned()).collect()
    }

    /// Does what is due for the dead letters; blocks while it writes.
    pub(crate) fn tick(&self, now: Instant) {
        if let Some(letters) = &self.letters {
            letters.tick(now);
        }
    }

    /// Lets writers know what the required backend that is furthest behind lacks, where that bounds them.
    pub(crate) fn measure(&self, engine: &Engine) {
        if engine.limits.max_pending_bytes.is_none() {
            return;
        }
        let required = self.backends.iter().filter(|one| one.required);
        let lacks = |one: &'_ One| {
            let status = one.uploader.status();
            (status.lacking_bytes, status.refused.is_some(), one.name.clone())
        };
        if let Some((bytes, is_lost, name)) = required.map(lacks).max() {
            engine.pending.note(&name, bytes, is_lost);
            engine.stalls.notify();
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.backends.iter().map(|one| one.name.clone()).collect()
    }

    pub(crate) fn letters(&self) -> Option<&Arc<DeadLetters>> {
        self.letters.as_ref()
    }

    fn named(&self, backend: Option<&str>) -> impl Iterator<Item = &One> {
        self.backends.iter().filter(move |one| backend.is_none_or(|name| name == one.name))
    }

    /// The guards of one backend, or of all.
    pub(crate) fn guards(&self, backend: Option<&str>) -> Vec<&Arc<Guard>> {
        self.named(backend).filter_map(|one| one.guard.as_ref()).collect()
    }

    /// Makes the uploader of one backend, or of all, look again now.
    pub(crate) fn wake(&self, backend: Option<&str>) {
        self.named(backend).for_each(|one| one.uploader.wake());
    }

    pub(crate) fn limits(&self) -> Vec<LimitsView> {
        let one = |one: &One| {
            let budget_tokens = one.client.budget_tokens();
            let in_flight = one.guard.as_ref()?.in_flight();
            Some(LimitsView { backend: one.name.clone(), in_flight, budget_tokens })
        };
        self.backends.iter().filter_map(one).collect()
    }

    pub(crate) fn breakers(&self) -> Vec<BreakerView> {
        self.backends.iter().flat_map(One::breakers).collect()
    }

    /// Blocks until every backend holds the newest manifest, or `timeout` is over for one of them.
    pub(crate) fn wait(&self, engine: &Engine, timeout: Duration) -> Result<()> {
        self.offer(engine);
        let number = engine.writer()?.committer.newest().manifest.number;
        for one in &self.backends {
            one.uploader.wait_published(number, timeout).map_err(|error| from_backend(&error))?;
        }
        Ok(())
    }

    pub(crate) fn stats(&self) -> Vec<BackendStats> {
        let one = |one: &One| {
            let status = one.uploader.status();
            BackendStats {
                name: one.name.clone(),
                url: one.url.clone(),
                required: one.required,
                uploaded_manifest: status.published_local_number,
                remote_document: status.remote_number,
                pending_files: status.pending_files,
                pending_bytes: status.pending_bytes,
                parked_files: status.parked_files,
                oldest_pending_secs: status.oldest_pending_secs,
                files_put: status.files_put,
                failures: status.failures,
                last_error: status.last_error.map(|error| error.to_string()),
                found_empty: status.found_empty,
                refused: status.refused.map(|error| error.to_string()),
                swept: status.swept_objects + status.pruned_documents,
                breakers: one.breakers(),
            }
        };
        self.backends.iter().map(one).collect()
    }

    /// Stops the uploaders and keeps what they know for the next open. What is lost of it costs requests, no data.
    pub(crate) fn stop(&self, engine: &Engine) {
        for one in &self.backends {
            one.uploader.stop();
            let dir = engine.place.dir.join("uploads");
            let fs = &*engine.place.fs;
            let kept = fs.create_dir_all(&dir).and_then(|()| {
                publish_over(fs, &dir, &format!("{}.json", one.name), &one.uploader.known_json())
            });
            if let Err(cause) = kept {
                tracing::warn!(%cause, backend = one.name, "what was uploaded could not be noted; it is looked up again");
            }
        }
        if let Some(letters) = &self.letters
            && let Err(error) = letters.persist()
        {
            tracing::warn!(%error, "the dead letters are in their journal, without a fresh snapshot");
        }
    }
}

impl One {
    fn breakers(&self) -> Vec<BreakerView> {
        let Some(guard) = &self.guard else { return Vec::new() };
        let view = |kind: CallKind| {
            let status = guard.status(kind);
            BreakerView {
                backend: self.name.clone(),
                kind,
                state: status.state,
                reason: status.reason,
                bypassed: status.is_bypassed,
                error_rate: status.error_rate,
                retry_in_secs: status.ready_in.as_secs_f64(),
                totals: status.totals,
            }
        };
        CallKind::ALL.map(view).into()
    }
}

fn open_letters(settings: &Settings, place: &Place) -> Result<DeadLetters> {
    let path = settings.dlq_config.path_in(&place.dir);
    let (fs, clock) = (Arc::clone(&place.fs), Arc::clone(&place.clock));
    let opened = DeadLetters::open(fs, clock, &path, settings.dlq_config.clone());
    opened.map(|(letters, _)| letters).map_err(|error| from_backend(&error))
}

/// The settings of a backend in the words of the crate that speaks to it.
pub(crate) fn backend_config(backend: &BackendSettings, attempts: u32) -> BackendConfig {
    let secret = |secret: &crate::config::Secret| Secret::new(secret.reveal());
    BackendConfig {
        endpoint: backend.endpoint.clone(),
        region: backend.region.clone(),
        access_key: backend.access_key.as_ref().map(|key| key.reveal().to_owned()),
        secret_key: backend.secret_key.as_ref().map(secret),
        allow_http: backend.allow_http,
        required: backend.required,
        single_writer_unchecked: backend.single_writer_unchecked,
        attempts,
        ..BackendConfig::new(&backend.name, &backend.url)
    }
}

pub(crate) fn of_breakers(settings: &Settings, config: BackendConfig) -> BackendConfig {
    BackendConfig {
        circuit_breaker_enabled: settings.circuit_breaker_enabled,
        circuit_breaker_config: settings.circuit_breaker_config.clone(),
        ..config
    }
}

fn start_one(
    backend: Backend,
    settings: &Settings,
    engine: &Arc<Engine>,
    letters: &Arc<DeadLetters>,
) -> Result<One> {
    let mut rng = engine.place.rng.child();
    let (name, url) = (backend.name().to_owned(), backend.place().to_owned());
    let clock = Arc::clone(&engine.place.clock);
    let sleep: Arc<dyn Sleep> = Arc::new(ClockSleep(Arc::clone(&clock)));
    // From here on every call takes a permit, and a backend that is down is left alone.
    let opened = backend.guarded(Arc::clone(&clock), Arc::clone(&sleep), rng.u64());
    let guard = opened.guard().cloned();
    let writer = engine.writer()?;
    let newest = writer.committer.newest();
    let weak = Arc::downgrade(engine);
    let wake_driver = move || {
        if let Some(engine) = weak.upgrade() {
            engine.wake_driver();
        }
    };
    let client = Client::new(opened, sleep, rng);
    let parts = UploaderParts {
        client: client.clone(),
        fs: Arc::clone(&engine.place.fs),
        clock,
        identity: Identity {
            db_id: newest.manifest.db_id.to_string(),
            epoch: u64::from(writer.epoch),
            writer: writer.writer_id,
        },
        known: Known::from_json(&read_known(engine, &name)),
        options: memory::options(engine, settings),
        remote_commit_interval: Duration::from_millis(settings.engine.remote_commit_interval_ms),
        letters: Some(Arc::clone(letters)),
        multiparts: Some(Arc::new(open_multiparts(engine, &name))),
        memory: Some(Arc::new(memory::Pieces(engine.place.memory.clone()))),
        sweep: Some(SweepSettings::new("collections")),
        // The driver measures what is pending: only writers that wait for it must know at once.
        on_change: engine.limits.max_pending_bytes.map(|_| Arc::new(wake_driver) as _),
    };
    let uploader = Uploader::start(&*engine.place.spawn, parts).map_err(|cause| {
        Error::io("AKI-0250", &engine.place.dir, "could not start an uploader's thread", &cause)
    })?;
    Ok(One { name, url, required: backend.required(), guard, client, uploader })
}

fn open_multiparts(engine: &Engine, name: &str) -> Multiparts {
    Multiparts::open(Arc::clone(&engine.place.fs), &engine.place.dir.join("uploads"), name)
}

fn read_known(engine: &Engine, name: &str) -> Vec<u8> {
    let path = engine.place.dir.join("uploads").join(format!("{name}.json"));
    match read_file(&*engine.place.fs, &path) {
        Ok(bytes) => bytes,
        Err(cause) => {
            if cause.kind() != IoErrorKind::NotFound {
                tracing::warn!(%cause, file = %path.display(), "unreadable; what is uploaded is looked up again");
            }
            Vec::new()
        }
    }
}

/// Everything a manifest names, and its text.
fn plan(engine: &Engine, committed: &Committed) -> Result<FilePlan> {
    let manifest = &committed.manifest;
    let (bytes, _) = manifest.encode()?;
    let content = String::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::Internal, "AKI-0251", "a manifest is not UTF-8"))?;
    let items = manifest.files().map(|file| PlanItem {
        collection: file.collection.dir.clone(),
        segment: file.segment.file.trim_end_matches(".parquet").to_owned(),
        key: format!("collections/{}", file.below_collections()),
        local: engine.place.collection_dir(&file.collection.dir).join(&file.name),
        len: file.size,
        crc32: file.crc32,
        priority: match file.is_deletion_vector {
            true => 0,
            false => {
                if file.size > LARGE_BYTES {
                    2
                } else {
                    1
                }
            }
        },
    });
    let items = items.collect();
    Ok(FilePlan { local_number: manifest.number, items, content })
}

/// A backend's error in the engine's words. Local rows are never at stake.
pub(crate) fn from_backend(error: &akidb_backends::Error) -> Error {
    use akidb_backends::ErrorKind as Backend;
    let kind = match error.kind() {
        Backend::Invalid => ErrorKind::Invalid,
        Backend::NotFound => ErrorKind::NotFound,
        Backend::Conflict => ErrorKind::Conflict,
        Backend::Corrupt => ErrorKind::Corrupt,
        Backend::NewerFormat => ErrorKind::NewerFormat,
        Backend::Fenced => ErrorKind::Fenced,
        Backend::Closed => ErrorKind::Closed,
        Backend::Internal => ErrorKind::Internal,
        _ => ErrorKind::Unavailable,
    };
    let said = error.to_string();
    // The code stands beside the message already.
    let message = said.strip_prefix(error.code()).map_or(&*said, str::trim_start);
    Error::new(kind, error.code(), message).fate_is(Fate::NotWritten).help_is(error.help())
}
