//! What the operator and the auth server agree on: ports, environment names, mounted files and
//! the two documents the server reports back. Each is written once, here.

mod collector;

use serde::{Deserialize, Serialize};

pub use self::collector::{BadCollector, Collector};

/// The port of `/login` and `/validate`, the one that services written for the original call.
pub const SERVICE_PORT: u16 = 5000;
/// The port of the administration API. Never part of the Service that services call.
pub const ADMINISTRATION_PORT: u16 = 5001;
/// The `aud` claim of tokens of the administration API, and of no others.
pub const ADMINISTRATION_AUDIENCE: &str = "authservice-administration";
/// The port of `/livez`, `/readyz`, `/metrics` and `/status`. Never part of the Service.
pub const OPS_PORT: u16 = 8081;

/// The server image of this release.
pub const SERVER_IMAGE: &str =
    concat!("ghcr.io/authservice-operator/auth-server:", env!("CARGO_PKG_VERSION"));
/// The image of a managed database that names none: it must hold `sh` and `mysqld` or `mariadbd`.
pub const DATABASE_IMAGE: &str = "docker.io/library/mysql:9.7";
/// The port of a managed database, and the default of an external one.
pub const DATABASE_PORT: u16 = 3306;
/// The database created when the resource or the environment names none.
pub const DATABASE_NAME: &str = "auth";

/// Environment variables the server reads. Every name also works with [`env::FILE_SUFFIX`]
/// appended, its value then being the path of a file that holds the value; a single trailing
/// newline of such a file is not part of the value.
pub mod env {
    /// Appended to any name below: the value is read from the file named instead.
    pub const FILE_SUFFIX: &str = "_FILE";

    /// Host name or address of the database. Required.
    pub const MYSQL_HOST: &str = "MYSQL_HOST";
    /// Port of the database; default 3306. A value such as `tcp://10.0.0.1:3306` comes from a
    /// Kubernetes service link and is ignored.
    pub const MYSQL_PORT: &str = "MYSQL_PORT";
    /// Name of the database; default [`super::DATABASE_NAME`].
    pub const MYSQL_DB: &str = "MYSQL_DB";
    /// Account the server connects with. Required.
    pub const MYSQL_USER: &str = "MYSQL_USER";
    /// Password of that account. Required.
    pub const MYSQL_PASSWORD: &str = "MYSQL_PASSWORD";
    /// The HS256 key, at least 32 bytes (RFC 7518 §3.2). Either this or [`KEY_RING_DIR`].
    pub const JWT_SECRET: &str = "JWT_SECRET";

