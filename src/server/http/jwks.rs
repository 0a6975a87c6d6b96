//! `/.well-known/jwks.json`: the public keys, for those who verify tokens themselves.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, header::CACHE_CONTROL},
};
use jsonwebtoken::jwk::JwkSet;

use super::Auth;
use crate::server::keys::unix_now;

/// A key is announced for three minutes before it signs: who asks each minute never meets a token
/// whose key is unknown.
const CACHING: (HeaderName, &str) = (CACHE_CONTROL, "public, max-age=60");

/// Answers a JWK set (RFC 7517 §5); an empty one while every key is a shared secret.
pub(super) async fn jwks(State(auth): State<Arc<Auth>>) -> ([(HeaderName, &'static str); 1], Json<JwkSet>) {
    ([CACHING], Json(auth.keys.ring().public_keys_at(unix_now())))
}
