//! Campaigns: random lives of a resource, of changes, edits, faults and restarts. However it went, once
//! all is well again the end is that of a resource newly made with the last spec.

use std::{sync::Arc, time::Duration};

use authservice::operator::labels;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::{
    api_server::Kind,
    application::server::Ring,
    line::{EventFault, Fault, Plan},
    lives::{Act, Beginning, Case, Life, lives},
    newly_made::{Given, comparable, newly_made},
    normal_form::differences,
    objects::{condition_holds, data, items, number, text},
    oracles::{judge, judge_data, missing_users},
    run::{simulated, writes_at_rest},
    scenarios::{external, secrets},
    steps::{CALM, Child, LONGEST, Step, act_all},
    world::{Moment, NAMESPACE, SERVICE, World},
};

/// The Secret of the signing keys.
const KEYS: &str = "gate-keys";
/// How long two lead: they undo each other's reports without a pause, and the election ends it.
const BESIDE: Duration = Duration::from_secs(1);
/// Longer than the clock of a process may go wrong.
const CLOCK_JUMP: Duration = Duration::from_mins(65);
/// Lives tried with one seed, before the next.
const LIVES: u32 = 8;

/// The moments at which lives begin.
pub struct Beginnings {
    nothing: Moment,
    managed: Moment,
    external: Moment,
}

impl Beginnings {
    /// Reaches each of them.
    ///
    /// # Errors
    /// The operator does not.
    pub fn prepare(seed: u64) -> anyhow::Result<Self> {
        let reach = |steps: Vec<Step>| {
            simulated(async {
                let mut world = World::at(&Moment::empty(), seed);
                act_all(&mut world, &secrets()).await?;
                act_all(&mut world, &[Step::External("db".to_owned()), Step::External("other".to_owned())])
                    .await?;
                act_all(&mut world, &steps).await?;
                world.calm_down(CALM, LONGEST).await;
                anyhow::Ok(world.moment())
            })
        };
        Ok(Self {
            nothing: reach(Vec::new())?,
            managed: reach(vec![Step::Create(json!({})), Step::Settle])?,
            external: reach(vec![Step::Create(external()), Step::Settle])?,
        })
    }

    fn of(&self, beginning: Beginning) -> &Moment {
        match beginning {
            Beginning::Nothing => &self.nothing,
            Beginning::Managed => &self.managed,
            Beginning::External => &self.external,
        }
    }
}

/// What a campaign did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walked {
    /// Lives.
    pub lives: usize,
    /// Acts in them.
    pub acts: usize,
}

/// A life that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// The shortest that does.
    pub case: Case,
    /// How.
    pub words: String,
}

/// Lives of one seed. On a failure the shortest life is looked for that fails, too.
///
/// # Errors
/// [`Failure`].
pub fn walk(beginnings: &Beginnings, seed: u64) -> Result<Walked, Box<Failure>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: LIVES, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let walked = std::cell::Cell::new(Walked::default());
    let outcome = runner.run(&lives(), |(beginning, seed, life)| {
        let Walked { lives, acts } = walked.get();
        walked.set(Walked { lives: lives + 1, acts: acts + life.len() });
        let case = Case { beginning, seed, life };
        live(beginnings, &case).map_err(|error| {
            tracing::warn!(acts = case.life.len(), "a life fails: {error:#}");
            TestCaseError::fail(format!("{error:#}"))
        })
    });
    match outcome {
        Ok(()) => Ok(walked.get()),
        Err(TestError::Fail(why, (beginning, seed, life))) => {
            let found = Failure { case: Case { beginning, seed, life }, words: why.to_string() };
            Err(Box::new(shortest(beginnings, found)))
        }
        Err(TestError::Abort(why)) => {
            let case = Case { beginning: Beginning::Nothing, seed, life: Vec::new() };
            Err(Box::new(Failure { case, words: why.to_string() }))
        }
    }
}

/// Looks for a shorter life that fails, too: without ever smaller parts of it, as delta debugging does.
/// Taking whole parts away comes to the end in fewer runs than proptest, which takes away act by act.
fn shortest(beginnings: &Beginnings, mut found: Failure) -> Failure {
    let mut part = found.case.life.len().div_ceil(2);
    loop {
        let (length, mut from) = (found.case.life.len(), 0);
        while from < found.case.life.len() {
            let mut shorter = found.case.clone();
            shorter.life.drain(from..(from + part).min(shorter.life.len()));
            match live(beginnings, &shorter) {
                Ok(()) => from += part,
                Err(error) => found = Failure { case: shorter, words: format!("{error:#}") },
            }
        }
        if part == 1 && found.case.life.len() == length {
            return found;
        }
        part = part.div_ceil(2).max(1);
    }
}

