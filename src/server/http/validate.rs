//! `/validate`: a bearer token for its claims. Never waits for the database.

use std::{sync::Arc, time::Instant};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{
        HeaderMap, HeaderValue, Request, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};

use super::{
    Auth, BodyRefused, body, challenge, credentials,
    openapi::{BadToken, BeforeAnyEndpoint, BodyRefusals, GoodToken, GoodTokenInHeaders},
    unavailable,
    verdicts::Verdict,
};
use crate::server::{
    config::InvalidTokenStatus,
    keys::unix_now,
    metrics::{Endpoint, ValidationOutcome},
    tokens::TokenFault,
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

impl ValidateError {
    fn outcome(self) -> ValidationOutcome {
        match self {
            Self::MissingCredentials => ValidationOutcome::MissingCredentials,
            Self::NotAuthorized(TokenFault::Expired) => ValidationOutcome::Expired,
            Self::NotAuthorized(TokenFault::NotYetValid) => ValidationOutcome::NotYetValid,
            Self::NotAuthorized(TokenFault::BadSignature) => ValidationOutcome::BadSignature,
            Self::NotAuthorized(TokenFault::UnknownKey) => ValidationOutcome::UnknownKey,
            Self::NotAuthorized(TokenFault::Malformed) => ValidationOutcome::Malformed,
            Self::NotAuthorized(TokenFault::Foreign) => ValidationOutcome::Foreign,
            Self::NotAuthorized(TokenFault::Revoked) => ValidationOutcome::Revoked,
            Self::RevocationsUnknown => ValidationOutcome::RevocationsUnknown,
            Self::Body(_) => ValidationOutcome::BodyRefused,
        }
    }

    pub(super) fn response(self, invalid_token: InvalidTokenStatus) -> Response {
        match self {
            Self::MissingCredentials => challenge(StatusCode::UNAUTHORIZED, CHALLENGE, "Missing credentials"),
            Self::NotAuthorized(fault) => {
                let status = match invalid_token {
                    InvalidTokenStatus::Forbidden => StatusCode::FORBIDDEN,
                    InvalidTokenStatus::Unauthorized => StatusCode::UNAUTHORIZED,
                };
                challenge(status, INVALID_TOKEN, format!("Not authorized: {fault}"))
            }
            Self::RevocationsUnknown => unavailable("Revocations unknown, try again"),
            Self::Body(refused) => refused.into_response(),
        }
    }
}

#[utoipa::path(
    post,
    path = "/validate",
    tag = "tokens",
    operation_id = "validate",
    summary = "A token for its claims",
    security(("bearer" = [])),
    responses(GoodToken, BadToken, BodyRefusals, BeforeAnyEndpoint)
)]
/// Answers 200 with the claims as JSON, and in headers whom they name; 401 without a bearer token;
/// 403, or 401 if so configured, for one that does not verify or has been revoked; 503 where that is
/// not known and must be; 408 and 413 for bodies.
pub(super) async fn validate(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    respond(&auth, request, |claims| {
        let mut response = Response::new(Body::from(claims));
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        response
    })
    .await
}

#[utoipa::path(
    post,
    path = "/validate/{path}",
    tag = "tokens",
    operation_id = "forwardAuth",
    summary = "A token for whom it names, in headers alone",
    description = "For proxies that ask before they let a request through, with its path below this one's.",
    params(("path" = String, Path, description = "Any path, slashes included; it says nothing here")),
    security(("bearer" = [])),
    responses(GoodTokenInHeaders, BadToken, BodyRefusals, BeforeAnyEndpoint)
)]
/// Answers as [`validate`] does, but 200 has headers only: for proxies, which ask with the path of the
/// request they hold below this one's and have no use for a body. That path says nothing here.
pub(super) async fn forward_auth(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    respond(&auth, request, |_| Response::new(Body::empty())).await
}

async fn respond(auth: &Auth, request: Request<Body>, good: impl FnOnce(Bytes) -> Response) -> Response {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    let verdict = match body::discard(body).await {
        Ok(()) => verified(auth, &head.headers).await,
        Err(refused) => Err(ValidateError::Body(refused)),
    };
    auth.metrics
        .validated(verdict.as_ref().map_or_else(|error| error.outcome(), |_| ValidationOutcome::Accepted));
    let mut response = match verdict {
        Ok(verdict) => {
            let mut response = good(verdict.token.claims.clone());
            response.headers_mut().extend(verdict.names.clone());
            response
        }
        Err(error) => error.response(auth.invalid_token_status),
    };
    // A verdict that is kept outlives the token's end.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    auth.metrics.answered(Endpoint::Validate, response.status().as_u16(), start.elapsed());
    response
}

/// The bearer token, when it is good.
pub(super) async fn verified(auth: &Auth, headers: &HeaderMap) -> Result<Arc<Verdict>, ValidateError> {
    let token = credentials::bearer(headers).ok_or(ValidateError::MissingCredentials)?;
    let verify = || auth.verdicts.verify(&auth.keys.ring(), &auth.terms, token, unix_now(), &auth.metrics);
    let verdict = match verify() {
        // Another pod may sign with a key that has not reached this one's loaded ring.
        Err(TokenFault::UnknownKey) if auth.keys.look_for_unknown_key().await => verify(),
        verdict => verdict,
    };
    let verdict = verdict.map_err(ValidateError::NotAuthorized)?;
    if auth.revocations.ends(&verdict.token.identity) {
        return Err(ValidateError::NotAuthorized(TokenFault::Revoked));
    }
    if auth.revocations.is_too_old() {
        return Err(ValidateError::RevocationsUnknown);
    }
    Ok(verdict)
}
