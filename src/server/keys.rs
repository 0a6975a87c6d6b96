//! The key ring in use: exchanged as a whole when its folder changes, never waited for.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;

use super::{
    config::Keys,
    tokens::{FolderError, Key, KeyRing, RingError, read_folder},
};

/// Between two looks at the folder when nothing asks for one.
const PERIOD: Duration = Duration::from_secs(10);
/// Least time between two looks that unknown key ids cause: anybody can invent those.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// Why the keys cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The folder cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its entries cannot be used.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// The ring in use.
#[derive(Debug)]
pub struct LiveKeys {
    ring: ArcSwap<KeyRing>,
    folder: Option<PathBuf>,
    last_look: Mutex<Instant>,
}

impl LiveKeys {
    /// Loads the keys.
    ///
    /// # Errors
    /// They cannot be read or used.
    pub fn load(keys: Keys) -> Result<Self, KeysError> {
        let (ring, folder) = match keys {
            Keys::Single(secret) => (KeyRing::single(secret.expose_secret()), None),
            Keys::Folder(folder) => {
                (KeyRing::from_entries(&read_folder(&folder)?, unix_now())?, Some(folder))
            }
        };
        Ok(Self { ring: ArcSwap::from_pointee(ring), folder, last_look: Mutex::new(Instant::now()) })
    }

    /// The ring as it is now.
    pub fn ring(&self) -> Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// Reads the folder again because a token named a key that is not loaded, unless that was
    /// done within the last second. Says whether the ring may have changed.
    pub async fn look_for_unknown_key(&self) -> bool {
        if self.folder.is_none() {
            return false;
        }
        let asked = Instant::now();
        let mut last_look = self.last_look.lock().await;
        if *last_look > asked {
            return true;
        }
        if last_look.elapsed() < LEAST_INTERVAL {
            return false;
        }
        self.reload().await;
        *last_look = Instant::now();
        true
    }

    /// Reads the folder again and again; also lets a key begin to sign when its time comes.
    pub async fn follow(&self) {
        if self.folder.is_none() {
            return;
        }
        loop {
            tokio::time::sleep(PERIOD).await;
            let mut last_look = self.last_look.lock().await;
            self.reload().await;
            *last_look = Instant::now();
        }
    }

    /// A folder that cannot be used leaves the ring as it is: tokens go on being verified.
    async fn reload(&self) {
        let Some(folder) = self.folder.clone() else { return };
        let read = tokio::task::spawn_blocking(move || {
            Ok(KeyRing::from_entries(&read_folder(&folder)?, unix_now())?)
        })
        .await;
        match read {
            Ok(Ok(ring)) => {
                let (before, now) = (self.ring.load(), unix_now());
                let signer = ring.signer_at(now).map(Key::id);
                if before.signer_at(now).map(Key::id) != signer || before.ids_at(now) != ring.ids_at(now) {
                    tracing::info!(signing_key = signer, keys = ?ring.ids_at(now), "key ring changed");
                }
                self.ring.store(Arc::new(ring));
            }
            Ok(Err(KeysError::Folder(error))) => tracing::error!(%error, "keeping the key ring as it is"),
            Ok(Err(KeysError::Ring(error))) => tracing::error!(%error, "keeping the key ring as it is"),
            Err(error) => tracing::error!(%error, "reading the key ring failed; keeping it as it is"),
        }
    }
}

/// Seconds since the epoch.
#[must_use]
pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_added_to_the_folder_is_found_when_asked_for_and_a_broken_folder_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.key"), [b'a'; 32]).unwrap();
        std::fs::write(folder.path().join("a.signs"), "2020-01-01T00:00:00Z").unwrap();
        let keys = LiveKeys::load(Keys::Folder(folder.path().to_owned())).unwrap();
        std::fs::write(folder.path().join("b.key"), [b'b'; 32]).unwrap();
        assert!(!keys.look_for_unknown_key().await, "within the first second");
        tokio::time::sleep(LEAST_INTERVAL).await;
        assert!(keys.look_for_unknown_key().await);
        assert_eq!(keys.ring().ids_at(unix_now()), ["a", "b"]);
        std::fs::write(folder.path().join("b.key"), "short").unwrap();
        tokio::time::sleep(LEAST_INTERVAL).await;
        assert!(keys.look_for_unknown_key().await);
        assert_eq!(keys.ring().ids_at(unix_now()), ["a", "b"]);
    }
}
