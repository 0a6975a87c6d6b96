//! `AuthService`: the one resource a cluster admin applies. The docstrings are what
//! `kubectl explain` prints; the rules are what the API server refuses, with their messages.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LocalObjectReference, ResourceRequirements},
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{Condition, Time},
    },
};
use kube::{CustomResource, KubeSchema, core::Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::contract::{Algorithm, LegacyFormat};

/// Replicas of a resource that names none.
pub const DEFAULT_REPLICAS: i32 = 2;
/// Longest name of a resource: children append to it and stay within Kubernetes' own limits.
pub const MAX_NAME_LENGTH: usize = 40;

/// A login service: `POST /login` answers a signed token for an e-mail and a password,
/// `POST /validate` answers the claims of a token. `spec: {}` is complete: two replicas, a managed
/// database, generated secrets, and one admin user whose password is in Secret `<name>-admin`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "authservice.dev",
    version = "v1alpha1",
    kind = "AuthService",
    plural = "authservices",
    singular = "authservice",
    shortname = "authsvc",
    category = "auth",
    namespaced,
    status = "AuthServiceStatus",
    derive = "PartialEq",
    doc = "A login service: POST /login answers a signed token for an e-mail and a password, POST /validate answers the claims of a token. `spec: {}` is complete: two replicas, a managed database, generated secrets, and one admin user whose password is in Secret `<name>-admin`.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether the service is what spec asks for, and answers"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas", description = "Server pods that are ready"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", description = "Where /login and /validate answer within the cluster"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", description = "What is waited for, or what is wrong and the cure"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be a DNS-1035 label, because a Service carries it: lower-case letters, digits and '-', beginning with a letter, ending with a letter or digit"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name may have at most 40 characters, because the names of its children append to it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.suspend) && self.suspend) || (has(self.deletionPolicy) ? self.deletionPolicy : 'Retain') == (has(oldSelf.deletionPolicy) ? oldSelf.deletionPolicy : 'Retain')").message("deletionPolicy cannot change while suspend is true, because nothing would carry it out: set suspend to false first"),
    validation = Rule::new("(has(self.database) && has(self.database.external)) == (has(oldSelf.database) && has(oldSelf.database.external))").message("database cannot change between managed and external: create another AuthService and move the users"),
    validation = Rule::new("(has(self.database) && has(self.database.managed) && has(self.database.managed.storage) && has(self.database.managed.storage.storageClassName) ? self.database.managed.storage.storageClassName : '') == (has(oldSelf.database) && has(oldSelf.database.managed) && has(oldSelf.database.managed.storage) && has(oldSelf.database.managed.storage.storageClassName) ? oldSelf.database.managed.storage.storageClassName : '')").message("database.managed.storage.storageClassName cannot change, be added or be removed: a volume keeps the class it was made with"),
    validation = Rule::new("(has(self.token) && has(self.token.issuer) ? self.token.issuer : '') == (has(oldSelf.token) && has(oldSelf.token.issuer) ? oldSelf.token.issuer : '')").message("token.issuer cannot change, be added or be removed: tokens issued before would be refused; to have it all the same, delete this AuthService with deletionPolicy Retain, which keeps the users, and create it anew"),
    validation = Rule::new("(has(self.token) && has(self.token.audience) ? self.token.audience : '') == (has(oldSelf.token) && has(oldSelf.token.audience) ? oldSelf.token.audience : '')").message("token.audience cannot change, be added or be removed: tokens issued before would be refused; to have it all the same, delete this AuthService with deletionPolicy Retain, which keeps the users, and create it anew"),
)]
pub struct AuthServiceSpec {
    /// Server pods. The one default that stands in the schema, because `kubectl scale` needs it.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,

    /// Image of the auth server. Default: the one of the operator's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// Where the users are kept. Default: a managed database. Managed or external is decided once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,

    /// The tokens that /login answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,

    /// How stored passwords are read and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passwords: Option<Passwords>,

    /// When failed logins lock an account or a source. Default: on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_protection: Option<LoginProtection>,

    /// Users that exist from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Users>,

    /// How the service answers over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,

    /// Opens port 5001 of the server pods, behind Service `<name>-administration`: an API for whoever looks
    /// after users, and holds the key in Secret `<name>-administration`, which is made with it. Taken away,
    /// port and Service go; the Secret stays. Default: closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub administration: Option<Administration>,

