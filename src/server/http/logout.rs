//! `/logout`: ends the bearer token it is called with.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    Auth, BodyRefused, body, not_written,
    openapi::{BadToken, BeforeAnyEndpoint, BodyRefusals, NotWritten},
    trace_context::Ids,
    unavailable,
    validate::{ValidateError, verified},
};
use crate::server::{metrics::Endpoint, revocation::Full, store::StoreError, tokens::Holder};

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

impl LogoutError {
    fn response(self, auth: &Auth) -> Response {
        match self {
            Self::Token(error) => error.response(auth.invalid_token_status),
            Self::Database(error) => not_written(auth, &error),
            Self::Full(Full) => unavailable("Too many logouts, try again"),
        }
    }
}

#[utoipa::path(
    post,
    path = "/logout",
    tag = "tokens",
    operation_id = "logout",
    summary = "End a token before its time",
    description = "It ends here at once, and on every other pod within token.revocationLag.",
    security(("bearer" = [])),
    responses(
        (status = 204, description = "The token has ended"),
        BadToken,
        NotWritten,
        BodyRefusals,
        BeforeAnyEndpoint
    )
)]
/// Answers 204 once the token has ended here and will on every other pod within the lag; what
/// `/validate` answers to a token that is not good; 503 with `Retry-After` when the database cannot
/// take note; 501 when it never can.
pub(super) async fn logout(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let start = Instant::now();
    let (trace_id, span_id) = Ids::of(request.headers()).fields();
    let response = match answer(&auth, request).await {
        Ok(user_id) => {
            tracing::info!(event = "logout", outcome = "accepted", user_id, trace_id, span_id, "logout");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => {
            if !matches!(error, LogoutError::Token(_)) {
                tracing::warn!(event = "logout", trace_id, span_id, %error, "logout not served");
            }
            error.response(&auth)
        }
    };
    auth.metrics.answered(Endpoint::Logout, response.status().as_u16(), start.elapsed());
    response
}

/// The id of the user whose token has ended, where the token tells it.
async fn answer(auth: &Auth, request: Request<Body>) -> Result<Option<i64>, LogoutError> {
    let (head, body) = request.into_parts();
    body::discard(body).await?;
    let verdict = verified(auth, &head.headers).await?;
    let identity = &verdict.token.identity;
    auth.store.revoke(&identity.token, identity.expires_at).await?;
    auth.revocations.note(&identity.token, identity.expires_at)?;
    Ok(match identity.holder {
        Holder::User { id, .. } => Some(id),
        Holder::Username(_) | Holder::Unknown => None,
    })
}
