//! `/login`: e-mail and password by HTTP Basic for a token.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{ConnectInfo, State},
    http::{
        HeaderValue, Request, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};

use super::{
    Auth, BodyRefused,
    audit::Attempt,
    body, challenge, credentials,
    openapi::{BeforeAnyEndpoint, BodyRefusals},
    text, unavailable,
};
use crate::server::{
    keys::unix_now,
    limiter::{self, Refusal},
    metrics::{Endpoint, LoginOutcome},
    passwords::{Busy, Verification},
    store::{StoreError, UserRow},
    tokens::{self, SignError, Subject},
};

const CHALLENGE: &str = r#"Basic realm="authservice", charset="UTF-8""#;

/// The table of answers that are no token.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error("missing credentials")]
    MissingCredentials,
    #[error("invalid credentials")]
    InvalidCredentials,
    #[error("request body refused")]
    Body(BodyRefused),
    #[error("locked out")]
    LockedOut(Duration),
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

impl From<Refusal> for LoginError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Locked(left) => Self::LockedOut(left),
            Refusal::Crowded => Self::Busy(Busy),
            Refusal::Database(error) => Self::Database(error),
        }
    }
}

impl LoginError {
    fn outcome(&self) -> LoginOutcome {
        match self {
            Self::MissingCredentials => LoginOutcome::MissingCredentials,
            Self::InvalidCredentials => LoginOutcome::Refused,
            Self::LockedOut(_) => LoginOutcome::LockedOut,
            Self::Body(_) => LoginOutcome::BodyRefused,
            Self::Busy(_) => LoginOutcome::Busy,
            Self::Database(_) => LoginOutcome::Database,
            Self::Sign(_) => LoginOutcome::Signing,
        }
    }
}

impl IntoResponse for LoginError {
    fn into_response(self) -> Response {
        match self {
            Self::MissingCredentials => challenge(StatusCode::UNAUTHORIZED, CHALLENGE, "Missing credentials"),
            Self::InvalidCredentials => challenge(StatusCode::UNAUTHORIZED, CHALLENGE, "Invalid credentials"),
            Self::Body(refused) => refused.into_response(),
            Self::LockedOut(left) => locked_out(left),
            Self::Busy(Busy) => unavailable("Too many logins, try again"),
            Self::Database(_) => unavailable("Database unavailable, try again"),
            Self::Sign(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "Token could not be signed"),
        }
    }
}

/// 429 (RFC 6585 §4), the same for every account: try again when the lock has ended.
fn locked_out(left: Duration) -> Response {
    let mut response = text(StatusCode::TOO_MANY_REQUESTS, "Too many failed logins, try again later");
    // Rounded up: a client that comes back on time is let in.
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
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
        (status = 401, description = "Missing credentials, or Invalid credentials", body = String,
            headers(("WWW-Authenticate" = String, description = "Basic, RFC 7617"))),
        (status = 429, description = "The account or the source is locked after too many failed logins",
            body = String, headers(("Retry-After" = u64, description = "Seconds until the lock ends"))),
        (status = 500, description = "The token could not be signed", body = String),
        BodyRefusals,
        BeforeAnyEndpoint
    )
)]
/// Answers 200 with the bare token; 401 for missing or wrong credentials; 429 with `Retry-After`
/// after too many of them, before anything is hashed; 503 with `Retry-After` when the hashing queue or
/// the database cannot answer in time; 408 and 413 for bodies.
pub(super) async fn login(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let start = Instant::now();
    let mut attempt = Attempt::begin(&auth.metrics, request.headers());
    let mut response = match answer(&auth, request, &mut attempt).await {
        Ok(token) => {
            attempt.outcome = LoginOutcome::Accepted;
            Response::new(Body::from(token))
        }
        Err(error) => {
            attempt.outcome = error.outcome();
            if matches!(error, LoginError::Busy(_) | LoginError::Database(_) | LoginError::Sign(_)) {
                attempt.error = Some(error.to_string());
            }
            error.into_response()
        }
    };
    drop(attempt);
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
    let given = credentials::basic(&head.headers).ok_or(LoginError::MissingCredentials)?;
    // What cannot be hashed in time need not burden the database.
    if auth.pool.is_full() {
        return Err(Busy.into());
    }
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let source = auth.limiter.source(peer, &head.headers);
    let guess = auth.limiter.admit(&given.email, source).await?;
    let user = auth.store.find(&given.email).await?;
    attempt.user_id = user.as_ref().map(|user| user.id);
    // On a task of its own: a guess that is hashed counts even when whoever made it hangs up.
    let verified = tokio::spawn(verify(Arc::clone(auth), guess, user, given.password));
    let user = verified.await.unwrap_or(Err(Busy.into()))?.ok_or(LoginError::InvalidCredentials)?;
    let subject = Subject { id: user.id, username: &user.email, admin: user.admin };
    Ok(tokens::issue(&auth.keys.ring(), &auth.terms, &subject, unix_now())?)
}

/// The user, when the password is theirs. A refusal is not told before the floor, which runs from
/// the grant of the permit and is waited out after it is returned.
async fn verify(
    auth: Arc<Auth>,
    guess: limiter::Attempt,
    user: Option<UserRow>,
    password: String,
) -> Result<Option<UserRow>, LoginError> {
    let stored = user.as_ref().map(|user| user.password.as_str());
    let verification = Verification::against(stored, auth.passwords, auth.pool.most_kib());
    let unusable = verification.unusable();
    let memory_kib = verification.memory_kib();
    let work = move || (verification.run(password.as_bytes()), user);
    let granted = auth.pool.run(memory_kib, work).await?;
    auth.metrics.waited_for_hashing(granted.waited);
    let (outcome, user) = granted.result;
    auth.floor.record(outcome.spent.0, outcome.spent.1);
    if let (Some(unusable), Some(user)) = (unusable, &user) {
        auth.metrics.unverifiable(unusable);
        tracing::warn!(
            user_id = user.id,
            stored = unusable.name(),
            "stored password can be verified by nobody"
        );
    }
    let user_id = user.as_ref().map(|user| user.id);
    let Some(user) = user.filter(|_| outcome.matches) else {
        guess.failed(user_id).await;
        tokio::time::sleep_until((granted.at + auth.floor.current()).into()).await;
        return Ok(None);
    };
    guess.succeeded().await;
    if let Some(new) = outcome.rehashed {
        rehash(&auth, &user, &new).await;
    }
    Ok(Some(user))
}

/// A login never fails because its row cannot be written.
async fn rehash(auth: &Auth, user: &UserRow, new: &str) {
    match auth.store.rehash(user, new).await {
        Ok(true) => {
            auth.metrics.rehashed();
            tracing::info!(user_id = user.id, "stored password replaced by its hash");
        }
        Ok(false) => tracing::info!(user_id = user.id, "stored password changed meanwhile; left as it is"),
        Err(error) => {
            tracing::warn!(user_id = user.id, %error, "stored password could not be replaced by its hash");
        }
    }
}
