//! `/.well-known/jwks.json`: the public keys, for those who verify tokens themselves.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, header::CACHE_CONTROL},
};
use jsonwebtoken::jwk::JwkSet;

use super::{Auth, openapi::BeforeAnyEndpoint};
use crate::server::keys::unix_now;

/// A key is announced for three minutes before it signs: who asks each minute never meets a token
/// whose key is unknown.
const CACHING: (HeaderName, &str) = (CACHE_CONTROL, "public, max-age=60");

#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    tag = "document",
    operation_id = "jwks",
    summary = "The public keys",
    description = "Enough to verify tokens without asking. Empty while every key is a shared secret.",
    responses(
        (status = 200, description = "A JWK set, RFC 7517", body = Object, content_type = "application/json",
            headers(("Cache-Control" = String, description = "public, max-age=60"))),
        (status = 405, description = "A method other than GET and HEAD", body = String,
            headers(("Allow" = String, description = "GET,HEAD"))),
        BeforeAnyEndpoint
    )
)]
/// Answers a JWK set (RFC 7517 §5); an empty one while every key is a shared secret.
pub(super) async fn jwks(State(auth): State<Arc<Auth>>) -> ([(HeaderName, &'static str); 1], Json<JwkSet>) {
    ([CACHING], Json(auth.keys.ring().public_keys_at(unix_now())))
}
