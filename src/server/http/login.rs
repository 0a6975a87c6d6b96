//! `/login`: e-mail and password by HTTP Basic for a token.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::State,
    http::{
        HeaderValue, Request, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};

use super::{
    Auth, BodyRefused,
    audit::Attempt,
    authentication::{AuthenticationError, authenticate},
    body, credentials,
    openapi::{BeforeAnyEndpoint, BodyRefusals, CredentialsRefusals},
    text,
};
use crate::server::{
    keys::unix_now,
    metrics::{AttemptOutcome, Endpoint, Event},
    tokens::{self, SignError, Subject},
};

/// Why no token is answered.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<BodyRefused> for LoginError {
    fn from(refused: BodyRefused) -> Self {
        Self::Authentication(refused.into())
    }
}

impl LoginError {
    fn outcome(&self) -> AttemptOutcome {
        match self {
            Self::Authentication(error) => error.outcome(),
            Self::Sign(_) => AttemptOutcome::Internal,
        }
    }
}

impl IntoResponse for LoginError {
    fn into_response(self) -> Response {
        match self {
            Self::Authentication(error) => error.into_response(),
            Self::Sign(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "Token could not be signed"),
        }
    }
}

#[utoipa::path(
    post,
    path = "/login",
    tag = "tokens",
    operation_id = "login",
    summary = "E-mail and password for a token",
    description = "The answer is the bare token, to be sent to /validate and to whatever asks it.",
    security(("basic" = [])),
    responses(
        (status = 200, description = "The token: a JSON Web Token, signed as its header says", body = String,
            headers(("Cache-Control" = String, description = "no-store"))),
        (status = 500, description = "The token could not be signed", body = String),
        CredentialsRefusals,
        BodyRefusals,
        BeforeAnyEndpoint
    )
)]
/// Answers 200 with the bare token; 401 for missing or wrong credentials; 429 with `Retry-After`
/// after too many of them, before anything is hashed; 503 with `Retry-After` when the hashing queue or
/// the database cannot answer in time; 408 and 413 for bodies.
pub(super) async fn login(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let start = Instant::now();
    let mut attempt = Attempt::begin(Event::Login, &auth.metrics, request.headers());
    let answer = answer(&auth, request, &mut attempt).await;
    let outcome = answer.as_ref().map_or_else(LoginError::outcome, |_| AttemptOutcome::Accepted);
    attempt.end(outcome, answer.as_ref().err());
    let mut response =
        answer.map_or_else(IntoResponse::into_response, |token| Response::new(Body::from(token)));
    response.headers_mut().insert(CONTENT_TYPE, super::PLAIN);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    auth.metrics.answered(Endpoint::Login, response.status().as_u16(), start.elapsed());
    response
}

async fn answer(
    auth: &Arc<Auth>,
    request: Request<Body>,
    attempt: &mut Attempt<'_>,
) -> Result<String, LoginError> {
    let (head, body) = request.into_parts();
    body::discard(body).await?;
    let given = credentials::basic(&head.headers).ok_or(AuthenticationError::MissingCredentials)?;
    let user = authenticate(auth, &head, given, &mut attempt.user_id).await?;
    let subject =
        Subject { id: user.id, username: &user.email, admin: user.admin, generation: user.generation };
    Ok(tokens::issue(&auth.keys.ring(), &auth.terms, &subject, unix_now())?)
}
