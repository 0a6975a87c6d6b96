//! `auth-server user`: what an administrator does to users, from wherever the server's environment
//! is at hand, such as one of its pods.

mod input;
mod output;

use std::{path::PathBuf, time::Duration};

use sqlx::MySqlConnection;

use super::{
    config::{Database, LOGIN_NAME_CURE, PasswordPolicy, UserConfig, is_login_name},
    limiter::{self, UnlockError},
    migrate::Explain,
    passwords::{LegacyFormats, MAX_MEMORY_KIB, NewPasswords, Refused, Stored, Unusable},
    store::{self, Store, StoreError, UserRow, close, connect, users},
};
use crate::contract::LegacyFormat;

/// Longest wait for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time one command may take.
const LONGEST: Duration = Duration::from_secs(30);

/// What to do to which user.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a user; the password comes from standard input or a file.
    Create {
        /// E-mail: the login name.
        email: String,
        /// Make the user an admin.
        #[arg(long)]
        admin: bool,
        /// The password.
        #[command(flatten)]
        password: SecretFile,
    },
    /// Create a user with a ready hash, from standard input or a file; of a format that logs users in,
    /// by `LEGACY_PASSWORD_FORMATS`.
    Import {
        /// E-mail: the login name.
        email: String,
        /// Make the user an admin.
        #[arg(long)]
        admin: bool,
        /// The hash.
        #[command(flatten)]
        hash: SecretFile,
    },
    /// List users in the order of their ids.
    List {
        /// Most users listed.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// List those after this id.
        #[arg(long, default_value_t = i64::MIN, hide_default_value = true)]
        after: i64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one user.
    Get {
        /// E-mail, as stored.
        email: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change e-mail or admin flag; tokens that say otherwise end.
    #[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
    Change {
        /// E-mail, as stored.
        email: String,
        /// Make the user an admin.
        #[arg(long, group = "change", conflicts_with = "no_admin")]
        admin: bool,
        /// Make the user no admin.
        #[arg(long, group = "change")]
        no_admin: bool,
        /// Give the user this e-mail.
        #[arg(long = "email", value_name = "NEW", group = "change")]
        new_email: Option<String>,
    },
    /// Set a new password, from standard input or a file; every token of the user ends.
    SetPassword {
        /// E-mail, as stored.
        email: String,
        /// The password.
        #[command(flatten)]
        password: SecretFile,
    },
    /// Let a user log in no more; every token of the user ends.
    Disable {
        /// E-mail, as stored.
        email: String,
    },
    /// Let a disabled user log in again; tokens that ended stay so.
    Enable {
        /// E-mail, as stored.
        email: String,
    },
    /// Forget the failed logins of an account, so that a lock ends within a second.
    Unlock {
        /// The login name, as its owner gives it.
        email: String,
    },
    /// End every token that a user has by now; the user can log in again.
    RevokeTokens {
        /// E-mail, as stored.
        email: String,
    },
    /// Delete a user; every token of the user ends.
    Delete {
        /// E-mail, as stored.
        email: String,
    },
}

/// Where a secret is read from; never an argument, which every process on the machine can see.
#[derive(Debug, clap::Args)]
pub struct SecretFile {
    /// Read it from this file instead of standard input; a newline at its end is not part of it.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Nobody has this e-mail.
    #[error("there is no user {0:?}; e-mails are compared exactly")]
    NoSuchUser(String),
    /// Somebody has this e-mail, or one that the column takes for the same.
    #[error("e-mail {0:?} is taken, or table user holds one that its collation takes for the same")]
    Taken(String),
    /// Nobody could log in with this e-mail.
    #[error("{0:?} cannot log in by HTTP Basic: {LOGIN_NAME_CURE}")]
    Email(String),
    /// The password is too short or too long, or could not be hashed.
    #[error("{0}")]
    Password(#[from] Refused),
    /// The hash would log nobody in.
    #[error("{0}")]
    Hash(&'static str),
    /// The hash is of a format that is not accepted.
    #[error(
        "this is a hash of format {0}, which would log nobody in: name {0} in passwords.legacyFormats (LEGACY_PASSWORD_FORMATS)"
    )]
    Format(&'static str),
    /// The secret cannot be read.
    #[error("{0}")]
    Input(String),
    /// The lock could not be taken off.
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    /// The database refused or did not answer.
    #[error("{0}")]
    Database(String),
}

impl UserError {
    /// The exit code: 3 for nobody of this e-mail, 4 for an e-mail that is taken, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSuchUser(_) => 3,
            Self::Taken(_) => 4,
            _ => 1,
        }
    }
}

/// An error that still has to be put into words.
enum Failure {
    Told(UserError),
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        Self::Told(error)
    }
}

/// Carries out one command and returns what to print.
///
/// # Errors
/// Why nothing was done.
pub async fn run(command: Command, config: &UserConfig) -> Result<String, UserError> {
    let UserConfig { database, passwords } = config;
    let explain = |error: StoreError| {
        let explain = Explain { database, account: &database.account.user };
        UserError::Database(explain.error(error).message)
    };
    let prepared = prepare(command, passwords)?;
    let options = store::options(database, &database.account, true);
    let mut connection = connect(&options, CONNECT_TIMEOUT).await.map_err(explain)?;
    let outcome = match tokio::time::timeout(LONGEST, carry_out(prepared, config, &mut connection)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::Store(StoreError::timed_out(LONGEST))),
    };
    close(connection).await;
    outcome.map_err(|failure| match failure {
        Failure::Told(error) => error,
        Failure::Store(error) => explain(error),
    })
}

/// A command with everything that can be known without the database.
enum Prepared {
    Insert { email: String, admin: bool, hash: String },
    List { limit: u32, after: i64, json: bool },
    Unlock { email: String },
    Existing { email: String, action: Action },
}

