//! One run of a scenario: undisturbed, as the reference; or with faults, and then judged by it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    application::database::StatementFault,
    line::{Call, Fault, Plan},
    newly_made::{Given, comparable, forgiving, newly_made},
    normal_form::{State, differences},
    objects::{condition_holds, number},
    oracles::{judge, judge_accounts, judge_data, missing_users},
    scenarios::Scenario,
    steps::{CALM, LONGEST, act_all},
    world::{Moment, World},
};

/// Longer than the longest time between two looks at a settled resource.
const STABLE: Duration = Duration::from_mins(11);

/// What goes wrong in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Between operator and API server.
    #[serde(default)]
    pub line: Plan,
    /// A statement of a migration, counted from 0.
    #[serde(default)]
    pub statement: Option<(usize, StatementFault)>,
}

/// How often each write was done, by method and path.
pub type Writes = BTreeMap<String, usize>;

/// What an undisturbed run came to.
pub struct Reference {
    /// How it ended.
    pub state: State,
    /// The calls that were made, in order.
    pub calls: Vec<Call>,
    /// How many events of watches there were.
    pub events: usize,
    /// How many statements migrations ran.
    pub statements: usize,
    writes: Writes,
}

/// A run that broke a promise.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Broken(pub Vec<String>);

/// The moment at which a scenario begins.
///
/// # Errors
/// What was given cannot be reached.
pub async fn given(scenario: &Scenario, seed: u64) -> anyhow::Result<Moment> {
    let mut world = World::at(&Moment::empty(), seed);
    act_all(&mut world, &scenario.given).await?;
    world.calm_down(CALM, LONGEST).await;
    Ok(world.moment())
}

/// A run in which nothing goes wrong.
///
/// # Errors
/// It does not come to an end, or the end is none.
pub async fn reference(scenario: &Scenario, moment: &Moment, seed: u64) -> anyhow::Result<Reference> {
    let mut world = begin(moment, seed).await;
    let before = Before::of(&world);
    world.arm(Plan::default());
    act_all(&mut world, &scenario.when).await?;
    anyhow::ensure!(world.calm_down(CALM * 5, LONGEST).await, "it does not calm down");
    let calls = until_rest(world.processes().flat_map(|process| process.line.calls()).collect());
    let events = world.processes().map(|process| process.line.events()).sum();
    let statements = world.application.lock().statements;
    let offences = before.judge(&world, scenario, false);
    anyhow::ensure!(offences.is_empty(), "undisturbed: {}", offences.join("; "));
    let state = world.state()?;
    let end = End { wanted: state.clone(), whatever_past: false };
    let late = end.stays(&mut world).await?;
    anyhow::ensure!(late.is_empty(), "undisturbed: {}", late.join("; "));
    let past = past_shows(&world, scenario, seed).await?;
    anyhow::ensure!(past.is_empty(), "undisturbed, not as newly made: {past}");
    let ready = world.service().is_some_and(|service| condition_holds(&service, "Ready"));
    anyhow::ensure!(
        ready || scenario.edges.stays_unready,
        "undisturbed: it is not ready: {:?}",
        world.service().map(|service| service["status"].to_string())
    );
    let served = world.service().is_some_and(|service| number(&service, "/status/readyReplicas") > Some(0));
    let tokens = world.application.lock().clients.tokens().len();
    anyhow::ensure!(!served || tokens > 0, "undisturbed: nobody got a token");
    let all = world.processes().flat_map(|process| process.line.calls()).collect::<Vec<_>>();
    Ok(Reference { state, calls, events, statements, writes: writes(&all) })
}

/// The calls up to the rest, and the first look at it: later ones are all alike.
fn until_rest(mut calls: Vec<Call>) -> Vec<Call> {
    const LOOK: Duration = Duration::from_secs(20);
    let last = calls.iter().filter(|call| call.is_write()).map(|call| call.at).max().unwrap_or_default();
    calls.retain(|call| call.at <= last + LOOK);
    calls
}

/// How the end differs from that of a resource that was only just made with the same spec.
async fn past_shows(world: &World, scenario: &Scenario, seed: u64) -> anyhow::Result<String> {
    if world.service().is_none() || scenario.edges.stays_unready || scenario.edges.past_shows {
        return Ok(String::new());
    }
    let fresh = newly_made(&Given::of(world), seed).await?;
    Ok(differences(&fresh, &comparable(world.state()?)))
}

