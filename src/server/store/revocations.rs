//! The rows that end tokens before their time: read again and again, written by `/logout` and
//! `/password`.

use sqlx::{Connection, MySqlConnection, Row, mysql::MySqlRow};

use super::{
    ACQUIRE_TIMEOUT, ANSWER_TIMEOUT, REHASH, STATEMENT_TIMEOUT, Store, StoreError, UserRow, bytes,
    line::{Line, TIMEOUT},
    persistently, within,
};
use crate::server::{
    config::Database,
    tokens::Fingerprint,
    traces::{command, statement},
};

/// Rows read or deleted by one statement.
const PAGE: usize = 5_000;

/// A user that has an entry of ours. The row in `user` may be gone; its present e-mail and those at
/// earlier changes name the user in tokens that carry no id.
macro_rules! standings {
    ($where:literal) => {
        concat!(
            "SELECT a.user_id, CAST(a.disabled AS SIGNED), a.generation, CAST(u.id IS NULL AS SIGNED), a.username, u.email \
             FROM `authservice_access` a LEFT JOIN `user` u ON u.id = a.user_id WHERE ",
            $where
        )
    };
}

/// A change is read for this long after its own timestamp, by the database's clock, however late its
/// transaction commits: ids and high-water marks would lose rows that become visible out of order.
const RECENT_TOKENS: &str = "SELECT token_hash, expires_at FROM `authservice_revoked_token` \
     WHERE token_hash > ? AND revoked_at >= NOW(6) - INTERVAL 10 MINUTE AND expires_at > UNIX_TIMESTAMP() - 60 \
     ORDER BY token_hash LIMIT ?";
const RECENT_USERS: &str =
    standings!("a.user_id > ? AND a.changed_at >= NOW(6) - INTERVAL 10 MINUTE ORDER BY a.user_id LIMIT ?");

const ALL_TOKENS: &str = "SELECT token_hash, expires_at FROM `authservice_revoked_token` \
     WHERE token_hash > ? AND expires_at > UNIX_TIMESTAMP() - 60 ORDER BY token_hash LIMIT ?";
/// What happened more than a year ago ends nothing: no token lives longer.
const ALL_USERS: &str =
    standings!("a.user_id > ? AND a.changed_at > NOW(6) - INTERVAL 366 DAY ORDER BY a.user_id LIMIT ?");
const IDS: &str = "SELECT CAST(id AS SIGNED) FROM `user` WHERE id > ? ORDER BY id LIMIT ?";

/// An hour late, since a pod whose clock lags may still take such a token for a live one.
const PRUNE: &str = "DELETE FROM `authservice_revoked_token` WHERE expires_at < UNIX_TIMESTAMP() - 3600 \
     ORDER BY expires_at LIMIT ?";

const REVOKE: &str = "INSERT INTO `authservice_revoked_token` (token_hash, expires_at) VALUES (?, ?) \
     ON DUPLICATE KEY UPDATE expires_at = expires_at";
/// A generation is at least the second it was raised in, so that it also says of tokens that carry
/// none whether they are older, and a database restored from a dump hands none out twice. Names are added
/// line by line: tokens without an id carry the one of their time. No login name holds a line's end.
pub(super) const RAISE: &str = "INSERT INTO `authservice_access` (user_id, generation, username) VALUES (?, UNIX_TIMESTAMP(), ?) \
     ON DUPLICATE KEY UPDATE generation = GREATEST(generation + 1, UNIX_TIMESTAMP()), \
     username = CASE WHEN username IS NULL THEN VALUES(username) \
     WHEN LOCATE(CONCAT('\n', VALUES(username), '\n'), CONCAT('\n', username, '\n')) > 0 THEN username \
     ELSE RIGHT(CONCAT(username, '\n', VALUES(username)), 16000) END";

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A token that was logged out, and the second since 1970 in which it expires.
    Token(Fingerprint, i64),
    /// A user with an entry of ours.
    User {
        /// The id.
        id: i64,
        /// Tokens of an earlier generation have ended, and so have those without one that were issued in
        /// this second since 1970 or before.
        generation: i64,
        /// The user may not log in.
        disabled: bool,
        /// The row in `user` is gone.
        deleted: bool,
        /// What the user is called, unless the row is gone.
        present: Option<String>,
        /// What the user was called at each change.
        former: Vec<String>,
    },
    /// The id of a row in `user`, in ascending order.
    Exists(i64),
}

