//! Every write to a child: creates what is missing by POST, corrects what differs, deletes what is
//! to go. One child that the API server refuses does not keep the others from being kept.

mod writer;

use std::marker::PhantomData;

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{Client, ResourceExt};

use self::writer::{Child, Failed, Writer};
use super::{
    claim::{self, Owner},
    gather::Observed,
    names::{Identity, entry},
    plan::{Applied, Plan, Prepared, Resources},
    refusal::Refusal,
    secret_patch::Keeping,
};

/// What became of the plan.
pub struct Outcome {
    /// Every child as it lives now.
    pub resources: Resources<Applied>,
    /// What was written, in order.
    pub changes: Vec<Change>,
    /// What the API server refused.
    pub refusals: Vec<Refusal>,
    /// Something changed between reading and writing: read again soon.
    pub again: bool,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Created, Changed or Deleted: the reason of the Event.
    pub done: &'static str,
    /// The child.
    pub object: ObjectReference,
    /// What differed, or why it was deleted; empty for a creation.
    pub detail: String,
}

/// Carries the plan out.
pub async fn apply(
    client: &Client,
    plan: &Plan,
    prepared: Resources<Prepared>,
    observed: &Observed,
) -> Outcome {
    let mut writer =
        Writer { client, identity: &plan.identity, changes: Vec::new(), refusals: Vec::new(), again: false };
    let deleted = writer.delete_all(&plan.deletions).await;
    let resources = Box::pin(writer.write_all(prepared, observed, &deleted)).await;
    let Writer { changes, refusals, again, .. } = writer;
    Outcome { resources, changes, refusals, again }
}

/// Carries nothing out: every child as it was read.
#[must_use]
pub fn seen(plan: &Plan, observed: &Observed) -> Outcome {
    let identity = &plan.identity;
    let name = plan.migration.as_ref().map(|migration| migration.name.as_str());
    let resources = Resources {
        key_ring: ours(observed.key_ring.as_ref(), identity),
        accounts: ours(observed.accounts.as_ref(), identity),
        admin: ours(observed.admin.as_ref(), identity),
        administration: ours(observed.administration.as_ref(), identity),
        root_password: ours(observed.root_password.as_ref(), identity),
        credentials: ours(observed.credentials.as_ref(), identity),
        service: ours(observed.service.as_ref(), identity),
        administration_service: ours(observed.administration_service.as_ref(), identity),
        deployment: ours(observed.deployment.as_ref(), identity),
        budget: ours(observed.budget.as_ref(), identity),
        database_service: ours(observed.database_service.as_ref(), identity),
        database: ours(observed.database.as_ref(), identity),
        volume: observed.volume.clone(),
        migration: observed.jobs.iter().find(|job| Some(job.name_any().as_str()) == name).cloned(),
        step: PhantomData,
    };
    Outcome { resources, changes: Vec::new(), refusals: Vec::new(), again: false }
}

fn ours<K: Child>(observed: Option<&K>, identity: &Identity) -> Option<K> {
    observed.filter(|object| claim::owner(*object, identity) == Owner::Ours).cloned()
}

impl Writer<'_> {
    /// Secrets come before what mounts them; what mounts a Secret that could not be written waits.
    async fn write_all(
        &mut self,
        prepared: Resources<Prepared>,
        observed: &Observed,
        deleted: &[String],
    ) -> Resources<Applied> {
        let Resources {
            key_ring,
            accounts,
            admin,
            administration,
            root_password,
            credentials,
            service,
            administration_service,
            deployment,
            budget,
            database_service,
            database,
            volume,
            migration,
            step: _,
        } = prepared;
        let root_password =
            self.secret(root_password, observed.root_password.as_ref(), Keeping::WriteOnce).await;
        let admin = self.secret(admin, observed.admin.as_ref(), Keeping::WriteOnce).await;
        let accounts = accounts.map(|accounts| if admin.is_err() { not_issued(accounts) } else { accounts });
        let accounts = self.secret(accounts, observed.accounts.as_ref(), Keeping::WriteOnce).await;
        let key_ring = self.secret(key_ring, observed.key_ring.as_ref(), Keeping::WriteOnce).await;
        // While the port is closed its Secret is merely kept.
        let opens_administration = administration_service.is_some();
        let administration =
            self.secret(administration, observed.administration.as_ref(), Keeping::WriteOnce).await;
        let stored = accounts.is_ok() && key_ring.is_ok();
        let credentials = credentials.filter(|_| stored);
        let credentials = self.secret(credentials, observed.credentials.as_ref(), Keeping::View).await;
        let service = self.object(service, observed.service.as_ref()).await;
        let administration_service =
            self.object(administration_service, observed.administration_service.as_ref()).await;
        let database_service = self.object(database_service, observed.database_service.as_ref()).await;
        // A first volume without accounts would make them count as lost.
        let is_first = observed.database.is_none() && observed.volume.is_none();
        let may_start = root_password.is_ok() && (accounts.is_ok() || !is_first);
        let database = self.object(database.filter(|_| may_start), observed.database.as_ref()).await;
        let volume = self.grow(volume, observed.volume.as_ref()).await;
        let migration = migration.filter(|_| stored && root_password.is_ok() && admin.is_ok());
        let migration = self.job(migration, observed, deleted).await;
        let mountable = stored && (administration.is_ok() || !opens_administration);
        let deployment = self.object(deployment.filter(|_| mountable), observed.deployment.as_ref()).await;
        let budget = self.object(budget, observed.budget.as_ref()).await;
        Resources {
            key_ring: key_ring.unwrap_or_else(|Failed| ours(observed.key_ring.as_ref(), self.identity)),
            accounts: accounts.unwrap_or_else(|Failed| ours(observed.accounts.as_ref(), self.identity)),
            admin: admin.unwrap_or_else(|Failed| ours(observed.admin.as_ref(), self.identity)),
            administration: administration
                .unwrap_or_else(|Failed| ours(observed.administration.as_ref(), self.identity)),
            root_password: root_password
                .unwrap_or_else(|Failed| ours(observed.root_password.as_ref(), self.identity)),
            credentials: credentials
                .unwrap_or_else(|Failed| ours(observed.credentials.as_ref(), self.identity)),
            service: service.unwrap_or_else(|Failed| ours(observed.service.as_ref(), self.identity)),
            administration_service: administration_service
                .unwrap_or_else(|Failed| ours(observed.administration_service.as_ref(), self.identity)),
            deployment: deployment.unwrap_or_else(|Failed| ours(observed.deployment.as_ref(), self.identity)),
            budget: budget.unwrap_or_else(|Failed| ours(observed.budget.as_ref(), self.identity)),
            database_service: database_service
                .unwrap_or_else(|Failed| ours(observed.database_service.as_ref(), self.identity)),
            database: database.unwrap_or_else(|Failed| ours(observed.database.as_ref(), self.identity)),
            volume,
            migration,
            step: PhantomData,
        }
    }
}

/// The accounts without the marker that the first admin's Secret was made.
fn not_issued(mut accounts: Secret) -> Secret {
    if let Some(data) = accounts.data.as_mut() {
        data.remove(entry::ADMIN_ISSUED);
    }
    accounts
}
