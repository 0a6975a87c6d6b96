//! What the database's refusals mean, in the vocabulary of conditions.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use sqlx::mysql::MySqlDatabaseError;

use crate::{contract::DatabaseFault, server::traces::Kind};

/// A failure of the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct StoreError {
    /// The kind.
    pub fault: DatabaseFault,
    /// The database's own words, or the network's.
    pub words: String,
    /// The database's own number for it.
    pub(crate) number: Option<u16>,
}

impl StoreError {
    /// An error of our own finding.
    pub fn new(fault: DatabaseFault, words: impl Into<String>) -> Self {
        Self { fault, words: words.into(), number: None }
    }

    /// No answer came in time.
    #[must_use]
    pub fn timed_out(after: Duration) -> Self {
        Self::new(DatabaseFault::DatabaseUnreachable, format!("no answer within {} s", after.as_secs()))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let fault = fault(&error);
        if let Some(refusal) = refusal(&error) {
            let number = refusal.number();
            let words = format!("{} (error {number})", refusal.message());
            return Self { fault, words, number: Some(number) };
        }
        let words = match error {
            sqlx::Error::Io(error) => error.to_string(),
            other if fault == DatabaseFault::CredentialsRejected => format!(
                "{other}; the account must log in by a password this server knows how to prove: enable TLS on the database, \
                 or create the account with caching_sha2_password (MySQL) or mysql_native_password (MariaDB)"
            ),
            sqlx::Error::PoolTimedOut => "no connection came free in time".to_owned(),
            other => other.to_string(),
        };
        Self::new(fault, words)
    }
}

/// Evaluates an attempt, its `.await` included, again where the database gave it up in favour of another
/// transaction. That is nobody's fault, and undoes the whole transaction: the next try may find other rows,
/// and mostly succeeds. No function, since a future that is generic over closures is not `Send` here.
macro_rules! persistently {
    ($attempt:expr) => {{
        let mut tries = $crate::server::store::Tries::new();
        loop {
            match $attempt {
                Err(error) if tries.another(&error).await => {}
                done => break done,
            }
        }
    }};
}
pub(crate) use persistently;

/// Counts the tries of [`persistently`].
#[derive(Debug)]
pub(crate) struct Tries {
    left: u32,
    since: Instant,
}

impl Tries {
    /// Ten in all, the last of them begun within two seconds or so.
    pub(crate) fn new() -> Self {
        Self { left: 9, since: Instant::now() }
    }

    /// Whether to try once more after this error; waits until then, so that two do not meet again.
    pub(crate) async fn another(&mut self, error: &StoreError) -> bool {
        if self.left == 0 || self.since.elapsed() > Duration::from_secs(2) || !gave_way(error) {
            return false;
        }
        self.left -= 1;
        tokio::time::sleep(Duration::from_millis(rand::random_range(5..50))).await;
        true
    }
}

/// Deadlock, lock wait, or a row that another transaction changed. Members of a cluster find out when
/// they commit, and say that it was a deadlock.
fn gave_way(error: &StoreError) -> bool {
    matches!(error.number, Some(1020 | 1205 | 1213))
}

impl Kind for sqlx::Error {
    fn kind(&self) -> (Cow<'static, str>, Option<u16>) {
        (format!("{:?}", fault(self)).into(), number(self))
    }
}

impl Kind for StoreError {
    fn kind(&self) -> (Cow<'static, str>, Option<u16>) {
        (format!("{:?}", self.fault).into(), self.number)
    }
}

fn fault(error: &sqlx::Error) -> DatabaseFault {
    if let Some(number) = number(error) {
        return meaning(number);
    }
    match error {
        sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::Decode(_) => DatabaseFault::SchemaIncompatible,
        // The account can be authenticated by no means this client has over this connection.
        sqlx::Error::Configuration(_) => DatabaseFault::CredentialsRejected,
        sqlx::Error::Protocol(words) if words.contains("authentication plugin") => {
            DatabaseFault::CredentialsRejected
        }
        sqlx::Error::RowNotFound | sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) => {
            DatabaseFault::DatabaseError
        }
        _ => DatabaseFault::DatabaseUnreachable,
    }
}

/// The error number, when the database refused.
pub(crate) fn number(error: &sqlx::Error) -> Option<u16> {
    refusal(error).map(MySqlDatabaseError::number)
}

fn refusal(error: &sqlx::Error) -> Option<&MySqlDatabaseError> {
    match error {
        sqlx::Error::Database(error) => error.try_downcast_ref(),
        _ => None,
    }
}

fn meaning(number: u16) -> DatabaseFault {
    match number {
        // Wrong password or host, unknown plugin, expired, locked or blocked.
        1045 | 1129 | 1130 | 1251 | 1524 | 1698 | 1820 | 1862 | 3118 | 3159 | 3878 | 3955 | 4151 => {
            DatabaseFault::CredentialsRejected
        }
        1044 | 1142 | 1143 | 1227 | 1370 | 1403 | 1410 | 1419 => DatabaseFault::GrantMissing,
        1049 | 1146 => DatabaseFault::SchemaMissing,
        // No such column, one that cannot hold the value, one that asks for a value of its own, or a rule
        // that the row breaks.
        1048 | 1054 | 1364 | 1366 | 1406 | 3819 | 4025 => DatabaseFault::SchemaIncompatible,
        // Too many connections, a cluster's member without the others, shutting down, connection lost.
        1040 | 1047 | 1053 | 1077 | 1079 | 1080 | 1152..=1161 | 1203 | 1226 | 1927 | 4031 => {
            DatabaseFault::DatabaseUnreachable
        }
        _ => DatabaseFault::DatabaseError,
    }
}

/// `MySQL` and `MariaDB` refuse to compare a text with a column whose character set cannot hold it;
/// no row can be equal to such a text.
pub(crate) fn cannot_be_in_the_column(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(1267 | 1271 | 3854 | 3988))
}
