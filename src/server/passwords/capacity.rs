//! How much hashing this process may do at a time: what CPUs, CPU limit and memory limit allow.

use std::{fs, path::Path, thread, time::Duration};

use super::{Argon2id, MAX_MEMORY_KIB};

/// Share of a CPU limit that hashing leaves to everything else: a container that has used up its limit
/// stops validating, too.
const CPU_LEFT_FREE: f64 = 0.1;
/// The part of a memory limit that computations may take together: a third, for what is kept of others
/// may be as much again, and the rest of the server needs some.
const PARTS_OF_MEMORY: u64 = 3;
/// Longest rest after one computation.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// What hashing may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Computations at the same time, each on a thread of its own.
    pub threads: usize,
    /// KiB of all computations together; `None` without a memory limit.
    pub memory_kib: Option<u32>,
    /// KiB that are kept from one computation to the next, for each thread at most: those of a new hash.
    pub kept_kib: u32,
    /// The part of its time that a thread may compute; 1 without a CPU limit.
    pub busy: f64,
}

/// What the control group of this process allows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Limits {
    cpus: Option<f64>,
    memory_bytes: Option<u64>,
}

impl Capacity {
    /// What this process has: the CPUs at hand, counting affinity and limit, but no more threads than
    /// hashes of these parameters fit into a third of a memory limit. `threads` overrides the number.
    #[must_use]
    pub fn of_process(threads: Option<usize>, argon2: Argon2id) -> Self {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        Self::within(Limits::of_process(), cpus, threads, argon2)
    }

    fn within(limits: Limits, cpus: usize, threads: Option<usize>, argon2: Argon2id) -> Self {
        let memory_kib = limits
            .memory_bytes
            .map(|bytes| u32::try_from(bytes / PARTS_OF_MEMORY / 1024).unwrap_or(u32::MAX))
            // One hash always has to fit.
            .map(|kib| kib.max(argon2.memory_kib));
        let affordable = memory_kib.map_or(usize::MAX, |kib| (kib / argon2.memory_kib.max(1)) as usize);
        let threads = threads.unwrap_or_else(|| cpus.min(affordable)).max(1);
        let threads_as_cpus = f64::from(u32::try_from(threads).unwrap_or(u32::MAX));
        let busy = limits.cpus.map_or(1.0, |cpus| (cpus * (1.0 - CPU_LEFT_FREE) / threads_as_cpus).min(1.0));
        let share = memory_kib.map_or(u32::MAX, |kib| kib / u32::try_from(threads).unwrap_or(u32::MAX));
        Self { threads, memory_kib, kept_kib: argon2.memory_kib.min(share), busy }
    }

    /// Most KiB that one computation may take: the bound of any, or what there is for all together.
    #[must_use]
    pub fn most_kib(&self) -> u32 {
        self.memory_kib.map_or(MAX_MEMORY_KIB, |kib| kib.min(MAX_MEMORY_KIB))
    }

    /// How many of the threads' shares of memory a computation takes, from one to all.
    pub(super) fn shares(&self, memory_kib: u32) -> u32 {
        let threads = u32::try_from(self.threads).unwrap_or(u32::MAX);
        self.memory_kib.map_or(1, |kib| memory_kib.div_ceil((kib / threads).max(1)).clamp(1, threads))
    }

    /// How long a thread rests after it has computed for so long.
    pub(super) fn rest(&self, computed: Duration) -> Duration {
        computed.mul_f64((1.0 / self.busy.max(0.01) - 1.0).max(0.0)).min(LONGEST_REST)
    }
}

impl Limits {
    fn of_process() -> Self {
        Self::of(Path::new("/sys/fs/cgroup"))
    }

