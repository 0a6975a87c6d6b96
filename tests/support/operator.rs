//! The operator's real binary as a process of the test.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use tokio::process::{Child, Command};

use super::{
    cluster::{PATIENCE, Sandbox},
    ports::free_address,
};

/// A running operator. Dropping it kills it.
pub struct Operator {
    child: Child,
    /// Where it answers `/livez`, `/readyz` and `/metrics`.
    pub ops: SocketAddr,
    log: LogFile,
}

/// How an operator is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespaces it watches.
    pub namespaces: Vec<String>,
    /// Another kubeconfig than the administrator's.
    pub kubeconfig: Option<PathBuf>,
    /// The lease; `None`: one that no other process takes.
    pub lease: Option<String>,
    /// How long a lease is good.
    pub lease_duration: Duration,
}

static STARTED: AtomicU32 = AtomicU32::new(0);

impl Options {
    /// An operator for one namespace, alone with its lease.
    #[must_use]
    pub fn watching(namespace: &str) -> Self {
        Self {
            namespaces: vec![namespace.to_owned()],
            kubeconfig: None,
            lease: None,
            lease_duration: Duration::from_secs(15),
        }
    }
}

impl Operator {
    /// Starts an operator for the test's namespace.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(sandbox: &Sandbox) -> anyhow::Result<Self> {
        Self::start_with(sandbox, &Options::watching(&sandbox.namespace))
    }

    /// Starts an operator.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_with(sandbox: &Sandbox, options: &Options) -> anyhow::Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let ops = free_address();
        let log = LogFile::new(number)?;
        let lease = options.lease.clone().unwrap_or_else(|| format!("operator-{number}"));
        let file = File::create(log.path())?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
        command
            .arg(format!("--watch-namespaces={}", options.namespaces.join(",")))
            .arg(format!("--ops-address={ops}"))
            .arg(format!("--lease-namespace={}", sandbox.namespace))
            .arg(format!("--lease-name={lease}"))
            .arg(format!("--lease-duration={}", options.lease_duration.as_secs()))
            .env("RUST_LOG", std::env::var("TEST_OPERATOR_LOG").unwrap_or_else(|_| "info".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::from(file.try_clone()?))
            .stderr(Stdio::from(file))
            .kill_on_drop(true);
        // Where pods are real, their images have to be.
        for (variable, given) in
            [("SERVER_IMAGE", "TEST_SERVER_IMAGE"), ("DATABASE_IMAGE", "TEST_MYSQL_IMAGE")]
        {
            if let Some(image) = std::env::var_os(given) {
                command.env(variable, image);
            }
        }
        if let Some(kubeconfig) = &options.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let child = command.spawn().context("start the operator")?;
        sandbox.shows(log.clone());
        Ok(Self { child, ops, log })
    }

    /// The process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("the operator has ended: {}", self.log.tail()))
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("kill the operator")
    }

    /// SIGTERM; answers its exit code.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn terminate(&mut self) -> anyhow::Result<Option<i32>> {
        let pid = self.pid()?;
        let sent = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        anyhow::ensure!(sent.success(), "no signal was sent");
        self.ended().await
    }

    /// Waits for the end; answers the exit code.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("the operator goes on: {}", self.log.tail()))??;
        Ok(status.code())
    }

    /// What a path of its ops endpoints answers: status and body; `None` when nobody answers.
    pub async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let url = format!("http://{}{path}", self.ops);
        let answer = reqwest::get(url).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// Waits until a path answers this status.
    ///
    /// # Errors
    /// When it does not in time, with the log.
    pub async fn wait_for(&self, path: &str, status: u16) -> anyhow::Result<()> {
        let started = tokio::time::Instant::now();
        loop {
            let answer = self.ask(path).await;
            if answer.as_ref().is_some_and(|answer| answer.0 == status) {
                return Ok(());
            }
            anyhow::ensure!(started.elapsed() < PATIENCE, "{path} answers {answer:?}; {}", self.log.tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The sum of a counter or gauge over its labels that contain `label`.
    ///
    /// # Errors
    /// When /metrics does not answer.
    pub async fn metric(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        let (_, text) = self.ask("/metrics").await.context("/metrics does not answer")?;
        let samples = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        Ok(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Memory in use, in KiB.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// Its log so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.log.path())?)
    }
}

/// Where an operator's log goes; the file stays for the reader of a failure.
#[derive(Clone, Debug)]
pub struct LogFile(PathBuf);

impl LogFile {
    fn new(number: u32) -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("operator-logs");
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder.join(format!("{}-{number}.log", std::process::id()))))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    /// Its last lines.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(40);
        format!("the end of {}:\n{}", self.0.display(), lines[from..].join("\n"))
    }
}
