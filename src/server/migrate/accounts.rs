//! Database, account and rights: created where they are absent, never changed where they are not.

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{CONNECT_TIMEOUT, Run, report::Explain};
use crate::{
    contract::{DatabaseFault, MigrationError},
    server::{
        config::SchemaMode,
        store::{
            self, StoreError, close, connect,
            rights::Rights,
            schema::{self, USER_TABLE},
            sql, text,
        },
    },
};
use secrecy::ExposeSecret;

/// What the server needs on its database.
pub(super) const ROW_RIGHTS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// What the server writes besides passwords: who may no longer, and what has ended.
const WRITTEN: [(&str, &str); 3] =
    [("INSERT", schema::ACCESS_TABLE), ("UPDATE", schema::ACCESS_TABLE), ("INSERT", schema::REVOKED_TABLE)];

/// The server's account as a login with it showed.
enum ServerAccount {
    /// Absent, or of another password, or barred; in the database's own words.
    Refused(StoreError),
    /// As `user@host`, with its rights.
    Known { identity: String, rights: Rights },
}

impl Run<'_> {
    /// Creates what is missing with the admin's rights, after naming those that are missing.
    pub(super) async fn prepare_as_admin(
        &mut self,
        admin: &mut MySqlConnection,
        rights: &Rights,
    ) -> Result<(), MigrationError> {
        let config = self.config;
        let database = config.database.name.as_str();
        let user = config.database.account.user.as_str();
        let admin_name = config.admin.as_ref().map_or(user, |admin| admin.user.as_str());
        let explain = Explain { database: &config.database, account: admin_name };
        let explained = |error: StoreError| explain.error(error);

        let exists = database_exists(admin, database).await.map_err(explained)?;
        let tables = schema::existing_tables(admin, database).await.map_err(explained)?;
        let account = self.server_account().await?;
        let grants_needed = match &account {
            ServerAccount::Refused(_) => true,
            ServerAccount::Known { rights, .. } => {
                ROW_RIGHTS.iter().any(|right| rights.lacks(right, database))
            }
        };

        let mut lacking = Vec::new();
        let user_table_missing = config.schema_mode == SchemaMode::Managed
            && schema::missing_tables(&tables).contains(&USER_TABLE);
        if (!exists || user_table_missing) && rights.lacks("CREATE", database) {
            lacking.push(format!("CREATE on {database} (for the database and its tables)"));
        }
        if matches!(account, ServerAccount::Refused(_)) && rights.lacks_globally("CREATE USER") {
            lacking.push(format!(
                "CREATE USER (account {user} is refused, so it is absent or has another password)"
            ));
        }
        if grants_needed {
            let missing: Vec<&str> =
                ROW_RIGHTS.into_iter().filter(|right| rights.lacks(right, database)).collect();
            if !missing.is_empty() || rights.lacks_grant_option(database) {
                lacking.push(format!(
                    "{} on {database} with GRANT OPTION (to hand them to {user})",
                    ROW_RIGHTS.join(", ")
                ));
            }
        }
        if !lacking.is_empty() {
            return Err(explain.error(StoreError::new(DatabaseFault::GrantMissing, lacking.join("; "))));
        }

        if !exists {
            create_database(admin, database).await.map_err(explained)?;
            self.created(format!("database {database}"));
        }
        let identity = match account {
            ServerAccount::Known { identity, .. } => identity,
            ServerAccount::Refused(_) => {
                if self.create_account(admin).await.map_err(explained)? {
                    self.created(format!("account {user}"));
                }
                // Rights go to an account that proved to be the one meant, and to no other.
                match self.server_account().await? {
                    ServerAccount::Known { identity, .. } => identity,
                    ServerAccount::Refused(error) => return Err(self.account_of_another(&error)),
                }
            }
        };
        if grants_needed {
            let (name, host) = identity.rsplit_once('@').unwrap_or((&identity, "%"));
            let statement = format!(
                "GRANT {} ON {}.* TO {}@{}",
                ROW_RIGHTS.join(", "),
                sql::grant_pattern(database),
                sql::string(name),
                sql::string(host)
            );
            execute(admin, statement).await.map_err(explained)?;
        }
        Ok(())
    }

    /// The account exists and refuses the password.
    fn account_of_another(&self, refusal: &StoreError) -> MigrationError {
        let account = self.config.database.account.user.as_str();
        let words = format!(
            "{}; the account exists and is never changed: give its real password, or, if nobody else uses it, \
             drop it so that it is created",
            refusal.words
        );
        Explain { database: &self.config.database, account }.error(StoreError::new(refusal.fault, words))
    }

    /// Checks what the server's account may do, and creates the database where it may.
    pub(super) async fn prepare_as_server(
        &mut self,
        connection: &mut MySqlConnection,
        rights: &Rights,
    ) -> Result<(), MigrationError> {
        let config = self.config;
        let database = config.database.name.as_str();
        let user = config.database.account.user.as_str();
        let explain = Explain { database: &config.database, account: user };
        let exists = database_exists(connection, database).await.map_err(|error| explain.error(error))?;
        if rights.lacks_on("SELECT", database, USER_TABLE) {
            let words = format!(
                "SELECT on table user of database {database} (GRANT {} ON {}.* TO {})",
                ROW_RIGHTS.join(", "),
                sql::grant_pattern(database),
                sql::string(user)
            );
            return Err(explain.error(StoreError::new(DatabaseFault::GrantMissing, words)));
        }
        if !exists {
            if rights.lacks("CREATE", database) {
                let words = format!("database {database} does not exist and this account may not create it");
                return Err(explain.error(StoreError::new(DatabaseFault::SchemaMissing, words)));
            }
            create_database(connection, database).await.map_err(|error| explain.error(error))?;
            self.created(format!("database {database}"));
        }
        if rights.lacks_on("UPDATE", database, USER_TABLE) {
            self.limited(format!("rehashing of passwords: account {user} lacks UPDATE on table user"));
        }
        let tables =
            schema::existing_tables(connection, database).await.map_err(|error| explain.error(error))?;
        let lacks = |right: &str, table: &str| {
            tables.iter().any(|name| name.eq_ignore_ascii_case(table))
                && rights.lacks_on(right, database, table)
        };
        let lacking: Vec<String> = WRITTEN
            .into_iter()
            .filter(|(right, table)| lacks(right, table))
            .map(|(right, table)| format!("{right} on table {table}"))
            .collect();
        if !lacking.is_empty() {
            self.limited(format!(
                "logout and changes of passwords: account {user} lacks {}",
                lacking.join(" and ")
            ));
        } else if lacks("DELETE", schema::REVOKED_TABLE) {
            self.limited(format!(
                "deletion of expired revocations: account {user} lacks DELETE on table {}",
                schema::REVOKED_TABLE
            ));
        }
        Ok(())
    }

    async fn server_account(&self) -> Result<ServerAccount, MigrationError> {
        let config = self.config;
        let account = &config.database.account;
        let explain = Explain { database: &config.database, account: &account.user };
        let mut connection =
            match connect(&store::options(&config.database, account, false), CONNECT_TIMEOUT).await {
                Ok(connection) => connection,
                Err(error) if error.fault == DatabaseFault::CredentialsRejected => {
                    return Ok(ServerAccount::Refused(error));
                }
                Err(error) => return Err(explain.error(error)),
            };
        let rights = Rights::read(&mut connection).await.map_err(|error| explain.error(error))?;
        let row = sqlx::query("SELECT CURRENT_USER()")
            .fetch_one(&mut connection)
            .await
            .map_err(|error| explain.error(error.into()))?;
        let identity = text(&row, 0).map_err(|error| explain.error(error.into()))?;
        close(connection).await;
        Ok(ServerAccount::Known { identity, rights })
    }

    /// Creates the server's account; says whether it was absent.
    async fn create_account(&self, admin: &mut MySqlConnection) -> Result<bool, StoreError> {
        let account = &self.config.database.account;
        let statement = format!(
            "CREATE USER IF NOT EXISTS {}@'%' IDENTIFIED BY {}",
            sql::string(&account.user),
            sql::string(account.password.expose_secret())
        );
        execute(admin, statement).await?;
        // An account that exists is a note, not an error.
        let notes = sqlx::raw_sql("SHOW WARNINGS").fetch_all(admin).await?;
        Ok(notes.is_empty())
    }
}

async fn database_exists(connection: &mut MySqlConnection, database: &str) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT schema_name FROM information_schema.schemata WHERE schema_name = ?")
        .bind(database)
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

async fn create_database(connection: &mut MySqlConnection, database: &str) -> Result<(), StoreError> {
    execute(
        connection,
        format!("CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4", sql::name(database)),
    )
    .await
}

/// Runs a statement that takes no bound values; the caller has quoted every part.
async fn execute(connection: &mut MySqlConnection, statement: String) -> Result<(), StoreError> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
