//! `auth-server calibrate`: which of the equally strong parameters suit this machine.

use std::{fmt, time::Duration};

use super::{Argon2id, Capacity, HashError, MAX_MEMORY_KIB, scratch};
use crate::contract::argon2::EQUALLY_STRONG;

/// Measurements of each set, of which the middle one counts.
const ROUNDS: usize = 9;

/// What was measured.
#[derive(Debug)]
pub struct Calibration {
    measured: Vec<(Argon2id, Duration)>,
    target: Duration,
    threads: usize,
}

/// Measures the sets that OWASP calls equally strong.
///
/// # Errors
/// A hash cannot be computed.
pub fn calibrate(target: Duration, threads: Option<usize>) -> Result<Calibration, HashError> {
    // As a server does.
    scratch::keep_up_to(MAX_MEMORY_KIB);
    let mut times = vec![Vec::with_capacity(ROUNDS); EQUALLY_STRONG.len()];
    // One after the other in turns, so that a burst of other work falls on all of them.
    for _ in 0..ROUNDS {
        for (times, set) in times.iter_mut().zip(sets()) {
            times.push(set.kdf().measure()?);
        }
    }
    let measured = sets().zip(times.into_iter().map(middle)).collect();
    let threads = Capacity::of_process(threads, Argon2id::default()).threads;
    Ok(Calibration { measured, target, threads })
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn sets() -> impl Iterator<Item = Argon2id> {
    EQUALLY_STRONG.into_iter().map(|(memory_kib, iterations)| Argon2id {
        memory_kib,
        iterations,
        ..Argon2id::default()
    })
}

impl Calibration {
    /// Of the sets within the target the one with the most memory, which costs an attacker's hardware
    /// most; without any the quickest, and `false`.
    fn choice(&self) -> Option<(Argon2id, bool)> {
        let within = self.measured.iter().filter(|(_, took)| *took <= self.target);
        let most_memory = within.max_by_key(|(set, _)| set.memory_kib);
        let quickest = || self.measured.iter().min_by_key(|(_, took)| *took);
        most_memory.map(|(set, _)| (*set, true)).or_else(|| quickest().map(|(set, _)| (*set, false)))
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measured, target, threads } = self;
        let Some((choice, fits)) = self.choice() else { return Ok(()) };
        let plural = if *threads == 1 { "" } else { "s" };
        writeln!(formatter, "Argon2id on this machine, one lane; {threads} hashing thread{plural}:\n")?;
        writeln!(formatter, "memoryKiB  iterations  milliseconds  logins/s")?;
        for (set, took) in measured {
            let seconds = took.as_secs_f64();
            let threads = f64::from(u32::try_from(*threads).unwrap_or(u32::MAX));
            writeln!(
                formatter,
                "{:>9}  {:>10}  {:>12.1}  {:>8.0}{}",
                set.memory_kib,
                set.iterations,
                seconds * 1000.0,
                threads / seconds,
                if *set == choice { "  <-" } else { "" }
            )?;
        }
        let target = target.as_millis();
        if fits {
            writeln!(
                formatter,
                "\nAll are equally strong (OWASP). Of those within {target} ms the one with most memory:\n"
            )?;
        } else {
            writeln!(
                formatter,
                "\nAll are equally strong (OWASP), and none takes {target} ms or less here. The quickest:\n"
            )?;
        }
        let Argon2id { memory_kib, iterations, parallelism } = choice;
        write!(
            formatter,
            "spec:\n  passwords:\n    argon2:\n      memoryKiB: {memory_kib}\n      iterations: {iterations}\n      parallelism: {parallelism}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(target: u64) -> Calibration {
        let times = [60, 25, 18, 16, 14].map(Duration::from_millis);
        Calibration {
            measured: sets().zip(times).collect(),
            target: Duration::from_millis(target),
            threads: 2,
        }
    }

    #[test]
    fn the_set_with_most_memory_within_the_target_is_chosen() {
        let chosen = |target| calibration(target).choice().map(|(set, fits)| (set.memory_kib, fits));
        assert_eq!(chosen(1000), Some((47_104, true)));
        assert_eq!(chosen(59), Some((19_456, true)));
        assert_eq!(chosen(14), Some((7168, true)));
        assert_eq!(chosen(13), Some((7168, false)));
    }

    #[test]
    fn a_burst_of_other_work_has_no_part_in_what_is_measured() {
        let times = [25, 900, 24, 26, 800, 27, 25];
        assert_eq!(middle(times.map(Duration::from_millis).into()), Duration::from_millis(26));
    }

    #[test]
    fn what_is_printed_can_be_put_into_a_spec() {
        insta::assert_snapshot!(calibration(50).to_string());
    }

    #[test]
    fn every_set_can_be_measured() {
        let calibration = calibrate(Duration::from_millis(50), Some(3)).unwrap();
        assert_eq!((calibration.measured.len(), calibration.threads), (5, 3));
        assert!(calibration.measured.iter().all(|(_, took)| !took.is_zero()));
    }
}
