//! Logs for both binaries: one JSON object a line, or a readable form on a terminal.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// Quiets what could print a Secret: the Kubernetes client logs an answer it cannot decode as a whole.
const NEVER: &str = "kube_client::client=error";

/// Starts logging to standard error. The filter is `RUST_LOG`, by default `info`; a filter that
/// cannot be parsed falls back to the default and says so in the first line.
pub fn init() {
    let requested = std::env::var(crate::contract::env::RUST_LOG).ok();
    let parsed = requested.as_deref().map(EnvFilter::try_new);
    let (filter, fault) = match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new("info"), Some(error)),
        None => (EnvFilter::new("info"), None),
    };
    let filter = match NEVER.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    if stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
    }
    if let Some(error) = fault {
        tracing::warn!(%error, "RUST_LOG cannot be parsed; logging at level info");
    }
}
