//! Plays the scheduler's and the kubelets' part for pods of registered namespaces: server and
//! database pods become ready and answer `/status`, migrations end as the test says.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use authservice::api::auth_service::Algorithm;
use authservice::contract::{
    DatabaseFault, DatabaseStatus, MigrationReport, OPS_PORT, SCHEMA_VERSION, ServerStatus, env, key_ring,
};
use axum::{Json, Router, http::HeaderMap, routing::get};
use futures::TryStreamExt as _;
use k8s_openapi::{
    api::core::v1::{Pod, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
    runtime::watcher,
};
use serde_json::{Value, json};

use super::{cluster::Sandbox, operator::Operator};

/// A resource named `gate` that is ready, and its operator; its pods do as in the default script.
///
/// # Errors
/// When it does not become ready.
pub async fn ready(sandbox: &Sandbox, spec: Value) -> anyhow::Result<Operator> {
    play(&sandbox.namespace, Script::default());
    let operator = Operator::start(sandbox)?;
    sandbox.create_service("gate", spec).await?;
    sandbox.wait_ready("gate").await?;
    Ok(operator)
}

/// What the pods of one namespace do.
#[derive(Clone, Debug)]
pub struct Script {
    /// Whether server and database pods start.
    pub starts: bool,
    /// How migrations end.
    pub migration: Migration,
    /// What server pods say is wrong with their database.
    pub fault: Option<(DatabaseFault, String)>,
}

/// How a migration ends.
#[derive(Clone, Debug)]
pub enum Migration {
    /// With this termination message; well unless the report names an error.
    Ends(MigrationReport),
    /// Not yet.
    Runs,
}

impl Default for Script {
    fn default() -> Self {
        let report = MigrationReport {
            database_version: Some("9.7.4".to_owned()),
            schema_version: SCHEMA_VERSION,
            ..MigrationReport::default()
        };
        Self { starts: true, migration: Migration::Ends(report), fault: None }
    }
}

/// Has the pods of a namespace played, from now on by this script.
pub fn play(namespace: &str, script: Script) {
    let replayed: Vec<Pod> = {
        let mut stage = STAGE.lock();
        stage.scripts.insert(namespace.to_owned(), script);
        let here = |pod: &&Pod| pod.namespace().as_deref() == Some(namespace);
        stage.pods.values().filter(here).cloned().collect()
    };
    for pod in replayed {
        let _ = STAGE.replay.send(pod);
    }
}

static STAGE: LazyLock<Arc<Stage>> = LazyLock::new(|| {
    let (replay, replayed) = tokio::sync::mpsc::unbounded_channel();
    let stage = Arc::new(Stage { inner: Mutex::default(), replay });
    let played = Arc::clone(&stage);
    // A thread of its own, because every test ends its own runtime.
    std::thread::spawn(move || {
        if let Err(error) = perform(&played, replayed) {
            eprintln!("players: {error:#}");
            std::process::exit(101);
        }
    });
    stage
});

struct Stage {
    inner: Mutex<Inner>,
    replay: tokio::sync::mpsc::UnboundedSender<Pod>,
}

#[derive(Default)]
struct Inner {
    scripts: HashMap<String, Script>,
    pods: HashMap<String, Pod>,
    addresses: HashMap<String, Ipv4Addr>,
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The pod's address: one of the loopback device's own for each pod of this process.
    fn address(&mut self, uid: &str) -> Ipv4Addr {
        let next = u32::try_from(self.addresses.len()).unwrap_or(0) + 1;
        *self
            .addresses
            .entry(uid.to_owned())
            .or_insert_with(|| Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + next))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn perform(
    stage: &Arc<Stage>,
    mut replayed: tokio::sync::mpsc::UnboundedReceiver<Pod>,
) -> anyhow::Result<()> {
    let client = super::cluster::client().await?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, OPS_PORT)).await?;
    let (asked, asking) = (Arc::clone(stage), client.clone());
    let answer = move |headers: HeaderMap| async move { Json(status(&asked, &asking, &headers).await.ok()) };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/status", get(answer))).await });
    let mut pods = std::pin::pin!(watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()));
    loop {
        let pod = tokio::select! {
            Some(pod) = replayed.recv() => pod,
            event = pods.try_next() => match event {
                Ok(Some(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => pod,
                Ok(Some(watcher::Event::Delete(pod))) => {
                    stage.lock().pods.remove(&pod.uid().unwrap_or_default());
                    continue;
                }
                Ok(Some(_)) => continue,
                Ok(None) => anyhow::bail!("the watch of pods ended"),
                Err(error) => {
                    eprintln!("players: {error}");
                    continue;
                }
            },
        };
        stage.lock().pods.insert(pod.uid().unwrap_or_default(), pod.clone());
        tokio::spawn(act(Arc::clone(stage), client.clone(), pod));
    }
}

async fn act(stage: Arc<Stage>, client: Client, pod: Pod) {
    let namespace = pod.namespace().unwrap_or_default();
    let Some(script) = stage.lock().scripts.get(&namespace).cloned() else { return };
    for _ in 0..20 {
        match act_once(&stage, &client, &pod, &script).await {
            Ok(()) => return,
            // The pod is gone, or was changed: the watch tells.
            Err(error) if matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if matches!(status.code, 404 | 409)) =>
            {
                return;
            }
            Err(error) => eprintln!("players: pod {namespace}/{}: {error:#}", pod.name_any()),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn act_once(stage: &Stage, client: &Client, pod: &Pod, script: &Script) -> anyhow::Result<()> {
    let (name, uid) = (pod.name_any(), pod.uid().context("a pod without uid")?);
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    if pod.metadata.deletion_timestamp.is_some() {
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let now =
            DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default().grace_period(0) };
        api.delete(&name, &now).await?;
        return Ok(());
    }
    if !script.starts && !is_migration(pod) {
        return Ok(());
    }
    if phase(pod) != "Pending" && (phase(pod) != "Running" || !is_migration(pod)) {
        return Ok(());
    }
    if pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_none() {
        bind(client, &namespace, &name).await?;
    }
    let address = stage.lock().address(&uid);
    let status = match &script.migration {
        Migration::Ends(report) if is_migration(pod) => ended(pod, address, report)?,
        Migration::Runs if phase(pod) == "Running" => return Ok(()),
        Migration::Ends(_) | Migration::Runs => running(pod, address),
    };
    // The uid keeps a successor of the same name out of it.
    let patch = json!({"metadata": {"uid": uid}, "status": status});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

fn is_migration(pod: &Pod) -> bool {
    pod.labels().contains_key("batch.kubernetes.io/job-name")
}

async fn bind(client: &Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "player"},
    });
    let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/pods/{name}/binding"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&binding)?)?;
    client.request::<Value>(request).await?;
    Ok(())
}

