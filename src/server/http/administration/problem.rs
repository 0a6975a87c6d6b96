//! The table of answers that do nothing: problem details (RFC 9457).

use std::borrow::Cow;

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::{Auth, BodyRefused, is_never_written};
use crate::{
    contract::DatabaseFault,
    server::{
        limiter::UnlockError,
        passwords::{Busy, Refused},
        store::StoreError,
        tokens::TokenFault,
        users::{Failure, UserError},
    },
};

/// A problem as it is answered.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Details<'a> {
    /// `about:blank`: the status says of what kind it is.
    r#type: &'static str,
    /// The name of the status.
    title: &'a str,
    /// The status.
    status: u16,
    /// What is wrong here, and the cure.
    detail: &'a str,
}

/// Why a request was not carried out.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    challenge: Option<&'static str>,
    /// What is wrong with the database, for the log. Its words may hold what was sent.
    pub(super) fault: Option<DatabaseFault>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), challenge: None, fault: None }
    }

    pub(super) fn missing_token() -> Self {
        let challenge = Some(r#"Bearer realm="authservice-administration""#);
        let detail = "send an administration token: Authorization: Bearer <token>";
        Self { challenge, ..Self::new(StatusCode::UNAUTHORIZED, detail) }
    }

    pub(super) fn bad_token(fault: TokenFault) -> Self {
        let challenge = Some(r#"Bearer realm="authservice-administration", error="invalid_token""#);
        let detail = match fault {
            TokenFault::Foreign => "this is no administration token".to_owned(),
            TokenFault::Malformed => {
                "the administration token is malformed, lacks iat, or lives for more than an hour".to_owned()
            }
            fault => format!("the administration token is not good: {fault}"),
        };
        Self { challenge, ..Self::new(StatusCode::UNAUTHORIZED, detail) }
    }

    pub(super) fn store(auth: &Auth, error: &StoreError) -> Self {
        auth.store.note_refused_write(error);
        let (status, detail) = if is_never_written(auth, error) {
            (
                StatusCode::NOT_IMPLEMENTED,
                "the database lacks a table or a right that this needs: run auth-server migrate with an account that may make them",
            )
        } else if error.fault == DatabaseFault::SchemaIncompatible {
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                "table user cannot hold this: a column is missing, too narrow, or of a character set without some of the characters",
            )
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the database is unavailable, try again")
        };
        Self { fault: Some(error.fault), ..Self::new(status, detail) }
    }

    pub(super) fn of(auth: &Auth, failure: Failure) -> Self {
        let error = match failure {
            Failure::Store(error) => return Self::store(auth, &error),
            Failure::Told(UserError::Unlock(UnlockError::Database(error))) => {
                return Self::store(auth, &error);
            }
            Failure::Told(error) => error,
        };
        let status = match &error {
            UserError::NoSuchUser(_) | UserError::NoSuchId(_) => StatusCode::NOT_FOUND,
            UserError::Taken(_) => StatusCode::CONFLICT,
            UserError::Password(Refused::Hash(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            UserError::Email(_) | UserError::Password(_) | UserError::Hash(_) | UserError::Format(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            UserError::Input(_) => StatusCode::BAD_REQUEST,
            UserError::Unlock(_) => StatusCode::NOT_IMPLEMENTED,
            UserError::Database(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }

    /// What became of the request, for the log.
    pub(super) fn outcome(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "unauthorized",
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::CONFLICT => "conflict",
            StatusCode::INTERNAL_SERVER_ERROR => "internal",
            StatusCode::NOT_IMPLEMENTED => "not_available",
            StatusCode::SERVICE_UNAVAILABLE if self.fault.is_some() => "database",
            StatusCode::SERVICE_UNAVAILABLE => "busy",
            _ => "unfit",
        }
    }
}

impl From<BodyRefused> for Problem {
    fn from(refused: BodyRefused) -> Self {
        match refused {
            BodyRefused::TooLarge => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the body has more than 16 KiB")
            }
            BodyRefused::TooSlow => Self::new(StatusCode::REQUEST_TIMEOUT, "the body took longer than 10 s"),
        }
    }
}

impl From<Busy> for Problem {
    fn from(Busy: Busy) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too many passwords are being hashed, try again")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let details = Details {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        // Numbers and texts always serialise.
        let mut response = Response::new(serde_json::to_vec(&details).unwrap_or_default().into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
