//! Before and after every request: the token, one line of the log for what would change something, one
//! count.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::CACHE_CONTROL},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    super::{body, credentials, trace_context::Ids},
    Administration,
    problem::Problem,
};
use crate::{
    contract::DatabaseFault,
    server::{metrics::Endpoint, traces},
};

/// What a request would change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Create,
    Change,
    Delete,
    RevokeTokens,
    Unlock,
}

impl Action {
    /// Its name in the log.
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Delete => "delete",
            Self::RevokeTokens => "revoke_tokens",
            Self::Unlock => "unlock",
        }
    }
}

/// What the log is told of a request, beside its answer. Neither e-mail nor secret is in it.
#[derive(Debug, Clone, Copy)]
struct Told {
    action: Option<Action>,
    user_id: Option<i64>,
    outcome: &'static str,
    fault: Option<DatabaseFault>,
}

/// The answer to a request that would change something, with what the log is told of it.
pub(super) fn told(
    action: Action,
    user_id: Option<i64>,
    answer: Result<impl IntoResponse, Problem>,
) -> Response {
    let outcome = answer.as_ref().map_or_else(Problem::outcome, |_| "accepted");
    let fault = answer.as_ref().err().and_then(|problem| problem.fault);
    let mut response = answer.map_or_else(IntoResponse::into_response, IntoResponse::into_response);
    response.extensions_mut().insert(Told { action: Some(action), user_id, outcome, fault });
    response
}

/// Lets a request with a good token through. On a task of its own: what has begun ends and is told of,
/// even when whoever asked hangs up.
pub(super) async fn guard(
    State(administration): State<Arc<Administration>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let start = Instant::now();
    let ids = Ids::of(request.headers());
    let metrics = Arc::clone(&administration.auth.metrics);
    let changes = !request.method().is_safe();
    let work = tokio::spawn(traces::carried(async move {
        let (subject, mut response) = match verified(&administration, request.headers()) {
            Ok(subject) => (subject, next.run(request).await),
            Err(problem) => (None, refuse(request, problem).await),
        };
        if let Some(told) = response.extensions_mut().remove::<Told>().filter(|_| changes) {
            log(told, subject.as_deref(), ids);
        }
        response
    }));
    let mut response = work.await.unwrap_or_else(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be carried out")
            .into_response()
    });
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    metrics.answered(Endpoint::Administration, response.status().as_u16(), start.elapsed());
    response
}

/// The claim `sub` of a good token.
fn verified(administration: &Administration, headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let token = credentials::bearer(headers).ok_or_else(Problem::missing_token)?;
    administration.key.verify(token).map_err(Problem::bad_token)
}

/// Answers the problem once a small body has been read, or its sender would not see the answer.
async fn refuse(request: Request<Body>, problem: Problem) -> Response {
    let _ = body::discard(request.into_body()).await;
    let told = Told { action: None, user_id: None, outcome: problem.outcome(), fault: None };
    let mut response = problem.into_response();
    response.extensions_mut().insert(told);
    response
}

fn log(told: Told, subject: Option<&str>, ids: Ids) {
    let Told { action, user_id, outcome, fault } = told;
    let (action, (trace_id, span_id)) = (action.map(Action::name), ids.fields());
    let event = "administration";
    match fault {
        None => tracing::info!(event, action, user_id, outcome, subject, trace_id, span_id, "{event}"),
        Some(fault) => {
            let fault = tracing::field::debug(fault);
            tracing::warn!(
                event,
                action,
                user_id,
                outcome,
                subject,
                trace_id,
                span_id,
                fault,
                "{event} not served"
            );
        }
    }
}
