//! Command line of the auth server.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use authservice::{
    server::{
        self,
        config::{self, Environment, MigrateConfig, ServeConfig, UserConfig},
        keys::unix_now,
        migrate,
        passwords::{MAX_PASSWORD_BYTES, calibrate::calibrate},
        users,
    },
    telemetry,
};
use clap::{Parser, Subcommand};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Exit code for a configuration that cannot be used, as of sysexits' `EX_CONFIG`.
const BAD_CONFIGURATION: u8 = 78;

/// Logs users in against a MySQL or MariaDB table and validates their tokens.
///
/// All configuration comes from environment variables; each also works with `_FILE` appended.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve `/login` and `/validate`.
    Serve,
    /// Bring the database to the schema this release needs, create what is missing, and report.
    Migrate,
    /// Look after users, with the environment of `serve`.
    #[command(subcommand)]
    User(users::Command),
    /// Ask a server on this machine whether it is ready.
    Healthcheck,
    /// Print a token for the administration API, signed with `ADMIN_KEY`.
    AdminToken {
        /// How long the token lives, from `1s` to `1h`.
        #[arg(long, default_value = "5m", value_parser = config::admin_token_ttl)]
        ttl: Duration,
        /// Who will use it, for the log: the claim `sub`.
        #[arg(long, value_name = "NAME")]
        subject: Option<String>,
    },
    /// Print the `OpenAPI` document of the public endpoints.
    Openapi {
        /// Print that of the administration endpoints.
        #[arg(long)]
        administration: bool,
    },
    /// Read a password from standard input and print its Argon2id hash, made with the parameters of
    /// `ARGON2_MEMORY_KIB`, `ARGON2_ITERATIONS` and `ARGON2_PARALLELISM`.
    Hash,
    /// Measure Argon2id on this machine and print the parameters to put into a spec.
    Calibrate {
        /// Longest time that one hash may take.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
        milliseconds: u64,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve => with_runtime(serve()),
        Command::Migrate => with_runtime(run_migration()),
        Command::User(command) => with_runtime(user(command)),
        Command::Healthcheck => with_runtime(healthcheck()),
        Command::AdminToken { ttl, subject } => admin_token(ttl, subject.as_deref()),
        Command::Openapi { administration } => {
            let text = if administration {
                server::http::administration::openapi::text()
            } else {
                server::http::openapi::text()
            };
            print!("{text}");
            ExitCode::SUCCESS
        }
        Command::Hash => hash(),
        Command::Calibrate { milliseconds } => run_calibration(Duration::from_millis(milliseconds)),
    }
}

fn with_runtime(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // A name lookup that hangs must not keep the process.
            runtime.shutdown_timeout(Duration::from_secs(1));
            code
        }
        Err(error) => fail(&format!("no threads can be started: {error}")),
    }
}

async fn serve() -> ExitCode {
    let config = match ServeConfig::read(&Environment::of_process()) {
        Ok(config) => config,
        Err(faults) => return refuse(&faults),
    };
    telemetry::init();
    match server::serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

async fn run_migration() -> ExitCode {
    let config = match MigrateConfig::read(&Environment::of_process()) {
        Ok(config) => config,
        Err(faults) => return refuse(&faults),
    };
    telemetry::init();
    let report = migrate::run(&config).await;
    migrate::publish(&report, &config.termination_log);
    if report.error.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn user(command: users::Command) -> ExitCode {
    let config = match UserConfig::read(&Environment::of_process()) {
        Ok(config) => config,
        Err(faults) => return refuse(&faults),
    };
    match users::run(command, &config).await {
        Ok(text) => {
            // Whoever reads only the first lines has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("auth-server: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn healthcheck() -> ExitCode {
    let mut address = match config::ops_address(&Environment::of_process()) {
        Ok(address) => address,
        Err(faults) => return refuse(&faults),
    };
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    match tokio::time::timeout(Duration::from_secs(3), readyz(address)).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => ExitCode::SUCCESS,
        Ok(Ok(answer)) => fail(answer.rsplit("\r\n").next().unwrap_or_default()),
        Ok(Err(error)) => fail(&format!("{address} does not answer: {error}")),
        Err(_) => fail(&format!("{address} does not answer within 3 s")),
    }
}

async fn readyz(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer).await?;
    Ok(answer)
}

fn admin_token(ttl: Duration, subject: Option<&str>) -> ExitCode {
    let key = match config::read_admin_key(&Environment::of_process()) {
        Ok(key) => key,
        Err(faults) => return refuse(&faults),
    };
    match key.issue(subject, ttl.as_secs(), unix_now()) {
        Ok(token) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn hash() -> ExitCode {
    let passwords = match config::read_new_passwords(&Environment::of_process()) {
        Ok(passwords) => passwords,
        Err(faults) => return refuse(&faults),
    };
    let mut password = Vec::new();
    let limit = u64::try_from(MAX_PASSWORD_BYTES).unwrap_or(u64::MAX) + 2;
    if let Err(error) = std::io::stdin().take(limit).read_to_end(&mut password) {
        return fail(&format!("standard input cannot be read: {error}"));
    }
    if password.ends_with(b"\n") {
        password.pop();
    }
    match passwords.hash(&password) {
        Ok(hash) => {
            println!("{hash}");
            ExitCode::SUCCESS
        }
        Err(refused) => fail(&refused.to_string()),
    }
}

fn run_calibration(target: Duration) -> ExitCode {
    let threads = match config::read_hashing_threads(&Environment::of_process()) {
        Ok(threads) => threads,
        Err(faults) => return refuse(&faults),
    };
    match calibrate(target, threads) {
        Ok(calibration) => {
            println!("{calibration}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn refuse(faults: &config::Faults) -> ExitCode {
    eprintln!("auth-server: {faults}");
    ExitCode::from(BAD_CONFIGURATION)
}

fn fail(message: &str) -> ExitCode {
    eprintln!("auth-server: {message}");
    ExitCode::FAILURE
}
