//! `/admin/users`: each handler is one verb of `auth-server user`.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{
        HeaderValue, Request, StatusCode,
        header::{CONTENT_TYPE, LOCATION},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    super::{Auth, body},
    Administration,
    guard::{Action, told},
    openapi::{Always, NoSuchUser, Unfit},
    problem::Problem,
    request::{NewUser, Query, UserChange, id, json, query},
};
use crate::server::{
    limiter,
    store::{self, Pooled, StoreError, UserRow},
    users::{self, Change, Failure, UserError, Whom, output::Shown},
};

/// Longest time the database may take over one request, its connection not counted.
const LONGEST: Duration = Duration::from_secs(8);

type PathId = Result<Path<String>, PathRejection>;

/// Some users, in the order of their ids.
#[derive(Serialize, ToSchema)]
#[schema(as = Users)]
pub(super) struct Page<'a> {
    /// The users.
    users: Vec<Shown<'a>>,
    /// Where there are more: what to give as `after` to see them.
    next: Option<i64>,
}

#[utoipa::path(
    post,
    path = "/admin/users",
    tag = "users",
    operation_id = "createUser",
    summary = "Create a user",
    security(("administration" = [])),
    request_body = NewUser,
    responses(
        (status = 201, description = "The user is created", body = Shown<'_>, headers(("Location" = String, description = "The user's path"))),
        Always, Unfit
    )
)]
/// Answers 201 with the user; 409 when the e-mail is taken, 400, 415 and 422 for what makes no user.
pub(super) async fn create(
    State(administration): State<Arc<Administration>>,
    request: Request<Body>,
) -> Response {
    let created = insert(&administration.auth, request).await;
    let user_id = created.as_ref().ok().map(|user| user.id);
    told(
        Action::Create,
        user_id,
        created.map(|user| {
            let mut response = shown(&administration.auth, StatusCode::CREATED, &user);
            if let Ok(path) = HeaderValue::from_str(&format!("/admin/users/{}", user.id)) {
                response.headers_mut().insert(LOCATION, path);
            }
            response
        }),
    )
}

async fn insert(auth: &Auth, request: Request<Body>) -> Result<UserRow, Problem> {
    let NewUser { email, admin, password, password_hash } = json(request).await?;
    let email = users::login_name(email).map_err(|error| told_by(auth, error))?;
    let hash = hash(auth, password, password_hash).await?.ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "the body must hold password or passwordHash")
    })?;
    let mut connection = connection(auth).await?;
    timely(auth, async {
        let id = users::create(&mut connection, &email, &hash, admin).await?;
        users::find(&mut connection, Whom::Id(id)).await
    })
    .await
}

#[utoipa::path(
    get,
    path = "/admin/users",
    tag = "users",
    operation_id = "listUsers",
    summary = "Users page by page, or the one of an e-mail",
    params(
        ("limit" = Option<u32>, Query, description = "Most users answered, 1 to 1000; 50 when absent", minimum = 1, maximum = 1000),
        ("after" = Option<i64>, Query, description = "Answer those after this id: the next of the page before"),
        ("email" = Option<String>, Query, description = "Answer the user of exactly this e-mail, if any; not together with the others")
    ),
    security(("administration" = [])),
    responses(
        (status = 200, description = "The users, in the order of their ids", body = Page<'_>),
        (status = 400, description = "A query that is none of these", body = super::problem::Details<'_>, content_type = "application/problem+json"),
        Always
    )
)]
/// Answers 200 with the users; 400 for a query of other words.
pub(super) async fn list(
    State(administration): State<Arc<Administration>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let auth = &administration.auth;
    let (head, body) = request.into_parts();
    body::discard(body).await?;
    let wanted = query(head.uri.query())?;
    let mut connection = connection(auth).await?;
    let (rows, next) = timely(auth, async {
        match wanted {
            Query::Page { after, limit } => users::page(&mut connection, after, limit).await,
            Query::Email(email) => {
                let found = store::users::find(&mut connection, &email).await?;
                Ok((found.into_iter().collect(), None))
            }
        }
    })
    .await?;
    let users = users::output::shown(&rows, auth.passwords.legacy, auth.pool.most_kib());
    Ok(answered(StatusCode::OK, &Page { users, next }))
}

