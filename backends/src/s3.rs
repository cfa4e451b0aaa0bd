//! Any S3 API as a backend, with its own retries off and its refusals readable.
//!
//! object_store keeps HTTP statuses to itself. A wrapper around its HTTP client turns the refusals that it would
//! blur (400, 429, 5xx, ...) into a [`Refusal`] in the error's chain of sources, where [`classify_http`] finds the
//! status and `Retry-After` by type. Statuses to which object_store gives a meaning pass through untouched.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpService, ReqwestConnector,
};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use crate::backend::{Backend, Kind};
use crate::class::{Class, Op};
use crate::config::BackendConfig;
use crate::error::{Error, Result};
use crate::plan::check_key;
use crate::retry::Schedule;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The client's own limit on a request is that of the biggest part; each call has its own, shorter deadline.
const BIGGEST_PART_LEN_BYTES: u64 = 64 << 20;

pub(crate) fn open(config: &BackendConfig) -> Result<Backend> {
    let (bucket, prefix) = bucket_and_prefix(config)?;
    let store = client(config, bucket, Box::new(ReqwestConnector::default()))?;
    let store: Arc<dyn ObjectStore> = match prefix {
        Some(prefix) => Arc::new(PrefixStore::new(store, prefix)),
        None => Arc::new(store),
    };
    Ok(Backend::assemble(config, Kind::S3, store))
}

fn client(config: &BackendConfig, bucket: &str, http: Box<dyn HttpConnector>) -> Result<AmazonS3> {
    // Fails if the program has chosen a provider already: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = match &config.access_key {
        Some(_) => AmazonS3Builder::new(),
        None => AmazonS3Builder::from_env(),
    };
    if let Some(key) = &config.access_key {
        let secret = config.secret_key.as_ref().ok_or_else(|| invalid(config, "secret_key: missing"))?;
        builder = builder.with_access_key_id(key).with_secret_access_key(secret.reveal());
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(allows_http(config, endpoint)?);
    }
    let options = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(Schedule::deadline(BIGGEST_PART_LEN_BYTES))
        .with_allow_http(config.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://")));
    builder
        .with_bucket_name(bucket)
        .with_region(config.region.as_deref().unwrap_or("us-east-1"))
        .with_checksum_algorithm(Checksum::SHA256)
        .with_client_options(options)
        // One call is one attempt: repeating is this crate's business.
        .with_retry(RetryConfig {
            max_retries: 0,
            retry_timeout: Duration::ZERO,
            backoff: BackoffConfig::default(),
        })
        .with_http_connector(Annotating(http))
        .build()
        .map_err(|e| invalid(config, "cannot build the S3 client").because(e))
}

fn invalid(config: &BackendConfig, what: &str) -> Error {
    Error::invalid(&config.name, what)
}

fn bucket_and_prefix(config: &BackendConfig) -> Result<(&str, Option<&str>)> {
    let place = config.url.split_once("://").map_or("", |(_, place)| place).trim_end_matches('/');
    let (bucket, prefix) = match place.split_once('/') {
        Some((bucket, prefix)) => (bucket, Some(prefix)),
        None => (place, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if bucket.is_empty() || !bucket.chars().all(plain) {
        return Err(invalid(
            config,
            "url: expected s3://bucket/prefix, without user or port; credentials and the endpoint have their own settings",
        ));
    }
    if let Some(prefix) = prefix {
        check_key(&config.name, prefix)?;
    }
    Ok((bucket, prefix))
}

/// Without TLS the secret never travels, but the data does: fine to this machine, else only if asked for.
fn allows_http(config: &BackendConfig, endpoint: &str) -> Result<bool> {
    let url = url::Url::parse(endpoint)
        .map_err(|e| invalid(config, "endpoint: not a URL").at(endpoint).because(e))?;
    let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(false),
        "http" if loopback || config.allow_http => Ok(true),
        "http" => {
            Err(invalid(config, "endpoint: is not encrypted; use https:// or set allow_http = true")
                .at(endpoint))
        }
        _ => Err(invalid(config, "endpoint: expected http:// or https://").at(endpoint)),
    }
}

/// A status that object_store has no word for.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    retry_after: Option<Duration>,
    said: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}: {}", self.status, self.said)
    }
}

impl StdError for Refusal {}

/// The class of one link in an error's chain of sources, if it is about HTTP.
pub(crate) fn classify_http(error: &(dyn StdError + 'static), op: Op) -> Option<Class> {
    let open = |otherwise| if op.is_ambiguous_without_answer() { Class::Ambiguous } else { otherwise };
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return Some(match refusal.status {
            429 | 503 => Class::Throttle,
            408 => open(Class::Timeout),
            400..=499 | 501 | 505 => Class::Permanent,
            _ => open(Class::Transient),
        });
    }
    let http = error.downcast_ref::<HttpError>()?;
    match http.kind() {
        // It never arrived.
        HttpErrorKind::Connect => Some(Class::Transient),
        HttpErrorKind::Timeout => Some(open(Class::Timeout)),
        // "Request" is also what a connection closed in the middle of the answer looks like.
        HttpErrorKind::Request | HttpErrorKind::Interrupted | HttpErrorKind::Decode => {
            Some(open(Class::Transient))
        }
        // A refusal of ours, or something unknown: the next link tells.
        _ => None,
    }
}

/// `Retry-After` of one link in an error's chain of sources.
pub(crate) fn retry_after(error: &(dyn StdError + 'static)) -> Option<Duration> {
    error.downcast_ref::<Refusal>()?.retry_after
}

/// The status of one link in an error's chain of sources, where object_store has no word for it.
pub(crate) fn status(error: &(dyn StdError + 'static)) -> Option<u16> {
    Some(error.downcast_ref::<Refusal>()?.status)
}

#[derive(Debug)]
struct Annotating(Box<dyn HttpConnector>);

impl HttpConnector for Annotating {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(AnnotatingService(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct AnnotatingService(HttpClient);

#[async_trait]
impl HttpService for AnnotatingService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.execute(request).await?;
        let status = response.status().as_u16();
        // 301, 304, 401, 403, 404, 409 and 412 have their own errors in object_store.
        if !matches!(status, 400 | 405 | 408 | 411 | 413 | 414 | 416 | 429 | 431 | 500..=599) {
            return Ok(response);
        }
        let seconds =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.into_body().bytes().await.unwrap_or_default();
        let said = String::from_utf8_lossy(&body[..body.len().min(512)]).into_owned();
        let refusal = Refusal { status, retry_after: seconds.map(Duration::from_secs), said };
        Err(HttpError::new(HttpErrorKind::Unknown, refusal))
    }
}

#[cfg(test)]
mod tests;