    /// Folder of the key ring, see [`super::key_ring`]. Either this or [`JWT_SECRET`].
    pub const KEY_RING_DIR: &str = "KEY_RING_DIR";
    /// Lifetime of a token, such as `24h` or `1h30m`; default 24 hours.
    pub const TOKEN_TTL: &str = "TOKEN_TTL";
    /// The `iss` claim of issued tokens; a token that carries another is refused, one that
    /// carries none is not. Default `authservice`.
    pub const TOKEN_ISSUER: &str = "TOKEN_ISSUER";
    /// The `aud` claim of issued tokens; a token that does not name it is refused. Default none, and then
    /// a token that names any is refused.
    pub const TOKEN_AUDIENCE: &str = "TOKEN_AUDIENCE";
    /// How long after its commit a revocation may take to reach every server, such as `5s`; default
    /// 5 seconds. Logged-out tokens, disabled users and changed passwords are read this often.
    pub const REVOCATION_LAG: &str = "REVOCATION_LAG";
    /// What `/validate` does while the revocations cannot be read: `Accept` (default) goes on with
    /// those last read, `Refuse` answers 503 once they are older than a minute and six lags.
    pub const REVOCATION_UNAVAILABLE: &str = "REVOCATION_UNAVAILABLE";
    /// Comma-separated stored formats accepted besides Argon2 PHC strings: names of
    /// [`super::LegacyFormat`]. Default none.
    pub const LEGACY_PASSWORD_FORMATS: &str = "LEGACY_PASSWORD_FORMATS";
    /// `true` (default) replaces a verified password in an old format, or hashed with less than the
    /// parameters below, by its Argon2id hash.
    pub const REHASH_PASSWORDS: &str = "REHASH_PASSWORDS";
    /// Memory of a new Argon2id hash in KiB, see [`super::argon2`]; default 19456.
    pub const ARGON2_MEMORY_KIB: &str = "ARGON2_MEMORY_KIB";
    /// Passes of a new Argon2id hash over its memory; default 2.
    pub const ARGON2_ITERATIONS: &str = "ARGON2_ITERATIONS";
    /// Lanes of a new Argon2id hash, computed one after the other here; default 1.
    pub const ARGON2_PARALLELISM: &str = "ARGON2_PARALLELISM";
    /// Fewest characters of a password that is set, 1 to 24; default 8. A login never asks for it.
    pub const PASSWORD_MIN_LENGTH: &str = "PASSWORD_MIN_LENGTH";
    /// Failed logins of one account within [`LOGIN_FAILURE_WINDOW`] that lock it, 0 to 1000;
    /// default 10. 0 turns login protection off.
    pub const LOGIN_MAX_FAILURES: &str = "LOGIN_MAX_FAILURES";
    /// How long failed logins count, from the first of them, `1s` to `24h`; default `15m`.
    pub const LOGIN_FAILURE_WINDOW: &str = "LOGIN_FAILURE_WINDOW";
    /// How long a lock lasts, `1s` to `24h`; default `15m`.
    pub const LOGIN_LOCKOUT: &str = "LOGIN_LOCKOUT";
    /// Comma-separated addresses and networks (`10.0.0.0/8`) of the proxies whose
    /// `X-Forwarded-For` is believed; default none.
    pub const TRUSTED_PROXIES: &str = "TRUSTED_PROXIES";
    /// What `/validate` answers to a token that does not verify: `403` (default), as services
    /// written for the original expect, or `401` (RFC 6750 §3.1).
    pub const INVALID_TOKEN_STATUS: &str = "INVALID_TOKEN_STATUS";
    /// Address of the public listener; default `0.0.0.0:5000`.
    pub const LISTEN_ADDRESS: &str = "LISTEN_ADDRESS";
    /// Certificate chain of the public listener, a file in PEM, the server's own certificate first. With
    /// [`TLS_KEY_FILE`] or not at all; without both it speaks plain HTTP. Both files are read again when
    /// they change.
    pub const TLS_CERT_FILE: &str = "TLS_CERT_FILE";
    /// Private key of that certificate, a file in PEM: PKCS #8, PKCS #1 or SEC 1, without passphrase.
    pub const TLS_KEY_FILE: &str = "TLS_KEY_FILE";
    /// Address of the operations listener; default `0.0.0.0:8081`.
    pub const OPS_ADDRESS: &str = "OPS_ADDRESS";
    /// The HS256 key of administration tokens, at least 32 bytes (RFC 7518 §3.2), apart from those of
    /// users' tokens. Without it the administration API is not served.
    pub const ADMIN_KEY: &str = "ADMIN_KEY";
    /// Address of the administration listener; default `0.0.0.0:5001`.
    pub const ADMIN_ADDRESS: &str = "ADMIN_ADDRESS";
    /// Most logins hashed at the same time; default the number of CPUs at hand, fewer where a third
    /// of a memory limit does not hold as many hashes. Under a CPU limit the threads rest after each
    /// hash, so that a tenth of the quota is left to `/validate`.
    pub const HASHING_THREADS: &str = "HASHING_THREADS";
    /// How long a terminating server goes on accepting while endpoints are withdrawn; default `5s`.
    /// Requests in flight get up to 20 s more: terminationGracePeriodSeconds must exceed the sum.
    pub const DRAIN_DELAY: &str = "DRAIN_DELAY";
    /// `true` turns traces off, whatever the variables below say.
    pub const OTEL_SDK_DISABLED: &str = "OTEL_SDK_DISABLED";
    /// Where OpenTelemetry traces go: a collector that takes OTLP over HTTP, such as
    /// `http://collector:4318`; `/v1/traces` is appended. Without it nothing is traced.
    pub const OTEL_EXPORTER_OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    /// Which requests are traced: `always_on`, `always_off`, `traceidratio`, or one of these after
    /// `parentbased_`, which heeds what the caller has decided; default `parentbased_always_on`.
    pub const OTEL_TRACES_SAMPLER: &str = "OTEL_TRACES_SAMPLER";
    /// The part of requests that the samplers ending in `traceidratio` take, 0 to 1; default 1.
    pub const OTEL_TRACES_SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
    /// What traces call this service; default `auth-server`.
    pub const OTEL_SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
    /// Further attributes of this process in traces: `name=value,name=value`, percent-encoded.
    pub const OTEL_RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

