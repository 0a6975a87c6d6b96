//! Turns environment and files into configuration, reporting every fault at once.

mod administration;
mod duration;
mod passwords;
mod protection;
mod revocation;
mod source;
mod terms;
mod tls;
mod tracing;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::{SecretSlice, SecretString};

use self::passwords::new_passwords;
pub(crate) use self::source::without_newline;
pub use self::{
    administration::{AdministrationConfig, admin_token_ttl, read_admin_key},
    passwords::{PasswordPolicy, read_new_passwords},
    protection::LoginProtection,
    revocation::{RevocationPolicy, WithoutRevocations},
    source::{Environment, Fault, Faults},
    tls::TlsFiles,
    tracing::{Sampling, TracingConfig},
};
use super::{passwords::NewPasswords, tokens::Terms};
use crate::contract::{self, BootstrapUser, env, key_ring};

/// Where the signing keys come from.
#[derive(Debug)]
pub enum Keys {
    /// One key for everything, from `JWT_SECRET`.
    Single(SecretSlice<u8>),
    /// A folder of keys, read again while the server runs.
    Folder(PathBuf),
}

/// A database and the account to use it with.
#[derive(Debug, Clone)]
pub struct Database {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the database.
    pub name: String,
    /// The account to connect with.
    pub account: Account,
}

/// A database account.
#[derive(Debug, Clone)]
pub struct Account {
    /// User name, without host.
    pub user: String,
    /// Its password; may be empty.
    pub password: SecretString,
}

/// The status of a token that does not verify.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InvalidTokenStatus {
    /// 403, as the service that this one replaces answers.
    #[default]
    Forbidden,
    /// 401, as RFC 6750 §3.1 asks for.
    Unauthorized,
}

/// Everything `auth-server serve` needs.
#[derive(Debug)]
pub struct ServeConfig {
    /// The database of users.
    pub database: Database,
    /// The signing keys.
    pub keys: Keys,
    /// What tokens say.
    pub terms: Terms,
    /// Tokens that end before their time.
    pub revocation: RevocationPolicy,
    /// Stored password formats.
    pub passwords: PasswordPolicy,
    /// When failed logins lock an account or a source.
    pub protection: LoginProtection,
    /// The status of a token that does not verify.
    pub invalid_token_status: InvalidTokenStatus,
    /// Address of `/login` and `/validate`.
    pub listen: SocketAddr,
    /// The certificate of that listener; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Address of the operations endpoints.
    pub ops: SocketAddr,
    /// The administration API, where it is to be served.
    pub administration: Option<AdministrationConfig>,
    /// Traces; `None`: nothing is traced.
    pub tracing: Option<TracingConfig>,
    /// Most passwords hashed at the same time; `None` decides by the CPUs at hand.
    pub hashing_threads: Option<usize>,
    /// How long a terminating server goes on accepting.
    pub drain_delay: Duration,
}

/// Who owns table `user`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaMode {
    /// We create it when it is absent.
    Managed,
    /// It must be there and is never created.
    Existing,
}

/// Everything `auth-server migrate` needs.
#[derive(Debug)]
pub struct MigrateConfig {
    /// The database and the account the server will use.
    pub database: Database,
    /// An account with more rights, where one was given.
    pub admin: Option<Account>,
    /// Who owns table `user`.
    pub schema_mode: SchemaMode,
    /// Users to create.
    pub bootstrap: Vec<BootstrapUser>,
    /// What is asked of their passwords, and how they are hashed.
    pub passwords: NewPasswords,
    /// Where the report goes.
    pub termination_log: PathBuf,
}

/// Everything `auth-server user` needs: the environment of `serve` holds it.
#[derive(Debug)]
pub struct UserConfig {
    /// The database, and the account of the server.
    pub database: Database,
    /// What stored passwords are accepted, and what new ones have to be.
    pub passwords: PasswordPolicy,
}

