//! The controller: clients, lease, operations endpoints and the loop that calls
//! [`auth_service::reconcile`].

pub mod auth_service;
pub mod backoff;
pub mod check;
pub mod client;
pub mod context;
pub mod definition;
pub mod labels;
pub mod lease;
pub mod metrics;
pub mod ops;
pub mod poller;
pub mod references;
pub mod scope;
pub mod signing_key;
pub mod surroundings;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use kube::{
    Client,
    runtime::{
        applier,
        controller::{self, Action},
        reflector::{ObjectRef, Store},
    },
};
use tokio::{net::TcpListener, sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::{
    context::{Context, Images, ObjectKey},
    lease::{Election, Held, Lost},
    metrics::{Metrics, Outcome},
    ops::Ops,
    poller::HttpPods,
    references::referred_secrets,
    scope::{Guarded, Requests, Scope},
    surroundings::Surroundings,
};

/// Resources reconciled at the same time.
pub const CONCURRENCY: u16 = 8;
/// How long running reconciles may take to end after SIGTERM. Each call ends within
/// [`client::CALL_DEADLINE`]; the chart's terminationGracePeriodSeconds must exceed this.
pub const DRAIN: Duration = Duration::from_secs(20);

/// How the operator was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Images of resources that name none.
    pub images: Images,
    /// Namespaces to serve; empty for all.
    pub namespaces: Vec<String>,
    /// Where `/livez`, `/readyz` and `/metrics` answer.
    pub ops_address: SocketAddr,
    /// The election.
    pub lease: lease::Settings,
}

/// What the API server is called with.
pub struct Clients {
    /// For everything but the Lease.
    pub calls: Client,
    /// For the Lease: its calls end within [`lease::Settings::renewal`].
    pub lease: Client,
}

/// Why the operator ended otherwise than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be made into a client.
    #[error("no client for the API server can be made of the configuration")]
    Client(#[source] kube::Error),
    /// The operations port cannot be used.
    #[error("the operations endpoints cannot be served on {address}; choose another --ops-address")]
    Ops {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process may lead now: this one must not write any more.
    #[error("leaving, since this process leads no more")]
    Lost(#[from] Lost),
}

/// Runs until `shutdown` resolves, or until the process must leave.
///
/// # Errors
/// [`Error`]; the process should then exit at once, so that a fresh one takes part in the election.
pub async fn run(
    config: kube::Config,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::new());
    let client =
        |config, deadline| client::client(config, deadline, Arc::clone(&metrics)).map_err(Error::Client);
    let clients = Clients {
        lease: client(config.clone(), options.lease.renewal())?,
        calls: client(config, client::CALL_DEADLINE)?,
    };
    let ops = Ops::new(Arc::clone(&metrics));
    let served = serve_ops(options.ops_address, ops.clone()).await?;
    let stop = CancellationToken::new();
    let signalled = stop.clone();
    tokio::spawn(async move {
        shutdown.await;
        ops.ready.store(false, Ordering::Relaxed);
        signalled.cancel();
    });

    let outcome =
        take_part(clients, Surroundings::of_system(Arc::new(HttpPods::default())), options, metrics, stop)
            .await;
    served.abort();
    outcome
}

/// Waits to be elected, then reconciles until `stop`.
///
/// # Errors
/// [`Error::Lost`]: the process must write nothing any more.
pub async fn take_part(
    clients: Clients,
    surroundings: Surroundings,
    options: Options,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let election = Election::new(clients.lease, options.lease);
    let namespaces = match options.namespaces.join(", ") {
        none if none.is_empty() => "all".to_owned(),
        some => some,
    };
    tracing::info!(namespaces, version = env!("CARGO_PKG_VERSION"), "waiting to lead");
    let held = tokio::select! {
        held = election.acquire() => held,
        () = stop.cancelled() => return Ok(()),
    };
    tracing::info!("leading");
    metrics.set_leader(true);
    let ctx = Arc::new(Context::new(clients.calls, surroundings, options.images, metrics));
    let outcome = lead(held, &ctx, &Scope::of(&options.namespaces), stop).await;
    ctx.metrics.set_leader(false);
    outcome
}

/// Resolves at SIGTERM or SIGINT.
///
/// # Errors
/// The handlers cannot be installed.
pub fn signals() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: leaving"),
            _ = interrupt.recv() => tracing::info!("SIGINT: leaving"),
        }
    })
}

async fn serve_ops(address: SocketAddr, ops: Ops) -> Result<tokio::task::JoinHandle<()>, Error> {
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Ops { address, source })?;
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, ops.router()).await {
            tracing::error!(%error, "the operations endpoints ended");
        }
    }))
}

