//! What `/metrics` tells. Requests are counted without locks: a scrape may read a histogram
//! between two of its increments, which Prometheus tolerates.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::{
    passwords::{Floor, HashingPool},
    revocation::Revocations,
};

/// The endpoints that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/login`.
    Login,
    /// `/validate`.
    Validate,
    /// `/logout`.
    Logout,
    /// `/password`.
    Password,
}

const ENDPOINTS: [(Endpoint, &str); 4] = [
    (Endpoint::Login, "login"),
    (Endpoint::Validate, "validate"),
    (Endpoint::Logout, "logout"),
    (Endpoint::Password, "password"),
];
const CODES: [u16; 12] = [200, 204, 400, 401, 403, 408, 409, 413, 415, 500, 501, 503];
const BUCKETS: [f64; 14] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = BUCKETS.iter().copied().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(self.buckets.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)).as_secs_f64(), count, buckets)
    }
}

#[derive(Debug, Default)]
struct Requests {
    codes: [AtomicU64; CODES.len()],
    seconds: Histogram,
}

/// The counters of this server.
#[derive(Debug, Default)]
pub struct Metrics {
    endpoints: [Requests; ENDPOINTS.len()],
    hashing_wait: Histogram,
    rehashed: AtomicU64,
    database_up: AtomicI64,
    connections: AtomicI64,
}

impl Metrics {
    /// Counts an answered request.
    pub fn answered(&self, endpoint: Endpoint, code: u16, took: Duration) {
        let requests = &self.endpoints[endpoint as usize];
        if let Some(index) = CODES.iter().position(|known| *known == code) {
            requests.codes[index].fetch_add(1, Ordering::Relaxed);
        }
        requests.seconds.observe(took);
    }

    /// Counts the wait for a hashing permit.
    pub fn waited_for_hashing(&self, waited: Duration) {
        self.hashing_wait.observe(waited);
    }

    /// Counts a stored password that was replaced by its hash.
    pub fn rehashed(&self) {
        self.rehashed.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the last look at the database was good.
    pub fn database_up(&self, up: bool) {
        self.database_up.store(i64::from(up), Ordering::Relaxed);
    }

    /// Counts a public connection until the returned value is dropped.
    #[must_use]
    pub fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connected(Arc<Metrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes everything in the text format of Prometheus.
#[derive(Debug)]
pub struct Exposition(Registry);

#[derive(Debug)]
struct Sources {
    metrics: Arc<Metrics>,
    pool: Arc<HashingPool>,
    floor: Arc<Floor>,
    revocations: Arc<Revocations>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: &'static str,
}

impl Exposition {
    /// Gathers the sources.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        pool: Arc<HashingPool>,
        floor: Arc<Floor>,
        revocations: Arc<Revocations>,
    ) -> Self {
        let mut registry = Registry::with_prefix("authservice");
        registry.register_collector(Box::new(Sources { metrics, pool, floor, revocations }));
        Self(registry)
    }

    /// The text.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(4096);
        encode(&mut text, &self.0)?;
        Ok(text)
    }
}

impl Sources {
    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family =
            encoder.encode_descriptor("requests", "Answered requests", None, MetricType::Counter)?;
        for (endpoint, name) in ENDPOINTS {
            for (code, count) in CODES.into_iter().zip(&self.metrics.endpoints[endpoint as usize].codes) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    family
                        .encode_family(&RequestLabels { endpoint: name, code })?
                        .encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
                }
            }
        }
        let help = "Time from the request's header to its answer";
        let mut family =
            encoder.encode_descriptor("request_duration_seconds", help, None, MetricType::Histogram)?;
        for (endpoint, name) in ENDPOINTS {
            let (sum, count, buckets) = self.metrics.endpoints[endpoint as usize].seconds.read();
            family
                .encode_family(&EndpointLabels { endpoint: name })?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.requests(&mut encoder)?;
        let (sum, count, buckets) = self.metrics.hashing_wait.read();
        encoder
            .encode_descriptor(
                "hashing_wait_seconds",
                "Time waited for a hashing permit",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        let mut gauge = |name: &str, help: &str, value: i64| {
            use prometheus_client::encoding::EncodeMetric;
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        gauge("hashing_queue", "Logins waiting for a hashing permit", count(self.pool.waiting()))?;
        gauge("hashing_threads", "Most passwords hashed at the same time", count(self.pool.threads()))?;
        let floor = i64::try_from(self.floor.current().as_millis()).unwrap_or(i64::MAX);
        gauge("login_floor_milliseconds", "Least time a refused login takes", floor)?;
        let exceeded = i64::from(self.floor.is_exceeded());
        gauge(
            "login_floor_exceeded",
            "1 when stored hashes are so dear that the time of a login tells them apart",
            exceeded,
        )?;
        gauge(
            "database_up",
            "1 when the last look at the database was good",
            self.metrics.database_up.load(Ordering::Relaxed),
        )?;
        gauge(
            "connections",
            "Open connections to the public port",
            self.metrics.connections.load(Ordering::Relaxed),
        )?;
        if let Some(age) = self.revocations.age() {
            let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            gauge("revocations_age_seconds", "Time since the revocations in use were read", age)?;
            gauge(
                "revoked_tokens",
                "Tokens that were logged out and have not expired",
                count(self.revocations.tokens()),
            )?;
            let help = "1 when more tokens or users are revoked than can be remembered";
            gauge("revocations_full", help, i64::from(self.revocations.is_full()))?;
        }
        let rehashed = ConstCounter::new(self.metrics.rehashed.load(Ordering::Relaxed));
        let help = "Stored passwords replaced by their hash";
        prometheus_client::encoding::EncodeMetric::encode(
            &rehashed,
            encoder.encode_descriptor("rehashed_passwords", help, None, MetricType::Counter)?,
        )
    }
}
