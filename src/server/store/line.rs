//! A connection apart from the pool's: a busy pool is no outage, and the database's own words are
//! not lost in the pool's.

use std::time::{Duration, Instant};

use sqlx::{MySqlConnection, mysql::MySqlConnectOptions};

use super::{StoreError, close, connect, options};
use crate::server::config::Database;

/// Longest wait for a connection or an answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
/// After this long the connection is opened anew: an existing one outlives its account.
const RECONNECT_AFTER: Duration = Duration::from_secs(30);

/// One connection, opened when first needed and anew when it is old or broke.
#[derive(Debug)]
pub(super) struct Line {
    options: MySqlConnectOptions,
    kept: Option<Open>,
}

/// An open connection: given back to [`Line::keep`] when it is still good, dropped otherwise.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: MySqlConnection,
    since: Instant,
}

impl Line {
    /// Nothing is opened yet.
    pub(super) fn new(database: &Database) -> Self {
        Self { options: options(database, &database.account, true), kept: None }
    }

    /// The connection.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) async fn take(&mut self) -> Result<Open, StoreError> {
        match self.kept.take() {
            Some(open) if open.since.elapsed() < RECONNECT_AFTER => Ok(open),
            old => {
                if let Some(old) = old {
                    tokio::spawn(close(old.connection));
                }
                let since = Instant::now();
                Ok(Open { connection: connect(&self.options, TIMEOUT).await?, since })
            }
        }
    }

    /// Keeps a connection that answered for the next time.
    pub(super) fn keep(&mut self, open: Open) {
        self.kept = Some(open);
    }
}