#[utoipa::path(
    get,
    path = "/admin/users/{id}",
    tag = "users",
    operation_id = "getUser",
    summary = "One user",
    params(("id" = i64, Path, description = "The user's id")),
    security(("administration" = [])),
    responses((status = 200, description = "The user", body = Shown<'_>), NoSuchUser, Always)
)]
/// Answers 200 with the user; 404 when there is none.
pub(super) async fn get(
    State(administration): State<Arc<Administration>>,
    path: PathId,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let auth = &administration.auth;
    body::discard(request.into_body()).await?;
    let id = id(path)?;
    let mut connection = connection(auth).await?;
    let user = timely(auth, users::find(&mut connection, Whom::Id(id))).await?;
    Ok(shown(auth, StatusCode::OK, &user))
}

#[utoipa::path(
    patch,
    path = "/admin/users/{id}",
    tag = "users",
    operation_id = "changeUser",
    summary = "Change a user",
    description = "All of it or nothing. Every token of the user ends.",
    params(("id" = i64, Path, description = "The user's id")),
    security(("administration" = [])),
    request_body = UserChange,
    responses(
        (status = 200, description = "The user as changed", body = Shown<'_>),
        NoSuchUser, Always, Unfit
    )
)]
/// Answers 200 with the user as changed, all of it or nothing; otherwise as [`create`], and 404.
pub(super) async fn change(
    State(administration): State<Arc<Administration>>,
    path: PathId,
    request: Request<Body>,
) -> Response {
    let auth = &administration.auth;
    let id = id(path);
    let user_id = id.as_ref().ok().copied();
    let changed = update(auth, id, request).await;
    told(Action::Change, user_id, changed.map(|user| shown(auth, StatusCode::OK, &user)))
}

async fn update(auth: &Auth, id: Result<i64, Problem>, request: Request<Body>) -> Result<UserRow, Problem> {
    let wanted: UserChange = json(request).await?;
    let id = id?;
    if wanted.is_empty() {
        let detail = "the body must hold at least one of email, admin, disabled, password and passwordHash";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let UserChange { email, admin, disabled, password, password_hash } = wanted;
    let email = email.map(users::login_name).transpose().map_err(|error| told_by(auth, error))?;
    let hash = hash(auth, password, password_hash).await?;
    let change = Change { email, admin, disabled, hash };
    let mut connection = connection(auth).await?;
    let user = timely(auth, async {
        let user = users::find(&mut connection, Whom::Id(id)).await?;
        users::change(&mut connection, &user, &change).await?;
        users::find(&mut connection, Whom::Id(id)).await
    })
    .await?;
    auth.revocations.read_soon();
    Ok(user)
}

#[utoipa::path(
    delete,
    path = "/admin/users/{id}",
    tag = "users",
    operation_id = "deleteUser",
    summary = "Delete a user",
    description = "Every token of the user ends.",
    params(("id" = i64, Path, description = "The user's id")),
    security(("administration" = [])),
    responses((status = 204, description = "The user is deleted"), NoSuchUser, Always)
)]
/// Answers 204 once the user is deleted and the user's tokens have ended; 404 when there is none.
pub(super) async fn delete(
    State(administration): State<Arc<Administration>>,
    path: PathId,
    request: Request<Body>,
) -> Response {
    let auth = &administration.auth;
    act(auth, Action::Delete, path, request, |mut connection, user| async move {
        store::users::delete(&mut connection, &user).await?;
        auth.revocations.read_soon();
        Ok(())
    })
    .await
}

