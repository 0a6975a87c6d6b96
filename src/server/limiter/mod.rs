//! Login protection: failed logins lock an account, and a source where one is known, for a while.
//!
//! The failures are rows of one table, so that every pod counts the same and a restart forgets
//! nothing; the database's clock alone decides. A login that succeeds costs one read of it, a
//! failed one a write besides; a locked bucket costs neither for a second after it was seen. What
//! the database does not take is counted in memory, by each pod for itself.

mod bucket;
mod gate;
mod locks;
mod memory;
mod source;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::HeaderMap;

pub use self::bucket::{Bucket, Kind};
use self::{
    gate::{Gates, Pass},
    locks::Locks,
    memory::Memory,
};
use super::{
    config::LoginProtection,
    metrics::Metrics,
    store::{Standing, Store, StoreError},
};
use crate::contract::DatabaseFault;

/// A source may fail this many times as often as an account: people share addresses, and guesses
/// over many accounts are what it is there to slow.
pub const SOURCE_ALLOWANCE: u32 = 10;
/// Longest wait for guesses of the same bucket that are in flight.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// Between two cleanings of the table, give or take a fifth.
const CLEANING: Duration = Duration::from_mins(1);

/// When a bucket locks and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Failures that lock it.
    pub limit: u32,
    /// How long they count, from the first of them.
    pub window: Duration,
    /// How long it stays locked.
    pub lockout: Duration,
}

/// Why a login is not admitted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Too many failures.
    #[error("locked for another {} s", .0.as_secs())]
    Locked(Duration),
    /// Guesses at the same account did not end in time.
    #[error("too many logins of one account are in flight")]
    Crowded,
    /// The failures cannot be read.
    #[error(transparent)]
    Database(#[from] StoreError),
}

/// Decides which logins may be tried.
#[derive(Debug)]
pub struct Limiter {
    protection: LoginProtection,
    width: u32,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    gates: Arc<Gates>,
    locks: Locks,
    memory: Memory,
    /// The table takes our failures.
    shared: AtomicBool,
}

/// A login that may be tried. Dropped without an outcome it counts for nothing.
#[derive(Debug)]
pub struct Attempt {
    /// `None` when login protection is off.
    counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    limiter: Arc<Limiter>,
    account: Pass,
    source: Option<Pass>,
}

