//! Most request bodies say nothing here. A small one is read to its end all the same, because a
//! connection closed over unread bytes is reset before the client has read the answer.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header::CONTENT_TYPE},
};

use super::BodyRefused;

/// Largest body that is taken.
const LARGEST: u64 = 16 * 1024;
/// Most that is read of a larger one, so that its sender gets to see the refusal.
const DRAINED: u64 = 1024 * 1024;
/// Longest time a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the body is said to be, without parameters (RFC 9110 §8.3.1); compared without regard to case.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Reads the body to its end and forgets it.
pub(super) async fn discard(body: Body) -> Result<(), BodyRefused> {
    if body.is_end_stream() { Ok(()) } else { consume(body, |_| {}).await }
}

/// Reads the body.
pub(super) async fn read(body: Body) -> Result<Vec<u8>, BodyRefused> {
    let mut content = Vec::new();
    consume(body, |bytes| {
        if (content.len() as u64) < LARGEST {
            content.extend_from_slice(bytes);
        }
    })
    .await?;
    Ok(content)
}

async fn consume(body: Body, mut take: impl FnMut(&[u8])) -> Result<(), BodyRefused> {
    if body.size_hint().lower() > DRAINED {
        return Err(BodyRefused::TooLarge);
    }
    let mut body = std::pin::pin!(body);
    let read = async {
        let mut length: u64 = 0;
        while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
            // A client that breaks off reads no answer.
            let Ok(frame) = frame else { break };
            if let Some(data) = frame.data_ref() {
                length += data.len() as u64;
                take(data);
            }
            if length > DRAINED {
                break;
            }
        }
        if length > LARGEST { Err(BodyRefused::TooLarge) } else { Ok(()) }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or(Err(BodyRefused::TooSlow))
}
