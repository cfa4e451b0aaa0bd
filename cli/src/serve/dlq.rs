//! The routes of dead letters.

use std::sync::Arc;

use akidb::{DeadLetters, DlqStats, LetterId};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Uri;
use serde_json::json;

use crate::letters;
use crate::serve::Served;
use crate::serve::answer::{Answer, blocking, json};
use crate::serve::asked::Asked;

/// The letters; none where there is no backend to upload to.
fn there(served: &Served) -> Option<&Arc<DeadLetters>> {
    served.db.backends().dead_letters().ok()
}

fn counted(served: &Served) -> DlqStats {
    there(served).map(|letters| letters.stats()).unwrap_or_default()
}

/// `GET /admin/dlq/stats`: exactly four fields.
pub(crate) async fn stats(State(served): State<Arc<Served>>, uri: Uri) -> Answer {
    Asked::of_query(&uri)?.nothing_else("nothing")?;
    blocking(served, |served| Ok(json(letters::stats(&counted(served))))).await
}

/// `GET /admin/dlq`.
pub(crate) async fn list(State(served): State<Arc<Served>>, uri: Uri) -> Answer {
    let mut asked = Asked::of_query(&uri)?;
    let limit = asked.number("limit", letters::LISTED, letters::MAX_LISTED)?;
    let (backend, class, state) = (asked.text("backend"), asked.text("class"), asked.text("state"));
    let which = letters::which(backend, class.as_deref(), state.as_deref())?;
    asked.nothing_else("backend, class, state, limit")?;
    blocking(served, move |served| {
        let listed = there(served).map_or_else(Vec::new, |letters| letters.list(&which, limit));
        Ok(json(letters::listing(&listed, &counted(served))))
    })
    .await
}

/// `GET /admin/dlq/{id}`.
pub(crate) async fn show(State(served): State<Arc<Served>>, Path(id): Path<String>, uri: Uri) -> Answer {
    Asked::of_query(&uri)?.nothing_else("nothing")?;
    let id = letters::id(&id)?;
    blocking(served, move |served| {
        let letter = there(served).and_then(|letters| letters.get(&id)).ok_or_else(|| letters::gone(&id))?;
        Ok(json(serde_json::to_value(letter).map_err(std::io::Error::from)?))
    })
    .await
}

/// `POST /admin/dlq/retry-all`.
pub(crate) async fn retry_all(State(served): State<Arc<Served>>, uri: Uri, body: Body) -> Answer {
    let mut asked = Asked::of(&uri, body).await?;
    let which = letters::which(asked.text("backend"), asked.text("class").as_deref(), None)?;
    asked.nothing_else("backend, class")?;
    blocking(served, move |served| Ok(json(json!({ "asked": served.db.backends().retry_all(&which)? }))))
        .await
}

/// `POST /admin/dlq/{id}/retry`.
pub(crate) async fn retry(
    State(served): State<Arc<Served>>,
    Path(id): Path<String>,
    uri: Uri,
    body: Body,
) -> Answer {
    Asked::of(&uri, body).await?.nothing_else("nothing")?;
    let id = letters::id(&id)?;
    blocking(served, move |served| {
        if there(served).is_none() || !served.db.backends().retry(&id)? {
            return Err(letters::gone(&id));
        }
        Ok(json(json!({ "id": id, "asked": true })))
    })
    .await
}

/// `DELETE /admin/dlq/{id}`.
pub(crate) async fn drop_one(
    State(served): State<Arc<Served>>,
    Path(id): Path<String>,
    uri: Uri,
    body: Body,
) -> Answer {
    let mut asked = Asked::of(&uri, body).await?;
    let forget = asked.flag("forget")?;
    asked.nothing_else("forget")?;
    let id: LetterId = letters::id(&id)?;
    blocking(served, move |served| {
        let backends = served.db.backends();
        if there(served).is_none() || !backends.drop_letter(&id, forget)? {
            return Err(letters::gone(&id));
        }
        Ok(json(json!({ "id": id, "dropped": true })))
    })
    .await
}