#[utoipa::path(
    post,
    path = "/admin/users/{id}/revoke-tokens",
    tag = "users",
    operation_id = "revokeTokens",
    summary = "End every token that a user has by now",
    params(("id" = i64, Path, description = "The user's id")),
    security(("administration" = [])),
    responses((status = 204, description = "The tokens have ended"), NoSuchUser, Always)
)]
/// Answers 204 once every token of the user has ended; 404 when there is no such user.
pub(super) async fn revoke_tokens(
    State(administration): State<Arc<Administration>>,
    path: PathId,
    request: Request<Body>,
) -> Response {
    let auth = &administration.auth;
    act(auth, Action::RevokeTokens, path, request, |mut connection, user| async move {
        store::users::end_tokens(&mut connection, &user).await?;
        auth.revocations.read_soon();
        Ok(())
    })
    .await
}

#[utoipa::path(
    post,
    path = "/admin/users/{id}/unlock",
    tag = "users",
    operation_id = "unlockUser",
    summary = "Forget the failed logins of a user",
    description = "A lock ends within a second.",
    params(("id" = i64, Path, description = "The user's id")),
    security(("administration" = [])),
    responses((status = 204, description = "No failed login counts any more"), NoSuchUser, Always)
)]
/// Answers 204 once no failed login of the account counts; 404 when there is no such user.
pub(super) async fn unlock(
    State(administration): State<Arc<Administration>>,
    path: PathId,
    request: Request<Body>,
) -> Response {
    let auth = &administration.auth;
    act(auth, Action::Unlock, path, request, |connection, user| async move {
        // It takes a connection itself: were all held by such requests, none would go on.
        drop(connection);
        limiter::unlock(&auth.store, &user.email).await.map_err(UserError::from)?;
        Ok(())
    })
    .await
}

/// Does what needs no more than an id.
async fn act<F: Future<Output = Result<(), Failure>>>(
    auth: &Auth,
    action: Action,
    path: PathId,
    request: Request<Body>,
    work: impl FnOnce(Pooled, UserRow) -> F,
) -> Response {
    let id = id(path);
    let user_id = id.as_ref().ok().copied();
    let done = async {
        body::discard(request.into_body()).await?;
        let id = id?;
        let mut connection = connection(auth).await?;
        timely(auth, async {
            let user = users::find(&mut connection, Whom::Id(id)).await?;
            work(connection, user).await
        })
        .await?;
        Ok(StatusCode::NO_CONTENT)
    };
    told(action, user_id, done.await)
}

/// The hash to store: of the password, or the one that is given.
async fn hash(
    auth: &Auth,
    password: Option<String>,
    hash: Option<String>,
) -> Result<Option<String>, Problem> {
    match (password, hash) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            let detail = "the body must not hold both password and passwordHash";
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
        (None, Some(hash)) => {
            users::check_hash(&hash, &auth.passwords, auth.pool.most_kib())
                .map_err(|error| told_by(auth, error))?;
            Ok(Some(hash))
        }
        (Some(password), None) => {
            let rules = auth.passwords.new;
            rules.check(password.as_bytes()).map_err(|refused| told_by(auth, refused.into()))?;
            let work = move || rules.hash(password.as_bytes());
            let hashed = auth.pool.run(rules.argon2.memory_kib, work).await?.result;
            Ok(Some(hashed.map_err(|refused| told_by(auth, refused.into()))?))
        }
    }
}

fn told_by(auth: &Auth, error: UserError) -> Problem {
    Problem::of(auth, Failure::Told(error))
}

async fn connection(auth: &Auth) -> Result<Pooled, Problem> {
    auth.store.connection().await.map_err(|error| Problem::store(auth, &error))
}

async fn timely<T>(auth: &Auth, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Problem> {
    let outcome = tokio::time::timeout(LONGEST, work).await;
    outcome
        .unwrap_or_else(|_| Err(StoreError::timed_out(LONGEST).into()))
        .map_err(|failure| Problem::of(auth, failure))
}

fn shown(auth: &Auth, status: StatusCode, user: &UserRow) -> Response {
    let users = users::output::shown(std::slice::from_ref(user), auth.passwords.legacy, auth.pool.most_kib());
    users.first().map_or_else(|| status.into_response(), |user| answered(status, user))
}

fn answered(status: StatusCode, body: &impl Serialize) -> Response {
    // Numbers, booleans and texts always serialise.
    let mut response = Response::new(serde_json::to_vec(body).unwrap_or_default().into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
