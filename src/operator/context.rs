//! What every reconcile is given: the client, the installation's settings, and the little memory
//! that outlives one run. All of it can be lost at any moment without harm.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Client, Resource, ResourceExt,
    runtime::{
        controller::Action,
        events::{Recorder, Reporter},
        reflector::ObjectRef,
    },
};

use super::{
    backoff::{AGAIN, Backoff, FIRST},
    labels,
    metrics::Metrics,
    references::SecretReferences,
    scope::Scope,
    surroundings::Surroundings,
};
use crate::contract::{self, DatabaseFault, ServerStatus};

/// How long a settled resource waits for its next look, less jitter. Changes arrive by watches at
/// once; this only catches what no watch told.
pub const SETTLED: Duration = Duration::from_mins(10);

/// What every reconcile is given.
pub struct Context {
    /// Bounded to 10 s a call, without retries: see [`super::client`].
    pub client: Client,
    /// The time, chance, and the pods.
    pub surroundings: Surroundings,
    /// Images of resources that name none.
    pub images: Images,
    /// Publishes Events.
    pub recorder: Recorder,
    /// What the server pods last said of themselves.
    pub pods: PodVerdicts,
    /// What the operator counts.
    pub metrics: Arc<Metrics>,
    /// Failures of reconciles in a row.
    pub backoff: Backoff,
    /// Reconciles in a row that something stood in the way of. Counted apart: what has long been refused
    /// does not make the next failed call wait for minutes.
    pub refusals: Backoff,
    /// Reports in a row that met somebody else's change.
    pub conflicts: Backoff,
    /// Failures of migration Jobs in a row, named by the Job's uid.
    pub migrations: Backoff,
    /// Which resources refer to which Secrets.
    pub secrets: SecretReferences,
}

impl Context {
    /// A context that knows nothing yet.
    #[must_use]
    pub fn new(client: Client, surroundings: Surroundings, images: Images, metrics: Arc<Metrics>) -> Self {
        Self {
            recorder: Recorder::new(client.clone(), Reporter::from(labels::MANAGER)),
            client,
            images,
            pods: PodVerdicts::default(),
            metrics,
            backoff: Backoff::new(surroundings.clone(), FIRST),
            refusals: Backoff::new(surroundings.clone(), FIRST),
            conflicts: Backoff::new(surroundings.clone(), AGAIN),
            migrations: Backoff::new(surroundings.clone(), FIRST),
            secrets: SecretReferences::default(),
            surroundings,
        }
    }

    /// The resource is as it should be: its failures are forgotten, the next look is minutes away.
    pub fn settled(&self, key: &ObjectKey) -> Action {
        for failures in [&self.backoff, &self.refusals, &self.conflicts] {
            failures.reset(key);
        }
        Action::requeue(self.surroundings.jittered(SETTLED))
    }

    /// Something failed: look again after the resource's own backoff.
    pub fn retry(&self, key: &ObjectKey) -> Action {
        Action::requeue(self.backoff.failed(key))
    }

    /// The status was changed by somebody else since it was read: look again, soon at first.
    pub fn retry_after_conflict(&self, key: &ObjectKey) -> Action {
        Action::requeue(self.conflicts.failed(key))
    }

    /// Something is refused: look again after the resource's own backoff, though no later than `longest`.
    /// What stands in the way may go without a watch that tells of it, and whoever removed it waits.
    pub fn retry_within(&self, key: &ObjectKey, longest: Duration) -> Action {
        self.backoff.reset(key);
        self.conflicts.reset(key);
        Action::requeue(self.refusals.failed(key).min(self.surroundings.jittered(longest)))
    }

    /// Drops everything remembered of a resource that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        for failures in [&self.backoff, &self.refusals, &self.conflicts, &self.migrations] {
            failures.reset(key);
        }
        self.secrets.remove(key);
        self.pods.forget(key);
    }
}

/// Images of resources that name none, as the operator was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// The auth server.
    pub server: String,
    /// The managed database.
    pub database: String,
}

impl Default for Images {
    fn default() -> Self {
        Self { server: contract::SERVER_IMAGE.to_owned(), database: contract::DATABASE_IMAGE.to_owned() }
    }
}

