//! The auth server: `/login` and `/validate` before a table of users.

pub mod admin_key;
pub mod config;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod health;
pub mod http;
pub mod keys;
pub mod limiter;
pub mod listener;
pub mod metrics;
pub mod migrate;
pub mod passwords;
pub mod revocation;
pub mod store;
mod survey;
pub mod tls;
pub mod tokens;
pub mod traces;
pub mod users;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinHandle, JoinSet},
};

use self::{
    admin_key::LiveAdminKey,
    config::{AdministrationConfig, ServeConfig},
    health::{Health, watch_database},
    http::{
        Auth, Tracing, Verdicts,
        administration::{self, Administration},
        ops::{self, Ops},
    },
    keys::{KeysError, LiveKeys, unix_now},
    limiter::Limiter,
    listener::{Listener, Stages},
    metrics::{Exposition, Metrics},
    passwords::{Capacity, Floor, HashingPool, Verification},
    revocation::Revocations,
    store::Store,
    tls::{LiveTls, PairError},
    traces::Traces,
};
use crate::contract::env;

/// Longest time that requests in flight are waited for at the end.
const LONGEST_DRAIN: Duration = Duration::from_secs(20);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The keys cannot be loaded.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate of the public port cannot be served with.
    #[error(transparent)]
    Tls(#[from] PairError),
    /// A computation gives a wrong result.
    #[error("the self-test failed, nothing this process computes can be trusted: {0}")]
    SelfTest(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}: set {variable} to another address")]
    Listen {
        /// The variable that names it.
        variable: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's own words.
        source: io::Error,
    },
    /// Threads or signal handlers cannot be had.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
}

/// Serves until SIGTERM or SIGINT, then drains: not ready at once, accepting for the drain delay,
/// then finishing what is in flight.
///
/// # Errors
/// The server cannot start.
pub async fn serve(config: ServeConfig) -> Result<(), ServeError> {
    let started = Instant::now();
    raise_file_limit();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ServeConfig {
        database,
        keys,
        terms,
        revocation,
        passwords,
        protection,
        invalid_token_status,
        listen,
        tls,
        ops,
        administration,
        tracing: traces,
        hashing_threads,
        drain_delay,
    } = config;
    let keys = Arc::new(LiveKeys::load(keys)?);
    let tls = tls.map(LiveTls::load).transpose()?.map(Arc::new);
    tokens::self_test(&keys.ring(), &terms, unix_now()).map_err(ServeError::SelfTest)?;
    let capacity = Capacity::of_process(hashing_threads, passwords.new.argon2);
    let pool = Arc::new(HashingPool::start(capacity)?);
    let floor = Arc::new(first_floor(&pool, passwords).await?);
    let metrics = Arc::new(Metrics::default());
    let store = Arc::new(Store::new(&database));
    let limiter =
        Arc::new(Limiter::new(protection, pool.threads(), Arc::clone(&store), Arc::clone(&metrics)));
    let health = Arc::new(Health::new(&database.account.user));
    let revocations = Arc::new(Revocations::new(&database, revocation));

    let traces = traces.map(|config| Arc::new(Traces::start(&config, &database)));

    let exposition = Exposition::new(
        Arc::clone(&metrics),
        Arc::clone(&pool),
        Arc::clone(&floor),
        Arc::clone(&revocations),
        tls.clone(),
        traces.as_ref().map(|traces| traces.spans()),
    );
    let ops_state = Ops { health: Arc::clone(&health), keys: Arc::clone(&keys), exposition };
    let auth = Arc::new(Auth {
        keys: Arc::clone(&keys),
        terms,
        verdicts: Verdicts::default(),
        store: Arc::clone(&store),
        limiter,
        revocations,
        passwords,
        invalid_token_status,
        pool,
        floor,
        metrics: Arc::clone(&metrics),
    });
    let stages = Stages::default();
    let ops_stages = Stages::default();
    let tracing = traces.clone().map(|traces| Tracing::new(traces, tls.is_some()));
    let public_router = http::public(Arc::clone(&auth), tracing.clone());
    let public_listener =
        bind(env::LISTEN_ADDRESS, listen, public_router, &stages)?.counted(metrics).secured(tls.clone());
    let ops_listener = bind(env::OPS_ADDRESS, ops, ops::router(Arc::new(ops_state)), &ops_stages)?;
    let mut background = JoinSet::new();
    let administration = administration
        .map(|config| listen_to_admins(config, Arc::clone(&auth), tracing, &stages, &mut background))
        .transpose()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        public = %public_listener.address()?,
        ops = %ops_listener.address()?,
        tls = tls.is_some(),
        traces = traces.is_some(),
        signing_key = keys.ring().signer_at(unix_now()).map(tokens::Key::id),
        "listening"
    );
    let public_task = tokio::spawn(public_listener.run());
    let ops_task = tokio::spawn(ops_listener.run());
    let administration_task =
        administration.map(|listener| tokio::spawn(listener.secured(tls.clone()).run()));
    keep_up(&mut background, &auth, database, Arc::clone(&health), started);
    if let Some(tls) = tls {
        background.spawn(tls.follow());
    }

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let listeners = [Some(public_task), administration_task].into_iter().flatten();
    health.start_draining();
    drain(drain_delay, (stages, listeners), (ops_stages, ops_task)).await;
    background.abort_all();
    if let Some(traces) = traces {
        traces.end().await;
    }
    store.close().await;
    tracing::info!("ended");
    Ok(())
}

