//! `cargo xtask`: the developer's commands.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use xtask::cluster::{self, Cluster, ClusterOptions, Flavour};
use xtask::database::{self, Engine, Galera};
use xtask::images::{self, Image};
use xtask::parts::Rootfs;
use xtask::{bench, demo, generate, prove, sandbox, test};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer's commands of this project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// A real Kubernetes node in namespaces of this host
    #[command(subcommand)]
    Cluster(ClusterTask),
    /// Boot a node, install the operator, log in and validate
    Demo {
        /// Leave all of it running
        #[arg(long)]
        keep: bool,
        /// A context of your kubeconfig instead of a node of our own
        #[arg(long)]
        context: Option<String>,
        /// How images come into that cluster
        #[arg(long, requires = "context")]
        load: Option<String>,
    },
    /// Build the project's images, or Debian's that tests run beside them
    Images {
        /// Load them into the running cluster of this name
        #[arg(long, num_args = 0..=1, default_missing_value = "dev")]
        load: Option<String>,
        /// Push them to this registry, such as `ghcr.io/me`, under this release's version
        #[arg(long, conflicts_with = "debian")]
        push: Option<String>,
        /// Build these in place of the project's
        #[arg(long)]
        debian: Vec<Debian>,
    },
    /// Write the files that are derived from the code
    Generate {
        /// Only compare; end with an error when one is not up to date
        #[arg(long)]
        check: bool,
    },
    /// Run every test, with the databases, API server and node it needs
    Test {
        /// Add what takes longer
        #[arg(long)]
        full: bool,
        /// Only these groups
        #[arg(long, num_args = 1..)]
        only: Vec<test::Group>,
    },
    /// The operator under faults, on simulated time
    Prove {
        /// The seed of everything random; drawn and told when absent
        #[arg(long)]
        seed: Option<u64>,
        /// About how long to search
        #[arg(long, default_value_t = 5)]
        minutes: u64,
        /// Build in the deliberate bugs, one at a time, and have each found; only those whose names begin so
        #[arg(long, conflicts_with_all = ["seed", "minutes"], num_args = 0..=1, default_missing_value = "")]
        bugs: Option<String>,
    },
    /// Measure, against limits taken in the same run
    #[command(subcommand)]
    Bench(BenchTask),
    /// A throw-away database server with empty tables, until Ctrl-C
    Database {
        /// `MariaDB` in place of `MySQL`
        #[arg(long)]
        mariadb: bool,
        /// A Galera cluster of `MariaDB`, each member of which takes writes
        #[arg(long, conflicts_with = "mariadb")]
        galera: bool,
    },
    /// What this program starts itself for
    #[command(subcommand, hide = true)]
    Internal(Internal),
}

#[derive(Subcommand)]
enum BenchTask {
    /// `/validate` against a bare route and one that only verifies
    Server {
        /// One JSON object a figure
        #[arg(long)]
        json: bool,
        /// Fewer and shorter rounds
        #[arg(long)]
        quick: bool,
    },
}

#[derive(Args)]
struct Name {
    /// Which cluster; several run side by side
    #[arg(long, default_value = "dev", global = true)]
    name: String,
}

