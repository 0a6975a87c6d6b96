//! One process of the operator: the production controller and client, on simulated surroundings.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use authservice::{
    contract::ServerStatus,
    operator::{
        Clients, Options, client,
        context::{Context, Images},
        control, lease,
        metrics::Metrics,
        scope::Scope,
        surroundings::{AskPod, Surroundings},
        take_part,
    },
};
use futures::future::BoxFuture;
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    api_server::ApiServer,
    application::{Process as PodProcess, Shared},
    clock::Clock,
    line::{Effect, Line},
};

/// One process.
pub struct Process {
    /// Its line to the API server.
    pub line: Line,
    /// The line of its election.
    pub lease_line: Option<Line>,
    metrics: Arc<Metrics>,
    task: JoinHandle<()>,
}

/// What a process is started with.
pub struct Start<'a> {
    /// The API server.
    pub api: &'a ApiServer,
    /// The pods it asks.
    pub application: &'a Shared,
    /// The time.
    pub clock: &'a Clock,
    /// Images of resources that name none.
    pub images: &'a Images,
    /// Its chance.
    pub seed: u64,
    /// Who hears of what its faults do.
    pub effects: mpsc::UnboundedSender<Effect>,
}

impl Process {
    /// Starts one that needs no election.
    #[must_use]
    pub fn start(start: &Start<'_>) -> Self {
        let Parts { line, client, surroundings, metrics } = Parts::of(start, None);
        let images = start.images.clone();
        let counted = Arc::clone(&metrics);
        let task = tokio::spawn(async move {
            let ctx = Arc::new(Context::new(client, surroundings, images, counted));
            control(&ctx, &[Scope::Cluster], CancellationToken::new()).await;
        });
        Self { lease_line: None, line, metrics, task }
    }

    /// Starts one that takes part in an election, and ends when it has lost.
    #[must_use]
    pub fn start_elected(start: &Start<'_>, lease: lease::Settings) -> Self {
        let identity = Some(lease.identity.clone());
        let Parts { line, client, surroundings, metrics } = Parts::of(start, identity);
        let lease_line = Line::new(start.api, start.clock.clone(), start.effects.clone(), None);
        let lease_client = client::over(lease_line.clone(), lease.renewal(), Arc::clone(&metrics));
        let clients = Clients { calls: client, lease: lease_client };
        let options = Options {
            images: start.images.clone(),
            namespaces: Vec::new(),
            ops_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            lease,
        };
        let (counted, cut) = (Arc::clone(&metrics), line.clone());
        let task = tokio::spawn(async move {
            let outcome = take_part(clients, surroundings, options, counted, CancellationToken::new()).await;
            tracing::info!(?outcome, "the process ends");
            // With the process its tasks end.
            cut.cut();
        });
        Self { lease_line: Some(lease_line), line, metrics, task }
    }

    /// Ends it as SIGKILL does: nothing of it reaches the API server any more.
    pub fn kill(&self) {
        self.line.cut();
        self.lease_line.iter().for_each(Line::cut);
        self.task.abort();
    }

    /// Ends it in a while.
    pub fn end_after(&self, duration: Duration) {
        let (line, task) = (self.line.clone(), self.task.abort_handle());
        tokio::spawn(async move {
            tokio::time::sleep(duration).await;
            line.cut();
            task.abort();
        });
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// What it should never do.
    #[must_use]
    pub fn offences(&self) -> Vec<String> {
        let mut offences = self.line.offences();
        let metrics = self.metrics.encode().unwrap_or_default();
        let panics = metrics.lines().filter(|line| line.contains("panicked") && !line.ends_with(" 0"));
        offences.extend(panics.map(|line| format!("a reconcile panicked: {line}")));
        offences
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Parts {
    line: Line,
    client: kube::Client,
    surroundings: Surroundings,
    metrics: Arc<Metrics>,
}

impl Parts {
    fn of(start: &Start<'_>, elected: Option<String>) -> Self {
        let clock = start.clock.of_another_machine();
        let metrics = Arc::new(Metrics::new());
        let line = Line::new(start.api, clock.clone(), start.effects.clone(), elected);
        let client = client::over(line.clone(), client::CALL_DEADLINE, Arc::clone(&metrics));
        let pods = Arc::new(Pods { application: start.application.clone(), clock: start.clock.clone() });
        let surroundings =
            Surroundings::simulated(Arc::new(move || clock.now()), StdRng::seed_from_u64(start.seed), pods);
        Self { line, client, surroundings, metrics }
    }
}

struct Pods {
    application: Shared,
    clock: Clock,
}

impl AskPod for Pods {
    fn status(&self, address: IpAddr) -> BoxFuture<'_, Option<ServerStatus>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let application = self.application.lock();
            match application.processes.get(application.addresses.get(&address)?)? {
                PodProcess::Server(server) => Some(server.status(self.clock.now())),
                PodProcess::Database { .. } | PodProcess::Migration(_) => None,
            }
        })
    }
}
