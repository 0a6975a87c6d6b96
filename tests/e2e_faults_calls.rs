//! The operator killed at each kind of write of a creation and of an update, one after the other,
//! with real pods: each process comes as far as its first write that none before it was killed at,
//! and the end is the same as without kills. Which of them reach the API server, a seed says.

mod support;

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use authservice::api::AuthService;
use k8s_openapi::api::core::v1::Secret;
use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};
use support::{
    clients::variable,
    cluster::{Sandbox, client, install_definitions, is_ready},
    faults::{Traffic, only, random},
    node::{Helm, SYSTEM, helm, in_own_namespace, wait_rolled_out},
    normal::{State, state, wait_for_state},
    operator::{Operator, Options},
    proxy::{Call, Loss, Proxy},
    secrets,
};

/// Secrets whose entries are written once.
const WRITTEN_ONCE: [&str; 4] = ["auth-keys", "auth-database", "auth-admin", "auth-mysql-root"];

/// What changes the Deployment, its image included, asks for a migration, and changes to whom the
/// Secrets and the volume belong.
fn updated() -> anyhow::Result<Value> {
    Ok(json!({
        "replicas": 3,
        "image": variable("TEST_NEXT_SERVER_IMAGE")?,
        "token": {"ttl": "1h"},
        "administration": {},
        "users": {"bootstrap": [{"email": "a@b.c", "passwordSecretRef": {"name": "user"}}]},
        "pod": {"labels": {"team": "gate"}},
        "deletionPolicy": "Delete",
    }))
}

async fn create(sandbox: &Sandbox) -> anyhow::Result<()> {
    sandbox.create::<Secret>(&json!({"metadata": {"name": "user"}, "stringData": {"password": "p"}})).await?;
    sandbox.create_service("auth", json!({})).await?;
    Ok(())
}

async fn update(sandbox: &Sandbox) -> anyhow::Result<()> {
    sandbox.merge::<AuthService>("auth", json!({"spec": updated()?})).await?;
    Ok(())
}

async fn start(sandbox: &Sandbox) -> anyhow::Result<(Operator, Proxy)> {
    let proxy = Proxy::start(sandbox.client.clone()).await?;
    // One that cannot renew its lease in time ends, and no kubelet is there to start it again.
    let lease_duration = Duration::from_mins(2);
    let kubeconfig = Some(proxy.kubeconfig());
    let options = Options { kubeconfig, lease_duration, ..Options::watching(&sandbox.namespace) };
    Ok((Operator::start_with(sandbox, &options)?, proxy))
}

/// Waits until the resource is ready and nothing was called for a while.
async fn quiet(sandbox: &Sandbox, proxy: &Proxy) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_mins(2);
    let started = tokio::time::Instant::now();
    let (mut last, mut rounds) = (usize::MAX, 0);
    while rounds < 8 {
        anyhow::ensure!(started.elapsed() < PATIENCE, "comes to no end");
        tokio::time::sleep(Duration::from_millis(250)).await;
        let calls = proxy.calls().len();
        let ready = is_ready(&sandbox.api::<AuthService>().get("auth").await?);
        rounds = if calls == last && ready { rounds + 1 } else { 0 };
        last = calls;
    }
    Ok(())
}

/// How it ends without kills, and which kinds of writes that takes.
struct Calm {
    states: [State; 2],
    writes: [BTreeSet<Call>; 2],
}

async fn calm() -> anyhow::Result<Calm> {
    let mut calm = Calm { states: Default::default(), writes: Default::default() };
    in_own_namespace("calm", async |sandbox| {
        let (_operator, proxy) = start(sandbox).await?;
        let mut before = 0;
        for (number, (state_then, writes)) in calm.states.iter_mut().zip(&mut calm.writes).enumerate() {
            if number == 0 {
                create(sandbox).await?;
            } else {
                update(sandbox).await?;
            }
            quiet(sandbox, &proxy).await?;
            wait_rolled_out(sandbox, "auth").await?;
            *state_then = state(&sandbox.client, &sandbox.namespace).await?;
            let calls = proxy.calls();
            writes.extend(calls[before..].iter().filter(|call| call.is_write()).map(Call::kind));
            before = calls.len();
        }
        Ok(())
    })
    .await?;
    Ok(calm)
}

