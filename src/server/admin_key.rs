//! The key of administration tokens in use, exchanged when its file changes.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::{
    config::without_newline,
    keys::unix_now,
    tokens::{AdminKey, TokenFault},
};
use crate::contract::key_ring::WeakKey;

/// Between two looks at the file.
const PERIOD: Duration = Duration::from_secs(10);

/// Why the file is not taken.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("the file cannot be read: {0}")]
    File(#[from] io::Error),
    #[error("the key in the file {0}")]
    Key(#[from] WeakKey),
}

/// The key in use.
#[derive(Debug)]
pub struct LiveAdminKey {
    key: ArcSwap<AdminKey>,
    file: Option<PathBuf>,
}

impl LiveAdminKey {
    /// Takes the key, and the file to read it from again.
    #[must_use]
    pub fn new(key: AdminKey, file: Option<PathBuf>) -> Self {
        Self { key: ArcSwap::from_pointee(key), file }
    }

    /// Verifies a token; answers the claim `sub`.
    ///
    /// # Errors
    /// The first fault found.
    pub fn verify(&self, token: &str) -> Result<Option<String>, TokenFault> {
        self.key.load().verify(token, unix_now())
    }

    /// Reads the file again and again. One that cannot be used leaves the key as it is.
    pub async fn follow(&self) {
        let Some(file) = &self.file else { return };
        loop {
            tokio::time::sleep(PERIOD).await;
            let read = tokio::fs::read(file).await.map_err(ReloadError::from);
            match read.and_then(|bytes| Ok(AdminKey::new(&without_newline(bytes))?)) {
                Ok(key) => self.key.store(Arc::new(key)),
                Err(error) => tracing::error!(%error, "keeping the administration key as it is"),
            }
        }
    }
}
