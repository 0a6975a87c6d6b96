//! The operator killed at every call of create, update and delete, before the call reaches the API
//! server and after it was done but not answered: the next process comes to the same end.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context as _;
use authservice::api::AuthService;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, api::DeleteParams};
use serde_json::{Value, json};
use support::{
    cluster::{Sandbox, client, install_definitions, is_ready},
    normal::{State, state, wait_for_state_in},
    operator::{Operator, Options},
    players::{Script, play},
    proxy::{Call, Fault, Loss, Proxy},
    secrets,
};

/// Secrets whose entries are written once.
const WRITTEN_ONCE: &[&str] = &["gate-keys", "gate-database", "gate-admin", "gate-mysql-root"];
/// Runs side by side in each test.
const RUNS: usize = 12;

/// What is done to the resource while calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    Create,
    Update,
    Delete { policy: &'static str },
}

impl Scenario {
    fn prefix(self) -> &'static str {
        match self {
            Self::Create => "crash-create",
            Self::Update => "crash-update",
            Self::Delete { .. } => "crash-delete",
        }
    }

    fn first_spec(self) -> Value {
        match self {
            Self::Create | Self::Update => json!({}),
            Self::Delete { policy } => json!({"deletionPolicy": policy}),
        }
    }

    async fn act(self, sandbox: &Sandbox) -> anyhow::Result<()> {
        match self {
            Self::Create => drop(sandbox.create_service("gate", self.first_spec()).await?),
            Self::Update => drop(sandbox.merge::<AuthService>("gate", json!({"spec": updated()})).await?),
            Self::Delete { .. } => {
                drop(sandbox.api::<AuthService>().delete("gate", &DeleteParams::background()).await?);
            }
        }
        Ok(())
    }

    /// Whether the resource says that all is done.
    async fn is_done(self, sandbox: &Sandbox) -> anyhow::Result<bool> {
        let live = sandbox.api::<AuthService>().get_opt("gate").await?;
        Ok(live.as_ref().map_or(matches!(self, Self::Delete { .. }), is_ready))
    }
}

/// Several fields at once, of which some wait for a migration and some do not.
fn updated() -> Value {
    json!({
        "replicas": 1,
        "image": "registry/server:2",
        "token": {"ttl": "1h"},
        "passwords": {"legacyFormats": ["plaintext"]},
        "users": {"bootstrap": [{"email": "a@b.c", "passwordSecretRef": {"name": "user"}}]},
        "pod": {"labels": {"team": "gate"}},
        "database": {"managed": {"resources": {"requests": {"memory": "1Gi"}}}},
        "deletionPolicy": "Delete",
    })
}

/// One run: how the namespace ended, and what was called meanwhile.
struct Ended {
    state: State,
    calls: Vec<Call>,
}

/// Without a fault: what all other runs are measured by.
async fn undisturbed(client: &Client, scenario: Scenario) -> anyhow::Result<Ended> {
    let sandbox = Sandbox::new(client.clone(), scenario.prefix()).await?;
    let (_operator, proxy) = prepare(&sandbox, scenario).await?;
    let before = proxy.calls().len();
    scenario.act(&sandbox).await?;
    quiet(&sandbox, scenario, &proxy).await?;
    let state = settled_state(&sandbox).await?;
    let calls = proxy.calls().split_off(before);
    sandbox.delete().await?;
    Ok(Ended { state, calls })
}

/// The namespace's state once Kubernetes' own controllers have come to their end too.
async fn settled_state(sandbox: &Sandbox) -> anyhow::Result<State> {
    let mut last = state(&sandbox.client, &sandbox.namespace).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let live = state(&sandbox.client, &sandbox.namespace).await?;
        if live == last {
            return Ok(live);
        }
        last = live;
    }
}

/// An operator behind a proxy, and the resource as it is before calls are counted.
async fn prepare(sandbox: &Sandbox, scenario: Scenario) -> anyhow::Result<(Operator, Proxy)> {
    play(&sandbox.namespace, Script::default());
    sandbox.create::<Secret>(&json!({"metadata": {"name": "user"}, "stringData": {"password": "p"}})).await?;
    let proxy = Proxy::start(sandbox.client.clone()).await?;
    let options = Options { kubeconfig: Some(proxy.kubeconfig()), ..Options::watching(&sandbox.namespace) };
    let operator = Operator::start_with(sandbox, &options)?;
    if scenario != Scenario::Create {
        sandbox.create_service("gate", scenario.first_spec()).await?;
        quiet(sandbox, Scenario::Create, &proxy).await?;
    }
    Ok((operator, proxy))
}