    /// What is told about the service to systems that watch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,

    /// What the server pods carry besides what the operator sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,

    /// What happens to data and credentials when this resource is deleted. Default: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// True: nothing is changed but status, and the pods go on serving. Deletion works. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

fn default_replicas() -> i32 {
    DEFAULT_REPLICAS
}

/// The administration API; nothing of it can be set.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Administration {}

/// Where the users are kept: exactly one of `managed` and `external`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.managed) != has(self.external)").message("database needs exactly one of managed and external; leave database out for a managed one with its defaults"))]
pub struct Database {
    /// A database that the operator runs in the resource's namespace: one pod, one volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedDatabase>,
    /// A MySQL 8.4+ or MariaDB 10.11+ server that exists already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalDatabase>,
}

/// A database that the operator runs.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedDatabase {
    /// Image with `sh` and `mysqld` or `mariadbd`. Default: the one the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// The volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Compute resources of the database container. Default: requests of 100m CPU and 512Mi memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// The volume of a managed database.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.size) || !has(oldSelf.size) || !isQuantity(string(self.size)) || !isQuantity(string(oldSelf.size)) || !quantity(string(self.size)).isLessThan(quantity(string(oldSelf.size)))").message("database.managed.storage.size can only grow: Kubernetes cannot shrink a volume"))]
pub struct Storage {
    /// Size of the volume; it can grow where the storage class allows it. Default: 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))").message("storage.size must be a positive Kubernetes quantity such as 1Gi"))]
    pub size: Option<Quantity>,
    /// Storage class; never changes. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// A database server that exists already.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.credentialsSecretRef) || has(self.adminCredentialsSecretRef)").message("database.external needs credentialsSecretRef (an account of yours), adminCredentialsSecretRef (an account is made), or both"))]
pub struct ExternalDatabase {
    /// The server. One host for now.
    #[schemars(length(min = 1, max = 1))]
    pub hosts: Vec<DatabaseHost>,
    /// Name of the database. Default: auth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_$-]+$"))]
    pub name: Option<String>,
    /// Managed: table `user` is created when absent. Existing: it must be there, and the admin
    /// credentials may be left out. An existing table is never altered in either case. Default: Managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaMode>,
    /// Secret with keys `username` and `password`: the account the server uses. Without it an
    /// account is created with the admin credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// Secret with keys `username` and `password`: an account that may create the database, the
    /// server's account and the tables. Only the migration Job ever mounts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_credentials_secret_ref: Option<SecretRef>,
}

/// One database server.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseHost {
    /// Host name or address, as the pods reach it.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9._:-]+$"))]
    pub host: String,
    /// TCP port. Default: 3306.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// Managed: table `user` is created when absent. Existing: it must be there, and the admin
/// credentials may be left out. An existing table is never altered in either case. Default: Managed.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchemaMode {
    /// Created when absent.
    #[default]
    Managed,
    /// Expected to exist.
    Existing,
}

/// A Secret in the same namespace.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// One entry of a Secret in the same namespace.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key within the Secret. Default: `JWT_SECRET` for an HS256 signing key, `tls.key` for one of
    /// another algorithm, `password` for a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

/// The tokens that /login answers.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// How long a token is valid, such as 24h, 90m or 1h30m: at least one minute, at most a year. Default: 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1m') && duration(self) <= duration('8784h')").message("token.ttl must be a duration in hours, minutes and seconds such as 24h, 90m or 1h30m, from 1m to 8784h"))]
    pub ttl: Option<Duration>,
    /// What tokens are signed with. HS256 is what services written for the original expect: who knows
    /// the key can verify tokens, and make them. With any other, /.well-known/jwks.json answers
    /// what others need to verify tokens, and nothing that makes them. A change brings a new key; tokens
    /// of the old one stay valid. Default: HS256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// The claim `iss` of tokens: a name or a URI (RFC 7519 §4.1.1). Tokens that carry another are refused,
    /// so it is decided once, and the default, the address of the Service, cannot be written out later
    /// either. Default: `http://<name>.<namespace>.svc:5000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = "^([!-9;-~]+|[A-Za-z][A-Za-z0-9+.-]*:[!-~]+)$"))]
    pub issuer: Option<String>,
    /// The claim `aud` of tokens: a name or a URI (RFC 7519 §4.1.3). Many libraries refuse a token that
    /// carries one unless they are told to expect it. Tokens that do not name it are refused, so it is
    /// decided once. Default: none, and a token that names any is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = "^([!-9;-~]+|[A-Za-z][A-Za-z0-9+.-]*:[!-~]+)$"))]
    #[x_kube(validation = Rule::new("self != 'authservice-administration'").message("token.audience cannot be the audience of administration tokens: use another name"))]
    pub audience: Option<String>,
    /// How soon a token that was logged out, or whose user was disabled, deleted or given another
    /// password, is refused by every pod, such as 5s or 1m: at least one second, at most five minutes. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('5m')").message("token.revocationLag must be a duration in minutes and seconds such as 5s or 1m30s, from 1s to 5m"))]
    pub revocation_lag: Option<Duration>,
    /// What /validate does while the database cannot tell what was revoked. Accept: it goes on with
    /// what was last read. Refuse: it answers 503 once that is older than a minute and six lags, and
    /// pods wait for it before they are ready. Default: Accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_unavailable: Option<RevocationUnavailable>,
    /// A signing key of yours; it is copied. For HS256 32 bytes or more; for any other algorithm a
    /// private key in PEM, PKCS #8 (for RS256 of 2048 bits or more). Default: a key is generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key_secret_ref: Option<SecretKeyRef>,
}

