//! Accepts connections within limits and lets them go without breaking a request.
//!
//! `axum::serve` has neither a time limit for headers nor one for their size.

mod activity;
mod handshake;

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Request, Response, Version, header::CONNECTION},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use self::{activity::Activity, handshake::handshake};
use super::{
    http::unavailable,
    metrics::{Connected, Metrics},
    tls::LiveTls,
};

/// Longest time from the start of a connection, or the end of a request on it, to the end of the
/// next request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request header; a larger one is answered 431. Also the least that hyper takes.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Most connections of the public port; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Most connections that wait in the system's queue, which may have a smaller limit of its own. What
/// finds it full is dropped and tried again a whole second later.
const BACKLOG: u32 = 4096;
/// Most requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 16;
/// Most requests at a time over all connections of a listener; one more is answered 503. Reached by
/// HTTP/2 alone, where a connection may hold [`MAX_STREAMS`].
const MAX_REQUESTS: usize = 2 * MAX_CONNECTIONS;
/// How long a connection that has sent nothing yet is given when the listener closes: its
/// request may already be on the way.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How long connections already queued by the system are still taken in when the listener closes.
const LAST_ACCEPT: Duration = Duration::from_millis(20);

/// How long a connection is left alone.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// Until its first request, the TLS handshake included: before the first bytes have told the
    /// protocol, hyper keeps no time.
    first_request: Duration,
    /// Between two requests. An HTTP/2 connection that only answers our PINGs would else hold its slot
    /// for ever; HTTP/1 connections do not get that old, see [`HEADER_TIMEOUT`].
    idle: Duration,
    /// Once it was told to end.
    farewell: Duration,
}

const TIMEOUTS: Timeouts = Timeouts {
    first_request: HEADER_TIMEOUT,
    idle: Duration::from_mins(1),
    farewell: Duration::from_secs(5),
};

/// How a listener ends, in this order.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    /// Answers ask the client to open no further request on the connection.
    pub draining: CancellationToken,
    /// No more connections are accepted; those that are idle end.
    pub closing: CancellationToken,
}

/// A listener with what its connections need.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    router: Router,
    metrics: Option<Arc<Metrics>>,
    tls: Option<Arc<LiveTls>>,
    stages: Stages,
    tracker: TaskTracker,
    slots: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    timeouts: Timeouts,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// It cannot be bound.
    pub fn bind(address: SocketAddr, router: Router, stages: Stages) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self {
            socket: socket.listen(BACKLOG)?,
            router,
            metrics: None,
            tls: None,
            stages,
            tracker: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            timeouts: TIMEOUTS,
        })
    }

    /// Counts the connections.
    #[must_use]
    pub fn counted(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Speaks TLS alone where a certificate is given.
    #[must_use]
    pub fn secured(mut self, tls: Option<Arc<LiveTls>>) -> Self {
        self.tls = tls;
        self
    }

    /// The address in use.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the closing stage, then waits for the requests in flight.
    pub async fn run(self) {
        let mut closing = pin!(self.stages.closing.cancelled());
        loop {
            tokio::select! {
                () = &mut closing => break,
                () = self.accept_one() => {}
            }
        }
        // Connections that the system has already accepted for us would be reset.
        let rest = async {
            loop {
                self.accept_one().await;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(LAST_ACCEPT, rest).await;
        drop(self.socket);
        self.tracker.close();
        self.tracker.wait().await;
    }

    async fn accept_one(&self) {
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
        match self.socket.accept().await {
            Ok((stream, peer)) => {
                let open = self.metrics.as_ref().map(Metrics::connected);
                let answerer = Answerer {
                    peer,
                    router: self.router.clone(),
                    requests: Arc::clone(&self.requests),
                    draining: self.stages.draining.clone(),
                    activity: Arc::default(),
                };
                let closing = self.stages.closing.clone();
                let (held, timeouts) = ((slot, open), self.timeouts);
                let deadline = Instant::now() + timeouts.first_request;
                // An answer is one small segment: waiting for more to send with it only costs time.
                let _ = stream.set_nodelay(true);
                let Some(acceptor) = self.tls.as_ref().map(|tls| tls.acceptor()) else {
                    self.tracker.spawn(serve(stream, answerer, closing, timeouts, deadline, held));
                    return;
                };
                self.tracker.spawn(async move {
                    if let Some(stream) = handshake(stream, acceptor, deadline, closing.clone()).await {
                        serve(stream, answerer, closing, timeouts, deadline, held).await;
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, usually: those in use must end first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers the requests of one connection.
struct Answerer {
    peer: SocketAddr,
    router: Router,
    requests: Arc<Semaphore>,
    draining: CancellationToken,
    activity: Arc<Activity>,
}

impl Answerer {
    fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let in_flight = self.activity.begin();
        let permit = Arc::clone(&self.requests).try_acquire_owned();
        let draining = (request.version() <= Version::HTTP_11).then(|| self.draining.clone());
        let answer = self.router.clone().oneshot(request.map(Body::new));
        async move {
            let mut response = match permit {
                Ok(_permit) => infallible(answer).await,
                Err(_) => unavailable("Too many requests at a time, try again"),
            };
            if draining.is_some_and(|draining| draining.is_cancelled()) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            drop(in_flight);
            Ok(response)
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answerer: Answerer,
    closing: CancellationToken,
    timeouts: Timeouts,
    deadline: Instant,
    held: (OwnedSemaphorePermit, Option<Connected>),
) {
    let activity = Arc::clone(&answerer.activity);
    let service = service_fn(move |request| answerer.answer(request));
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut closing = pin!(closing.cancelled());
    let mut watch = pin!(tokio::time::sleep_until(deadline));
    let mut late_request = pin!(tokio::time::sleep(HEADER_TIMEOUT));
    let (mut is_closing, mut is_ending) = (false, false);
    loop {
        let mut ends = false;
        tokio::select! {
            biased;
            _ = connection.as_mut() => break,
            () = &mut watch => {
                let longest = if is_ending { timeouts.farewell } else { timeouts.idle };
                match longest.checked_sub(activity.idle()).filter(|rest| !rest.is_zero()) {
                    _ if !activity.has_begun() => break,
                    Some(rest) => watch.as_mut().reset(Instant::now() + rest),
                    None if is_ending => break,
                    None => ends = true,
                }
            }
            () = &mut closing, if !is_closing => {
                is_closing = true;
                if activity.has_begun() {
                    ends = true;
                } else {
                    late_request.as_mut().reset(Instant::now() + LAST_REQUEST);
                }
            }
            () = &mut late_request, if is_closing && !is_ending => ends = true,
        }
        if ends && !is_ending {
            is_ending = true;
            connection.as_mut().graceful_shutdown();
            watch.as_mut().reset(Instant::now() + timeouts.farewell);
        }
    }
    drop(held);
}

async fn infallible(answer: impl Future<Output = Result<Response<Body>, Infallible>>) -> Response<Body> {
    match answer.await {
        Ok(response) => response,
        Err(impossible) => match impossible {},
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(8 * 1024)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

#[cfg(test)]
mod tests;
