//! Every SQL statement of the server, behind functions that name what they do.

mod check;
mod failures;
mod fault;
mod line;
pub mod revocations;
pub mod rights;
mod room;
pub mod schema;
pub mod sql;
pub(crate) mod users;

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions, Connection, Executor, MySql, MySqlConnection, MySqlPool, Row,
    mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlRow, MySqlSslMode},
    pool::PoolConnection,
};

pub(crate) use self::check::schema_version;
pub(crate) use self::fault::{Tries, cannot_be_in_the_column, number, persistently};
pub use self::{
    check::{Seen, Watch},
    failures::Standing,
    fault::StoreError,
};
use super::{
    config::{Account, Database},
    traces::{phase, statement},
};

/// Longest wait for a connection; a login that waits longer is answered 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the answer to one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for the answer to one statement and a connection to ask it on.
const ANSWER_TIMEOUT: Duration = ACQUIRE_TIMEOUT.saturating_add(STATEMENT_TIMEOUT);
/// How long a connection that is given back may take to be of use again, before it is closed.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the one read of the whole table.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections of one pod. A login needs one for a millisecond between two of 20 ms hashing.
const MAX_CONNECTIONS: u32 = 8;

/// What we ask of every connection: a truncated password hash would lock its user out, so strict.
const SESSION: &str =
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'";

/// What [`UserRow`] is read from.
macro_rules! user_rows {
    ($where:literal) => {
        concat!(
            "SELECT CAST(u.id AS SIGNED), u.email, u.password, CAST(COALESCE(a.admin, 1) AS SIGNED), \
             CAST(COALESCE(x.disabled, 0) AS SIGNED), CAST(COALESCE(x.generation, 0) AS SIGNED) FROM `user` u \
             LEFT JOIN `authservice_user` a ON a.user_id = u.id \
             LEFT JOIN `authservice_access` x ON x.user_id = u.id WHERE ",
            $where
        )
    };
}
pub(crate) use user_rows;

pub(crate) const LOOKUP: &str = user_rows!("u.email = ? LIMIT 64");
const LOOKUP_WITHOUT_OURS: &str =
    "SELECT CAST(id AS SIGNED), email, password, 1, 0, 0 FROM `user` WHERE email = ? LIMIT 64";
/// Compares bytes in one character set, whatever the column's and its collation.
const REHASH: &str =
    "UPDATE `user` SET password = ? WHERE id = ? AND CAST(CONVERT(password USING utf8mb4) AS BINARY) = ?";

/// What the hashes of a table begin with, up to their salts: the `$` at which parameters end is counted
/// as in `passwords::formats`. Plain passwords are left out. The innermost limit bounds the rows that
/// are looked at, the outermost the answer.
const PASSWORD_PARAMETERS: &str = "SELECT DISTINCT SUBSTRING_INDEX(password, '$', \
     CASE WHEN password LIKE '$argon2%$v=%' THEN 4 WHEN password LIKE '$%' THEN 3 ELSE 1 END) \
     FROM (SELECT password FROM `user` LIMIT 200000) AS looked_at \
     WHERE password LIKE '$argon2%' OR password LIKE '$2_$%' OR password LIKE '$pbkdf2%' \
     OR password LIKE '$scrypt$%' OR password LIKE 'pbkdf2:%' OR password LIKE 'scrypt:%' LIMIT 256";

/// A row of table `user`.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRow {
    /// The row's id.
    pub id: i64,
    /// The e-mail as stored.
    pub email: String,
    /// The stored password, whatever its form.
    pub password: String,
    /// Whether the user is an admin; every user of a table without our entries is.
    pub admin: bool,
    /// Whether the user may not log in.
    pub disabled: bool,
    /// The generation of tokens issued now: those of an earlier one have ended. 0 until the first
    /// time that a user's tokens end, then at least the second since 1970 of the last time.
    pub generation: i64,
}

/// The users, in the database.
#[derive(Debug)]
pub struct Store {
    pool: MySqlPool,
    /// Our own tables were seen: from then on their absence is a fault, not a reason to take
    /// every user for an admin.
    ours_seen: AtomicBool,
    room: room::Room,
}

/// A connection that goes back to the pool when it is dropped.
pub(crate) type Pooled = PoolConnection<MySql>;

/// Options to connect to the server of `database` with `account`; with the database selected
/// when `select` is set. Statements are never logged: they may hold passwords.
#[must_use]
pub fn options(database: &Database, account: &Account, select: bool) -> MySqlConnectOptions {
    let options = MySqlConnectOptions::new()
        .host(&database.host)
        .port(database.port)
        .username(&account.user)
        .password(account.password.expose_secret())
        .ssl_mode(MySqlSslMode::Preferred)
        .disable_statement_logging();
    if select { options.database(&database.name) } else { options }
}

/// Opens one connection.
///
/// # Errors
/// It could not be opened within `timeout`.
pub async fn connect(
    options: &MySqlConnectOptions,
    timeout: Duration,
) -> Result<MySqlConnection, StoreError> {
    within(timeout, async {
        let mut connection = options.connect().await?;
        connection.execute(SESSION).await?;
        Ok(connection)
    })
    .await
}

/// Awaits a database operation, but not longer than `timeout`.
///
/// # Errors
/// Those of the operation, and [`StoreError::timed_out`].
pub async fn within<T>(
    timeout: Duration,
    operation: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(timeout, operation).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(StoreError::timed_out(timeout)),
    }
}

/// Ends a connection politely, for at most a second.
pub async fn close(connection: MySqlConnection) {
    let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
}

