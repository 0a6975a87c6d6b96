//! Where finished parts are kept: one folder a user, each part under a name that contains a
//! hash of all it was made from, so that a stale part is never found.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::privilege;
use crate::progress::Step;

/// The project's cache: `$XDG_CACHE_HOME/authservice-operator`, else `~/.cache/…`.
///
/// # Errors
/// When neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn root() -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set; set it or XDG_CACHE_HOME")?)
            .join(".cache"),
    };
    Ok(base.join("authservice-operator"))
}

/// A folder of the cache, created when missing.
pub fn folder(name: &str) -> anyhow::Result<PathBuf> {
    let path = root()?.join(name);
    fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// What a part is made from, as a short hash.
pub struct Key(Sha256);

impl Key {
    /// A key of one input.
    pub fn of(input: impl AsRef<[u8]>) -> Self {
        Self(Sha256::new()).and(input)
    }

    /// Adds an input; its length is part of it, so that two inputs never run into each other.
    #[must_use]
    pub fn and(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update(input.len().to_le_bytes());
        self.0.update(input);
        self
    }

    fn short(self) -> String {
        hex(&self.0.finalize()[..6])
    }
}

/// Lowercase hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the part's folder, making it first when it is missing.
///
/// `make` fills a side folder that takes the part's name only when it is complete, so an
/// interrupted run leaves no half part; other processes wait for it on a lock.
///
/// # Errors
/// Whatever `make` returns, and failures of the file system.
pub fn part(kind: &str, key: Key, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    let parts = folder("parts")?;
    let finished = parts.join(format!("{kind}-{}", key.short()));
    if finished.exists() {
        return Ok(finished);
    }
    let _lock = lock(kind)?;
    if finished.exists() {
        return Ok(finished);
    }
    let side = parts.join(format!("{kind}.unfinished"));
    privilege::remove_all(&side)?;
    fs::create_dir_all(&side)?;
    make(&side)?;
    forget_older(&parts, kind)?;
    fs::rename(&side, &finished).with_context(|| format!("finish {}", finished.display()))?;
    Ok(finished)
}

/// Holds the named lock until the returned file is dropped.
pub fn lock(name: &str) -> anyhow::Result<File> {
    let path = folder("locks")?.join(name);
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let mut step = Step::start(format!("waiting for another run that holds {}", path.display()));
    while let Err(error) = file.try_lock() {
        anyhow::ensure!(matches!(error, fs::TryLockError::WouldBlock), "lock {}: {error}", path.display());
        std::thread::sleep(std::time::Duration::from_millis(200));
        step.tick("");
    }
    step.quiet();
    Ok(file)
}

/// Removes the part's earlier versions, unless a node that may stand on them is running.
fn forget_older(parts: &Path, kind: &str) -> anyhow::Result<()> {
    if crate::cluster::any_running()? {
        return Ok(());
    }
    for entry in fs::read_dir(parts)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let older = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-'));
        if older.is_some_and(|hash| hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            privilege::remove_all(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_between_inputs_is_part_of_the_key() {
        assert_ne!(Key::of("ab").and("c").short(), Key::of("a").and("bc").short());
    }
}
