//! Addresses and files that the programs of a node agree on.

use std::path::{Path, PathBuf};

use crate::cache;

/// The node's address, on its loopback device: some kernels have no dummy devices.
pub(super) const NODE_ADDRESS: &str = "10.10.0.2";
/// The API server as every client sees it, inside the node's network namespace.
pub(super) const API_SERVER: &str = "https://10.10.0.2:6443";
/// The address of the Service `kubernetes`.
pub(super) const SERVICE_ADDRESS: &str = "10.96.0.1";
/// Where `ClusterIP`s come from.
pub(super) const SERVICE_RANGE: &str = "10.96.0.0/16";
/// Where pods' addresses come from.
pub(super) const POD_RANGE: &str = "10.244.0.0/16";
/// Where the configuration of all components lies, inside.
pub(super) const CONFIGURATION: &str = "/etc/kubernetes";
/// Where the programs of [`crate::parts::binaries`] lie, inside.
pub(super) const PROGRAMS: &str = "/opt/node";

/// The folders of one running node on the host.
#[derive(Clone, Debug)]
pub(super) struct Folders(PathBuf);

impl Folders {
    pub(super) fn of(name: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !name.is_empty()
                && name.len() <= 40
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            "{name:?} cannot name a cluster: use at most 40 lowercase letters, digits and dashes"
        );
        Ok(Self(cache::root()?.join("nodes").join(name)))
    }

    /// The folder that holds all others.
    pub(super) fn all(&self) -> &Path {
        &self.0
    }

    /// The administrator's kubeconfig.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// The host's process id of the node's first process, and its start time.
    pub(super) fn process(&self) -> PathBuf {
        self.0.join("process")
    }

    /// Exists once everything has answered; a start that was interrupted never gets it.
    pub(super) fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }

    /// What the node was started as.
    pub(super) fn description(&self) -> PathBuf {
        self.0.join("node.json")
    }

    /// One log for each component.
    pub(super) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Shown as [`CONFIGURATION`].
    pub(super) fn configuration(&self) -> PathBuf {
        self.0.join("configuration")
    }

    /// The API server's audit log.
    pub(super) fn audit_log(&self) -> PathBuf {
        self.0.join("audit").join("audit.log")
    }

    /// What is shown inside below /var: data that must lie on a real file system.
    pub(super) fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_folder_is_refused() {
        for name in ["", "..", "a/b", "A", &"a".repeat(41)] {
            assert!(Folders::of(name).is_err(), "{name:?}");
        }
    }
}
