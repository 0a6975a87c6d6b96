//! The tables, and the steps that create them.
//!
//! `MySQL` commits each change of a table by itself, so a step is one statement that can be run
//! again. Whether it is needed is read from `information_schema`, never from a mark that a crash
//! could leave behind; the version is written after the step and says only what was done.

use sqlx::{MySqlConnection, Row};

use super::{StoreError, bytes, number, persistently, text};
use crate::contract::{DatabaseFault, SCHEMA_VERSION};

/// The table of the service this one replaces. Never altered.
pub const USER_TABLE: &str = "user";
/// Who is an admin.
pub const ADMIN_TABLE: &str = "authservice_user";
/// The table of failed logins. It may be absent: each pod then counts on its own.
pub const FAILURE_TABLE: &str = "authservice_login_failure";
/// Who is disabled, and from which generation on a user's tokens are good.
pub const ACCESS_TABLE: &str = "authservice_access";
/// The tokens that were logged out.
pub const REVOKED_TABLE: &str = "authservice_revoked_token";
/// The table of finished steps.
pub(crate) const LEDGER_TABLE: &str = "authservice_schema";

/// Reads the version of our own tables.
pub(crate) const VERSION: &str = "SELECT CAST(COALESCE(MAX(version), 0) AS SIGNED) FROM `authservice_schema`";

const CREATE_LEDGER: &str = "CREATE TABLE IF NOT EXISTS `authservice_schema` (\
     version INT NOT NULL PRIMARY KEY, \
     finished_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4";

/// One statement that creates one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The version reached when it is done.
    pub version: i32,
    /// The table it creates.
    pub table: &'static str,
    statement: &'static str,
}

