//! A real Kubernetes, from etcd to kubelet, in namespaces of this host: its addresses exist
//! only there, and everything ends with its first process.

mod cgroups;
mod configuration;
mod layout;
mod pki;
mod readiness;
mod supervisor;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::parts::{self, Rootfs};
use crate::progress;
use crate::sandbox::{Bind, View, own_executable};
use crate::{cache, prerequisites, privilege, processes};
pub(crate) use configuration::PAUSE_IMAGE;
use layout::Folders;

/// How much of Kubernetes runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flavour {
    /// etcd and the API server with its audit log: for tests that need no pods.
    ControlPlane,
    /// The same, with the controllers that turn workloads into pods and clean up after them,
    /// but neither scheduler nor kubelet: tests play those.
    Controllers,
    /// Everything a pod needs: kubelet, containerd, Services, DNS, volumes.
    Node,
}

/// The controllers of [`Flavour::Controllers`]: none that minds pods whose node does not exist.
const LONE_CONTROLLERS: &str = "deployment-controller,disruption-controller,garbage-collector-controller,\
    job-controller,namespace-controller,persistentvolumeclaim-protection-controller,replicaset-controller,statefulset-controller";

/// Which helm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelmVersion {
    /// helm 3.
    V3,
    /// helm 4.
    V4,
}

impl HelmVersion {
    /// Its name among [`parts::binaries`].
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::V3 => "helm3",
            Self::V4 => "helm4",
        }
    }
}

/// What a running cluster tells a later version of this program.
#[derive(Deserialize)]
struct Described {
    flavour: Flavour,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Lowercase letters, digits and dashes, at most 40; clusters of different names run side by side.
    pub name: String,
    /// How much of it runs.
    pub flavour: Flavour,
}

/// A running cluster. Dropping the value leaves it running; [`Cluster::down`] ends it.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    flavour: Flavour,
    folders: Folders,
    pid: u32,
    programs: PathBuf,
}

impl Cluster {
    /// Starts a cluster and waits until it is ready, building its parts first when they are
    /// missing; one that is already up is returned as it is.
    ///
    /// # Errors
    /// When it is up with another flavour, or does not become ready in time: the error has the
    /// end of the log of the component that was waited for, and nothing is left running.
    pub fn up(options: &ClusterOptions) -> anyhow::Result<Self> {
        prerequisites::check()?;
        let folders = Folders::of(&options.name)?;
        let node = parts::rootfs(Rootfs::Node)?;
        let programs = parts::binaries()?;
        let _lock = cache::lock(&format!("node-{}", options.name))?;
        if running(&folders).is_some() {
            let cluster = Self::attach(&options.name)?;
            anyhow::ensure!(
                cluster.flavour == options.flavour,
                "the cluster {:?} is up as {:?}; take it down first: cargo xtask cluster down --name {}",
                options.name,
                cluster.flavour,
                options.name
            );
            return Ok(cluster);
        }
        clean(&options.name, &folders)?;
        let description = prepare(options, &folders, node, &programs)?;
        fs::write(folders.description(), serde_json::to_string_pretty(&description)?)?;
        let mut launch = privilege::root(own_executable());
        launch.args(["internal", "launch"]).arg(folders.description());
        progress::output(&mut launch)?;
        let cluster = Self::attach(&options.name)?;
        if let Err(error) = cluster.wait_until_ready() {
            stop(&cluster.name, cluster.pid)?;
            return Err(error);
        }
        fs::write(folders.ready(), "")?;
        Ok(cluster)
    }

    /// The cluster of this name that is up.
    ///
    /// # Errors
    /// When none is; the error says how to start it.
    pub fn attach(name: &str) -> anyhow::Result<Self> {
        let folders = Folders::of(name)?;
        let pid = running(&folders).with_context(|| {
            format!("no cluster {name:?} is up; start it with: cargo xtask cluster up --name {name}")
        })?;
        let text = fs::read_to_string(folders.description())?;
        let Described { flavour } = serde_json::from_str(&text)?;
        Ok(Self { name: name.to_owned(), flavour, folders, pid, programs: parts::binaries()? })
    }

    /// Ends the cluster and removes all it kept.
    pub fn down(self) -> anyhow::Result<()> {
        let _lock = cache::lock(&format!("node-{}", self.name))?;
        stop(&self.name, self.pid)?;
        privilege::remove_all(self.folders.all())
    }

