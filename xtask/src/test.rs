//! `cargo xtask test`: every test, with the databases, the API server and the node it needs, and a
//! report of what ran.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::cluster::{Cluster, ClusterOptions, Flavour, HelmVersion};
use crate::database::{self, Database, Engine, Galera};
use crate::parts::{self, Rootfs};
use crate::{checks, demo, images, prerequisites, privilege, progress, prove, sandbox};

/// What the command line asks for.
pub struct Options {
    /// Adds what takes longer.
    pub full: bool,
    /// Only these groups; empty for all.
    pub only: Vec<Group>,
}

/// Tests that need the same surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Formatting, lints, the boundary between the features, generated files, the chart.
    Checks,
    /// Pure tests, of all packages.
    Unit,
    /// The auth server against real `MySQL` and `MariaDB`.
    Server,
    /// The managed database's start command on both engines.
    Database,
    /// The operator against a real API server.
    Operator,
    /// The operator under faults, on simulated time; that deliberate bugs are found; and that the model of
    /// the API server does as a real one.
    Prove,
    /// End to end on a real node.
    Node,
    /// `cargo xtask demo`, on a node of its own and on a cluster it knows by its kubeconfig alone.
    Demo,
}

impl Group {
    /// What the file names of its tests begin with.
    fn prefix(self) -> Option<&'static str> {
        match self {
            Self::Checks | Self::Unit | Self::Prove | Self::Demo => None,
            Self::Server => Some("server_"),
            Self::Database => Some("database_"),
            Self::Operator => Some("operator_"),
            Self::Node => Some("e2e_"),
        }
    }
}

/// What one group did.
struct Ran {
    group: Group,
    passed: usize,
    failed: Vec<String>,
    took: Duration,
}

/// Runs the groups one after the other and reports.
///
/// # Errors
/// When a test or a check failed, or its surroundings could not be made.
pub fn run(options: &Options) -> anyhow::Result<()> {
    prerequisites::check()?;
    let groups = Group::value_variants()
        .iter()
        .filter(|group| options.only.is_empty() || options.only.contains(group));
    let mut report = Vec::new();
    for &group in groups {
        println!("\n==== {group:?}");
        let started = Instant::now();
        let (passed, failed) = match group {
            Group::Checks => checks::run(),
            Group::Unit => unit()?,
            Group::Server => server(options)?,
            Group::Database => database_start(options)?,
            Group::Operator => operator(options)?,
            Group::Prove => prove(options)?,
            Group::Node => node(options)?,
            Group::Demo => checks::run_each(&DEMOS),
        };
        report.push(Ran { group, passed, failed, took: started.elapsed() });
    }
    tell(&report, options)
}

fn tell(report: &[Ran], options: &Options) -> anyhow::Result<()> {
    println!("\n==== What ran{}", if options.full { ", with --full" } else { "" });
    for ran in report {
        println!(
            "{:10} {:4} passed, {} failed, {} s",
            format!("{:?}", ran.group),
            ran.passed,
            ran.failed.len(),
            ran.took.as_secs()
        );
        for name in &ran.failed {
            println!("           failed: {name}");
        }
    }
    let passed: usize = report.iter().map(|ran| ran.passed).sum();
    let failed: usize = report.iter().map(|ran| ran.failed.len()).sum();
    println!("\n{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("{failed} failed; the names stand above");
    }
    Ok(())
}

fn unit() -> anyhow::Result<(usize, Vec<String>)> {
    let binaries = test_binaries(&["--workspace", "--lib", "--bins"])?;
    run_all(&binaries, &Surroundings::default(), |program| Command::new(program))
}

fn server(options: &Options) -> anyhow::Result<(usize, Vec<String>)> {
    let mut surroundings = Surroundings::new(options);
    let mut databases = Vec::new();
    for (variable, engine, only_full) in [
        ("TEST_MYSQL_URL", Engine::Mysql, false),
        ("TEST_MARIADB_URL", Engine::Mariadb, false),
        ("TEST_OLD_MARIADB_URL", Engine::OldMariadb, true),
    ] {
        if options.full || !only_full {
            let database = database::start(engine)?;
            surroundings.set(variable, database.url());
            databases.push(database);
        }
    }
    let galera = Galera::start()?;
    let urls: Vec<String> = galera.members().iter().map(Database::url).collect();
    surroundings.set("TEST_GALERA_URLS", urls.join(" "));
    surroundings.add_client()?;
    surroundings.set("TEST_PROXIES_ROOTFS", parts::rootfs(Rootfs::Proxies)?);
    surroundings.set("TEST_CONSUMERS", in_rootfs(Rootfs::Consumers, "")?);
    let outcome = run_group(Group::Server, &surroundings, |program| Command::new(program));
    databases.into_iter().try_for_each(Database::stop)?;
    galera.stop()?;
    outcome
}

