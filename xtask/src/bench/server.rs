//! The auth server against the least that could answer `/validate`: a bare route with the same bytes, and
//! one that does nothing but check the signature.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Options;
use super::figure::{Figure, Summary, Target};
use super::load::{self, Load};
use super::machine;
use crate::database::{self, Database, Engine};
use crate::images;
use crate::progress::{self, Step};

/// For this run alone; whoever knows it can do nothing with it afterwards.
const SECRET: &str = "a key of the benchmark, of more than 32 bytes";
/// Most requests a second that a round has tokens for.
const MOST_PER_SECOND: u64 = 120_000;
/// The account that the server uses; it has the password of root, which nobody else learns either.
const ACCOUNT: &str = "bench";
const START_LIMIT: Duration = Duration::from_secs(20);

/// How many rounds, and how long each measurement lasts.
struct Plan {
    rounds: usize,
    period: Duration,
}

impl Plan {
    fn of(options: Options) -> Self {
        if options.quick {
            Self { rounds: 3, period: Duration::from_secs(1) }
        } else {
            Self { rounds: 5, period: Duration::from_secs(3) }
        }
    }

    fn tokens_of_a_round(&self) -> u64 {
        MOST_PER_SECOND * self.period.as_secs()
    }
}

/// One token again and again, or none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tokens {
    Repeated,
    NeverSeen,
}

/// What is measured in each round, in this order.
const MEASUREMENTS: [(Server, Tokens); 5] = [
    (Server::Bare, Tokens::Repeated),
    (Server::Ours, Tokens::Repeated),
    (Server::Bare, Tokens::NeverSeen),
    (Server::Ours, Tokens::NeverSeen),
    (Server::VerifyOnly, Tokens::NeverSeen),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Ours,
    Bare,
    VerifyOnly,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    server: Server,
    tokens: Tokens,
    requests_per_second: f64,
    cpu_microseconds: f64,
}

/// Measures and prints.
///
/// # Errors
/// Something cannot be built or started, a request fails, or the machine is not quiet.
pub fn server(options: Options) -> anyhow::Result<()> {
    let plan = Plan::of(options);
    let subjects = Subjects::start()?;
    let rounds = measure(&plan, &subjects)?;
    let figures = figures(&rounds);
    if options.json {
        for figure in &figures {
            println!("{}", serde_json::to_string(figure)?);
        }
        return Ok(());
    }
    println!("\n/validate on {}", machine::description()?);
    println!(
        "{} rounds of {} s a measurement, in turns; wrk with one thread and {} kept connections on the same CPUs\n",
        plan.rounds,
        plan.period.as_secs(),
        load::CONNECTIONS
    );
    for (server, tokens) in MEASUREMENTS {
        println!("{}", absolute(&rounds, server, tokens));
    }
    println!();
    for figure in &figures {
        println!("{}", figure.line());
    }
    Ok(())
}

fn figures(rounds: &[Vec<Sample>]) -> [Figure; 4] {
    use Server::{Bare, Ours, VerifyOnly};
    use Target::{AtLeast, AtMost};
    use Tokens::{NeverSeen, Repeated};
    let rate = |sample: &Sample| sample.requests_per_second;
    let cpu = |sample: &Sample| sample.cpu_microseconds;
    let figure = |name, against, target, value: &dyn Fn(&Sample) -> f64, (limit, tokens)| {
        Figure::ratio(name, against, target, pairs(rounds, value, (Ours, tokens), (limit, tokens)))
    };
    [
        figure("requests/s, one token repeated", "a bare route's", AtLeast(0.90), &rate, (Bare, Repeated)),
        figure(
            "CPU time a request, one token repeated",
            "a bare route's",
            AtMost(1.2),
            &cpu,
            (Bare, Repeated),
        ),
        figure(
            "requests/s, tokens never seen",
            "a route's that only verifies",
            AtLeast(0.95),
            &rate,
            (VerifyOnly, NeverSeen),
        ),
        figure(
            "CPU time a request, tokens never seen",
            "a bare route's",
            AtMost(1.5),
            &cpu,
            (Bare, NeverSeen),
        ),
    ]
}

