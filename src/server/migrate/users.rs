//! Bootstrap users: created when absent, never changed when present.

use std::io::ErrorKind;

use sqlx::MySqlConnection;

use super::{Run, report::Explain};
use crate::{
    contract::{BootstrapUser, DatabaseFault, MigrationError},
    server::{
        config::without_newline,
        passwords::Refused,
        store::{StoreError, users},
    },
};

/// Why a user is not created.
enum Refusal {
    /// The table cannot take this row: nobody else is held up by it.
    OfThisUser(String),
    /// Nobody can be created.
    OfAll(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match (error.fault, error.number) {
            (DatabaseFault::GrantMissing, _) => Self::OfThisUser(error.words),
            // A column that must have a value, or cannot hold ours; a check, or a trigger.
            (_, Some(1048 | 1364 | 1366 | 1406 | 1644 | 3819 | 4025)) => {
                let cure = "insert the row yourself, or let the column take it";
                Self::OfThisUser(format!("{}: {cure}", error.words))
            }
            _ => Self::OfAll(error),
        }
    }
}

impl Run<'_> {
    /// Creates the declared users that do not exist.
    pub(super) async fn create_users(&mut self, server: &mut MySqlConnection) -> Result<(), MigrationError> {
        let config = self.config;
        let explain = Explain { database: &config.database, account: &config.database.account.user };
        for user in &config.bootstrap {
            match self.create_user(server, user).await {
                Ok(()) => {}
                Err(Refusal::OfThisUser(words)) => {
                    self.limited(format!("user {} is not created: {words}", user.email));
                }
                Err(Refusal::OfAll(error)) => return Err(explain.error(error)),
            }
        }
        Ok(())
    }

    async fn create_user(
        &mut self,
        server: &mut MySqlConnection,
        user: &BootstrapUser,
    ) -> Result<(), Refusal> {
        let email = user.email.as_str();
        if users::find_id(server, email).await?.is_some() {
            return Ok(());
        }
        let Some(password) = read_password(user) else {
            self.report.missing_users.push(email.to_owned());
            return Ok(());
        };
        let with_entry = self.report.schema_version > 0;
        if !with_entry && !user.admin {
            self.limited(format!(
                "user {email} is not created: without table authservice_user every user is an admin"
            ));
            return Ok(());
        }
        let hash = match self.config.passwords.hash(&password) {
            Ok(hash) => hash,
            Err(Refused::Hash(error)) => {
                return Err(StoreError::new(DatabaseFault::DatabaseError, error.to_string()).into());
            }
            Err(refused) => {
                self.limited(format!("user {email} is not created: {refused}"));
                return Ok(());
            }
        };
        let inserted = users::insert(server, email, &hash, with_entry.then_some(user.admin)).await?;
        if inserted.is_some() {
            self.created(format!("user {email}"));
        } else if users::find_id(server, email).await?.is_none() {
            self.limited(format!("user {email} is not created: table user holds an e-mail that its collation takes for the same"));
        }
        Ok(())
    }
}

/// The password, or `None` when nobody has provided one yet.
fn read_password(user: &BootstrapUser) -> Option<Vec<u8>> {
    match std::fs::read(&user.password_file) {
        Ok(content) => Some(without_newline(content)).filter(|password| !password.is_empty()),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(path = %user.password_file.display(), %error, "a password file cannot be read");
            }
            None
        }
    }
}
