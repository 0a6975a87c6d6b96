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
    node::{eventually, on_node, pods},
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

async fn login_works(sandbox: &Sandbox) -> anyhow::Result<()> {
    let (address, user) = (clients::address(sandbox, "auth").await?, admin(sandbox, "auth").await?);
    eventually("a login", &200, async || Ok(clients::login(&address, &user).await?.status)).await
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

        let mut doomed = pods(sandbox, "auth", "server").await?;
        doomed.extend(pods(sandbox, "auth", "database").await?);
        anyhow::ensure!(doomed.len() == 3, "{} pods", doomed.len());
        doomed.shuffle(&mut random);
        let (mut refused, mut without_database) = (0, Vec::new());
        // At once, so that the budget has something to refuse.
        for pod in &doomed {
            let name = pod.name_any();
            let is_database = name == "auth-mysql-0";
            let began = Instant::now();
            let all = sandbox.api::<Pod>();
            eventually("an eviction", &true, async || {
                let evicted = evict(&all, &name).await?;
                Ok(evicted)
            })
            .await?;
            if began.elapsed() > Duration::from_millis(200) {
                refused += 1;
            }
            if is_database {
                sandbox
                    .wait_until(&name, "another database pod", |live: &Pod| live.uid() != pod.uid() && pod_is_ready(live))
                    .await?;
                login_works(sandbox).await?;
                without_database.push((began, Instant::now()));
            }
        }
        before.again(sandbox).await?;
        println!("3 pods evicted, {refused} of them not at once");
        let met = traffic.stop("evictions").await?;
        only(&met.validations, &[])?;
        let &[(from, to)] = &without_database[..] else { anyhow::bail!("no database was evicted") };
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
            before.again(sandbox).await?;
            dark.push((from, Instant::now()));
        }
        let met = traffic.stop(&format!("{boots} boots")).await?;
        let in_the_dark = |what| dark.iter().map(|&(from, to)| Allowed { from, to, what }).collect::<Vec<_>>();
        only(&met.validations, &in_the_dark(&NO_ANSWER))?;
        only(&met.logins, &[in_the_dark(&NO_ANSWER), in_the_dark(&["503"])].concat())
    })
    .await
}
