//! What `/metrics` tells. Requests are counted without locks: a scrape may read a histogram
//! between two of its increments, which Prometheus tolerates.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::{
    limiter::Kind,
    passwords::{Floor, HashingPool, Unusable},
    revocation::Revocations,
    tls::LiveTls,
    traces::Spans,
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
    /// Any of the administration API.
    Administration,
}

/// Declares an enum of outcomes and their names as labels: however many requests come, a label has
/// no other values.
macro_rules! outcomes {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $outcome:ident = $label:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$meaning])* $outcome,)+
        }

        impl $name {
            const NAMES: &'static [&'static str] = &[$($label),+];

            /// The outcome as a label.
            #[must_use]
            pub fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }
    };
}

outcomes! {
    /// What became of an attempt to log in, or to change a password.
    AttemptOutcome {
        /// A token was issued, or the password changed.
        Accepted = "accepted",
        /// No account with this e-mail and password, or one that is disabled.
        Refused = "refused",
        /// No usable Basic credentials.
        MissingCredentials = "missing_credentials",
        /// The account or the source is locked.
        LockedOut = "locked_out",
        /// The request's body was too large or too slow.
        BodyRefused = "body_refused",
        /// The hashing queue was full.
        Busy = "busy",
        /// The database could not answer.
        Database = "database",
        /// The token could not be signed, or the new password not hashed.
        Internal = "internal",
        /// The client went away before its answer.
        Abandoned = "abandoned",
        /// Of a change: the body names no password that could be set.
        Unfit = "unfit",
        /// Of a change: the stored password was changed meanwhile, or has to stay.
        Conflict = "conflict",
    }
}

impl AttemptOutcome {
    /// Whether the attempt failed for no fault of its client.
    #[must_use]
    pub fn is_our_fault(self) -> bool {
        matches!(self, Self::Busy | Self::Database | Self::Internal)
    }
}

/// How many outcomes a login can have: all but those of a change.
const LOGIN_OUTCOMES: usize = AttemptOutcome::Unfit as usize;

/// What somebody attempts with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// `/login`.
    Login,
    /// `/password`.
    PasswordChange,
}

impl Event {
    /// Its name in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::PasswordChange => "password_change",
        }
    }
}

outcomes! {
    /// What became of a token that was to be validated.
    ValidationOutcome {
        /// Its claims were answered.
        Accepted = "accepted",
        /// No bearer token.
        MissingCredentials = "missing_credentials",
        /// The request's body was too large or too slow.
        BodyRefused = "body_refused",
        /// `exp` has passed.
        Expired = "expired",
        /// `nbf` or `iat` lies ahead.
        NotYetValid = "not_yet_valid",
        /// No key verifies the signature.
        BadSignature = "bad_signature",
        /// The header names a key that is not loaded.
        UnknownKey = "unknown_key",
        /// No JSON Web Token as it has to be.
        Malformed = "malformed",
        /// Of another issuer, or for an audience.
        Foreign = "foreign",
        /// Logged out, or its user was disabled, deleted or given another password.
        Revoked = "revoked",
        /// What was revoked is not known, and has to be.
        RevocationsUnknown = "revocations_unknown",
    }
}

