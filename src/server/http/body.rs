//! Request bodies say nothing here. A small one is read and thrown away, because a connection
//! closed over unread bytes is reset before the client has read the answer.

use std::time::Duration;

use axum::body::{Body, HttpBody};

use super::BodyRefused;

/// Largest body that is ignored.
const IGNORED: u64 = 16 * 1024;
/// Most that is read of a larger one, so that its sender gets to see the refusal.
const DRAINED: u64 = 1024 * 1024;
/// Longest time a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the body to its end.
pub(super) async fn discard(body: Body) -> Result<(), BodyRefused> {
    if body.is_end_stream() {
        return Ok(());
    }
    if body.size_hint().lower() > DRAINED {
        return Err(BodyRefused::TooLarge);
    }
    let mut body = std::pin::pin!(body);
    let read = async {
        let mut length: u64 = 0;
        while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
            // A client that breaks off reads no answer.
            let Ok(frame) = frame else { break };
            length += frame.data_ref().map_or(0, |data| data.len() as u64);
            if length > DRAINED {
                break;
            }
        }
        if length > IGNORED { Err(BodyRefused::TooLarge) } else { Ok(()) }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or(Err(BodyRefused::TooSlow))
}
