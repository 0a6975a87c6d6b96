//! Arguments of the operator.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use authservice::{
    api::AuthService,
    contract,
    operator::{
        self, Options,
        check::{self, Finding},
        context::Images,
        definition, lease,
    },
    telemetry,
};
use clap::{Args, Parser, Subcommand};
use kube::{Config, CustomResourceExt};

/// Keeps every `AuthService` running.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    install: Install,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the custom resource definition as JSON, which `kubectl apply -f -` takes.
    Crd,
    /// Bring the custom resource definition in the cluster to this release, whoever owns it. One
    /// of a later release is left.
    UpdateCrd,
    /// Ask the API server whether this installation works: the resource is served, the rights are
    /// granted, and a process leads. Ends with 0 when all is well.
    Check,
}

#[derive(Debug, Args)]
struct Install {
    /// Namespaces to serve, comma-separated. Default: all.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',', value_parser = namespace, global = true)]
    watch_namespaces: Vec<String>,
    /// Auth server image of resources that name none.
    #[arg(long, env = "SERVER_IMAGE", default_value = contract::SERVER_IMAGE)]
    server_image: String,
    /// Image of managed databases that name none.
    #[arg(long, env = "DATABASE_IMAGE", default_value = contract::DATABASE_IMAGE)]
    database_image: String,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "OPS_ADDRESS", default_value = "0.0.0.0:8080")]
    ops_address: SocketAddr,
    /// Namespace of the Lease by which one of several processes leads. Default: the namespace of
    /// the pod or of the kubeconfig's context.
    #[arg(long, env = "LEASE_NAMESPACE", global = true)]
    lease_namespace: Option<String>,
    /// Name of the Lease.
    #[arg(long, env = "LEASE_NAME", default_value = "authservice-operator", global = true)]
    lease_name: String,
    /// Seconds the Lease stands without a renewal before another process may take it.
    #[arg(long, env = "LEASE_DURATION", default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=600), global = true)]
    lease_duration: u64,
}

/// An empty element is what an empty environment variable gives; it is dropped later.
fn namespace(name: &str) -> Result<String, String> {
    let label = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if label && name.len() <= 63 {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is no namespace: lower-case letters, digits and '-' only"))
    }
}

// Nearly all time is spent waiting for the API server: a thread for each core of a large node
// would only hold memory.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !matches!(arguments.command, Some(Command::Crd)) {
        telemetry::init();
    }
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(Arguments { command, install }: Arguments) -> anyhow::Result<()> {
    if matches!(command, Some(Command::Crd)) {
        println!("{}", serde_json::to_string_pretty(&AuthService::crd())?);
        return Ok(());
    }
    let config =
        Config::infer().await.context("neither a pod's service account nor a kubeconfig was found")?;
    let options = install.options(&config);
    match command {
        Some(Command::Check) => report(&check::check(config, &options).await),
        Some(Command::UpdateCrd) => {
            println!("{:?}", definition::update(config).await?);
            Ok(())
        }
        Some(Command::Crd) | None => Ok(operator::run(config, options, operator::signals()?).await?),
    }
}

fn report(findings: &[Finding]) -> anyhow::Result<()> {
    for finding in findings {
        println!("{finding}");
    }
    let failed = findings.iter().filter(|finding| finding.fault.is_some()).count();
    anyhow::ensure!(
        failed == 0,
        "the installation does not work: {failed} of {} findings are bad",
        findings.len()
    );
    Ok(())
}

impl Install {
    fn options(self, config: &Config) -> Options {
        let process = format!("{:08x}", rand::random::<u32>());
        let pod = std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
        Options {
            images: Images { server: self.server_image, database: self.database_image },
            namespaces: self.watch_namespaces.into_iter().filter(|name| !name.is_empty()).collect(),
            ops_address: self.ops_address,
            lease: lease::Settings {
                namespace: self.lease_namespace.unwrap_or_else(|| config.default_namespace.clone()),
                name: self.lease_name,
                identity: format!("{pod}_{process}"),
                ttl: Duration::from_secs(self.lease_duration),
            },
        }
    }
}