fn database_start(options: &Options) -> anyhow::Result<(usize, Vec<String>)> {
    let mut surroundings = Surroundings::new(options);
    surroundings.set("TEST_MYSQL_ROOTFS", parts::rootfs(Rootfs::Mysql)?);
    surroundings.set("TEST_MARIADB_ROOTFS", parts::rootfs(Rootfs::Mariadb)?);
    if options.full {
        surroundings.set("TEST_OLD_MARIADB_ROOTFS", parts::rootfs(Rootfs::OldMariadb)?);
    }
    // Its containers are chroots under other users.
    run_group(Group::Database, &surroundings, |program| privilege::root(program))
}

fn operator(options: &Options) -> anyhow::Result<(usize, Vec<String>)> {
    let cluster =
        Cluster::up(&ClusterOptions { name: "test-api".to_owned(), flavour: Flavour::Controllers })?;
    let mut surroundings = Surroundings::new(options);
    surroundings.add_cluster(&cluster)?;
    let outcome = run_group(Group::Operator, &surroundings, |program| cluster.enter(program));
    cluster.down()?;
    outcome
}

fn node(options: &Options) -> anyhow::Result<(usize, Vec<String>)> {
    let built = images::build()?;
    let others = [
        ("TEST_MYSQL_IMAGE", images::debian(Rootfs::Mysql)?),
        ("TEST_MARIADB_IMAGE", images::debian(Rootfs::Mariadb)?),
        ("TEST_CLIENT_IMAGE", images::debian(Rootfs::Client)?),
    ];
    let cluster = Cluster::up(&ClusterOptions { name: "test-node".to_owned(), flavour: Flavour::Node })?;
    let mut surroundings = Surroundings::new(options);
    surroundings.add_cluster(&cluster)?;
    surroundings.add_client()?;
    for image in built.all().into_iter().chain(others.iter().map(|(_, image)| image)) {
        cluster.load_image(&image.archive)?;
    }
    surroundings.set("TEST_OPERATOR_IMAGE", &built.operator.tag);
    surroundings.set("TEST_SERVER_IMAGE", &built.server.tag);
    // To Kubernetes an image of another name is another release.
    let next = format!("{}-next", built.server.tag);
    cluster.tag_image(&built.server.tag, &next)?;
    surroundings.set("TEST_NEXT_SERVER_IMAGE", next);
    for (variable, image) in &others {
        surroundings.set(variable, &image.tag);
    }
    surroundings.add_node(&cluster);
    let outcome = run_group(Group::Node, &surroundings, |program| cluster.enter(program));
    cluster.down()?;
    outcome
}

const DEMOS: [(&str, checks::Check); 2] = [
    ("a demo on a node of its own", || demo::run(&demo::Options::default())),
    ("a demo on a cluster known by its kubeconfig alone", demo_on_a_given_cluster),
];

/// The demo runs on a cluster that it did not make, and leaves nothing of its own there.
fn demo_on_a_given_cluster() -> anyhow::Result<()> {
    const NAME: &str = "test-given";
    let cluster = Cluster::up(&ClusterOptions { name: NAME.to_owned(), flavour: Flavour::Node })?;
    let program = sandbox::own_executable();
    let program = program.to_string_lossy();
    let load = format!("{program} cluster load --name {NAME} {{archive}}");
    let status = cluster.enter(&program).args(["demo", "--context", NAME, "--load", &load]).status()?;
    let kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings";
    let left = progress::output(cluster.kubectl().args(["get", kinds, "--output", "name"]))?;
    cluster.down()?;
    anyhow::ensure!(status.success(), "demo --context failed");
    let left: Vec<&str> = left.lines().filter(|name| name.contains("authservice")).collect();
    anyhow::ensure!(left.is_empty(), "demo --context left {left:?}");
    Ok(())
}

/// The environment that tests find their surroundings by.
#[derive(Default)]
struct Surroundings(BTreeMap<String, OsString>);