/// A run in which something goes wrong; whether all of it did.
///
/// # Errors
/// [`Broken`]: a promise was.
pub async fn disturbed(
    scenario: &Scenario,
    moment: &Moment,
    faults: &Faults,
    reference: &Reference,
    seed: u64,
) -> anyhow::Result<bool> {
    let mut world = begin(moment, seed).await;
    let before = Before::of(&world);
    world.application.lock().fault = faults.statement;
    world.arm(faults.line.clone());
    act_all(&mut world, &scenario.when).await?;
    // Whoever reads an older Secret of the user's cannot tell that it did not change back.
    let stale = faults.line.calls.iter().any(|(_, fault)| matches!(fault, Fault::Stale(_)));
    let end = End { wanted: reference.state.clone(), whatever_past: stale };
    let mut offences = end.is_reached_and_stays(&mut world).await?;
    // While two lead, which the election prevents, each tells what it knows.
    let two = faults.line.calls.iter().any(|(_, fault)| *fault == Fault::SecondLeader);
    offences.extend(before.judge(&world, scenario, two));
    let calls: Vec<Call> = world.processes().flat_map(|process| process.line.calls()).collect();
    offences.extend(surplus(&writes(&calls), &reference.writes, faults));
    let hits = world.hits();
    let statement_hit = faults.statement.is_none_or(|(at, _)| world.application.lock().statements > at);
    if offences.is_empty() {
        return Ok(hits >= faults.line.calls.len() + faults.line.events.len() && statement_hit);
    }
    offences.push(format!("the calls: {}", shown(&calls)));
    Err(Broken(offences).into())
}

/// A process that has started, and looked at everything.
async fn begin(moment: &Moment, seed: u64) -> World {
    let mut world = World::at(moment, seed);
    world.calm_down(Duration::from_secs(20), Duration::from_mins(2)).await;
    world
}

struct Before {
    revision: u64,
    objects: Vec<std::sync::Arc<serde_json::Value>>,
    application: crate::application::Application,
}

impl Before {
    fn of(world: &World) -> Self {
        world.application.lock().statements = 0;
        let application = world.application.lock().clone();
        Self { revision: world.api.revision(), objects: world.objects(), application }
    }

    fn judge(&self, world: &World, scenario: &Scenario, two_lead: bool) -> Vec<String> {
        let events = world.api.events_since(self.revision);
        let mut offences = judge(&self.objects, &events, &world.images.server);
        offences.retain(|offence| !two_lead || !offence.contains("is said to be ready"));
        let application = world.application.lock();
        if !scenario.edges.data_end {
            offences.extend(judge_data(&self.application, &application));
        }
        if !scenario.edges.accounts_stay && !scenario.edges.data_end {
            offences.extend(judge_accounts(&application, &world.secrets()));
        }
        if !scenario.edges.tokens_end {
            offences.extend(application.clients.complaints.iter().cloned());
        }
        if let Some(service) = world.service() {
            offences.extend(missing_users(&service, &application));
        }
        drop(application);
        offences.extend(world.processes().flat_map(crate::process::Process::offences));
        offences
    }
}

/// How a run is to end.
struct End {
    wanted: State,
    /// Older accounts and keys may be left from what was read on the way.
    whatever_past: bool,
}

impl End {
    /// How a world differs; empty when it does not.
    fn difference(&self, world: &World) -> anyhow::Result<String> {
        let state = world.state()?;
        Ok(if self.whatever_past {
            differences(&forgiving(self.wanted.clone()), &forgiving(state))
        } else {
            differences(&self.wanted, &state)
        })
    }

    /// Waits for it, and looks whether it stays; what goes wrong only then disturbs the rest, and it is to be
    /// reached again.
    async fn is_reached_and_stays(&self, world: &mut World) -> anyhow::Result<Vec<String>> {
        loop {
            let offences = self.is_reached(world).await?;
            if !offences.is_empty() {
                return Ok(offences);
            }
            let hits = world.hits();
            let offences = self.stays(world).await?;
            if world.hits() == hits {
                return Ok(offences);
            }
        }
    }

