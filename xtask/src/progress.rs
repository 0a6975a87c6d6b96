//! Shows what a long command does, how long it has taken, and, when it fails, the end of its
//! log and where the rest is.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// How often a log that is not a terminal gets a line.
const PIPE_INTERVAL: Duration = Duration::from_secs(15);
/// How often a terminal's line is redrawn.
const LIVE_INTERVAL: Duration = Duration::from_millis(200);
/// How much of a failed command's log is shown.
const TAIL_BYTES: u64 = 3000;

/// One thing being waited for, named as the reader would say it.
pub struct Step {
    what: String,
    started: Instant,
    shown: Option<Instant>,
    live: bool,
}

impl Step {
    /// Starts the clock of `what`, for instance "building the node's rootfs".
    pub fn start(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            started: Instant::now(),
            shown: None,
            live: std::io::stderr().is_terminal(),
        }
    }

    /// Tells that it goes on; `detail` is what it waits for now.
    pub fn tick(&mut self, detail: &str) {
        let interval = if self.live { LIVE_INTERVAL } else { PIPE_INTERVAL };
        let last = self.shown.unwrap_or(self.started);
        if last.elapsed() < interval {
            return;
        }
        self.shown = Some(Instant::now());
        let line = format!("{} {}  {detail}", self.what, elapsed(self.started.elapsed()));
        if self.live {
            let short: String = line.chars().take(110).collect();
            eprint!("\r\x1b[K{short}");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    /// Ends it with one line that stays.
    pub fn done(self) {
        let start = if self.live { "\r\x1b[K" } else { "" };
        eprintln!("{start}{}: done in {}", self.what, elapsed(self.started.elapsed()));
    }

    /// Ends it without a line, for what took no time worth telling.
    pub fn quiet(self) {
        if self.started.elapsed() > Duration::from_secs(2) {
            self.done();
        } else if self.live {
            eprint!("\r\x1b[K");
        }
    }

    /// How long it has taken so far.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Runs a command with its output in `log`, showing the log's last line meanwhile.
///
/// # Errors
/// When it cannot be started or fails; the error carries the end of the log.
pub fn run(what: &str, log: &Path, command: &mut Command) -> anyhow::Result<()> {
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("{what}: start {}", command.get_program().display()))?;
    let mut step = Step::start(what);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(100));
        step.tick(&last_line(log));
    };
    if !status.success() {
        anyhow::bail!("{what} failed ({status})\n{}\nThe whole log: {}", tail(log), log.display());
    }
    step.quiet();
    Ok(())
}

/// Runs a short command and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails; the error carries what it printed as error.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {name}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{name} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The end of a log file, or why it cannot be read.
#[must_use]
pub fn tail(log: &Path) -> String {
    read_tail(log, TAIL_BYTES).unwrap_or_else(|error| format!("(no log: {error})"))
}

/// A fresh log file's path in the user's cache; one name keeps only its last log.
pub fn log_path(name: &str) -> anyhow::Result<PathBuf> {
    let folder = crate::cache::folder("logs")?;
    Ok(folder.join(format!("{name}.log")))
}

fn last_line(log: &Path) -> String {
    let text = read_tail(log, 400).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

fn read_tail(log: &Path, bytes: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {:02} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_shows_the_end_of_its_log_and_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        let error =
            run("brewing", &log, Command::new("sh").args(["-c", "echo no water; exit 3"])).unwrap_err();
        let expected =
            format!("brewing failed (exit status: 3)\nno water\n\nThe whole log: {}", log.display());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn minutes_are_told_apart_from_seconds() {
        assert_eq!(elapsed(Duration::from_secs(59)), "59 s");
        assert_eq!(elapsed(Duration::from_secs(185)), "3 min 05 s");
    }
}
