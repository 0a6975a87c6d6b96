//! The line between one operator process and the API server: every call is counted, and one of them,
//! or one event of a watch, goes wrong as planned.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt as _, future::BoxFuture, stream};
use http::{Method, Request, Response, StatusCode};
use kube::client::Body as RequestBody;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use tower::{BoxError, Service};

use crate::{
    api_server::{ApiServer, Behind, Endpoint, Kind},
    clock::Clock,
    objects::text,
    oracles::target::Target,
};

/// What one call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    /// The process dies before the call is sent.
    CrashBefore,
    /// The process dies once the call is done.
    CrashAfter,
    /// The call never arrives; its deadline passes.
    RequestLost,
    /// The call is done, and its answer never arrives.
    ReplyLost,
    /// The connection breaks before the call arrives.
    ResetBefore,
    /// The connection breaks once the call is done.
    ResetAfter,
    /// 409: somebody else was faster. Of a read: as [`Fault::ServerError`].
    Conflict,
    /// 429, with Retry-After.
    TooManyRequests,
    /// 500, and nothing is done.
    ServerError,
    /// 504, and it is done all the same, as when etcd answers late.
    TimeoutAfter,
    /// From here on, for half a minute, reads are answered as of so many revisions ago.
    Stale(u64),
    /// A second process starts that believes to lead, too.
    SecondLeader,
    /// The process's clock jumps to so many seconds before the right time.
    ClockJump(i64),
}

impl Fault {
    /// Each kind, in the strengths that sweeps try.
    pub const ALL: [Self; 15] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::RequestLost,
        Self::ReplyLost,
        Self::ResetBefore,
        Self::ResetAfter,
        Self::Conflict,
        Self::TooManyRequests,
        Self::ServerError,
        Self::TimeoutAfter,
        Self::Stale(1),
        Self::Stale(7),
        Self::SecondLeader,
        Self::ClockJump(3600),
        Self::ClockJump(-60),
    ];

    /// Whether it means something else than the others to a call that changes nothing: to a read it is
    /// all the same whether it or its answer is lost, and what kind of error is answered.
    #[must_use]
    pub const fn concerns_reads(self) -> bool {
        matches!(
            self,
            Self::CrashBefore
                | Self::RequestLost
                | Self::ServerError
                | Self::Stale(_)
                | Self::SecondLeader
                | Self::ClockJump(_)
        )
    }
}

/// What one event of a watch meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventFault {
    /// It is never delivered; the watch ends with 410 a quarter of an hour later.
    Dropped,
    /// It is delivered twice.
    Doubled,
    /// It is delivered after the next event of its watch, or a minute later. A deletion stays before what
    /// follows of the same name: no watch of an API server goes back behind a new object.
    Late,
    /// The watch ends in its place, without a word.
    Closed,
    /// The watch ends in its place with 410 Gone.
    Expired,
}

impl EventFault {
    /// Each of them.
    pub const ALL: [Self; 5] = [Self::Dropped, Self::Doubled, Self::Late, Self::Closed, Self::Expired];
}

/// What is to go wrong on a line, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Calls, counted from 0 since the plan was made.
    pub calls: Vec<(usize, Fault)>,
    /// Events of watches, counted likewise.
    pub events: Vec<(usize, EventFault)>,
}

/// One call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// HTTP method.
    pub method: String,
    /// Path, and for a PATCH what kind of patch.
    pub path: String,
    /// The status answered; `None` when none was, or none arrived.
    pub code: Option<u16>,
    /// Whether it was carried out.
    pub done: bool,
    /// When it was made, since the world began.
    pub at: Duration,
}

impl Call {
    /// Whether it could change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.method != "GET"
    }

    /// Whether it only tells what happened. Such calls follow the hour.
    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.path.ends_with("/status") || self.path.contains("/events")
    }
}

/// What happens outside of the line because of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The process is dead.
    Crashed {
        /// How many calls it had made.
        calls: usize,
    },
    /// A second one starts.
    SecondLeader,
}

