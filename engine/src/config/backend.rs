//! Settings of one backend, and secrets that never show themselves.

use std::fmt;

use akidb_backends::{BreakerSettings, DlqSettings, Overflow};
use serde::Deserialize;

use super::Refusal;

/// Longest name of a backend in bytes; it is also the name of a file.
const MAX_BACKEND_NAME_BYTES: usize = 64;

/// A text that is never printed: both `Debug` and `Display` show `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the call that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What stands behind a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendKind {
    /// A directory of this machine or one mounted here: `file:///path`.
    Local,
    /// Anything that speaks the S3 API: `s3://bucket/prefix`; `minio` is another word for it.
    S3,
}

/// Settings of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendSettings {
    /// Its name in messages, metrics and `uploads/<name>.json`: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// What stands behind it.
    pub kind: BackendKind,
    /// `file:///path` or `s3://bucket/prefix`.
    pub url: String,
    /// Address of a server other than Amazon's, such as `https://minio.example:9000`.
    pub endpoint: Option<String>,
    /// Region; servers other than Amazon's mostly ignore it.
    pub region: Option<String>,
    /// Access key. Without both keys the machine's own credentials are used.
    pub access_key: Option<Secret>,
    /// Secret key.
    pub secret_key: Option<Secret>,
    /// Whether an `http://` endpoint may be used: rows and signatures then travel in clear.
    pub allow_http: bool,
    /// Whether local bytes stay until this backend has them, and writers wait when it lacks too many. Default true;
    /// `false` for a copy that may fall behind.
    pub required: bool,
    /// Whether nobody else will ever write there, so that a store may be used that overwrites what it was asked to
    /// create only. Two writers of one backend are then not told apart. Default false.
    pub single_writer_unchecked: bool,
}

impl BackendSettings {
    /// A backend at a URL: `file:///path`, `s3://bucket/prefix`, or `minio://bucket/prefix`, which is turned
    /// into `s3://`. `Settings::check` judges the rest.
    ///
    /// # Errors
    /// `Invalid`: the URL has another scheme.
    pub fn new(name: impl Into<String>, url: &str) -> crate::error::Result<Self> {
        Self::at_url(name.into(), url)
            .map_err(|why| crate::error::Error::invalid("AKI-0405", format!("backend url: {why}")))
    }

    pub(super) fn at_url(name: String, url: &str) -> Result<Self, String> {
        let (kind, url) = parse_url(url)?;
        Ok(Self {
            name,
            kind,
            url,
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            allow_http: false,
            required: true,
            single_writer_unchecked: false,
        })
    }

    pub(super) fn refusal(&self, at: usize) -> Result<(), Refusal> {
        let key = |name: &str| format!("backends[{at}].{name}");
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if self.name.is_empty()
            || self.name.len() > MAX_BACKEND_NAME_BYTES
            || !self.name.bytes().all(plain)
            || !self.name.as_bytes()[0].is_ascii_alphanumeric()
        {
            let why = format!(
                "{:?} is not a name: 1 to {MAX_BACKEND_NAME_BYTES} lower-case letters, digits, '-' or '_'",
                self.name
            );
            return Err(Refusal::value(key("name"), why));
        }
        if parse_url(&self.url).ok() != Some((self.kind, self.url.clone())) {
            return Err(Refusal::value(key("url"), "it does not fit the kind of backend"));
        }
        if self.access_key.is_some() != self.secret_key.is_some() {
            let missing = if self.access_key.is_some() { "secret_key" } else { "access_key" };
            return Err(Refusal::value(key(missing), "access_key and secret_key come together"));
        }
        let s3_only = [
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("access_key", self.access_key.is_some()),
            ("allow_http", self.allow_http),
        ];
        if self.kind == BackendKind::Local
            && let Some((name, _)) = s3_only.iter().find(|(_, given)| *given)
        {
            return Err(Refusal::value(key(name), "a file:// backend has no such setting"));
        }
        match &self.endpoint {
            Some(endpoint) => endpoint_refusal(endpoint, self.allow_http)
                .map_err(|why| Refusal::value(key("endpoint"), why)),
            None => Ok(()),
        }
    }
}

fn endpoint_refusal(endpoint: &str, allow_http: bool) -> Result<(), String> {
    let (clear, rest) = match (endpoint.strip_prefix("https://"), endpoint.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("an endpoint starts with https:// or http://".into()),
    };
    if rest.is_empty() || rest.starts_with('/') || rest.contains(['@', '?', '#', ' ']) {
        return Err("an endpoint is https://host:port, keys have their own settings".into());
    }
    if clear && !allow_http {
        return Err(
            "it is http://, which sends rows and signatures in clear; allow_http = true permits it".into()
        );
    }
    Ok(())
}

