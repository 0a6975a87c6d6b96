//! What one connection is busy with.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    /// When the last request ended; `None` before the first has.
    ended: Option<Instant>,
}

/// A request in flight, until dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    /// Counts a request.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.state().in_flight += 1;
        InFlight(Arc::clone(self))
    }

    /// Whether a request has ever come.
    pub(super) fn has_begun(&self) -> bool {
        let state = self.state();
        state.in_flight > 0 || state.ended.is_some()
    }

    /// How long no request has been in flight; zero while one is.
    pub(super) fn idle(&self) -> Duration {
        let state = self.state();
        state.ended.filter(|_| state.in_flight == 0).map_or(Duration::ZERO, |ended| ended.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight -= 1;
        state.ended = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_the_end_of_its_last_request() {
        let activity = Arc::new(Activity::default());
        assert!(!activity.has_begun());
        let (first, second) = (activity.begin(), activity.begin());
        assert!(activity.has_begun());
        drop(first);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(activity.idle(), Duration::ZERO);
        drop(second);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(activity.idle(), Duration::from_secs(3));
        assert!(activity.has_begun());
    }
}
