//! The election against a Lease that behaves as the API server's: writes need the resourceVersion
//! that stands. Time is tokio's paused clock.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use axum::body::{Body as AnyBody, to_bytes};
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// The API server's side: one Lease, and what goes wrong.
#[derive(Debug, Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
    writes: u64,
    /// No answer at all.
    unreachable: bool,
    /// The next write takes effect, but its answer does not arrive.
    lose_next_answer: bool,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Server>>);

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn holder(&self) -> Option<String> {
        self.with(|server| server.lease.as_ref().and_then(holder).map(str::to_owned))
    }

    fn election(&self, identity: &str) -> Election {
        let shared = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(shared.answer(request).await) }
        });
        let settings = Settings {
            namespace: "market".to_owned(),
            name: "leader".to_owned(),
            identity: identity.to_owned(),
            ttl: Duration::from_secs(15),
        };
        Election::new(Client::new(service, "market"), settings)
    }

    async fn answer(&self, request: Request<Body>) -> Response<AnyBody> {
        if self.with(|server| server.unreachable) {
            std::future::pending::<()>().await;
        }
        let (head, body) = request.into_parts();
        let body = to_bytes(AnyBody::new(body), usize::MAX).await.unwrap();
        if head.method == Method::GET {
            return match self.with(|server| server.lease.clone()) {
                Some(lease) => answer(StatusCode::OK, &serde_json::to_value(lease).unwrap()),
                None => refusal(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        let lease: Lease = serde_json::from_slice(&body).unwrap();
        let (response, lost) = self.with(|server| {
            let lost = std::mem::take(&mut server.lose_next_answer);
            (server.write(&head.method, lease), lost)
        });
        if lost {
            std::future::pending::<()>().await;
        }
        response
    }
}

impl Server {
    fn write(&mut self, method: &Method, mut lease: Lease) -> Response<AnyBody> {
        match (&self.lease, method) {
            (Some(_), &Method::POST) => return refusal(StatusCode::CONFLICT, "AlreadyExists"),
            (None, &Method::PUT) => return refusal(StatusCode::NOT_FOUND, "NotFound"),
            (Some(stands), &Method::PUT)
                if stands.metadata.resource_version != lease.metadata.resource_version =>
            {
                return refusal(StatusCode::CONFLICT, "Conflict");
            }
            _ => {}
        }
        self.version += 1;
        self.writes += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
        answer(StatusCode::OK, &serde_json::to_value(&self.lease).unwrap())
    }
}

fn answer(status: StatusCode, body: &Value) -> Response<AnyBody> {
    let mut response = Response::new(AnyBody::from(body.to_string()));
    *response.status_mut() = status;
    response
}

fn refusal(status: StatusCode, reason: &str) -> Response<AnyBody> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": reason, "code": status.as_u16()});
    answer(status, &body)
}

#[tokio::test(start_paused = true)]
async fn a_free_lease_is_taken_and_the_second_candidate_waits() {
    let server = Shared::default();
    let _held = server.election("one").acquire().await;
    assert_eq!(server.holder().as_deref(), Some("one"));
    let second = tokio::time::timeout(Duration::from_secs(14), server.election("two").acquire()).await;
    assert!(second.is_err());
    assert_eq!(server.holder().as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_nobody_renews_is_taken_after_its_time() {
    let server = Shared::default();
    drop(server.election("one").acquire().await);
    let started = Instant::now();
    let _held = server.election("two").acquire().await;
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(15) && waited <= Duration::from_secs(17), "{waited:?}");
    let transitions =
        server.with(|server| server.lease.clone()).and_then(|lease| lease.spec?.lease_transitions);
    assert_eq!(transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lease_is_never_taken() {
    let server = Shared::default();
    let mut held = server.election("one").acquire().await;
    let keeper = tokio::spawn(async move { held.keep().await });
    let second = tokio::time::timeout(Duration::from_mins(10), server.election("two").acquire()).await;
    assert!(second.is_err());
    assert!(!keeper.is_finished());
    let writes = server.with(|server| server.writes);
    assert!((115..=121).contains(&writes), "{writes} writes in 600 s");
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_within_a_second() {
    let server = Shared::default();
    let held = server.election("one").acquire().await;
    let second = server.election("two");
    let candidate = tokio::spawn(async move { second.acquire().await });
    sleep(Duration::from_secs(5)).await;
    held.release().await.unwrap();
    assert_eq!(server.holder(), None);
    let released = Instant::now();
    let _held = candidate.await.unwrap();
    assert!(released.elapsed() <= Duration::from_secs(1));
    assert_eq!(server.holder().as_deref(), Some("two"));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_gives_up_before_another_may_take_it() {
    let server = Shared::default();
    let mut held = server.election("one").acquire().await;
    let taken = Instant::now();
    server.with(|server| server.unreachable = true);
    let lost = held.keep().await;
    assert_eq!(lost.to_string(), "the lease was not renewed within 12.5 s: no answer");
    assert!(taken.elapsed() < Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_lease_was_taken_says_by_whom() {
    let server = Shared::default();
    let mut held = server.election("one").acquire().await;
    let thief = server.election("two");
    server.with(|server| {
        let stands = server.lease.clone();
        server.write(&Method::PUT, thief.claim(stands.as_ref()));
    });
    assert_eq!(held.keep().await.to_string(), "the lease was taken by two");
}

#[tokio::test(start_paused = true)]
async fn an_edit_by_somebody_else_does_not_end_the_lead() {
    let server = Shared::default();
    let mut held = server.election("one").acquire().await;
    server.with(|server| {
        let mut lease = server.lease.clone().unwrap();
        lease.metadata.annotations = Some([("note".to_owned(), "x".to_owned())].into());
        server.write(&Method::PUT, lease);
    });
    let kept = tokio::time::timeout(Duration::from_secs(100), held.keep()).await;
    assert!(kept.is_err());
    let annotations = server.with(|server| server.lease.clone()).and_then(|lease| lease.metadata.annotations);
    assert_eq!(annotations, Some([("note".to_owned(), "x".to_owned())].into()));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_was_lost_does_not_end_the_lead() {
    let server = Shared::default();
    let election = server.election("one");
    let mut held = election.acquire().await;
    server.with(|server| server.lose_next_answer = true);
    // What the client's own deadline does to the lost answer.
    let lost = tokio::time::timeout(Duration::from_secs(5), held.try_renew()).await;
    assert!(lost.is_err());
    let kept = tokio::time::timeout(Duration::from_secs(100), held.keep()).await;
    assert!(kept.is_err());
    assert_eq!(server.holder().as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn two_candidates_for_one_expired_lease_make_one_holder() {
    let server = Shared::default();
    drop(server.election("one").acquire().await);
    let (second, third) = (server.election("two"), server.election("three"));
    let mut candidates = tokio::task::JoinSet::new();
    for election in [second, third] {
        candidates.spawn(async move {
            let mut held = election.acquire().await;
            held.keep().await
        });
    }
    let ended = tokio::time::timeout(Duration::from_mins(5), candidates.join_next()).await;
    assert!(ended.is_err(), "{ended:?}");
}