/// Reads revocations through a connection of its own.
#[derive(Debug)]
pub struct Reader(Line);

impl Reader {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        Self(Line::new(database))
    }

    /// Reads what changed within the last ten minutes.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn recent(&mut self, take: &mut (dyn FnMut(Entry) + Send)) -> Result<(), StoreError> {
        let mut open = self.0.take().await?;
        tokens(&mut open.connection, RECENT_TOKENS, take).await?;
        users(&mut open.connection, RECENT_USERS, take).await?;
        self.0.keep(open);
        Ok(())
    }

    /// Reads everything as of one moment, and the ids of users until there are more than `most_ids`.
    ///
    /// # Errors
    /// The database cannot answer, or a table was exchanged meanwhile.
    pub async fn everything(
        &mut self,
        most_ids: usize,
        take: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), StoreError> {
        let mut open = self.0.take().await?;
        // A restore that replaces `user` page by page would make users look deleted; under a snapshot
        // it is an error, and what was read last stays.
        let isolation = sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
        within(TIMEOUT, isolation.execute(&mut open.connection)).await?;
        let begin = open.connection.begin_with("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY");
        let mut transaction = within(TIMEOUT, begin).await?;
        tokens(&mut transaction, ALL_TOKENS, take).await?;
        users(&mut transaction, ALL_USERS, take).await?;
        let (mut after, mut read) = (i64::MIN, 0);
        while let Some(Entry::Exists(id)) = page(&mut transaction, IDS, after, exists, take).await? {
            after = id;
            read += PAGE;
            if read > most_ids {
                break;
            }
        }
        within(TIMEOUT, transaction.rollback()).await?;
        self.0.keep(open);
        Ok(())
    }

    /// Deletes entries of tokens that have long expired, a page of them; says whether there may be more.
    ///
    /// # Errors
    /// The database cannot or will not.
    pub async fn prune(&mut self) -> Result<bool, StoreError> {
        let mut open = self.0.take().await?;
        let statement = sqlx::query(PRUNE).bind(page_limit());
        let deleted = within(TIMEOUT, statement.execute(&mut open.connection)).await?.rows_affected();
        self.0.keep(open);
        Ok(usize::try_from(deleted) == Ok(PAGE))
    }
}

async fn tokens(
    connection: &mut MySqlConnection,
    statement: &'static str,
    take: &mut (dyn FnMut(Entry) + Send),
) -> Result<(), StoreError> {
    let mut after = Vec::new();
    while let Some(Entry::Token(last, _)) = page(connection, statement, after, token, take).await? {
        after = last.0.to_vec();
    }
    Ok(())
}

async fn users(
    connection: &mut MySqlConnection,
    statement: &'static str,
    take: &mut (dyn FnMut(Entry) + Send),
) -> Result<(), StoreError> {
    let mut after = i64::MIN;
    while let Some(Entry::User { id, .. }) = page(connection, statement, after, user, take).await? {
        after = id;
    }
    Ok(())
}

fn page_limit() -> i64 {
    i64::try_from(PAGE).unwrap_or(i64::MAX)
}

type Decode = fn(&MySqlRow) -> Result<Entry, sqlx::Error>;

