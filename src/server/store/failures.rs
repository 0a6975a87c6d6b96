//! Failed logins, counted by all pods together.
//!
//! A row is a bucket with failures: until `ends_at` they count, or, once `locked`, nobody gets in.
//! A row that has ended means nothing and is deleted by whoever cleans next. Times are UTC, so that
//! no change of summer time moves them, and the database's own, so that no pod's clock matters.

use std::time::Duration;

use sqlx::Row;

use super::{ANSWER_TIMEOUT, Store, StoreError, bytes, persistently, within};
use crate::server::{
    limiter::{Bucket, Rule},
    traces::statement,
};

/// The table, as spans name it.
const TABLE: &str = "authservice_login_failure";

const STANDINGS: &str = "SELECT bucket, CAST(failures AS SIGNED), \
     CAST(IF(locked, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(3), ends_at), 0) AS SIGNED) \
     FROM `authservice_login_failure` WHERE bucket IN (?, ?) AND ends_at > UTC_TIMESTAMP(3)";

/// Assignments happen from left to right, so the later ones see the new count. `LAST_INSERT_ID` hands
/// it back without another statement.
const RECORD: &str = "INSERT INTO `authservice_login_failure` (bucket, failures, locked, ends_at) \
     VALUES (?, LAST_INSERT_ID(1), ?, UTC_TIMESTAMP(3) + INTERVAL ? SECOND) ON DUPLICATE KEY UPDATE \
     failures = LAST_INSERT_ID(IF(ends_at > UTC_TIMESTAMP(3), failures + 1, 1)), \
     locked = (failures > 1 AND locked) OR failures >= ?, \
     ends_at = CASE WHEN locked THEN UTC_TIMESTAMP(3) + INTERVAL ? SECOND \
     WHEN failures = 1 THEN UTC_TIMESTAMP(3) + INTERVAL ? SECOND ELSE ends_at END";

/// A lock that came about while the right password was being hashed stays.
const FORGET: &str = "DELETE FROM `authservice_login_failure` WHERE bucket = ? AND NOT locked";
const UNLOCK: &str = "DELETE FROM `authservice_login_failure` WHERE bucket = ?";

/// Most rows kept: each takes a hash to make, but a long lockout and a patient attacker would fill
/// the volume with them.
const MAX_ROWS: i64 = 200_000;
/// Rows deleted by one statement, few enough to hold up no login.
const BATCH: u64 = 1000;
/// The end of the first row beyond [`MAX_ROWS`], counted from those that end last.
const EXCESS: &str =
    "SELECT CAST(ends_at AS CHAR) FROM `authservice_login_failure` ORDER BY ends_at DESC LIMIT 1 OFFSET ?";
const CLEAN: &str = "DELETE FROM `authservice_login_failure` \
     WHERE ends_at <= GREATEST(UTC_TIMESTAMP(3), COALESCE(CAST(? AS DATETIME(3)), UTC_TIMESTAMP(3))) ORDER BY ends_at LIMIT 1000";
const LOCKED: &str =
    "SELECT COUNT(*) FROM `authservice_login_failure` WHERE locked AND ends_at > UTC_TIMESTAMP(3)";

/// How a bucket stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Failures that count.
    pub failures: u32,
    /// How long it is locked for.
    pub locked_for: Option<Duration>,
}

impl Store {
    /// How an account and a source stand, in this order.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn standings(
        &self,
        account: Bucket,
        source: Option<Bucket>,
    ) -> Result<[Standing; 2], StoreError> {
        let keys = [account, source.unwrap_or(account)];
        let query = sqlx::query(STANDINGS).bind(keys[0].key().as_slice()).bind(keys[1].key().as_slice());
        let read = within(ANSWER_TIMEOUT, query.fetch_all(&self.pool));
        let rows = statement("SELECT", TABLE, read).await?;
        let mut standings = [Standing::default(); 2];
        for row in &rows {
            let standing = Standing {
                failures: u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX),
                locked_for: u64::try_from(row.try_get::<i64, _>(2)?)
                    .ok()
                    .filter(|left| *left > 0)
                    .map(Duration::from_micros),
            };
            let found = bytes(row, 0)?;
            for (key, place) in keys.iter().zip(&mut standings) {
                if key.key().as_slice() == found {
                    *place = standing;
                }
            }
        }
        Ok(standings)
    }

    /// Counts a failure; the number of them, with which the bucket is locked from the rule's limit on.
    ///
    /// # Errors
    /// The database cannot or will not.
    pub async fn record_failure(&self, bucket: Bucket, rule: &Rule) -> Result<u32, StoreError> {
        let (window, lockout) = (rule.window.as_secs(), rule.lockout.as_secs());
        let locks_at_once = rule.limit <= 1;
        let done = persistently!({
            let record = sqlx::query(RECORD)
                .bind(bucket.key().as_slice())
                .bind(locks_at_once)
                .bind(if locks_at_once { lockout } else { window })
                .bind(rule.limit)
                .bind(lockout)
                .bind(window);
            statement("INSERT", TABLE, within(ANSWER_TIMEOUT, record.execute(&self.pool))).await
        });
        Ok(u32::try_from(done?.last_insert_id()).unwrap_or(u32::MAX))
    }

    /// Forgets the failures of a bucket that is not locked.
    ///
    /// # Errors
    /// The database cannot or will not.
    pub async fn forget_failures(&self, bucket: Bucket) -> Result<(), StoreError> {
        self.delete(FORGET, bucket).await
    }

    /// Forgets the failures of a bucket, its lock included.
    ///
    /// # Errors
    /// The database cannot or will not.
    pub async fn unlock(&self, bucket: Bucket) -> Result<(), StoreError> {
        self.delete(UNLOCK, bucket).await
    }

    async fn delete(&self, which: &'static str, bucket: Bucket) -> Result<(), StoreError> {
        persistently!({
            let delete = sqlx::query(which).bind(bucket.key().as_slice()).execute(&self.pool);
            statement("DELETE", TABLE, within(ANSWER_TIMEOUT, delete)).await.map(drop)
        })
    }

    /// Deletes what has ended and what is too much; the number of buckets that are locked.
    ///
    /// # Errors
    /// The database cannot or will not.
    pub async fn clean_failures(&self) -> Result<i64, StoreError> {
        let excess =
            within(ANSWER_TIMEOUT, sqlx::query(EXCESS).bind(MAX_ROWS).fetch_optional(&self.pool)).await?;
        let excess = excess.as_ref().map(|row| super::text(row, 0)).transpose()?;
        loop {
            let statement = sqlx::query(CLEAN).bind(excess.as_deref()).execute(&self.pool);
            if within(ANSWER_TIMEOUT, statement).await?.rows_affected() < BATCH {
                break;
            }
        }
        let row = within(ANSWER_TIMEOUT, sqlx::query(LOCKED).fetch_one(&self.pool)).await?;
        Ok(row.try_get(0)?)
    }
}
