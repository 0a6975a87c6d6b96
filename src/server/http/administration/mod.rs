//! The administration API: users by HTTP, on a port of its own and behind tokens of its own.

mod guard;
pub mod openapi;
mod problem;
mod request;
mod users;

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    middleware,
    routing::{get, post},
};

use self::problem::Problem;
use super::{Auth, Tracing, routes::Routes};
use crate::server::admin_key::LiveAdminKey;

/// What the administration endpoints work with.
#[derive(Debug)]
pub struct Administration {
    /// What the public endpoints work with.
    pub auth: Arc<Auth>,
    /// The key that lets callers in.
    pub key: Arc<LiveAdminKey>,
}

/// The administration endpoints.
pub fn router(administration: Arc<Administration>, tracing: Option<Tracing>) -> Router {
    let guard = middleware::from_fn_with_state(Arc::clone(&administration), guard::guard);
    Routes::new()
        .route("/admin/users", get(users::list).post(users::create))
        .route("/admin/users/{id}", get(users::get).patch(users::change).delete(users::delete))
        .route("/admin/users/{id}/revoke-tokens", post(users::revoke_tokens))
        .route("/admin/users/{id}/unlock", post(users::unlock))
        .all(|router| router.route_layer(guard))
        .route("/openapi.json", get(openapi::document))
        .all(|router| {
            router
                .method_not_allowed_fallback(|| async {
                    // The `Allow` header comes from the router.
                    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this resource has no such method")
                })
                .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is no such resource") })
        })
        .finish(administration, tracing)
}
