//! `/openapi.json`: what the public endpoints take and answer, from the attributes of their handlers.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{
    http::{HeaderValue, header::CONTENT_TYPE},
    response::Response,
};
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema,
    openapi::{
        self, Content, HeaderBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder, Type,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{jwks, login, logout, password, validate};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "authservice",
        description = "Logs users in and validates their tokens. /login and /validate answer any method as they do \
                       POST, with a slash at the end of their path or without, and ignore request bodies."
    ),
    paths(
        login::login,
        validate::validate,
        validate::forward_auth,
        logout::logout,
        password::password,
        jwks::jwks,
        document
    ),
    components(schemas(Claims, password::NewPassword)),
    modifiers(&Shared)
)]
struct Public;

/// The document as text.
static TEXT: LazyLock<String> = LazyLock::new(|| as_text(&Public::openapi()));

/// The `OpenAPI` 3.1 document of the public endpoints.
#[must_use]
pub fn text() -> &'static str {
    &TEXT
}

/// Answers the document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "document",
    operation_id = "openapi",
    summary = "This document",
    description = "Generated from the server's own code.",
    responses(
        (status = 200, description = "An OpenAPI 3.1 document", body = Object, content_type = "application/json"),
        (status = 405, description = "A method other than GET and HEAD", body = String,
            headers(("Allow" = String, description = "GET,HEAD"))),
        BeforeAnyEndpoint
    )
)]
pub(super) async fn document() -> Response {
    answer(text())
}