impl ServeConfig {
    /// Reads the configuration of `serve`.
    ///
    /// # Errors
    /// Every fault found, each naming its variable and the cure.
    pub fn read(environment: &Environment) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let database = database(environment, &mut faults);
        let keys = keys(environment, &mut faults);
        let terms = terms::read(environment, &mut faults);
        let revocation = RevocationPolicy::read(environment, &mut faults);
        let passwords = PasswordPolicy::read(environment, &mut faults);
        let protection = LoginProtection::read(environment, &mut faults);
        let invalid_token_status = invalid_token_status(environment, &mut faults);
        let listen = address(environment, env::LISTEN_ADDRESS, contract::SERVICE_PORT, &mut faults);
        let tls = TlsFiles::read(environment, &mut faults);
        let ops = address(environment, env::OPS_ADDRESS, contract::OPS_PORT, &mut faults);
        let administration = AdministrationConfig::read(environment, &mut faults);
        let tracing = TracingConfig::read(environment, &mut faults);
        let hashing_threads = hashing_threads(environment, &mut faults);
        let drain_delay = drain_delay(environment, &mut faults);
        match (database, keys) {
            (Some(database), Some(keys)) if faults.is_empty() => Ok(Self {
                database,
                keys,
                terms,
                revocation,
                passwords,
                protection,
                invalid_token_status,
                listen,
                tls,
                ops,
                administration,
                tracing,
                hashing_threads,
                drain_delay,
            }),
            _ => Err(faults),
        }
    }
}

impl MigrateConfig {
    /// Reads the configuration of `migrate`.
    ///
    /// # Errors
    /// Every fault found, each naming its variable and the cure.
    pub fn read(environment: &Environment) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let database = database(environment, &mut faults);
        let admin = admin(environment, &mut faults);
        let schema_mode = match environment.text(env::SCHEMA_MODE, &mut faults).as_deref() {
            None | Some("Managed") => SchemaMode::Managed,
            Some("Existing") => SchemaMode::Existing,
            Some(other) => {
                faults.add(
                    env::SCHEMA_MODE,
                    format!("{other:?} is no schema mode"),
                    "use Managed or Existing",
                );
                SchemaMode::Managed
            }
        };
        let bootstrap = bootstrap(environment, &mut faults);
        let passwords = new_passwords(environment, &mut faults);
        let termination_log = environment
            .text(env::TERMINATION_LOG, &mut faults)
            .map_or_else(|| PathBuf::from("/dev/termination-log"), PathBuf::from);
        match database {
            Some(database) if faults.is_empty() => {
                Ok(Self { database, admin, schema_mode, bootstrap, passwords, termination_log })
            }
            _ => Err(faults),
        }
    }
}

impl UserConfig {
    /// Reads the configuration of `user`.
    ///
    /// # Errors
    /// Every fault found, each naming its variable and the cure.
    pub fn read(environment: &Environment) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let database = database(environment, &mut faults);
        let passwords = PasswordPolicy::read(environment, &mut faults);
        match database {
            Some(database) if faults.is_empty() => Ok(Self { database, passwords }),
            _ => Err(faults),
        }
    }
}

/// The address whose `/readyz` a health check asks: the operations listener's.
///
/// # Errors
/// The faults of `OPS_ADDRESS`.
pub fn ops_address(environment: &Environment) -> Result<SocketAddr, Faults> {
    let mut faults = Faults::default();
    let address = address(environment, env::OPS_ADDRESS, contract::OPS_PORT, &mut faults);
    if faults.is_empty() { Ok(address) } else { Err(faults) }
}

/// Most passwords hashed at the same time, where somebody says.
///
/// # Errors
/// The faults of `HASHING_THREADS`.
pub fn read_hashing_threads(environment: &Environment) -> Result<Option<usize>, Faults> {
    let mut faults = Faults::default();
    let threads = hashing_threads(environment, &mut faults);
    if faults.is_empty() { Ok(threads) } else { Err(faults) }
}