impl Surroundings {
    fn new(options: &Options) -> Self {
        let mut surroundings = Self::default();
        if options.full {
            surroundings.set("TEST_FULL", "1");
        }
        surroundings
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn add_client(&mut self) -> anyhow::Result<()> {
        self.set("TEST_PYTHON", in_rootfs(Rootfs::Client, "/usr/bin/python3")?);
        self.set("TEST_CURL", in_rootfs(Rootfs::Client, "/usr/bin/curl")?);
        Ok(())
    }

    fn add_cluster(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        self.set("KUBECONFIG", cluster.kubeconfig());
        self.set("TEST_AUDIT_LOG", cluster.audit_log());
        self.set("TEST_KUBECTL", parts::binary("kubectl")?);
        self.set("TEST_HELM3", parts::binary(HelmVersion::V3.program())?);
        self.set("TEST_HELM4", parts::binary(HelmVersion::V4.program())?);
        Ok(())
    }

    /// The words that run a program of the node, as root, for tests that break it.
    fn add_node(&mut self, cluster: &Cluster) {
        let program = sandbox::own_executable();
        self.set("TEST_NODE", format!("{} cluster shell --name {} --", program.display(), cluster.name()));
    }
}

/// The words that run a program of a rootfs.
fn in_rootfs(rootfs: Rootfs, program: &str) -> anyhow::Result<String> {
    let sudo = if privilege::is_root() { "" } else { "sudo -E -- " };
    Ok(format!("{sudo}chroot {} {program}", parts::rootfs(rootfs)?.display()))
}

/// A short search, and what shows that it is worth something.
fn prove(options: &Options) -> anyhow::Result<(usize, Vec<String>)> {
    let minutes = if options.full { 30 } else { 2 };
    // The same search each time: what it finds is a change, and not luck.
    let search = || prove::run(&prove::Options { seed: Some(1), minutes, bugs: None });
    let bugs = || prove::run(&prove::Options { seed: None, minutes, bugs: Some(String::new()) });
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, outcome) in [("no fault breaks a promise", search()), ("deliberate bugs are found", bugs())] {
        match outcome {
            Ok(()) => passed += 1,
            Err(error) => {
                println!("{name} ... FAILED\n{error:#}");
                failed.push(name.to_owned());
            }
        }
    }
    let cluster =
        Cluster::up(&ClusterOptions { name: "test-model".to_owned(), flavour: Flavour::ControlPlane })?;
    let mut surroundings = Surroundings::new(options);
    surroundings.add_cluster(&cluster)?;
    let binaries =
        test_binaries(&["--package", "authservice-prove", "--features", "live-tests", "--test", "fidelity"])?;
    let outcome = run_all(&binaries, &surroundings, |program| cluster.enter(program));
    cluster.down()?;
    let (more, failures) = outcome?;
    failed.extend(failures);
    Ok((passed + more, failed))
}

fn run_group(
    group: Group,
    surroundings: &Surroundings,
    command: impl Fn(&str) -> Command,
) -> anyhow::Result<(usize, Vec<String>)> {
    let prefix = group.prefix().context("a group without test files")?;
    let mut binaries =
        test_binaries(&["--package", "authservice-operator", "--features", "live-tests", "--tests"])?;
    binaries.retain(|binary| binary.name.starts_with(prefix));
    anyhow::ensure!(!binaries.is_empty(), "no file tests/{prefix}*.rs");
    run_all(&binaries, surroundings, command)
}

struct TestBinary {
    name: String,
    executable: PathBuf,
}

/// Compiles tests and tells where their executables are.
fn test_binaries(arguments: &[&str]) -> anyhow::Result<Vec<TestBinary>> {
    let mut child = Command::new("cargo")
        .current_dir(images::workspace()?)
        .args(["test", "--no-run", "--locked", "--message-format", "json-render-diagnostics"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo")?;
    let stdout = child.stdout.take().context("cargo has no standard output")?;
    let mut binaries = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(&line?) else { continue };
        if let (Some(executable), Some(true), Some(name)) = (
            message["executable"].as_str(),
            message["profile"]["test"].as_bool(),
            message["target"]["name"].as_str(),
        ) {
            binaries.push(TestBinary { name: name.to_owned(), executable: executable.into() });
        }
    }
    anyhow::ensure!(child.wait()?.success(), "the tests do not compile");
    binaries.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(binaries)
}

/// Runs each executable, passing its output on, and counts.
fn run_all(
    binaries: &[TestBinary],
    surroundings: &Surroundings,
    command: impl Fn(&str) -> Command,
) -> anyhow::Result<(usize, Vec<String>)> {
    let (mut passed, mut failed) = (0, Vec::new());
    for binary in binaries {
        println!("-- {}", binary.name);
        let program = binary.executable.to_str().context("the path of a test is not UTF-8")?;
        let outcome = run_one(command(program).envs(&surroundings.0), &images::workspace()?)?;
        passed += outcome.passed;
        failed.extend(outcome.failed.into_iter().map(|test| format!("{}::{test}", binary.name)));
        if !outcome.success && failed.is_empty() {
            failed.push(format!("{}: ended without a verdict", binary.name));
        }
    }
    Ok((passed, failed))
}

struct Outcome {
    success: bool,
    passed: usize,
    failed: Vec<String>,
}

fn run_one(command: &mut Command, workspace: &Path) -> anyhow::Result<Outcome> {
    // What a test counted or measured is worth reading when it passed, too.
    command.arg("--show-output").current_dir(workspace).stdout(Stdio::piped());
    let mut child = command.spawn().context("start a test")?;
    let stdout = child.stdout.take().context("a test has no standard output")?;
    let (mut passed, mut failed) = (0, Vec::new());
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        writeln!(out, "{line}")?;
        if let Some(name) = line.strip_prefix("test ") {
            match name.rsplit_once(" ... ") {
                Some((_, "ok")) => passed += 1,
                Some((name, "FAILED")) => failed.push(name.to_owned()),
                _ => {}
            }
        }
    }
    Ok(Outcome { success: child.wait()?.success(), passed, failed })
}