    /// `migrate` only: an account that may create databases, accounts and tables.
    /// Without it [`MYSQL_USER`] does what its own rights allow.
    pub const MYSQL_ADMIN_USER: &str = "MYSQL_ADMIN_USER";
    /// `migrate` only: password of [`MYSQL_ADMIN_USER`].
    pub const MYSQL_ADMIN_PASSWORD: &str = "MYSQL_ADMIN_PASSWORD";
    /// `migrate` only: `Managed` (default) creates table `user` when absent; `Existing` expects it.
    pub const SCHEMA_MODE: &str = "SCHEMA_MODE";
    /// `migrate` only: a JSON list of [`super::BootstrapUser`]; default empty.
    pub const BOOTSTRAP_USERS: &str = "BOOTSTRAP_USERS";
    /// `migrate` only: where the [`super::MigrationReport`] is written;
    /// default `/dev/termination-log`, the kubelet's own default.
    pub const TERMINATION_LOG: &str = "TERMINATION_LOG";
    /// Filter and form of the logs: `RUST_LOG` syntax; JSON unless standard error is a terminal.
    pub const RUST_LOG: &str = "RUST_LOG";
}

/// A stored password format besides Argon2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "operator", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum LegacyFormat {
    /// The password itself, as the original service stored it.
    Plaintext,
    /// bcrypt: `$2a$`, `$2b$`, `$2y$`.
    Bcrypt,
    /// Werkzeug's, as Flask applications keep them: `pbkdf2:sha256:600000$salt$hex`, `scrypt:32768:8:1$salt$hex`.
    Werkzeug,
    /// PBKDF2 as PHC string or passlib's: `$pbkdf2-sha256$…`, `$pbkdf2-sha512$…`, `$pbkdf2$…`.
    Pbkdf2,
    /// scrypt as PHC string: `$scrypt$ln=17,r=8,p=1$…`.
    Scrypt,
}

impl LegacyFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Plaintext, Self::Bcrypt, Self::Werkzeug, Self::Pbkdf2, Self::Scrypt];

    /// The word for it in spec, environment and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Bcrypt => "bcrypt",
            Self::Werkzeug => "werkzeug",
            Self::Pbkdf2 => "pbkdf2",
            Self::Scrypt => "scrypt",
        }
    }

    /// The format of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// A signature algorithm, by its name in a token's header (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "operator", derive(schemars::JsonSchema))]
pub enum Algorithm {
    /// HMAC with SHA-256: one secret key signs and verifies.
    #[default]
    HS256,
    /// ECDSA on curve P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
    /// RSA of 2048 bits or more with SHA-256.
    RS256,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [Self::HS256, Self::ES256, Self::EdDSA, Self::RS256];

    /// What the key ring's entries of this algorithm end in: raw bytes for HS256, for the others a
    /// private key, PKCS #8 (RFC 5958) in PEM (RFC 7468).
    #[must_use]
    pub fn entry_suffix(self) -> &'static str {
        match self {
            Self::HS256 => ".key",
            Self::ES256 => ".es256.pem",
            Self::EdDSA => ".eddsa.pem",
            Self::RS256 => ".rs256.pem",
        }
    }

    /// How to make a key.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Self::HS256 => "openssl rand -hex 32",
            Self::ES256 => "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            Self::EdDSA => "openssl genpkey -algorithm ED25519",
            Self::RS256 => "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        }
    }
}

