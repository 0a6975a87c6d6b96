//! What the operator counts, in the Prometheus text format. No label carries a name that users
//! choose, so the number of series does not grow with the cluster.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::{core::DeserializeGuard, runtime::reflector::Store};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        MetricType, counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge, histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use crate::api::{AuthService, conditions::ConditionType};

/// The store of a controller; an object that cannot be decoded is in it as an error.
pub type Resources = Store<DeserializeGuard<AuthService>>;

/// What the operator counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    reconciles: Family<OutcomeLabel, Counter>,
    reconcile_seconds: Histogram,
    api_requests: Family<RequestLabels, Counter>,
    watch_errors: Family<KindLabel, Counter>,
    leader: Gauge,
}

/// How one reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// To its end, with or without refusals.
    Finished,
    /// With an error: it is retried under the resource's backoff.
    Failed,
    /// In a panic, which is a bug.
    Panicked,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Every series at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("authservice_operator");
        let reconciles = Family::<OutcomeLabel, Counter>::default();
        for outcome in [Outcome::Finished, Outcome::Failed, Outcome::Panicked] {
            drop(reconciles.get_or_create(&OutcomeLabel { outcome: outcome.name() }));
        }
        let buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
        let reconcile_seconds = Histogram::new(buckets);
        let api_requests = Family::<RequestLabels, Counter>::default();
        let watch_errors = Family::<KindLabel, Counter>::default();
        let leader = Gauge::default();
        registry.register("build", "The release", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("reconciles", "Reconciles by how they ended", reconciles.clone());
        registry.register("reconcile_duration_seconds", "Time one reconcile took", reconcile_seconds.clone());
        registry.register(
            "api_requests",
            "Requests to the API server by verb and answer: an HTTP status, timeout, or unreachable",
            api_requests.clone(),
        );
        registry.register("watch_errors", "Interruptions of watches by watched kind", watch_errors.clone());
        registry.register("leader", "1 while this process leads", leader.clone());
        Self {
            registry: Mutex::new(registry),
            reconciles,
            reconcile_seconds,
            api_requests,
            watch_errors,
            leader,
        }
    }

    /// Counts one reconcile.
    pub fn reconciled(&self, outcome: Outcome, took: Duration) {
        self.reconciles.get_or_create(&OutcomeLabel { outcome: outcome.name() }).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// Counts one request; `code` is an HTTP status, `timeout` or `unreachable`.
    pub fn api_request(&self, verb: &'static str, code: &str) {
        self.api_requests.get_or_create(&RequestLabels { verb, code: code.to_owned() }).inc();
    }

    /// Counts one interruption of the watch of a kind.
    pub fn watch_error(&self, kind: &str) {
        self.watch_errors.get_or_create(&KindLabel { kind: kind.to_owned() }).inc();
    }

    /// Says whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Counts the resources in `stores` by their condition `Ready` at every scrape.
    pub fn observe(&self, stores: Vec<Resources>) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(ReadyCollector { stores }));
    }

    /// Everything, in the `OpenMetrics` text format.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

struct ReadyCollector {
    stores: Vec<Resources>,
}

impl fmt::Debug for ReadyCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadyCollector")
    }
}

impl Collector for ReadyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let (mut yes, mut no, mut unknown) = (0_i64, 0_i64, 0_i64);
        for resource in self.stores.iter().flat_map(Store::state) {
            match resource.0.as_ref().ok().and_then(ready) {
                Some("True") => yes += 1,
                Some("False") => no += 1,
                _ => unknown += 1,
            }
        }
        let help = "AuthServices by the status of their condition Ready";
        let mut family = encoder.encode_descriptor("resources", help, None, MetricType::Gauge)?;
        for (status, number) in [("True", yes), ("False", no), ("Unknown", unknown)] {
            let gauge = ConstGauge::new(number);
            gauge.encode(family.encode_family(&[("ready", status)])?)?;
        }
        Ok(())
    }
}

/// The status of condition `Ready`; none before the first report.
fn ready(resource: &AuthService) -> Option<&str> {
    let kind = format!("{:?}", ConditionType::Ready);
    let conditions = &resource.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_stands_at_zero_before_anything_happened() -> Result<(), fmt::Error> {
        let text = Metrics::new().encode()?;
        for line in [
            "authservice_operator_reconciles_total{outcome=\"finished\"} 0",
            "authservice_operator_reconciles_total{outcome=\"failed\"} 0",
            "authservice_operator_reconciles_total{outcome=\"panicked\"} 0",
            "authservice_operator_leader 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
        Ok(())
    }

    #[test]
    fn resources_are_counted_by_their_condition_ready() -> Result<(), Box<dyn std::error::Error>> {
        let (store, mut writer) = kube::runtime::reflector::store();
        for (name, status) in [("gate", Some("True")), ("door", Some("True")), ("arch", None)] {
            let conditions: Vec<_> = status
                .into_iter()
                .map(|status| {
                    serde_json::json!({
                        "type": "Ready", "status": status, "reason": "R", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    })
                })
                .collect();
            let resource = serde_json::from_value(serde_json::json!({
                "apiVersion": "authservice.dev/v1alpha1", "kind": "AuthService",
                "metadata": {"name": name, "namespace": "market"},
                "spec": {}, "status": {"conditions": conditions},
            }))?;
            writer.apply_watcher_event(&kube::runtime::watcher::Event::Apply(DeserializeGuard(Ok(resource))));
        }
        let metrics = Metrics::new();
        metrics.observe(vec![store]);
        let text = metrics.encode()?;
        let counted: Vec<&str> =
            text.lines().filter(|line| line.starts_with("authservice_operator_resources{")).collect();
        assert_eq!(
            counted,
            [
                "authservice_operator_resources{ready=\"True\"} 2",
                "authservice_operator_resources{ready=\"False\"} 0",
                "authservice_operator_resources{ready=\"Unknown\"} 1",
            ]
        );
        Ok(())
    }
}
