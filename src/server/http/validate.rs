//! `/validate`: a bearer token for its claims. Never waits for the database.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Request, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};

use super::{Auth, BodyRefused, body, challenge, credentials, unavailable};
use crate::server::{
    keys::unix_now,
    metrics::Endpoint,
    tokens::{self, TokenFault, Verified},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CHALLENGE: &str = r#"Bearer realm="authservice""#;
const INVALID_TOKEN: &str = r#"Bearer realm="authservice", error="invalid_token""#;

/// The table of answers that are no claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValidateError {
    MissingCredentials,
    NotAuthorized(TokenFault),
    RevocationsUnknown,
    Body(BodyRefused),
}

impl IntoResponse for ValidateError {
    fn into_response(self) -> Response {
        match self {
            Self::MissingCredentials => challenge(StatusCode::UNAUTHORIZED, CHALLENGE, "Missing credentials"),
            Self::NotAuthorized(fault) => {
                challenge(StatusCode::FORBIDDEN, INVALID_TOKEN, format!("Not authorized: {fault}"))
            }
            Self::RevocationsUnknown => unavailable("Revocations unknown, try again"),
            Self::Body(refused) => refused.into_response(),
        }
    }
}

/// Answers 200 with the claims as JSON; 401 without a bearer token; 403 for one that does not
/// verify or has been revoked; 503 where that is not known and must be; 408 and 413 for bodies.
pub(super) async fn validate(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    let verdict = match body::discard(body).await {
        Ok(()) => verified(&auth, &head.headers).await,
        Err(refused) => Err(ValidateError::Body(refused)),
    };
    let response = match verdict {
        Ok(Verified { claims, .. }) => {
            let mut response = Response::new(Body::from(claims));
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            response
        }
        Err(error) => error.into_response(),
    };
    auth.metrics.answered(Endpoint::Validate, response.status().as_u16(), start.elapsed());
    response
}

/// The bearer token, when it is good.
pub(super) async fn verified(auth: &Auth, headers: &HeaderMap) -> Result<Verified, ValidateError> {
    let token = credentials::bearer(headers).ok_or(ValidateError::MissingCredentials)?;
    let verify = || tokens::verify(&auth.keys.ring(), &auth.terms, token, unix_now());
    let verdict = match verify() {
        // Another pod may sign with a key that has not reached this one's loaded ring.
        Err(TokenFault::UnknownKey) if auth.keys.look_for_unknown_key().await => verify(),
        verdict => verdict,
    };
    let verified = verdict.map_err(ValidateError::NotAuthorized)?;
    if auth.revocations.ends(&verified.identity) {
        return Err(ValidateError::NotAuthorized(TokenFault::Revoked));
    }
    if auth.revocations.is_too_old() {
        return Err(ValidateError::RevocationsUnknown);
    }
    Ok(verified)
}
