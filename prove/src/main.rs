//! Runs what failed before, then sweeps, then campaigns; tells what ran and what broke.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use authservice_prove::{
    campaign::{self, Beginnings, Walked, walk},
    elections::hold,
    regressions::{Regression, kept},
    run::simulated,
    scenarios,
    sweep::{Extent, Swept, sweep},
};
use clap::Parser;

/// A run allocates millions of small JSON values, which this one hands out in half the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The operator under faults, on simulated time
#[derive(Parser)]
struct Arguments {
    /// The seed of everything random; drawn and told when absent
    #[arg(long)]
    seed: Option<u64>,
    /// Of so many single faults one is tried; 1 tries every one
    #[arg(long, default_value_t = 1)]
    one_in: usize,
    /// Pairs of faults tried in each scenario
    #[arg(long, default_value_t = 20)]
    pairs: usize,
    /// Elections held on a network that is cut
    #[arg(long, default_value_t = 100, overrides_with = "elections")]
    elections: u64,
    /// Acts of campaigns
    #[arg(long, default_value_t = 0)]
    acts: usize,
    /// How long campaigns may take, whatever number of acts is asked for
    #[arg(long)]
    minutes: Option<u64>,
    /// Only scenarios whose names contain this
    #[arg(long)]
    scenario: Option<String>,
    /// No sweeps
    #[arg(long)]
    no_sweeps: bool,
    /// Where failures are kept
    #[arg(long, default_value = "prove/regressions")]
    regressions: PathBuf,
    /// Do not keep new failures
    #[arg(long)]
    forget: bool,
    /// End after so many failures
    #[arg(long, default_value_t = 5)]
    enough: usize,
    /// Tell of every scenario
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match run(&Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            println!("\n{failures} failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<usize> {
    let seed = arguments.seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("seed {seed}");
    let mut all = scenarios::all();
    let beginnings = Beginnings::prepare(seed)?;
    let mut failures = 0;
    let old = kept(&arguments.regressions)?;
    for (path, regression) in &old {
        if let Err(error) = regression.run(&all, &beginnings) {
            println!("FAILED again: {}: {error:#}", path.display());
            failures += 1;
        }
    }
    println!("{} failures of the past run again", old.len());
    if let Some(part) = &arguments.scenario {
        all.retain(|scenario| scenario.name.contains(part));
    }
    let started = Instant::now();
    if !arguments.no_sweeps {
        let swept = sweeps(arguments, seed, &all);
        let Swept { scenarios, points, pairs, missed, .. } = swept;
        println!(
            "{scenarios} scenarios, {points} single faults, {pairs} pairs ({missed} of them not met), {} s",
            started.elapsed().as_secs()
        );
        failures += swept.failures.len();
        for failure in swept.failures {
            let regression = Regression::Sweep { scenario: failure.scenario, faults: failure.faults, seed };
            keep(arguments, &regression)?;
        }
    }
    if arguments.elections > 0 {
        failures += elections(arguments, seed);
    }
    if arguments.acts > 0 && failures < arguments.enough {
        failures += campaigns(arguments, seed, &beginnings)?;
    }
    Ok(failures)
}

fn keep(arguments: &Arguments, regression: &Regression) -> anyhow::Result<()> {
    if !arguments.forget {
        println!("kept as {}", regression.keep(&arguments.regressions)?.display());
    }
    Ok(())
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Tells how far a long search is, once a minute.
struct Pulse(Mutex<Instant>);

impl Pulse {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn beat(&self, line: impl FnOnce() -> String) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= Duration::from_mins(1) {
            *last = Instant::now();
            println!("{}", line());
        }
    }
}

fn sweeps(arguments: &Arguments, seed: u64, all: &[scenarios::Scenario]) -> Swept {
    let (pulse, ended) = (Pulse::new(), AtomicUsize::new(0));
    let extent = Extent {
        seed,
        one_in: arguments.one_in.max(1),
        pairs: arguments.pairs,
        threads: threads(),
        enough: arguments.enough,
    };
    sweep(all, &extent, &|line| {
        if arguments.verbose || line.starts_with("FAILED") {
            println!("{line}");
        }
        let one = usize::from(!line.starts_with("FAILED"));
        let ended = ended.fetch_add(one, Ordering::Relaxed) + one;
        pulse.beat(|| format!("{ended} of {} scenarios swept", all.len()));
    })
}

fn elections(arguments: &Arguments, seed: u64) -> usize {
    let started = Instant::now();
    let mut failures = 0;
    for number in 0..arguments.elections {
        let seed = seed.wrapping_add(number);
        if let Err(error) = simulated(hold(seed)) {
            println!("FAILED: the election of seed {seed}: {error:#}");
            failures += 1;
        }
    }
    println!("{} elections, {} s", arguments.elections, started.elapsed().as_secs());
    failures
}

fn campaigns(arguments: &Arguments, seed: u64, beginnings: &Beginnings) -> anyhow::Result<usize> {
    let started = Instant::now();
    let end = arguments.minutes.map(|minutes| started + Duration::from_mins(minutes));
    let (next, walked, failures) = (AtomicU64::new(0), Mutex::new(Walked::default()), AtomicUsize::new(0));
    let pulse = Pulse::new();
    let work = || -> anyhow::Result<()> {
        while end.is_none_or(|end| Instant::now() < end)
            && failures.load(Ordering::Relaxed) < arguments.enough
        {
            let number = next.fetch_add(1, Ordering::Relaxed);
            match walk(beginnings, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number)) {
                Ok(more) => {
                    let mut walked = walked.lock().unwrap_or_else(PoisonError::into_inner);
                    walked.lives += more.lives;
                    walked.acts += more.acts;
                    pulse.beat(|| format!("{} lives of {} acts so far", walked.lives, walked.acts));
                    if walked.acts >= arguments.acts {
                        break;
                    }
                }
                Err(failure) => {
                    failures.fetch_add(1, Ordering::Relaxed);
                    let campaign::Failure { case, words } = *failure;
                    println!("FAILED: {words}\nthe shortest life: {}", serde_json::to_string(&case)?);
                    keep(arguments, &Regression::Campaign(case))?;
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a campaign panicked"))?)
    })?;
    let Walked { lives, acts } = walked.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{lives} lives of {acts} acts, {} s", started.elapsed().as_secs());
    Ok(failures.into_inner())
}