/// Reads one page and answers its last entry when another may follow.
async fn page<'q, T>(
    connection: &mut MySqlConnection,
    statement: &'static str,
    after: T,
    decode: Decode,
    take: &mut (dyn FnMut(Entry) + Send),
) -> Result<Option<Entry>, StoreError>
where
    T: sqlx::Encode<'q, sqlx::MySql> + sqlx::Type<sqlx::MySql> + Send + 'q,
{
    let query = sqlx::query(statement).bind(after).bind(page_limit());
    let rows = within(TIMEOUT, query.fetch_all(connection)).await?;
    let mut last = None;
    for row in &rows {
        let entry = decode(row)?;
        last = Some(entry.clone());
        take(entry);
    }
    Ok(last.filter(|_| rows.len() == PAGE))
}

fn token(row: &MySqlRow) -> Result<Entry, sqlx::Error> {
    let hash = <[u8; 32]>::try_from(bytes(row, 0)?.as_slice())
        .map_err(|_| sqlx::Error::Decode("column token_hash does not hold 32 bytes".into()))?;
    Ok(Entry::Token(Fingerprint(hash), row.try_get(1)?))
}

fn user(row: &MySqlRow) -> Result<Entry, sqlx::Error> {
    let is_set = |column| row.try_get::<i64, _>(column).map(|value| value != 0);
    // A name that is not UTF-8 is in no token.
    let text = |column| {
        let bytes = row.try_get_unchecked::<Option<Vec<u8>>, _>(column)?;
        Ok::<_, sqlx::Error>(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    };
    let former = text(4)?.unwrap_or_default();
    Ok(Entry::User {
        id: row.try_get(0)?,
        generation: row.try_get(2)?,
        disabled: is_set(1)?,
        deleted: is_set(3)?,
        present: text(5)?,
        former: former.lines().map(str::to_owned).collect(),
    })
}

fn exists(row: &MySqlRow) -> Result<Entry, sqlx::Error> {
    row.try_get(0).map(Entry::Exists)
}

impl Store {
    /// Ends one token, which expires by itself at `expires_at`, in seconds since 1970.
    ///
    /// # Errors
    /// The database cannot or will not: the token has not surely ended.
    pub async fn revoke(&self, token: &Fingerprint, expires_at: i64) -> Result<(), StoreError> {
        persistently!({
            let revoke = sqlx::query(REVOKE).bind(token.0.to_vec()).bind(expires_at).execute(&self.pool);
            let revoke = within(ANSWER_TIMEOUT, revoke);
            statement("INSERT", "authservice_revoked_token", revoke).await.map(drop)
        })
    }

    /// Replaces a user's password, provided it is still the one that was verified, and ends the tokens
    /// issued until then, both or neither. Says whether it was.
    ///
    /// # Errors
    /// The database cannot or will not: nothing has surely changed.
    pub async fn change_password(&self, user: &UserRow, new: &str) -> Result<bool, StoreError> {
        persistently!(self.try_to_change_password(user, new).await)
    }

    async fn try_to_change_password(&self, user: &UserRow, new: &str) -> Result<bool, StoreError> {
        within(ACQUIRE_TIMEOUT + 2 * STATEMENT_TIMEOUT, async {
            // Several kilobytes, which every future around it would hold too.
            let mut transaction = command("BEGIN", Box::pin(self.pool.begin())).await?;
            let rehash = sqlx::query(REHASH).bind(new).bind(user.id).bind(user.password.as_bytes());
            let rehash = statement("UPDATE", "user", rehash.execute(&mut *transaction));
            if rehash.await?.rows_affected() == 0 {
                transaction.rollback().await?;
                return Ok(false);
            }
            raise(&mut transaction, user.id, &user.email).await?;
            command("COMMIT", transaction.commit()).await?;
            Ok(true)
        })
        .await
    }
}

/// Ends every token that a user has by now.
pub(super) async fn raise(connection: &mut MySqlConnection, id: i64, email: &str) -> Result<(), sqlx::Error> {
    let raise = sqlx::query(RAISE).bind(id).bind(email).execute(connection);
    statement("INSERT", "authservice_access", raise).await?;
    Ok(())
}
