//! The endpoints: one file for each.

pub mod administration;
mod audit;
mod authentication;
mod body;
mod credentials;
mod identity;
mod jwks;
mod login;
mod logout;
pub mod openapi;
pub mod ops;
mod password;
mod routes;
mod spans;
mod trace_context;
mod validate;
mod verdicts;

use std::sync::Arc;

use axum::{
    Router,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::{any, get, post},
};

use self::routes::Routes;
pub use self::spans::Tracing;
use super::{
    config::{InvalidTokenStatus, PasswordPolicy},
    keys::LiveKeys,
    limiter::Limiter,
    metrics::Metrics,
    passwords::{Floor, HashingPool},
    revocation::Revocations,
    store::{Store, StoreError},
    tokens::Terms,
};
use crate::contract::DatabaseFault;

pub use self::verdicts::Verdicts;

/// What the public endpoints work with.
#[derive(Debug)]
pub struct Auth {
    /// The keys.
    pub keys: Arc<LiveKeys>,
    /// What tokens say.
    pub terms: Terms,
    /// The tokens that verified lately.
    pub verdicts: Verdicts,
    /// The users.
    pub store: Arc<Store>,
    /// Which logins may be tried.
    pub limiter: Arc<Limiter>,
    /// The tokens that have ended.
    pub revocations: Arc<Revocations>,
    /// Which stored passwords are accepted.
    pub passwords: PasswordPolicy,
    /// The status of a token that does not verify.
    pub invalid_token_status: InvalidTokenStatus,
    /// Where passwords are computed.
    pub pool: Arc<HashingPool>,
    /// Least time of a refusal.
    pub floor: Arc<Floor>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The public endpoints. `/login` and `/validate` take any method, and a slash at the end, since callers
/// of the service that this one replaces use both, and proxies ask with the method of the request they
/// hold. Paths are compared as they come: nothing below `/validate/` leads to another endpoint.
pub fn public(auth: Arc<Auth>, tracing: Option<Tracing>) -> Router {
    Routes::new()
        .route("/login", any(login::login))
        .route("/login/", any(login::login))
        .route("/validate", any(validate::validate))
        .route("/validate/", any(validate::validate))
        .route("/validate/{*path}", any(validate::forward_auth))
        .route("/logout", post(logout::logout))
        .route("/password", post(password::password))
        .route("/.well-known/jwks.json", get(jwks::jwks))
        .route("/openapi.json", get(openapi::document))
        .all(|router| {
            router
                .method_not_allowed_fallback(method_not_allowed)
                .fallback(|| async { text(StatusCode::NOT_FOUND, "Not found") })
        })
        .finish(auth, tracing)
}

/// E-mail and password of an `Authorization` header.
#[cfg(any(fuzzing, test))]
pub(super) fn basic_credentials(headers: &axum::http::HeaderMap) -> Option<(String, String)> {
    credentials::basic(headers).map(|basic| (basic.email, basic.password))
}

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A plain text without a newline at its end.
fn text(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}

/// 405; the `Allow` header comes from the router.
async fn method_not_allowed() -> Response {
    text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

/// A plain text with the challenge that RFC 9110 §11.6.1 asks for.
fn challenge(status: StatusCode, challenge: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let mut response = text(status, body);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

/// 503: try again in a moment.
pub(super) fn unavailable(body: &'static str) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, body);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// What could not be written: for now, or because the account may not or the tables are not there.
fn not_written(auth: &Auth, error: &StoreError) -> Response {
    auth.store.note_refused_write(error);
    if is_never_written(auth, error) {
        text(StatusCode::NOT_IMPLEMENTED, "Not available: the service may not write to its database")
    } else {
        unavailable("Database unavailable, try again")
    }
}

/// Whether the database takes such a thing at no time, for want of a right or of our tables.
fn is_never_written(auth: &Auth, error: &StoreError) -> bool {
    match error.fault {
        DatabaseFault::GrantMissing => true,
        DatabaseFault::SchemaMissing => !auth.store.has_ours(),
        _ => false,
    }
}

/// A body that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum BodyRefused {
    #[error("Request body too large")]
    TooLarge,
    #[error("Request body too slow")]
    TooSlow,
}

impl IntoResponse for BodyRefused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
        };
        text(status, self.to_string())
    }
}
