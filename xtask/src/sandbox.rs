//! Runs a program inside a Debian rootfs that it may write to without changing it, with mounts
//! and processes that end with the caller.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use anyhow::Context as _;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use serde::{Deserialize, Serialize};

use crate::{cache, privilege, processes, progress};

/// A host path shown inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    /// The file or folder on the host.
    pub host: PathBuf,
    /// Its absolute path inside; created when missing.
    pub inside: PathBuf,
    /// Whether it is for reading only.
    pub read_only: bool,
}

impl Bind {
    /// A bind for reading and writing.
    pub fn writable(host: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        Self { host: host.into(), inside: inside.into(), read_only: false }
    }

    /// A bind for reading.
    pub fn read_only(host: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        Self { host: host.into(), inside: inside.into(), read_only: true }
    }
}

/// A view of a rootfs: what is written to it lives in memory and ends with the namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// The rootfs, which is never written to.
    pub rootfs: PathBuf,
    /// What of the host is shown.
    pub binds: Vec<Bind>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// An empty folder of the host that the view is built on, in its own mount namespace only.
    scratch: PathBuf,
}

impl View {
    /// A view with a plain environment and no binds.
    pub fn of(rootfs: impl Into<PathBuf>) -> anyhow::Result<Self> {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let environment = [("PATH", path), ("HOME", "/root"), ("LC_ALL", "C.UTF-8")];
        Ok(Self {
            rootfs: rootfs.into(),
            binds: Vec::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            scratch: cache::folder("mountpoint")?,
        })
    }

    /// Adds a bind.
    #[must_use]
    pub fn bind(mut self, bind: Bind) -> Self {
        self.binds.push(bind);
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// A command that runs `program` in this view, with the host's network; guarded as
    /// [`guarded`] says.
    pub fn command(&self, program: &str) -> anyhow::Result<Command> {
        let mut command = guarded(own_executable());
        command.args(["internal", "inside", &serde_json::to_string(self)?, program]);
        Ok(command)
    }

    /// Makes this view the root of the calling process, which must be alone in a fresh mount
    /// namespace and, for `/proc`, in a fresh pid namespace.
    pub fn enter(&self) -> anyhow::Result<()> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .context("make mounts private")?;
        let scratch = &self.scratch;
        mount("tmpfs", scratch, "tmpfs", MountFlags::empty(), None).context("mount a tmpfs")?;
        let (upper, work, root) = (scratch.join("upper"), scratch.join("work"), scratch.join("root"));
        for folder in [&upper, &work, &root] {
            fs::create_dir(folder)?;
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            self.rootfs.display(),
            upper.display(),
            work.display()
        );
        let layers = std::ffi::CString::new(layers)?;
        mount("overlay", &root, "overlay", MountFlags::empty(), Some(layers.as_c_str()))
            .with_context(|| format!("mount an overlay over {}", self.rootfs.display()))?;
        mount("proc", root.join("proc"), "proc", MountFlags::empty(), None).context("mount /proc")?;
        mount("sysfs", root.join("sys"), "sysfs", MountFlags::empty(), None).context("mount /sys")?;
        mount_bind_recursive("/sys/fs/cgroup", root.join("sys/fs/cgroup"))
            .context("show the host's cgroups")?;
        mount_bind_recursive("/dev", root.join("dev")).context("show the host's /dev")?;
        for folder in ["run", "tmp"] {
            mount("tmpfs", root.join(folder), "tmpfs", MountFlags::empty(), None)
                .with_context(|| format!("mount /{folder}"))?;
        }
        for bind in &self.binds {
            attach(&root, bind)
                .with_context(|| format!("show {} as {}", bind.host.display(), bind.inside.display()))?;
        }
        std::env::set_current_dir(&root)?;
        rustix::process::pivot_root(".", ".").context("change the root")?;
        unmount(".", UnmountFlags::DETACH).context("let go of the host's root")?;
        std::env::set_current_dir("/")?;
        Ok(())
    }
}

fn attach(root: &Path, bind: &Bind) -> anyhow::Result<()> {
    let target = root.join(bind.inside.strip_prefix("/").context("not an absolute path")?);
    if bind.host.is_dir() {
        fs::create_dir_all(&target)?;
    } else {
        fs::create_dir_all(target.parent().context("no parent folder")?)?;
        if !target.exists() {
            fs::write(&target, "")?;
        }
    }
    mount_bind_recursive(&bind.host, &target)?;
    if bind.read_only {
        mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, "")?;
    }
    Ok(())
}

/// This program's file, by a path that stays right through sudo and rebuilds.
pub(crate) fn own_executable() -> PathBuf {
    PathBuf::from(format!("/proc/{}/exe", std::process::id()))
}

/// A command that runs `program` as root with mounts and processes of its own, all of which
/// are gone once it has ended or this process has, however that came about.
pub(crate) fn guarded(program: impl AsRef<OsStr>) -> Command {
    let mut command = privilege::root(own_executable());
    command.args(["internal", "guard", &std::process::id().to_string()]).arg(program);
    command
}

/// Ends what was started with [`guarded`], and waits for its end.
pub(crate) fn end(guard: &mut Child) -> anyhow::Result<()> {
    // By root, whose process it is; sudo, if it stands between, passes the signal on.
    let _ = progress::output(privilege::root("kill").args(["-TERM", &guard.id().to_string()]));
    guard.wait().map(drop).context("wait for the sandbox")
}

/// The privileged half of [`guarded`]: makes the namespaces and watches the caller.
pub fn guard(caller: u32, program: &[OsString]) -> anyhow::Result<ExitCode> {
    // Each of the chain dies with its parent: this process, unshare, the program.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig=KILL", "unshare"])
        .args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--"])
        .args(program)
        .stdin(std::process::Stdio::null())
        .spawn()
        .context("start setpriv (package util-linux)")?;
    let unshare = rustix::process::Pid::from_child(&child);
    std::thread::spawn(move || {
        while processes::is_alive(caller) {
            std::thread::sleep(Duration::from_millis(300));
        }
        let _ = rustix::process::kill_process(unshare, rustix::process::Signal::KILL);
    });
    let status = child.wait()?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(137)).unwrap_or(1)))
}

/// The inner half of [`View::command`]: enters the view and becomes the program.
pub fn become_program(view: &str, program: &[OsString]) -> anyhow::Result<ExitCode> {
    let view: View = serde_json::from_str(view).context("read the view")?;
    let (name, arguments) = program.split_first().context("no program given")?;
    view.enter()?;
    Err(Command::new(name).args(arguments).env_clear().envs(view.environment).exec())
        .with_context(|| format!("run {}", name.display()))
}
