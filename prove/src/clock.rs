//! Simulated time: the wall clock follows tokio's paused one, and each holder's can jump.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A wall clock of one of the machines.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Timestamp,
    started: Instant,
    skew_seconds: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that shows `origin` now.
    #[must_use]
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { origin, started: Instant::now(), skew_seconds: Arc::default() }
    }

    /// The clock of another machine, right at first.
    #[must_use]
    pub fn of_another_machine(&self) -> Self {
        Self { skew_seconds: Arc::default(), ..self.clone() }
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let skew = SignedDuration::from_secs(self.skew_seconds.load(Ordering::Relaxed));
        let shown = self.origin.checked_add(self.started.elapsed()).and_then(|time| time.checked_add(skew));
        shown.unwrap_or(Timestamp::MAX)
    }

    /// Puts it this far before the right time, or behind.
    pub fn jump(&self, seconds: i64) {
        self.skew_seconds.store(seconds, Ordering::Relaxed);
    }

    /// Time since it started, whatever jumps there were.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