/// Namespace and name of an `AuthService`, or of another namespaced object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of a namespaced object.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// The same object, as kube-runtime names it.
    #[must_use]
    pub fn to_ref<K: Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What one pod answered to the latest `GET /status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No answer in time, or none that could be read. It says nothing about the database: silence
    /// may be the operator's own network.
    Unknown,
    /// Its answer.
    Answered {
        /// What it said.
        status: Box<ServerStatus>,
        /// When it was asked, by the operator's clock. An answer from before a Job completed
        /// says nothing about what the Job did.
        at: Timestamp,
    },
}

impl Verdict {
    /// Whether the pod misses what a migration makes: its account, the tables, or their newest form.
    #[must_use]
    pub fn asks_for_migration(&self) -> bool {
        let Self::Answered { status, .. } = self else { return false };
        matches!(
            status.database.fault,
            Some(
                DatabaseFault::CredentialsRejected
                    | DatabaseFault::SchemaMissing
                    | DatabaseFault::SchemaOutdated
            )
        )
    }
}

/// The verdicts of one resource's pods, by pod name.
pub type Verdicts = BTreeMap<String, Verdict>;

/// What the server pods of every resource last said of themselves; kept by [`super::poller`].
#[derive(Debug, Default)]
pub struct PodVerdicts {
    verdicts: RwLock<HashMap<ObjectKey, Arc<Verdicts>>>,
}

impl PodVerdicts {
    /// The pods of one resource: at most about 20 s old, empty before the first poll.
    #[must_use]
    pub fn of(&self, key: &ObjectKey) -> Arc<Verdicts> {
        let verdicts = self.verdicts.read().unwrap_or_else(PoisonError::into_inner);
        verdicts.get(key).cloned().unwrap_or_default()
    }

    /// Takes the outcome of one poll of a whole scope, and answers the resources for which it
    /// differs in more than the time of asking.
    pub fn replace(&self, scope: &Scope, polled: HashMap<ObjectKey, Verdicts>) -> Vec<ObjectKey> {
        let mut verdicts = self.verdicts.write().unwrap_or_else(PoisonError::into_inner);
        let silent = |key: &&ObjectKey| scope.contains(&key.namespace) && !polled.contains_key(*key);
        let mut changed: Vec<ObjectKey> = verdicts.keys().filter(silent).cloned().collect();
        for key in &changed {
            verdicts.remove(key);
        }
        for (key, pods) in &polled {
            if !verdicts.get(key).is_some_and(|known| same_words(known, pods)) {
                changed.push(key.clone());
            }
        }
        verdicts.extend(polled.into_iter().map(|(key, pods)| (key, Arc::new(pods))));
        changed
    }

    fn forget(&self, key: &ObjectKey) {
        self.verdicts.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

fn same_words(one: &Verdicts, other: &Verdicts) -> bool {
    let words = |verdicts: &Verdicts| -> Vec<(String, Option<ServerStatus>)> {
        let word = |verdict: &Verdict| match verdict {
            Verdict::Unknown => None,
            Verdict::Answered { status, at: _ } => Some(ServerStatus::clone(status)),
        };
        verdicts.iter().map(|(pod, verdict)| (pod.clone(), word(verdict))).collect()
    };
    words(one) == words(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::DatabaseStatus;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "market".to_owned(), name: name.to_owned() }
    }

    fn answered(account: &str, second: i64) -> Verdict {
        Verdict::Answered {
            status: Box::new(ServerStatus {
                version: "1".to_owned(),
                key_ids: vec!["k".to_owned()],
                signing_key_id: "k".to_owned(),
                database: DatabaseStatus {
                    account: account.to_owned(),
                    version: None,
                    schema_version: 1,
                    fault: None,
                    error: None,
                },
            }),
            at: Timestamp::UNIX_EPOCH + k8s_openapi::jiff::SignedDuration::from_secs(second),
        }
    }

    fn polled(verdict: Verdict) -> HashMap<ObjectKey, Verdicts> {
        HashMap::from([(key("gate"), Verdicts::from([("gate-1".to_owned(), verdict)]))])
    }

    #[test]
    fn a_poll_reports_resources_whose_pods_said_something_new() {
        let pods = PodVerdicts::default();
        assert_eq!(pods.replace(&Scope::Cluster, polled(answered("a", 0))), [key("gate")]);
        assert_eq!(pods.replace(&Scope::Cluster, polled(answered("a", 15))), []);
        assert_eq!(pods.replace(&Scope::Cluster, polled(answered("b", 30))), [key("gate")]);
        assert_eq!(pods.replace(&Scope::Cluster, polled(Verdict::Unknown)), [key("gate")]);
        assert_eq!(pods.replace(&Scope::Cluster, HashMap::new()), [key("gate")]);
        assert_eq!(pods.replace(&Scope::Cluster, HashMap::new()), []);
    }

    #[test]
    fn a_poll_of_one_namespace_leaves_the_others() {
        let pods = PodVerdicts::default();
        pods.replace(&Scope::Cluster, polled(answered("a", 0)));
        assert_eq!(pods.replace(&Scope::Namespace("fair".to_owned()), HashMap::new()), []);
        assert_eq!(pods.of(&key("gate")).len(), 1);
        assert_eq!(pods.replace(&Scope::Namespace("market".to_owned()), HashMap::new()), [key("gate")]);
        assert_eq!(pods.of(&key("gate")).len(), 0);
    }

    #[test]
    fn the_time_of_asking_is_kept_though_it_is_no_change() {
        let pods = PodVerdicts::default();
        pods.replace(&Scope::Cluster, polled(answered("a", 0)));
        pods.replace(&Scope::Cluster, polled(answered("a", 15)));
        assert_eq!(*pods.of(&key("gate")), polled(answered("a", 15))[&key("gate")]);
        assert_eq!(*pods.of(&key("door")), Verdicts::new());
    }
}