#[derive(Subcommand)]
enum ClusterTask {
    /// Start it and wait until it is ready
    Up {
        #[command(flatten)]
        name: Name,
        /// Only etcd and the API server
        #[arg(long)]
        control_plane: bool,
        /// Only etcd, the API server and the controllers that make and remove objects
        #[arg(long, conflicts_with = "control_plane")]
        controllers: bool,
    },
    /// End it and remove all it kept
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// Give it the images of a docker archive
    Load {
        #[command(flatten)]
        name: Name,
        /// The archive, as `docker save` writes it
        archive: PathBuf,
    },
    /// Run kubectl as its administrator
    Kubectl {
        #[command(flatten)]
        name: Name,
        /// kubectl's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Open a shell, or run a command, inside the node
    Shell {
        #[command(flatten)]
        name: Name,
        /// The command; a shell when there is none
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Debian {
    Mysql,
    Mariadb,
    Client,
}

impl From<Debian> for Rootfs {
    fn from(image: Debian) -> Self {
        match image {
            Debian::Mysql => Self::Mysql,
            Debian::Mariadb => Self::Mariadb,
            Debian::Client => Self::Client,
        }
    }
}

#[derive(Subcommand)]
enum Internal {
    /// Run a program with mounts and processes that end with the caller
    Guard {
        caller: u32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
    /// Become a program inside of a sandbox
    Inside {
        view: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
    /// Make a node's namespaces
    Launch { description: String },
    /// Keep a node until it is ready
    Tend { description: String },
    /// Be a node's first process
    Node { description: String },
    /// Remove a node's cgroups
    RemoveCgroups { name: String },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Cluster(task) => run_cluster(task),
        Task::Demo { keep, context, load } => {
            demo::run(&demo::Options { keep, context, load }).map(|()| ExitCode::SUCCESS)
        }
        Task::Images { load, push, debian } => run_images(load.as_deref(), push.as_deref(), &debian),
        Task::Generate { check } => generate::run(check).map(|()| ExitCode::SUCCESS),
        Task::Test { full, only } => test::run(&test::Options { full, only }).map(|()| ExitCode::SUCCESS),
        Task::Prove { seed, minutes, bugs } => {
            prove::run(&prove::Options { seed, minutes, bugs }).map(|()| ExitCode::SUCCESS)
        }
        Task::Database { galera: true, .. } => run_galera(),
        Task::Database { mariadb, .. } => run_database(if mariadb { Engine::Mariadb } else { Engine::Mysql }),
        Task::Bench(BenchTask::Server { json, quick }) => {
            bench::server(bench::Options { json, quick }).map(|()| ExitCode::SUCCESS)
        }
        Task::Internal(task) => run_internal(&task),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run_cluster(task: ClusterTask) -> anyhow::Result<ExitCode> {
    match task {
        ClusterTask::Up { name: Name { name }, control_plane, controllers } => {
            let flavour = match (control_plane, controllers) {
                (true, _) => Flavour::ControlPlane,
                (_, true) => Flavour::Controllers,
                _ => Flavour::Node,
            };
            let cluster = Cluster::up(&ClusterOptions { name, flavour })?;
            println!(
                "The cluster {:?} is up; its kubeconfig: {}",
                cluster.name(),
                cluster.kubeconfig().display()
            );
            println!("Go on with: cargo xtask cluster kubectl --name {} get all -A", cluster.name());
            Ok(ExitCode::SUCCESS)
        }
        ClusterTask::Down { name: Name { name } } => {
            match Cluster::attach(&name) {
                Ok(cluster) => cluster.down()?,
                Err(_) => cluster::remove_leftovers(&name)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        ClusterTask::Load { name: Name { name }, archive } => {
            Cluster::attach(&name)?.load_image(&archive)?;
            Ok(ExitCode::SUCCESS)
        }
        ClusterTask::Kubectl { name: Name { name }, arguments } => {
            pass_on(Cluster::attach(&name)?.kubectl().args(arguments))
        }
        ClusterTask::Shell { name: Name { name }, command } => {
            let cluster = Cluster::attach(&name)?;
            match command.split_first() {
                None => pass_on(&mut cluster.inside("bash")),
                Some((program, arguments)) => {
                    pass_on(cluster.inside(&program.to_string_lossy()).args(arguments))
                }
            }
        }
    }
}

fn run_images(load: Option<&str>, push: Option<&str>, debian: &[Debian]) -> anyhow::Result<ExitCode> {
    let images: Vec<Image> = if debian.is_empty() {
        let built = images::build()?;
        if let Some(registry) = push {
            for name in images::push(&built, registry)? {
                println!("pushed {name}");
            }
        }
        let images::Images { operator, server } = built;
        vec![operator, server]
    } else {
        debian.iter().map(|&image| images::debian(image.into())).collect::<anyhow::Result<_>>()?
    };
    for image in images {
        println!("{}  {}", image.tag, image.archive.display());
        if let Some(name) = load {
            Cluster::attach(name)?.load_image(&image.archive)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_database(engine: Engine) -> anyhow::Result<ExitCode> {
    let database = database::start(engine)?;
    println!("{}", database.url());
    println!("The server ends with this process; its log: {}", database.log().display());
    loop {
        std::thread::park();
    }
}

fn run_galera() -> anyhow::Result<ExitCode> {
    let cluster = Galera::start()?;
    for member in cluster.members() {
        println!("{}  its log: {}", member.url(), member.log().display());
    }
    println!("The cluster ends with this process");
    loop {
        std::thread::park();
    }
}

/// Runs a command on our terminal and takes over its exit code.
fn pass_on(command: &mut Command) -> anyhow::Result<ExitCode> {
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn run_internal(task: &Internal) -> anyhow::Result<ExitCode> {
    match task {
        Internal::Guard { caller, program } => sandbox::guard(*caller, program),
        Internal::Inside { view, program } => sandbox::become_program(view, program),
        Internal::Launch { description } => cluster::internal_command("launch", description),
        Internal::Tend { description } => cluster::internal_command("tend", description),
        Internal::Node { description } => cluster::internal_command("node", description),
        Internal::RemoveCgroups { name } => cluster::internal_command("remove-cgroups", name),
    }
}
