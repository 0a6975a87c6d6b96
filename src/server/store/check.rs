//! The look at the database that tells, every few seconds, whether logins can work.

use sqlx::{MySqlConnection, Row};

use super::{
    StoreError,
    line::{Line, TIMEOUT},
    number, schema, text, within,
};
use crate::{
    contract::{DatabaseFault, SCHEMA_VERSION},
    server::config::Database,
};

/// What a look at the database showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `SELECT VERSION()`.
    pub version: String,
    /// Version of our own tables; 0 when there are none.
    pub schema_version: i32,
}

/// Looks at the database through a connection of its own.
#[derive(Debug)]
pub struct Watch(Line);

impl Watch {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        Self(Line::new(database))
    }

    /// Does the reads a login does, on no row.
    ///
    /// # Errors
    /// What would keep logins from working.
    pub async fn look(&mut self) -> Result<Seen, StoreError> {
        let mut open = self.0.take().await?;
        let seen = within(TIMEOUT, look(&mut open.connection)).await?;
        self.0.keep(open);
        seen
    }
}

const READABLE: &str = "SELECT expires_at FROM `authservice_revoked_token` LIMIT 0";

/// The outer error means a broken connection, the inner one an answer we do not like.
async fn look(connection: &mut MySqlConnection) -> Result<Result<Seen, StoreError>, sqlx::Error> {
    let version = match sqlx::query("SELECT VERSION()").fetch_one(&mut *connection).await {
        Ok(row) => text(&row, 0)?,
        Err(error) => return Err(error),
    };
    let schema_version = match schema_version(connection).await {
        Ok(schema_version) => schema_version,
        Err(error) => return Ok(Err(error)),
    };
    if (1..SCHEMA_VERSION).contains(&schema_version) {
        let words = format!("the schema has version {schema_version}, this release needs {SCHEMA_VERSION}");
        return Ok(Err(StoreError::new(DatabaseFault::SchemaOutdated, words)));
    }
    // The very read of a login, for nobody: where our tables are, it needs them.
    let lookup = if schema_version > 0 { super::LOOKUP } else { super::LOOKUP_WITHOUT_OURS };
    if let Err(error) = sqlx::query(lookup).bind("").fetch_all(&mut *connection).await
        && !super::cannot_be_in_the_column(&error)
    {
        return Ok(Err(error.into()));
    }
    // A pod that cannot read what other pods end would go on with it for ever.
    if schema_version > 0
        && let Err(error) = sqlx::query(READABLE).fetch_all(&mut *connection).await
    {
        return Ok(Err(error.into()));
    }
    Ok(Ok(Seen { version, schema_version }))
}

/// Version of our own tables; 0 when they are absent or hidden from this account.
pub(crate) async fn schema_version(connection: &mut MySqlConnection) -> Result<i32, StoreError> {
    match sqlx::query(schema::VERSION).fetch_one(&mut *connection).await {
        Ok(row) => Ok(i32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(i32::MAX)),
        Err(error) if matches!(number(&error), Some(1142 | 1146)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