/// What /validate does while the database cannot tell what was revoked. Accept: it goes on with what was
/// last read. Refuse: it answers 503 once that is older than a minute and six lags, and pods wait for it
/// before they are ready. Default: Accept.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevocationUnavailable {
    /// It goes on with what was last read.
    #[default]
    Accept,
    /// It answers 503.
    Refuse,
}

impl RevocationUnavailable {
    /// The word in the server's environment.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "Accept",
            Self::Refuse => "Refuse",
        }
    }
}

/// How stored passwords are read and kept.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Passwords {
    /// Parameters of new hashes. `auth-server calibrate` measures what suits a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argon2: Option<Argon2>,
    /// Formats accepted besides Argon2, for tables that came from elsewhere. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub legacy_formats: Vec<LegacyFormat>,
    /// Whether a login replaces a password in a legacy format, or a hash weaker than `argon2` asks for, by a
    /// new Argon2id hash. Set false while the original service runs beside this one: it cannot read hashes.
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehash: Option<bool>,
    /// Fewest characters of a password that is set. A login never asks for it, so nobody is locked out;
    /// a bootstrap user with a shorter password is not created. Default: 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 24))]
    pub min_length: Option<i32>,
}

/// Parameters of new Argon2id hashes. A hash in the table that is weaker is replaced at its user's next
/// login, a stronger one is kept.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[[47104, 1], [19456, 2], [12288, 3], [9216, 4], [7168, 5]].exists(set, (has(self.memoryKiB) ? self.memoryKiB : 19456) >= set[0] && (has(self.iterations) ? self.iterations : 2) >= set[1])").message("passwords.argon2 is weaker than OWASP's minimum: memoryKiB must be at least 47104 for 1 iteration, 19456 for 2, 12288 for 3, 9216 for 4, 7168 for 5 and more; what is left out is 19456 and 2"),
    validation = Rule::new("(has(self.memoryKiB) ? self.memoryKiB : 19456) * (has(self.iterations) ? self.iterations : 2) <= 1048576").message("passwords.argon2 takes more than about a second: memoryKiB times iterations may be at most 1048576"),
)]
pub struct Argon2 {
    /// Memory of one hash in KiB. A pod takes as much for each login it hashes at a time. Default: 19456.
    #[serde(rename = "memoryKiB", default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 7168, max = 131_072))]
    pub memory_kib: Option<i32>,
    /// Passes over the memory. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub iterations: Option<i32>,
    /// Lanes; they are computed one after the other, so more of them make no hash quicker. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4))]
    pub parallelism: Option<i32>,
}