/// Reconciles until `stop`, and no longer than the lease is held.
async fn lead(
    mut held: Held,
    ctx: &Arc<Context>,
    scopes: &[Scope],
    stop: CancellationToken,
) -> Result<(), Error> {
    let drained = tokio::select! {
        lost = held.keep() => return Err(lost.into()),
        drained = control(ctx, scopes, stop) => drained,
    };
    if !drained {
        tracing::warn!("reconciles still run after {} s; the lease is left to expire", DRAIN.as_secs());
        return Ok(());
    }
    if let Err(error) = held.release().await {
        tracing::warn!(%error, "the lease could not be released and is left to expire");
    }
    Ok(())
}

/// Every scope's controller, election aside, until `stop`; whether all reconciles ended in time.
pub async fn control(ctx: &Arc<Context>, scopes: &[Scope], stop: CancellationToken) -> bool {
    let slots = Arc::new(Semaphore::new(CONCURRENCY.into()));
    let (stores, controllers): (Vec<_>, Vec<_>) = scopes
        .iter()
        .map(|scope| {
            let (store, requests) = scope.listen(ctx);
            let requests = requests.take_until(stop.clone().cancelled_owned()).boxed();
            (store.clone(), controller(ctx, store, requests, &slots).boxed())
        })
        .unzip();
    ctx.metrics.observe(stores);
    let controllers = stream::select_all(controllers).for_each(async |ended| note(ctx, ended));
    let drained = async {
        stop.cancelled().await;
        // A controller whose store was never filled does not end; what counts is that nothing runs.
        let all = slots.acquire_many(CONCURRENCY.into());
        tokio::time::timeout(DRAIN, all).await.is_ok()
    };
    tokio::select! {
        () = controllers => true,
        drained = drained => drained,
    }
}

/// What a controller's stream tells of each reconcile.
type Ended =
    Result<(ObjectRef<Guarded>, Action), controller::Error<ReconcileError, std::convert::Infallible>>;

fn controller(
    ctx: &Arc<Context>,
    store: Store<Guarded>,
    requests: Requests,
    slots: &Arc<Semaphore>,
) -> impl Stream<Item = Ended> + Send + use<> {
    let slots = Arc::clone(slots);
    applier(
        move |resource: Arc<Guarded>, ctx: Arc<Context>| {
            Box::pin(reconcile(resource, ctx, Arc::clone(&slots)))
        },
        |resource: Arc<Guarded>, _error: &ReconcileError, ctx: Arc<Context>| {
            ctx.retry(&ObjectKey::of(&*resource))
        },
        Arc::clone(ctx),
        store,
        requests,
        controller::Config::default().concurrency(CONCURRENCY),
    )
}

/// Why one reconcile did not end as it should.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Failed(auth_service::Error),
    #[error("the reconcile panicked: {0}")]
    Panicked(tokio::task::JoinError),
}

/// One reconcile in a task of its own, so that a panic stays with its resource.
async fn reconcile(
    resource: Arc<Guarded>,
    ctx: Arc<Context>,
    slots: Arc<Semaphore>,
) -> Result<Action, ReconcileError> {
    let _slot = slots.acquire().await;
    if let Ok(service) = &resource.0 {
        ctx.secrets.set(&ObjectKey::of(&*resource), referred_secrets(&service.spec));
    }
    let started = Instant::now();
    let task = tokio::spawn(auth_service::reconcile(resource, Arc::clone(&ctx)).in_current_span());
    let (outcome, answer) = match task.await {
        Ok(Ok(action)) => (Outcome::Finished, Ok(action)),
        Ok(Err(error)) => (Outcome::Failed, Err(ReconcileError::Failed(error))),
        Err(error) => (Outcome::Panicked, Err(ReconcileError::Panicked(error))),
    };
    ctx.metrics.reconciled(outcome, started.elapsed());
    answer
}

fn note(ctx: &Context, ended: Ended) {
    match ended {
        Ok((resource, _action)) => tracing::debug!(%resource, "reconciled"),
        Err(controller::Error::ObjectNotFound(resource)) => {
            tracing::debug!(%resource, "the resource is gone");
            let namespace = resource.namespace.clone().unwrap_or_default();
            ctx.forget(&ObjectKey { namespace, name: resource.name.clone() });
        }
        Err(controller::Error::ReconcilerFailed(error, resource)) => {
            tracing::warn!(%error, %resource, "the reconcile failed and is retried");
        }
        Err(error) => tracing::error!(%error, "the controller stumbled"),
    }
}