    /// The name it was started with; also its node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The administrator's kubeconfig, on the host; the server it names answers only to
    /// programs started with [`Cluster::enter`].
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folders.kubeconfig()
    }

    /// The API server's audit log on the host, one JSON object a line: every write, and the
    /// reads of everybody but administrators and Kubernetes itself.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.folders.audit_log()
    }

    /// The folder with one log file for each component.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.folders.logs()
    }

    /// A program of the host, run as the caller but in the node's network, where the API
    /// server, Services and pods answer; `KUBECONFIG` is set. Its names resolve as on the
    /// host, so Services are reached by address.
    #[must_use]
    pub fn enter(&self, program: &str) -> Command {
        let mut command = privilege::root("nsenter");
        command.args(["--net", "--target", &self.pid.to_string(), "--"]);
        privilege::as_caller(&mut command, program);
        command.env("KUBECONFIG", self.kubeconfig()).env("KUBECACHEDIR", self.folders.all().join("kubectl"));
        command
    }

    /// kubectl of the cluster's own version, as its administrator.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        self.enter(&self.programs.join("kubectl").to_string_lossy())
    }

    /// helm as the cluster's administrator, with folders that end with the cluster.
    #[must_use]
    pub fn helm(&self, version: HelmVersion) -> Command {
        let program = version.program();
        let mut command = self.enter(&self.programs.join(program).to_string_lossy());
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.folders.all().join(program));
        }
        command
    }

    /// A program of the node, run as root in all of the node's namespaces.
    #[must_use]
    pub fn inside(&self, program: &str) -> Command {
        let mut command = privilege::root("nsenter");
        command.args([
            "--target",
            &self.pid.to_string(),
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--ipc",
            "--root",
            "--wd",
        ]);
        command.args(["--", "env", "-i", "HOME=/root", "TERM=xterm", "LC_ALL=C.UTF-8"]);
        command.arg(format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", layout::PROGRAMS));
        command.arg(format!("KUBECONFIG={}/admin.kubeconfig", layout::CONFIGURATION)).arg(program);
        command
    }

    /// Gives the node the images of a docker archive, under the names they have in it.
    pub fn load_image(&self, docker_archive: &Path) -> anyhow::Result<()> {
        let archive =
            File::open(docker_archive).with_context(|| format!("open {}", docker_archive.display()))?;
        let mut import = self.inside("ctr");
        import.args(["--namespace", "k8s.io", "images", "import", "--local", "-"]);
        let output = import
            .stdin(archive)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .context("start nsenter")?;
        anyhow::ensure!(
            output.status.success(),
            "load {}: {}",
            docker_archive.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Gives an image of the node a second name.
    pub fn tag_image(&self, name: &str, second: &str) -> anyhow::Result<()> {
        let mut tag = self.inside("ctr");
        progress::output(tag.args(["--namespace", "k8s.io", "images", "tag", "--force", name, second]))
            .map(drop)
    }
}

/// Whether any cluster of this user is up.
pub(crate) fn any_running() -> anyhow::Result<bool> {
    let nodes = cache::folder("nodes")?;
    for entry in fs::read_dir(nodes)? {
        let name = entry?.file_name();
        if Folders::of(&name.to_string_lossy()).is_ok_and(|folders| running(&folders).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes what a cluster that has ended, however it did, left of this name.
pub fn remove_leftovers(name: &str) -> anyhow::Result<()> {
    let folders = Folders::of(name)?;
    anyhow::ensure!(running(&folders).is_none(), "the cluster {name:?} is up");
    clean(name, &folders)
}

/// The id of the first process of the node whose folders these are, while it lives.
fn running(folders: &Folders) -> Option<u32> {
    let text = fs::read_to_string(folders.process()).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    let (pid, start) = (pid.parse().ok()?, start.parse().ok()?);
    (processes::started(pid) == Some(start)).then_some(pid)
}

fn clean(name: &str, folders: &Folders) -> anyhow::Result<()> {
    if folders.all().exists() {
        internal(&["remove-cgroups", name])?;
        privilege::remove_all(folders.all())?;
    }
    Ok(())
}

/// Kills the first process, with which the kernel ends all others, and removes the cgroups.
fn stop(name: &str, pid: u32) -> anyhow::Result<()> {
    progress::output(privilege::root("kill").args(["-KILL", &pid.to_string()]))?;
    let started = Instant::now();
    while processes::is_alive(pid) {
        anyhow::ensure!(started.elapsed() < Duration::from_secs(30), "process {pid} does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    internal(&["remove-cgroups", name])
}

fn internal(arguments: &[&str]) -> anyhow::Result<()> {
    progress::output(privilege::root(own_executable()).arg("internal").args(arguments)).map(drop)
}

/// Writes everything a node reads, and says what to start.
fn prepare(
    options: &ClusterOptions,
    folders: &Folders,
    node: PathBuf,
    programs: &Path,
) -> anyhow::Result<supervisor::Description> {
    let configuration = folders.configuration();
    for folder in [configuration.join("cni.d"), folders.logs(), folders.data()] {
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let admin = pki::write(&configuration, &options.name)?;
    pki::secret(folders.all(), "kubeconfig", &admin)?;
    pki::secret(&configuration, "admin.kubeconfig", &admin)?;
    let root = cgroups::root_for_pods(&options.name);
    for (name, text) in configuration::files(&options.name, &root, cgroups::is_v1()) {
        fs::write(configuration.join(name), text)?;
    }
    fs::write(configuration.join("addons.yaml"), include_str!("addons.yaml"))?;
    // Made here so that it stays readable for the caller: the API server only appends.
    let audit = folders.audit_log();
    fs::create_dir_all(audit.parent().context("no parent folder")?)?;
    File::create(&audit)?;
    let mut view = View::of(node)?
        .bind(Bind::read_only(&configuration, layout::CONFIGURATION))
        .bind(Bind::read_only(programs, layout::PROGRAMS))
        .bind(Bind::writable(folders.logs(), supervisor::LOGS))
        .bind(Bind::writable(folders.all().join("audit"), "/var/log/audit"));
    for inside in ["lib/etcd", "lib/containerd", "lib/kubelet", "lib/volumes", "log/pods", "log/containers"] {
        let host = folders.data().join(inside);
        fs::create_dir_all(&host)?;
        view = view.bind(Bind::writable(host, Path::new("/var").join(inside)));
    }
    Ok(supervisor::Description {
        name: options.name.clone(),
        flavour: options.flavour,
        view,
        process: folders.process(),
        ready: folders.ready(),
        caller: std::process::id(),
        log: folders.logs().join("supervisor.log"),
    })
}

/// The privileged halves of this module, which the program calls itself for.
pub fn internal_command(action: &str, argument: &str) -> anyhow::Result<ExitCode> {
    match action {
        "launch" => supervisor::launch(Path::new(argument))?,
        "tend" => supervisor::tend(Path::new(argument))?,
        "node" => supervisor::supervise(Path::new(argument))?,
        "remove-cgroups" => cgroups::remove(argument)?,
        _ => anyhow::bail!("no internal action {action:?}"),
    }
    Ok(ExitCode::SUCCESS)
}
