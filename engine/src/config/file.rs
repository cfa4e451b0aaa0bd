//! Reading the TOML text: the seed's keys and ours, checked in four steps (TOML, keys, types, values).

use std::fmt;

use akidb_backends::{BreakerSettings, DlqSettings};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use toml::de::DeTable;

use super::backend::{BackendKind, BackendSettings, Secret};
use super::keys::{self, Found};
use super::{EngineSettings, Refusal, Settings, Tiering};
use crate::error::{Error, Result};

/// The whole document as it is typed.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    storage: Storage,
    backends: Vec<Backend>,
    engine: EngineSettings,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Storage {
    tiering_policy: Option<String>,
    cache_size_mb: Option<u64>,
    s3_endpoint: Option<String>,
    s3_bucket: Option<String>,
    s3_region: Option<String>,
    s3_access_key: Option<Secret>,
    s3_secret_key: Option<Secret>,
    circuit_breaker_enabled: Option<bool>,
    circuit_breaker_config: BreakerSettings,
    dlq_config: DlqSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Backend {
    name: String,
    kind: Option<String>,
    url: String,
    endpoint: Option<String>,
    region: Option<String>,
    access_key: Option<Secret>,
    secret_key: Option<Secret>,
    #[serde(default)]
    allow_http: bool,
    #[serde(default = "yes")]
    required: bool,
    #[serde(default)]
    single_writer_unchecked: bool,
}

fn yes() -> bool {
    true
}

pub(super) fn read(text: &str) -> Result<Settings> {
    let root = DeTable::parse(text).map_err(|e| syntax_error(text, &e))?;
    let found = keys::all(root.get_ref());
    if let Some((stray, message)) = keys::unknown(&found) {
        return Err(at(text, stray.key_span.start, "AKI-0402", message));
    }
    if let Some((value, message)) = keys::no_table(&found) {
        return Err(at(text, value.key_span.start, "AKI-0403", message));
    }
    let document: Document = toml::from_str(text).map_err(|e| type_error(text, &found, &e))?;
    let settings = resolve(document).and_then(|settings| settings.refusal().map(|()| settings));
    settings.map_err(|refusal| refused(text, &found, refusal))
}

fn at(text: &str, offset: usize, code: &'static str, message: impl fmt::Display) -> Error {
    let line = keys::line_of(text, offset);
    Error::invalid(code, format!("line {line}: {message}")).at_offset(offset as u64)
}

fn syntax_error(text: &str, e: &toml::de::Error) -> Error {
    // Only the message: the error's own Display repeats the line, and a secret may stand in it.
    at(text, e.span().map_or(0, |s| s.start), "AKI-0401", e.message())
}

/// Names the key whose value has the wrong type.
fn type_error(text: &str, found: &[Found<'_>], e: &toml::de::Error) -> Error {
    let start = e.span().map_or(0, |s| s.start);
    // Tables hold their keys' values too; the last one that starts at or before is the innermost.
    let holder = found.iter().filter(|f| f.value_span.contains(&start) || f.key_span.contains(&start));
    let Some(key) = holder.min_by_key(|f| f.value_span.len()) else {
        return at(text, start, "AKI-0403", e.message());
    };
    let why = if keys::is_secret(&key.path) { "expected a text in quotes" } else { e.message() };
    at(text, start, "AKI-0403", format_args!("{}: {why}", key.path))
}

/// A refused value, with the line of its key or, where the key was left out, of what stands nearest.
fn refused(text: &str, found: &[Found<'_>], refusal: Refusal) -> Error {
    let message = format!("{}: {}", refusal.key, refusal.why);
    let mut path = refusal.key.as_str();
    loop {
        if let Some(key) = found.iter().find(|f| f.path == path) {
            return at(text, key.key_span.start, refusal.code, message);
        }
        let inside = |f: &&Found<'_>| f.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        if let Some(key) = found.iter().find(inside) {
            return at(text, key.key_span.start, refusal.code, message);
        }
        match path.rfind('.') {
            Some(dot) => path = &path[..dot],
            None => return Error::invalid(refusal.code, message),
        }
    }
}

fn resolve(document: Document) -> Result<Settings, Refusal> {
    let Document { storage, backends, engine } = document;
    if storage.cache_size_mb.is_some() {
        let why = "there is no cache of backend files yet: segments stay in the database directory";
        return Err(Refusal::not_built("storage.cache_size_mb", why));
    }
    let mut all: Vec<BackendSettings> = Vec::new();
    for (at, backend) in backends.into_iter().enumerate() {
        all.push(backend.resolve(at)?);
    }
    let policy = storage.tiering_policy.clone();
    let circuit_breaker_enabled = storage.circuit_breaker_enabled.unwrap_or(true);
    let circuit_breaker_config = storage.circuit_breaker_config.clone();
    let dlq_config = storage.dlq_config.clone();
    if let Some(short) = short_form(storage)? {
        if all.iter().any(|b| b.name == short.name) {
            let why = "it makes a backend named \"s3\", and [[backends]] has one of that name too";
            return Err(Refusal::value("storage.s3_bucket", why));
        }
        all.push(short);
    }
    let tiering = match policy.as_deref() {
        None if all.is_empty() => Tiering::Local,
        None | Some("mirror") => Tiering::Mirror,
        Some("local") => Tiering::Local,
        Some(other) => return Err(unbuilt_policy(other)),
    };
    Ok(Settings {
        tiering,
        backends: all,
        circuit_breaker_enabled,
        circuit_breaker_config,
        dlq_config,
        engine,
        without_effect: Vec::new(),
    })
}

fn unbuilt_policy(policy: &str) -> Refusal {
    let key = "storage.tiering_policy";
    match policy {
        "cache" | "backend_only" => {
            Refusal::not_built(key, format!("{policy:?} is not built; built are \"local\" and \"mirror\""))
        }
        _ => Refusal::value(
            key,
            format!("{policy:?} is none of \"local\", \"mirror\" (and, later, \"cache\", \"backend_only\")"),
        ),
    }
}

/// The seed's one backend: `s3_bucket` and its companions.
fn short_form(s: Storage) -> Result<Option<BackendSettings>, Refusal> {
    let Some(bucket) = s.s3_bucket else {
        let given = [
            ("s3_endpoint", s.s3_endpoint.is_some()),
            ("s3_region", s.s3_region.is_some()),
            ("s3_access_key", s.s3_access_key.is_some()),
            ("s3_secret_key", s.s3_secret_key.is_some()),
        ];
        return match given.iter().find(|(_, given)| *given) {
            Some((key, _)) => {
                Err(Refusal::value(format!("storage.{key}"), "storage.s3_bucket must be given with it"))
            }
            None => Ok(None),
        };
    };
    if bucket.contains('/') {
        let why = "a bucket has no prefix here; use [[backends]] with url = \"s3://bucket/prefix\"";
        return Err(Refusal::value("storage.s3_bucket", why));
    }
    let backend = BackendSettings::at_url("s3".into(), &format!("s3://{bucket}"))
        .map_err(|why| Refusal::value("storage.s3_bucket", why))?;
    // The seed has no key for it, so an endpoint that says http:// is the permission.
    let allow_http = s.s3_endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
    let short = BackendSettings {
        endpoint: s.s3_endpoint,
        region: s.s3_region,
        access_key: s.s3_access_key,
        secret_key: s.s3_secret_key,
        allow_http,
        ..backend
    };
    short.refusal(0).map_err(|r| Refusal { key: r.key.replace("backends[0].", "storage.s3_"), ..r })?;
    Ok(Some(short))
}

impl Backend {
    fn resolve(self, at: usize) -> Result<BackendSettings, Refusal> {
        let key = |name: &str| format!("backends[{at}].{name}");
        let backend =
            BackendSettings::at_url(self.name, &self.url).map_err(|why| Refusal::value(key("url"), why))?;
        let kind = match self.kind.as_deref() {
            None => backend.kind,
            Some("local") => BackendKind::Local,
            Some("s3" | "minio") => BackendKind::S3,
            Some(other) => {
                let why = format!("{other:?} is none of \"local\", \"s3\", \"minio\"");
                return Err(Refusal::value(key("kind"), why));
            }
        };
        if kind != backend.kind {
            return Err(Refusal::value(key("kind"), "it does not fit the url"));
        }
        Ok(BackendSettings {
            endpoint: self.endpoint,
            region: self.region,
            access_key: self.access_key,
            secret_key: self.secret_key,
            allow_http: self.allow_http,
            required: self.required,
            single_writer_unchecked: self.single_writer_unchecked,
            ..backend
        })
    }
}

/// A number of bytes, or a text like `"32 MiB"` or `"1.5 GB"`.
pub(super) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Bytes)
}

/// As [`bytes`], for a key whose absence means something of its own.
pub(super) fn some_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bytes(from).map(Some)
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes or a text like \"32 MiB\"")
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u64, E> {
        let size: bytesize::ByteSize =
            text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
        Ok(size.as_u64())
    }
}
