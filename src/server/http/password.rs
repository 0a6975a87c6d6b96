//! `/password`: a user's own new password.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::State,
    http::{
        HeaderValue, Request, StatusCode,
        header::{CACHE_CONTROL, HOST, ORIGIN},
        request::Parts,
        uri::Authority,
    },
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Auth, BodyRefused,
    audit::Attempt,
    authentication::{AuthenticationError, authenticate},
    body, credentials, not_written,
    openapi::{BadPassword, BeforeAnyEndpoint, BodyRefusals, CredentialsRefusals, NotWritten},
    text,
};
use crate::server::{
    metrics::{AttemptOutcome, Endpoint, Event},
    passwords::{Busy, Refused},
    store::{StoreError, UserRow},
};

/// The table of answers that change no password.
#[derive(Debug, thiserror::Error)]
enum PasswordError {
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    #[error("Content-Type must be application/json or application/x-www-form-urlencoded")]
    MediaType,
    #[error(r#"The body must be {{"password": "…"}} or password=…, and nothing else"#)]
    Body,
    #[error("A form of another site cannot change a password")]
    ForeignForm,
    #[error("Not changed: {0}")]
    Unfit(#[from] Refused),
    #[error("Password changed meanwhile, log in again")]
    Changed,
    #[error("Stored passwords are kept in their old format for now, and so is this one")]
    KeptAsIs,
    #[error("the password could not be stored: {0}")]
    NotStored(#[from] StoreError),
}

impl From<BodyRefused> for PasswordError {
    fn from(refused: BodyRefused) -> Self {
        Self::Authentication(refused.into())
    }
}

impl From<Busy> for PasswordError {
    fn from(busy: Busy) -> Self {
        Self::Authentication(busy.into())
    }
}

impl PasswordError {
    fn outcome(&self) -> AttemptOutcome {
        match self {
            Self::Authentication(error) => error.outcome(),
            Self::Unfit(Refused::Hash(_)) => AttemptOutcome::Internal,
            Self::MediaType | Self::Body | Self::ForeignForm | Self::Unfit(_) => AttemptOutcome::Unfit,
            Self::Changed | Self::KeptAsIs => AttemptOutcome::Conflict,
            Self::NotStored(_) => AttemptOutcome::Database,
        }
    }

    fn response(self, auth: &Auth) -> Response {
        let status = match self {
            Self::Authentication(error) => return error.into_response(),
            Self::NotStored(error) => return not_written(auth, &error),
            Self::Unfit(Refused::Hash(_)) => {
                return text(StatusCode::INTERNAL_SERVER_ERROR, "Password could not be hashed");
            }
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ForeignForm => StatusCode::FORBIDDEN,
            Self::Body | Self::Unfit(_) => StatusCode::BAD_REQUEST,
            Self::Changed | Self::KeptAsIs => StatusCode::CONFLICT,
        };
        text(status, self.to_string())
    }
}

/// What `/password` is to be told.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    /// The password from now on.
    #[schema(format = Password)]
    password: String,
}

#[utoipa::path(
    post,
    path = "/password",
    tag = "tokens",
    operation_id = "changePassword",
    summary = "A user's own new password",
    description = "Every token that the user has by now ends with the old password.",
    security(("basic" = [])),
    request_body(content((NewPassword = "application/json"), (NewPassword = "application/x-www-form-urlencoded"))),
    responses(
        (status = 204, description = "The password is changed", headers(("Cache-Control" = String, description = "no-store"))),
        (status = 403, description = "A form that a browser sent for a page of another site", body = String),
        (status = 409, description = "The stored password was changed meanwhile, or is kept in its old format", body = String),
        (status = 415, description = "Neither JSON nor a form", body = String),
        (status = 500, description = "The password could not be hashed", body = String),
        CredentialsRefusals,
        NotWritten,
        BodyRefusals,
        BeforeAnyEndpoint,
        BadPassword
    )
)]
/// Answers 204 once the password has changed and the tokens issued until now have ended; what `/login`
/// answers to wrong credentials; 400, 403 and 415 for a body that names no fit password; 409 when the
/// password is not the one that was verified any more, or must stay; 503 and 501 as `/logout`.
pub(super) async fn password(State(auth): State<Arc<Auth>>, request: Request<Body>) -> Response {
    let start = Instant::now();
    let mut attempt = Attempt::begin(Event::PasswordChange, &auth.metrics, request.headers());
    let answer = answer(&auth, request, &mut attempt).await;
    let outcome = answer.as_ref().map_or_else(PasswordError::outcome, |()| AttemptOutcome::Accepted);
    attempt.end(outcome, answer.as_ref().err());
    let mut response =
        answer.map_or_else(|error| error.response(&auth), |()| StatusCode::NO_CONTENT.into_response());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    auth.metrics.answered(Endpoint::Password, response.status().as_u16(), start.elapsed());
    response
}

