//! `/logout`: ends the bearer token it is called with.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
};

use super::{Auth, BodyRefused, body, not_written, unavailable, validate::ValidateError};
use crate::server::{metrics::Endpoint, revocation::Full, store::StoreError};

/// The table of answers that end no token.
#[derive(Debug, thiserror::Error)]
enum LogoutError {
    #[error("the token is not good")]
    Token(ValidateError),
    #[error("the token could not be ended: {0}")]
    Database(#[from] StoreError),
    #[error(transparent)]
    Full(#[from] Full),
}

impl From<ValidateError> for LogoutError {
    fn from(error: ValidateError) -> Self {
        Self::Token(error)
    }
}

impl From<BodyRefused> for LogoutError {
    fn from(refused: BodyRefused) -> Self {
        Self::Token(ValidateError::Body(refused))
    }
}

/// Answers 204 once the token has ended here and will on every other pod within the lag; what
/// `/validate` answers to a token that is not good; 503 with `Retry-After` when the database cannot
/// take note; 501 when it never can.
pub(super) async fn logout(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let start = Instant::now();
    let response = match answer(&auth, request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            if !matches!(error, LogoutError::Token(_)) {
                tracing::warn!(%error, "logout not served");
            }
            match error {
                LogoutError::Token(error) => error.into_response(),
                LogoutError::Database(error) => not_written(&auth, &error),
                LogoutError::Full(Full) => unavailable("Too many logouts, try again"),
            }
        }
    };
    auth.metrics.answered(Endpoint::Logout, response.status().as_u16(), start.elapsed());
    response
}

async fn answer(auth: &Auth, request: Request<Body>) -> Result<(), LogoutError> {
    let (head, body) = request.into_parts();
    body::discard(body).await?;
    let identity = super::validate::verified(auth, &head.headers).await?.identity;
    auth.store.revoke(&identity.token, identity.expires_at).await?;
    auth.revocations.note(&identity.token, identity.expires_at)?;
    tracing::info!(outcome = "accepted", holder = ?identity.holder, "logout");
    Ok(())
}
