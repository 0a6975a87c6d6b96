//! What people and machines do to a world, beside the operator.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    api_server::Kind,
    application::database::Database,
    objects::{encoded, label, name},
    world::{NAMESPACE, SERVICE, World},
};

/// Who acts.
const PERSON: &str = "kubectl";
/// How long nothing is written before a world counts as calm.
pub const CALM: Duration = Duration::from_mins(1);
/// How long a world may take to calm down: the longest backoff, a rotation, and a reserve.
pub const LONGEST: Duration = Duration::from_mins(40);

/// The kinds that people edit and delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Child {
    /// A Secret.
    Secret,
    /// A Service.
    Service,
    /// A Deployment.
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
    /// A `PodDisruptionBudget`.
    PodDisruptionBudget,
    /// A `PersistentVolumeClaim`.
    PersistentVolumeClaim,
    /// The migration Jobs, whatever their names.
    Job,
}

impl Child {
    const fn kind(self) -> Kind {
        match self {
            Self::Secret => Kind::Secret,
            Self::Service => Kind::Service,
            Self::Deployment => Kind::Deployment,
            Self::StatefulSet => Kind::StatefulSet,
            Self::PodDisruptionBudget => Kind::PodDisruptionBudget,
            Self::PersistentVolumeClaim => Kind::PersistentVolumeClaim,
            Self::Job => Kind::Job,
        }
    }
}

/// One act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// The resource is created with this spec.
    Create(Value),
    /// A merge patch of its spec.
    Spec(Value),
    /// An annotation of the resource, or its removal.
    Annotate(String, Option<String>),
    /// An autoscaler's or a person's write to the scale subresource.
    Scale(i32),
    /// The resource is deleted.
    Delete,
    /// A Secret of the user's is written.
    Secret(String, BTreeMap<String, String>),
    /// An object is deleted.
    Remove(Child, String),
    /// A Secret that was deleted is restored from a backup.
    Restore(String),
    /// A merge patch of an object.
    Edit(Child, String, Value),
    /// The managed database, or the user's at a host, can be reached or not.
    Reach {
        /// The host; none for the managed one.
        host: Option<String>,
        /// Whether it can be reached.
        answers: bool,
    },
    /// The user has a database at this host, with an account `root`, and one `app` that has rights on `auth`.
    External(String),
    /// Every pod of a component is deleted.
    Evict(String),
    /// The operator is replaced by its next release, which names another server image.
    Release(String),
    /// The operator is killed and started again.
    Restart,
    /// A snapshot of etcd is taken.
    BackUp,
    /// etcd is restored from the last snapshot. The API server is away meanwhile, so the operator loses its
    /// Lease and starts again.
    TurnBack,
    /// Seconds pass.
    Wait(u64),
    /// Time passes until nothing is written any more.
    Settle,
}

/// What became of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was done.
    Yes,
    /// The API server refused it, or there was nothing to do it to.
    Refused,
}

impl World {
    /// Does it.
    ///
    /// # Errors
    /// The world does not calm down.
    pub async fn act(&mut self, step: &Step) -> anyhow::Result<Done> {
        let done = match step {
            Step::Create(spec) => self.api.create(PERSON, resource(spec)).is_ok(),
            Step::Spec(patch) => self.merge(Kind::AuthService, SERVICE, &json!({"spec": patch})),
            Step::Annotate(key, value) => {
                self.merge(Kind::AuthService, SERVICE, &json!({"metadata": {"annotations": {key: value}}}))
            }
            Step::Scale(replicas) => {
                let scale = |object: &mut Value| object["spec"]["replicas"] = json!(replicas);
                self.api.update(PERSON, Kind::AuthService, NAMESPACE, SERVICE, Some("scale"), scale).is_ok()
            }
            Step::Delete => self.api.delete(Kind::AuthService, NAMESPACE, SERVICE).is_ok(),
            Step::Secret(name, entries) => self.write_secret(name, entries),
            Step::Remove(child, name) => self.remove(*child, name),
            Step::Restore(name) => self.restore(name),
            Step::Edit(child, name, patch) => self.merge(child.kind(), name, patch),
            Step::Reach { host, answers } => self.reach(host.as_deref(), *answers),
            Step::External(host) => self.external(host),
            Step::Evict(component) => self.evict(component),
            Step::Release(image) => {
                self.images.server.clone_from(image);
                self.restart();
                true
            }
            Step::Restart => {
                self.restart();
                true
            }
            Step::BackUp => {
                self.backup = Some(self.api.snapshot());
                true
            }
            Step::TurnBack => self.turn_back(),
            Step::Wait(seconds) => {
                self.pass(Duration::from_secs(*seconds)).await;
                true
            }
            Step::Settle => {
                let calm = self.calm_down(CALM, LONGEST).await;
                anyhow::ensure!(calm, "the world does not calm down");
                true
            }
        };
        Ok(if done { Done::Yes } else { Done::Refused })
    }