/// Parameters of Argon2id: what is taken when nobody says, and what can be asked for.
pub mod argon2 {
    use std::ops::RangeInclusive;

    /// Memory in KiB when nobody says.
    pub const DEFAULT_MEMORY_KIB: u32 = 19_456;
    /// Passes over the memory when nobody says.
    pub const DEFAULT_ITERATIONS: u32 = 2;
    /// Lanes when nobody says.
    pub const DEFAULT_PARALLELISM: u32 = 1;
    /// Memory in KiB: from the least of [`EQUALLY_STRONG`] to the most that a verification may take.
    pub const MEMORY_KIB: RangeInclusive<u32> = 7_168..=131_072;
    /// Passes over the memory.
    pub const ITERATIONS: RangeInclusive<u32> = 1..=16;
    /// Lanes.
    pub const PARALLELISM: RangeInclusive<u32> = 1..=4;
    /// Most KiB visited in all passes together, which bounds the time to about a second.
    pub const MAX_WORK_KIB: u32 = 1_048_576;
    /// KiB and passes of the sets that OWASP's Password Storage Cheat Sheet calls equally strong, and
    /// the least it asks for. More memory or more passes than one of them is stronger.
    pub const EQUALLY_STRONG: [(u32, u32); 5] =
        [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];
}

/// Fewest characters of a password that is set, when nobody says (NIST SP 800-63B §3.1.1.2).
pub const DEFAULT_PASSWORD_MIN_LENGTH: u32 = 8;
/// What can be asked for in its place: no more than the passwords that are generated have.
pub const PASSWORD_MIN_LENGTH: std::ops::RangeInclusive<u32> = 1..=24;

/// Where the operator mounts Secrets in the server's and the migration's containers.
pub mod mount {
    /// Folder of the key ring.
    pub const KEY_RING: &str = "/etc/authservice/keys";
    /// File with the password of the account in use.
    pub const DATABASE_PASSWORD: &str = "/etc/authservice/database/password";
    /// File with the key of administration tokens.
    pub const ADMINISTRATION_KEY: &str = "/etc/authservice/administration/key";
    /// Folder of the admin credentials: files `username` and `password`. Migration only.
    pub const DATABASE_ADMIN: &str = "/etc/authservice/database-admin";
    /// Folder with the certificate of the public port: files [`TLS_CERT`](super::TLS_CERT) and
    /// [`TLS_KEY`](super::TLS_KEY).
    pub const TLS: &str = "/etc/authservice/tls";
    /// Folder holding one folder for each bootstrap user, named by its place in the list, with
    /// the file `password`. Absent when the user's Secret is. Migration only.
    pub const BOOTSTRAP: &str = "/etc/authservice/bootstrap";
}

/// The certificate chain in a Secret of type `kubernetes.io/tls`, and in its mount.
pub const TLS_CERT: &str = "tls.crt";
/// The private key beside it.
pub const TLS_KEY: &str = "tls.key";

/// Entries of the key ring, as keys of a Secret and as file names of its mount.
/// The keys themselves are entries that end as [`Algorithm::entry_suffix`](super::Algorithm::entry_suffix) says.
/// A key id (`kid`, RFC 7515 §4.1.4) is 1 to 64 letters, digits, `-` or `_`.
pub mod key_ring {
    /// `<kid>.signs`: the instant (RFC 3339) from which this key signs; the newest signs,
    /// keys without the entry only verify.
    pub const SIGNS: &str = ".signs";
    /// `<kid>.retire-after`: the instant (RFC 3339) after which the key verifies no more.
    pub const RETIRE_AFTER: &str = ".retire-after";
    /// The key id of a server that was given [`super::env::JWT_SECRET`] alone. In a ring that
    /// holds no key of this name, a token that carries it is tried with every key, like one that
    /// carries none: it was issued before the key became an entry of the ring.
    pub const SINGLE_KEY_ID: &str = "default";
    /// Fewest bytes of an HS256 key (RFC 7518 §3.2).
    pub const MIN_KEY_BYTES: usize = 32;
    /// Fewest bytes of an RSA modulus (RFC 7518 §3.3).
    pub const MIN_MODULUS_BYTES: usize = 256;

