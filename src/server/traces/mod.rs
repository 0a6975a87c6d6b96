//! OpenTelemetry traces: spans of requests and of what they wait for, sent to a collector from the
//! background. Without a collector there is nothing of this: no task, no queue, no span.

mod collector;
mod export;
mod queue;
mod span;

use std::{future::Future, sync::Arc, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    context::{FutureExt, WithContext},
    trace::TracerProvider,
};
use opentelemetry_sdk::{
    Resource,
    resource::TelemetryResourceDetector,
    trace::{Sampler, SdkTracer, SdkTracerProvider, SpanLimits},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(in crate::server) use self::span::{Kind, command, current, phase, statement};
use self::{export::Exporter, queue::Queue};
pub use self::{queue::Spans, span::RequestSpan};
use super::config::{Database, Sampling, TracingConfig};

/// How long the last spans of a terminating server may take.
const LAST_EXPORT: Duration = Duration::from_secs(1);

/// Makes spans, and what those of statements have in common. A request carries it in its context.
#[derive(Debug)]
struct Maker {
    tracer: SdkTracer,
    database: Vec<KeyValue>,
}

/// The tracing of this server.
#[derive(Debug)]
pub struct Traces {
    maker: Arc<Maker>,
    spans: Arc<Spans>,
    ending: CancellationToken,
    export: TaskTracker,
}

impl Traces {
    /// Starts to send what is traced from now on.
    #[must_use]
    pub fn start(config: &TracingConfig, database: &Database) -> Self {
        let spans = Arc::<Spans>::default();
        let (sender, receiver) = mpsc::channel(queue::CAPACITY);
        let resource = resource(config);
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(config.sampling))
            // Given here, or the library looks for them in the environment.
            .with_span_limits(SpanLimits::default())
            .with_resource(resource.clone())
            .with_span_processor(Queue::new(sender, Arc::clone(&spans)))
            .build();
        let ending = CancellationToken::new();
        let exporter = Exporter::new(config.collector.clone(), &resource, Arc::clone(&spans));
        let export = TaskTracker::new();
        export.spawn(exporter.run(receiver, ending.clone()));
        export.close();
        let maker = Arc::new(Maker {
            tracer: provider.tracer(env!("CARGO_PKG_NAME")),
            database: vec![
                KeyValue::new("db.system.name", "mysql"),
                KeyValue::new("db.namespace", database.name.clone()),
                KeyValue::new("server.address", database.host.clone()),
                KeyValue::new("server.port", i64::from(database.port)),
            ],
        });
        Self { maker, spans, ending, export }
    }

    /// What became of the spans.
    #[must_use]
    pub fn spans(&self) -> Arc<Spans> {
        Arc::clone(&self.spans)
    }

    /// Sends what is left, for a second at most: a collector that is away holds up no termination.
    pub async fn end(&self) {
        self.ending.cancel();
        if tokio::time::timeout(LAST_EXPORT, self.export.wait()).await.is_err() {
            tracing::warn!("the last traces could not be sent in time");
        }
    }
}

/// What every span says of this process.
fn resource(config: &TracingConfig) -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let given = config.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    // Of two attributes of one name the later stays.
    let name = KeyValue::new("service.name", config.service_name.clone());
    let attributes = [version].into_iter().chain(given).chain([name]);
    // An empty one, or the library looks for attributes in the environment.
    let library = Box::new(TelemetryResourceDetector);
    Resource::builder_empty().with_attributes(attributes).with_detector(library).build()
}

fn sampler(sampling: Sampling) -> Sampler {
    let ratio = Sampler::TraceIdRatioBased(sampling.ratio);
    if sampling.heeds_parent { Sampler::ParentBased(Box::new(ratio)) } else { ratio }
}

/// The work as part of the request that it is done for, also on a task of its own.
pub(in crate::server) fn carried<T: Future>(work: T) -> WithContext<T> {
    work.with_context(Context::current())
}
