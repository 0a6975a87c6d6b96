//! One database server: its accounts, and the schema and users of each database in it.

use std::collections::{BTreeMap, BTreeSet};

use authservice::contract::{DatabaseFault, SCHEMA_VERSION};

/// The version every database tells.
pub const VERSION: &str = "9.7.4";

/// What goes wrong with one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum StatementFault {
    /// The process ends before it is sent.
    CrashBefore,
    /// The process ends once it is done.
    CrashAfter,
    /// It is not done, and the connection is lost.
    Lost,
    /// It is done, and the connection is lost.
    ReplyLost,
    /// The server refuses it with an error of its own.
    Refused,
}

impl StatementFault {
    /// Each of them.
    pub const ALL: [Self; 5] =
        [Self::CrashBefore, Self::CrashAfter, Self::Lost, Self::ReplyLost, Self::Refused];
}

/// An account of a database server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its password.
    pub password: Vec<u8>,
    /// Whether it may do anything.
    pub is_admin: bool,
    /// The databases whose rows it may read and write.
    pub grants: BTreeSet<String>,
}

/// A user of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The password.
    pub password: Vec<u8>,
    /// The `admin` claim.
    pub admin: bool,
}

/// One database of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// How many of the schema's steps were done.
    pub steps: i32,
    /// Table `user`, by e-mail.
    pub users: BTreeMap<String, User>,
}

/// A database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Whether it can be reached.
    pub answers: bool,
    /// By name.
    pub accounts: BTreeMap<String, Account>,
    /// By name.
    pub schemas: BTreeMap<String, Schema>,
}

/// What a server or a migration is told in place of an answer.
pub type Refused = (DatabaseFault, String);

impl Database {
    /// An empty one, with one account that may do anything.
    #[must_use]
    pub fn with_admin(name: &str, password: &[u8]) -> Self {
        let admin = Account { password: password.to_vec(), is_admin: true, grants: BTreeSet::new() };
        Self { answers: true, accounts: BTreeMap::from([(name.to_owned(), admin)]), schemas: BTreeMap::new() }
    }

    /// An account, once it has shown its password.
    ///
    /// # Errors
    /// It is unknown, or the password is another one.
    pub fn log_in(&self, name: &str, password: &[u8]) -> Result<&Account, Refused> {
        let account = self.accounts.get(name).filter(|account| account.password == password);
        account.ok_or_else(|| {
            (
                DatabaseFault::CredentialsRejected,
                format!("Access denied for user '{name}' (using password: YES)"),
            )
        })
    }

    /// What a server sees of its database: the schema's version.
    ///
    /// # Errors
    /// The account is refused, or it lacks rights, or tables are missing.
    pub fn look(&self, account: &str, password: &[u8], database: &str) -> Result<i32, Refused> {
        let account = self.log_in(account, password)?;
        if !account.is_admin && !account.grants.contains(database) {
            return Err((DatabaseFault::GrantMissing, format!("no rights on {database}")));
        }
        match self.schemas.get(database).map(|schema| schema.steps) {
            None | Some(0) => Err((DatabaseFault::SchemaMissing, "table user doesn't exist".to_owned())),
            Some(steps) if steps < SCHEMA_VERSION => {
                Err((DatabaseFault::SchemaOutdated, format!("schema version {steps}")))
            }
            Some(steps) => Ok(steps),
        }
    }
}
