//! Open-loop load: requests leave at their times whether or not earlier ones were answered, each on
//! a connection of its own, and every outcome is recorded.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};

/// Longer than any answer may take; what takes longer is an outcome of its own.
const TIMEOUT: Duration = Duration::from_secs(20);

/// One request, as often as it is wanted.
#[derive(Clone, Debug)]
pub enum Request {
    /// `POST /validate` with this token.
    Validate { address: String, token: String },
    /// `POST /login` with these credentials.
    Login { address: String, email: String, password: String },
}

/// A load that runs until it is stopped. Dropping it aborts it.
pub struct Load {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
    outcomes: Arc<Mutex<Outcomes>>,
    started: Instant,
}

/// What a load met.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// Status codes, and errors such as a refused connection, by how often they were met.
    pub counts: BTreeMap<String, u64>,
    /// The longest time from a request's beginning to the end of its answer.
    pub slowest: Duration,
    /// Answers a second over the whole load.
    pub rate: f64,
    /// Every request, in the order of their ends.
    pub requests: Vec<Outcome>,
}

/// What one request met, and when.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// When it left.
    pub began: Instant,
    /// When its answer was there, or given up.
    pub ended: Instant,
    /// The status code, or the error.
    pub what: String,
}

impl Outcomes {
    /// Every outcome but this one.
    #[must_use]
    pub fn but(&self, expected: &str) -> BTreeMap<String, u64> {
        let mut rest = self.counts.clone();
        rest.remove(expected);
        rest
    }

    /// How often this outcome was met.
    #[must_use]
    pub fn count(&self, outcome: &str) -> u64 {
        self.counts.get(outcome).copied().unwrap_or_default()
    }

    /// The longest time in which no request was answered well.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        let good = self.requests.iter().filter(|request| request.what == "200");
        let ends: Vec<Instant> = good.map(|request| request.ended).collect();
        ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        *self.counts.entry(outcome.what.clone()).or_default() += 1;
        self.slowest = self.slowest.max(outcome.ended - outcome.began);
        self.requests.push(outcome);
    }
}

impl Load {
    /// Starts sending this request `per_second` times a second.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn start(request: Request, per_second: u32) -> anyhow::Result<Self> {
        let client = new_connections()?;
        let (stop, stopped) = watch::channel(false);
        let outcomes = Arc::new(Mutex::new(Outcomes::default()));
        let started = Instant::now();
        let task = tokio::spawn(send(client, request, per_second, stopped, Arc::clone(&outcomes)));
        Ok(Self { stop, task: Some(task), outcomes, started })
    }

    /// What was met so far.
    #[must_use]
    pub fn so_far(&self) -> Outcomes {
        self.outcomes.lock().map(|outcomes| outcomes.clone()).unwrap_or_default()
    }

    /// Sends no more, waits for the answers under way, and tells what was met.
    ///
    /// # Errors
    /// When the load itself broke down.
    pub async fn stop(mut self) -> anyhow::Result<Outcomes> {
        let lasted = self.started.elapsed();
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            task.await?;
        }
        let mut outcomes = self.so_far();
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let answers = outcomes.counts.values().sum::<u64>() as f64;
        outcomes.rate = answers / lasted.as_secs_f64();
        Ok(outcomes)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A client that keeps no connection.
fn new_connections() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().pool_max_idle_per_host(0).timeout(TIMEOUT).build()?)
}

async fn send(
    client: reqwest::Client,
    request: Request,
    per_second: u32,
    mut stopped: watch::Receiver<bool>,
    outcomes: Arc<Mutex<Outcomes>>,
) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    // What this process was late for is made up for, so that the load stays what it was to be.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stopped.changed() => break,
            _ = ticks.tick() => {}
        }
        let (client, request, outcomes) = (client.clone(), request.clone(), Arc::clone(&outcomes));
        under_way.spawn(async move {
            let began = Instant::now();
            let what = ask(&client, &request).await;
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.add(Outcome { began, ended: Instant::now(), what });
            }
        });
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

async fn ask(client: &reqwest::Client, request: &Request) -> String {
    let request = match request {
        Request::Validate { address, token } => {
            client.post(format!("http://{address}/validate")).bearer_auth(token)
        }
        Request::Login { address, email, password } => {
            client.post(format!("http://{address}/login")).basic_auth(email, Some(password))
        }
    };
    let answered = async {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let polite = status != 503 || response.headers().contains_key("retry-after");
        response.bytes().await?;
        Ok::<_, reqwest::Error>(if polite {
            status.to_string()
        } else {
            format!("{status} without Retry-After")
        })
    };
    answered.await.unwrap_or_else(|error| innermost(&error))
}

/// The cause at the bottom, such as `Connection refused (os error 111)`.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