fn database(environment: &Environment, faults: &mut Faults) -> Option<Database> {
    let host = environment.required(env::MYSQL_HOST, "set it to the host name of the database", faults);
    let user = environment.required(env::MYSQL_USER, "set it to the database account of the server", faults);
    let password = environment.secret(env::MYSQL_PASSWORD, faults);
    if let Ok(None) = password {
        faults.add(
            env::MYSQL_PASSWORD,
            "is not set",
            "set it, or MYSQL_PASSWORD_FILE, to the password of MYSQL_USER",
        );
    }
    let port = port(environment, faults);
    let name = environment.text(env::MYSQL_DB, faults).unwrap_or_else(|| contract::DATABASE_NAME.to_owned());
    check_identifier(env::MYSQL_DB, &name, 64, faults);
    if let Some(user) = &user {
        check_identifier(env::MYSQL_USER, user, 80, faults);
    }
    Some(Database { host: host?, port, name, account: Account { user: user?, password: password.ok()?? } })
}

/// A service link (`tcp://10.0.0.1:3306`) is what Kubernetes writes into every pod beside a
/// Service named `mysql`; it says nothing about the database meant here.
fn port(environment: &Environment, faults: &mut Faults) -> u16 {
    let Some(value) = environment.text(env::MYSQL_PORT, faults) else { return contract::DATABASE_PORT };
    if value.starts_with(source::SERVICE_LINK) {
        return contract::DATABASE_PORT;
    }
    match value.parse() {
        Ok(port) if port > 0 => port,
        _ => {
            faults.add(env::MYSQL_PORT, format!("{value:?} is no port"), "use a number from 1 to 65535");
            contract::DATABASE_PORT
        }
    }
}

fn check_identifier(variable: &'static str, value: &str, longest: usize, faults: &mut Faults) {
    if value.chars().count() > longest {
        faults.add(
            variable,
            format!("is longer than {longest} characters"),
            "MySQL and MariaDB take no longer name",
        );
    } else if value.chars().any(char::is_control) {
        faults.add(variable, "holds a control character", "remove it; a stray newline is the usual one");
    }
}

/// How to come by a key of HS256.
const KEY_CURE: &str = "make one with: openssl rand -base64 48";

fn keys(environment: &Environment, faults: &mut Faults) -> Option<Keys> {
    let folder = environment.text(env::KEY_RING_DIR, faults);
    let single = environment.secret_bytes(env::JWT_SECRET, faults);
    match (folder, single) {
        (_, Err(())) => None,
        (Some(_), Ok(Some(_))) => {
            faults.add(
                env::JWT_SECRET,
                format!("is set together with {}", env::KEY_RING_DIR),
                "set one of the two",
            );
            None
        }
        (Some(folder), Ok(None)) => Some(Keys::Folder(folder.into())),
        (None, Ok(Some(secret))) => {
            use secrecy::ExposeSecret;
            if let Err(weak) = key_ring::check(secret.expose_secret()) {
                faults.add(env::JWT_SECRET, weak.to_string(), KEY_CURE);
                return None;
            }
            Some(Keys::Single(secret))
        }
        (None, Ok(None)) => {
            faults.add(
                env::JWT_SECRET,
                "is not set",
                "set it, or JWT_SECRET_FILE, to at least 32 random bytes (openssl rand -base64 48), or set KEY_RING_DIR",
            );
            None
        }
    }
}

fn drain_delay(environment: &Environment, faults: &mut Faults) -> Duration {
    const DEFAULT: Duration = Duration::from_secs(5);
    let Some(value) = environment.text(env::DRAIN_DELAY, faults) else { return DEFAULT };
    match duration::parse(&value) {
        Some(delay) if delay <= Duration::from_mins(10) => delay,
        _ => {
            faults.add(
                env::DRAIN_DELAY,
                format!("{value:?} is no delay"),
                "use a duration from 0s to 10m, such as 5s",
            );
            DEFAULT
        }
    }
}

