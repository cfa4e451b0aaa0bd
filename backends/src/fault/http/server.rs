//! The part of S3 that the client speaks, over a store in memory: objects, conditions, ranges, lists, multipart.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::client::{HttpError, HttpRequest, HttpResponse, HttpResponseBody};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode};
use reqwest::header::{HeaderMap, HeaderValue};

use super::answer;

/// A request, read whole.
pub(super) struct Asked {
    method: String,
    key: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    pub(super) async fn read(request: HttpRequest) -> Result<Self, HttpError> {
        let (head, body) = request.into_parts();
        // The only way to read a request's body without another crate: as if it were an answer's.
        let body = HttpResponseBody::new(body).bytes().await?;
        let path = head.uri.path().trim_start_matches('/');
        let key = path.split_once('/').map_or("", |(_, key)| key).to_owned();
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
        let query = query.into_owned().collect();
        Ok(Self { method: head.method.to_string(), key, query, headers: head.headers, body })
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `bytes=a-b`, as the only form that is asked here.
    fn range(&self) -> Option<Range<u64>> {
        let (from, to) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some(from.parse().ok()?..to.parse::<u64>().ok()? + 1)
    }
}

pub(super) struct Server {
    store: Arc<InMemory>,
}

impl Server {
    pub(super) fn over(store: Arc<InMemory>) -> Self {
        Self { store }
    }

    pub(super) async fn answer(&self, asked: Asked) -> Result<HttpResponse, HttpError> {
        let done = match asked.method.as_str() {
            "GET" if asked.query("list-type").is_some() => self.list(&asked).await,
            "GET" | "HEAD" => self.get(&asked).await,
            "PUT" if asked.query("uploadId").is_some() => self.put_part(&asked).await,
            "PUT" => self.put(&asked).await,
            "POST" if asked.query("delete").is_some() => self.delete_many(&asked).await,
            "POST" if asked.query("uploads").is_some() => self.begin(&asked).await,
            "POST" => self.complete(&asked).await,
            "DELETE" => self.delete(&asked).await,
            _ => Ok(answer(405, "")),
        };
        Ok(done.unwrap_or_else(|error| refused(&error)))
    }

    async fn get(&self, asked: &Asked) -> object_store::Result<HttpResponse> {
        let range = asked.range();
        let options = GetOptions {
            range: range.clone().map(GetRange::Bounded),
            head: asked.method == "HEAD",
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&Path::from(asked.key.as_str()), options).await?;
        let (meta, given) = (found.meta.clone(), found.range.clone());
        let body = if asked.method == "HEAD" { Bytes::new() } else { found.bytes().await? };
        let mut response = answer(if range.is_some() { 206 } else { 200 }, body);
        let headers = response.headers_mut();
        headers.insert("content-length", HeaderValue::from(given.end - given.start));
        headers.insert("etag", text(meta.e_tag.as_deref().unwrap_or("\"e\"")));
        headers.insert("last-modified", text(&meta.last_modified.to_rfc2822()));
        if range.is_some() {
            let given = format!("bytes {}-{}/{}", given.start, given.end.saturating_sub(1), meta.size);
            headers.insert("content-range", text(&given));
        }
        Ok(response)
    }

    async fn put(&self, asked: &Asked) -> object_store::Result<HttpResponse> {
        let mode = match asked.header("if-none-match") {
            Some(_) => PutMode::Create,
            None => PutMode::Overwrite,
        };
        let path = Path::from(asked.key.as_str());
        self.store.put_opts(&path, asked.body.clone().into(), mode.into()).await?;
        Ok(with_etag(answer(200, "")))
    }

    async fn delete(&self, asked: &Asked) -> object_store::Result<HttpResponse> {
        let path = Path::from(asked.key.as_str());
        match asked.query("uploadId") {
            Some(id) => self.store.abort_multipart(&path, &id.to_owned()).await.map_err(no_such_upload)?,
            None => drop(self.store.delete(&path).await),
        }
        Ok(answer(204, ""))
    }

    async fn delete_many(&self, asked: &Asked) -> object_store::Result<HttpResponse> {
        let said = String::from_utf8_lossy(&asked.body).into_owned();
        let mut body = String::from("<DeleteResult>");
        for rest in said.split("<Key>").skip(1) {
            let key = rest.split('<').next().unwrap_or_default();
            let _ = self.store.delete(&Path::from(key)).await;
            let _ = write!(body, "<Deleted><Key>{key}</Key></Deleted>");
        }
        Ok(answer(200, body + "</DeleteResult>"))
    }

    async fn list(&self, asked: &Asked) -> object_store::Result<HttpResponse> {
        let prefix = asked.query("prefix").unwrap_or_default();
        let all: Vec<_> = self.store.list(Some(&Path::from(prefix))).try_collect().await?;
        let mut body = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
        for meta in all {
            let (key, size, at) = (&meta.location, meta.size, meta.last_modified.to_rfc3339());
            let _ = write!(
                body,
                "<Contents><Key>{key}</Key><LastModified>{at}</LastModified><ETag>e</ETag><Size>{size}</Size></Contents>"
            );
        }
        Ok(answer(200, body + "</ListBucketResult>"))
    }

    async fn begin(&self, asked: &Asked) -> object_store::Result<HttpResponse> {
        let id = self.store.create_multipart(&Path::from(asked.key.as_str())).await?;
        let (open, close) = ("<InitiateMultipartUploadResult>", "</InitiateMultipartUploadResult>");
        Ok(answer(200, format!("{open}<UploadId>{id}</UploadId>{close}")))
    }

    async fn put_part(&self, asked: &Asked) -> object_store::Result<HttpResponse> {
        let (id, index) =
            (asked.query("uploadId"), asked.query("partNumber").and_then(|n| n.parse::<usize>().ok()));
        let (Some(id), Some(number)) = (id, index) else { return Ok(answer(400, "")) };
        let (path, part) = (Path::from(asked.key.as_str()), asked.body.clone().into());
        self.store.put_part(&path, &id.to_owned(), number - 1, part).await.map_err(no_such_upload)?;
        Ok(with_etag(answer(200, "")))
    }

    async fn complete(&self, asked: &Asked) -> object_store::Result<HttpResponse> {
        let Some(id) = asked.query("uploadId") else { return Ok(answer(400, "")) };
        let path = Path::from(asked.key.as_str());
        let parts: Vec<PartId> = Vec::new();
        self.store.complete_multipart(&path, &id.to_owned(), parts).await.map_err(no_such_upload)?;
        Ok(answer(200, "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"))
    }
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("plain text")
}

fn with_etag(mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().insert("etag", HeaderValue::from_static("\"e\""));
    response
}

fn no_such_upload(error: Error) -> Error {
    Error::NotFound { path: "NoSuchUpload".to_owned(), source: Box::new(error) }
}

/// The status of what the store answered.
fn refused(error: &Error) -> HttpResponse {
    match error {
        Error::NotFound { path, .. } if path == "NoSuchUpload" => {
            answer(404, "<Error><Code>NoSuchUpload</Code></Error>")
        }
        Error::NotFound { .. } => answer(404, "<Error><Code>NoSuchKey</Code></Error>"),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => answer(412, ""),
        error => answer(500, error.to_string()),
    }
}
