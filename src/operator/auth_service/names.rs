//! Names and labels of everything that belongs to one `AuthService`, each written once.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use crate::{
    api::{AuthService, auth_service::DeletionPolicy},
    operator::labels,
};

/// Container of the server pods.
pub const SERVER_CONTAINER: &str = "auth-server";
/// Volume of the server pods that carries the password of the account in use.
pub const ACCOUNT_VOLUME: &str = "database";
/// Volume of the server pods that carries the certificate of the public port.
pub const TLS_VOLUME: &str = "tls";
/// Container of a managed database's pod.
pub const DATABASE_CONTAINER: &str = "database";
/// Container of a migration Job's pod.
pub const MIGRATE_CONTAINER: &str = "migrate";
/// Volume claim template of a managed database.
pub const DATA_VOLUME: &str = "data";

/// Keys of the Secrets that are no key ring.
pub mod entry {
    /// Accounts: 8 hex digits that tell our accounts from those of other resources.
    pub const ID: &str = "id";
    /// Accounts: the key that names migration Jobs.
    pub const JOB_KEY: &str = "job-key";
    /// Accounts: present once the first admin's Secret was made, so that it is made only once.
    pub const ADMIN_ISSUED: &str = "admin-issued";
    /// Accounts, after `<n>`: the account's name.
    pub const USERNAME_SUFFIX: &str = ".username";
    /// Accounts, after `<n>`: the account's password.
    pub const PASSWORD_SUFFIX: &str = ".password";
    /// A user's Secret: name of the account.
    pub const USERNAME: &str = "username";
    /// A user's Secret, the admin Secret and the root Secret: the password.
    pub const PASSWORD: &str = "password";
    /// The administration Secret: the key that its tokens are signed with.
    pub const KEY: &str = "key";
    /// The admin Secret: the login name.
    pub const EMAIL: &str = "email";
}

/// The part a child plays, as label [`labels::COMPONENT`] says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The auth server and what exposes it. Only server pods carry it.
    Server,
    /// The managed database.
    Database,
    /// Migration Jobs and their pods.
    Migration,
    /// Secrets.
    Secrets,
}

impl Component {
    /// Value of [`labels::COMPONENT`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => labels::component::SERVER,
            Self::Database => labels::component::DATABASE,
            Self::Migration => labels::component::MIGRATION,
            Self::Secrets => "secrets",
        }
    }

    /// Value of [`labels::APP`].
    #[must_use]
    pub const fn app(self) -> &'static str {
        match self {
            Self::Database => labels::app::DATABASE,
            Self::Server | Self::Migration | Self::Secrets => labels::app::SERVER,
        }
    }
}

/// The `AuthService` a child belongs to, and what every child derives from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the `AuthService`.
    pub name: String,
    /// Its namespace, and that of every child.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Whether data and credentials outlive it.
    pub deletion_policy: DeletionPolicy,
}

impl Identity {
    /// The identity of a stored `AuthService`; `None` for one that was never stored.
    #[must_use]
    pub fn of(service: &AuthService) -> Option<Self> {
        Some(Self {
            name: service.metadata.name.clone()?,
            namespace: service.metadata.namespace.clone()?,
            uid: service.metadata.uid.clone()?,
            deletion_policy: service.spec.deletion_policy.unwrap_or_default(),
        })
    }

    /// Deployment, Service and `PodDisruptionBudget`.
    #[must_use]
    pub fn server(&self) -> String {
        self.name.clone()
    }

    /// Secret with the key ring.
    #[must_use]
    pub fn key_ring(&self) -> String {
        format!("{}-keys", self.name)
    }

    /// Secret with the database accounts.
    #[must_use]
    pub fn accounts(&self) -> String {
        format!("{}-database", self.name)
    }

    /// Secret with the first admin's password.
    #[must_use]
    pub fn admin(&self) -> String {
        format!("{}-admin", self.name)
    }

    /// Secret with the key of administration tokens, and Service of the administration port.
    #[must_use]
    pub fn administration(&self) -> String {
        format!("{}-administration", self.name)
    }

    /// Secret for people and neighbours, derived from the key ring and the accounts.
    #[must_use]
    pub fn credentials(&self) -> String {
        format!("{}-credentials", self.name)
    }

    /// `StatefulSet` and headless Service of the managed database.
    #[must_use]
    pub fn database(&self) -> String {
        format!("{}-mysql", self.name)
    }

    /// The one pod of the managed database.
    #[must_use]
    pub fn database_pod(&self) -> String {
        format!("{}-0", self.database())
    }

    /// Secret with the managed database's root password.
    #[must_use]
    pub fn root_password(&self) -> String {
        format!("{}-root", self.database())
    }

    /// `PersistentVolumeClaim` that the `StatefulSet` controller makes for the managed database.
    #[must_use]
    pub fn volume_claim(&self) -> String {
        format!("{DATA_VOLUME}-{}", self.database_pod())
    }

    /// Migration Job with these ten hex digits.
    #[must_use]
    pub fn migration(&self, digest: &str) -> String {
        format!("{}-migrate-{digest}", self.name)
    }

    /// Where /login and /validate answer within the cluster, with TLS or without.
    #[must_use]
    pub fn url(&self, tls: bool) -> String {
        let scheme = if tls { "https" } else { "http" };
        format!("{scheme}://{}.{}.svc:{}", self.name, self.namespace, crate::contract::SERVICE_PORT)
    }

    /// The `iss` claim: the address without TLS, whatever is spoken. The claim is a name, and servers
    /// refuse tokens of any other, so it must not change while tokens issued before are in use.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.url(false)
    }

    /// Host name of the managed database.
    #[must_use]
    pub fn database_host(&self) -> String {
        format!("{}.{}.svc", self.database(), self.namespace)
    }

    /// Labels by which a workload selects its pods. They never change: selectors are immutable.
    #[must_use]
    pub fn selector(&self, component: Component) -> BTreeMap<String, String> {
        [
            (labels::APP, component.app()),
            (labels::INSTANCE, &self.name),
            (labels::COMPONENT, component.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// Labels of a child and of the pods it makes.
    #[must_use]
    pub fn labels(&self, component: Component) -> BTreeMap<String, String> {
        let mut labels = self.selector(component);
        labels.insert(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned());
        labels.insert(labels::OWNER.to_owned(), self.name.clone());
        labels
    }

    /// Metadata of a child that goes when the `AuthService` goes.
    #[must_use]
    pub fn metadata(&self, name: String, component: Component) -> ObjectMeta {
        ObjectMeta {
            owner_references: Some(vec![self.owner_reference()]),
            ..self.unowned_metadata(name, component)
        }
    }

    /// Metadata of a Secret that follows `deletionPolicy`: owned under Delete, so that garbage
    /// collection takes it; without an owner under Retain.
    #[must_use]
    pub fn retained_metadata(&self, name: String) -> ObjectMeta {
        match self.deletion_policy {
            DeletionPolicy::Delete => self.metadata(name, Component::Secrets),
            DeletionPolicy::Retain => self.unowned_metadata(name, Component::Secrets),
        }
    }

    fn unowned_metadata(&self, name: String, component: Component) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels(component)),
            ..ObjectMeta::default()
        }
    }

    /// The controller reference that [`Identity::metadata`] sets.
    #[must_use]
    pub fn owner_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: AuthService::api_version(&()).into_owned(),
            kind: AuthService::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}