impl Store {
    /// A pool of connections that are opened when first needed and again when they break.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        let pool = MySqlPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(Duration::from_mins(5))
            .max_lifetime(Duration::from_mins(30))
            // A query given up leaves its connection waiting for the answer, perhaps for ever.
            .after_release(|connection, _| {
                Box::pin(async move {
                    match tokio::time::timeout(RELEASE_TIMEOUT, connection.ping()).await {
                        Ok(answered) => answered.map(|()| true),
                        Err(_) => Err(sqlx::Error::PoolTimedOut),
                    }
                })
            })
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(SESSION).await.map(|_| ()) })
            })
            .connect_lazy_with(options(database, &database.account, true));
        Self { pool, ours_seen: AtomicBool::new(false), room: room::Room::default() }
    }

    /// A connection for several statements in a row.
    ///
    /// # Errors
    /// None came free in time, or none can be opened.
    pub(crate) async fn connection(&self) -> Result<Pooled, StoreError> {
        // Several kilobytes, which every future around it would hold too.
        let acquired = Box::pin(within(ACQUIRE_TIMEOUT, self.pool.acquire()));
        phase("database connection", acquired).await
    }

    /// The user whose stored e-mail is exactly this one, whatever the column's collation thinks equal.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn find(&self, email: &str) -> Result<Option<UserRow>, StoreError> {
        let looked = tokio::time::timeout(ANSWER_TIMEOUT, self.rows(email)).await;
        exactly(&looked.unwrap_or_else(|_| Err(StoreError::timed_out(ANSWER_TIMEOUT)))?, email)
    }

    /// Rows whose e-mail the column's collation takes for this one.
    async fn rows(&self, email: &str) -> Result<Vec<MySqlRow>, StoreError> {
        let lookup = sqlx::query(LOOKUP).bind(email).fetch_all(&self.pool);
        match statement("SELECT", "user", lookup).await {
            Err(error) if is_without_ours(&error) && !self.has_ours() => {
                let mut connection = self.pool.acquire().await?;
                // Where some of our tables are, users are what these say: one that is missing is a fault.
                if check::schema_version(&mut connection).await? > 0 {
                    return Err(error.into());
                }
                let lookup = sqlx::query(LOOKUP_WITHOUT_OURS).bind(email).fetch_all(&mut *connection);
                Ok(found(statement("SELECT", "user", lookup).await)?)
            }
            result => Ok(found(result)?),
        }
    }

    /// Replaces a stored password, provided it is still the one that was verified. Says whether it was.
    ///
    /// # Errors
    /// The database cannot or will not.
    pub async fn rehash(&self, user: &UserRow, new: &str) -> Result<bool, StoreError> {
        let rehash = sqlx::query(REHASH).bind(new).bind(user.id).bind(user.password.as_bytes());
        let rehash = within(ANSWER_TIMEOUT, rehash.execute(&self.pool));
        let done = statement("UPDATE", "user", rehash).await?;
        Ok(done.rows_affected() > 0)
    }

    /// What the hashes of the table begin with, up to their salts, each once; of the first 200 000 rows.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn password_parameters(&self) -> Result<Vec<String>, StoreError> {
        let read = sqlx::query(PASSWORD_PARAMETERS).fetch_all(&self.pool);
        let rows = within(SURVEY_TIMEOUT, read).await?;
        Ok(rows.iter().map(|row| text(row, 0)).collect::<Result<_, _>>()?)
    }

    /// Whether our own tables were ever seen.
    #[must_use]
    pub fn has_ours(&self) -> bool {
        self.ours_seen.load(Ordering::Relaxed)
    }

    /// Takes note that our own tables exist.
    pub fn note_ours(&self) {
        self.ours_seen.store(true, Ordering::Relaxed);
    }

    /// Takes note of why something could not be written.
    pub fn note_refused_write(&self, error: &StoreError) {
        self.room.note(error, Instant::now());
    }

    /// That the database lately had no room for what was to be written.
    #[must_use]
    pub fn lacking_room(&self) -> Option<StoreError> {
        self.room.lacking(Instant::now())
    }

    /// Ends every connection.
    pub async fn close(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.pool.close()).await;
    }
}

impl UserRow {
    fn read(row: &MySqlRow, email: &str) -> Result<Self, sqlx::Error> {
        // A stored value that is not UTF-8 can only be a password that nobody can send.
        let password = String::from_utf8_lossy(&bytes(row, 2)?).into_owned();
        Ok(Self {
            id: row.try_get(0)?,
            email: email.to_owned(),
            password,
            admin: row.try_get::<i64, _>(3)? != 0,
            disabled: row.try_get::<i64, _>(4)? != 0,
            generation: row.try_get(5)?,
        })
    }
}

/// The row of exactly this e-mail among those that the column's collation takes for equal.
fn exactly(rows: &[MySqlRow], email: &str) -> Result<Option<UserRow>, StoreError> {
    for row in rows {
        if bytes(row, 1)? == email.as_bytes() {
            return Ok(Some(UserRow::read(row, email)?));
        }
    }
    Ok(None)
}

fn found(result: Result<Vec<MySqlRow>, sqlx::Error>) -> Result<Vec<MySqlRow>, sqlx::Error> {
    match result {
        Err(error) if cannot_be_in_the_column(&error) => Ok(Vec::new()),
        result => result,
    }
}

/// Our table is absent, or hidden from this account.
fn is_without_ours(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(1142 | 1146))
}

/// A text column as bytes: collations ending in `_bin` make the driver take it for binary.
pub(crate) fn bytes(row: &MySqlRow, column: usize) -> Result<Vec<u8>, sqlx::Error> {
    row.try_get_unchecked::<Option<Vec<u8>>, _>(column).map(Option::unwrap_or_default)
}

/// A text column.
pub(crate) fn text(row: &MySqlRow, column: usize) -> Result<String, sqlx::Error> {
    bytes(row, column).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