/// One line.
#[derive(Clone)]
pub struct Line {
    endpoint: Endpoint,
    api: ApiServer,
    clock: Clock,
    effects: mpsc::UnboundedSender<Effect>,
    /// Who must hold the Lease while it writes; nobody where there is no election.
    elected: Option<String>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    plan: Plan,
    calls: Vec<Call>,
    /// Calls made before the plan was.
    calls_before: usize,
    events: usize,
    dead: bool,
    /// Until when nothing passes.
    closed: Option<Instant>,
    stale: Option<(u64, Instant)>,
    /// When watches that lost an event end, by their paths; one that follows another one ends for it.
    losses: BTreeMap<String, Instant>,
    hits: usize,
    offences: Vec<String>,
}

/// How long answers stay stale.
const STALE: Duration = Duration::from_secs(30);
/// Time a call is on its way.
const LATENCY: Duration = Duration::from_millis(1);
/// How long an event is late at most.
const LATEST: Duration = Duration::from_mins(1);
/// When a watch that lost an event ends: later than the longest time between two looks.
const LOST_EVENT_SHOWS: Duration = Duration::from_mins(15);

impl Line {
    /// A line on which nothing goes wrong yet.
    #[must_use]
    pub fn new(
        api: &ApiServer,
        clock: Clock,
        effects: mpsc::UnboundedSender<Effect>,
        elected: Option<String>,
    ) -> Self {
        Self { endpoint: api.endpoint(), api: api.clone(), clock, effects, elected, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans what goes wrong from now on.
    pub fn arm(&self, plan: Plan) {
        let mut state = self.lock();
        state.calls_before = state.calls.len();
        state.events = 0;
        state.hits = 0;
        state.plan = plan;
    }

    /// What of the plan is still to come, counted from now on: the next process goes on with it.
    #[must_use]
    pub fn rest_of_plan(&self) -> Plan {
        let state = self.lock();
        let (calls, events) = (state.calls.len() - state.calls_before, state.events);
        Plan { calls: later(&state.plan.calls, calls), events: later(&state.plan.events, events) }
    }

    /// Answers nothing any more: the process is dead.
    pub fn cut(&self) {
        self.lock().dead = true;
    }

    /// Loses everything for so long, as a network does that is cut.
    pub fn close(&self, duration: Duration) {
        self.lock().closed = Some(Instant::now() + duration);
    }

    /// The calls since the plan was made.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        let state = self.lock();
        state.calls.iter().skip(state.calls_before).cloned().collect()
    }

    /// How many events of watches passed since the plan was made.
    #[must_use]
    pub fn events(&self) -> usize {
        self.lock().events
    }

    /// How many of the planned faults have happened.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.lock().hits
    }

    /// Writes to what is not the operator's.
    #[must_use]
    pub fn offences(&self) -> Vec<String> {
        self.lock().offences.clone()
    }

    fn begin(&self, request: &Request<RequestBody>) -> Begun {
        let mut state = self.lock();
        if state.dead {
            return Begun { number: None, fault: Some(Fault::CrashBefore), behind: None };
        }
        let behind = state.stale.filter(|(_, until)| Instant::now() < *until).map(|(revisions, _)| revisions);
        if is_watch(request) || request.uri().path().contains("/leases") {
            return Begun { number: None, fault: None, behind };
        }
        let number = state.calls.len();
        let method = request.method().to_string();
        let path = request.uri().path().to_owned();
        state.calls.push(Call { method, path, code: None, done: false, at: self.clock.elapsed() });
        let since = number - state.calls_before;
        let fault = state.plan.calls.iter().find(|(at, _)| *at == since).map(|(_, fault)| *fault);
        state.hits += usize::from(fault.is_some());
        Begun { number: Some(number), fault, behind }
    }