impl Limiter {
    /// No failures known. Of one bucket at most one guess more runs at a time than there are hashing
    /// threads, which keeps them busy; more would only wait.
    #[must_use]
    pub fn new(
        protection: LoginProtection,
        hashing_threads: usize,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            protection,
            width: u32::try_from(hashing_threads + 1).unwrap_or(u32::MAX).clamp(1, 1024),
            store,
            metrics,
            gates: Arc::default(),
            locks: Locks::default(),
            memory: Memory::default(),
            shared: AtomicBool::new(true),
        }
    }

    /// Where a request comes from, provided that trusted proxies say so.
    pub fn source(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        source::source(peer, headers, &self.protection.trusted_proxies)
    }

    /// Admits a login, after those of the same account that have to end first.
    ///
    /// # Errors
    /// The account or the source is locked, or that cannot be found out in time.
    pub async fn admit(self: &Arc<Self>, email: &str, source: Option<IpAddr>) -> Result<Attempt, Refusal> {
        if self.protection.max_failures == 0 {
            return Ok(Attempt { counted: None });
        }
        let (account, source) = (Bucket::account(email), source.map(Bucket::source));
        let deadline = (Instant::now() + MAX_WAIT).into();
        self.check_seen(account, source)?;
        let width = (self.protection.max_failures / 2).clamp(1, self.width);
        let pass = self.gates.enter(account, width, deadline).await;
        let mut account_pass = pass.ok_or(Refusal::Crowded)?;
        loop {
            let source_pass = match source {
                Some(source) => Some(self.enter_source(source, deadline).await?),
                None => None,
            };
            // One of those that were waited for may have been one too many.
            self.check_seen(account, source)?;
            account_pass.learn(self.read(account, source).await? > 0);
            if !account_pass.is_crowded() {
                let limiter = Arc::clone(self);
                let counted = Counted { limiter, account: account_pass, source: source_pass };
                return Ok(Attempt { counted: Some(counted) });
            }
            // Nobody waits for an account while holding a place that its holder may wait for.
            drop(source_pass);
            account_pass = account_pass.alone(deadline).await.ok_or(Refusal::Crowded)?;
        }
    }

    /// A source has as many places as are hashed at a time, whatever it has failed: its users must
    /// not wait for each other.
    async fn enter_source(&self, source: Bucket, deadline: tokio::time::Instant) -> Result<Pass, Refusal> {
        let mut pass = self.gates.enter(source, self.width, deadline).await.ok_or(Refusal::Crowded)?;
        pass.learn(false);
        Ok(pass)
    }

    /// Cleans the table for as long as the server runs.
    pub async fn clean(&self) {
        loop {
            tokio::time::sleep(CLEANING.mul_f64(rand::random_range(0.8..1.2))).await;
            match self.store.clean_failures().await {
                Ok(locked) => self.metrics.locked_buckets(locked),
                // Another pod cleans it at the same time, or nobody can.
                Err(error) => tracing::debug!(%error, "the table of failed logins was not cleaned"),
            }
        }
    }

    fn rule(&self, kind: Kind) -> Rule {
        let LoginProtection { max_failures, window, lockout, .. } = self.protection;
        let allowance = if kind == Kind::Source { SOURCE_ALLOWANCE } else { 1 };
        Rule { limit: max_failures * allowance, window, lockout }
    }

    /// Refuses what was seen locked a moment ago.
    fn check_seen(&self, account: Bucket, source: Option<Bucket>) -> Result<(), Refusal> {
        for bucket in [Some(account), source].into_iter().flatten() {
            if let Some(left) = self.locks.left(&bucket, Instant::now()) {
                return Err(self.locked(bucket, left));
            }
        }
        Ok(())
    }

    /// The failures of the account; refuses when it or the source is locked.
    async fn read(&self, account: Bucket, source: Option<Bucket>) -> Result<u32, Refusal> {
        let shared = match self.store.standings(account, source).await {
            Ok(standings) => standings,
            Err(error) if is_limit(&error) => {
                self.counts_alone(&error);
                [Standing::default(); 2]
            }
            Err(error) => return Err(error.into()),
        };
        let mut failures = 0;
        for (bucket, shared) in [Some(account), source].into_iter().zip(shared) {
            let Some(bucket) = bucket else { continue };
            let now = Instant::now();
            let own = self.memory.standing(&bucket, now);
            if let Some(left) = shared.locked_for.max(own.locked_for) {
                self.locks.note(bucket, left, now);
                return Err(self.locked(bucket, left));
            }
            if bucket.kind() == Kind::Account {
                failures = shared.failures + own.failures;
            }
        }
        Ok(failures)
    }

    fn locked(&self, bucket: Bucket, left: Duration) -> Refusal {
        self.metrics.login_locked_out(bucket.kind());
        Refusal::Locked(left)
    }

    /// Counts a failure of a bucket, and says once when that locks it.
    async fn record(&self, bucket: Bucket, user_id: Option<i64>) {
        let rule = self.rule(bucket.kind());
        let failures = match self.store.record_failure(bucket, &rule).await {
            Ok(failures) => {
                if !self.shared.swap(true, Ordering::Relaxed) {
                    tracing::info!("failed logins are counted in the database again");
                }
                failures
            }
            Err(error) => {
                self.store.note_refused_write(&error);
                self.counts_alone(&error);
                self.memory.record(bucket, &rule, Instant::now())
            }
        };
        self.metrics.login_failures_shared(self.shared.load(Ordering::Relaxed));
        if failures >= rule.limit && self.locks.note(bucket, rule.lockout, Instant::now()) {
            tracing::warn!(
                kind = bucket.kind().name(),
                %bucket,
                user_id,
                failures,
                seconds = rule.lockout.as_secs(),
                "locked after too many failed logins"
            );
        }
    }

    fn counts_alone(&self, error: &StoreError) {
        if self.shared.swap(false, Ordering::Relaxed) {
            tracing::warn!(%error, "failed logins are counted by this pod alone");
        }
        self.metrics.login_failures_shared(false);
    }
}

/// Why an account cannot be unlocked.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// Each pod has its own count.
    #[error(
        "the database keeps no failed logins ({0}), so each pod counts on its own: restart the pods to unlock"
    )]
    CountedAlone(StoreError),
    /// The database cannot answer.
    #[error("the database cannot answer: {0}")]
    Database(StoreError),
}

/// Forgets the failures of an account, its lock included; answers how many counted.
///
/// # Errors
/// The database cannot or does not keep them.
pub async fn unlock(store: &Store, email: &str) -> Result<u32, UnlockError> {
    let account = Bucket::account(email);
    let unlocked = async {
        let [standing, _] = store.standings(account, None).await?;
        store.unlock(account).await?;
        Ok(standing.failures)
    };
    unlocked.await.map_err(|error| {
        if is_limit(&error) { UnlockError::CountedAlone(error) } else { UnlockError::Database(error) }
    })
}

/// Whether the database works and merely lacks our table or a right on it.
fn is_limit(error: &StoreError) -> bool {
    matches!(
        error.fault,
        DatabaseFault::GrantMissing | DatabaseFault::SchemaMissing | DatabaseFault::SchemaIncompatible
    )
}

impl Attempt {
    /// The password was wrong, or the account unknown. Returns once that is counted.
    pub async fn failed(self, user_id: Option<i64>) {
        let Some(Counted { limiter, mut account, source }) = self.counted else { return };
        let account_recorded = limiter.record(account.bucket(), user_id);
        match &source {
            Some(source) => {
                tokio::join!(account_recorded, limiter.record(source.bucket(), None));
            }
            None => account_recorded.await,
        }
        account.learn(true);
    }

    /// The password was right: the account's failures are forgotten, the source's are not, or one
    /// known password would pay for guesses at all others.
    pub async fn succeeded(self) {
        let Some(Counted { limiter, mut account, .. }) = self.counted else { return };
        if !account.has_failed() {
            return;
        }
        limiter.memory.forget(&account.bucket());
        match limiter.store.forget_failures(account.bucket()).await {
            Ok(()) => account.learn(false),
            Err(error) => tracing::warn!(%error, "failed logins before a good one could not be forgotten"),
        }
    }
}