fn running(pod: &Pod, address: Ipv4Addr) -> Value {
    let state = |_: &str| json!({"running": {"startedAt": Timestamp::now()}});
    pod_status(pod, address, "Running", true, state)
}

fn ended(pod: &Pod, address: Ipv4Addr, report: &MigrationReport) -> anyhow::Result<Value> {
    let message = serde_json::to_string(report)?;
    let (phase, reason, code) =
        if report.error.is_none() { ("Succeeded", "Completed", 0) } else { ("Failed", "Error", 1) };
    let now = Timestamp::now();
    let state = |_: &str| json!({"terminated": {"exitCode": code, "reason": reason, "message": message, "startedAt": now, "finishedAt": now}});
    Ok(pod_status(pod, address, phase, false, state))
}

fn pod_status(
    pod: &Pod,
    address: Ipv4Addr,
    phase: &str,
    ready: bool,
    state: impl Fn(&str) -> Value,
) -> Value {
    let word = if ready { "True" } else { "False" };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": Timestamp::now()});
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "", "restartCount": 0,
            "ready": ready, "started": ready, "state": state(&container.name),
        })
    });
    json!({
        "phase": phase,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": Timestamp::now(),
        "conditions": [
            condition("PodScheduled", "True"), condition("Initialized", "True"),
            condition("ContainersReady", word), condition("Ready", word),
        ],
        "containerStatuses": containers.collect::<Vec<_>>(),
    })
}

/// What the server pod that is asked by this Host header says of itself.
async fn status(stage: &Stage, client: &Client, headers: &HeaderMap) -> anyhow::Result<ServerStatus> {
    let host = headers.get("host").context("no Host")?.to_str()?;
    let address: Ipv4Addr = host.split(':').next().unwrap_or_default().parse()?;
    let (pod, script) = {
        let stage = stage.lock();
        let (uid, _) = stage.addresses.iter().find(|(_, own)| **own == address).context("no such pod")?;
        let pod = stage.pods.get(uid).context("the pod is gone")?.clone();
        let script = stage.scripts.get(&pod.namespace().unwrap_or_default()).context("no script")?;
        (pod, script.clone())
    };
    let instance = pod.labels().get("authservice.dev/name").context("no owner label")?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let ring = secrets.get(&format!("{instance}-keys")).await?.data.unwrap_or_default();
    let ids = |suffix: &str| -> Vec<String> {
        ring.keys().filter_map(|key| key.strip_suffix(suffix)).map(str::to_owned).collect()
    };
    let signer =
        ids(key_ring::SIGNS).into_iter().max_by_key(|id| ring[&format!("{id}{}", key_ring::SIGNS)].0.clone());
    let variables = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .flat_map(|container| container.env.iter().flatten());
    let account = variables.into_iter().find(|variable| variable.name == env::MYSQL_USER);
    Ok(ServerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        key_ids: Algorithm::ALL.into_iter().flat_map(|algorithm| ids(algorithm.entry_suffix())).collect(),
        signing_key_id: signer.unwrap_or_default(),
        database: DatabaseStatus {
            account: account.and_then(|variable| variable.value.clone()).unwrap_or_default(),
            version: Some("9.7.4".to_owned()),
            schema_version: SCHEMA_VERSION,
            fault: script.fault.as_ref().map(|(fault, _)| *fault),
            error: script.fault.map(|(_, words)| words),
        },
    })
}

/// The pods of a namespace that exist, with their phases, sorted.
///
/// # Errors
/// When they cannot be listed.
pub async fn phases(client: &Client, namespace: &str) -> anyhow::Result<Vec<(String, String)>> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
    let mut phases: Vec<_> = pods.iter().map(|pod| (pod.name_any(), phase(pod).to_owned())).collect();
    phases.sort();
    Ok(phases)
}
