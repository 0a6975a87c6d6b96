//! One line of the log and one count for each login attempt, whatever becomes of it.
//!
//! The line never holds an e-mail: one that no account has may be a password typed into the wrong
//! field, and for one that exists the account's id says as much.

use axum::http::HeaderMap;

use super::trace_context::TraceId;
use crate::server::metrics::{LoginOutcome, Metrics};

/// A login attempt; it is told when this is dropped, so that a client that does not wait for its
/// answer is told about too.
pub(super) struct Attempt<'a> {
    metrics: &'a Metrics,
    trace: Option<TraceId>,
    /// The account's id, once one was found.
    pub(super) user_id: Option<i64>,
    /// [`LoginOutcome::Abandoned`] until another is known.
    pub(super) outcome: LoginOutcome,
    /// What is wrong on our side, if that is why the attempt was not served.
    pub(super) error: Option<String>,
}

impl<'a> Attempt<'a> {
    /// An attempt that begins with these headers.
    pub(super) fn begin(metrics: &'a Metrics, headers: &HeaderMap) -> Self {
        let outcome = LoginOutcome::Abandoned;
        Self { metrics, trace: TraceId::of(headers), user_id: None, outcome, error: None }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.metrics.logged_in(self.outcome);
        let (outcome, user_id) = (self.outcome.name(), self.user_id);
        let trace_id = self.trace.map(tracing::field::display);
        match self.error.as_deref() {
            None => tracing::info!(event = "login", outcome, user_id, trace_id, "login"),
            Some(error) => {
                tracing::warn!(event = "login", outcome, user_id, trace_id, error, "login not served");
            }
        }
    }
}