    fn take_effect(&self, fault: Option<Fault>) -> Option<u64> {
        match fault? {
            Fault::CrashBefore | Fault::CrashAfter => {
                let mut state = self.lock();
                if !state.dead {
                    state.dead = true;
                    let _ = self.effects.send(Effect::Crashed { calls: state.calls.len() });
                }
                None
            }
            Fault::Stale(revisions) => {
                self.lock().stale = Some((revisions, Instant::now() + STALE));
                Some(revisions)
            }
            Fault::SecondLeader => {
                let _ = self.effects.send(Effect::SecondLeader);
                None
            }
            Fault::ClockJump(seconds) => {
                self.clock.jump(seconds);
                None
            }
            _ => None,
        }
    }

    fn is_closed(&self) -> bool {
        self.lock().closed.is_some_and(|until| Instant::now() < until)
    }

    async fn carry(self, mut request: Request<RequestBody>) -> Result<Response<Body>, BoxError> {
        let Begun { number, fault, behind } = self.begin(&request);
        if fault == Some(Fault::CrashBefore) {
            self.take_effect(fault);
            return std::future::pending().await;
        }
        let is_write = *request.method() != Method::GET;
        tokio::time::sleep(LATENCY).await;
        if self.is_closed() {
            return std::future::pending().await;
        }
        match fault {
            Some(Fault::RequestLost) => return std::future::pending().await,
            Some(Fault::ResetBefore) => return Err("connection reset by peer".into()),
            Some(Fault::Conflict) if is_write => return Ok(refusal(StatusCode::CONFLICT, "Conflict")),
            Some(Fault::TooManyRequests) => {
                return Ok(refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"));
            }
            Some(Fault::ServerError | Fault::Conflict) => {
                return Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
            }
            Some(Fault::Stale(_) | Fault::SecondLeader | Fault::ClockJump(_)) => {
                let stale = self.take_effect(fault);
                if let Some(revisions) = stale.filter(|_| !is_write) {
                    request.extensions_mut().insert(Behind(revisions));
                }
            }
            _ => {}
        }
        if let Some(revisions) = behind.filter(|_| !is_write) {
            request.extensions_mut().insert(Behind(revisions));
        }
        if is_write {
            self.judge(&request);
        }
        let watched = is_watch(&request).then(|| request.uri().path().to_owned());
        let mut endpoint = self.endpoint.clone();
        let answer = endpoint.call(request).await?;
        if let Some(number) = number {
            let mut state = self.lock();
            state.calls[number].done = answer.status().is_success();
            let arrives = !matches!(fault, Some(Fault::ReplyLost | Fault::ResetAfter | Fault::CrashAfter));
            state.calls[number].code = arrives.then_some(answer.status().as_u16());
        }
        match fault {
            Some(Fault::CrashAfter) => {
                self.take_effect(fault);
                std::future::pending().await
            }
            Some(Fault::ReplyLost) => std::future::pending().await,
            Some(Fault::ResetAfter) => Err("connection reset by peer".into()),
            Some(Fault::TimeoutAfter) => Ok(refusal(StatusCode::GATEWAY_TIMEOUT, "Timeout")),
            _ if self.lock().dead => std::future::pending().await,
            _ => Ok(match watched.filter(|_| answer.status().is_success()) {
                Some(path) => answer.map(|body| Body::from_stream(self.disturbed(path, body))),
                None => answer,
            }),
        }
    }

    /// Notes a write to an object that is there and is not the operator's.
    fn judge(&self, request: &Request<RequestBody>) {
        if let Some(identity) = &self.elected {
            let lease = self.api.get(Kind::Lease, crate::elections::NAMESPACE, crate::elections::LEASE);
            let holder = lease.as_deref().map(|lease| text(lease, "/spec/holderIdentity").to_owned());
            if holder.as_ref() != Some(identity) && !request.uri().path().contains("/leases") {
                let offence = format!("{identity} writes to {} while {holder:?} leads", request.uri().path());
                self.lock().offences.push(offence);
            }
        }
        if let Some(offence) =
            Target::of(request.uri().path()).and_then(|target| target.offence(&self.api, request.method()))
        {
            self.lock().offences.push(offence);
        }
    }

    /// The events of a watch, one of which may go wrong.
    fn disturbed(self, path: String, body: Body) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
        let lines = body.into_data_stream().boxed();
        let watch = Watch { line: self, path, lines, queue: VecDeque::new(), held: None };
        stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) })
    }
}

