//! What is to be made, fully decided: `build` turns a [`Plan`] into objects without interpreting
//! anything of the spec. `None` and `false` mean "leave the live object as it is".

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{LocalObjectReference, PersistentVolumeClaim, ResourceRequirements, Secret, Service},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::names::Identity;
use crate::api::auth_service::{RevocationUnavailable, SchemaMode};

/// Everything that is to exist, and what is to go.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Names, labels and owner reference of every child.
    pub identity: Identity,
    /// Secrets to pull images with, for every pod.
    pub pull_secrets: Vec<LocalObjectReference>,
    /// Secret [`Identity::key_ring`], [`Identity::retained_metadata`].
    pub key_ring: Option<Entries>,
    /// Secret [`Identity::accounts`], [`Identity::retained_metadata`].
    pub accounts: Option<Entries>,
    /// Secret [`Identity::admin`], [`Identity::retained_metadata`]; `None` too once it was issued.
    pub admin: Option<Entries>,
    /// Secret [`Identity::administration`], [`Identity::retained_metadata`].
    pub administration: Option<Entries>,
    /// Secret [`Identity::credentials`], [`Identity::metadata`]: exactly these entries.
    pub credentials: Option<Entries>,
    /// Service [`Identity::server`].
    pub service: bool,
    /// Service [`Identity::administration`].
    pub administration_service: bool,
    /// Deployment [`Identity::server`].
    pub server: Option<Server>,
    /// `PodDisruptionBudget` [`Identity::server`], `maxUnavailable` 1.
    pub budget: bool,
    /// The managed database; `None` with an external one.
    pub managed: Option<ManagedDatabase>,
    /// Job of this name; `None` while an input is missing or the managed database is not up.
    pub migration: Option<Migration>,
    /// Objects to delete before anything is created.
    pub deletions: Vec<Deletion>,
}

/// The auth server's Deployment. It mounts the Secret [`Identity::key_ring`] as a whole at
/// [`mount::KEY_RING`](crate::contract::mount::KEY_RING), and from Secret [`Identity::accounts`] the one
/// entry [`Account::password_entry`] as [`mount::DATABASE_PASSWORD`](crate::contract::mount::DATABASE_PASSWORD),
/// in a volume named [`ACCOUNT_VOLUME`](super::names::ACCOUNT_VOLUME); its container is named
/// [`SERVER_CONTAINER`](super::names::SERVER_CONTAINER). Nothing needs a hash annotation: what does
/// not reload is in the template itself. The live [`Connection`] is read back from the environment
/// ([`env::MYSQL_HOST`](crate::contract::env::MYSQL_HOST), `_PORT`, `_DB`, `_USER` as plain values)
/// and from the volume's item.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Image; the live one until the migration that belongs to the wanted one has completed.
    pub image: String,
    /// Server pods.
    pub replicas: i32,
    /// The database the pods use; the live one until the migration of the wanted one has completed.
    pub connection: Connection,
    /// [`env::TOKEN_TTL`](crate::contract::env::TOKEN_TTL).
    pub token_ttl: String,
    /// [`env::TOKEN_ISSUER`](crate::contract::env::TOKEN_ISSUER).
    pub token_issuer: String,
    /// [`env::TOKEN_AUDIENCE`](crate::contract::env::TOKEN_AUDIENCE); `None`: leave the variable out.
    pub token_audience: Option<String>,
    /// [`env::REVOCATION_LAG`](crate::contract::env::REVOCATION_LAG).
    pub revocation_lag: String,
    /// [`env::REVOCATION_UNAVAILABLE`](crate::contract::env::REVOCATION_UNAVAILABLE).
    pub revocation_unavailable: RevocationUnavailable,
    /// [`env::LEGACY_PASSWORD_FORMATS`](crate::contract::env::LEGACY_PASSWORD_FORMATS); empty: leave the variable out.
    pub legacy_formats: String,
    /// [`env::REHASH_PASSWORDS`](crate::contract::env::REHASH_PASSWORDS).
    pub rehash: bool,
    /// What is asked of new passwords and how they are hashed, as variables and their values: what spec
    /// gives.
    pub new_passwords: Vec<(&'static str, String)>,
    /// When failed logins lock an account or a source.
    pub protection: LoginProtection,
    /// [`env::INVALID_TOKEN_STATUS`](crate::contract::env::INVALID_TOKEN_STATUS); `None`: leave the variable out.
    pub invalid_token_status: Option<i32>,
    /// Secret with the certificate of the public port, mounted at [`mount::TLS`](crate::contract::mount::TLS) in
    /// a volume named [`TLS_VOLUME`](super::names::TLS_VOLUME); `None`: plain HTTP.
    pub tls: Option<String>,
    /// Whether the pods mount entry [`entry::KEY`](super::names::entry::KEY) of Secret
    /// [`Identity::administration`] as
    /// [`mount::ADMINISTRATION_KEY`](crate::contract::mount::ADMINISTRATION_KEY), and open its port.
    pub administration: bool,
    /// Traces of requests; `None`: leave the variables out.
    pub tracing: Option<Tracing>,
    /// Compute resources of the container, defaults filled in.
    pub resources: ResourceRequirements,
    /// Labels added to the pods; the operator's own win.
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations added to the pods.
    pub pod_annotations: BTreeMap<String, String>,
}

