//! TLS on the public port: the certificate in use is exchanged as a whole when its files change.

mod pair;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;

pub use self::pair::PairError;
use self::pair::{Identity, Pair};
use super::config::TlsFiles;

/// Between two looks at the files.
const PERIOD: Duration = Duration::from_secs(3);

/// The certificate in use.
#[derive(Debug)]
pub struct LiveTls {
    files: TlsFiles,
    /// With its sessions, so that none of an earlier certificate is resumed.
    identity: ArcSwap<Identity>,
    /// The contents it was made of.
    digest: [u8; 32],
}

/// What the last look at the files found: contents, or why there are none.
type Seen = Result<[u8; 32], String>;

impl LiveTls {
    /// Loads the files.
    ///
    /// # Errors
    /// They cannot be read, or are no pair that could be served with.
    pub fn load(files: TlsFiles) -> Result<Self, PairError> {
        let pair = Pair::read(&files)?;
        let identity = ArcSwap::from_pointee(pair.identity(&files)?);
        Ok(Self { digest: pair.digest(), identity, files })
    }

    /// Makes a connection's handshake, with the certificate as it is now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.identity.load().config))
    }

    /// When the certificate in use expires, in seconds since the epoch; `None` when that cannot be told.
    pub fn expires(&self) -> Option<i64> {
        self.identity.load().expires
    }

    /// Reads the files again and again.
    pub async fn follow(self: Arc<Self>) {
        let mut seen = Ok(self.digest);
        loop {
            tokio::time::sleep(PERIOD).await;
            let (live, last) = (Arc::clone(&self), seen.clone());
            let look = tokio::task::spawn_blocking(move || live.look(&last)).await;
            match look {
                Ok(now) => seen = now,
                Err(error) => {
                    tracing::error!(%error, "reading the TLS certificate failed; keeping it as it is");
                }
            }
        }
    }

    /// Takes the pair that is there now, unless it is the one seen last. One that cannot be served
    /// with leaves the former in use, and is spoken of once.
    fn look(&self, last: &Seen) -> Seen {
        let refuse = |error: &PairError| tracing::warn!(%error, "keeping the TLS certificate as it is");
        let pair = match Pair::read(&self.files) {
            Ok(pair) => pair,
            Err(error) => {
                let words = error.to_string();
                if last.as_ref() != Err(&words) {
                    refuse(&error);
                }
                return Err(words);
            }
        };
        let digest = pair.digest();
        if last.as_ref() != Ok(&digest) {
            match pair.identity(&self.files) {
                Ok(identity) => {
                    let expires = identity.expires.and_then(|at| jiff::Timestamp::from_second(at).ok());
                    self.identity.store(Arc::new(identity));
                    tracing::info!(expires = expires.map(|at| at.to_string()), "TLS certificate changed");
                }
                Err(error) => refuse(&error),
            }
        }
        Ok(digest)
    }
}
