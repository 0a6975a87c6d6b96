//! The first process of a node: makes the view, the network and the files that its programs
//! need, starts them in order and starts again what ends. When it dies, all of them do.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, WaitOptions};
use serde::{Deserialize, Serialize};

use super::configuration::{self, Component};
use super::layout::{NODE_ADDRESS, PROGRAMS, SERVICE_RANGE};
use super::{Flavour, cgroups};
use crate::processes;
use crate::sandbox::{View, own_executable};

/// How long a program that ended stays down.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// A component is not started while this folder has a file of its name, inside.
const HELD: &str = "/run/held";
/// Where components log, inside.
pub(super) const LOGS: &str = "/var/log/node";

/// What a node is started as.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) flavour: Flavour,
    pub(super) view: View,
    /// The host's file that takes the process id of the first process and its start time.
    pub(super) process: PathBuf,
    /// The host's file that says that the node is ready.
    pub(super) ready: PathBuf,
    /// The host's process that waits for it to be ready.
    pub(super) caller: u32,
    /// The host's file that takes what the supervisor has to say.
    pub(super) log: PathBuf,
}

/// Starts [`tend`] apart from the caller's terminal and waits until it has a first process.
pub(super) fn launch(description: &Path) -> anyhow::Result<()> {
    let node = read(description)?;
    let log = File::create(&node.log).with_context(|| format!("create {}", node.log.display()))?;
    let mut tend = Command::new("setsid");
    tend.arg(own_executable()).args(["internal", "tend"]).arg(description);
    let mut child =
        tend.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("start setsid")?;
    let started = Instant::now();
    // The program's path is this process's own: it has to stay until the node has read it.
    while !node.process.exists() {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("the node ended at once ({status}): {}", crate::progress::tail(&node.log));
        }
        anyhow::ensure!(
            started.elapsed() < Duration::from_secs(20),
            "the node's first process did not start"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Makes cgroups and namespaces and starts a node in them. Until it is ready it belongs to
/// the caller and ends with it; from then on it runs by itself. Runs as root.
pub(super) fn tend(description: &Path) -> anyhow::Result<()> {
    let node = read(description)?;
    cgroups::prepare(&node.name)?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"]);
    if !cgroups::is_v1() {
        unshare.arg("--cgroup");
    }
    unshare.arg("--").arg(own_executable()).args(["internal", "node"]).arg(description);
    let mut child = unshare.stdin(Stdio::null()).spawn().context("start unshare")?;
    while !node.ready.exists() {
        if child.try_wait()?.is_some() {
            break;
        }
        if !processes::is_alive(node.caller) {
            child.kill()?;
            child.wait()?;
            cgroups::remove(&node.name)?;
            eprintln!("ended with the run that started it, before it was ready");
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Is the node's first process.
pub(super) fn supervise(description: &Path) -> anyhow::Result<()> {
    let node = read(description)?;
    announce(&node.process)?;
    rustix::system::sethostname(node.name.as_bytes()).context("set the host name")?;
    node.view.enter()?;
    if !cgroups::is_v1() {
        use rustix::mount::{MountFlags, mount};
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MountFlags::empty(), None)
            .context("mount the node's cgroups")?;
        cgroups::settle()?;
    }
    fs::create_dir_all(HELD)?;
    fs::write("/etc/hosts", format!("127.0.0.1 localhost\n{NODE_ADDRESS} {}\n", node.name))?;
    fs::write("/etc/resolv.conf", format!("nameserver {NODE_ADDRESS}\n"))?;
    network()?;
    let mut components = configuration::control_plane(node.flavour == Flavour::Node);
    match node.flavour {
        Flavour::ControlPlane => {}
        Flavour::Controllers => components.push(configuration::controllers(Some(super::LONE_CONTROLLERS))),
        Flavour::Node => {
            components.push(configuration::controllers(None));
            components.extend(configuration::node(&node.name));
        }
    }
    keep_running(components)
}

fn read(description: &Path) -> anyhow::Result<Description> {
    let text = fs::read_to_string(description).with_context(|| format!("read {}", description.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understand {}", description.display()))
}

/// Writes the host's id of this process, which only the host's /proc, still mounted, knows.
fn announce(file: &Path) -> anyhow::Result<()> {
    let link = fs::read_link("/proc/self").context("read /proc/self")?;
    let pid: u32 = link.to_str().and_then(|text| text.parse().ok()).context("/proc/self is no number")?;
    let start = processes::started(pid).context("this process is not in /proc")?;
    let side = file.with_extension("new");
    fs::write(&side, format!("{pid} {start}\n"))?;
    fs::rename(&side, file)?;
    Ok(())
}

fn network() -> anyhow::Result<()> {
    let steps: [&[&str]; 3] = [
        &["link", "set", "lo", "up"],
        &["address", "add", &format!("{NODE_ADDRESS}/32"), "dev", "lo"],
        // So that programs of the node reach Services too.
        &["route", "add", SERVICE_RANGE, "dev", "lo", "src", NODE_ADDRESS],
    ];
    for step in steps {
        let status = Command::new("ip").args(step).status().context("start ip")?;
        anyhow::ensure!(status.success(), "ip {} failed", step.join(" "));
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("allow forwarding")
}

struct Slot {
    component: Component,
    pid: Option<Pid>,
    not_before: Instant,
}

fn keep_running(components: Vec<Component>) -> anyhow::Result<()> {
    let now = Instant::now();
    let mut slots: Vec<Slot> =
        components.into_iter().map(|component| Slot { component, pid: None, not_before: now }).collect();
    loop {
        // As the first process it also inherits, and has to bury, everybody else's orphans.
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if let Some(slot) = slots.iter_mut().find(|slot| slot.pid == Some(pid)) {
                eprintln!("{} ended ({status:?}) and starts again", slot.component.name);
                slot.pid = None;
                slot.not_before = Instant::now() + RESTART_DELAY;
            }
        }
        for slot in slots.iter_mut().filter(|slot| slot.pid.is_none() && slot.not_before <= Instant::now()) {
            let held = Path::new(HELD).join(slot.component.name).exists();
            if !held && slot.component.after.is_none_or(accepts) {
                slot.pid = Some(start(&slot.component)?);
            }
        }
        let waiting = slots.iter().any(|slot| slot.pid.is_none());
        std::thread::sleep(Duration::from_millis(if waiting { 30 } else { 300 }));
    }
}

fn accepts(address: &str) -> bool {
    let Ok(address) = address.parse::<SocketAddr>() else { return false };
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

fn start(component: &Component) -> anyhow::Result<Pid> {
    let log = format!("{LOGS}/{}.log", component.name);
    let log =
        OpenOptions::new().create(true).append(true).open(&log).with_context(|| format!("open {log}"))?;
    let child = Command::new(&component.program)
        .args(&component.arguments)
        .env_clear()
        .env("PATH", format!("{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin"))
        .env("HOME", "/root")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", component.program))?;
    Ok(Pid::from_child(&child))
}
