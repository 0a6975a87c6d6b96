//! How tokens that end before their time are followed.

use std::time::Duration;

use super::{
    duration,
    source::{Environment, Faults},
};
use crate::contract::env;

/// What `/validate` does while the revocations cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutRevocations {
    /// It goes on with those last read.
    Accept,
    /// It answers 503 once they are too old.
    Refuse,
}

/// How revocations are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationPolicy {
    /// Between two reads.
    pub lag: Duration,
    /// While they cannot be read.
    pub unavailable: WithoutRevocations,
}

impl RevocationPolicy {
    pub(super) fn read(environment: &Environment, faults: &mut Faults) -> Self {
        const DEFAULT: Duration = Duration::from_secs(5);
        let lag = environment.text(env::REVOCATION_LAG, faults).map_or(DEFAULT, |value| {
            // Each read looks back ten minutes, so a lag must stay well below them.
            match duration::parse(&value) {
                Some(lag) if lag >= Duration::from_secs(1) && lag <= Duration::from_mins(5) => lag,
                _ => {
                    faults.add(
                        env::REVOCATION_LAG,
                        format!("{value:?} is no lag"),
                        "use a duration from 1s to 5m, such as 5s",
                    );
                    DEFAULT
                }
            }
        });
        let unavailable = match environment.text(env::REVOCATION_UNAVAILABLE, faults).as_deref() {
            None | Some("Accept") => WithoutRevocations::Accept,
            Some("Refuse") => WithoutRevocations::Refuse,
            Some(other) => {
                faults.add(
                    env::REVOCATION_UNAVAILABLE,
                    format!("{other:?} is neither Accept nor Refuse"),
                    "use Accept or Refuse",
                );
                WithoutRevocations::Accept
            }
        };
        Self { lag, unavailable }
    }
}
