//! `/openapi.json` of the administration port, from the attributes of its handlers.

use std::sync::LazyLock;

use axum::response::Response;
use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{self, Content, Ref, ResponseBuilder},
};

use super::{
    super::openapi::{Responses, add_answers, answer, as_text, bearer, described, header, shared},
    problem, request, users,
};
use crate::server::users::output;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "authservice administration",
        description = "Looks after users. Every path but this document's needs a token that is signed with the administration key."
    ),
    paths(
        users::list,
        users::create,
        users::get,
        users::change,
        users::delete,
        users::revoke_tokens,
        users::unlock,
        document
    ),
    components(schemas(output::Shown<'_>, users::Page<'_>, problem::Details<'_>, request::NewUser, request::UserChange)),
    modifiers(&Shared)
)]
struct Administration;

/// The document as text.
static TEXT: LazyLock<String> = LazyLock::new(|| as_text(&Administration::openapi()));

/// The `OpenAPI` 3.1 document of the administration endpoints.
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
    responses((status = 200, description = "An OpenAPI 3.1 document", body = Object, content_type = "application/json"))
)]
pub(super) async fn document() -> Response {
    answer(text())
}

/// Problems that several endpoints answer, by name.
fn shared_problems() -> [(&'static str, ResponseBuilder); 11] {
    let seconds = || header("Seconds");
    [
        ("BadBody", problem("A body that is not JSON, or has unknown, missing or contradicting fields")),
        (
            "NoToken",
            problem("No administration token, or one that is not good")
                .header("WWW-Authenticate", header("Bearer, RFC 6750")),
        ),
        ("NoSuchUser", problem("There is no such user")),
        ("BodyTooSlow", problem("The body took longer than 10 s")),
        ("Taken", problem("The e-mail is taken")),
        ("BodyTooLarge", problem("The body has more than 16 KiB")),
        ("NoJson", problem("The body is not application/json")),
        ("Unfit", problem("The e-mail, the password or the hash is not what it has to be")),
        ("NotHashed", problem("The password could not be hashed")),
        ("NotAvailable", problem("The database lacks a table or a right that this needs")),
        (
            "Unavailable",
            problem("The database cannot answer, or too many passwords are being hashed")
                .header("Retry-After", seconds()),
        ),
    ]
}

/// Problems of every endpoint.
pub(super) struct Always;

impl IntoResponses for Always {
    fn responses() -> Responses {
        shared([
            ("401", "NoToken"),
            ("408", "BodyTooSlow"),
            ("413", "BodyTooLarge"),
            ("501", "NotAvailable"),
            ("503", "Unavailable"),
        ])
    }
}

/// Problems with what a body asks for.
pub(super) struct Unfit;

impl IntoResponses for Unfit {
    fn responses() -> Responses {
        shared([
            ("400", "BadBody"),
            ("409", "Taken"),
            ("415", "NoJson"),
            ("422", "Unfit"),
            ("500", "NotHashed"),
        ])
    }
}

/// Problems of an id in the path.
pub(super) struct NoSuchUser;

impl IntoResponses for NoSuchUser {
    fn responses() -> Responses {
        shared([("404", "NoSuchUser")])
    }
}

fn problem(description: &str) -> ResponseBuilder {
    let details = Content::new(Some(Ref::from_schema_name("Problem")));
    described(description).content("application/problem+json", details)
}

/// What operations refer to: shared problems, and how callers prove who they are.
struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let Some(components) = document.components.as_mut() else { return };
        let token = bearer(
            "HS256 with the administration key; aud is authservice-administration, exp at most an hour after iat. \
             auth-server admin-token prints one",
        );
        components.add_security_scheme("administration", token);
        add_answers(components, shared_problems());
    }
}
