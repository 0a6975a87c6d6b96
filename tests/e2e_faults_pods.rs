//! What the pods of a service, and of the operator, may lose: the database its process, its way to
//! the servers and the room on its disk, all of them their place, and the operator its way to the
//! API server. What was acknowledged stays, validation goes on, conditions tell, and all of it
//! heals by itself.

mod support;

use std::time::Duration;

use anyhow::Context as _;
use authservice::api::AuthService;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, PersistentVolume, Pod},
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, EvictParams, ListParams, PostParams},
};
use rand::{RngExt as _, seq::SliceRandom as _};
use serde_json::json;
use support::{
    clients::{self, admin, pod_is_ready},
    cluster::{Sandbox, condition, is_ready},
    faults::{Allowed, Before, Traffic, only, random},
    machine::{self, Cut},
    node::{OPERATOR_PODS, SYSTEM, eventually, managed_sql, on_node, pods, restarts, wait_rolled_out},
    writes::Writes,
};
use tokio::time::Instant;

async fn login_works(sandbox: &Sandbox) -> anyhow::Result<()> {
    let (address, user) = (clients::address(sandbox, "auth").await?, admin(sandbox, "auth").await?);
    eventually("a login", &200, async || Ok(clients::login(&address, &user).await?.status)).await
}

/// Waits for the word of trouble, and answers it.
async fn word_of_trouble(sandbox: &Sandbox) -> anyhow::Result<String> {
    let service = sandbox
        .wait_until("auth", "word of the trouble", |service: &AuthService| {
            condition(service, "DatabaseReady").is_some_and(|ready| ready.status == "False")
        })
        .await?;
    let ready = condition(&service, "DatabaseReady").context("no condition")?;
    Ok(format!("{}: {}", ready.reason, ready.message))
}

#[tokio::test]
async fn a_database_killed_while_it_writes_keeps_every_write_it_acknowledged() -> anyhow::Result<()> {
    on_node("sigkill", async |sandbox| {
        let mut random = random();
        sandbox.create_service("auth", json!({"administration": {}})).await?;
        sandbox.wait_ready("auth").await?;
        let before = Before::of(sandbox, "auth").await?;
        let (traffic, writes) =
            (Traffic::start(sandbox, "auth").await?, Writes::start(sandbox, "auth").await?);

        let kills = if std::env::var_os("TEST_FULL").is_some() { 6 } else { 2 };
        let mut windows = Vec::new();
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(random.random_range(1000..3000))).await;
            let pod = sandbox.api::<Pod>().get("auth-mysql-0").await?;
            let from = Instant::now();
            anyhow::ensure!(machine::kill_in_pod(&pod, "mysqld").await? == 1, "not one server");
            let ended = restarts(std::slice::from_ref(&pod))[0];
            sandbox
                .wait_until("auth-mysql-0", "another process", |live: &Pod| {
                    pod_is_ready(live) && restarts(std::slice::from_ref(live)) == [ended + 1]
                })
                .await?;
            login_works(sandbox).await?;
            windows.push((from, Instant::now()));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let written = writes.stop(&format!("{kills} kills of mysqld")).await?;
        let met = traffic.stop(&format!("{kills} kills of mysqld")).await?;
        written.is_there(sandbox, "auth").await?;
        managed_sql(sandbox, "auth", "DELETE FROM auth.user WHERE email LIKE 'written-%'").await?;
        before.again(sandbox).await?;
        only(&met.validations, &[])?;
        let allowed: Vec<Allowed<'_>> =
            windows.iter().map(|&(from, to)| Allowed { from, to, what: &["503"] }).collect();
        only(&met.logins, &allowed)?;
        only(&written.outcomes, &allowed)
    })
    .await
}

#[tokio::test]
async fn servers_cut_off_from_their_database_validate_and_refuse_logins_politely() -> anyhow::Result<()> {
    on_node("no-way", async |sandbox| {
        sandbox.create_service("auth", json!({})).await?;
        sandbox.wait_ready("auth").await?;
        let before = Before::of(sandbox, "auth").await?;
        let traffic = Traffic::start(sandbox, "auth").await?;
        let servers: Vec<String> =
            pods(sandbox, "auth", "server").await?.iter().map(address).collect::<anyhow::Result<_>>()?;
        let database = address(&sandbox.api::<Pod>().get("auth-mysql-0").await?)?;

        let from = Instant::now();
        let severed = machine::cut(Cut::Pods(&servers, &database)).await?;
        println!("{}", word_of_trouble(sandbox).await?);
        severed.mend().await?;
        login_works(sandbox).await?;
        before.again(sandbox).await?;
        let to = Instant::now();
        anyhow::ensure!(restarts(&pods(sandbox, "auth", "server").await?) == [0, 0], "a server ended");
        // Nothing is left to heal.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let met = traffic.stop("servers cut off from the database").await?;
        only(&met.validations, &[])?;
        anyhow::ensure!(met.logins.count("503") > 0, "the cut was none");
        only(&met.logins, &[Allowed { from, to, what: &["503"] }])
    })
    .await
}