/// What goes on beside the requests for as long as the server runs.
fn keep_up(
    background: &mut JoinSet<()>,
    auth: &Auth,
    database: config::Database,
    health: Arc<Health>,
    started: Instant,
) {
    let Auth { keys, store, limiter, revocations, passwords, pool, floor, metrics, .. } = auth;
    background.spawn(watch_database(
        database,
        health,
        Arc::clone(store),
        Arc::clone(revocations),
        Arc::clone(metrics),
        started,
    ));
    background.spawn(survey::raise_floor(Arc::clone(store), Arc::clone(pool), Arc::clone(floor), *passwords));
    let (keys, limiter) = (Arc::clone(keys), Arc::clone(limiter));
    let (revocations, store) = (Arc::clone(revocations), Arc::clone(store));
    background.spawn(async move { revocations.follow(&store).await });
    background.spawn(async move { keys.follow().await });
    background.spawn(async move { limiter.clean().await });
}

/// Ends the listeners, the one for operations last: probes and scrapes are answered to the end.
async fn drain(
    delay: Duration,
    (stages, listeners): (Stages, impl Iterator<Item = JoinHandle<()>>),
    (ops_stages, ops): (Stages, JoinHandle<()>),
) {
    tracing::info!(delay_seconds = delay.as_secs(), "draining");
    stages.draining.cancel();
    tokio::time::sleep(delay).await;
    stages.closing.cancel();
    let in_flight = async {
        for listener in listeners {
            let _ = listener.await;
        }
    };
    if tokio::time::timeout(LONGEST_DRAIN, in_flight).await.is_err() {
        tracing::warn!("requests still in flight were cut off");
    }
    ops_stages.closing.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(1), ops).await;
}

/// Lets this process open as many files as it may: what a runtime grants at first is often too few
/// for the connections taken in, and probes would be refused with the rest.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

fn bind(
    variable: &'static str,
    address: SocketAddr,
    router: axum::Router,
    stages: &Stages,
) -> Result<Listener, ServeError> {
    Listener::bind(address, router, stages.clone()).map_err(|source| ServeError::Listen {
        variable,
        address,
        source,
    })
}

/// The listener of the administration API, whose key is followed in the background.
fn listen_to_admins(
    config: AdministrationConfig,
    auth: Arc<Auth>,
    tracing: Option<Tracing>,
    stages: &Stages,
    background: &mut JoinSet<()>,
) -> Result<Listener, ServeError> {
    let AdministrationConfig { key, key_file, address } = config;
    let key = Arc::new(LiveAdminKey::new(key, key_file));
    let router = administration::router(Arc::new(Administration { auth, key: Arc::clone(&key) }), tracing);
    let listener = bind(env::ADMIN_ADDRESS, address, router, stages)?;
    tracing::info!(administration = %listener.address()?, "listening");
    background.spawn(async move { key.follow().await });
    Ok(listener)
}

/// Measures a hash twice before the first login does, and checks that it verifies.
async fn first_floor(pool: &HashingPool, policy: config::PasswordPolicy) -> Result<Floor, ServeError> {
    let floor = Floor::default();
    let test = move || {
        let hash = policy.new.argon2.hash(b"self-test").map_err(|error| error.to_string())?;
        let verification = Verification::against(Some(&hash), policy, policy.new.argon2.memory_kib);
        Ok::<_, String>((verification.run(b"self-test"), verification.run(b"self-tesT")))
    };
    let (right, wrong) = pool
        .run(policy.new.argon2.memory_kib, test)
        .await
        .map_err(|error| ServeError::SelfTest(error.to_string()))?
        .result
        .map_err(ServeError::SelfTest)?;
    if !right.matches || wrong.matches {
        return Err(ServeError::SelfTest("a password hash does not tell right from wrong".to_owned()));
    }
    floor.record(right.spent.0, right.spent.1);
    floor.record(wrong.spent.0, wrong.spent.1);
    Ok(floor)
}
