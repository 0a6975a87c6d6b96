//! One line of the log and one count for each attempt to log in or to change a password, whatever
//! becomes of it.
//!
//! The line never holds an e-mail: one that no account has may be a password typed into the wrong
//! field, and for one that exists the account's id says as much.

use std::fmt::Display;

use axum::http::HeaderMap;

use super::trace_context::Ids;
use crate::server::metrics::{AttemptOutcome, Event, Metrics};

/// An attempt; it is told when this is dropped, so that a client that does not wait for its answer is
/// told about too.
pub(super) struct Attempt<'a> {
    event: Event,
    metrics: &'a Metrics,
    ids: Ids,
    /// The account's id, once one was found.
    pub(super) user_id: Option<i64>,
    outcome: AttemptOutcome,
    error: Option<String>,
}

impl<'a> Attempt<'a> {
    /// An attempt that begins with these headers.
    pub(super) fn begin(event: Event, metrics: &'a Metrics, headers: &HeaderMap) -> Self {
        let outcome = AttemptOutcome::Abandoned;
        Self { event, metrics, ids: Ids::of(headers), user_id: None, outcome, error: None }
    }

    /// Tells what became of it; an error is told in words only where it is ours.
    pub(super) fn end(mut self, outcome: AttemptOutcome, error: Option<&impl Display>) {
        self.outcome = outcome;
        self.error = error.filter(|_| outcome.is_our_fault()).map(ToString::to_string);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.metrics.attempted(self.event, self.outcome);
        let (event, outcome, user_id) = (self.event.name(), self.outcome.name(), self.user_id);
        let (trace_id, span_id) = self.ids.fields();
        match self.error.as_deref() {
            None => tracing::info!(event, outcome, user_id, trace_id, span_id, "{event}"),
            Some(error) => {
                tracing::warn!(event, outcome, user_id, trace_id, span_id, error, "{event} not served");
            }
        }
    }
}
