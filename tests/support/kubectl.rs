//! kubectl as a person runs it.

use std::process::Stdio;

use anyhow::Context as _;
use tokio::process::Command;

/// Runs kubectl with these arguments and answers what it printed.
///
/// # Errors
/// When it fails, with what it printed on standard error.
pub async fn kubectl(arguments: &[&str]) -> anyhow::Result<String> {
    let program = std::env::var("TEST_KUBECTL").context("TEST_KUBECTL is not set; run cargo xtask test")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("start kubectl")?;
    anyhow::ensure!(
        output.status.success(),
        "kubectl {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}