/// A document as it is committed and served.
pub(super) fn as_text(document: &openapi::OpenApi) -> String {
    // A tree of strings under string keys always serialises.
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Answers a document.
pub(super) fn answer(text: &'static str) -> Response {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The claims of a token. Those that this service issues hold all of these; of others, issued by the
/// service that it replaces, only `exp` is certain. Unknown claims are passed on.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derived schema alone")]
pub(super) struct Claims {
    /// The user's e-mail address.
    #[schema(required = false)]
    username: String,
    /// Whether the user is an admin.
    #[schema(required = false)]
    admin: bool,
    /// When the token ends, in seconds since 1970.
    exp: f64,
    /// When it was issued, in seconds since 1970.
    #[schema(required = false)]
    iat: f64,
    /// Who issued it.
    #[schema(required = false)]
    iss: String,
    /// The user's id.
    #[schema(required = false)]
    sub: String,
    /// The token's own id.
    #[schema(required = false)]
    jti: String,
    /// The generation of the user's tokens: those of an earlier one have ended.
    #[schema(required = false)]
    r#gen: i64,
}

/// Answers by their status.
pub(super) type Responses = BTreeMap<String, RefOr<openapi::Response>>;

/// Answers that several endpoints have, by name.
fn shared_answers() -> [(&'static str, ResponseBuilder); 11] {
    let refusal =
        |description| text_described(description).header("WWW-Authenticate", header("Bearer, RFC 6750"));
    [
        ("NoRequest", described("No HTTP request; without a body")),
        ("HeaderTooLarge", described("A header of more than 8 KiB; without a body")),
        (
            "Busy",
            text_described("Too many requests at a time, or what the endpoint needs cannot answer in time")
                .header("Retry-After", header("Seconds")),
        ),
        ("BodyTooSlow", text_described("The body took longer than 10 s")),
        ("BodyTooLarge", text_described("The body has more than 16 KiB")),
        (
            "NoToken",
            refusal("No bearer token; or one that does not verify, where 401 is configured for those"),
        ),
        ("BadToken", refusal("A token that does not verify or has ended, unless 401 is configured")),
        (
            "NoCredentials",
            text_described("Missing credentials, or Invalid credentials")
                .header("WWW-Authenticate", header("Basic, RFC 7617")),
        ),
        (
            "LockedOut",
            text_described("The account or the source is locked after too many failed logins")
                .header("Retry-After", header("Seconds until the lock ends")),
        ),
        ("BadPassword", text_described("The body, or the password in it, is not what it has to be")),
        ("NotWritable", text_described("The service may not write to its database, or lacks a table there")),
    ]
}

/// What is answered before an endpoint is asked.
pub(super) struct BeforeAnyEndpoint;

impl IntoResponses for BeforeAnyEndpoint {
    fn responses() -> Responses {
        shared([("400", "NoRequest"), ("431", "HeaderTooLarge"), ("503", "Busy")])
    }
}

/// What is answered to the body of a request, which is read to its end whether it says anything or not.
pub(super) struct BodyRefusals;

impl IntoResponses for BodyRefusals {
    fn responses() -> Responses {
        shared([("408", "BodyTooSlow"), ("413", "BodyTooLarge")])
    }
}

/// Credentials that log nobody in.
pub(super) struct CredentialsRefusals;

impl IntoResponses for CredentialsRefusals {
    fn responses() -> Responses {
        shared([("401", "NoCredentials"), ("429", "LockedOut")])
    }
}

/// A change that the database never takes.
pub(super) struct NotWritten;

impl IntoResponses for NotWritten {
    fn responses() -> Responses {
        shared([("501", "NotWritable")])
    }
}

/// A new password that is not taken.
pub(super) struct BadPassword;

impl IntoResponses for BadPassword {
    fn responses() -> Responses {
        shared([("400", "BadPassword")])
    }
}

/// A token that does not verify, or none.
pub(super) struct BadToken;

impl IntoResponses for BadToken {
    fn responses() -> Responses {
        shared([("401", "NoToken"), ("403", "BadToken")])
    }
}

/// A token that verifies.
pub(super) struct GoodToken;

impl IntoResponses for GoodToken {
    fn responses() -> Responses {
        let claims = Content::new(Some(Ref::from_schema_name("Claims")));
        good(described("The token is good; these are its claims").content("application/json", claims))
    }
}

/// A token that verifies, for whoever reads no body.
pub(super) struct GoodTokenInHeaders;

impl IntoResponses for GoodTokenInHeaders {
    fn responses() -> Responses {
        good(described("The token is good; without a body"))
    }
}

/// Answers that the document's components hold, by status and name.
pub(super) fn shared<const N: usize>(answers: [(&str, &str); N]) -> Responses {
    answers.map(|(status, name)| (status.to_owned(), Ref::from_response_name(name).into())).into()
}

fn good(response: ResponseBuilder) -> Responses {
    const ENCODED: &str = "percent-encoded where it is not visible ASCII";
    let username = || header(&format!("The claim username, {ENCODED}; empty when there is none"));
    let response = response
        .header("X-Auth-Request-User", header(&format!("The claim sub, or username without one, {ENCODED}")))
        .header("X-Auth-Request-Email", username())
        .header("X-Forwarded-User", username())
        .header("Cache-Control", header("no-store"));
    [("200".to_owned(), response.build().into())].into()
}

pub(super) fn described(description: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(description)
}

fn text_described(description: &str) -> ResponseBuilder {
    described(description).content("text/plain", Content::new(Some(a_string())))
}

pub(super) fn header(description: &str) -> openapi::Header {
    HeaderBuilder::new().schema(Some(a_string())).description(Some(description)).build()
}

fn a_string() -> openapi::Schema {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}

/// What operations refer to: shared answers, and how callers prove who they are.
struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let Some(components) = document.components.as_mut() else { return };
        let basic = HttpBuilder::new()
            .scheme(HttpAuthScheme::Basic)
            .description(Some("E-mail and password in UTF-8 (RFC 7617)"))
            .build();
        components.add_security_scheme("basic", SecurityScheme::Http(basic));
        components.add_security_scheme("bearer", bearer("A token that /login answered (RFC 6750)"));
        add_answers(components, shared_answers());
    }
}

/// A JSON Web Token in the `Authorization` header.
pub(super) fn bearer(description: &str) -> SecurityScheme {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    SecurityScheme::Http(scheme.description(Some(description)).build())
}

/// Adds what [`shared`] refers to.
pub(super) fn add_answers<const N: usize>(
    components: &mut openapi::Components,
    answers: [(&str, ResponseBuilder); N],
) {
    components.responses.extend(answers.map(|(name, answer)| (name.to_owned(), answer.build().into())));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::server::tokens::{self, KeyRing, Subject, Terms};

    #[test]
    fn the_schema_of_claims_has_the_claims_of_an_issued_token() {
        let ring = KeyRing::single(b"a-secret-of-more-than-thirty-two-bytes");
        let terms = Terms { issuer: "authservice".to_owned(), audience: None, ttl_seconds: 60 };
        let subject = Subject { id: 7, username: "ann@example.org", admin: true, generation: 0 };
        let token = tokens::issue(&ring, &terms, &subject, 1_800_000_000).unwrap();
        let claims = tokens::verify(&ring, &terms, &token, 1_800_000_000).unwrap().claims;
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let document: Value = serde_json::from_str(text()).unwrap();
        let schema = &document["components"]["schemas"]["Claims"];
        let names =
            |object: &Value| -> BTreeSet<String> { object.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(names(&schema["properties"]), names(&claims));
        assert_eq!(schema["required"], serde_json::json!(["exp"]));
    }
}
