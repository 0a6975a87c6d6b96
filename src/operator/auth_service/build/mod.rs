//! Builds every owned object from the [`Plan`]: pure functions, one file a kind.

use std::marker::PhantomData;

use super::plan::{Plan, Prepared, Resources};

mod budget;
mod database;
mod deployment;
pub mod environment;
mod migration;
mod pod;
mod secrets;
mod service;

/// Every object the plan asks for, as it is to be; `None` where the plan leaves the live one alone.
#[must_use]
pub fn build(plan: &Plan) -> Resources<Prepared> {
    let managed = plan.managed.as_ref();
    Resources {
        key_ring: secrets::key_ring(plan),
        accounts: secrets::accounts(plan),
        admin: secrets::admin(plan),
        administration: secrets::administration(plan),
        root_password: secrets::root_password(plan),
        credentials: secrets::credentials(plan),
        service: plan.service.then(|| service::server(&plan.identity)),
        administration_service: plan.administration_service.then(|| service::administration(&plan.identity)),
        deployment: plan.server.as_ref().map(|server| deployment::deployment(plan, server)),
        budget: plan.budget.then(|| budget::budget(&plan.identity)),
        database_service: managed
            .is_some_and(|managed| managed.service)
            .then(|| service::database(&plan.identity)),
        database: managed
            .and_then(|managed| managed.server.as_ref())
            .map(|server| database::stateful_set(plan, server)),
        volume: managed
            .and_then(|managed| managed.grow_volume.clone())
            .map(|size| database::grown_volume(&plan.identity, size)),
        migration: plan.migration.as_ref().map(|migration| migration::job(plan, migration)),
        step: PhantomData,
    }
}

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests {
    use super::{build, sample};
    use crate::operator::auth_service::plan::{ManagedDatabase, Resources};

    #[test]
    fn what_the_plan_leaves_alone_is_not_built() {
        let mut plan = sample::frozen();
        plan.managed =
            Some(ManagedDatabase { root_password: None, service: false, server: None, grow_volume: None });
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
        } = build(&plan);
        assert_eq!(
            [key_ring, accounts, admin, administration, root_password, credentials],
            [const { None }; 6]
        );
        assert_eq!([service, administration_service, database_service], [None, None, None]);
        assert_eq!((deployment, budget, database, volume, migration), (None, None, None, None, None));
    }

    #[test]
    fn every_child_tells_its_namespace_its_owner_and_its_keeper() {
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
            volume: _,
            migration,
            step: _,
        } = build(&sample::managed());
        let metadata = [
            key_ring.map(|child| child.metadata),
            accounts.map(|child| child.metadata),
            admin.map(|child| child.metadata),
            administration.map(|child| child.metadata),
            root_password.map(|child| child.metadata),
            credentials.map(|child| child.metadata),
            service.map(|child| child.metadata),
            administration_service.map(|child| child.metadata),
            deployment.map(|child| child.metadata),
            budget.map(|child| child.metadata),
            database_service.map(|child| child.metadata),
            database.map(|child| child.metadata),
            migration.map(|child| child.metadata),
        ];
        let told: Vec<_> = metadata
            .into_iter()
            .map(|metadata| {
                let metadata = metadata.unwrap();
                let labels = metadata.labels.unwrap();
                let label = |name: &str| labels[name].clone();
                let owner = metadata.owner_references.map(|owners| owners[0].uid.clone());
                format!(
                    "{}/{} {} {} {} owner {}",
                    metadata.namespace.unwrap(),
                    metadata.name.unwrap(),
                    label("app.kubernetes.io/managed-by"),
                    label("authservice.dev/name"),
                    label("app.kubernetes.io/component"),
                    owner.as_deref().unwrap_or("none"),
                )
            })
            .collect();
        let manager = "authservice-operator gate";
        assert_eq!(
            told,
            [
                format!("market/gate-keys {manager} secrets owner none"),
                format!("market/gate-database {manager} secrets owner none"),
                format!("market/gate-admin {manager} secrets owner none"),
                format!("market/gate-administration {manager} secrets owner none"),
                format!("market/gate-mysql-root {manager} secrets owner none"),
                format!("market/gate-credentials {manager} secrets owner uid-of-gate"),
                format!("market/gate {manager} server owner uid-of-gate"),
                format!("market/gate-administration {manager} server owner uid-of-gate"),
                format!("market/gate {manager} server owner uid-of-gate"),
                format!("market/gate {manager} server owner uid-of-gate"),
                format!("market/gate-mysql {manager} database owner uid-of-gate"),
                format!("market/gate-mysql {manager} database owner uid-of-gate"),
                format!("market/gate-migrate-0123456789 {manager} migration owner uid-of-gate"),
            ]
        );
    }
}