async fn answer(
    auth: &Arc<Auth>,
    request: Request<Body>,
    attempt: &mut Attempt<'_>,
) -> Result<(), PasswordError> {
    let (head, body) = request.into_parts();
    let body = body::read(body).await?;
    let given = credentials::basic(&head.headers).ok_or(AuthenticationError::MissingCredentials)?;
    let new = wanted(&head, &body)?;
    auth.passwords.new.check(new.as_bytes())?;
    let user = authenticate(auth, &head, given, &mut attempt.user_id).await?;
    may_change(auth, &user)?;
    let passwords = auth.passwords.new;
    let hash = move || passwords.hash(new.as_bytes());
    let hash = auth.pool.run(passwords.argon2.memory_kib, hash).await?.result?;
    if !auth.store.change_password(&user, &hash).await? {
        return Err(PasswordError::Changed);
    }
    auth.revocations.read_soon();
    Ok(())
}

/// While the service that this one replaces runs beside it, a hash in its place would lock the user
/// out there.
fn may_change(auth: &Auth, user: &UserRow) -> Result<(), PasswordError> {
    let stays = !auth.passwords.rehash && !user.password.starts_with("$argon2");
    if stays { Err(PasswordError::KeptAsIs) } else { Ok(()) }
}

/// The password that the body asks for.
fn wanted(head: &Parts, content: &[u8]) -> Result<String, PasswordError> {
    let media_type = body::media_type(&head.headers);
    if media_type.eq_ignore_ascii_case("application/json") {
        let NewPassword { password } = serde_json::from_slice(content).map_err(|_| PasswordError::Body)?;
        return Ok(password);
    }
    if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        if is_foreign(head) {
            return Err(PasswordError::ForeignForm);
        }
        let mut fields = form_urlencoded::parse(content);
        return match (fields.next(), fields.next()) {
            (Some((name, password)), None) if name == "password" => Ok(password.into_owned()),
            _ => Err(PasswordError::Body),
        };
    }
    Err(PasswordError::MediaType)
}

/// Whether a browser sent this for a page of another site: it adds the credentials it remembers to
/// forms of anybody, while JSON it sends across sites only after asking.
fn is_foreign(head: &Parts) -> bool {
    let Some(origin) = head.headers.get(ORIGIN) else { return false };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
    // HTTP/2 names the host in the request's own line (RFC 9113 §8.3.1).
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    authority.is_none() || authority != host.or_else(|| head.uri.authority().map(Authority::as_str))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, header::CONTENT_TYPE};

    use super::*;

    fn head(uri: &str, headers: &[(HeaderName, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn asked(media_type: &str, body: &str) -> Result<String, String> {
        let head = head("/password", &[(CONTENT_TYPE, media_type)]);
        wanted(&head, body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_body_is_json_or_a_form_and_names_the_password_alone() {
        const BODY: &str = r#"The body must be {"password": "…"} or password=…, and nothing else"#;
        const JSON: &str = "application/json";
        const FORM: &str = "application/x-www-form-urlencoded";
        assert_eq!(asked(JSON, r#"{"password":"new \"secret\""}"#), Ok("new \"secret\"".to_owned()));
        assert_eq!(asked("Application/JSON; charset=utf-8", r#"{"password":"ü"}"#), Ok("ü".to_owned()));
        assert_eq!(asked(FORM, "password=a%2Bb+c%C3%BC"), Ok("a+b cü".to_owned()));
        for (media_type, body) in [
            (JSON, ""),
            (JSON, r#""secret""#),
            (JSON, r#"{"password":7}"#),
            (JSON, r#"{"password":"a","password":"b"}"#),
            (JSON, r#"{"password":"a","email":"b"}"#),
            (FORM, ""),
            (FORM, "pass=a"),
            (FORM, "password=a&password=b"),
        ] {
            assert_eq!(asked(media_type, body), Err(BODY.to_owned()), "{body}");
        }
        let browser = |origin: &str, media_type: &str, body: &str| {
            let headers = [(CONTENT_TYPE, media_type), (ORIGIN, origin), (HOST, "auth.test:5000")];
            wanted(&head("/password", &headers), body.as_bytes()).map_err(|error| error.to_string())
        };
        let over_http_2 = |origin: &str| {
            let head = head("https://auth.test:5000/password", &[(CONTENT_TYPE, FORM), (ORIGIN, origin)]);
            wanted(&head, b"password=a").map_err(|error| error.to_string())
        };
        let foreign = Err("A form of another site cannot change a password".to_owned());
        assert_eq!(browser("http://auth.test:5000", FORM, "password=a"), Ok("a".to_owned()));
        assert_eq!(browser("http://evil.test", FORM, "password=a"), foreign);
        assert_eq!(browser("null", FORM, "password=a"), foreign);
        assert_eq!(over_http_2("https://auth.test:5000"), Ok("a".to_owned()));
        assert_eq!(over_http_2("https://evil.test"), foreign);
        assert_eq!(browser("http://shop.test", JSON, r#"{"password":"a"}"#), Ok("a".to_owned()));
        let refused = "Content-Type must be application/json or application/x-www-form-urlencoded";
        assert_eq!(asked("text/plain", "password=a"), Err(refused.to_owned()));
    }
}
