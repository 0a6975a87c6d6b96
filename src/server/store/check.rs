//! The look at the database that tells, every few seconds, whether logins can work.

use std::time::{Duration, Instant};

use sqlx::{MySqlConnection, Row, mysql::MySqlConnectOptions};

use super::{StoreError, connect, number, options, schema, text, within};
use crate::{
    contract::{DatabaseFault, SCHEMA_VERSION},
    server::config::Database,
};

/// Longest wait for a connection or an answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// After this long the connection is opened anew: an existing one outlives its account.
const RECONNECT_AFTER: Duration = Duration::from_secs(30);

/// What a look at the database showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `SELECT VERSION()`.
    pub version: String,
    /// Version of our own tables; 0 when there are none.
    pub schema_version: i32,
}

/// Looks at the database through a connection of its own, so that a busy pool is no outage and
/// the database's own words are not lost in the pool's.
#[derive(Debug)]
pub struct Watch {
    options: MySqlConnectOptions,
    connection: Option<(MySqlConnection, Instant)>,
}

impl Watch {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        Self { options: options(database, &database.account, true), connection: None }
    }

    /// Does the reads a login does, on no row.
    ///
    /// # Errors
    /// What would keep logins from working.
    pub async fn look(&mut self) -> Result<Seen, StoreError> {
        let (mut connection, opened) = match self.connection.take() {
            Some((connection, opened)) if opened.elapsed() < RECONNECT_AFTER => (connection, opened),
            old => {
                if let Some((old, _)) = old {
                    tokio::spawn(super::close(old));
                }
                (connect(&self.options, TIMEOUT).await?, Instant::now())
            }
        };
        let seen = within(TIMEOUT, look(&mut connection)).await?;
        self.connection = Some((connection, opened));
        let seen = seen?;
        if (1..schema::REQUIRED_VERSION).contains(&seen.schema_version) {
            return Err(StoreError::new(
                DatabaseFault::SchemaOutdated,
                format!(
                    "the schema has version {}, this release needs {SCHEMA_VERSION}",
                    seen.schema_version
                ),
            ));
        }
        Ok(seen)
    }
}

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
    // The very read of a login, for nobody: where our tables are, it needs them.
    let lookup = if schema_version > 0 { super::LOOKUP } else { super::LOOKUP_WITHOUT_OURS };
    if let Err(error) = sqlx::query(lookup).bind("").fetch_all(&mut *connection).await
        && !super::cannot_be_in_the_column(&error)
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
