//! The world of one run: API server, application, players, and the processes of the operator.

use std::{sync::Arc, time::Duration};

use authservice::operator::context::Images;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    api_server::{ApiServer, Kind, Snapshot},
    application::{Application, Shared},
    clock::Clock,
    line::{Effect, Plan},
    normal_form::{State, state_of},
    players::Players,
    process::{Process, Start},
};

/// The one namespace.
pub const NAMESPACE: &str = "market";
/// The one resource.
pub const SERVICE: &str = "gate";

const KINDS: [Kind; 8] = [
    Kind::AuthService,
    Kind::Deployment,
    Kind::StatefulSet,
    Kind::Service,
    Kind::PodDisruptionBudget,
    Kind::PersistentVolumeClaim,
    Kind::Job,
    Kind::Secret,
];

/// A moment of a world, from which others go on.
#[derive(Clone)]
pub struct Moment {
    objects: Snapshot,
    application: Application,
    time: Timestamp,
}

impl Moment {
    /// Before anything was created.
    #[must_use]
    pub fn empty() -> Self {
        let time = Timestamp::from_second(1_800_000_000).unwrap_or(Timestamp::UNIX_EPOCH);
        let application = Application::default();
        Self { objects: ApiServer::new(move || time).snapshot(), application, time }
    }
}

/// Everything.
pub struct World {
    /// The API server.
    pub api: ApiServer,
    /// Databases and processes in pods.
    pub application: Shared,
    /// The time.
    pub clock: Clock,
    /// Images of resources that name none; another release has others.
    pub images: Images,
    /// The present process.
    pub process: Process,
    /// Secrets that people deleted, by name.
    pub removed: std::collections::BTreeMap<String, Value>,
    /// The last snapshot of etcd.
    pub backup: Option<Snapshot>,
    /// How long a process leads beside the present one; until it is ended, where this is absent.
    pub beside_for: Option<Duration>,
    /// Processes beside it, and former ones.
    others: Vec<Process>,
    seed: u64,
    effects: mpsc::UnboundedReceiver<Effect>,
    effects_sender: mpsc::UnboundedSender<Effect>,
    players: JoinHandle<()>,
}

impl World {
    /// The world as it was at a moment, with a process that has just started.
    #[must_use]
    pub fn at(moment: &Moment, seed: u64) -> Self {
        let clock = Clock::starting_at(moment.time);
        let server_clock = clock.clone();
        let api = ApiServer::new(move || server_clock.now());
        api.restore(&moment.objects);
        let application = Shared::of(moment.application.clone());
        let players = Players::new(api.clone(), application.clone(), clock.clone(), seed);
        let players = tokio::spawn(players.play());
        let (effects_sender, effects) = mpsc::unbounded_channel();
        let images =
            Images { server: "registry/auth-server:1".to_owned(), database: "registry/mysql:1".to_owned() };
        let process = Process::start(&Start {
            api: &api,
            application: &application,
            clock: &clock,
            images: &images,
            seed,
            effects: effects_sender.clone(),
        });
        Self {
            api,
            application,
            clock,
            images,
            process,
            backup: None,
            beside_for: None,
            removed: std::collections::BTreeMap::new(),
            others: Vec::new(),
            seed,
            effects,
            effects_sender,
            players,
        }
    }

    /// This moment.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment {
            objects: self.api.snapshot(),
            application: self.application.lock().clone(),
            time: self.clock.now(),
        }
    }

    /// Lets time pass; what faults do outside of the line happens meanwhile.
    pub async fn pass(&mut self, duration: Duration) {
        let end = tokio::time::Instant::now() + duration;
        loop {
            tokio::select! {
                biased;
                effect = self.effects.recv() => match effect {
                    Some(Effect::Crashed { calls }) => {
                        // Some restart at once, some only once everything around has gone on.
                        let down = if calls % 2 == 0 { 300 } else { 20_000 };
                        tokio::time::sleep(Duration::from_millis(down)).await;
                        self.restart();
                    }
                    Some(Effect::SecondLeader) => self.add_process(),
                    None => return,
                },
                () = tokio::time::sleep_until(end) => return,
            }
        }
    }

    /// Lets time pass until nothing has been written for this long; whether that came to be.
    pub async fn calm_down(&mut self, quiet: Duration, longest: Duration) -> bool {
        let step = Duration::from_secs(5).min(quiet);
        let (mut revision, mut calm) = (self.api.revision(), Duration::ZERO);
        let end = tokio::time::Instant::now() + longest;
        while calm < quiet {
            if tokio::time::Instant::now() > end {
                return false;
            }
            self.pass(step).await;
            let now = self.api.revision();
            calm = if now == revision { calm + step } else { Duration::ZERO };
            revision = now;
        }
        true
    }

    /// Ends the present process as SIGKILL does, and starts another one.
    pub fn restart(&mut self) {
        self.process.kill();
        let rest = self.process.line.rest_of_plan();
        let next = self.next_process();
        next.line.arm(rest);
        self.others.push(std::mem::replace(&mut self.process, next));
    }

    /// Starts a process that believes to lead, beside the present one.
    pub fn add_process(&mut self) {
        let next = self.next_process();
        if let Some(duration) = self.beside_for {
            next.end_after(duration);
        }
        self.others.push(next);
    }

    /// Ends the processes beside the present one.
    pub fn end_others(&self) {
        for other in &self.others {
            other.kill();
        }
    }

    /// A process that takes part in an election; the caller keeps it.
    #[must_use]
    pub fn start_elected(&self, lease: authservice::operator::lease::Settings, seed: u64) -> Process {
        Process::start_elected(&self.start(seed), lease)
    }

    fn start(&self, seed: u64) -> Start<'_> {
        Start {
            api: &self.api,
            application: &self.application,
            clock: &self.clock,
            images: &self.images,
            seed,
            effects: self.effects_sender.clone(),
        }
    }

    fn next_process(&mut self) -> Process {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Process::start(&self.start(self.seed))
    }

    /// Plans what goes wrong for the present process and those that follow it.
    pub fn arm(&self, plan: Plan) {
        self.process.line.arm(plan);
    }

    /// Every process there was.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.others.iter().chain([&self.process])
    }

    /// How many of the planned faults have happened.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.processes().map(|process| process.line.hits()).sum()
    }

    /// The resource.
    #[must_use]
    pub fn service(&self) -> Option<Arc<Value>> {
        self.api.get(Kind::AuthService, NAMESPACE, SERVICE)
    }

    /// Everything in the namespace, in its normal form.
    ///
    /// # Errors
    /// When an object is none.
    pub fn state(&self) -> anyhow::Result<State> {
        let objects: Vec<Value> = KINDS
            .into_iter()
            .flat_map(|kind| self.api.list(kind))
            .map(|object| Value::clone(&object))
            .collect();
        state_of(NAMESPACE, &objects)
    }

    /// Every object that oracles follow.
    #[must_use]
    pub fn objects(&self) -> Vec<Arc<Value>> {
        KINDS.into_iter().flat_map(|kind| self.api.list(kind)).collect()
    }

    /// Secrets of the resource.
    #[must_use]
    pub fn secrets(&self) -> Vec<Arc<Value>> {
        self.api.list(Kind::Secret)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.players.abort();
    }
}