    /// Waits for it; answers how the world differs after the longest time.
    async fn is_reached(&self, world: &mut World) -> anyhow::Result<Vec<String>> {
        let end = tokio::time::Instant::now() + LONGEST;
        // Longer than reads stay stale.
        let mut pause = Duration::from_secs(40);
        loop {
            let hits = world.hits();
            world.calm_down(pause, LONGEST).await;
            if world.hits() != hits {
                continue;
            }
            let difference = self.difference(world)?;
            if difference.is_empty() {
                return Ok(Vec::new());
            }
            if tokio::time::Instant::now() > end {
                return Ok(vec![format!("another end: {difference}")]);
            }
            pause = (pause * 2).min(CALM * 2);
        }
    }

    /// Looks whether it stays, without a write.
    async fn stays(&self, world: &mut World) -> anyhow::Result<Vec<String>> {
        let mut offences = writes_at_rest(world).await;
        let difference = self.difference(world)?;
        if !difference.is_empty() {
            offences.push(format!("the end does not stay: {difference}"));
        }
        Ok(offences)
    }
}

/// Writes of a world that has come to rest, over longer than any look at it is away.
pub async fn writes_at_rest(world: &mut World) -> Vec<String> {
    let before: Vec<usize> = world.processes().map(|process| process.line.calls().len()).collect();
    world.pass(STABLE).await;
    let since = world
        .processes()
        .zip(before)
        .flat_map(|(process, before)| process.line.calls().into_iter().skip(before));
    since
        .filter(Call::is_write)
        .map(|call| format!("a write at rest: {} {}", call.method, call.path))
        .collect()
}

fn writes(calls: &[Call]) -> Writes {
    let mut writes = Writes::new();
    for call in calls.iter().filter(|call| call.is_write() && call.done && !call.is_telling()) {
        *writes.entry(format!("{} {}", call.method, without_hash(&call.path))).or_default() += 1;
    }
    writes
}

/// A path without the hash in a migration Job's name.
fn without_hash(path: &str) -> &str {
    path.find("-migrate-").map_or(path, |at| &path[..at + "-migrate-".len()])
}

/// Writes beyond those of the undisturbed run and one more.
fn surplus(writes: &Writes, reference: &Writes, faults: &Faults) -> Vec<String> {
    let leaders = 1 + faults.line.calls.iter().filter(|(_, fault)| *fault == Fault::SecondLeader).count();
    let jumps = faults.line.calls.iter().any(|(_, fault)| matches!(fault, Fault::ClockJump(_)));
    // Two leaders that differ about the time undo each other's writes until it has passed for both.
    if leaders > 1 && jumps {
        return Vec::new();
    }
    let stale = faults.line.calls.iter().any(|(_, fault)| matches!(fault, Fault::Stale(_)));
    let faults = faults.line.calls.len() + faults.line.events.len() + usize::from(faults.statement.is_some());
    // To a clock that has jumped, what pods said before a migration seems to be said after it.
    // And what was read late is done and undone again.
    let again = if jumps || stale { 3 } else { 0 };
    let allowed = |write: &String| {
        // What is deleted is gone.
        if write.ends_with("/jobs") || write.contains("/jobs/") {
            // A restart forgets how long it waited for the next attempt.
            return 2 * leaders * reference.get(write).copied().unwrap_or(0) + faults.max(1) + again;
        }
        let spare = if write.starts_with("DELETE") { 0 } else { faults.max(1) + again };
        leaders * reference.get(write).copied().unwrap_or(0) + spare
    };
    writes
        .iter()
        .filter(|(write, count)| **count > allowed(write))
        .map(|(write, count)| {
            format!(
                "{write} was done {count} times, {} undisturbed",
                reference.get(write).copied().unwrap_or(0)
            )
        })
        .collect()
}

fn shown(calls: &[Call]) -> String {
    let told = calls.iter().filter(|call| call.is_write() || call.code != Some(200));
    let lines = told.map(|Call { method, path, code, at, .. }| {
        format!("\n  {:.3} {method} {path} {code:?}", at.as_secs_f64())
    });
    lines.collect::<Vec<_>>().concat()
}

/// Runs in simulated time, on this thread.
///
/// # Errors
/// The run's own.
pub fn simulated<T>(run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.context("no runtime")?.block_on(run)
}
