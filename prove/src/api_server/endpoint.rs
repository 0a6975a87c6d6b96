//! The HTTP side: any [`kube::Client`] can be built upon it.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body as AnyBody, Bytes};
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tower::{BoxError, Service};

use super::{
    Behind, Shared,
    deletion::Deleted,
    kinds::Kind,
    reads,
    request::{Call, Verb},
    scale,
    status::Status,
    store::{Form, Key, Stored},
    watch,
    writes::{Target, Writes},
};

/// The API server as a service of HTTP requests.
#[derive(Clone)]
pub struct Endpoint {
    pub(super) shared: Arc<Shared>,
}

impl Service<Request<Body>> for Endpoint {
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<AnyBody>, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let behind = head.extensions.get::<Behind>().map_or(0, |behind| behind.0);
            let answer = Call::read(&head, &body).and_then(|call| answer(&shared, call, behind));
            Ok(answer.unwrap_or_else(|status| refusal(&status)))
        })
    }
}

fn respond(code: StatusCode, body: AnyBody) -> Response<AnyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn refusal(status: &Status) -> Response<AnyBody> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(code, AnyBody::from(status.body().to_string()))
}

fn found(bytes: &Bytes) -> Response<AnyBody> {
    respond(StatusCode::OK, AnyBody::from(bytes.clone()))
}

fn answer(shared: &Arc<Shared>, call: Call, behind: u64) -> Result<Response<AnyBody>, Status> {
    let Call { kind, namespace, name, subresource, manager, verb } = call;
    let now = shared.lock().revision().saturating_sub(behind);
    let verb = match verb {
        Verb::List(listing) => {
            let body = reads::list(&shared.lock(), kind, namespace.as_deref(), &listing, now)?;
            return Ok(found(&body));
        }
        Verb::Watch(listing) => {
            let lines = watch::start(shared, kind, namespace, listing, now);
            return Ok(respond(StatusCode::OK, AnyBody::from_stream(lines)));
        }
        verb => verb,
    };
    let Some(namespace) = namespace else { return Err(Status::unknown_path()) };
    let key: Key = (kind, namespace, name);
    if let Verb::Get { partial } = verb {
        let stored = reads::get(&shared.lock(), &key, now)?;
        return Ok(shown(&stored, &subresource, partial));
    }
    let target = Target { key, subresource, manager };
    let (code, stored) = shared.write(|writes| write(writes, &target, verb))?;
    Ok(match stored {
        Answer::Object(stored) => {
            let mut response = shown(&stored, &target.subresource, false);
            *response.status_mut() = code;
            response
        }
        Answer::Text(text) => respond(code, AnyBody::from(text.to_string())),
    })
}

enum Answer {
    Object(Arc<Stored>),
    Text(Value),
}

fn shown(stored: &Stored, subresource: &str, partial: bool) -> Response<AnyBody> {
    if subresource == "scale" {
        return respond(StatusCode::OK, AnyBody::from(scale::of(&stored.object).to_string()));
    }
    found(stored.bytes(if partial { Form::Metadata } else { Form::Whole }))
}

fn write(writes: &mut Writes<'_>, target: &Target, verb: Verb) -> Result<(StatusCode, Answer), Status> {
    let existed = writes.store.get(&target.key).is_some();
    let code = |created: bool| if created { StatusCode::CREATED } else { StatusCode::OK };
    let stored = match verb {
        Verb::Create(body) if target.subresource == "binding" => {
            writes.bind(target, &body)?;
            let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
            return Ok((StatusCode::CREATED, Answer::Text(done)));
        }
        Verb::Create(body) => {
            return Ok((code(true), Answer::Object(writes.create(target, body, "create")?)));
        }
        Verb::Replace(body) if target.subresource == "scale" => writes.scale(target, |_| Ok(body))?,
        Verb::Patch(patch) if target.subresource == "scale" => {
            writes.scale(target, |scale| patch.on(scale))?
        }
        Verb::Replace(body) => writes.replace(target, body, "replace")?,
        Verb::Patch(patch) => writes.patch(target, &patch)?,
        Verb::Apply { config, force } => writes.apply(target, config, force)?,
        Verb::Delete(deletion) => {
            return Ok((
                StatusCode::OK,
                match writes.delete(target, &deletion)? {
                    Deleted::Gone(stored) if !super::strategy::answers_deleted(target.key.0) => {
                        Answer::Text(gone(&stored, target.key.0))
                    }
                    Deleted::Gone(stored) | Deleted::Marked(stored) => Answer::Object(stored),
                },
            ));
        }
        Verb::Get { .. } | Verb::List(_) | Verb::Watch(_) => return Err(Status::not_allowed()),
    };
    Ok((code(!existed), Answer::Object(stored)))
}

fn gone(stored: &Stored, kind: Kind) -> Value {
    let metadata = &stored.object["metadata"];
    let mut details = json!({"name": metadata["name"], "kind": kind.plural(), "uid": metadata["uid"]});
    if !kind.group().is_empty() {
        details["group"] = json!(kind.group());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
