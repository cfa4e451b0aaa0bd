//! A configured place for objects: its name, its store and what is known of its manners.

use std::fmt;
use std::sync::Arc;

use akidb_host::Clock;
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;

use crate::config::{BackendConfig, BreakerSettings};
use crate::contained::Contained;
use crate::error::{Error, Result};
use crate::guard::{Guard, GuardSettings};
use crate::limiter::LimiterSettings;
use crate::local;
use crate::retry::Sleep;
use crate::store::{GuardedParts, GuardedStore};

/// What stands behind a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Local,
    /// Any S3 API.
    S3,
    /// A store that the program brought along.
    Custom,
}

/// A backend. Clones share the store.
///
/// The connections of an S3 store are driven by the runtime that opened them. A runtime that shares a backend
/// with another must not stand still, or calls over its connections wait for their deadline: give blocking
/// code a backend of its own ([`open`] makes no request).
#[derive(Clone)]
pub struct Backend(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    name: String,
    kind: Kind,
    place: String,
    required: bool,
    attempts: u32,
    single_writer_unchecked: bool,
    /// None if the breakers are switched off.
    breaker: Option<BreakerSettings>,
    guard: Option<Arc<Guard>>,
    store: Arc<dyn ObjectStore>,
    /// The same store for work that can wait.
    background: Option<Arc<dyn ObjectStore>>,
    /// The same store, where its multipart uploads have ids.
    parts: Option<Arc<dyn MultipartStore>>,
}

impl Backend {
    /// A backend over a store that the program brings along (tests, decorators, other object_store builds).
    ///
    /// The store's own retries should be off: one call here is meant to be one attempt. One that panics has failed.
    #[must_use]
    pub fn from_store(name: &str, store: Arc<dyn ObjectStore>) -> Self {
        let config = BackendConfig::new(name, format!("{store}"));
        Self::assemble(&config, Kind::Custom, Arc::new(Contained(store)))
    }

    /// The same over a store whose multipart uploads have ids: large files go in parallel parts, and what a crash
    /// leaves half-written can be aborted. A panic of such a store is not caught.
    #[must_use]
    pub fn from_parts_store<T: ObjectStore + MultipartStore>(name: &str, store: Arc<T>) -> Self {
        Self::assemble_with_parts(&BackendConfig::new(name, format!("{store}")), Kind::Custom, store)
    }

    /// A backend over a store that the program brings along, with the settings of `config`. A call of it that panics has
    /// failed, as one that was not answered.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot work, naming the setting.
    pub fn over(config: &BackendConfig, store: Arc<dyn ObjectStore>) -> Result<Self> {
        check(config)?;
        Ok(Self::assemble(config, Kind::Custom, Arc::new(Contained(store))))
    }

    /// The same backend with its store behind a decorator. Its multipart uploads have no ids then: a decorator of the
    /// one is none of the other. A panic of the decorator is not caught.
    #[must_use]
    pub fn decorated(&self, decorate: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        let store = decorate(Arc::clone(&self.0.store));
        Self(Arc::new(Inner { store, background: None, parts: None, ..Inner::clone(&self.0) }))
    }

    /// The same backend behind a guard of its own: breakers as its settings say, limits, and the deadline of each
    /// call. Clones share the guard. `seed` is that of the breakers' jitter.
    #[must_use]
    pub fn guarded(&self, clock: Arc<dyn Clock>, sleep: Arc<dyn Sleep>, seed: u64) -> Self {
        self.guarded_within(LimiterSettings::default(), clock, sleep, seed)
    }

    /// As [`Backend::guarded`], with these bounds of what may be under way.
    #[must_use]
    pub fn guarded_within(
        &self,
        limiter: LimiterSettings,
        clock: Arc<dyn Clock>,
        sleep: Arc<dyn Sleep>,
        seed: u64,
    ) -> Self {
        let settings = GuardSettings { breaker: self.0.breaker.clone(), limiter };
        let guard = Guard::new(&self.0.name, &settings, clock, sleep, seed);
        let store = GuardedStore::new(Arc::clone(&self.0.store), Arc::clone(&guard));
        let background: Arc<dyn ObjectStore> = Arc::new(store.background());
        let parts = self.0.parts.as_ref().map(|parts| -> Arc<dyn MultipartStore> {
            Arc::new(GuardedParts::new(Arc::clone(parts), Arc::clone(&guard)))
        });
        Self(Arc::new(Inner {
            store: Arc::new(store),
            background: Some(background),
            parts,
            guard: Some(guard),
            ..Inner::clone(&self.0)
        }))
    }

    /// The same backend for work that can wait: behind a guard it gets a quarter of the places at most. Uploads in
    /// parts are not slowed down.
    #[must_use]
    pub fn background(&self) -> Self {
        let store = self.0.background.as_ref().unwrap_or(&self.0.store);
        Self(Arc::new(Inner { store: Arc::clone(store), ..Inner::clone(&self.0) }))
    }

    /// Its guard, if it stands behind one.
    #[must_use]
    pub fn guard(&self) -> Option<&Arc<Guard>> {
        self.0.guard.as_ref()
    }