/// Waits until all is done and the operator calls no more.
async fn quiet(sandbox: &Sandbox, scenario: Scenario, proxy: &Proxy) -> anyhow::Result<()> {
    let (mut last, mut rounds) = (usize::MAX, 0);
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let calls = proxy.calls().len();
        rounds = if calls == last && scenario.is_done(sandbox).await? { rounds + 1 } else { 0 };
        if rounds == 7 {
            return Ok(());
        }
        last = calls;
    }
    sandbox.tell().await;
    anyhow::bail!("{scenario:?} comes to no end")
}

/// Loses one call, or all from the start, kills the operator with it, starts another one and waits
/// for the same end.
async fn disturbed(
    client: &Client,
    scenario: Scenario,
    fault: Option<&Fault>,
    wanted: &State,
) -> anyhow::Result<bool> {
    let sandbox = Sandbox::new(client.clone(), scenario.prefix()).await?;
    let (mut operator, proxy) = prepare(&sandbox, scenario).await?;
    match fault {
        Some(fault) => proxy.arm(fault.clone()),
        None => proxy.cut(),
    }
    scenario.act(&sandbox).await?;
    let tripped = tokio::select! {
        () = proxy.tripped() => true,
        done = quiet(&sandbox, scenario, &proxy) => done.map(|()| false)?,
    };
    operator.kill().await?;
    drop(proxy);
    let _operator = Operator::start(&sandbox)?;
    let outcome = wait_for_state_in(client, &sandbox.namespace, "the same end", wanted).await;
    let values = secrets::values_of(&sandbox.namespace, WRITTEN_ONCE);
    let rewritten: Vec<(&String, &usize)> = values.iter().filter(|(_, values)| **values != 1).collect();
    anyhow::ensure!(values.len() >= 10, "the watch of Secrets missed entries: {values:?}");
    if outcome.is_err() {
        sandbox.tell().await;
    }
    sandbox.delete().await?;
    outcome.with_context(|| format!("{scenario:?}, {fault:?}, {}", sandbox.namespace))?;
    anyhow::ensure!(
        rewritten.is_empty(),
        "{scenario:?}, {fault:?}: entries written more than once: {rewritten:?}"
    );
    Ok(tripped)
}

/// Every call with what is lost of it. A lost answer to a read is a lost read.
fn faults(calls: &[Call]) -> Vec<Fault> {
    let mut met = BTreeMap::new();
    let mut faults = Vec::new();
    for call in calls {
        let nth = *met.entry(call).and_modify(|met| *met += 1).or_insert(1);
        let lost = |loss| Fault { call: call.clone(), nth, loss };
        if call.is_write() {
            faults.extend([lost(Loss::Request), lost(Loss::Reply)]);
        } else if std::env::var_os("TEST_FULL").is_some() {
            faults.push(lost(Loss::Request));
        }
    }
    faults
}

/// Whether every run makes this call: a first write of something that is not a report.
fn is_certain(fault: &Fault) -> bool {
    fault.call.is_write() && fault.nth == 1 && !fault.call.is_telling()
}

async fn killed_at_every_call(scenario: Scenario) -> anyhow::Result<()> {
    let client = client().await?;
    install_definitions(&client).await?;
    secrets::watch();
    let undisturbed = undisturbed(&client, scenario).await?;
    let faults = faults(&undisturbed.calls);
    let writes: BTreeSet<&String> =
        undisturbed.calls.iter().filter(|call| call.is_write()).map(|call| &call.method).collect();
    println!("{scenario:?}: N = {} calls, {writes:?}; {} kills", undisturbed.calls.len(), faults.len() + 1);
    let started = std::time::Instant::now();
    let (client, wanted) = (&client, &undisturbed.state);
    let missed: Vec<&Fault> = stream::iter(std::iter::once(None).chain(faults.iter().map(Some)))
        .map(async |fault| {
            let hit = disturbed(client, scenario, fault, wanted).await?;
            anyhow::Ok(fault.filter(|_| !hit))
        })
        .buffer_unordered(RUNS)
        .try_filter_map(async |missed| Ok(missed))
        .try_collect()
        .await?;
    let (hit, all) = (faults.len() - missed.len(), faults.len());
    println!("{scenario:?}: {hit} of {all} calls lost, {} s", started.elapsed().as_secs());
    let missed: Vec<&Fault> = missed.into_iter().filter(|fault| is_certain(fault)).collect();
    anyhow::ensure!(missed.is_empty(), "calls that were never made when they should be lost: {missed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_call_of_a_creation_the_end_is_the_same() -> anyhow::Result<()> {
    killed_at_every_call(Scenario::Create).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_call_of_an_update_the_end_is_the_same() -> anyhow::Result<()> {
    killed_at_every_call(Scenario::Update).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_call_of_a_deletion_the_end_is_the_same() -> anyhow::Result<()> {
    killed_at_every_call(Scenario::Delete { policy: "Retain" }).await?;
    killed_at_every_call(Scenario::Delete { policy: "Delete" }).await
}
