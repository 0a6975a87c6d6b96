//! Tokens that end before their time. `/validate` asks a list in memory and never waits; a task reads
//! the list from the database, so that what one pod ends is over on every other within the lag.

mod list;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

pub use self::list::{Full, List};
use super::{
    config::{Database, RevocationPolicy, WithoutRevocations},
    keys::unix_now,
    store::{Store, StoreError, revocations::Reader},
    tokens::{Fingerprint, Identity},
};

/// Between two reads of everything. Those between read what changed within the last ten minutes.
const FULL_PERIOD: Duration = Duration::from_mins(10);
/// Least time between two reads that were asked for.
const LEAST_PAUSE: Duration = Duration::from_millis(500);
/// Under [`WithoutRevocations::Refuse`] a list older than this and six lags is too old.
const LEAST_BOUND: Duration = Duration::from_mins(1);

/// How the list stands to the database.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Not read yet, since the server started at this instant.
    Unread(Instant),
    /// The database has no tables for it: the list is empty and ends nothing.
    Off,
    /// As of this instant.
    Read(Instant),
}

/// The list, and the reading of it.
#[derive(Debug)]
pub struct Revocations {
    policy: RevocationPolicy,
    list: List,
    state: Mutex<State>,
    failing: AtomicBool,
    wanted: Notify,
    source: tokio::sync::Mutex<Source>,
}

#[derive(Debug)]
struct Source {
    reader: Reader,
    last_full: Option<Instant>,
    /// Since the last full read there may be expired rows to delete.
    may_prune: bool,
}

impl Revocations {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(database: &Database, policy: RevocationPolicy) -> Self {
        Self {
            policy,
            list: List::default(),
            state: Mutex::new(State::Unread(Instant::now())),
            failing: AtomicBool::new(false),
            wanted: Notify::new(),
            source: tokio::sync::Mutex::new(Source {
                reader: Reader::new(database),
                last_full: None,
                may_prune: false,
            }),
        }
    }

    /// Whether this token has ended.
    #[must_use]
    pub fn ends(&self, token: &Identity) -> bool {
        self.list.ends(token)
    }

    /// Whether so long nothing was read that `/validate` is to answer nothing any more.
    #[must_use]
    pub fn is_too_old(&self) -> bool {
        let bound = LEAST_BOUND.max(6 * self.policy.lag);
        match (self.policy.unavailable, self.state()) {
            (WithoutRevocations::Accept, _) | (_, State::Off) => false,
            (WithoutRevocations::Refuse, State::Unread(_)) => true,
            (WithoutRevocations::Refuse, State::Read(at)) => at.elapsed() > bound,
        }
    }

    /// Whether a pod must not become ready yet.
    #[must_use]
    pub fn are_waited_for(&self) -> bool {
        self.policy.unavailable == WithoutRevocations::Refuse && matches!(self.state(), State::Unread(_))
    }

    /// How old the list is; counted from the start when it was never read, `None` where it is off.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        match self.state() {
            State::Off => None,
            State::Unread(at) | State::Read(at) => Some(at.elapsed()),
        }
    }

    /// How many tokens that have not expired are listed one by one.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.list.tokens()
    }

    /// Whether more tokens or users have ended than the list can hold.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.list.is_full()
    }

    /// Ends a token here, before the database tells every other pod.
    ///
    /// # Errors
    /// The list is full.
    pub fn note(&self, token: &Fingerprint, expires_at: i64) -> Result<(), Full> {
        self.list.note(token, expires_at, unix_now())
    }

    /// Asks for a read at once, because this pod has changed something.
    pub fn read_soon(&self) {
        self.wanted.notify_one();
    }

    /// Reads everything unless that was done already; takes note when there is nothing to read.
    pub async fn read_first(&self, has_ours: bool) {
        match self.state() {
            State::Read(_) => {}
            State::Unread(_) | State::Off if has_ours => self.tell(&self.read().await),
            State::Unread(_) | State::Off => self.set(State::Off),
        }
    }

    /// Reads again and again. Without tables of ours there is nothing to read until they appear.
    pub async fn follow(&self, store: &Store) {
        loop {
            let pause = self.policy.lag.mul_f64(rand::random_range(0.8..1.0)).saturating_sub(LEAST_PAUSE);
            let _ = tokio::time::timeout(pause, self.wanted.notified()).await;
            if store.has_ours() {
                self.tell(&self.read().await);
            }
            // However many changes this pod makes, it reads them together.
            tokio::time::sleep(LEAST_PAUSE).await;
        }
    }

    /// Reads what changed lately or, when that is due, everything. A read that fails leaves the list
    /// as it is.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn read(&self) -> Result<(), StoreError> {
        let mut source = self.source.lock().await;
        let start = Instant::now();
        if source.last_full.is_none_or(|last| last.elapsed() >= FULL_PERIOD) {
            self.list.replace(&mut source.reader, unix_now()).await?;
            source.last_full = Some(start);
            source.may_prune = true;
        } else {
            self.list.add_recent(&mut source.reader, unix_now()).await?;
        }
        self.set(State::Read(start));
        // Rows that have expired hurt nobody, so the list never waits for more than one page of them.
        if source.may_prune {
            source.may_prune = source.reader.prune().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "expired revocations are still in the database");
                false
            });
        }
        Ok(())
    }

    fn tell(&self, outcome: &Result<(), StoreError>) {
        if self.failing.swap(outcome.is_err(), Ordering::Relaxed) == outcome.is_err() {
            return;
        }
        match outcome {
            Ok(()) => tracing::info!("revocations are read again"),
            Err(error) => tracing::warn!(%error, "revocations cannot be read; keeping those last read"),
        }
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}
