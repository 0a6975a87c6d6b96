//! Sweeps: every single fault at every call, event and statement of every scenario, and a seeded
//! sample of pairs.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    application::database::StatementFault,
    line::{EventFault, Fault, Plan},
    run::{Faults, Reference, disturbed, given, reference, simulated},
    scenarios::Scenario,
    world::Moment,
};

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Scenarios.
    pub scenarios: usize,
    /// Single faults: one for each kind at each place.
    pub points: usize,
    /// Pairs of faults.
    pub pairs: usize,
    /// Pairs of which a fault was planned for a place that the run did not come to.
    pub missed: usize,
    /// What broke a promise.
    pub failures: Vec<Failure>,
}

/// A run that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// The scenario.
    pub scenario: String,
    /// What went wrong in it.
    pub faults: Faults,
    /// How a promise was broken.
    pub words: String,
}

/// How much is swept.
#[derive(Clone, Debug)]
pub struct Extent {
    /// The seed of everything random.
    pub seed: u64,
    /// Of this many single faults one is tried.
    pub one_in: usize,
    /// Pairs tried for each scenario.
    pub pairs: usize,
    /// Threads.
    pub threads: usize,
    /// After so many failures the sweep ends.
    pub enough: usize,
}

/// Every single fault at every place of an undisturbed run.
#[must_use]
pub fn single_faults(reference: &Reference) -> Vec<Faults> {
    let calls = reference.calls.iter().enumerate().flat_map(|(at, call)| {
        let kinds = Fault::ALL.into_iter().filter(|fault| call.is_write() || fault.concerns_reads());
        kinds.map(move |fault| Plan { calls: vec![(at, fault)], events: Vec::new() })
    });
    let events = (0..reference.events)
        .flat_map(|at| EventFault::ALL.map(|fault| Plan { calls: Vec::new(), events: vec![(at, fault)] }));
    let lines = calls.chain(events).map(|line| Faults { line, statement: None });
    let statements = (0..reference.statements).flat_map(|at| {
        StatementFault::ALL.map(|fault| Faults { line: Plan::default(), statement: Some((at, fault)) })
    });
    lines.chain(statements).collect()
}

/// A scenario as far as its sweep needs it.
struct Prepared<'a> {
    scenario: &'a Scenario,
    moment: Moment,
    reference: Reference,
    single: Vec<Faults>,
}

