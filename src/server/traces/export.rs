//! The task that sends spans: in batches, one at a time, again while the collector is away.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use prost::Message;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    collector::{SendError, send},
    queue::Spans,
};
use crate::contract::Collector;

/// Most spans of one request.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHERING: Duration = Duration::from_secs(1);
/// Pauses after failures grow from this, by halves of themselves at random, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sends spans to a collector.
pub(super) struct Exporter {
    collector: Collector,
    resource: ResourceAttributesWithSchema,
    spans: Arc<Spans>,
    /// Whether the last request failed, which is told when it changes.
    is_failing: bool,
}

/// Spans as they are sent; dropped, they are counted as such.
struct Batch {
    content: Bytes,
    size: u64,
    spans: Arc<Spans>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.spans.count_dropped(self.size);
    }
}

impl Exporter {
    pub(super) fn new(collector: Collector, resource: &Resource, spans: Arc<Spans>) -> Self {
        Self { collector, resource: resource.into(), spans, is_failing: false }
    }

    /// Sends what comes until the server ends, then what is left.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<SpanData>, ending: CancellationToken) {
        let mut gathered = Vec::with_capacity(BATCH);
        while !ending.is_cancelled() {
            tokio::select! {
                () = ending.cancelled() => {}
                () = gather(&mut queue, &mut gathered) => {}
            }
            self.deliver(&mut gathered, &ending).await;
        }
        queue.close();
        loop {
            while gathered.len() < BATCH
                && let Ok(span) = queue.try_recv()
            {
                gathered.push(span);
            }
            if gathered.is_empty() {
                return;
            }
            self.deliver(&mut gathered, &ending).await;
            if self.is_failing {
                self.spans.count_dropped(u64::try_from(queue.len()).unwrap_or_default());
                return;
            }
        }
    }

    /// Sends the batch, again and again until it is taken, can never be taken, or the server ends.
    async fn deliver(&mut self, gathered: &mut Vec<SpanData>, ending: &CancellationToken) {
        if gathered.is_empty() {
            return;
        }
        let mut batch = self.batch(std::mem::replace(gathered, Vec::with_capacity(BATCH)));
        let mut pause = FIRST_PAUSE;
        loop {
            let sent = send(&self.collector, batch.content.clone()).await;
            self.tell(sent.as_ref().err());
            match sent {
                Ok(unwanted) => {
                    let unwanted = unwanted.min(batch.size);
                    self.spans.count_exported(batch.size - unwanted);
                    batch.size = unwanted;
                    return;
                }
                Err(error) if !error.may_pass() || ending.is_cancelled() => return,
                Err(_) => {}
            }
            tokio::select! {
                () = ending.cancelled() => {}
                () = sleep(pause.mul_f64(rand::random_range(0.5..1.0))) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn batch(&self, spans: Vec<SpanData>) -> Batch {
        let size = u64::try_from(spans.len()).unwrap_or_default();
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let content = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        Batch { content: content.into(), size, spans: Arc::clone(&self.spans) }
    }

    /// Says once that spans do not arrive, and once that they do again.
    fn tell(&mut self, error: Option<&SendError>) {
        let (was, collector) = (std::mem::replace(&mut self.is_failing, error.is_some()), &self.collector);
        match error {
            Some(error) if !was => {
                tracing::warn!(collector = collector.authority, %error, "traces do not reach their collector");
            }
            None if was => {
                tracing::info!(collector = collector.authority, "traces reach their collector again");
            }
            _ => {}
        }
    }
}

/// Waits for a span, and for others with it for a moment. What was gathered stays when this is dropped.
async fn gather(queue: &mut mpsc::Receiver<SpanData>, gathered: &mut Vec<SpanData>) {
    if gathered.is_empty() && queue.recv_many(gathered, BATCH).await == 0 {
        // Nobody is left who could end a span.
        return std::future::pending().await;
    }
    let end = Instant::now() + GATHERING;
    while gathered.len() < BATCH {
        let more = queue.recv_many(gathered, BATCH - gathered.len());
        if !matches!(timeout_at(end, more).await, Ok(1..)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        net::SocketAddr,
        sync::{Mutex, PoisonError},
    };

    use axum::{Router, http::StatusCode, routing::post};
    use opentelemetry::{
        InstrumentationScope,
        trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
    };
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };

    use super::*;

    fn span(number: u8) -> SpanData {
        let ids = (TraceId::from_bytes([7; 16]), SpanId::from_bytes([number; 8]));
        SpanData {
            span_context: SpanContext::new(ids.0, ids.1, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: "test".into(),
            start_time: std::time::UNIX_EPOCH,
            end_time: std::time::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: opentelemetry_sdk::trace::SpanEvents::default(),
            links: opentelemetry_sdk::trace::SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    /// How many spans each request to a collector had, which answers with these, then with 200.
    type Sizes = Arc<Mutex<Vec<usize>>>;

    async fn collector(answers: &[(u16, i64)]) -> (SocketAddr, Sizes) {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (sizes, answers) =
            (Sizes::default(), Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>())));
        let answer = {
            let sizes = Arc::clone(&sizes);
            move |body: Bytes| async move {
                let request = ExportTraceServiceRequest::decode(body).unwrap();
                let spans = request.resource_spans.iter().flat_map(|spans| &spans.scope_spans);
                sizes.lock().unwrap().push(spans.map(|spans| spans.spans.len()).sum());
                let next = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let (status, rejected_spans) = next.unwrap_or((200, 0));
                let partial = ExportTracePartialSuccess { rejected_spans, ..Default::default() };
                let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
                (StatusCode::from_u16(status).unwrap(), answer.encode_to_vec())
            }
        };
        let router = Router::new().route("/v1/traces", post(answer));
        tokio::spawn(async move { axum::serve(socket, router).await });
        (address, sizes)
    }

    /// Sends this many spans one after the other; answers how many were exported and dropped.
    async fn sent(address: SocketAddr, number: u8) -> (u64, u64) {
        let collector = Collector::of(&format!("http://{address}")).unwrap();
        let spans = Arc::<Spans>::default();
        let resource = Resource::builder_empty().build();
        let exporter = Exporter::new(collector, &resource, Arc::clone(&spans));
        let (sender, receiver) = mpsc::channel(100);
        let ending = CancellationToken::new();
        let task = tokio::spawn(exporter.run(receiver, ending.clone()));
        for number in 1..=number {
            sender.send(span(number)).await.unwrap();
            let waited = Instant::now();
            while spans.exported() + spans.dropped() < u64::from(number) {
                assert!(waited.elapsed() < Duration::from_secs(20), "{spans:?}");
                sleep(Duration::from_millis(10)).await;
            }
        }
        ending.cancel();
        task.await.unwrap();
        (spans.exported(), spans.dropped())
    }

    #[tokio::test]
    async fn spans_are_sent_again_to_a_collector_that_is_busy_and_dropped_by_one_that_refuses() {
        let (address, sizes) = collector(&[(503, 0), (429, 0), (200, 0), (400, 0)]).await;
        assert_eq!(sent(address, 2).await, (1, 1));
        assert_eq!(*sizes.lock().unwrap(), [1, 1, 1, 1]);
    }

    #[tokio::test]
    async fn spans_that_a_collector_does_not_want_are_told_from_those_that_it_took() {
        let (address, _) = collector(&[(200, 1), (200, 0), (200, -3)]).await;
        assert_eq!(sent(address, 3).await, (2, 1));
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_sent_in_batches() {
        let (address, sizes) = collector(&[]).await;
        let collector = Collector::of(&format!("http://{address}")).unwrap();
        let spans = Arc::<Spans>::default();
        let exporter = Exporter::new(collector, &Resource::builder_empty().build(), Arc::clone(&spans));
        let (sender, receiver) = mpsc::channel(2 * BATCH);
        for _ in 0..BATCH + 7 {
            sender.try_send(span(1)).unwrap();
        }
        let ending = CancellationToken::new();
        ending.cancel();
        exporter.run(receiver, ending).await;
        assert_eq!(*sizes.lock().unwrap(), [BATCH, 7]);
        assert_eq!((spans.exported(), spans.dropped()), (u64::try_from(BATCH).unwrap() + 7, 0));
    }
}
