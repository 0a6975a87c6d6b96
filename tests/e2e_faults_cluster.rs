//! What a cluster may lose as a whole: its API server, its memory's process, and its power. Services go
//! on for as long as they can, and afterwards everything is as it was.

mod support;

use std::time::Duration;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{ResourceExt as _, api::DeleteParams};
use rand::{RngExt as _, seq::SliceRandom as _};
use serde_json::json;
use support::{
    cluster::Sandbox,
    faults::{Allowed, Before, NO_ANSWER, Traffic, only, random},
    machine,
    node::{eventually, on_node, wait_rolled_out},
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

/// Waits until the API server answers, and the operator brings back what is deleted.
async fn operator_works(sandbox: &Sandbox) -> anyhow::Result<()> {
    eventually("an answer of the API server", &true, async || {
        Ok(tokio::time::timeout(Duration::from_secs(2), sandbox.client.apiserver_version()).await?.is_ok())
    })
    .await?;
    let budgets = sandbox.api::<PodDisruptionBudget>();
    let uid = budgets.get("auth").await?.uid();
    budgets.delete("auth", &DeleteParams::default()).await?;
    sandbox.wait_until("auth", "another budget", |budget: &PodDisruptionBudget| budget.uid() != uid).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_notices_that_the_api_server_and_etcd_are_killed() -> anyhow::Result<()> {
    let _alone = alone().await;
    on_node("control-plane", async |sandbox| {
        let mut random = random();
        sandbox.create_service("auth", json!({})).await?;
        sandbox.wait_ready("auth").await?;
        let before = Before::of(sandbox, "auth").await?;
        let traffic = Traffic::start(sandbox, "auth").await?;

        let rounds = if std::env::var_os("TEST_FULL").is_some() { 5 } else { 1 };
        let mut kills = 0;
        for _ in 0..rounds {
            let mut faults: [&[&str]; 3] = [&["kube-apiserver"], &["etcd"], &machine::CONTROL_PLANE];
            faults.shuffle(&mut random);
            for programs in faults {
                tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
                machine::kill(programs).await?;
                kills += programs.len();
                operator_works(sandbox).await?;
            }
        }
        before.again(sandbox).await?;
        let met = traffic.stop(&format!("{kills} kills of API server and etcd")).await?;
        only(&met.validations, &[])?;
        only(&met.logins, &[])
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
