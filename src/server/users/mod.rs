//! What an administrator does to users: by `auth-server user`, from wherever the server's environment is
//! at hand, such as one of its pods, and by the administration API.

mod command;
mod input;
pub(super) mod output;

use sqlx::MySqlConnection;

pub use self::command::{Command, SecretFile, run};
pub(super) use super::store::users::Change;
use super::{
    config::{LOGIN_NAME_CURE, PasswordPolicy, is_login_name},
    limiter::UnlockError,
    passwords::{Refused, Stored, Unusable},
    store::{StoreError, UserRow, users},
};
use crate::contract::LegacyFormat;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Nobody has this e-mail.
    #[error("there is no user {0:?}; e-mails are compared exactly")]
    NoSuchUser(String),
    /// Nobody has this id.
    #[error("there is no user of id {0}")]
    NoSuchId(i64),
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
            Self::NoSuchUser(_) | Self::NoSuchId(_) => 3,
            Self::Taken(_) => 4,
            _ => 1,
        }
    }
}

/// An error that still has to be put into words.
pub(super) enum Failure {
    Told(UserError),
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        Self::Told(error)
    }
}

/// How a user is found.
pub(super) enum Whom {
    /// By e-mail, compared exactly.
    Email(String),
    /// By the row's id.
    Id(i64),
}

/// Takes an e-mail by which a user can log in.
pub(super) fn login_name(email: String) -> Result<String, UserError> {
    if is_login_name(&email) { Ok(email) } else { Err(UserError::Email(email)) }
}

/// Whether the hash logs its user in, where one may take `most_kib` of memory.
pub(super) fn check_hash(hash: &str, policy: &PasswordPolicy, most_kib: u32) -> Result<(), UserError> {
    match Stored::parse(hash, policy.legacy, most_kib) {
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

/// The user, who has to be there.
pub(super) async fn find(connection: &mut MySqlConnection, whom: Whom) -> Result<UserRow, Failure> {
    Ok(match whom {
        Whom::Email(email) => users::find(connection, &email).await?.ok_or(UserError::NoSuchUser(email))?,
        Whom::Id(id) => users::find_by_id(connection, id).await?.ok_or(UserError::NoSuchId(id))?,
    })
}

/// At most `limit` users in the order of their ids, from the first after `after`, and the id to go on
/// after where there are more.
pub(super) async fn page(
    connection: &mut MySqlConnection,
    after: i64,
    limit: u32,
) -> Result<(Vec<UserRow>, Option<i64>), Failure> {
    // One more tells whether there are more.
    let mut rows = users::list(connection, after, limit.saturating_add(1)).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|user| user.id);
    Ok((rows, next))
}

/// Creates a user and answers the id.
pub(super) async fn create(
    connection: &mut MySqlConnection,
    email: &str,
    hash: &str,
    admin: bool,
) -> Result<i64, Failure> {
    let id = users::insert(connection, email, hash, Some(admin)).await?;
    Ok(id.ok_or_else(|| UserError::Taken(email.to_owned()))?)
}

/// Changes a user, all of it or nothing, and ends the user's tokens.
pub(super) async fn change(
    connection: &mut MySqlConnection,
    user: &UserRow,
    wanted: &Change,
) -> Result<(), Failure> {
    match (users::change(connection, user, wanted).await?, &wanted.email) {
        (false, Some(email)) => Err(UserError::Taken(email.clone()).into()),
        _ => Ok(()),
    }
}