/// Sweeps scenarios side by side, one a thread.
#[must_use]
pub fn sweep(scenarios: &[Scenario], extent: &Extent, tell: &(dyn Fn(&str) + Sync)) -> Swept {
    let (next, swept) = (AtomicUsize::new(0), Mutex::new(Swept::default()));
    std::thread::scope(|scope| {
        for _ in 0..extent.threads {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    sweep_one(scenario, extent, &swept, tell);
                }
            });
        }
    });
    swept.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn sweep_one(scenario: &Scenario, extent: &Extent, swept: &Mutex<Swept>, tell: &(dyn Fn(&str) + Sync)) {
    let started = std::time::Instant::now();
    let prepared = match prepare(scenario, extent.seed) {
        Ok(prepared) => prepared,
        Err(error) => {
            let words = format!("{error:#}");
            tell(&format!("FAILED {:?} undisturbed: {words}", scenario.name));
            let failure = Failure { scenario: scenario.name.clone(), faults: Faults::default(), words };
            swept.lock().unwrap_or_else(PoisonError::into_inner).failures.push(failure);
            return;
        }
    };
    let mut chance = StdRng::seed_from_u64(extent.seed ^ u64::from(checksum(&scenario.name)));
    let offset = chance.random_range(0..extent.one_in);
    let chosen = prepared.single.iter().skip(offset).step_by(extent.one_in);
    let pairs: Vec<Faults> = (0..extent.pairs).filter_map(|_| pair(&prepared.single, &mut chance)).collect();
    let single: Vec<(&Faults, bool)> = chosen.map(|faults| (faults, true)).collect();
    let (points, mut missed) = (single.len(), 0);
    for (faults, is_single) in single.into_iter().chain(pairs.iter().map(|pair| (pair, false))) {
        let lock = || swept.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().failures.len() >= extent.enough {
            return;
        }
        let words = match attempt(&prepared, faults, extent.seed) {
            Ok(true) => continue,
            // The first of two may lead past the place of the second. One alone finds the run as it was counted.
            Ok(false) if !is_single => {
                missed += 1;
                continue;
            }
            Ok(false) => "the run did not come to its fault".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        let failure = Failure { scenario: scenario.name.clone(), faults: faults.clone(), words };
        tell(&format!("FAILED {:?} with {:?}: {}", failure.scenario, failure.faults, failure.words));
        lock().failures.push(failure);
    }
    let mut swept = swept.lock().unwrap_or_else(PoisonError::into_inner);
    swept.scenarios += 1;
    swept.points += points;
    swept.pairs += pairs.len();
    swept.missed += missed;
    tell(&format!(
        "{}: {} calls, {} events, {} statements; {points} single faults, {} pairs ({missed} of them not met), {:.1} s",
        scenario.name,
        prepared.reference.calls.len(),
        prepared.reference.events,
        prepared.reference.statements,
        pairs.len(),
        started.elapsed().as_secs_f64(),
    ));
}

fn attempt(prepared: &Prepared<'_>, faults: &Faults, seed: u64) -> anyhow::Result<bool> {
    let Prepared { scenario, moment, reference, .. } = prepared;
    simulated(disturbed(scenario, moment, faults, reference, seed))
}

fn prepare(scenario: &Scenario, seed: u64) -> anyhow::Result<Prepared<'_>> {
    let moment = simulated(given(scenario, seed))?;
    let reference = simulated(reference(scenario, &moment, seed))?;
    let single = single_faults(&reference);
    Ok(Prepared { scenario, moment, reference, single })
}

/// Runs one plan of one scenario again; answers whether all of it happened.
///
/// # Errors
/// A promise was broken.
pub fn replay(scenario: &Scenario, faults: &Faults, seed: u64) -> anyhow::Result<bool> {
    attempt(&prepare(scenario, seed)?, faults, seed)
}

fn pair(single: &[Faults], chance: &mut StdRng) -> Option<Faults> {
    if single.is_empty() {
        return None;
    }
    let (one, other) =
        (&single[chance.random_range(0..single.len())], &single[chance.random_range(0..single.len())]);
    let mut both = one.clone();
    both.line.calls.extend(&other.line.calls);
    both.line.events.extend(&other.line.events);
    both.statement = both.statement.or(other.statement);
    Some(both)
}

/// FNV-1a: the same in every release of the standard library, unlike its hashers.
#[must_use]
pub fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;

    fn scenario(name: &str) -> Scenario {
        scenarios::all().into_iter().find(|scenario| scenario.name == name).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let scenario = scenario("create with an external database");
        let run = || {
            let Prepared { reference, .. } = prepare(&scenario, 7).unwrap();
            let told =
                |call: &crate::line::Call| (call.method.clone(), call.path.clone(), call.code, call.at);
            (reference.calls.iter().map(told).collect::<Vec<_>>(), reference.events, reference.statements)
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn a_crash_at_a_call_is_survived_and_counted_as_met() {
        let scenario = scenario("create with an external database");
        let faults =
            Faults { line: Plan { calls: vec![(30, Fault::CrashAfter)], events: vec![] }, statement: None };
        assert!(replay(&scenario, &faults, 7).unwrap());
        let beyond = Faults {
            line: Plan { calls: vec![(100_000, Fault::CrashAfter)], events: vec![] },
            statement: None,
        };
        assert!(!replay(&scenario, &beyond, 7).unwrap());
    }
}
