//! Load: wrk, a closed loop of connections that each send the next request when the last is answered.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use crate::parts::{self, Rootfs};
use crate::progress;
use crate::sandbox::{Bind, View};

/// Connections that are open at the same time.
pub(super) const CONNECTIONS: u32 = 32;
const SCRIPT: &str = include_str!("wrk.lua");

/// What wrk counted.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Counts {
    pub(super) requests: u32,
    pub(super) microseconds: f64,
    errors: u32,
}

/// wrk in its rootfs.
pub(super) struct Load {
    rootfs: PathBuf,
    script: tempfile::NamedTempFile,
}

impl Load {
    pub(super) fn prepare() -> anyhow::Result<Self> {
        let script = tempfile::NamedTempFile::new()?;
        fs::write(script.path(), SCRIPT)?;
        Ok(Self { rootfs: parts::rootfs(Rootfs::Load)?, script })
    }

    /// Asks `/validate` about the tokens of a file, one after the other, from the first again after the last.
    ///
    /// # Errors
    /// wrk failed, or an answer was no success.
    pub(super) fn validate(
        &self,
        address: SocketAddr,
        tokens: &Path,
        period: Duration,
    ) -> anyhow::Result<Counts> {
        let view = View::of(&self.rootfs)?
            .bind(Bind::read_only(self.script.path(), "/wrk.lua"))
            .bind(Bind::read_only(tokens, "/tokens"));
        let mut command = view.command("wrk")?;
        command
            .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
            .args(["--duration", &format!("{}s", period.as_secs()), "--script", "/wrk.lua"])
            .args([&format!("http://{address}/validate"), "--", "/tokens"]);
        let printed = progress::output(&mut command)?;
        let line = printed.lines().find(|line| line.starts_with('{')).context("wrk printed no counts")?;
        let counts: Counts = serde_json::from_str(line).with_context(|| format!("wrk printed {line:?}"))?;
        anyhow::ensure!(counts.errors == 0, "{} of {} requests failed", counts.errors, counts.requests);
        anyhow::ensure!(counts.requests > 0, "nothing was answered");
        Ok(counts)
    }
}
