//! Plays Kubernetes' own controllers and the kubelets: level-triggered, in small steps, a little
//! later than what they react to.

mod collector;
mod deployment;
mod job;
mod kubelet;
mod stateful_set;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    api_server::{ApiServer, Kind},
    application::Shared,
    clock::Clock,
    objects::{is_deleting, is_owned_by, label, name, namespace},
};

/// Who writes as a controller.
const CONTROLLERS: &str = "kube-controller-manager";
/// Who writes as a kubelet.
const KUBELET: &str = "kubelet";

/// What the players share.
pub struct Players {
    api: ApiServer,
    application: Shared,
    clock: Clock,
    chance: StdRng,
    /// When what was noticed is acted on.
    due: BTreeMap<String, Timestamp>,
    /// When controllers looked last, and at which revision.
    looked: (Timestamp, u64),
    /// Hashes of templates, by uid and generation.
    hashes: BTreeMap<(String, i64), String>,
    addresses: u32,
}

impl Players {
    /// Players of a world.
    #[must_use]
    pub fn new(api: ApiServer, application: Shared, clock: Clock, seed: u64) -> Self {
        let chance = StdRng::seed_from_u64(seed);
        let addresses = u32::try_from(application.lock().addresses.len()).unwrap_or_default();
        let (due, hashes, looked) = (BTreeMap::new(), BTreeMap::new(), (Timestamp::UNIX_EPOCH, 0));
        Self { api, application, clock, chance, due, looked, hashes, addresses }
    }

    /// Plays for ever.
    pub async fn play(mut self) {
        let mut revisions = self.api.subscribe();
        loop {
            revisions.borrow_and_update();
            let before = self.api.revision();
            self.step();
            if self.api.revision() != before {
                // What they did themselves is acted on in the next step.
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            let now = self.clock.now();
            let next = self.due.values().filter(|due| **due > now).min();
            let wait = next.and_then(|due| Duration::try_from(due.duration_since(now)).ok());
            // Without a change and without anything due, databases may still come and go.
            let wait = wait.unwrap_or(Duration::from_secs(5)).min(Duration::from_secs(5));
            tokio::select! {
                biased;
                changed = revisions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn step(&mut self) {
        let now = self.clock.now();
        self.due.retain(|_, due| now.duration_since(*due) < SignedDuration::from_mins(10));
        if self.concerns_controllers(now) {
            self.looked = (now, self.api.revision());
            self.collect_garbage();
            self.deployments();
            self.stateful_sets();
            self.jobs();
        }
        self.pods();
        self.use_service();
    }

    /// Whether an object has changed since controllers looked last, or something has become due: they act on
    /// nothing else, while kubelets and users also look at processes.
    fn concerns_controllers(&self, now: Timestamp) -> bool {
        let (at, revision) = self.looked;
        self.api.revision() != revision || self.due.values().any(|due| at < *due && *due <= now)
    }

    /// A short word for a workload's template, as `pod-template-hash` is.
    fn template_hash(&mut self, workload: &Value) -> String {
        let generation = workload["metadata"]["generation"].as_i64().unwrap_or(0);
        let key = (crate::objects::uid(workload).to_owned(), generation);
        let hash = self.hashes.entry(key).or_insert_with(|| {
            let mut hasher = DefaultHasher::new();
            workload["spec"]["template"].to_string().hash(&mut hasher);
            format!("{:010x}", hasher.finish() >> 24)
        });
        hash.clone()
    }

    /// Whether so much time, give or take half, has passed since this was first asked.
    fn ripe(&mut self, what: String, delay: Duration) -> bool {
        let now = self.clock.now();
        if let Some(due) = self.due.get(&what) {
            return *due <= now;
        }
        let delay = delay.mul_f64(self.chance.random_range(0.5..1.5));
        self.due.insert(what, now.checked_add(delay).unwrap_or(now));
        false
    }

    fn update(&self, kind: Kind, object: &Value, subresource: Option<&str>, change: impl FnOnce(&mut Value)) {
        let manager = if kind == Kind::Pod { KUBELET } else { CONTROLLERS };
        let written = self.api.update(manager, kind, namespace(object), name(object), subresource, change);
        if let Err(error) = written {
            tracing::debug!(?kind, name = name(object), ?error, "a player's write was refused");
        }
    }

    fn write_status(&self, kind: Kind, object: &Value, status: &Value) {
        if !says(&object["status"], status) {
            self.update(kind, object, Some("status"), |object| {
                if !object["status"].is_object() {
                    object["status"] = json!({});
                }
                for (key, value) in status.as_object().into_iter().flatten() {
                    object["status"][key] = value.clone();
                }
            });
        }
    }

    /// The pods of a controller, those on their way out left aside.
    fn pods_of(&self, owner: &str) -> Vec<Arc<Value>> {
        let mut pods = self.api.list(Kind::Pod);
        pods.retain(|pod| is_owned_by(pod, owner) && !is_deleting(pod));
        pods
    }

    fn create_pod(&self, owner: (&str, &Value), name: &str, template: &Value, labels: &[(&str, &str)]) {
        let (kind, controller) = owner;
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
        if !pod["metadata"].is_object() {
            pod["metadata"] = json!({});
        }
        let metadata = &mut pod["metadata"];
        if name.ends_with('-') {
            metadata["generateName"] = json!(name);
        } else {
            metadata["name"] = json!(name);
        }
        metadata["namespace"] = json!(namespace(controller));
        for (key, value) in labels {
            metadata["labels"][*key] = json!(value);
        }
        metadata["ownerReferences"] = json!([{
            "apiVersion": controller["apiVersion"], "kind": kind, "name": controller["metadata"]["name"],
            "uid": controller["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        }]);
        if let Err(error) = self.api.create(CONTROLLERS, pod) {
            tracing::debug!(?error, "a pod was refused");
        }
    }

    fn use_service(&self) {
        let servers = self.api.list(Kind::Pod).into_iter().filter(|pod| {
            label(pod, "app.kubernetes.io/component") == "server"
                && !is_deleting(pod)
                && crate::objects::condition_holds(pod, "Ready")
        });
        let ready: Vec<_> =
            servers.map(|pod| (name(&pod).to_owned(), crate::objects::uid(&pod).to_owned())).collect();
        self.application.lock().use_service(&ready, self.clock.now());
    }
}

/// Whether an object says what is wanted, whatever the API server has added.
fn says(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| live.get(key).is_some_and(|live| says(live, value)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| says(live, wanted))
        }
        _ => live == wanted,
    }
}
