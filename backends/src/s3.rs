//! Any S3 API as a backend, with its own retries off and its refusals readable.
//!
//! object_store keeps HTTP statuses to itself. A wrapper around its HTTP client turns the refusals that it would
//! blur (400, 429, 5xx, a wrong region, a missing bucket, an error in the body of a 200) into a [`Refusal`] in the
//! error's chain of sources, where status and `Retry-After` are found by type. Statuses to which object_store gives a
//! meaning pass through untouched.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, RetryConfig};
use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::backend::{Backend, Kind};
use crate::class::{Class, Op};
use crate::config::BackendConfig;
use crate::error::{Error, Result};
use crate::plan::check_key;
use crate::refusal::{Refusal, element};
use crate::retry::Schedule;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The client's own limit on a request is that of the biggest part; each call has its own, shorter deadline.
const BIGGEST_PART_LEN_BYTES: u64 = 64 << 20;

pub(crate) fn open(config: &BackendConfig) -> Result<Backend> {
    open_over(config, Box::new(ReqwestConnector::default()))
}

/// The same over another way to make requests.
pub(crate) fn open_over(config: &BackendConfig, http: Box<dyn HttpConnector>) -> Result<Backend> {
    let (bucket, prefix) = bucket_and_prefix(config)?;
    let store = client(config, bucket, http)?;
    Ok(match prefix {
        Some(prefix) => {
            Backend::assemble_with_parts(config, Kind::S3, Arc::new(PrefixStore::new(store, prefix)))
        }
        None => Backend::assemble_with_parts(config, Kind::S3, Arc::new(store)),
    })
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

/// The class of one link in an error's chain of sources, if it is about HTTP.
pub(crate) fn classify_http(error: &(dyn StdError + 'static), op: Op) -> Option<Class> {
    let open = |otherwise| if op.is_ambiguous_without_answer() { Class::Ambiguous } else { otherwise };
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
        let asks_to_change = matches!(*request.method(), Method::PUT | Method::POST);
        let response = self.0.execute(request).await?;
        let status = response.status().as_u16();
        let (head, body) = response.into_parts();
        // A put or a completion may answer 200 and say in its body that it failed.
        let may_mislead = status == 200 && asks_to_change;
        if !is_refusal(status) && !may_mislead {
            return Ok(HttpResponse::from_parts(head, body));
        }
        // Of a refusal the status is enough; of a 200 the body is the answer.
        let body = match body.bytes().await {
            Err(error) if may_mislead => return Err(error),
            body => body.unwrap_or_default(),
        };
        let said = String::from_utf8_lossy(&body);
        if may_mislead && !is_error_document(&said) {
            return Ok(HttpResponse::from_parts(head, HttpResponseBody::from(body)));
        }
        match refusal(status, &head.headers, &said) {
            Some(refusal) => Err(HttpError::new(HttpErrorKind::Unknown, refusal)),
            None => Ok(HttpResponse::from_parts(head, HttpResponseBody::from(body))),
        }
    }
}

/// Whether the root of a document is an error; one may well stand inside the answer to a bulk delete.
fn is_error_document(said: &str) -> bool {
    let said = said.trim_start();
    let root = said.strip_prefix("<?xml").and_then(|rest| Some(rest.split_once("?>")?.1)).unwrap_or(said);
    root.trim_start().starts_with("<Error>")
}

/// Statuses that may need another word than object_store's: 304, 404 of an object, 409 and 412 have their own. (401 and
/// 403 have, but not for a list or a bulk delete.)
fn is_refusal(status: u16) -> bool {
    matches!(
        status,
        301 | 307 | 308 | 400 | 401 | 403 | 404 | 405 | 408 | 411 | 413 | 414 | 416 | 429 | 431 | 500..=599
    )
}

/// The refusal in an answer, or `None` where object_store's own error says as much.
fn refusal(status: u16, headers: &HeaderMap, said: &str) -> Option<Refusal> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let retry_after = header("retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs);
    let code = element(said, "Code").unwrap_or_default();
    let meant = match (status, code) {
        (200, "SlowDown" | "ServiceUnavailable") => 503,
        (200, _) => 500,
        (404, "NoSuchBucket") => 404,
        (404, _) => return None,
        (status, _) => status,
    };
    let request = header("x-amz-request-id").or_else(|| element(said, "RequestId"));
    let refusal = Refusal::new(meant, retry_after, said.to_owned()).of_request(request);
    let is_of_region = matches!(status, 301 | 307 | 308)
        || matches!(
            code,
            "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException"
        );
    let region = || header("x-amz-bucket-region").or_else(|| element(said, "Region"));
    Some(if is_of_region { refusal.of_region(region()) } else { refusal })
}

#[cfg(test)]
mod tests;