    fn turn_back(&mut self) -> bool {
        let Some(backup) = &self.backup else { return false };
        self.end_others();
        self.api.restore(backup);
        self.restart();
        true
    }

    fn merge(&self, kind: Kind, name: &str, patch: &Value) -> bool {
        self.api
            .update(PERSON, kind, NAMESPACE, name, None, |object| json_patch::merge(object, patch))
            .is_ok()
    }

    fn write_secret(&self, name: &str, entries: &BTreeMap<String, String>) -> bool {
        let data: BTreeMap<&String, Value> =
            entries.iter().map(|(key, value)| (key, encoded(value.as_bytes()))).collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data});
        self.api.create(PERSON, secret).is_ok()
            || self
                .api
                .update(PERSON, Kind::Secret, NAMESPACE, name, None, |secret| secret["data"] = json!(data))
                .is_ok()
    }

    fn remove(&mut self, child: Child, object: &str) -> bool {
        if child == Child::Job {
            let jobs = self.api.list(Kind::Job);
            return jobs.iter().all(|job| self.api.delete(Kind::Job, NAMESPACE, name(job)).is_ok());
        }
        if let Some(secret) = self.api.get(Kind::Secret, NAMESPACE, object).filter(|_| child == Child::Secret)
        {
            self.removed.insert(object.to_owned(), Value::clone(&secret));
        }
        self.api.delete(child.kind(), NAMESPACE, object).is_ok()
    }

    /// As `kubectl apply` of a backup does: what the API server fills in is left out.
    fn restore(&mut self, name: &str) -> bool {
        let Some(mut secret) = self.removed.remove(name) else { return false };
        for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            secret["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
        }
        self.api.create(PERSON, secret).is_ok()
    }

    fn reach(&self, host: Option<&str>, answers: bool) -> bool {
        let mut application = self.application.lock();
        let application = &mut *application;
        let databases: Vec<&mut Database> = match host {
            None => application.volumes.values_mut().collect(),
            Some(host) => application.external.get_mut(host).into_iter().collect(),
        };
        let any = !databases.is_empty();
        for database in databases {
            database.answers = answers;
        }
        any
    }

    fn external(&self, host: &str) -> bool {
        let mut database = Database::with_admin("root", b"root-password");
        let app = crate::application::database::Account {
            password: b"app-password".to_vec(),
            is_admin: false,
            grants: ["auth".to_owned()].into(),
        };
        database.accounts.insert("app".to_owned(), app);
        self.application.lock().external.insert(host.to_owned(), database);
        true
    }

    fn evict(&self, component: &str) -> bool {
        let pods = self.api.list(Kind::Pod);
        let pods: Vec<_> =
            pods.iter().filter(|pod| label(pod, "app.kubernetes.io/component") == component).collect();
        for pod in &pods {
            drop(self.api.delete(Kind::Pod, NAMESPACE, name(pod)));
        }
        !pods.is_empty()
    }
}

/// The resource with a spec.
#[must_use]
pub fn resource(spec: &Value) -> Value {
    json!({
        "apiVersion": "authservice.dev/v1alpha1",
        "kind": "AuthService",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        "spec": spec,
    })
}

/// Does each of these.
///
/// # Errors
/// One is refused, or the world does not calm down.
pub async fn act_all(world: &mut World, steps: &[Step]) -> anyhow::Result<()> {
    for step in steps {
        let done = world.act(step).await.with_context(|| format!("{step:?}"))?;
        anyhow::ensure!(done == Done::Yes, "{step:?} was refused");
    }
    Ok(())
}
