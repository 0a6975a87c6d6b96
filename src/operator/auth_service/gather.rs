//! Every read: what lives in the cluster of one `AuthService`, by name and straight from the API
//! server, so that no stale cache can cause a write.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod, Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde::de::DeserializeOwned;

use super::{
    Error,
    jobs::{self, JobState},
    names::{Component, Identity},
    pods,
};
use crate::{
    api::AuthService,
    operator::{
        context::{Context, ObjectKey, Verdict, Verdicts},
        labels,
        references::referred_secrets,
    },
};

/// Most referenced Secrets read at the same time.
const CONCURRENT_READS: usize = 8;
/// Most objects in one answer of the API server.
const PAGE: u32 = 100;

/// What lives in the cluster of one `AuthService`, whoever it belongs to.
#[derive(Clone, Default)]
pub struct Observed {
    /// Secret [`Identity::key_ring`].
    pub key_ring: Option<Secret>,
    /// Secret [`Identity::accounts`].
    pub accounts: Option<Secret>,
    /// Secret [`Identity::admin`].
    pub admin: Option<Secret>,
    /// Secret [`Identity::administration`].
    pub administration: Option<Secret>,
    /// Secret [`Identity::root_password`].
    pub root_password: Option<Secret>,
    /// Secret [`Identity::credentials`].
    pub credentials: Option<Secret>,
    /// Service [`Identity::server`].
    pub service: Option<Service>,
    /// Service [`Identity::administration`].
    pub administration_service: Option<Service>,
    /// Deployment [`Identity::server`].
    pub deployment: Option<Deployment>,
    /// `PodDisruptionBudget` [`Identity::server`].
    pub budget: Option<PodDisruptionBudget>,
    /// Headless Service [`Identity::database`].
    pub database_service: Option<Service>,
    /// `StatefulSet` [`Identity::database`].
    pub database: Option<StatefulSet>,
    /// `PersistentVolumeClaim` [`Identity::volume_claim`].
    pub volume: Option<PersistentVolumeClaim>,
    /// Migration Jobs of any name.
    pub jobs: Vec<Job>,
    /// Pods of migration Jobs.
    pub migration_pods: Vec<Pod>,
    /// Server pods, read only while fewer are ready than wanted.
    pub server_pods: Vec<Pod>,
    /// The managed database's pod, read only while it is not ready.
    pub database_pod: Option<Pod>,
    /// The Secrets that spec refers to, by name; absent ones are missing here.
    pub referenced: BTreeMap<String, Secret>,
    /// What the server pods last said of themselves.
    pub verdicts: Arc<Verdicts>,
    /// How long the newest migration Job, having failed, still waits before it is tried again.
    pub retry_in: Option<Duration>,
}

/// Reads the `AuthService` itself: the cached one may be gone, replaced or outdated.
pub async fn gather_service(ctx: &Context, key: &ObjectKey) -> Result<Option<AuthService>, Error> {
    let api: Api<AuthService> = Api::namespaced(ctx.client.clone(), &key.namespace);
    api.get_opt(&key.name)
        .await
        .map_err(|source| Error::Read { what: format!("AuthService {}", key.name), source })
}

