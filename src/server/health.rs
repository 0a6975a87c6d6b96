//! Whether this pod is ready, and what it last saw of its database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{
    config::Database,
    metrics::Metrics,
    revocation::Revocations,
    store::{Seen, Store, StoreError, Watch},
};
use crate::contract::{DatabaseFault, DatabaseStatus};

/// Between two looks at the database.
const PERIOD: Duration = Duration::from_secs(5);
/// Between two looks of a pod that is not ready, at first.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// How long a database that cannot be reached delays readiness.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// What readiness and status are made of.
#[derive(Debug)]
pub struct Health {
    draining: AtomicBool,
    settled: AtomicBool,
    database: ArcSwap<DatabaseStatus>,
}

impl Health {
    /// Not ready yet; nothing seen of the database.
    #[must_use]
    pub fn new(account: &str) -> Self {
        let status = DatabaseStatus {
            account: account.to_owned(),
            version: None,
            schema_version: 0,
            fault: None,
            error: None,
        };
        Self {
            draining: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            database: ArcSwap::from_pointee(status),
        }
    }

    /// Why the pod is not ready; `None` when it is.
    #[must_use]
    pub fn unready_because(&self) -> Option<String> {
        if self.is_draining() {
            return Some("draining".to_owned());
        }
        if self.settled.load(Ordering::Acquire) {
            return None;
        }
        let database = self.database.load();
        Some(match &database.error {
            Some(error) => format!("waiting for the database: {error}"),
            None => "waiting for the database".to_owned(),
        })
    }

    /// Whether the pod is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Makes the pod unready for good.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// What was last seen of the database.
    #[must_use]
    pub fn database(&self) -> Arc<DatabaseStatus> {
        self.database.load_full()
    }

    fn note(&self, look: &Result<Seen, StoreError>) {
        let before = self.database.load_full();
        let now = match look {
            Ok(seen) => DatabaseStatus {
                account: before.account.clone(),
                version: Some(seen.version.clone()),
                schema_version: seen.schema_version,
                fault: None,
                error: None,
            },
            Err(error) => DatabaseStatus {
                fault: Some(error.fault),
                error: Some(error.words.clone()),
                ..(*before).clone()
            },
        };
        if now.fault != before.fault {
            match look {
                Ok(seen) => tracing::info!(
                    version = seen.version,
                    schema_version = seen.schema_version,
                    "the database answers"
                ),
                Err(error) => {
                    tracing::warn!(fault = ?error.fault, %error, "the database does not serve as it should");
                }
            }
        }
        self.database.store(Arc::new(now));
    }
}

/// Looks at the database for as long as the server runs. The first good look makes the pod ready.
/// A database that refuses us keeps it unready, so that a bad change never replaces good pods; one
/// that cannot be reached does so for 30 s, since tokens can be verified without it. What was revoked
/// is read before. Afterwards nothing here makes the pod unready: an outage must not empty the Service.
pub async fn watch_database(
    database: Database,
    health: Arc<Health>,
    store: Arc<Store>,
    revocations: Arc<Revocations>,
    metrics: Arc<Metrics>,
    started: Instant,
) {
    let mut watch = Watch::new(&database);
    let mut refused = false;
    let mut pause = FIRST_RETRY;
    loop {
        let look = watch.look().await;
        match &look {
            Ok(seen) => {
                refused = false;
                if seen.schema_version > 0 {
                    store.note_ours();
                }
                revocations.read_first(seen.schema_version > 0).await;
            }
            Err(error) if is_refusal(error.fault) => refused = true,
            Err(_) => {}
        }
        let told = match (&look, store.lacking_room()) {
            (Ok(_), Some(error)) => &Err(error),
            _ => &look,
        };
        health.note(told);
        metrics.database_up(look.is_ok());
        let unreachable_for_long = !refused && started.elapsed() >= LONGEST_DELAY;
        let may_settle = (look.is_ok() || unreachable_for_long) && !revocations.are_waited_for();
        if may_settle && !health.settled.swap(true, Ordering::AcqRel) {
            tracing::info!(database = look.is_ok(), after_seconds = started.elapsed().as_secs_f64(), "ready");
        }
        pause = if health.settled.load(Ordering::Acquire) { PERIOD } else { (pause * 2).min(PERIOD / 2) };
        let jitter = pause.mul_f64(rand::random_range(0.8..1.0));
        tokio::time::sleep(jitter).await;
    }
}

fn is_refusal(fault: DatabaseFault) -> bool {
    match fault {
        DatabaseFault::DatabaseUnreachable | DatabaseFault::DatabaseError => false,
        DatabaseFault::CredentialsRejected
        | DatabaseFault::GrantMissing
        | DatabaseFault::SchemaMissing
        | DatabaseFault::SchemaOutdated
        | DatabaseFault::SchemaIncompatible => true,
    }
}
