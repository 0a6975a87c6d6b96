//! One request to the collector: OTLP over HTTP/1.1, as binary protobuf.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use hyper::{
    Request, StatusCode,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::{net::TcpStream, task::JoinSet};

use crate::contract::Collector;

/// Longest time of one request, connecting included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why spans did not reach the collector.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("it cannot be reached: {0}")]
    Connect(#[from] std::io::Error),
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("it did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("it answered {0}")]
    Refused(StatusCode),
    #[error("the request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
}

impl SendError {
    /// Whether the same spans may be taken later (OTLP specification, "Retryable Response Codes").
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Http(_) | Self::TimedOut => true,
            Self::Refused(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Request(_) => false,
        }
    }
}

/// Sends spans; answers how many of them the collector did not want.
pub(super) async fn send(collector: &Collector, spans: Bytes) -> Result<u64, SendError> {
    tokio::time::timeout(TIMEOUT, exchange(collector, spans)).await.unwrap_or(Err(SendError::TimedOut))
}

async fn exchange(collector: &Collector, spans: Bytes) -> Result<u64, SendError> {
    let stream = TcpStream::connect((collector.host.as_str(), collector.port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with this function, whatever state the connection is in.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::post(&collector.path)
        .header(HOST, &collector.authority)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .header(USER_AGENT, concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .body(Body::from(spans))?;
    let answer = sender.send_request(request).await?;
    if !answer.status().is_success() {
        return Err(SendError::Refused(answer.status()));
    }
    // What is said beyond the status is worth a warning at most.
    let answer = to_bytes(Body::new(answer.into_body()), MAX_ANSWER_BYTES).await.unwrap_or_default();
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let unwanted = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    Ok(u64::try_from(unwanted).unwrap_or_default())
}