/// Kills each operator at its first write of a kind that none before it was killed at, until one of
/// them comes to the end.
async fn kill_each(sandbox: &Sandbox, random: &mut StdRng) -> anyhow::Result<BTreeSet<Call>> {
    let mut met = BTreeSet::new();
    let (mut never, started) = (0, tokio::time::Instant::now());
    loop {
        let (mut operator, proxy) = start(sandbox).await?;
        let loss = if random.random() { Loss::Request } else { Loss::Reply };
        never += usize::from(loss == Loss::Request);
        proxy.arm_other_than(met.clone(), loss);
        tokio::select! {
            () = proxy.tripped() => {}
            done = quiet(sandbox, &proxy) => {
                done?;
                let took = started.elapsed().as_secs();
                println!("{} kills, {never} of them before the call was done, {took} s", met.len());
                return Ok(met);
            }
        }
        operator.kill().await?;
        met.extend(proxy.lost().map(|call| call.kind()));
    }
}

/// Whether an operator was killed at every write that has to happen in each run.
fn all_met(wanted: &BTreeSet<Call>, met: &BTreeSet<Call>) -> anyhow::Result<()> {
    let missed: Vec<&Call> = wanted.difference(met).filter(|call| !call.is_telling()).collect();
    anyhow::ensure!(missed.is_empty(), "no operator was killed at {missed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_kind_of_write_with_real_pods_the_end_is_the_same() -> anyhow::Result<()> {
    // Nobody else may look after what these operators do.
    let release =
        ["uninstall", "authservice-operator", "--namespace", SYSTEM, "--ignore-not-found", "--wait"];
    helm(Helm::V4, &release).await?;
    install_definitions(&client().await?).await?;
    secrets::watch();
    let mut random = random();
    let rounds = if std::env::var_os("TEST_FULL").is_some() { 4 } else { 1 };
    let mut known = None;
    for _ in 0..rounds {
        in_own_namespace("kills", async |sandbox| {
            create(sandbox).await?;
            let created = if known.is_some() {
                kill_each(sandbox, &mut random).await?
            } else {
                // Side by side, since most of it is waiting.
                let (calm, created) = tokio::join!(calm(), kill_each(sandbox, &mut random));
                known = Some(calm?);
                created?
            };
            let calm = known.as_ref().context("no calm run")?;
            wait_for_state(sandbox, "the same creation", &calm.states[0]).await?;
            all_met(&calm.writes[0], &created)?;
            update_under_load(sandbox, &mut random, calm).await?;
            written_once(sandbox)
        })
        .await?;
    }
    Ok(())
}

async fn update_under_load(sandbox: &Sandbox, random: &mut StdRng, calm: &Calm) -> anyhow::Result<()> {
    let traffic = Traffic::start(sandbox, "auth").await?;
    update(sandbox).await?;
    let changed = kill_each(sandbox, random).await?;
    wait_for_state(sandbox, "the same update", &calm.states[1]).await?;
    wait_rolled_out(sandbox, "auth").await?;
    all_met(&calm.writes[1], &changed)?;
    let met = traffic.stop("an update with kills").await?;
    only(&met.validations, &[])?;
    only(&met.logins, &[])
}

fn written_once(sandbox: &Sandbox) -> anyhow::Result<()> {
    let values = secrets::values_of(&sandbox.namespace, &WRITTEN_ONCE);
    let rewritten: Vec<_> = values.iter().filter(|(_, values)| **values != 1).collect();
    anyhow::ensure!(values.len() >= 10, "the watch of Secrets missed entries: {values:?}");
    anyhow::ensure!(rewritten.is_empty(), "entries written more than once: {rewritten:?}");
    Ok(())
}
