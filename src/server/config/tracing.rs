//! Where traces go, which requests are traced, and what the traces say of this process.

use percent_encoding::percent_decode_str;

use super::source::{Environment, Faults};
use crate::contract::{BadCollector, Collector, env};

/// The name of a service that has been given none.
const SERVICE_NAME: &str = "auth-server";
/// What the name of a sampler begins with that heeds the caller.
const PARENT_BASED: &str = "parentbased_";

/// What requests are traced with.
#[derive(Debug, Clone, PartialEq)]
pub struct TracingConfig {
    /// Where the traces go.
    pub collector: Collector,
    /// Which requests are traced.
    pub sampling: Sampling,
    /// What the traces call this service.
    pub service_name: String,
    /// Further attributes of this process.
    pub resource: Vec<(String, String)>,
}

/// Which requests are traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Whether the caller's decision is taken over, where there is one.
    pub heeds_parent: bool,
    /// The part of the other requests.
    pub ratio: f64,
}

impl TracingConfig {
    /// `None` without a collector: then nothing is traced.
    pub(super) fn read(environment: &Environment, faults: &mut Faults) -> Option<Self> {
        let disabled = environment.text(env::OTEL_SDK_DISABLED, faults);
        if disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let endpoint = environment.text(env::OTEL_EXPORTER_OTLP_ENDPOINT, faults);
        // Whatever else of OpenTelemetry's is set, such as a name given to every pod, says nothing then.
        let collector = Collector::of(&endpoint?);
        let collector = collector.map_err(|bad: BadCollector| {
            faults.add(env::OTEL_EXPORTER_OTLP_ENDPOINT, bad.to_string(), bad.cure());
        });
        let sampler = environment.text(env::OTEL_TRACES_SAMPLER, faults);
        let sampling = sampling(environment, sampler.as_deref(), faults);
        let resource = resource(environment, faults);
        let service_name = environment.text(env::OTEL_SERVICE_NAME, faults);
        let service_name = service_name.unwrap_or_else(|| SERVICE_NAME.to_owned());
        Some(Self { collector: collector.ok()?, sampling, service_name, resource })
    }
}

fn sampling(environment: &Environment, sampler: Option<&str>, faults: &mut Faults) -> Sampling {
    const ALL: Sampling = Sampling { heeds_parent: true, ratio: 1.0 };
    let Some(name) = sampler else { return ALL };
    let (heeds_parent, kind) = match name.strip_prefix(PARENT_BASED) {
        Some(kind) => (true, kind),
        None => (false, name),
    };
    let ratio = match kind {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => ratio(environment, faults),
        _ => {
            faults.add(
                env::OTEL_TRACES_SAMPLER,
                format!("{name:?} is no sampler"),
                "use always_on, always_off or traceidratio, or one of these after parentbased_",
            );
            return ALL;
        }
    };
    Sampling { heeds_parent, ratio }
}

fn ratio(environment: &Environment, faults: &mut Faults) -> f64 {
    let Some(value) = environment.text(env::OTEL_TRACES_SAMPLER_ARG, faults) else { return 1.0 };
    let ratio = value.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.unwrap_or_else(|| {
        faults.add(
            env::OTEL_TRACES_SAMPLER_ARG,
            format!("{value:?} is no part of the requests"),
            "use a number from 0 to 1, such as 0.1",
        );
        1.0
    })
}

fn resource(environment: &Environment, faults: &mut Faults) -> Vec<(String, String)> {
    let value = environment.text(env::OTEL_RESOURCE_ATTRIBUTES, faults).unwrap_or_default();
    let pairs = value.split(',').filter(|pair| !pair.trim().is_empty());
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(String::from);
    let attributes: Option<Vec<_>> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((decoded(name).filter(|name| !name.is_empty())?, decoded(value)?))
        })
        .collect();
    attributes.unwrap_or_else(|| {
        faults.add(
            env::OTEL_RESOURCE_ATTRIBUTES,
            "is no list of attributes",
            "use name=value,name=value, with what is special percent-encoded",
        );
        Vec::new()
    })
}
