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
    Auth, BodyRefused, body, challenge,
    credentials::{self, Basic},
    text, unavailable,
};
use crate::server::{
    keys::unix_now,
    metrics::Endpoint,
    passwords::{self, Busy},
    store::{StoreError, UserRow},
    tokens::{self, SignError, Subject},
};

const CHALLENGE: &str = r#"Basic realm="authservice", charset="UTF-8""#;

/// The table of answers that are no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    #[error("missing credentials")]
    MissingCredentials,
    #[error("invalid credentials")]
    InvalidCredentials,
    #[error("request body refused")]
    Body(BodyRefused),
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("the database cannot answer: {0}")]
    Database(#[from] StoreError),
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<BodyRefused> for LoginError {
    fn from(refused: BodyRefused) -> Self {
        Self::Body(refused)
    }
}

impl LoginError {
    /// What is not the client's fault is worth a line.
    pub(super) fn log(&self) {
        if matches!(self, Self::Busy(_) | Self::Database(_) | Self::Sign(_)) {
            tracing::warn!(error = %self, "login not served");
        }
    }
}

impl IntoResponse for LoginError {
    fn into_response(self) -> Response {
        match self {
            Self::MissingCredentials => challenge(StatusCode::UNAUTHORIZED, CHALLENGE, "Missing credentials"),
            Self::InvalidCredentials => challenge(StatusCode::UNAUTHORIZED, CHALLENGE, "Invalid credentials"),
            Self::Body(refused) => refused.into_response(),
            Self::Busy(Busy) => unavailable("Too many logins, try again"),
            Self::Database(_) => unavailable("Database unavailable, try again"),
            Self::Sign(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "Token could not be signed"),
        }
    }
}

/// Answers 200 with the bare token; 401 for missing or wrong credentials; 503 with `Retry-After`
/// when the hashing queue or the database cannot answer in time; 408 and 413 for bodies.
pub(super) async fn login(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let start = Instant::now();
    let mut response = match answer(&auth, request).await {
        Ok(token) => Response::new(Body::from(token)),
        Err(error) => {
            error.log();
            error.into_response()
        }
    };
    response.headers_mut().insert(CONTENT_TYPE, super::PLAIN);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    auth.metrics.answered(Endpoint::Login, response.status().as_u16(), start.elapsed());
    response
}

async fn answer(auth: &Auth, request: Request<Body>) -> Result<String, LoginError> {
    let (head, body) = request.into_parts();
    body::discard(body).await?;
    let given = credentials::basic(&head.headers).ok_or(LoginError::MissingCredentials)?;
    let user = authenticate(auth, given).await?;
    let subject =
        Subject { id: user.id, username: &user.email, admin: user.admin, generation: user.generation };
    let token = tokens::issue(&auth.keys.ring(), &auth.terms, &subject, unix_now())?;
    tracing::info!(outcome = "accepted", user_id = user.id, "login");
    Ok(token)
}

/// The user whose e-mail and password these are.
pub(super) async fn authenticate(auth: &Auth, given: Basic) -> Result<UserRow, LoginError> {
    // What cannot be hashed in time need not burden the database.
    if auth.pool.is_full() {
        return Err(Busy.into());
    }
    let user = auth.store.find(&given.email).await?;
    let Some(user) = verify(auth, user, given.password).await? else {
        tracing::info!(outcome = "refused", "login");
        return Err(LoginError::InvalidCredentials);
    };
    Ok(user)
}

/// The user, when the password is theirs and they may log in. A refusal is not told before the floor,
/// which runs from the grant of the permit and is waited out after it is returned.
async fn verify(auth: &Auth, user: Option<UserRow>, password: String) -> Result<Option<UserRow>, LoginError> {
    let policy = auth.passwords;
    let work = move || {
        let outcome =
            passwords::verify(user.as_ref().map(|user| user.password.as_str()), password.as_bytes(), policy);
        (outcome, user)
    };
    let granted = auth.pool.run(work).await?;
    auth.metrics.waited_for_hashing(granted.waited);
    let (outcome, user) = granted.result;
    auth.floor.record(outcome.spent.0, outcome.spent.1);
    let Some(mut user) = user.filter(|user| outcome.matches && !user.disabled) else {
        tokio::time::sleep_until((granted.at + auth.floor.current()).into()).await;
        return Ok(None);
    };
    if let Some(new) = outcome.rehashed {
        rehash(auth, &mut user, new).await;
    }
    Ok(Some(user))
}

/// A login never fails because its row cannot be written.
async fn rehash(auth: &Auth, user: &mut UserRow, new: String) {
    match auth.store.rehash(user, &new).await {
        Ok(true) => {
            user.password = new;
            auth.metrics.rehashed();
            tracing::info!(user_id = user.id, "stored password replaced by its hash");
        }
        Ok(false) => tracing::info!(user_id = user.id, "stored password changed meanwhile; left as it is"),
        Err(error) => {
            tracing::warn!(user_id = user.id, %error, "stored password could not be replaced by its hash");
        }
    }
}
