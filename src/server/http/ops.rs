//! The operations endpoints: `/livez`, `/readyz`, `/metrics`, `/status`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
    routing::get,
};

use super::{method_not_allowed, text};
use crate::{
    contract::ServerStatus,
    server::{
        health::Health,
        keys::{LiveKeys, unix_now},
        metrics::Exposition,
    },
};

/// The content type that Prometheus expects of this text.
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What the operations endpoints tell about.
#[derive(Debug)]
pub struct Ops {
    /// Readiness and the database.
    pub health: Arc<Health>,
    /// The keys.
    pub keys: Arc<LiveKeys>,
    /// The metrics.
    pub exposition: Exposition,
}

/// The operations endpoints.
pub fn router(ops: Arc<Ops>) -> Router {
    Router::new()
        .route("/livez", get(|| async { text(StatusCode::OK, "ok") }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(|| async { text(StatusCode::NOT_FOUND, "Not found") })
        .with_state(ops)
}

async fn readyz(State(ops): State<Arc<Ops>>) -> Response {
    match ops.health.unready_because() {
        None => text(StatusCode::OK, "ok"),
        Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

async fn metrics(State(ops): State<Arc<Ops>>) -> Response {
    match ops.exposition.text() {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body);
            response.headers_mut().insert(CONTENT_TYPE, OPENMETRICS);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn status(State(ops): State<Arc<Ops>>) -> Json<ServerStatus> {
    let ring = ops.keys.ring();
    let now = unix_now();
    Json(ServerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        key_ids: ring.ids_at(now),
        signing_key_id: ring.signer_at(now).map(|key| key.id().to_owned()).unwrap_or_default(),
        database: (*ops.health.database()).clone(),
    })
}
