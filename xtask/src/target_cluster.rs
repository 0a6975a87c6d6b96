//! The cluster a demo runs on: a node of our own, or one of the user's.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::cluster::{Cluster, ClusterOptions, Flavour, HelmVersion};
use crate::images::Image;
use crate::{parts, progress};

/// Where a demo runs.
pub enum TargetCluster {
    /// A node made for it.
    Node(Cluster),
    /// A context of the user's kubeconfig.
    Context {
        /// Name of the context.
        name: String,
        /// Shell command that brings an image archive into the cluster; `{archive}` and `{image}` are replaced.
        load: String,
    },
}

impl TargetCluster {
    /// Boots a node of this name, or attaches to the one that runs.
    pub fn node(name: &str) -> anyhow::Result<Self> {
        Ok(Self::Node(Cluster::up(&ClusterOptions { name: name.to_owned(), flavour: Flavour::Node })?))
    }

    /// kubectl on this cluster.
    pub fn kubectl(&self) -> anyhow::Result<Command> {
        match self {
            Self::Node(node) => Ok(node.kubectl()),
            Self::Context { name, .. } => {
                let mut command = host_or_built("kubectl")?;
                command.args(["--context", name]);
                Ok(command)
            }
        }
    }

    /// helm on this cluster.
    pub fn helm(&self) -> anyhow::Result<Command> {
        match self {
            Self::Node(node) => Ok(node.helm(HelmVersion::V4)),
            Self::Context { name, .. } => {
                let mut command = host_or_built("helm")?;
                command.args(["--kube-context", name]);
                Ok(command)
            }
        }
    }

    /// Brings an image to where the cluster's pods find it.
    ///
    /// # Errors
    /// When the way of loading fails; the error carries what it printed.
    pub fn load(&self, image: &Image) -> anyhow::Result<()> {
        match self {
            Self::Node(node) => node.load_image(&image.archive),
            Self::Context { load, .. } => {
                let line = load
                    .replace("{archive}", &image.archive.to_string_lossy())
                    .replace("{image}", &image.tag);
                progress::output(Command::new("sh").args(["-c", &line]))
                    .with_context(|| format!("loading {} with `{line}`", image.tag))?;
                Ok(())
            }
        }
    }

    /// Applies a manifest given as text.
    pub fn apply(&self, namespace: &str, manifest: &str) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut child = self
            .kubectl()?
            .args(["apply", "--server-side", "--namespace", namespace, "--filename", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start kubectl")?;
        child.stdin.take().context("kubectl has no standard input")?.write_all(manifest.as_bytes())?;
        let output = child.wait_with_output()?;
        anyhow::ensure!(
            output.status.success(),
            "kubectl apply failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// What kubectl prints.
    pub fn read(&self, arguments: &[&str]) -> anyhow::Result<String> {
        progress::output(self.kubectl()?.args(arguments))
    }

    /// What kubectl prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let text = self.read(&[arguments, &["--output", "json"]].concat())?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }
}

/// The host's own tool when it has one, else the one built with the node.
fn host_or_built(name: &str) -> anyhow::Result<Command> {
    if on_path(name) {
        return Ok(Command::new(name));
    }
    let built = if name == "helm" { "helm4" } else { name };
    Ok(Command::new(parts::binary(built)?))
}

fn on_path(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| Path::new(&folder).join(name).is_file())
    })
}