/// Where traces of requests go, and of which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracing {
    /// [`env::OTEL_EXPORTER_OTLP_ENDPOINT`](crate::contract::env::OTEL_EXPORTER_OTLP_ENDPOINT).
    pub endpoint: String,
    /// [`env::OTEL_TRACES_SAMPLER_ARG`](crate::contract::env::OTEL_TRACES_SAMPLER_ARG).
    pub sampling: String,
}

/// What spec says of login protection; the server has the defaults. `None` and empty: leave the
/// variable out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginProtection {
    /// [`env::LOGIN_MAX_FAILURES`](crate::contract::env::LOGIN_MAX_FAILURES).
    pub max_failures: Option<i32>,
    /// [`env::LOGIN_FAILURE_WINDOW`](crate::contract::env::LOGIN_FAILURE_WINDOW).
    pub window: Option<String>,
    /// [`env::LOGIN_LOCKOUT`](crate::contract::env::LOGIN_LOCKOUT).
    pub lockout: Option<String>,
    /// [`env::TRUSTED_PROXIES`](crate::contract::env::TRUSTED_PROXIES).
    pub trusted_proxies: String,
}

/// A database and the account the server uses in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the database.
    pub database: String,
    /// The account.
    pub account: Account,
}

/// One account of the Secret [`Identity::accounts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its place in the Secret, from 1.
    pub number: u32,
    /// Its name in the database, given to the pods as a plain value.
    pub username: String,
}

impl Account {
    /// Key of the account's password in Secret [`Identity::accounts`].
    #[must_use]
    pub fn password_entry(&self) -> String {
        format!("{}{}", self.number, super::names::entry::PASSWORD_SUFFIX)
    }

    /// Key of the account's name in Secret [`Identity::accounts`].
    #[must_use]
    pub fn username_entry(&self) -> String {
        format!("{}{}", self.number, super::names::entry::USERNAME_SUFFIX)
    }
}

/// The managed database.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagedDatabase {
    /// Secret [`Identity::root_password`], [`Identity::retained_metadata`].
    pub root_password: Option<Entries>,
    /// Headless Service [`Identity::database`]; it publishes addresses that are not ready, so that
    /// the migration can reach a database the moment it listens.
    pub service: bool,
    /// `StatefulSet` [`Identity::database`] of one replica.
    pub server: Option<DatabaseServer>,
    /// Patch [`Identity::volume_claim`] to this size; `None` while it is absent or large enough.
    pub grow_volume: Option<Quantity>,
}

