//! Ended spans wait here to be sent. Nobody who ends one waits: a full queue drops it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::sync::mpsc;

/// Most spans that wait: a few megabytes.
pub(super) const CAPACITY: usize = 2048;

/// What became of the spans, for metrics.
#[derive(Debug, Default)]
pub struct Spans {
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Spans {
    /// Those that the collector took.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Those that it did not, for want of room in the queue, of time at the end, or of its consent.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn count_exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self, spans: u64) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
    }
}

/// Takes each span as it ends.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<SpanData>,
    spans: Arc<Spans>,
}

impl Queue {
    pub(super) fn new(sender: mpsc::Sender<SpanData>, spans: Arc<Spans>) -> Self {
        Self { sender, spans }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.sender.try_send(span).is_err() {
            self.spans.count_dropped(1);
        }
    }

    /// The exporter's task sees to both.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
