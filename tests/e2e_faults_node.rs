//! A node that is drained pod by pod, and one that loses its power: what ran comes back by itself,
//! with its data, and tokens of before are good.

mod support;

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::EvictParams};
use rand::{RngExt as _, seq::SliceRandom as _};
use serde_json::json;
use support::{
    clients::{self, admin, pod_is_ready},
    cluster::Sandbox,
    faults::{Allowed, Before, NO_ANSWER, Traffic, only, random},
    machine,
    node::{eventually, on_node, pods, wait_rolled_out},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// What is broken here everybody shares.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Whether the API server evicts the pod, or says that the budget forbids it now.
async fn evict(pods: &Api<Pod>, name: &str) -> anyhow::Result<bool> {
    match pods.evict(name, &EvictParams::default()).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 429 => Ok(false),
        Err(error) => Err(error).context("evict"),
    }
}

/// Evicts the database's one pod; answers from when until when there was none that works.
async fn evict_database(sandbox: &Sandbox) -> anyhow::Result<(Instant, Instant)> {
    let from = Instant::now();
    let uid = sandbox.api::<Pod>().get("auth-mysql-0").await?.uid();
    anyhow::ensure!(evict(&sandbox.api(), "auth-mysql-0").await?, "the database may not be evicted");
    sandbox
        .wait_until("auth-mysql-0", "another pod", |pod: &Pod| pod.uid() != uid && pod_is_ready(pod))
        .await?;
    let (address, user) = (clients::address(sandbox, "auth").await?, admin(sandbox, "auth").await?);
    eventually("a login", &200, async || Ok(clients::login(&address, &user).await?.status)).await?;
    Ok((from, Instant::now()))
}

#[tokio::test]
async fn pods_are_evicted_one_by_one_and_only_the_databases_own_stops_logins() -> anyhow::Result<()> {
    let _alone = alone().await;
    on_node("evict", async |sandbox| {
        let mut random = random();
        sandbox.create_service("auth", json!({})).await?;
        sandbox.wait_ready("auth").await?;
        let before = Before::of(sandbox, "auth").await?;
        let traffic = Traffic::start(sandbox, "auth").await?;

        let mut servers = pods(sandbox, "auth", "server").await?;
        servers.shuffle(&mut random);
        let database_first = random.random();
        let without_database = if database_first { Some(evict_database(sandbox).await?) } else { None };
        let all = sandbox.api::<Pod>();
        let [first, second] = &servers[..] else { anyhow::bail!("{} server pods", servers.len()) };
        anyhow::ensure!(evict(&all, &first.name_any()).await?, "nothing may be evicted");
        anyhow::ensure!(!evict(&all, &second.name_any()).await?, "the last pod that serves was evicted");
        eventually("room for the second", &true, async || evict(&all, &second.name_any()).await).await?;
        wait_rolled_out(sandbox, "auth").await?;
        let (from, to) = match without_database {
            Some(window) => window,
            None => evict_database(sandbox).await?,
        };
        before.again(sandbox).await?;
        let met = traffic.stop("3 evictions").await?;
        only(&met.validations, &[])?;
        only(&met.logins, &[Allowed { from, to, what: &["503"] }])
    })
    .await
}

#[tokio::test]
async fn a_node_that_loses_its_power_comes_back_with_all_it_had() -> anyhow::Result<()> {
    let _alone = alone().await;
    on_node("power", async |sandbox| {
        let mut random = random();
        sandbox.create_service("auth", json!({})).await?;
        sandbox.wait_ready("auth").await?;
        let before = Before::of(sandbox, "auth").await?;
        let traffic = Traffic::start(sandbox, "auth").await?;
        let boots = if std::env::var_os("TEST_FULL").is_some() { 3 } else { 1 };
        let mut dark = Vec::new();
        for _ in 0..boots {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..2000))).await;
            let from = Instant::now();
            machine::reboot().await?;
            eventually("a login", &true, async || before.serves(sandbox).await.map(|()| true)).await?;
            wait_rolled_out(sandbox, "auth").await?;
            dark.push((from, Instant::now()));
            before.again(sandbox).await?;
        }
        let met = traffic.stop(&format!("{boots} boots")).await?;
        let in_the_dark =
            |what| dark.iter().map(|&(from, to)| Allowed { from, to, what }).collect::<Vec<_>>();
        only(&met.validations, &in_the_dark(&NO_ANSWER))?;
        only(&met.logins, &[in_the_dark(&NO_ANSWER), in_the_dark(&["503"])].concat())
    })
    .await
}