    /// Its name in messages and file names.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What stands behind it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Its URL, without secrets.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// Whether remote durability waits for it.
    #[must_use]
    pub fn required(&self) -> bool {
        self.0.required
    }

    /// Attempts of one call.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Whether the operator vouches that nobody else writes here.
    #[must_use]
    pub fn single_writer_unchecked(&self) -> bool {
        self.0.single_writer_unchecked
    }

    /// The store. Every call of this crate goes through it.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.0.store
    }

    /// The store's multipart uploads, where they have ids. Every such call goes through it.
    pub(crate) fn parts(&self) -> Option<&Arc<dyn MultipartStore>> {
        self.0.parts.as_ref()
    }

    /// Whether a put is read back whole and compared: where no checksum travels with the request.
    pub(crate) fn reads_back(&self) -> bool {
        self.0.kind != Kind::S3
    }

    pub(crate) fn assemble(config: &BackendConfig, kind: Kind, store: Arc<dyn ObjectStore>) -> Self {
        Self(Arc::new(Inner {
            name: config.name.clone(),
            kind,
            place: config.url.clone(),
            required: config.required,
            attempts: config.attempts,
            single_writer_unchecked: config.single_writer_unchecked,
            breaker: config.circuit_breaker_enabled.then(|| config.circuit_breaker_config.clone()),
            guard: None,
            background: None,
            store,
            parts: None,
        }))
    }

    pub(crate) fn assemble_with_parts<T: ObjectStore + MultipartStore>(
        config: &BackendConfig,
        kind: Kind,
        store: Arc<T>,
    ) -> Self {
        let parts: Arc<dyn MultipartStore> = Arc::<T>::clone(&store);
        let inner = Self::assemble(config, kind, store).0;
        Self(Arc::new(Inner { parts: Some(parts), ..Inner::clone(&inner) }))
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.0.name)
            .field("kind", &self.0.kind)
            .field("place", &self.0.place)
            .field("required", &self.0.required)
            .finish_non_exhaustive()
    }
}

fn check(config: &BackendConfig) -> Result<()> {
    let name_is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if config.name.is_empty() || !config.name.chars().all(name_is_plain) {
        return Err(Error::invalid(&config.name, "name: must be letters, digits, '-' and '_'"));
    }
    if config.attempts == 0 {
        return Err(Error::invalid(&config.name, "attempts: must be at least 1"));
    }
    if let Some((key, why)) = config.circuit_breaker_config.refusal() {
        return Err(Error::invalid(&config.name, format!("circuit_breaker_config.{key}: {why}")));
    }
    Ok(())
}

/// Whether this build has a client for S3: the feature `s3`.
pub const HAS_S3: bool = cfg!(feature = "s3");

/// Builds a backend from its settings. Makes no request; a `local` one makes its directory at the first call that finds
/// it missing, and a directory that cannot be made is a backend that does not answer.
///
/// # Errors
/// `Invalid` for settings that cannot work, naming the setting; without the feature `s3` also for an S3 URL,
/// naming the feature.
pub fn open(config: &BackendConfig) -> Result<Backend> {
    open_as(config, true)
}

/// As [`open`], to read what is there: a slip in the path of a `local` one makes no directory.
///
/// # Errors
/// As [`open`]; `NotFound` if the directory of a `local` one is not there, `Unavailable` if it cannot be used.
pub fn open_to_read(config: &BackendConfig) -> Result<Backend> {
    open_as(config, false)
}

fn open_as(config: &BackendConfig, create: bool) -> Result<Backend> {
    check(config)?;
    match config.url.split_once("://") {
        None if config.url.is_empty() => Err(Error::invalid(&config.name, "url: must not be empty")),
        None | Some(("file", _)) => local::open(config, create),
        #[cfg(feature = "s3")]
        Some(("s3" | "minio", _)) => crate::s3::open(config),
        #[cfg(not(feature = "s3"))]
        Some(("s3" | "minio", _)) => Err(Error::invalid(
            &config.name,
            "url: this build has no S3 client; build akidb with the feature `s3`",
        )),
        Some((scheme, _)) => Err(Error::invalid(
            &config.name,
            format!("url: unknown scheme '{scheme}'; use s3://bucket/prefix, file:///path or a path"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        for (name, url, word) in [
            ("", "/tmp/x", "name"),
            ("a/b", "/tmp/x", "name"),
            ("a", "", "url"),
            ("a", "ftp://x/y", "'ftp'"),
            #[cfg(not(feature = "s3"))]
            ("a", "s3://bucket/p", "feature `s3`"),
            #[cfg(not(feature = "s3"))]
            ("a", "minio://bucket/p", "feature `s3`"),
        ] {
            let error = open(&BackendConfig::new(name, url)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(word), "{error}");
        }
        let config = BackendConfig { attempts: 0, ..BackendConfig::new("a", "/tmp/x") };
        assert!(open(&config).unwrap_err().to_string().contains("attempts"));
    }
}