fn pairs<'a>(
    rounds: &'a [Vec<Sample>],
    value: &'a dyn Fn(&Sample) -> f64,
    ours: (Server, Tokens),
    limit: (Server, Tokens),
) -> impl Iterator<Item = (f64, f64)> + 'a {
    let find = move |round: &'a Vec<Sample>, (server, tokens)| {
        round.iter().find(|sample| (sample.server, sample.tokens) == (server, tokens)).map(value)
    };
    rounds.iter().filter_map(move |round| Some((find(round, ours)?, find(round, limit)?)))
}

fn absolute(rounds: &[Vec<Sample>], server: Server, tokens: Tokens) -> String {
    let samples =
        || rounds.iter().flatten().filter(move |sample| (sample.server, sample.tokens) == (server, tokens));
    let rate = Summary::of(samples().map(|sample| sample.requests_per_second));
    let cpu = Summary::of(samples().map(|sample| sample.cpu_microseconds));
    let server = match server {
        Server::Ours => "auth-server",
        Server::Bare => "bare route",
        Server::VerifyOnly => "route that only verifies",
    };
    let tokens = match tokens {
        Tokens::Repeated => "one token repeated",
        Tokens::NeverSeen => "tokens never seen",
    };
    format!(
        "  {server:24} {tokens:18} {:7.0} requests/s ({:.0} to {:.0}), {:5.1} µs of CPU a request ({:.1} to {:.1})",
        rate.median, rate.least, rate.most, cpu.median, cpu.least, cpu.most
    )
}

fn measure(plan: &Plan, subjects: &Subjects) -> anyhow::Result<Vec<Vec<Sample>>> {
    let load = Load::prepare()?;
    let mut step = Step::start("measuring /validate");
    let repeated = subjects.tokens(1)?;
    let mut rounds = Vec::with_capacity(plan.rounds);
    for round in 1..=plan.rounds {
        step.tick(&format!("round {round} of {}", plan.rounds));
        let never_seen = subjects.tokens(plan.tokens_of_a_round())?;
        let samples = MEASUREMENTS.into_iter().map(|(server, tokens)| {
            let file = match tokens {
                Tokens::Repeated => &repeated,
                Tokens::NeverSeen => &never_seen,
            };
            machine::wait_until_quiet()?;
            let running = subjects.get(server);
            let before = machine::cpu_time(running.process.id())?;
            let counts = load.validate(running.address, file.path(), plan.period)?;
            let spent = machine::cpu_time(running.process.id())?.saturating_sub(before);
            anyhow::ensure!(
                tokens == Tokens::Repeated
                    || u64::from(counts.requests) + u64::from(load::CONNECTIONS) <= plan.tokens_of_a_round(),
                "{} requests were more than there were tokens never seen",
                counts.requests
            );
            let requests = f64::from(counts.requests);
            Ok(Sample {
                server,
                tokens,
                requests_per_second: requests / (counts.microseconds / 1e6),
                cpu_microseconds: spent.as_secs_f64() * 1e6 / requests,
            })
        });
        rounds.push(samples.collect::<anyhow::Result<_>>()?);
    }
    step.done();
    Ok(rounds)
}

/// A server that runs; it ends with this value.
struct Running {
    process: Child,
    address: SocketAddr,
}

