//! The command line: what `auth-server user` takes and prints.

use std::{path::PathBuf, time::Duration};

use sqlx::MySqlConnection;

use super::{
    Change, Failure, UserError, Whom, change, check_hash, create, find, input, login_name, output, page,
};
use crate::server::{
    config::{self, PasswordPolicy, UserConfig},
    limiter,
    migrate::Explain,
    passwords::{LegacyFormats, MAX_MEMORY_KIB, NewPasswords},
    store::{self, Store, StoreError, UserRow, close, connect, users},
};

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
    /// Change e-mail or admin flag; every token of the user ends.
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
    pub(super) file: Option<PathBuf>,
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
    Change(Change, &'static str),
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
            check_hash(&hash, policy, MAX_MEMORY_KIB)?;
            Ok(Prepared::Insert { email, admin, hash })
        }
        Command::List { limit, after, json } => Ok(Prepared::List { limit, after, json }),
        Command::Get { email, json } => existing(email, Action::Get { json }),
        Command::Change { email, admin, no_admin, new_email } => {
            let admin = (admin || no_admin).then_some(admin);
            let new_email = new_email.map(login_name).transpose()?;
            let change = Change { email: new_email, admin, ..Change::default() };
            existing(email, Action::Change(change, "is changed"))
        }
        Command::SetPassword { email, password } => {
            let hash = Some(new_hash(&password, policy.new)?);
            let change = Change { hash, ..Change::default() };
            existing(email, Action::Change(change, "has a new password, and no token from before"))
        }
        Command::Disable { email } => existing(email, set_disabled(true, "is disabled")),
        Command::Enable { email } => existing(email, set_disabled(false, "is enabled")),
        Command::Unlock { email } => Ok(Prepared::Unlock { email }),
        Command::RevokeTokens { email } => existing(email, Action::EndTokens),
        Command::Delete { email } => existing(email, Action::Delete),
    }
}

fn set_disabled(disabled: bool, done: &'static str) -> Action {
    Action::Change(Change { disabled: Some(disabled), ..Change::default() }, done)
}

fn new_hash(password: &SecretFile, rules: NewPasswords) -> Result<String, UserError> {
    let password = input::secret(password, "password")?;
    Ok(rules.hash(password.as_bytes())?)
}

async fn unlock(database: &config::Database, email: &str) -> Result<String, UserError> {
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
            let id = create(connection, &email, &hash, admin).await?;
            Ok(format!("user {email} is created with id {id}\n"))
        }
        Prepared::List { limit, after, json } => {
            let (rows, next) = page(connection, after, limit).await?;
            let rows = output::shown(&rows, passwords.legacy, MAX_MEMORY_KIB);
            Ok(if json { output::json(&rows) } else { output::table(&rows, next.is_some()) })
        }
        Prepared::Unlock { email } => Ok(unlock(database, &email).await?),
        Prepared::Existing { email, action } => {
            let user = find(connection, Whom::Email(email)).await?;
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
            let shown = output::shown(std::slice::from_ref(user), accepted, MAX_MEMORY_KIB);
            return Ok(if json { output::json(&shown[0]) } else { output::table(&shown, false) });
        }
        Action::Change(wanted, done) => {
            change(connection, user, &wanted).await?;
            done
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