/// The faults after so many, counted from there.
fn later<F: Copy>(faults: &[(usize, F)], passed: usize) -> Vec<(usize, F)> {
    faults.iter().filter_map(|(at, fault)| Some((at.checked_sub(passed)?, *fault))).collect()
}

struct Begun {
    number: Option<usize>,
    fault: Option<Fault>,
    behind: Option<u64>,
}

struct Watch {
    line: Line,
    path: String,
    lines: stream::BoxStream<'static, Result<Bytes, axum::Error>>,
    queue: VecDeque<Bytes>,
    held: Option<(Bytes, Instant)>,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Bytes, axum::Error>> {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                return Some(Ok(bytes));
            }
            let held_until = self.held.as_ref().map(|(_, until)| *until);
            let ends = self.line.lock().losses.get(&self.path).copied();
            let read = match [ends, held_until].into_iter().flatten().min() {
                None => self.lines.next().await,
                Some(wake) => match tokio::time::timeout_at(wake, self.lines.next()).await {
                    Ok(read) => read,
                    Err(_elapsed) if held_until == Some(wake) => {
                        self.queue.extend(self.held.take().map(|(event, _)| event));
                        continue;
                    }
                    Err(_elapsed) => {
                        self.line.lock().losses.remove(&self.path);
                        self.lines = stream::empty().boxed();
                        return Some(Ok(gone()));
                    }
                },
            };
            if self.line.lock().dead {
                return std::future::pending().await;
            }
            match read? {
                Ok(bytes) => self.take(&bytes),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Takes what was read, event by event.
    fn take(&mut self, bytes: &Bytes) {
        for event in bytes.split_inclusive(|byte| *byte == b'\n') {
            let event = Bytes::copy_from_slice(event);
            let fault = {
                let mut state = self.line.lock();
                let number = state.events;
                state.events += 1;
                let fault = state.plan.events.iter().find(|(at, _)| *at == number).map(|(_, fault)| *fault);
                state.hits += usize::from(fault.is_some());
                fault
            };
            let mut late = self.held.take();
            if let Some((deletion, _)) = late.take_if(|(late, _)| is_deletion_of_same(late, &event)) {
                self.queue.push_back(deletion);
            }
            match fault {
                None => self.queue.push_back(event),
                Some(EventFault::Dropped) => {
                    let ends = Instant::now() + LOST_EVENT_SHOWS;
                    self.line.lock().losses.insert(self.path.clone(), ends);
                }
                Some(EventFault::Doubled) => self.queue.extend([event.clone(), event]),
                Some(EventFault::Late) => self.held = Some((event, Instant::now() + LATEST)),
                Some(EventFault::Closed) => self.lines = stream::empty().boxed(),
                Some(EventFault::Expired) => {
                    self.lines = stream::empty().boxed();
                    self.queue.push_back(gone());
                }
            }
            self.queue.extend(late.map(|(event, _)| event));
        }
    }
}

/// Whether the first event is the deletion of an object of the name that the second is about.
fn is_deletion_of_same(first: &Bytes, second: &Bytes) -> bool {
    let parsed = |event: &Bytes| serde_json::from_slice::<Value>(event).unwrap_or_default();
    let (first, second) = (parsed(first), parsed(second));
    text(&first, "/type") == "DELETED"
        && text(&first, "/object/metadata/name") == text(&second, "/object/metadata/name")
}

impl Service<Request<RequestBody>> for Line {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        Box::pin(self.clone().carry(request))
    }
}

fn is_watch(request: &Request<RequestBody>) -> bool {
    request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch")))
}

fn refusal(code: StatusCode, reason: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": "as planned",
    });
    let mut response = Response::new(Body::from(status.to_string()));
    *response.status_mut() = code;
    response
}

fn gone() -> Bytes {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
        "reason": "Expired", "message": "too old resource version",
    });
    Bytes::from(format!("{}\n", json!({"type": "ERROR", "object": status})))
}