fn invalid_token_status(environment: &Environment, faults: &mut Faults) -> InvalidTokenStatus {
    match environment.text(env::INVALID_TOKEN_STATUS, faults).as_deref() {
        None | Some("403") => InvalidTokenStatus::Forbidden,
        Some("401") => InvalidTokenStatus::Unauthorized,
        Some(other) => {
            faults.add(
                env::INVALID_TOKEN_STATUS,
                format!("{other:?} is no status of an invalid token"),
                "use 403, as the original answers, or 401, as RFC 6750 asks for",
            );
            InvalidTokenStatus::default()
        }
    }
}

fn address(environment: &Environment, variable: &'static str, port: u16, faults: &mut Faults) -> SocketAddr {
    let default = SocketAddr::from(([0, 0, 0, 0], port));
    let Some(value) = environment.text(variable, faults) else { return default };
    value.parse().unwrap_or_else(|_| {
        faults.add(
            variable,
            format!("{value:?} is no address"),
            "use address:port, such as 0.0.0.0:5000 or [::]:5000",
        );
        default
    })
}

fn hashing_threads(environment: &Environment, faults: &mut Faults) -> Option<usize> {
    let value = environment.text(env::HASHING_THREADS, faults)?;
    let threads = value.parse().ok().filter(|threads| (1..=256).contains(threads));
    if threads.is_none() {
        faults.add(
            env::HASHING_THREADS,
            format!("{value:?} is no number of threads"),
            "use a number from 1 to 256",
        );
    }
    threads
}

fn admin(environment: &Environment, faults: &mut Faults) -> Option<Account> {
    let user = environment.text(env::MYSQL_ADMIN_USER, faults);
    let password = environment.secret(env::MYSQL_ADMIN_PASSWORD, faults);
    match (user, password) {
        (Some(user), Ok(Some(password))) => {
            check_identifier(env::MYSQL_ADMIN_USER, &user, 80, faults);
            Some(Account { user, password })
        }
        (Some(_), Ok(None)) => {
            faults.add(
                env::MYSQL_ADMIN_PASSWORD,
                "is not set although MYSQL_ADMIN_USER is",
                "set both or neither",
            );
            None
        }
        (None, Ok(Some(_))) => {
            faults.add(
                env::MYSQL_ADMIN_USER,
                "is not set although MYSQL_ADMIN_PASSWORD is",
                "set both or neither",
            );
            None
        }
        _ => None,
    }
}

fn bootstrap(environment: &Environment, faults: &mut Faults) -> Vec<BootstrapUser> {
    let Some(value) = environment.text(env::BOOTSTRAP_USERS, faults) else { return Vec::new() };
    let users: Vec<BootstrapUser> = serde_json::from_str(&value).unwrap_or_else(|error| {
        faults.add(
            env::BOOTSTRAP_USERS,
            format!("is no list of users: {error}"),
            r#"use JSON such as [{"email":"a@b.c","admin":true,"passwordFile":"/path"}]"#,
        );
        Vec::new()
    });
    for user in &users {
        if !is_login_name(&user.email) {
            faults.add(
                env::BOOTSTRAP_USERS,
                format!("{:?} cannot log in by HTTP Basic", user.email),
                LOGIN_NAME_CURE,
            );
        }
    }
    users
}

/// What to write where [`is_login_name`] says no.
pub(crate) const LOGIN_NAME_CURE: &str =
    "use an e-mail address of 1 to 255 characters without colon and control characters";

/// Whether a user of this e-mail can log in by HTTP Basic (RFC 7617 §2) and fits into the column.
pub(crate) fn is_login_name(email: &str) -> bool {
    (1..=255).contains(&email.chars().count()) && !email.contains(':') && !email.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
