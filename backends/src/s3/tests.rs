//! The real S3 client over a scripted server: no socket.

use std::collections::VecDeque;
use std::sync::Mutex;

use object_store::client::HttpResponseBody;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::*;
use crate::config::Secret;
use crate::retry::classify;

/// Answers in turn; counts what it was asked.
#[derive(Clone, Debug, Default)]
struct Script(Arc<Mutex<(VecDeque<Answer>, Vec<HttpRequest>)>>);

#[derive(Clone, Copy, Debug)]
enum Answer {
    Status(u16, Option<&'static str>),
    Broken(HttpErrorKind),
}

impl HttpConnector for Script {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Script {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut script = self.0.lock().unwrap();
        script.1.push(request);
        match script.0.pop_front().expect("one request more than the script has answers") {
            Answer::Broken(kind) => Err(HttpError::new(kind, std::io::Error::other("scripted"))),
            Answer::Status(status, retry_after) => {
                let mut response = HttpResponse::new(HttpResponseBody::from(String::from("said")));
                *response.status_mut() = status.try_into().unwrap();
                response.headers_mut().insert("etag", "\"e\"".try_into().unwrap());
                if let Some(retry_after) = retry_after {
                    response.headers_mut().insert("retry-after", retry_after.try_into().unwrap());
                }
                Ok(response)
            }
        }
    }
}

fn config() -> BackendConfig {
    BackendConfig {
        access_key: Some("key".into()),
        secret_key: Some(Secret::new("secret")),
        ..BackendConfig::new("s", "s3://bucket/a/b")
    }
}

fn store(answers: &[Answer]) -> (Script, AmazonS3) {
    let script = Script::default();
    script.0.lock().unwrap().0.extend(answers);
    let store = client(&config(), "bucket", Box::new(script.clone())).unwrap();
    (script, store)
}

async fn put(answer: Answer, mode: PutMode) -> object_store::Error {
    let (script, store) = store(&[answer]);
    let error = store.put_opts(&"k".into(), "v".into(), PutOptions::from(mode)).await.unwrap_err();
    assert_eq!(script.0.lock().unwrap().1.len(), 1, "one call is one request");
    error
}

#[tokio::test]
async fn each_status_has_its_class_and_no_request_is_repeated_beneath_us() {
    use Class::{Ambiguous, Auth, Conflict, NotFound, Permanent, Throttle, Timeout, Transient};
    let table = [
        (400, Permanent, Permanent),
        (401, Auth, Auth),
        (403, Auth, Auth),
        (404, NotFound, NotFound),
        (408, Timeout, Ambiguous),
        (409, Conflict, Conflict),
        (412, Conflict, Conflict),
        (413, Permanent, Permanent),
        (429, Throttle, Throttle),
        (500, Transient, Ambiguous),
        (501, Permanent, Permanent),
        (502, Transient, Ambiguous),
        (503, Throttle, Throttle),
        (504, Transient, Ambiguous),
        (507, Transient, Ambiguous),
    ];
    for (status, overwrite, create) in table {
        let answer = Answer::Status(status, None);
        assert_eq!(classify(&put(answer, PutMode::Overwrite).await, Op::Put), overwrite, "{status}");
        assert_eq!(classify(&put(answer, PutMode::Create).await, Op::Create), create, "{status} create");
    }
}

#[tokio::test]
async fn each_broken_request_has_its_class() {
    for (kind, overwrite, create) in [
        (HttpErrorKind::Connect, Class::Transient, Class::Transient),
        (HttpErrorKind::Request, Class::Transient, Class::Ambiguous),
        (HttpErrorKind::Interrupted, Class::Transient, Class::Ambiguous),
        (HttpErrorKind::Timeout, Class::Timeout, Class::Ambiguous),
    ] {
        let answer = Answer::Broken(kind);
        assert_eq!(classify(&put(answer, PutMode::Overwrite).await, Op::Put), overwrite, "{kind:?}");
        assert_eq!(classify(&put(answer, PutMode::Create).await, Op::Create), create, "{kind:?} create");
    }
}

#[tokio::test]
async fn a_server_that_says_when_to_come_back_is_understood() {
    let error = put(Answer::Status(503, Some("30")), PutMode::Overwrite).await;
    assert_eq!(crate::retry::retry_after(&error), Some(Duration::from_secs(30)));
    let error = put(Answer::Status(503, None), PutMode::Overwrite).await;
    assert_eq!(crate::retry::retry_after(&error), None);
    assert!(error.to_string().contains("503: said"), "{error}");
}

#[tokio::test]
async fn a_put_carries_a_sha256_of_its_body_and_a_create_its_condition() {
    let (script, store) = store(&[Answer::Status(200, None), Answer::Status(200, None)]);
    store.put(&"k".into(), "v".into()).await.unwrap();
    store.put_opts(&"k".into(), "v".into(), PutMode::Create.into()).await.unwrap();
    let requests = &script.0.lock().unwrap().1;
    assert!(requests[0].headers().contains_key("x-amz-checksum-sha256"));
    assert_eq!(requests[1].headers()["if-none-match"], "*");
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let refused = |change: fn(&mut BackendConfig), word: &str| {
        let mut config = config();
        change(&mut config);
        let error = crate::open(&config).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    };
    refused(|c| c.url = "s3://".into(), "url");
    refused(|c| c.url = "s3://user:hunter2@bucket/p".into(), "url");
    refused(|c| c.url = "s3://bucket/../p".into(), "key");
    refused(|c| c.secret_key = None, "secret_key");
    refused(|c| c.endpoint = Some("http://minio.example:9000".into()), "allow_http");
    refused(|c| c.endpoint = Some("ftp://minio".into()), "endpoint");
    refused(|c| c.endpoint = Some("minio:9000".into()), "endpoint");
    for url in ["s3://bucket", "s3://bucket/", "minio://bucket/a/b/"] {
        let config = BackendConfig { endpoint: Some("http://127.0.0.1:9".into()), ..config() };
        let backend = crate::open(&BackendConfig { url: url.into(), ..config }).unwrap();
        assert_eq!(backend.kind(), Kind::S3);
        assert!(!format!("{backend:?}").contains("secret"));
    }
}

#[test]
fn a_refusal_bears_the_servers_own_name_of_the_request() {
    let said = "<Error><Code>InternalError</Code><RequestId>in-the-body</RequestId></Error>";
    let mut headers = HeaderMap::new();
    let name = |headers: &HeaderMap, said: &str| {
        let error = Error::new(crate::ErrorKind::Unavailable, Class::Transient, "t", "")
            .because(refusal(500, headers, said).unwrap());
        error.request_id().map(str::to_owned)
    };
    assert_eq!(name(&headers, said).as_deref(), Some("in-the-body"));
    assert_eq!(name(&headers, "said"), None);
    headers.insert("x-amz-request-id", "4442587FB7D0A2F9".parse().unwrap());
    assert_eq!(name(&headers, said).as_deref(), Some("4442587FB7D0A2F9"));
    headers.insert("x-amz-request-id", "x".repeat(129).parse().unwrap());
    assert_eq!(name(&headers, said), None);
}