const ENDPOINTS: [(Endpoint, &str); 5] = [
    (Endpoint::Login, "login"),
    (Endpoint::Validate, "validate"),
    (Endpoint::Logout, "logout"),
    (Endpoint::Password, "password"),
    (Endpoint::Administration, "admin"),
];
const CODES: [u16; 16] = [200, 201, 204, 400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 501, 503];
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
    attempts: [[AtomicU64; AttemptOutcome::NAMES.len()]; 2],
    validations: [AtomicU64; ValidationOutcome::NAMES.len()],
    hashing_wait: Histogram,
    repeated_tokens: AtomicU64,
    rehashed: AtomicU64,
    unverifiable: [AtomicU64; Unusable::ALL.len()],
    locked_out: [AtomicU64; Kind::ALL.len()],
    locked_buckets: AtomicI64,
    counting_alone: AtomicBool,
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

    /// Counts an attempt with a password.
    pub fn attempted(&self, event: Event, outcome: AttemptOutcome) {
        self.attempts[event as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a validation.
    pub fn validated(&self, outcome: ValidationOutcome) {
        self.validations[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the wait for a hashing permit.
    pub fn waited_for_hashing(&self, waited: Duration) {
        self.hashing_wait.observe(waited);
    }

    /// Counts a token whose signature was checked before and not again.
    pub fn known_again(&self) {
        self.repeated_tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a stored password that was replaced by its hash.
    pub fn rehashed(&self) {
        self.rehashed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a login whose stored password no accepted format can verify.
    pub fn unverifiable(&self, stored: Unusable) {
        if let Some(index) = Unusable::ALL.iter().position(|known| *known == stored) {
            self.unverifiable[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a login that was refused because this kind of bucket is locked.
    pub fn login_locked_out(&self, kind: Kind) {
        self.locked_out[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many accounts and sources are locked, as the database last told.
    pub fn locked_buckets(&self, count: i64) {
        self.locked_buckets.store(count, Ordering::Relaxed);
    }

    /// Whether failed logins are counted by all pods together.
    pub fn login_failures_shared(&self, shared: bool) {
        self.counting_alone.store(!shared, Ordering::Relaxed);
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
    tls: Option<Arc<LiveTls>>,
    spans: Option<Arc<Spans>>,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoredLabels {
    stored: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BucketLabels {
    bucket: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl Exposition {
    /// Gathers the sources.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        pool: Arc<HashingPool>,
        floor: Arc<Floor>,
        revocations: Arc<Revocations>,
        tls: Option<Arc<LiveTls>>,
        spans: Option<Arc<Spans>>,
    ) -> Self {
        let mut registry = Registry::with_prefix("authservice");
        registry.register_collector(Box::new(Sources { metrics, pool, floor, revocations, tls, spans }));
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

    fn lockout(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Logins refused because the account or the source is locked";
        let mut family = encoder.encode_descriptor("locked_out_logins", help, None, MetricType::Counter)?;
        for (kind, count) in Kind::ALL.into_iter().zip(&self.metrics.locked_out) {
            family
                .encode_family(&BucketLabels { bucket: kind.name() })?
                .encode_counter::<NoLabelSet, u64, f64>(&count.load(Ordering::Relaxed), None)?;
        }
        let help = "Accounts and sources that are locked, by all pods together";
        let locked = ConstGauge::new(self.metrics.locked_buckets.load(Ordering::Relaxed));
        locked.encode(encoder.encode_descriptor("locked_buckets", help, None, MetricType::Gauge)?)?;
        let help = "1 when this pod counts failed logins on its own because the database does not take them";
        let alone = ConstGauge::new(i64::from(self.metrics.counting_alone.load(Ordering::Relaxed)));
        alone.encode(encoder.encode_descriptor(
            "login_failures_counted_alone",
            help,
            None,
            MetricType::Gauge,
        )?)
    }

    fn traces(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(spans) = &self.spans else { return Ok(()) };
        let about = ("spans", "Spans that ended, by what became of them");
        let counts = [spans.exported(), spans.dropped()].map(AtomicU64::new);
        outcomes(encoder, about, &["exported", "dropped"], &counts)
    }

    fn unverifiable(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Logins of users whose stored password no accepted format can verify";
        let mut family =
            encoder.encode_descriptor("unverifiable_passwords", help, None, MetricType::Counter)?;
        for (stored, count) in Unusable::ALL.into_iter().zip(&self.metrics.unverifiable) {
            family
                .encode_family(&StoredLabels { stored: stored.name() })?
                .encode_counter::<NoLabelSet, u64, f64>(&count.load(Ordering::Relaxed), None)?;
        }
        Ok(())
    }
}

/// Every outcome from the start, so that the first of a kind is seen as an increase.
fn outcomes(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    labels: &[&'static str],
    counts: &[AtomicU64],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (outcome, count) in labels.iter().zip(counts) {
        family
            .encode_family(&OutcomeLabels { outcome })?
            .encode_counter::<NoLabelSet, u64, f64>(&count.load(Ordering::Relaxed), None)?;
    }
    Ok(())
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.requests(&mut encoder)?;
        let [logins, changes] = &self.metrics.attempts;
        let about = ("logins", "Login attempts by outcome");
        outcomes(&mut encoder, about, &AttemptOutcome::NAMES[..LOGIN_OUTCOMES], logins)?;
        let about = ("password_changes", "Attempts to change a password by outcome");
        outcomes(&mut encoder, about, AttemptOutcome::NAMES, changes)?;
        let validations = ("validations", "Validated tokens by outcome");
        outcomes(&mut encoder, validations, ValidationOutcome::NAMES, &self.metrics.validations)?;
        self.unverifiable(&mut encoder)?;
        self.lockout(&mut encoder)?;
        self.traces(&mut encoder)?;
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
        if let Some(expires) = self.tls.as_ref().and_then(|tls| tls.expires()) {
            let help = "When the certificate of the public port expires, as seconds since the epoch";
            gauge("tls_certificate_expires_seconds", help, expires)?;
        }
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
        let counters = [
            ("rehashed_passwords", "Stored passwords replaced by their hash", &self.metrics.rehashed),
            (
                "repeated_tokens",
                "Tokens whose signature was checked when they came before, and not again",
                &self.metrics.repeated_tokens,
            ),
        ];
        for (name, help, count) in counters {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count.load(Ordering::Relaxed)).encode(descriptor)?;
        }
        Ok(())
    }
}
