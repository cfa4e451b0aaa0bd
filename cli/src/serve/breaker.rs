//! The routes of the circuit breakers.

use std::sync::Arc;

use akidb::{Backends, CallKind};
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use serde_json::json;

use crate::letters;
use crate::serve::Served;
use crate::serve::answer::{Answer, blocking, json};
use crate::serve::asked::Asked;

/// What is done to breakers.
type Turn = fn(&Backends<'_>, Option<&str>, Option<CallKind>) -> akidb::Result<u64>;

/// `GET /admin/breaker`.
pub(crate) async fn show(State(served): State<Arc<Served>>, uri: Uri) -> Answer {
    Asked::of_query(&uri)?.nothing_else("nothing")?;
    Ok(json(json!({ "breakers": served.db.backends().breakers() })))
}

/// `POST /admin/breaker/reset`.
pub(crate) async fn reset(State(served): State<Arc<Served>>, uri: Uri, body: Body) -> Answer {
    turn(served, uri, body, |all, backend, kind| all.reset_breaker(backend, kind)).await
}

/// `POST /admin/breaker/open`.
pub(crate) async fn open(State(served): State<Arc<Served>>, uri: Uri, body: Body) -> Answer {
    turn(served, uri, body, |all, backend, kind| all.open_breaker(backend, kind)).await
}

/// `POST /admin/breaker/close`.
pub(crate) async fn close(State(served): State<Arc<Served>>, uri: Uri, body: Body) -> Answer {
    turn(served, uri, body, |all, backend, kind| all.close_breaker(backend, kind)).await
}

async fn turn(served: Arc<Served>, uri: Uri, body: Body, turn: Turn) -> Answer {
    let mut asked = Asked::of(&uri, body).await?;
    let backend = asked.text("backend");
    let kind = asked.text("kind").map(|kind| letters::kind(&kind)).transpose()?;
    asked.nothing_else("backend, kind")?;
    blocking(served, move |served| {
        let backends = served.db.backends();
        let changed = turn(&backends, backend.as_deref(), kind)?;
        Ok(json(json!({ "changed": changed, "breakers": backends.breakers() })))
    })
    .await
}