/// What to do to a user that exists.
enum Action {
    Get { json: bool },
    Change { admin: Option<bool>, email: Option<String> },
    SetPassword { hash: String },
    SetDisabled(bool),
    EndTokens,
    Delete,
}

/// Reads and checks what is given, so that nothing is half done for want of it.
fn prepare(command: Command, policy: &PasswordPolicy) -> Result<Prepared, UserError> {
    let existing = |email, action| Ok(Prepared::Existing { email, action });
    match command {
        Command::Create { email, admin, password } => {
            let email = login_name(email)?;
            Ok(Prepared::Insert { email, admin, hash: new_hash(&password, policy.new)? })
        }
        Command::Import { email, admin, hash } => {
            let email = login_name(email)?;
            let hash = input::secret(&hash, "hash")?.trim().to_owned();
            check_hash(&hash, policy)?;
            Ok(Prepared::Insert { email, admin, hash })
        }
        Command::List { limit, after, json } => Ok(Prepared::List { limit, after, json }),
        Command::Get { email, json } => existing(email, Action::Get { json }),
        Command::Change { email, admin, no_admin, new_email } => {
            let admin = (admin || no_admin).then_some(admin);
            let new_email = new_email.map(login_name).transpose()?;
            existing(email, Action::Change { admin, email: new_email })
        }
        Command::SetPassword { email, password } => {
            existing(email, Action::SetPassword { hash: new_hash(&password, policy.new)? })
        }
        Command::Disable { email } => existing(email, Action::SetDisabled(true)),
        Command::Enable { email } => existing(email, Action::SetDisabled(false)),
        Command::Unlock { email } => Ok(Prepared::Unlock { email }),
        Command::RevokeTokens { email } => existing(email, Action::EndTokens),
        Command::Delete { email } => existing(email, Action::Delete),
    }
}

fn login_name(email: String) -> Result<String, UserError> {
    if is_login_name(&email) { Ok(email) } else { Err(UserError::Email(email)) }
}

fn new_hash(password: &SecretFile, rules: NewPasswords) -> Result<String, UserError> {
    let password = input::secret(password, "password")?;
    Ok(rules.hash(password.as_bytes())?)
}

/// Whether the hash logs its user in.
fn check_hash(hash: &str, policy: &PasswordPolicy) -> Result<(), UserError> {
    match Stored::parse(hash, policy.legacy, MAX_MEMORY_KIB) {
        Ok(Stored::Hash(_)) => Ok(()),
        Err(Unusable::NotAccepted(format)) if format != LegacyFormat::Plaintext => {
            Err(UserError::Format(format.name()))
        }
        Err(Unusable::OutOfBounds) => Err(UserError::Hash(
            "this hash takes more time or memory than one may, or less than its standard asks for",
        )),
        Ok(Stored::Plaintext(_)) | Err(_) => Err(UserError::Hash(
            "this is no hash of a form that is verified here; auth-server hash makes one from a password",
        )),
    }
}

async fn unlock(database: &Database, email: &str) -> Result<String, UserError> {
    Ok(match limiter::unlock(&Store::new(database), email).await? {
        0 => format!("{email} has no failed logins\n"),
        failures => format!("{email} is unlocked; failed logins forgotten: {failures}\n"),
    })
}

async fn carry_out(
    prepared: Prepared,
    UserConfig { database, passwords }: &UserConfig,
    connection: &mut MySqlConnection,
) -> Result<String, Failure> {
    match prepared {
        Prepared::Insert { email, admin, hash } => {
            match users::insert::<Failure>(connection, &email, &hash, Some(admin)).await? {
                Some(id) => Ok(format!("user {email} is created with id {id}\n")),
                None => Err(UserError::Taken(email).into()),
            }
        }
        Prepared::List { limit, after, json } => {
            // One more tells whether there are more.
            let mut rows = users::list(connection, after, limit.saturating_add(1)).await?;
            let more = rows.len() > limit as usize;
            rows.truncate(limit as usize);
            let rows = output::shown(&rows, passwords.legacy);
            Ok(if json { output::json(&rows) } else { output::table(&rows, more) })
        }
        Prepared::Unlock { email } => Ok(unlock(database, &email).await?),
        Prepared::Existing { email, action } => {
            let found = users::find(connection, &email).await?;
            let user = found.ok_or(UserError::NoSuchUser(email))?;
            act(action, &user, passwords.legacy, connection).await
        }
    }
}

async fn act(
    action: Action,
    user: &UserRow,
    accepted: LegacyFormats,
    connection: &mut MySqlConnection,
) -> Result<String, Failure> {
    let done = match action {
        Action::Get { json } => {
            let shown = output::shown(std::slice::from_ref(user), accepted);
            return Ok(if json { output::json(&shown[0]) } else { output::table(&shown, false) });
        }
        Action::Change { admin, email } => {
            if let Some(email) = email
                && !users::set_email(connection, user, &email).await?
            {
                return Err(UserError::Taken(email).into());
            }
            if let Some(admin) = admin {
                users::set_admin(connection, user, admin).await?;
            }
            "is changed"
        }
        Action::SetPassword { hash } => {
            users::set_password(connection, user, &hash).await?;
            "has a new password, and no token from before"
        }
        Action::SetDisabled(true) => {
            users::set_disabled(connection, user, true).await?;
            "is disabled"
        }
        Action::SetDisabled(false) => {
            users::set_disabled(connection, user, false).await?;
            "is enabled"
        }
        Action::EndTokens => {
            users::end_tokens(connection, user).await?;
            "has no token from before"
        }
        Action::Delete => {
            users::delete(connection, user).await?;
            "is deleted"
        }
    };
    Ok(format!("user {} {done}\n", user.email))
}