/// When failed logins lock an account, known or unknown, or a source: every login of it then answers
/// 429 with Retry-After until the lock has ended. `auth-server user unlock EMAIL` in a pod ends it sooner.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginProtection {
    /// Failed logins of one account within `window` that lock it; a source may fail ten times as often.
    /// 0 turns login protection off. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_failures: Option<i32>,
    /// How long failed logins count, from the first of them, such as 15m: from 1s to 24h. Default: 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("loginProtection.window must be a duration in hours, minutes and seconds such as 15m, from 1s to 24h"))]
    pub window: Option<Duration>,
    /// How long a lock lasts, such as 15m: from 1s to 24h. Default: 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("loginProtection.lockout must be a duration in hours, minutes and seconds such as 15m, from 1s to 24h"))]
    pub lockout: Option<Duration>,
    /// Addresses and networks, such as 10.0.0.0/8, of the proxies whose X-Forwarded-For header is
    /// believed. Without them sources are not told apart: behind a gateway everybody has one address,
    /// and the typos of one must not lock out the others. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set", "items" = {
        "type": "string",
        "maxLength": 43,
        "x-kubernetes-validations": [{
            "rule": "isIP(self) || isCIDR(self)",
            "message": "loginProtection.trustedProxies must be addresses and networks such as 192.0.2.7, 10.0.0.0/8 or fd00::/8",
        }],
    }))]
    pub trusted_proxies: Vec<String>,
}

/// Users that exist from the start.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Users {
    /// Created when no user with the e-mail exists; an existing user is left as it is, and nobody is
    /// deleted when an entry goes. Default: `admin@<name>.<namespace>` with a generated password in
    /// Secret `<name>-admin`; an empty list creates nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["email"]))]
    pub bootstrap: Option<Vec<BootstrapUser>>,
}

/// One user that exists from the start.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapUser {
    /// E-mail address: the login name, compared exactly.
    #[schemars(length(min = 3, max = 255), regex(pattern = "^[^\\s:@]+@[^\\s:@]+$"))]
    pub email: String,
    /// The password, read once at creation. Default key: `password`.
    pub password_secret_ref: SecretKeyRef,
    /// The `admin` claim of the user's tokens. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<bool>,
}

/// How the service answers over HTTP.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// What /validate answers to a token that does not verify: 403, as services written for the original
    /// expect, or 401, as RFC 6750 asks for and clients that renew their token wait for. Default: 403.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [401, 403]))]
    pub invalid_token_status: Option<i32>,
    /// HTTPS instead of HTTP on the service's port. Default: plain HTTP, as services written for the
    /// original speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// HTTPS instead of HTTP on the service's port. Default: plain HTTP, as services written for the original
/// speak.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Secret of type kubernetes.io/tls with keys `tls.crt` (the chain, the service's own certificate first)
    /// and `tls.key`, such as cert-manager's. It is mounted, so a renewal reaches the pods without a restart.
    pub secret_ref: SecretRef,
}

/// What is told about the service to systems that watch it.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// OpenTelemetry traces of the requests to the server pods. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
}

/// OpenTelemetry traces of the requests to the server pods. Default: none.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// URL of a collector's port for OTLP over HTTP, such as `http://collector.observability.svc:4318`; the
    /// pods append /v1/traces. Plain HTTP alone, without credentials.
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() == 'http' && url(self).getHostname() != '' && !self.matches('[@?#]')").message("monitoring.tracing.endpoint must be an http URL such as http://collector.observability.svc:4318, without credentials, query and fragment"))]
    pub endpoint: String,
    /// The part of requests that are traced, from 0 to 1, such as 0.1. It counts where the caller has not
    /// decided: a request whose traceparent says so is traced, or is not. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub sampling: Option<f64>,
}

/// What the server pods carry besides what the operator sets.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Compute resources of the server container. Default: requests of 100m CPU and 96Mi memory, no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels added to the pods; the operator's own keep their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations added to the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Secrets to pull images with, for every pod of this resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
}

/// What happens to data and credentials when the resource is deleted. Retain: the volume and the
/// Secrets stay, and a resource created again under the name takes them up. Delete: they are deleted;
/// an external database is not touched. Default: Retain.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// The volume and the Secrets stay; a resource created again under the name takes them up.
    #[default]
    Retain,
    /// The volume and the Secrets are deleted. An external database is not touched.
    Delete,
}

/// What the operator last saw.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthServiceStatus {
    /// The generation of spec that conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` sums up `DatabaseReady`, `SchemaReady`, `Available` and `Progressing`; further types
    /// appear while something is wrong or limited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Server pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Server pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the server pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Where /login and /validate answer within the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The database as last migrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
    /// The signing key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,
}

/// The database as last migrated.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// What the server calls its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Version of the tables beside `user`; 0 where rights do not allow them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i32>,
}

/// The signing key.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// Key id (`kid`) of new tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The rotation step in progress; absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// When the present key began to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<Time>,
}
