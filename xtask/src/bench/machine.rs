//! The machine: what it is, whether it is quiet, and what of its CPUs a process took.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// How long to look whether something else runs.
const LOOK: Duration = Duration::from_millis(500);
/// How often to look before giving up.
const LOOKS: u32 = 20;
/// Most of the CPUs that may be busy while nothing of ours is.
const NOISE: f64 = 0.10;

/// The machine in a line.
pub(super) fn description() -> anyhow::Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown CPU", |(_, model)| model);
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kibibytes: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .context("/proc/meminfo has no MemTotal")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let count = std::thread::available_parallelism()?;
    Ok(format!("{count} CPUs ({model}), {} GiB, Linux {}", kibibytes >> 20, kernel.trim()))
}

/// Waits until nothing else runs.
///
/// # Errors
/// Something does, for ten seconds on end.
pub(super) fn wait_until_quiet() -> anyhow::Result<()> {
    let mut busy = 0.0;
    for _ in 0..LOOKS {
        busy = busy_share()?;
        if busy <= NOISE {
            return Ok(());
        }
    }
    anyhow::bail!(
        "other programs take {:.0} % of the CPUs, which would falsify every figure: end them and try again",
        busy * 100.0
    )
}

/// The share of all CPUs that is busy now, what a hypervisor takes included.
fn busy_share() -> anyhow::Result<f64> {
    let before = ticks()?;
    std::thread::sleep(LOOK);
    let after = ticks()?;
    let [idle, all] = [0, 1].map(|index| f64::from(after[index].wrapping_sub(before[index])));
    Ok(1.0 - idle / all.max(1.0))
}

/// Ticks of all CPUs since boot: idle ones and all.
fn ticks() -> anyhow::Result<[u32; 2]> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "))
        .context("/proc/stat begins otherwise")?;
    // Differences are taken, so that the low half is enough.
    let ticks: Vec<u32> =
        line.split_ascii_whitespace().filter_map(|field| Some(low_half(field.parse().ok()?))).collect();
    // user nice system idle iowait irq softirq steal; guest time is part of user time.
    let all = ticks.iter().take(8).fold(0, |sum: u32, ticks| sum.wrapping_add(*ticks));
    let idle = ticks.get(3..5).context("/proc/stat has too few fields")?;
    Ok([idle[0].wrapping_add(idle[1]), all])
}

fn low_half(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// CPU time of all threads that a process has, by the scheduler's own count.
pub(super) fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end just now; none of those that answer requests does.
        let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let spent = stat.split(' ').next().context("schedstat is empty")?;
        nanoseconds += spent.parse::<u64>().context("schedstat holds no number")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}
