//! The endpoints for the kubelet and for Prometheus: `/livez`, `/readyz`, `/metrics`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};

use super::metrics::Metrics;

/// What the endpoints answer from.
#[derive(Debug, Clone)]
pub struct Ops {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// False while the process leaves. A process that waits for the lease is ready: it is fit to
    /// lead, and a rolling update has to go on.
    pub ready: Arc<AtomicBool>,
}

impl Ops {
    /// Ready from the start.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ready: Arc::new(AtomicBool::new(true)) }
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn readyz(State(ops): State<Ops>) -> (StatusCode, &'static str) {
    if ops.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "leaving")
    }
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    match ops.metrics.encode() {
        Ok(text) => (
            StatusCode::OK,
            [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(CONTENT_TYPE, "text/plain; charset=utf-8")],
            error.to_string(),
        ),
    }
}