/// Reads everything that belongs to `service` or that its spec refers to.
pub async fn gather(ctx: &Context, service: &AuthService, identity: &Identity) -> Result<Observed, Error> {
    let key = ObjectKey::of(service);
    let reads = Reads { client: &ctx.client, namespace: &identity.namespace };
    let (server, database) = (identity.server(), identity.database());
    let (key_ring, accounts, admin, administration, root_password, credentials) = (
        identity.key_ring(),
        identity.accounts(),
        identity.admin(),
        identity.administration(),
        identity.root_password(),
        identity.credentials(),
    );
    let volume = identity.volume_claim();
    let (
        key_ring,
        accounts,
        admin,
        administration_key,
        root_password,
        credentials,
        service_,
        administration_service,
        deployment,
        budget,
        database_service,
        database,
        volume,
    ) = tokio::try_join!(
        reads.get::<Secret>(&key_ring),
        reads.get::<Secret>(&accounts),
        reads.get::<Secret>(&admin),
        reads.get::<Secret>(&administration),
        reads.get::<Secret>(&root_password),
        reads.get::<Secret>(&credentials),
        reads.get::<Service>(&server),
        reads.get::<Service>(&administration),
        reads.get::<Deployment>(&server),
        reads.get::<PodDisruptionBudget>(&server),
        reads.get::<Service>(&database),
        reads.get::<StatefulSet>(&database),
        reads.get::<PersistentVolumeClaim>(&volume),
    )?;
    let (jobs, migration_pods, referenced) = tokio::try_join!(
        reads.list::<Job>(identity, Component::Migration),
        reads.list::<Pod>(identity, Component::Migration),
        reads.secrets(referred_secrets(&service.spec)),
    )?;
    let server_pods = async {
        if pods::all_ready(deployment.as_ref()) {
            Ok(Vec::new())
        } else {
            reads.list::<Pod>(identity, Component::Server).await
        }
    };
    let database_pod_name = identity.database_pod();
    let database_pod = async {
        if database.as_ref().is_none_or(pods::database_ready) {
            Ok(None)
        } else {
            reads.get::<Pod>(&database_pod_name).await
        }
    };
    let (server_pods, database_pod) = tokio::try_join!(server_pods, database_pod)?;
    let retry_in = retry_in(ctx, &key, &jobs);
    Ok(Observed {
        key_ring,
        accounts,
        admin,
        administration: administration_key,
        root_password,
        credentials,
        service: service_,
        administration_service,
        deployment,
        budget,
        database_service,
        database,
        volume,
        jobs,
        migration_pods,
        server_pods,
        database_pod,
        referenced,
        verdicts: ctx.pods.of(&key),
        retry_in,
    })
}

/// Counts a failed migration once, or one that pods say did not help, and tells how much of its wait
/// is left; forgets the failures once the newest Job has completed and no pod complains.
fn retry_in(ctx: &Context, key: &ObjectKey, all: &[Job]) -> Option<Duration> {
    let newest = all.iter().max_by_key(|job| job.creation_timestamp().map(|time| time.0))?;
    let failed = match jobs::state(newest) {
        JobState::Running => return None,
        JobState::Failed { .. } => true,
        JobState::Complete { .. } => ctx.pods.of(key).values().any(Verdict::asks_for_migration),
    };
    if !failed {
        ctx.migrations.reset(key);
        return None;
    }
    Some(ctx.migrations.remaining(key, &newest.uid().unwrap_or_default()))
}

/// The reads of one namespace.
struct Reads<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Reads<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn get<K>(&self, name: &str) -> Result<Option<K>, Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let read = self.api::<K>().get_opt(name).await;
        read.map_err(|source| Error::Read { what: format!("{} {name}", K::kind(&())), source })
    }

    async fn list<K>(&self, identity: &Identity, component: Component) -> Result<Vec<K>, Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let selector =
            format!("{}={},{}={}", labels::OWNER, identity.name, labels::COMPONENT, component.as_str());
        let mut params = ListParams::default().labels(&selector).limit(PAGE);
        let mut objects = Vec::new();
        loop {
            let page = self.api::<K>().list(&params).await;
            let page =
                page.map_err(|source| Error::Read { what: format!("{} list", K::kind(&())), source })?;
            let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
            objects.extend(page.items);
            let Some(next) = next else { return Ok(objects) };
            params = params.continue_token(&next);
        }
    }

    async fn secrets(
        &self,
        names: std::collections::BTreeSet<String>,
    ) -> Result<BTreeMap<String, Secret>, Error> {
        let reads = stream::iter(names).map(|name| async move {
            let secret = self.get::<Secret>(&name).await?;
            Ok::<_, Error>(secret.map(|secret| (name, secret)))
        });
        reads
            .buffer_unordered(CONCURRENT_READS)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await
    }
}
