//! The routes: which path is answered by what.

use std::sync::Arc;
use std::time::Duration;

use akidb::Stats;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::time::timeout;

use crate::failure::{Failure, Result};
use crate::serve::answer::{Answer, blocking, json};
use crate::serve::asked::Asked;
use crate::serve::{Served, auth, breaker, dlq, metrics};
use crate::stats;

/// No answer takes longer; what it began may go on.
const MAX_TIME: Duration = Duration::from_secs(30);

/// The admin routes.
pub(crate) fn admin(served: Arc<Served>) -> Router {
    let guarded = Router::new()
        .route("/admin/stats", get(stats_route))
        .route("/admin/dlq", get(dlq::list))
        .route("/admin/dlq/stats", get(dlq::stats))
        .route("/admin/dlq/retry-all", post(dlq::retry_all))
        .route("/admin/dlq/{id}", get(dlq::show).delete(dlq::drop_one))
        .route("/admin/dlq/{id}/retry", post(dlq::retry))
        .route("/admin/breaker", get(breaker::show))
        .route("/admin/breaker/reset", post(breaker::reset))
        .route("/admin/breaker/open", post(breaker::open))
        .route("/admin/breaker/close", post(breaker::close))
        .route_layer(from_fn_with_state(Arc::clone(&served), auth::guard));
    let open = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz));
    with_manners(guarded.merge(open)).with_state(served)
}

/// The metrics, on an address of their own.
pub(crate) fn metrics(served: Arc<Served>) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics_route))
        .route_layer(from_fn_with_state(Arc::clone(&served), auth::guard));
    with_manners(guarded).with_state(served)
}

/// What holds for every route: JSON for what is not there, and an end to every wait.
fn with_manners(routes: Router<Arc<Served>>) -> Router<Arc<Served>> {
    routes.fallback(no_route).method_not_allowed_fallback(no_method).layer(from_fn(in_time))
}

async fn in_time(request: Request, next: Next) -> Response {
    match timeout(MAX_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Failure::too_late(format!("no answer within {} s; what was begun may go on", MAX_TIME.as_secs()))
                .into_response()
        }
    }
}

async fn no_route(method: Method, uri: Uri) -> Failure {
    Failure::no_route(format!("there is no {method} {}", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> Failure {
    Failure::no_method(format!("{} does not take {method}", uri.path()))
}

/// The process answers: that is all.
async fn livez() -> Json<serde_json::Value> {
    Json(json!({ "live": true }))
}

/// Whether writes are taken. An open breaker does not matter here: writes and searches go on without their backends.
async fn readyz(State(served): State<Arc<Served>>) -> Answer {
    let look = |served: &Served| {
        ready(&served.db.stats()?)?;
        Ok(json(json!({ "ready": true })))
    };
    blocking(served, look).await
}

fn ready(stats: &Stats) -> Result<()> {
    if let Some(poisoned) = &stats.poisoned {
        return Err(Failure::not_ready(format!("writes have ended: {poisoned}"))
            .help("restart the process: reopening the database is the repair"));
    }
    match &stats.held_back_by {
        Some(held) if held.starts_with("min_free_disk") => {
            Err(Failure::not_ready(format!("the disk is full: {held}"))
                .help("make room; writes go on by themselves"))
        }
        _ => Ok(()),
    }
}

/// What `akidb stats --json` prints.
async fn stats_route(State(served): State<Arc<Served>>, uri: Uri) -> Answer {
    Asked::of_query(&uri)?.nothing_else("nothing")?;
    blocking(served, |served| Ok(json(stats::figures(&served.db)?))).await
}

async fn metrics_route(State(served): State<Arc<Served>>) -> Answer {
    let text = |served: &Served| {
        let text = metrics::text(&metrics::all(&served.db)?);
        Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
    };
    blocking(served, text).await
}

#[cfg(test)]
mod tests {
    use akidb::Db;

    use super::*;

    #[test]
    fn poison_and_a_full_disk_are_not_ready_and_other_bounds_are() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        let mut stats = db.stats().unwrap();
        assert!(ready(&stats).is_ok());
        stats.held_back_by = Some("max_pending_bytes: a backend is behind".to_owned());
        assert!(ready(&stats).is_ok(), "an outage of a backend takes nobody out of service");
        stats.held_back_by = Some("min_free_disk: 1 byte free".to_owned());
        assert!(ready(&stats).unwrap_err().to_string().contains("1 byte free"));
        stats.poisoned = Some("a sync of the log failed".to_owned());
        let refused = ready(&stats).unwrap_err();
        assert!(
            refused.to_string().contains("a sync of the log failed")
                && refused.to_string().contains("restart")
        );
    }
}