    /// Why no server starts with bytes as its one HS256 key.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    pub enum WeakKey {
        /// It has this many bytes, fewer than [`MIN_KEY_BYTES`].
        #[error("has {0} bytes, HS256 needs at least {MIN_KEY_BYTES}")]
        Short(usize),
        /// It is nothing that chance would make.
        #[error("is one byte repeated or blank")]
        Blank,
    }

    /// Whether bytes can be the one HS256 key of a server.
    ///
    /// # Errors
    /// Why they cannot.
    pub fn check(key: &[u8]) -> Result<(), WeakKey> {
        let first = key.first();
        if key.len() < MIN_KEY_BYTES {
            Err(WeakKey::Short(key.len()))
        } else if key.iter().all(|byte| Some(byte) == first) || key.iter().all(u8::is_ascii_whitespace) {
            Err(WeakKey::Blank)
        } else {
            Ok(())
        }
    }
}

/// The newest schema version this release creates and reads: the number of steps in
/// `server::store::schema`.
pub const SCHEMA_VERSION: i32 = 5;

/// A user that `migrate` creates when no row with its e-mail exists; an existing row is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootstrapUser {
    /// Login name.
    pub email: String,
    /// The user's `admin` claim.
    pub admin: bool,
    /// File with the password; when absent the user is reported missing, not created.
    pub password_file: std::path::PathBuf,
}

/// How far one attempt of `auth-server migrate` came. Written as JSON to the container's
/// termination message (at most 4 KiB) on success and on failure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationReport {
    /// `SELECT VERSION()`; absent when the database was not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_version: Option<String>,
    /// Version of our own tables; 0 where rights do not allow them.
    #[serde(default)]
    pub schema_version: i32,
    /// What this run created, in words for an Event: `database auth`, `account as_1f…_1`, `user a@b.c`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<String>,
    /// Bootstrap users that do not exist because their password file is absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_users: Vec<String>,
    /// What is off because a right is missing, in words for condition `FeaturesLimited`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// Why the attempt failed; absent on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<MigrationError>,
}

/// Why a migration failed, ready for a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationError {
    /// The condition reason.
    pub reason: DatabaseFault,
    /// What is wrong in the database's own words, and the cure.
    pub message: String,
}

/// What can be wrong between the server and its database. The names are condition reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DatabaseFault {
    /// No connection: name not resolved, refused, timed out, or TLS failed.
    DatabaseUnreachable,
    /// The database refused the account: errors 1045, 1698, 4151 and their like.
    CredentialsRejected,
    /// The account lacks a right that is needed (1044, 1142, 1227, 1370 ...).
    GrantMissing,
    /// The database or a table that is needed does not exist (1049, 1146).
    SchemaMissing,
    /// Our tables are older than this release needs.
    SchemaOutdated,
    /// Table `user` lacks a column or has one of a type that cannot be used.
    SchemaIncompatible,
    /// Anything else the database said.
    DatabaseError,
}

/// `GET /status` of the operations port: what this one pod has loaded, and how its database is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Release of the server.
    pub version: String,
    /// Every key id that verifies, sorted.
    pub key_ids: Vec<String>,
    /// The key id that signs; empty once every key that signed is retired.
    pub signing_key_id: String,
    /// The database as this pod sees it.
    pub database: DatabaseStatus,
}

/// The database as one pod sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// The account in use.
    pub account: String,
    /// `SELECT VERSION()` of the last connection that worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Version of our own tables as last read; 0 when there are none.
    pub schema_version: i32,
    /// What is wrong now; absent when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<DatabaseFault>,
    /// The database's own words for `fault`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
