//! What requests hold: bodies, ids and the words of a query.

use axum::{
    body::Body,
    extract::{Path, rejection::PathRejection},
    http::{Request, StatusCode},
};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{super::body, problem::Problem};
use crate::server::tokens::present;

/// Most users of one page.
const MOST: u32 = 1000;

/// A user to create: with a password, or with a ready hash of one.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewUser {
    /// The login name.
    pub(super) email: String,
    /// Whether the user is an admin.
    #[serde(default)]
    pub(super) admin: bool,
    /// The password. Either this or `passwordHash`.
    #[serde(default, deserialize_with = "present")]
    #[schema(format = Password, nullable = false)]
    pub(super) password: Option<String>,
    /// A hash of a format that logs users in. Either this or `password`.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub(super) password_hash: Option<String>,
}

/// What to change of a user; at least one of these.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct UserChange {
    /// The new login name.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub(super) email: Option<String>,
    /// Whether the user is an admin.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub(super) admin: Option<bool>,
    /// Whether the user may not log in.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub(super) disabled: Option<bool>,
    /// The new password. Not together with `passwordHash`.
    #[serde(default, deserialize_with = "present")]
    #[schema(format = Password, nullable = false)]
    pub(super) password: Option<String>,
    /// A hash of a format that logs users in. Not together with `password`.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub(super) password_hash: Option<String>,
}

impl UserChange {
    /// Whether nothing is to be changed.
    pub(super) fn is_empty(&self) -> bool {
        let Self { email, admin, disabled, password, password_hash } = self;
        email.is_none()
            && admin.is_none()
            && disabled.is_none()
            && password.is_none()
            && password_hash.is_none()
    }
}

/// Which users are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Query {
    Page { after: i64, limit: u32 },
    Email(String),
}

/// Reads a body of JSON.
pub(super) async fn json<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Problem> {
    let (head, body) = request.into_parts();
    let content = body::read(body).await?;
    if !body::media_type(&head.headers).eq_ignore_ascii_case("application/json") {
        let detail = "Content-Type must be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    // The parser names the place; it would repeat a value of the wrong type.
    serde_json::from_slice(&content).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let fault = match error.classify() {
            serde_json::error::Category::Data => "holds a field that is unknown, missing or of another type",
            _ => "is not JSON",
        };
        let detail = format!("the body {fault} (line {line}, column {column}): see /openapi.json");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

/// The id in the path. What is no id is nobody's.
pub(super) fn id(path: Result<Path<String>, PathRejection>) -> Result<i64, Problem> {
    let id = path.ok().and_then(|Path(id)| id.parse().ok());
    id.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "an id of a user is a number"))
}

/// Reads `limit` and `after`, or `email`.
pub(super) fn query(query: Option<&str>) -> Result<Query, Problem> {
    let bad = |detail: &'static str| Problem::new(StatusCode::BAD_REQUEST, detail);
    let (mut after, mut limit, mut email) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let repeated = match &*name {
            "limit" => {
                let number = value.parse().ok().filter(|number| (1..=MOST).contains(number));
                limit.replace(number.ok_or_else(|| bad("limit must be a number from 1 to 1000"))?).is_some()
            }
            "after" => {
                let id = value.parse().map_err(|_| bad("after must be the id of a user"))?;
                after.replace(id).is_some()
            }
            "email" => email.replace(value.into_owned()).is_some(),
            _ => return Err(bad("the query takes limit and after, or email")),
        };
        if repeated {
            return Err(bad("the query names a parameter twice"));
        }
    }
    match email {
        Some(_) if after.is_some() || limit.is_some() => {
            Err(bad("the query takes limit and after, or email"))
        }
        Some(email) => Ok(Query::Email(email)),
        None => Ok(Query::Page { after: after.unwrap_or(i64::MIN), limit: limit.unwrap_or(50) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_page_or_an_email() {
        let page = |after, limit| Some(Query::Page { after, limit });
        for (text, expected) in [
            (None, page(i64::MIN, 50)),
            (Some(""), page(i64::MIN, 50)),
            (Some("limit=1000&after=-7"), page(-7, 1000)),
            (Some("email=a%2Bb%40x.io"), Some(Query::Email("a+b@x.io".to_owned()))),
            (Some("limit=0"), None),
            (Some("limit=1001"), None),
            (Some("limit="), None),
            (Some("after=x"), None),
            (Some("after=1&after=2"), None),
            (Some("email=a&limit=1"), None),
            (Some("mail=a"), None),
        ] {
            assert_eq!(query(text).ok(), expected, "{text:?}");
        }
    }
}