/// A volume of the only node, on a disk of this size.
async fn small_volume(sandbox: &Sandbox, mebibytes: u32) -> anyhow::Result<String> {
    let path = format!("/var/lib/volumes/{}", sandbox.namespace);
    machine::small_disk(&path, mebibytes).await?;
    let nodes: Api<Node> = Api::all(sandbox.client.clone());
    let node = nodes.list(&ListParams::default()).await?.items.first().context("no node")?.name_any();
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": sandbox.namespace},
        "spec": {
            "capacity": {"storage": format!("{mebibytes}Mi")},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": sandbox.namespace,
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{
                "matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}],
            }]}},
        },
    });
    let volumes: Api<PersistentVolume> = Api::all(sandbox.client.clone());
    volumes.create(&PostParams::default(), &serde_json::from_value(volume)?).await?;
    Ok(path)
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged_and_heals_when_there_is_room() -> anyhow::Result<()>
{
    on_node("full", async |sandbox| {
        const MEBIBYTES: u32 = 300;
        let disk = small_volume(sandbox, MEBIBYTES).await?;
        let storage = json!({"size": format!("{MEBIBYTES}Mi"), "storageClassName": sandbox.namespace});
        let spec = json!({"administration": {}, "database": {"managed": {"storage": storage}}});
        sandbox.create_service("auth", spec).await?;
        sandbox.wait_ready("auth").await?;
        let before = Before::of(sandbox, "auth").await?;
        let (traffic, writes) =
            (Traffic::start(sandbox, "auth").await?, Writes::start(sandbox, "auth").await?);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let from = Instant::now();
        machine::fill(&disk).await?;
        println!("{}", word_of_trouble(sandbox).await?);
        if std::env::var_os("TEST_FULL").is_some() {
            let pod = sandbox.api::<Pod>().get("auth-mysql-0").await?;
            anyhow::ensure!(machine::kill_in_pod(&pod, "mysqld").await? == 1, "not one server");
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        machine::make_room(&disk).await?;
        login_works(sandbox).await?;
        sandbox.wait_ready("auth").await?;
        let to = Instant::now();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let written = writes.stop("a full disk").await?;
        let met = traffic.stop("a full disk").await?;
        written.is_there(sandbox, "auth").await?;
        managed_sql(sandbox, "auth", "DELETE FROM auth.user WHERE email LIKE 'written-%'").await?;
        before.again(sandbox).await?;
        let allowed = [Allowed { from, to, what: &["503"] }];
        only(&met.validations, &[])?;
        only(&met.logins, &allowed)?;
        only(&written.outcomes, &allowed)?;
        let volumes: Api<PersistentVolume> = Api::all(sandbox.client.clone());
        volumes.delete(&sandbox.namespace, &DeleteParams::default()).await?;
        machine::remove_disk(&disk).await
    })
    .await
}

/// Whether the API server evicts the pod, or says that the budget forbids it now.
async fn evict(sandbox: &Sandbox, name: &str) -> anyhow::Result<bool> {
    // The tests' client would try again by itself for as long as the budget forbids it.
    let mut config = Config::infer().await?;
    config.default_retry = false;
    let pods: Api<Pod> = Api::namespaced(Client::try_from(config)?, &sandbox.namespace);
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
    anyhow::ensure!(evict(sandbox, "auth-mysql-0").await?, "the database may not be evicted");
    sandbox
        .wait_until("auth-mysql-0", "another pod", |pod: &Pod| pod.uid() != uid && pod_is_ready(pod))
        .await?;
    login_works(sandbox).await?;
    Ok((from, Instant::now()))
}

#[tokio::test]
async fn pods_are_evicted_one_by_one_and_only_the_databases_own_stops_logins() -> anyhow::Result<()> {
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
        let [first, second] = &servers[..] else { anyhow::bail!("{} server pods", servers.len()) };
        anyhow::ensure!(evict(sandbox, &first.name_any()).await?, "nothing may be evicted");
        anyhow::ensure!(!evict(sandbox, &second.name_any()).await?, "the last pod that serves was evicted");
        eventually("room for the second", &true, async || evict(sandbox, &second.name_any()).await).await?;
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
    Ok(restarts(std::slice::from_ref(pod)).iter().sum())
}

#[tokio::test]
async fn operators_that_are_cut_off_give_way_and_come_back_and_services_go_on() -> anyhow::Result<()> {
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
        let severed = machine::cut(Cut::ApiServer(&[address(cut_off)?])).await?;
        eventually("another leader", &true, async || Ok(leader(sandbox).await? != first)).await?;
        eventually("the end of the former leader", &(ended + 1), async || ends(sandbox, &first).await)
            .await?;
        sandbox.merge::<AuthService>("auth", json!({"spec": {"token": {"ttl": "2h"}}})).await?;
        sandbox.wait_ready("auth").await?;
        severed.mend().await?;

        // All of them are: nothing is done, and services go on.
        let second = leader(sandbox).await?;
        let ended = ends(sandbox, &second).await?;
        let addresses = operators(sandbox).await?.iter().map(address).collect::<anyhow::Result<Vec<_>>>()?;
        let severed = machine::cut(Cut::ApiServer(&addresses)).await?;
        sandbox.merge::<AuthService>("auth", json!({"spec": {"token": null}})).await?;
        eventually("the end of the leader", &(ended + 1), async || ends(sandbox, &second).await).await?;
        let service = sandbox.api::<AuthService>().get("auth").await?;
        anyhow::ensure!(!is_ready(&service), "somebody works in spite of the cut");
        severed.mend().await?;
        before.again(sandbox).await?;

        let met = traffic.stop("operators cut off from the API server").await?;
        only(&met.validations, &[])?;
        only(&met.logins, &[])
    })
    .await
}