/// Lives one life, and judges it.
///
/// # Errors
/// A promise was broken.
pub fn live(beginnings: &Beginnings, case: &Case) -> anyhow::Result<()> {
    simulated(lived(beginnings.of(case.beginning), case))
}

/// What of a life is remembered to judge it.
struct Record {
    data_end: bool,
}

async fn lived(moment: &Moment, case: &Case) -> anyhow::Result<()> {
    let mut world = World::at(moment, case.seed);
    world.beside_for = Some(BESIDE);
    world.pass(Duration::from_secs(1)).await;
    let revision = world.api.revision();
    let (objects, application) = (world.objects(), world.application.lock().clone());
    let mut record = Record { data_end: false };
    for (act, milliseconds) in &case.life {
        perform(&mut world, act, &mut record).await?;
        world.pass(Duration::from_millis(u64::from(*milliseconds))).await;
    }
    conclude(&mut world, &mut record).await?;
    let events = world.api.events_since(revision);
    let mut offences = judge(&objects, &events, "");
    let lived = world.application.lock().clone();
    if !record.data_end {
        offences.extend(judge_data(&application, &lived));
    }
    offences.extend(lived.clients.complaints.iter().cloned());
    offences.extend(world.service().iter().flat_map(|service| missing_users(service, &lived)));
    offences.extend(world.processes().flat_map(crate::process::Process::offences));
    offences.extend(late_writes(&mut world, &case.life).await);
    anyhow::ensure!(offences.is_empty(), "{}", offences.join("\n"));
    as_newly_made(&mut world, case.seed).await
}

/// Writes of a world that should be at rest. What a wrong clock has dated comes due later, and what was read
/// late or never heard of is seen with the next look: then comes the rest.
async fn late_writes(world: &mut World, life: &Life) -> Vec<String> {
    let late = |act: &Act| {
        matches!(
            act,
            Act::Call(_, Fault::ClockJump(_) | Fault::Stale(_)) | Act::Event(_, EventFault::Dropped)
        )
    };
    let writes = writes_at_rest(world).await;
    if writes.is_empty() || !life.iter().any(|(act, _)| late(act)) {
        return writes;
    }
    world.pass(CLOCK_JUMP).await;
    writes_at_rest(world).await
}

/// Whether the end is that of a new resource, at once or when what a past clock began is over.
async fn as_newly_made(world: &mut World, seed: u64) -> anyhow::Result<()> {
    let fresh = newly_made(&Given::of(world), seed).await?;
    for _ in 0..3 {
        if comparable(world.state()?) == fresh {
            return Ok(());
        }
        world.pass(CLOCK_JUMP).await;
    }
    anyhow::bail!("not as newly made: {}", differences(&fresh, &comparable(world.state()?)))
}

async fn perform(world: &mut World, act: &Act, record: &mut Record) -> anyhow::Result<()> {
    match act {
        Act::Step(step) => {
            foresee(world, step, record);
            world.act(step).await?;
        }
        Act::Call(at, fault) => world.arm(Plan { calls: vec![(*at, *fault)], events: Vec::new() }),
        Act::Event(at, fault) => world.arm(Plan { calls: Vec::new(), events: vec![(*at, *fault)] }),
        Act::Statement(at, fault) => {
            let mut application = world.application.lock();
            let next = application.statements + at;
            application.fault = Some((next, *fault));
        }
    }
    Ok(())
}

/// Tokens and data that end by what somebody does, and not by the operator.
fn foresee(world: &mut World, step: &Step, record: &mut Record) {
    let service = world.service();
    let deletes = service.as_ref().is_some_and(|service| text(service, "/spec/deletionPolicy") == "Delete")
        || deletes_still(world);
    let begun = service.as_ref().is_some_and(|service| !text(service, "/status/token/keyId").is_empty());
    let has_keys = world.api.get(Kind::Secret, NAMESPACE, KEYS).is_some();
    let asked_for = |secret: &str| {
        service
            .as_ref()
            .is_some_and(|service| service["metadata"]["annotations"][labels::REGENERATE] == secret)
    };
    match step {
        // Whoever makes it anew without its keys, under another name or for others ends the tokens of before.
        Step::Create(spec) if service.is_none() => {
            let issuer = spec.pointer("/token/issuer").and_then(Value::as_str);
            let issuer =
                issuer.map_or_else(|| format!("http://{SERVICE}.{NAMESPACE}.svc:5000"), str::to_owned);
            let audience = spec.pointer("/token/audience").and_then(Value::as_str).map(str::to_owned);
            if !has_keys {
                give_up_keys(world);
            }
            world.application.lock().clients.give_up_other_names(issuer, audience);
        }
        Step::Delete if deletes => {
            record.data_end = true;
            give_up_keys(world);
            // Without the data nobody brings back what went with them.
            world.removed.clear();
        }
        Step::Remove(Child::StatefulSet, _) if deletes => record.data_end = true,
        Step::Annotate(_, Some(name)) if name == KEYS && !has_keys => give_up_keys(world),
        // Before the first report nobody can tell that there were keys.
        Step::Remove(Child::Secret, name) if name == KEYS && (asked_for(name) || !begun) => {
            give_up_keys(world);
        }
        _ => {}
    }
}

