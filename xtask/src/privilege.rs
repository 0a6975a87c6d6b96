//! Runs single commands as root, so that nothing else (cargo above all) has to.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

/// Whether this process is root already.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs `program` as root: directly, or through sudo with the caller's
/// environment, which carries proxies and cache folders.
pub fn root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-E").arg("--").arg(program);
    command
}

/// A command that runs `program` as the caller again, inside one built by [`root`]; programs
/// such as helm then find the caller's files and leave none that belong to root.
pub fn as_caller(command: &mut Command, program: impl AsRef<OsStr>) {
    if !is_root() {
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        command.args(["setpriv", "--reuid", &user.as_raw().to_string()]);
        command.args(["--regid", &group.as_raw().to_string(), "--init-groups", "--"]);
    }
    command.arg(program);
}

/// Removes a folder that may hold files of root; a folder that is not there is no error.
pub fn remove_all(path: &Path) -> anyhow::Result<()> {
    let status = root("rm").args(["-rf", "--one-file-system", "--"]).arg(path).status();
    let status = status.with_context(|| format!("remove {}", path.display()))?;
    anyhow::ensure!(status.success(), "remove {}: rm said {status}", path.display());
    Ok(())
}
