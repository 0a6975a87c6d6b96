//! What Kubernetes itself may lose: its API server, its memory, and the way from the operator to
//! it. Services go on as if nothing were, and afterwards the operator does its work again.

mod support;

use std::time::Duration;

use anyhow::Context as _;
use authservice::api::AuthService;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use rand::{RngExt as _, seq::SliceRandom as _};
use serde_json::json;
use support::{
    cluster::Sandbox,
    faults::{Before, Traffic, only, random},
    machine::{self, Cut},
    node::{OPERATOR_PODS, SYSTEM, eventually, on_node},
};
use tokio::sync::{Mutex, MutexGuard};

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

async fn operators(sandbox: &Sandbox) -> anyhow::Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(sandbox.client.clone(), SYSTEM);
    Ok(pods.list(&ListParams::default().labels(OPERATOR_PODS)).await?.items)
}

/// The pod that leads.
async fn leader(sandbox: &Sandbox) -> anyhow::Result<String> {
    let leases: Api<Lease> = Api::namespaced(sandbox.client.clone(), SYSTEM);
    let lease = leases.get("authservice-operator").await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).context("nobody leads")?;
    let (pod, _) = holder.rsplit_once('_').context(holder.clone())?;
    Ok(pod.to_owned())
}

fn address(pod: &Pod) -> anyhow::Result<String> {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("a pod without address")
}

/// How often the operator's process ended in this pod.
async fn ends(sandbox: &Sandbox, pod: &str) -> anyhow::Result<i32> {
    let pods = operators(sandbox).await?;
    let pod = pods.iter().find(|found| found.name_any() == pod).context("the pod is gone")?;
    Ok(support::node::restarts(std::slice::from_ref(pod)).iter().sum())
}

#[tokio::test]
async fn operators_that_are_cut_off_give_way_and_come_back_and_services_go_on() -> anyhow::Result<()> {
    let _alone = alone().await;
    on_node("cut-off", async |sandbox| {
        sandbox.create_service("auth", json!({})).await?;
        sandbox.wait_ready("auth").await?;
        let before = Before::of(sandbox, "auth").await?;
        let traffic = Traffic::start(sandbox, "auth").await?;

        // The one that leads is cut off: it ends its work, and the other one takes over.
        let first = leader(sandbox).await?;
        let all = operators(sandbox).await?;
        let cut_off = all.iter().find(|pod| pod.name_any() == first).context("the leader is no pod")?;
        let ended = ends(sandbox, &first).await?;
        machine::cut(Cut::ApiServer(&[address(cut_off)?])).await?;
        eventually("another leader", &true, async || Ok(leader(sandbox).await? != first)).await?;
        eventually("the end of the former leader", &(ended + 1), async || ends(sandbox, &first).await)
            .await?;
        sandbox.merge::<AuthService>("auth", json!({"spec": {"token": {"ttl": "2h"}}})).await?;
        sandbox.wait_ready("auth").await?;
        machine::mend().await?;

        // All of them are: nothing is done, and services go on.
        let second = leader(sandbox).await?;
        let ended = ends(sandbox, &second).await?;
        let addresses = operators(sandbox).await?.iter().map(address).collect::<anyhow::Result<Vec<_>>>()?;
        machine::cut(Cut::ApiServer(&addresses)).await?;
        sandbox.merge::<AuthService>("auth", json!({"spec": {"token": null}})).await?;
        eventually("the end of the leader", &(ended + 1), async || ends(sandbox, &second).await).await?;
        let service = sandbox.api::<AuthService>().get("auth").await?;
        anyhow::ensure!(!support::cluster::is_ready(&service), "somebody works in spite of the cut");
        machine::mend().await?;
        before.again(sandbox).await?;

        let met = traffic.stop("operators cut off from the API server").await?;
        only(&met.validations, &[])?;
        only(&met.logins, &[])
    })
    .await
}