    /// Reads version 2 of control groups, then version 1.
    fn of(groups: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(groups.join(path)).unwrap_or_default();
        let v1_quota = format!("{} {}", read("cpu/cpu.cfs_quota_us").trim(), read("cpu/cpu.cfs_period_us"));
        let memory = number(&read("memory.max")).or_else(|| number(&read("memory/memory.limit_in_bytes")));
        // Version 1 says "no limit" by a number beyond any memory.
        let memory_bytes = memory.filter(|bytes| *bytes < 1 << 50);
        Self { cpus: cpus(&read("cpu.max")).or_else(|| cpus(&v1_quota)), memory_bytes }
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// CPUs of `quota period`, both in microseconds; `None` for `max` and for -1.
fn cpus(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let (quota, period): (u32, u32) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn within(cpus: Option<f64>, memory_bytes: Option<u64>, threads: Option<usize>) -> Capacity {
        Capacity::within(Limits { cpus, memory_bytes }, 4, threads, Argon2id::default())
    }

    #[test]
    fn without_limits_every_cpu_hashes_all_the_time() {
        let capacity = within(None, None, None);
        assert_eq!(capacity, Capacity { threads: 4, memory_kib: None, kept_kib: 19_456, busy: 1.0 });
        assert_eq!((capacity.most_kib(), capacity.shares(131_072)), (131_072, 1));
        assert_eq!(capacity.rest(Duration::from_millis(20)), Duration::ZERO);
        assert!(Capacity::of_process(None, Argon2id::default()).threads >= 1);
    }

    #[test]
    fn a_tenth_of_a_cpu_limit_is_left_free() {
        let rest = |cpus: f64, threads: usize| {
            let capacity = within(Some(cpus), None, Some(threads));
            capacity.rest(Duration::from_millis(90)).as_millis()
        };
        assert_eq!((rest(1.0, 1), rest(2.0, 2), rest(0.5, 1), rest(2.0, 4)), (10, 10, 110, 110));
        assert_eq!(rest(2.0, 1), 0, "half of it is left free as it is");
        assert_eq!(rest(0.001, 1), 2000, "but never for ever");
    }

    #[test]
    fn a_memory_limit_bounds_all_computations_together_by_a_third_of_it() {
        let capacity = within(None, Some(384 * MIB), None);
        assert_eq!((capacity.threads, capacity.memory_kib), (4, Some(131_072)));
        assert_eq!([19_456, 32_768, 32_769, 131_072].map(|kib| capacity.shares(kib)), [1, 1, 2, 4]);
        let small = within(None, Some(128 * MIB), None);
        assert_eq!((small.threads, small.most_kib(), small.kept_kib), (2, 43_690, 19_456));
        let tiny = within(None, Some(30 * MIB), None);
        assert_eq!((tiny.threads, tiny.most_kib(), tiny.shares(19_456)), (1, 19_456, 1));
        let dear = Argon2id { memory_kib: 65_536, ..Argon2id::default() };
        let limits = Limits { cpus: None, memory_bytes: Some(384 * MIB) };
        assert_eq!(Capacity::within(limits, 4, None, dear).threads, 2, "follows the parameters");
        let many = within(None, Some(128 * MIB), Some(8));
        assert_eq!((many.kept_kib, many.shares(19_456)), (5461, 4), "as many threads as somebody says");
    }

    #[test]
    fn limits_are_read_from_the_files_of_either_version() {
        let limits = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = folder.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Limits::of(folder.path())
        };
        assert_eq!(
            limits(&[("cpu.max", "150000 100000\n"), ("memory.max", "268435456\n")]),
            Limits { cpus: Some(1.5), memory_bytes: Some(268_435_456) }
        );
        let first = |memory: &str| {
            limits(&[
                ("cpu/cpu.cfs_quota_us", "200000\n"),
                ("cpu/cpu.cfs_period_us", "100000\n"),
                ("memory/memory.limit_in_bytes", memory),
            ])
        };
        assert_eq!(first("268435456\n"), Limits { cpus: Some(2.0), memory_bytes: Some(268_435_456) });
        for unlimited in ["9223372036854771712\n", "1125899906842624\n"] {
            assert_eq!(first(unlimited).memory_bytes, None, "{unlimited}");
        }
        assert_eq!(limits(&[]), Limits::default());
    }

    #[test]
    fn both_versions_of_control_groups_are_understood() {
        assert_eq!(cpus("150000 100000\n"), Some(1.5));
        assert_eq!([cpus("max 100000"), cpus("-1 100000"), cpus(""), cpus("100000")], [None; 4]);
        assert_eq!([cpus("0 100000"), cpus("100000 0")], [None; 2], "no limit that leaves nothing");
        assert_eq!((number("max\n"), number("268435456\n")), (None, Some(268_435_456)));
    }
}
