//! Answers: JSON objects, and failures as the same objects that `--json` prints, under the status that fits.

use std::sync::Arc;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::failure::Failure;
use crate::serve::Served;

/// What a handler ends with.
pub(crate) type Answer = Result<Response, Failure>;

/// The status that says about the same as the failure's kind.
fn status_of(kind: &str) -> StatusCode {
    match kind {
        "Invalid" => StatusCode::BAD_REQUEST,
        "Unauthorized" => StatusCode::UNAUTHORIZED,
        "Forbidden" => StatusCode::FORBIDDEN,
        "NotFound" => StatusCode::NOT_FOUND,
        "NotAllowed" => StatusCode::METHOD_NOT_ALLOWED,
        "Conflict" | "Locked" | "Fenced" => StatusCode::CONFLICT,
        "TooLarge" => StatusCode::PAYLOAD_TOO_LARGE,
        "Full" | "Unavailable" | "Poisoned" | "Closed" | "NotReady" => StatusCode::SERVICE_UNAVAILABLE,
        "NoSpace" => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = status_of(self.kind());
        let mut response = (status, [(CONTENT_TYPE, "application/json")], self.json() + "\n").into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON object under 200.
pub(crate) fn json(value: Value) -> Response {
    Json(value).into_response()
}

/// Runs what may block (locks, disk, a walk over rows) off the server's thread.
pub(crate) async fn blocking(
    served: Arc<Served>,
    work: impl FnOnce(&Served) -> Result<Response, Failure> + Send + 'static,
) -> Answer {
    match tokio::task::spawn_blocking(move || work(&served)).await {
        Ok(answer) => answer,
        Err(panicked) => Err(Failure::broken_promise(format!("a request failed: {panicked}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_status_of_its_kind_and_tells_its_code() {
        assert_eq!(Failure::usage("x").into_response().status(), 400);
        assert_eq!(Failure::not_found("x").into_response().status(), 404);
        assert_eq!(Failure::broken_promise("x").into_response().status(), 500);
        let refused = Failure::unauthorized("x").into_response();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()[WWW_AUTHENTICATE]),
            (401, &"Bearer".parse().unwrap())
        );
    }
}
