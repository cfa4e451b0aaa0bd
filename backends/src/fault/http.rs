//! A scripted HTTP service under the real S3 client: a small S3 server in memory, and faults in front of it. No socket.

mod broken;
mod server;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::memory::InMemory;
use reqwest::header::HeaderValue;

use super::clock::VirtualClock;
use crate::backend::Backend;
use crate::config::BackendConfig;
use crate::error::Result;
use broken::Broken;
use server::{Asked, Server};

/// How a request goes wrong. Time passes by the tokio runtime's clock, which may be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpFault {
    /// This status and body, and when to come back, in seconds; nothing is applied.
    Answer(u16, Option<u64>, &'static str),
    /// Applied, then this status.
    ApplyThenAnswer(u16),
    /// Nobody listens.
    Refused,
    /// The connection is reset in the middle of the request; nothing is applied.
    Reset,
    /// Applied, then the connection is reset before the answer.
    ApplyThenReset,
    /// The connection is reset in the middle of the answer's body.
    ResetBody,
    /// Never answers; nothing is applied.
    Hang,
    /// The answer's body comes a byte at a time, each after this pause.
    Trickle(Duration),
    /// Answered so much later.
    Late(Duration),
}

impl HttpFault {
    /// 503 SlowDown, and when to come back, in seconds.
    #[must_use]
    pub fn slow_down(retry_after_secs: Option<u64>) -> Self {
        Self::Answer(503, retry_after_secs, "<Error><Code>SlowDown</Code></Error>")
    }
}

/// A request that was made, in order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// Path and query.
    pub path: String,
    /// When, since the service was made.
    pub at: Duration,
    /// What the script did to it.
    pub fault: Option<HttpFault>,
}

/// The service. Clones share everything.
#[derive(Clone)]
pub struct FaultHttp {
    server: Arc<Server>,
    clock: VirtualClock,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    rules: VecDeque<Rule>,
    every: Option<HttpFault>,
    requests: Vec<Request>,
}

struct Rule {
    method: &'static str,
    path_part: String,
    skip: u64,
    fault: HttpFault,
}

impl FaultHttp {
    /// A server over `store` that behaves until told otherwise. Only inside a tokio runtime.
    #[must_use]
    pub fn new(store: Arc<InMemory>) -> Self {
        Self { server: Arc::new(Server::over(store)), clock: VirtualClock::start(), script: Arc::default() }
    }

    /// A backend whose S3 client makes its requests here; `config` names bucket and prefix as for a real one.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot work.
    pub fn backend(&self, config: &BackendConfig) -> Result<Backend> {
        crate::s3::open_over(config, Box::new(self.clone()))
    }

    /// The next request of this method whose path and query contain `path_part`, after `skip` such, meets `fault`, once.
    pub fn script(&self, method: &'static str, path_part: &str, skip: u64, fault: HttpFault) {
        self.lock().rules.push_back(Rule { method, path_part: path_part.to_owned(), skip, fault });
    }

    /// Every request meets this until `None` is set.
    pub fn set_every(&self, fault: Option<HttpFault>) {
        self.lock().every = fault;
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.lock().requests.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, method: &str, path: &str) -> Option<HttpFault> {
        let mut script = self.lock();
        let matching = |rule: &Rule| rule.method == method && path.contains(&rule.path_part);
        let mut fault = script.every;
        if let Some(at) = script.rules.iter().position(matching) {
            if script.rules[at].skip == 0 {
                fault = script.rules.remove(at).map(|rule| rule.fault);
            } else {
                script.rules[at].skip -= 1;
            }
        }
        let (method, path, at) = (method.to_owned(), path.to_owned(), self.clock.passed());
        script.requests.push(Request { method, path, at, fault });
        fault
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of a runtime that tests pause")]
async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

fn broken(kind: HttpErrorKind) -> HttpError {
    HttpError::new(kind, std::io::Error::other("scripted"))
}

fn answer(status: u16, body: impl Into<Bytes>) -> HttpResponse {
    let mut response = HttpResponse::new(HttpResponseBody::from(body.into()));
    *response.status_mut() = status.try_into().expect("a status");
    response
}

#[async_trait]
impl HttpService for FaultHttp {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let path = request.uri().path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default();
        let fault = self.meet(request.method().as_str(), &path);
        match fault {
            None => self.server.answer(Asked::read(request).await?).await,
            Some(HttpFault::Answer(status, retry_after, body)) => {
                let mut response = answer(status, body);
                if let Some(secs) = retry_after {
                    response.headers_mut().insert("retry-after", HeaderValue::from(secs));
                }
                Ok(response)
            }
            Some(HttpFault::ApplyThenAnswer(status)) => {
                self.server.answer(Asked::read(request).await?).await?;
                Ok(answer(status, ""))
            }
            Some(HttpFault::Refused) => Err(broken(HttpErrorKind::Connect)),
            Some(HttpFault::Reset) => Err(broken(HttpErrorKind::Interrupted)),
            Some(HttpFault::ApplyThenReset) => {
                self.server.answer(Asked::read(request).await?).await?;
                Err(broken(HttpErrorKind::Interrupted))
            }
            Some(HttpFault::Hang) => std::future::pending().await,
            Some(HttpFault::Late(time)) => {
                wait(time).await;
                self.server.answer(Asked::read(request).await?).await
            }
            Some(fault @ (HttpFault::ResetBody | HttpFault::Trickle(_))) => {
                let (head, body) = self.server.answer(Asked::read(request).await?).await?.into_parts();
                let body = body.bytes().await?;
                let body = match fault {
                    HttpFault::Trickle(pause) => Broken::trickling(body, pause),
                    _ => Broken::reset_at_half(body),
                };
                Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
            }
        }
    }
}

impl HttpConnector for FaultHttp {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl fmt::Debug for FaultHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultHttp").finish_non_exhaustive()
    }
}