/// Kind and plain form of a URL. What is refused is not repeated: keys may stand in it.
fn parse_url(url: &str) -> Result<(BackendKind, String), String> {
    if let Some(path) = url.strip_prefix("file://") {
        let whole = path.starts_with('/') && path.len() > 1 && !path.split('/').any(|part| part == "..");
        return if whole {
            Ok((BackendKind::Local, url.to_owned()))
        } else {
            Err("a local backend is file:///an/absolute/path without \"..\"".into())
        };
    }
    let Some(rest) = url.strip_prefix("s3://").or_else(|| url.strip_prefix("minio://")) else {
        return Err(if url.starts_with('/') {
            format!("a path is not a URL; did you mean \"file://{url}\"?")
        } else {
            "a backend is file:///path or s3://bucket/prefix (minio:// is the same)".into()
        });
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.' || b == b'_';
    if bucket.len() < 3 || bucket.len() > 63 || !bucket.bytes().all(plain) {
        return Err(
            "a bucket has 3 to 63 lower-case letters, digits, '-' or '.'; keys have their own settings"
                .into(),
        );
    }
    if prefix.contains(['?', '#']) || prefix.split('/').any(|part| part == "..") {
        return Err("a prefix has no '?', '#' or \"..\"".into());
    }
    Ok((BackendKind::S3, format!("s3://{rest}").trim_end_matches('/').to_owned()))
}

/// As a `[[backends]]` table, secrets as `***`.
impl fmt::Display for BackendSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[backends]]\nname = {}\nurl = {}", Quoted(&self.name), Quoted(&self.url))?;
        for (key, value) in [("endpoint", &self.endpoint), ("region", &self.region)] {
            if let Some(value) = value {
                writeln!(f, "{key} = {}", Quoted(value))?;
            }
        }
        for (key, value) in [("access_key", &self.access_key), ("secret_key", &self.secret_key)] {
            if let Some(secret) = value {
                writeln!(f, "{key} = \"{secret}\"")?;
            }
        }
        if self.allow_http {
            writeln!(f, "allow_http = true")?;
        }
        if self.single_writer_unchecked {
            writeln!(f, "single_writer_unchecked = true")?;
        }
        if self.required { Ok(()) } else { writeln!(f, "required = false") }
    }
}

/// The breakers' settings as the table of a settings file.
pub(super) fn write_breaker(f: &mut fmt::Formatter<'_>, b: &BreakerSettings) -> fmt::Result {
    writeln!(f, "[storage.circuit_breaker_config]")?;
    writeln!(f, "failure_threshold = {}", b.failure_threshold)?;
    writeln!(f, "window_duration_secs = {}", b.window_duration_secs)?;
    writeln!(f, "cooldown_duration_secs = {}", b.cooldown_duration_secs)?;
    writeln!(f, "half_open_successes = {}", b.half_open_successes)?;
    writeln!(f, "minimum_calls = {}", b.minimum_calls)?;
    writeln!(f, "half_open_max_in_flight = {}", b.half_open_max_in_flight)?;
    writeln!(f, "half_open_max_duration_secs = {}", b.half_open_max_duration_secs)?;
    match b.slow_call_duration_secs {
        Some(secs) => writeln!(f, "slow_call_duration_secs = {secs}")?,
        None => writeln!(f, "# slow_call_duration_secs: no call is slow")?,
    }
    writeln!(f, "slow_call_threshold = {}", b.slow_call_threshold)?;
    writeln!(f, "cooldown_multiplier = {}", b.cooldown_multiplier)?;
    writeln!(f, "cooldown_max_secs = {}", b.cooldown_max_secs)?;
    writeln!(f, "cooldown_jitter = {}", b.cooldown_jitter)?;
    writeln!(f, "honor_retry_after = {}", b.honor_retry_after)?;
    writeln!(f, "adaptive = {}", b.adaptive)
}

/// The dead letters' settings as the table of a settings file.
pub(super) fn write_dead_letters(f: &mut fmt::Formatter<'_>, d: &DlqSettings) -> fmt::Result {
    writeln!(f, "[storage.dlq_config]")?;
    writeln!(f, "max_size = {}", d.max_size)?;
    writeln!(f, "ttl_seconds = {}", d.ttl_seconds)?;
    match &d.persistence_path {
        Some(path) => writeln!(f, "persistence_path = {}", Quoted(&path.to_string_lossy()))?,
        None => writeln!(f, "# persistence_path: dlq/dlq.json in the database directory")?,
    }
    writeln!(f, "cleanup_interval_seconds = {}", d.cleanup_interval_seconds)?;
    let overflow = match d.overflow {
        Overflow::EvictOldest => "evict_oldest",
        Overflow::Reject => "reject",
    };
    writeln!(f, "overflow = \"{overflow}\"\ncompress = {}", d.compress)
}

/// A text in quotes; TOML's basic strings take JSON's escapes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}