/// Whether children still are as `deletionPolicy: Delete` has them: a change of the policy counts once it
/// was observed.
fn deletes_still(world: &World) -> bool {
    let owned = |name: &&str| {
        let secret = world.api.get(Kind::Secret, NAMESPACE, name);
        secret.is_some_and(|secret| !items(&secret, "/metadata/ownerReferences").is_empty())
    };
    let database = world.api.get(Kind::StatefulSet, NAMESPACE, "gate-mysql");
    [KEYS, "gate-database", "gate-mysql-root"].iter().any(owned)
        || database.is_some_and(|database| {
            text(&database, "/spec/persistentVolumeClaimRetentionPolicy/whenDeleted") == "Delete"
        })
}

/// Whoever ends the present keys, or those that were deleted, tells those who hold tokens.
fn give_up_keys(world: &World) {
    let present = world.api.get(Kind::Secret, NAMESPACE, KEYS);
    let rings = present.as_deref().into_iter().chain(world.removed.get(KEYS)).map(data);
    let keys: Vec<String> = rings.flat_map(|entries| Ring::of(&entries).0.into_keys()).collect();
    world.application.lock().clients.give_up_keys(keys);
}

/// Everything is well again: whoever broke something has mended it.
async fn conclude(world: &mut World, record: &mut Record) -> anyhow::Result<()> {
    world.arm(Plan::default());
    world.application.lock().fault = None;
    for host in [None, Some("db".to_owned()), Some("other".to_owned())] {
        world.act(&Step::Reach { host, answers: true }).await?;
    }
    for step in secrets() {
        world.act(&step).await?;
    }
    for name in [KEYS, "gate-database", "gate-mysql-root"] {
        world.act(&Step::Restore(name.to_owned())).await?;
    }
    world.end_others();
    if world.service().is_none() {
        world.pass(Duration::from_secs(30)).await;
        perform(world, &Act::Step(Step::Create(json!({}))), record).await?;
    }
    world.act(&Step::Spec(json!({"suspend": null}))).await?;
    world.act(&Step::Settle).await?;
    let is_ready = |service: &Arc<Value>| {
        condition_holds(service, "Ready")
            && number(service, "/status/observedGeneration") == number(service, "/metadata/generation")
    };
    if !world.service().as_ref().is_some_and(is_ready) {
        // Longer than the longest backoff.
        world.calm_down(CALM * 6, LONGEST).await;
    }
    // An account of the user's cannot set up a database that it has no rights on.
    let leads_nowhere = |service: &Arc<Value>| {
        condition_holds(service, "SecretUnusable") || !condition_holds(service, "SchemaReady")
    };
    if let Some(service) = world.service().filter(leads_nowhere) {
        world.act(&Step::Spec(usable_references(&service))).await?;
        world.act(&Step::Settle).await?;
    }
    for name in ["gate-mysql-root", "gate-database", KEYS] {
        if world.service().is_some_and(|service| condition_holds(&service, "SecretLost")) {
            regenerate(world, name, record).await?;
        }
    }
    // A root password is taken over by the next start, as the condition says.
    world.act(&Step::Evict("database".to_owned())).await?;
    world.act(&Step::Annotate(labels::REGENERATE.to_owned(), None)).await?;
    world.calm_down(CALM * 6, LONGEST).await;
    Ok(())
}

/// Asks for a Secret to be made anew that nobody can bring back.
async fn regenerate(world: &mut World, name: &str, record: &mut Record) -> anyhow::Result<()> {
    if world.api.get(Kind::Secret, NAMESPACE, name).is_none() {
        let request = Step::Annotate(labels::REGENERATE.to_owned(), Some(name.to_owned()));
        perform(world, &Act::Step(request), record).await?;
        world.act(&Step::Settle).await?;
    }
    Ok(())
}

/// What takes back every reference to a Secret that does not exist or does not fit.
fn usable_references(service: &Value) -> Value {
    let mut patch = json!({"token": {"signingKeySecretRef": null}});
    if service.pointer("/spec/database/external").is_some() {
        patch["database"]["external"] =
            json!({"credentialsSecretRef": null, "adminCredentialsSecretRef": {"name": "root"}});
    }
    patch
}
