//! Accepts connections within limits and lets them go without breaking a request.
//!
//! `axum::serve` has neither a time limit for headers nor one for their size.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

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
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::metrics::{Connected, Metrics};

/// Longest time from the start of a connection, or the end of a request on it, to the end of the
/// next request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request header; a larger one is answered 431. Also the least that hyper takes.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Most connections of the public port; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Most requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 16;
/// How long a connection that has sent nothing yet is given when the listener closes: its
/// request may already be on the way.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How long connections already queued by the system are still taken in when the listener closes.
const LAST_ACCEPT: Duration = Duration::from_millis(20);

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
    stages: Stages,
    tracker: TaskTracker,
    slots: Arc<Semaphore>,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// It cannot be bound.
    pub async fn bind(address: SocketAddr, router: Router, stages: Stages) -> std::io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self {
            socket,
            router,
            metrics: None,
            stages,
            tracker: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    /// Counts the connections.
    #[must_use]
    pub fn counted(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
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
                let connection = serve(stream, peer, self.router.clone(), self.stages.clone(), slot, open);
                self.tracker.spawn(connection);
            }
            Err(error) => {
                // Out of file descriptors, usually: those in use must end first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stages: Stages,
    slot: OwnedSemaphorePermit,
    counted: Option<Connected>,
) {
    // An answer is one small segment: waiting for more to send with it only costs time.
    let _ = stream.set_nodelay(true);
    let requested = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (requested, draining) = (Arc::clone(&requested), stages.draining.clone());
        move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            requested.store(true, Ordering::Relaxed);
            let draining = (request.version() <= Version::HTTP_11).then(|| draining.clone());
            let answer = router.clone().oneshot(request.map(Body::new));
            async move {
                let mut response = infallible(answer).await;
                if draining.is_some_and(|draining| draining.is_cancelled()) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        }
    });
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut first_request = pin!(tokio::time::sleep(HEADER_TIMEOUT));
    let mut closing = pin!(stages.closing.cancelled());
    let mut late_request = pin!(tokio::time::sleep(HEADER_TIMEOUT));
    let (mut watched, mut is_closing, mut is_ending) = (true, false, false);
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => break,
            // Until the first bytes have told the protocol, hyper keeps no time.
            () = &mut first_request, if watched => {
                if !requested.load(Ordering::Relaxed) {
                    break;
                }
                watched = false;
            }
            () = &mut closing, if !is_closing => {
                is_closing = true;
                if requested.load(Ordering::Relaxed) {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                } else {
                    late_request.as_mut().reset(tokio::time::Instant::now() + LAST_REQUEST);
                }
            }
            () = &mut late_request, if is_closing && !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
    drop((slot, counted));
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
