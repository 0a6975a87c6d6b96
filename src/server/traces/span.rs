//! Spans: of a request, of a phase of it, of a statement. What they say is bounded: names of ours,
//! numbers, and ids of traces; nothing else that a caller or a database wrote.

use std::{borrow::Cow, future::Future, sync::Arc};

use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::Span;

use super::{Maker, Traces};

/// What is said of something that nobody waited for to its end.
const CANCELLED: &str = "cancelled";

/// The span of a request that this server answers.
#[derive(Debug)]
pub struct RequestSpan {
    context: Context,
    is_answered: bool,
}

impl RequestSpan {
    /// Begins with what is known of the request; `parent` is the caller's.
    #[must_use]
    pub fn begin(
        traces: &Traces,
        parent: Option<SpanContext>,
        name: Cow<'static, str>,
        attributes: Vec<KeyValue>,
    ) -> Self {
        let maker = &traces.maker;
        let outer =
            parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let builder = maker.tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
        let span = builder.start_with_context(&maker.tracer, &outer);
        let context = outer.with_value(Arc::clone(maker)).with_span(span);
        Self { context, is_answered: false }
    }

    /// Awaits the answer, whose phases and statements become children.
    pub async fn around<T>(&self, answer: impl Future<Output = T>) -> T {
        answer.with_context(self.context.clone()).await
    }

    /// The request was answered.
    pub fn answered(mut self, status: u16) {
        self.is_answered = true;
        let span = self.context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            span.set_attribute(KeyValue::new("error.type", status.to_string()));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// A client that hangs up is told of, and no error of ours.
impl Drop for RequestSpan {
    fn drop(&mut self) {
        if !self.is_answered {
            let span = self.context.span();
            span.set_attribute(KeyValue::new("error.type", CANCELLED));
            span.end();
        }
    }
}

/// The ids of the span in whose time this is called, where there is one that is recorded.
pub(in crate::server) fn current() -> Option<SpanContext> {
    Context::map_current(|context| {
        let span = context.span();
        span.is_recording().then(|| span.span_context().clone())
    })
}

/// Something within the time of a request.
struct Part {
    span: Span,
    is_done: bool,
}

impl Part {
    /// Begins where the request is recorded; otherwise there is nothing to be part of.
    fn begin(
        kind: SpanKind,
        describe: impl FnOnce(&Maker) -> (Cow<'static, str>, Vec<KeyValue>),
    ) -> Option<Self> {
        Context::map_current(|context| {
            let maker = context.get::<Arc<Maker>>().filter(|_| context.span().is_recording())?;
            let (name, attributes) = describe(maker);
            let builder = maker.tracer.span_builder(name).with_kind(kind).with_attributes(attributes);
            let span = builder.start_with_context(&maker.tracer, context);
            Some(Self { span, is_done: false })
        })
    }

    fn done(mut self, error: Option<(Cow<'static, str>, Option<u16>)>) {
        self.is_done = true;
        if let Some((kind, number)) = error {
            self.span.set_attribute(KeyValue::new("error.type", kind));
            if let Some(number) = number {
                self.span.set_attribute(KeyValue::new("db.response.status_code", number.to_string()));
            }
            // The database's own words may hold a value.
            self.span.set_status(Status::error(""));
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_done {
            self.span.set_attribute(KeyValue::new("error.type", CANCELLED));
        }
        self.span.end();
    }
}

/// Awaits a phase of a request.
pub(in crate::server) async fn phase<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let part = Part::begin(SpanKind::Internal, |_| (name.into(), Vec::new()));
    let result = work.await;
    if let Some(part) = part {
        part.done(None);
    }
    result
}

/// What a failed statement may say in a span.
pub(in crate::server) trait Kind {
    /// Its kind, one of a few words, and the database's number for it.
    fn kind(&self) -> (Cow<'static, str>, Option<u16>);
}

/// Awaits the answer to a statement that does this to this table.
pub(in crate::server) fn statement<T, E: Kind>(
    operation: &'static str,
    table: &'static str,
    answer: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    asked(operation, Some(table), answer)
}

/// Awaits the answer to a statement of one word, which is about no table.
pub(in crate::server) fn command<T, E: Kind>(
    operation: &'static str,
    answer: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    asked(operation, None, answer)
}

async fn asked<T, E: Kind>(
    operation: &'static str,
    table: Option<&'static str>,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let part = Part::begin(SpanKind::Client, |maker| {
        let name = table.map_or(operation.into(), |table| format!("{operation} {table}").into());
        let table = table.map(|table| KeyValue::new("db.collection.name", table));
        let own = [KeyValue::new("db.operation.name", operation)].into_iter().chain(table);
        (name, own.chain(maker.database.iter().cloned()).collect())
    });
    let result = answer.await;
    if let Some(part) = part {
        part.done(result.as_ref().err().map(Kind::kind));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn outside_a_traced_request_nothing_is_made() {
        let described = |_: &Maker| -> (Cow<'static, str>, Vec<KeyValue>) { panic!("nobody asks") };
        assert!(Part::begin(SpanKind::Internal, described).is_none());
        assert_eq!(current(), None);
        assert_eq!(phase("hashing queue", async { 7 }).await, 7);
    }
}
