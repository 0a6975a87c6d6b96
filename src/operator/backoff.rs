//! How long a failing object waits: exponential for each object, so that one broken resource costs
//! the API server little and delays no other.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{context::ObjectKey, surroundings::Surroundings};

/// The first wait after a failure.
pub const FIRST: Duration = Duration::from_secs(1);
/// The first wait after a run that met somebody else's change.
pub const AGAIN: Duration = Duration::from_millis(100);
/// The longest wait, reached after nine failures in a row when the first is [`FIRST`].
pub const LONGEST: Duration = Duration::from_mins(5);

/// Failures in a row for each object.
#[derive(Debug)]
pub struct Backoff {
    surroundings: Surroundings,
    first: Duration,
    entries: Mutex<HashMap<ObjectKey, Entry>>,
}

#[derive(Debug)]
struct Entry {
    failures: u32,
    /// What failed last, when failures are counted by name, and when it may be tried again.
    last: Option<(String, Instant)>,
}

impl Backoff {
    /// No failures yet; the first will wait so long.
    #[must_use]
    pub fn new(surroundings: Surroundings, first: Duration) -> Self {
        Self { surroundings, first, entries: Mutex::default() }
    }

    /// Counts one failure and answers how long to wait: the first wait, doubled with each failure in a
    /// row, at most 5 min, less up to a quarter so that objects which failed together spread out.
    pub fn failed(&self, key: &ObjectKey) -> Duration {
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_insert(Entry { failures: 0, last: None });
        entry.failures = entry.failures.saturating_add(1);
        self.surroundings.jittered(nominal(self.first, entry.failures))
    }

    /// Counts the failure named `failure` (the uid of a failed Job, for one) the first time it is
    /// seen, and answers how much of its wait is left: zero once it may be tried again.
    pub fn remaining(&self, key: &ObjectKey, failure: &str) -> Duration {
        let now = Instant::now();
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_insert(Entry { failures: 0, last: None });
        if let Some((last, due)) = &entry.last
            && last == failure
        {
            return due.saturating_duration_since(now);
        }
        entry.failures = entry.failures.saturating_add(1);
        let wait = self.surroundings.jittered(nominal(self.first, entry.failures));
        entry.last = Some((failure.to_owned(), now + wait));
        wait
    }

    /// Forgets the object's failures: it succeeded, or it is gone.
    pub fn reset(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    /// Objects with failures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no object has failures.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wait after this many failures in a row, before jitter.
fn nominal(first: Duration, failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    first.saturating_mul(doubled).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::operator::poller::HttpPods;

    fn backoff() -> Backoff {
        Backoff::new(Surroundings::of_system(Arc::new(HttpPods::default())), FIRST)
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "market".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn waits_double_from_one_second_to_five_minutes() {
        let waits: Vec<u64> = (1..=11).map(|failures| nominal(FIRST, failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(nominal(FIRST, u32::MAX), LONGEST);
        assert_eq!(nominal(AGAIN, 4), Duration::from_millis(800));
    }

    #[test]
    fn a_success_starts_over_and_leaves_no_entry() {
        let backoff = backoff();
        for _ in 0..6 {
            backoff.failed(&key("gate"));
        }
        assert!(backoff.failed(&key("gate")) > Duration::from_secs(40));
        backoff.reset(&key("gate"));
        assert!(backoff.is_empty());
        assert!(backoff.failed(&key("gate")) <= FIRST);
    }

    #[test]
    fn objects_do_not_share_failures() {
        let backoff = backoff();
        for _ in 0..6 {
            backoff.failed(&key("gate"));
        }
        assert!(backoff.failed(&key("door")) <= FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_named_failure_counts_once_and_is_due_after_its_wait() {
        let backoff = backoff();
        let first = backoff.remaining(&key("gate"), "job-1");
        assert!(first > Duration::ZERO && first <= FIRST);
        assert_eq!(backoff.remaining(&key("gate"), "job-1"), first);
        tokio::time::advance(first).await;
        assert_eq!(backoff.remaining(&key("gate"), "job-1"), Duration::ZERO);
        let second = backoff.remaining(&key("gate"), "job-2");
        assert!(second >= Duration::from_millis(1500) && second <= Duration::from_secs(2));
    }
}