/// Every step, in order.
pub const STEPS: [Step; 5] = [
    // E-mails are told apart by every letter and accent, hence the binary collation.
    Step {
        version: 1,
        table: USER_TABLE,
        statement: "CREATE TABLE IF NOT EXISTS `user` (\
             id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
             email VARCHAR(255) NOT NULL UNIQUE, \
             password VARCHAR(255) NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    },
    // No foreign key: it would need a right on `user`, and an engine that has them.
    Step {
        version: 2,
        table: ADMIN_TABLE,
        statement: "CREATE TABLE IF NOT EXISTS `authservice_user` (\
             user_id BIGINT NOT NULL PRIMARY KEY, \
             admin BOOLEAN NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    },
    // The second key is for those who clean.
    Step {
        version: 3,
        table: FAILURE_TABLE,
        statement: "CREATE TABLE IF NOT EXISTS `authservice_login_failure` (\
             bucket BINARY(32) NOT NULL PRIMARY KEY, \
             failures INT NOT NULL, \
             locked BOOLEAN NOT NULL, \
             ends_at DATETIME(3) NOT NULL, \
             KEY (ends_at)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    },
    // Apart from `authservice_user`, whose rows the release before this one replaces as a whole. A row
    // outlives its user: it is what ends the tokens of a deleted one.
    Step {
        version: 4,
        table: ACCESS_TABLE,
        statement: "CREATE TABLE IF NOT EXISTS `authservice_access` (\
             user_id BIGINT NOT NULL PRIMARY KEY, \
             disabled BOOLEAN NOT NULL DEFAULT FALSE, \
             generation BIGINT NOT NULL DEFAULT 0, \
             username TEXT NULL, \
             changed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), \
             KEY changed_at (changed_at)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    },
    Step {
        version: 5,
        table: REVOKED_TABLE,
        statement: "CREATE TABLE IF NOT EXISTS `authservice_revoked_token` (\
             token_hash BINARY(32) NOT NULL PRIMARY KEY, \
             expires_at BIGINT NOT NULL, \
             revoked_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), \
             KEY expires_at (expires_at), \
             KEY revoked_at (revoked_at)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    },
];

const _: () = assert!(STEPS[STEPS.len() - 1].version == SCHEMA_VERSION);

/// Which of our tables are there, as far as this account may see.
pub(crate) async fn existing_tables(
    connection: &mut MySqlConnection,
    database: &str,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query("SELECT table_name FROM information_schema.tables WHERE table_schema = ?")
        .bind(database)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| text(row, 0).map_err(StoreError::from)).collect()
}

/// The names of tables to create: the ledger, and those of the steps.
pub(crate) fn missing_tables(existing: &[String]) -> Vec<&'static str> {
    let absent = |table: &&str| !existing.iter().any(|name| name.eq_ignore_ascii_case(table));
    std::iter::once(LEDGER_TABLE).chain(STEPS.iter().map(|step| step.table)).filter(absent).collect()
}

/// Creates the table of finished steps.
pub(crate) async fn create_ledger(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    create(connection, CREATE_LEDGER).await
}

impl Step {
    /// Runs the step; a no-op where the table exists.
    pub(crate) async fn run(self, connection: &mut MySqlConnection) -> Result<(), StoreError> {
        create(connection, self.statement).await
    }

    /// Notes that the step is done.
    pub(crate) async fn record(self, connection: &mut MySqlConnection) -> Result<(), StoreError> {
        persistently!({
            let record = sqlx::query("INSERT IGNORE INTO `authservice_schema` (version) VALUES (?)");
            record.bind(self.version).execute(&mut *connection).await.map(drop).map_err(StoreError::from)
        })
    }
}

/// On a cluster the lock is local to one member, so another runner may win the race here.
async fn create(connection: &mut MySqlConnection, statement: &'static str) -> Result<(), StoreError> {
    match sqlx::raw_sql(statement).execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) if number(&error) == Some(1050) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What table `user` looks like, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserTable {
    /// Characters that fit into `password`.
    pub(crate) password_length: u64,
}

/// Checks that table `user` has the three columns, of usable types.
///
/// # Errors
/// It has not; or it is absent, or hidden from this account.
pub(crate) async fn inspect_user_table(
    connection: &mut MySqlConnection,
    database: &str,
) -> Result<UserTable, StoreError> {
    let rows = sqlx::query(
        "SELECT column_name, data_type, CAST(COALESCE(character_maximum_length, 0) AS SIGNED) \
         FROM information_schema.columns WHERE table_schema = ? AND table_name = 'user'",
    )
    .bind(database)
    .fetch_all(connection)
    .await?;
    let mut columns = Vec::with_capacity(rows.len());
    for row in &rows {
        let length = u64::try_from(row.try_get::<i64, _>(2)?).unwrap_or_default();
        columns.push((
            text(row, 0)?.to_lowercase(),
            String::from_utf8_lossy(&bytes(row, 1)?).to_lowercase(),
            length,
        ));
    }
    if columns.is_empty() {
        return Err(StoreError::new(
            DatabaseFault::SchemaMissing,
            format!("database {database} has no table user that this account may see"),
        ));
    }
    judge_columns(&columns)
}

fn judge_columns(columns: &[(String, String, u64)]) -> Result<UserTable, StoreError> {
    const INTEGERS: &[&str] = &["tinyint", "smallint", "mediumint", "int", "bigint"];
    const TEXTS: &[&str] =
        &["char", "varchar", "tinytext", "text", "mediumtext", "longtext", "binary", "varbinary", "blob"];
    let incompatible = |what: String| StoreError::new(DatabaseFault::SchemaIncompatible, what);
    let column = |name: &str, types: &[&str]| {
        let (_, kind, length) = columns
            .iter()
            .find(|(column, _, _)| column == name)
            .ok_or_else(|| incompatible(format!("table user has no column {name}")))?;
        if types.contains(&kind.as_str()) {
            Ok(*length)
        } else {
            Err(incompatible(format!(
                "column {name} of table user has type {kind}, which cannot be used; expected one of {}",
                types.join(", ")
            )))
        }
    };
    column("id", INTEGERS)?;
    column("email", TEXTS)?;
    Ok(UserTable { password_length: column("password", TEXTS)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(columns: &[(&str, &str, u64)]) -> Result<u64, String> {
        let columns: Vec<_> = columns
            .iter()
            .map(|(name, kind, length)| ((*name).to_owned(), (*kind).to_owned(), *length))
            .collect();
        judge_columns(&columns).map(|table| table.password_length).map_err(|error| error.words)
    }

    #[test]
    fn the_table_of_the_original_is_usable_and_faults_are_named() {
        assert_eq!(
            judged(&[
                ("id", "int", 0),
                ("email", "varchar", 255),
                ("password", "varchar", 255),
                ("age", "int", 0)
            ]),
            Ok(255)
        );
        assert_eq!(
            judged(&[("id", "int", 0), ("email", "varchar", 255)]),
            Err("table user has no column password".to_owned())
        );
        assert!(
            judged(&[("id", "char", 36), ("email", "varchar", 255), ("password", "text", 65_535)])
                .unwrap_err()
                .starts_with("column id of table user has type char")
        );
    }

    #[test]
    fn missing_tables_are_named_without_regard_to_case() {
        let ours = [ADMIN_TABLE, FAILURE_TABLE, ACCESS_TABLE, REVOKED_TABLE];
        assert_eq!(missing_tables(&[]), [&[LEDGER_TABLE, USER_TABLE], &ours[..]].concat());
        assert_eq!(missing_tables(&["USER".to_owned(), "authservice_schema".to_owned()]), ours);
    }
}
