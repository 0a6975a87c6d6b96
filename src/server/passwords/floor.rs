//! The least time a refused login takes, so that neither an unknown user nor the form of a
//! stored password can be told by the clock.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::Kdf;

/// Longest floor: dearer rows are told apart rather than let them slow every refusal.
const MAX_FLOOR: Duration = Duration::from_secs(1);
/// Measurements remembered of each computation.
const REMEMBERED: usize = 16;
/// Computations remembered; a table rarely holds more than two or three.
const MAX_KDFS: usize = 32;

/// Recent measurements of every computation met in the table.
#[derive(Debug, Default)]
pub struct Floor {
    measured: Mutex<BTreeMap<Kdf, Recent>>,
}

#[derive(Debug, Default)]
struct Recent {
    times: [Duration; REMEMBERED],
    next: usize,
}

impl Floor {
    /// Takes note of what a computation took.
    pub fn record(&self, kdf: Kdf, took: Duration) {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        if measured.len() >= MAX_KDFS && !measured.contains_key(&kdf) {
            return;
        }
        let recent = measured.entry(kdf).or_default();
        recent.times[recent.next] = took;
        recent.next = (recent.next + 1) % REMEMBERED;
    }

    /// The dearest recent measurement among all computations, at most one second.
    #[must_use]
    pub fn current(&self) -> Duration {
        self.dearest().min(MAX_FLOOR)
    }

    /// Whether a row is so dear that the floor no longer hides it.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.dearest() > MAX_FLOOR
    }

    fn dearest(&self) -> Duration {
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.values().flat_map(|recent| recent.times).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Argon2id, *};

    #[test]
    fn one_quick_measurement_does_not_lower_the_floor() {
        let floor = Floor::default();
        for milliseconds in [20, 90, 30] {
            floor.record(Kdf::Bcrypt { cost: 10 }, Duration::from_millis(milliseconds));
        }
        assert_eq!(floor.current(), Duration::from_millis(90));
        floor.record(Kdf::Bcrypt { cost: 12 }, MAX_FLOOR);
        assert!(!floor.is_exceeded(), "what takes a second is still hidden");
    }

    #[test]
    fn a_table_of_many_computations_keeps_on_measuring_those_it_knows() {
        let floor = Floor::default();
        let kdf = |cost| Kdf::Bcrypt { cost };
        for cost in 0..32 {
            floor.record(kdf(cost), Duration::from_millis(10));
        }
        floor.record(kdf(32), Duration::from_millis(900));
        assert_eq!(floor.current(), Duration::from_millis(10), "one more than it has room for");
        floor.record(kdf(31), Duration::from_millis(20));
        assert_eq!(floor.current(), Duration::from_millis(20));
    }

    #[test]
    fn the_floor_is_the_dearest_of_recent_measurements() {
        let floor = Floor::default();
        let new = Argon2id::default().kdf();
        let dear = Kdf::Bcrypt { cost: 12 };
        floor.record(new, Duration::from_millis(25));
        floor.record(dear, Duration::from_millis(200));
        floor.record(new, Duration::from_millis(30));
        assert_eq!(floor.current(), Duration::from_millis(200));
        for _ in 0..REMEMBERED {
            floor.record(dear, Duration::from_millis(160));
        }
        assert_eq!((floor.current(), floor.is_exceeded()), (Duration::from_millis(160), false));
        floor.record(dear, Duration::from_secs(3));
        assert_eq!((floor.current(), floor.is_exceeded()), (MAX_FLOOR, true));
    }
}
