//! The TLS handshake of one connection.

use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::LAST_REQUEST;

/// Makes the handshake until `deadline`, or shortly after the listener closes; `None` ends the
/// connection, as plain HTTP on this port does. Anybody can fail, so that is no line of the log.
pub(super) async fn handshake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    deadline: Instant,
    closing: CancellationToken,
) -> Option<TlsStream<TcpStream>> {
    let closed = async {
        closing.cancelled().await;
        tokio::time::sleep(LAST_REQUEST).await;
    };
    tokio::select! {
        secured = acceptor.accept(stream) => {
            secured.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed")).ok()
        }
        () = tokio::time::sleep_until(deadline) => None,
        () = closed => None,
    }
}
