//! The cgroups of a node's pods: a subtree of the node's name in every hierarchy, made before
//! it starts and removed after it ended.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

const MOUNT: &str = "/sys/fs/cgroup";
/// The controllers that the kubelet asks for on a host with cgroup v2.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Whether the host has the older hierarchies, one for each controller.
pub(super) fn is_v1() -> bool {
    !Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// The name of the node's subtree.
fn subtree(node: &str) -> String {
    format!("authservice-node-{node}")
}

/// What the kubelet calls the cgroup above its pods: with v2 the node sees only its subtree.
pub(super) fn root_for_pods(node: &str) -> String {
    if is_v1() { format!("/{}", subtree(node)) } else { "/".to_owned() }
}

/// Makes the node's subtrees; with v2 the calling process moves into its own, so that a
/// cgroup namespace made afterwards starts there.
pub(super) fn prepare(node: &str) -> anyhow::Result<()> {
    for folder in folders(node)? {
        fs::create_dir_all(&folder).with_context(|| format!("create the cgroup {}", folder.display()))?;
        // An empty cpuset admits no process, and children take theirs from here.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if is_v1() && folder.join(file).exists() {
                let parent = folder.parent().context("a cgroup without parent")?;
                fs::write(folder.join(file), fs::read_to_string(parent.join(file))?)
                    .with_context(|| format!("write {}", folder.join(file).display()))?;
            }
        }
    }
    if !is_v1() {
        let root = Path::new(MOUNT);
        delegate(root)?;
        fs::write(root.join(subtree(node)).join("cgroup.procs"), std::process::id().to_string())
            .context("move into the node's cgroup")?;
    }
    Ok(())
}

/// With v2, called inside: leaves the subtree's root, which may hold no process once it hands
/// controllers down, and hands them down.
pub(super) fn settle() -> anyhow::Result<()> {
    let leaf = Path::new(MOUNT).join("init");
    fs::create_dir_all(&leaf)?;
    fs::write(leaf.join("cgroup.procs"), "0").context("move into the cgroup /init")?;
    delegate(Path::new(MOUNT))
}

fn delegate(folder: &Path) -> anyhow::Result<()> {
    let available = fs::read_to_string(folder.join("cgroup.controllers"))?;
    for controller in V2_CONTROLLERS {
        if available.split_ascii_whitespace().any(|name| name == controller) {
            fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")).with_context(
                || format!("hand the cgroup controller {controller} down from {}", folder.display()),
            )?;
        }
    }
    Ok(())
}

/// Removes what [`prepare`] and the kubelet made; the node's processes must have ended.
pub(super) fn remove(node: &str) -> anyhow::Result<()> {
    for folder in folders(node)? {
        remove_tree(&folder).with_context(|| format!("remove the cgroup {}", folder.display()))?;
    }
    Ok(())
}

/// A cgroup goes only after its children, and its files cannot be deleted at all.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    // The kernel still counts killed processes as members for a moment.
    let mut result = fs::remove_dir(folder);
    for _ in 0..50 {
        if !result.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        result = fs::remove_dir(folder);
    }
    result
}

fn folders(node: &str) -> anyhow::Result<Vec<PathBuf>> {
    if !is_v1() {
        return Ok(vec![Path::new(MOUNT).join(subtree(node))]);
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(MOUNT).with_context(|| format!("read {MOUNT}"))? {
        let hierarchy = entry?.path();
        // Links such as cpu -> cpu,cpuacct would name the same hierarchy twice.
        if !hierarchy.is_symlink() && hierarchy.join("cgroup.procs").exists() {
            folders.push(hierarchy.join(subtree(node)));
        }
    }
    Ok(folders)
}