/// The managed database's `StatefulSet`. Its container is named
/// [`DATABASE_CONTAINER`](super::names::DATABASE_CONTAINER) and mounts key
/// [`entry::PASSWORD`](super::names::entry::PASSWORD) of Secret [`Identity::root_password`] as a file.
/// `persistentVolumeClaimRetentionPolicy.whenDeleted` follows `identity.deletion_policy`.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseServer {
    /// Image.
    pub image: String,
    /// Compute resources of the container, defaults filled in.
    pub resources: ResourceRequirements,
    /// Size in the volume claim template: the live one where there is one, as it cannot change.
    pub template_size: Quantity,
    /// Storage class in the volume claim template, live one first; `None`: the cluster's default.
    pub template_storage_class: Option<String>,
}

/// One migration Job: `auth-server migrate`, in container
/// [`MIGRATE_CONTAINER`](super::names::MIGRATE_CONTAINER).
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    /// Name of the Job; it changes with every input, so the Job never has to.
    pub name: String,
    /// Image of the auth server.
    pub image: String,
    /// The wanted database and account, given as to the server's pods.
    pub connection: Connection,
    /// [`env::SCHEMA_MODE`](crate::contract::env::SCHEMA_MODE).
    pub schema: SchemaMode,
    /// The account that may create database, account and tables.
    pub admin: Option<AdminAccount>,
    /// [`env::BOOTSTRAP_USERS`](crate::contract::env::BOOTSTRAP_USERS), in this order.
    pub bootstrap: Vec<Bootstrap>,
    /// What is asked of their passwords and how they are hashed, as variables and their values: what
    /// spec gives.
    pub new_passwords: Vec<(&'static str, String)>,
}

/// A database account with admin rights: key `password`, and `username` unless it is given here, of
/// a Secret mounted at [`mount::DATABASE_ADMIN`](crate::contract::mount::DATABASE_ADMIN). The names
/// reach the container by [`env::MYSQL_ADMIN_USER`](crate::contract::env::MYSQL_ADMIN_USER) and
/// [`env::MYSQL_ADMIN_PASSWORD`](crate::contract::env::MYSQL_ADMIN_PASSWORD), each with
/// [`env::FILE_SUFFIX`](crate::contract::env::FILE_SUFFIX) where it is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAccount {
    /// The Secret.
    pub secret: String,
    /// `root` of a managed database; `None`: the Secret's key `username`.
    pub username: Option<String>,
}

/// A bootstrap user. Its Secret is mounted `optional` as
/// `<mount::BOOTSTRAP>/<place in the list, from 0>/password`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Login name.
    pub email: String,
    /// The `admin` claim.
    pub admin: bool,
    /// The Secret.
    pub secret: String,
    /// Key of the password within the Secret.
    pub key: String,
}

/// An object to delete, as it was seen: another uid is another object and stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// What it is.
    pub kind: Deletable,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// For the Event.
    pub why: &'static str,
}

/// The kinds of which the operator ever deletes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletable {
    /// A `PodDisruptionBudget` that would block drains.
    Budget,
    /// The Service of an administration port that is closed.
    Service,
    /// A migration Job that is superseded, has failed, or whose work was undone.
    Job,
}

/// Entries of a Secret. For a write-once Secret these are the live ones and the new ones.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Entries(pub BTreeMap<String, Vec<u8>>);

/// Keys only: values never reach a log.
impl fmt::Debug for Entries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// Step marker: built, not yet known to the API server.
#[derive(Debug)]
pub enum Prepared {}
/// Step marker: as the API server answered.
#[derive(Debug)]
pub enum Applied {}

/// Every owned object, one field a kind and role. Users destructure it without `..`, so that a new
/// field names every place that has to know it. In step [`Prepared`], `None` is "leave it"; in
/// step [`Applied`], `None` is "does not exist, or is not ours".
pub struct Resources<Step> {
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
    /// `PersistentVolumeClaim` [`Identity::volume_claim`]: name, namespace and
    /// `spec.resources.requests.storage` alone, from [`ManagedDatabase::grow_volume`].
    pub volume: Option<PersistentVolumeClaim>,
    /// Job [`Migration::name`].
    pub migration: Option<Job>,
    /// The step.
    pub step: PhantomData<Step>,
}