impl Running {
    fn start(mut command: Command, address: SocketAddr, log: &str) -> anyhow::Result<Self> {
        let log = progress::log_path(log)?;
        let output = fs::File::create(&log)?;
        let process = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        let mut running = Self { process, address };
        let started = Instant::now();
        while TcpStream::connect(running.address).is_err() {
            let ended = running.process.try_wait()?;
            anyhow::ensure!(
                ended.is_none() && started.elapsed() < START_LIMIT,
                "{} does not listen\n{}",
                command.get_program().display(),
                progress::tail(&log)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Subjects {
    limits: PathBuf,
    bare: Running,
    verify_only: Running,
    ours: Running,
    _database: Database,
}

impl Subjects {
    fn start() -> anyhow::Result<Self> {
        let workspace = images::workspace()?;
        let auth_server = images::static_binary(&workspace, images::SERVER)?;
        let limits = images::static_binary(&workspace, images::LIMITS)?;
        let database = database::start(Engine::Mysql)?;
        migrate(&auth_server, &database)?;
        let limit = |name: &str| {
            let address = free_address()?;
            let mut command = limits_command(&limits);
            command.args([name, &address.to_string()]);
            Running::start(command, address, &format!("bench-{name}"))
        };
        let (bare, verify_only) = (limit("bare")?, limit("verify")?);
        let ours = serve(&auth_server, &database)?;
        let subjects = Self { limits, bare, verify_only, ours, _database: database };
        subjects.check_answers()?;
        Ok(subjects)
    }

    fn get(&self, server: Server) -> &Running {
        match server {
            Server::Ours => &self.ours,
            Server::Bare => &self.bare,
            Server::VerifyOnly => &self.verify_only,
        }
    }

    /// A file of new tokens, one a line.
    fn tokens(&self, count: u64) -> anyhow::Result<tempfile::NamedTempFile> {
        let file = tempfile::NamedTempFile::new()?;
        let mut command = limits_command(&self.limits);
        let status = command.args(["tokens", &count.to_string()]).stdout(file.reopen()?).status()?;
        anyhow::ensure!(status.success(), "no tokens were made");
        Ok(file)
    }

    /// What is compared has to answer the same head and as many bytes behind it.
    fn check_answers(&self) -> anyhow::Result<()> {
        let tokens = self.tokens(1)?;
        let token = fs::read_to_string(tokens.path())?;
        let [ours, bare, verify_only] =
            [&self.ours, &self.bare, &self.verify_only].map(|running| answer(running.address, token.trim()));
        let ours = ours?;
        anyhow::ensure!(
            ours.first().is_some_and(|line| line == "HTTP/1.1 200 OK"),
            "a token is refused: {ours:?}"
        );
        for limit in [bare?, verify_only?] {
            anyhow::ensure!(ours == limit, "the answers differ:\n{ours:#?}\n{limit:#?}");
        }
        Ok(())
    }
}

/// The lines of an answer's head, sorted behind the first, without the date; the body's length is among them.
fn answer(address: SocketAddr, token: &str) -> anyhow::Result<Vec<String>> {
    let mut connection = TcpStream::connect(address)?;
    write!(
        connection,
        "POST /validate HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    )?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    let (head, _) = text.split_once("\r\n\r\n").context("no answer")?;
    let mut lines: Vec<String> =
        head.lines().filter(|line| !line.starts_with("date: ")).map(str::to_owned).collect();
    if let Some(headers) = lines.get_mut(1..) {
        headers.sort_unstable();
    }
    Ok(lines)
}

fn limits_command(limits: &Path) -> Command {
    let mut command = Command::new(limits);
    command.env_clear().env("JWT_SECRET", SECRET);
    command
}

fn auth_server_command(auth_server: &Path, database: &Database) -> Command {
    let mut command = Command::new(auth_server);
    command.env_clear().env("JWT_SECRET", SECRET).env("MYSQL_HOST", "127.0.0.1");
    command.env("MYSQL_PORT", database.port().to_string()).env("MYSQL_USER", ACCOUNT);
    command.env("MYSQL_PASSWORD", database.root_password());
    command
}

fn migrate(auth_server: &Path, database: &Database) -> anyhow::Result<()> {
    let report = tempfile::NamedTempFile::new()?;
    // With admin rights, which it takes to create the database.
    let mut command = auth_server_command(auth_server, database);
    command.env("MYSQL_ADMIN_USER", "root").env("MYSQL_ADMIN_PASSWORD", database.root_password());
    command.env("TERMINATION_LOG", report.path());
    progress::output(command.arg("migrate")).map(drop)
}

fn serve(auth_server: &Path, database: &Database) -> anyhow::Result<Running> {
    let (public, ops) = (free_address()?, free_address()?);
    let mut command = auth_server_command(auth_server, database);
    command.env("LISTEN_ADDRESS", public.to_string());
    command.env("OPS_ADDRESS", ops.to_string()).arg("serve");
    Running::start(command, public, "bench-auth-server")
}

/// Free at this moment; whoever listens there next says so if somebody else was faster.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
