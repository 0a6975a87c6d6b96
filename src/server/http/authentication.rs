//! Who sends Basic credentials: what `/login` and `/password` have in common.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    extract::ConnectInfo,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER, request::Parts},
    response::{IntoResponse, Response},
};

use super::{Auth, BodyRefused, challenge, credentials::Basic, text, unavailable};
use crate::server::{
    limiter::{self, Refusal},
    metrics::AttemptOutcome,
    passwords::{Busy, Verification},
    store::{StoreError, UserRow},
    traces,
};

const CHALLENGE: &str = r#"Basic realm="authservice", charset="UTF-8""#;

/// Why nobody is known to have sent the request.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthenticationError {
    #[error("missing credentials")]
    MissingCredentials,
    #[error("invalid credentials")]
    InvalidCredentials,
    #[error("request body refused")]
    Body(#[from] BodyRefused),
    #[error("locked out")]
    LockedOut(Duration),
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("the database cannot answer: {0}")]
    Database(#[from] StoreError),
}

impl From<Refusal> for AuthenticationError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Locked(left) => Self::LockedOut(left),
            Refusal::Crowded => Self::Busy(Busy),
            Refusal::Database(error) => Self::Database(error),
        }
    }
}

impl AuthenticationError {
    /// The outcome, for log and metrics.
    pub(super) fn outcome(&self) -> AttemptOutcome {
        match self {
            Self::MissingCredentials => AttemptOutcome::MissingCredentials,
            Self::InvalidCredentials => AttemptOutcome::Refused,
            Self::Body(_) => AttemptOutcome::BodyRefused,
            Self::LockedOut(_) => AttemptOutcome::LockedOut,
            Self::Busy(_) => AttemptOutcome::Busy,
            Self::Database(_) => AttemptOutcome::Database,
        }
    }
}

impl IntoResponse for AuthenticationError {
    fn into_response(self) -> Response {
        match self {
            Self::MissingCredentials => challenge(StatusCode::UNAUTHORIZED, CHALLENGE, "Missing credentials"),
            Self::InvalidCredentials => challenge(StatusCode::UNAUTHORIZED, CHALLENGE, "Invalid credentials"),
            Self::Body(refused) => refused.into_response(),
            Self::LockedOut(left) => locked_out(left),
            Self::Busy(Busy) => unavailable("Too many logins, try again"),
            Self::Database(_) => unavailable("Database unavailable, try again"),
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

/// The user whose e-mail and password these are. `user_id` is told as soon as the account is known, also
/// where the password is refused.
///
/// # Errors
/// Wrong credentials, a lock, or no way to tell.
pub(super) async fn authenticate(
    auth: &Arc<Auth>,
    head: &Parts,
    given: Basic,
    user_id: &mut Option<i64>,
) -> Result<UserRow, AuthenticationError> {
    // What cannot be hashed in time need not burden the database.
    if auth.pool.is_full() {
        return Err(Busy.into());
    }
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let source = auth.limiter.source(peer, &head.headers);
    let guess = auth.limiter.admit(&given.email, source).await?;
    let user = auth.store.find(&given.email).await?;
    *user_id = user.as_ref().map(|user| user.id);
    // On a task of its own: a guess that is hashed counts even when whoever made it hangs up.
    let verified = verify(Arc::clone(auth), guess, user, given.password);
    let verified = tokio::spawn(traces::carried(verified));
    verified.await.unwrap_or(Err(Busy.into()))?.ok_or(AuthenticationError::InvalidCredentials)
}

/// The user, when the password is theirs and they may log in. A refusal is not told before the floor,
/// which runs from the grant of the permit and is waited out after it is returned.
async fn verify(
    auth: Arc<Auth>,
    guess: limiter::Attempt,
    user: Option<UserRow>,
    password: String,
) -> Result<Option<UserRow>, AuthenticationError> {
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
    let Some(mut user) = user.filter(|user| outcome.matches && !user.disabled) else {
        guess.failed(user_id).await;
        let floor = granted.at + auth.floor.current();
        traces::phase("equal time", tokio::time::sleep_until(floor.into())).await;
        return Ok(None);
    };
    guess.succeeded().await;
    if let Some(new) = outcome.rehashed {
        rehash(&auth, &mut user, new).await;
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
            auth.store.note_refused_write(&error);
            tracing::warn!(user_id = user.id, %error, "stored password could not be replaced by its hash");
        }
    }
}
