//! What the operator takes from outside beside the API server: the time, chance, and what server
//! pods say of themselves. Given from outside, so that the whole operator runs on simulated ones.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use rand::{Rng, RngExt};

use crate::contract::ServerStatus;

/// A wall clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a server pod is asked for its `GET /status`.
pub trait AskPod: Send + Sync {
    /// What the pod at this address says; `None` when it does not answer in time, or nothing that can
    /// be read.
    fn status(&self, address: IpAddr) -> BoxFuture<'_, Option<ServerStatus>>;
}

/// The time, chance, and the pods.
#[derive(Clone)]
pub struct Surroundings {
    clock: Clock,
    chance: Arc<Mutex<dyn Rng + Send>>,
    /// The server pods.
    pub pods: Arc<dyn AskPod>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

impl Surroundings {
    /// The system's clock and its generator of random numbers.
    #[must_use]
    pub fn of_system(pods: Arc<dyn AskPod>) -> Self {
        Self { clock: Arc::new(Timestamp::now), chance: Arc::new(Mutex::new(SystemChance)), pods }
    }

    /// A clock and chance of the caller's. Secrets are drawn from `chance`: it must be the system's
    /// wherever they protect anything.
    #[must_use]
    pub fn simulated(clock: Clock, chance: impl Rng + Send + 'static, pods: Arc<dyn AskPod>) -> Self {
        Self { clock, chance: Arc::new(Mutex::new(chance)), pods }
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Draws a value.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut dyn Rng) -> T) -> T {
        draw(&mut *self.chance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `duration`, less up to a quarter of it: what happened at one moment is not repeated at one moment.
    #[must_use]
    pub fn jittered(&self, duration: Duration) -> Duration {
        self.draw(|chance| duration.mul_f64(chance.random_range(0.75..=1.0)))
    }
}

/// The generator of the calling thread, seeded by the system.
struct SystemChance;

impl rand::TryRng for SystemChance {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        rand::rng().try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        rand::rng().try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        rand::rng().try_fill_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;

    impl AskPod for Silent {
        fn status(&self, _address: IpAddr) -> BoxFuture<'_, Option<ServerStatus>> {
            Box::pin(async { None })
        }
    }

    #[test]
    fn jitter_takes_off_at_most_a_quarter() {
        let surroundings = Surroundings::of_system(Arc::new(Silent));
        for _ in 0..1000 {
            let wait = surroundings.jittered(Duration::from_secs(100));
            assert!(wait >= Duration::from_secs(75) && wait <= Duration::from_secs(100), "{wait:?}");
        }
    }
}
