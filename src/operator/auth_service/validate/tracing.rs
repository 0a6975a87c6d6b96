//! Where traces of requests go.

use k8s_openapi::api::apps::v1::Deployment;

use super::Inputs;
use crate::{
    contract::Collector,
    operator::auth_service::{claim::Slot, live, plan::Tracing, refusal::Refusal},
};

const ENDPOINT: &str = "monitoring.tracing.endpoint";
const SAMPLING: &str = "monitoring.tracing.sampling";

/// Decides on the traces. Where spec cannot be followed, live pods keep what they have and new ones trace
/// nothing: no login depends on it.
pub(super) fn decide(
    inputs: &Inputs<'_>,
    deployment: &Slot<'_, Deployment>,
    refusals: &mut Vec<Refusal>,
) -> Option<Tracing> {
    let monitoring = inputs.spec.monitoring.as_ref();
    let tracing = monitoring.and_then(|monitoring| monitoring.tracing.as_ref())?;
    let sampling = tracing.sampling.unwrap_or(1.0);
    let endpoint = Collector::of(&tracing.endpoint)
        .map_err(|bad| refusals.push(Refusal::field(ENDPOINT, &bad.to_string(), bad.cure())));
    let part = (0.0..=1.0).contains(&sampling);
    if !part {
        refusals.push(Refusal::field(
            SAMPLING,
            "is no part of the requests",
            "use a number from 0 to 1, such as 0.1",
        ));
    }
    if endpoint.is_ok() && part {
        return Some(Tracing { endpoint: tracing.endpoint.clone(), sampling: sampling.to_string() });
    }
    deployment.ours().and_then(live::tracing)
}
