//! Checks what the host must have, installs what apt can install, and says what is left to do.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::privilege;

/// Programs that are needed, each with the Debian and Ubuntu package that has it.
const PROGRAMS: [(&str, &str); 4] =
    [("debootstrap", "debootstrap"), ("unshare", "util-linux"), ("nsenter", "util-linux"), ("cc", "gcc")];

/// Debian's keys, which Ubuntu does not install with debootstrap.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Makes sure that a node can be built and run here.
///
/// # Errors
/// Names what is missing and the command that gets it.
pub fn check() -> anyhow::Result<()> {
    anyhow::ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the local node runs on x86_64 Linux only; use --context with a cluster of yours"
    );
    if !privilege::is_root() {
        anyhow::ensure!(found("sudo"), "the local node needs root: run this as root, or install sudo");
        // Asked for here, with a terminal, and not in the middle of a build.
        let status = Command::new("sudo").arg("-v").status().context("start sudo")?;
        anyhow::ensure!(
            status.success(),
            "the local node needs root: run this as root, or let sudo ask for your password"
        );
    }
    anyhow::ensure!(
        found("rustup"),
        "rustup is not installed; install it with\n  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    );
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    if !Path::new(KEYRING).exists() {
        missing.push("debian-archive-keyring");
    }
    missing.dedup();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let list = packages.join(" ");
    anyhow::ensure!(
        found("apt-get"),
        "this host has no apt-get; install what Debian calls {list} with its own package manager, then run this again"
    );
    eprintln!("installing with apt-get: {list}");
    if !apt_install(packages)? {
        // A machine that was just set up has no package lists yet.
        let status = apt().arg("update").status().context("start apt-get")?;
        anyhow::ensure!(status.success(), "apt-get update failed");
        anyhow::ensure!(apt_install(packages)?, "apt-get could not install {list}");
    }
    Ok(())
}

fn apt_install(packages: &[&str]) -> anyhow::Result<bool> {
    let mut command = apt();
    command.args(["install", "--yes", "--no-install-recommends"]).args(packages).stdout(Stdio::null());
    Ok(command.status().context("start apt-get")?.success())
}

fn apt() -> Command {
    let mut command = privilege::root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet=2"]);
    command
}

/// Whether a program is on the path, or where root's path has it.
fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let root = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(root).any(|folder| folder.join(program).is_file())
}
