//! One process of the operator: the production controller and client, on simulated surroundings.

use std::{net::IpAddr, sync::Arc, time::Duration};

use authservice::{
    contract::ServerStatus,
    operator::{
        client,
        context::{Context, Images},
        control,
        metrics::Metrics,
        scope::Scope,
        surroundings::{AskPod, Surroundings},
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
    /// Starts one, that needs no election.
    #[must_use]
    pub fn start(start: &Start<'_>) -> Self {
        let clock = start.clock.of_another_machine();
        let metrics = Arc::new(Metrics::new());
        let line = Line::new(start.api, clock.clone(), start.effects.clone());
        let client = client::over(line.clone(), client::CALL_DEADLINE, Arc::clone(&metrics));
        let pods = Arc::new(Pods { application: start.application.clone(), clock: start.clock.clone() });
        let surroundings =
            Surroundings::simulated(Arc::new(move || clock.now()), StdRng::seed_from_u64(start.seed), pods);
        let ctx = Arc::new(Context::new(client, surroundings, start.images.clone(), Arc::clone(&metrics)));
        let task = tokio::spawn(async move {
            control(&ctx, &[Scope::Cluster], CancellationToken::new()).await;
        });
        Self { line, metrics, task }
    }

    /// Ends it as SIGKILL does: nothing of it reaches the API server any more.
    pub fn kill(&self) {
        self.line.cut();
        self.task.abort();
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
