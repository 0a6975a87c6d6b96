//! The `PodDisruptionBudget` that keeps node drains from taking all server pods at once.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::super::names::{Component, Identity};

/// One server pod may be away at a time. A pod that is not ready serves nobody and never blocks a
/// drain.
pub(super) fn budget(identity: &Identity) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: identity.metadata(identity.server(), Component::Server),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(identity.selector(Component::Server)),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, budget};

    #[test]
    fn a_drain_takes_one_server_pod_at_a_time() {
        insta::assert_yaml_snapshot!(budget(&sample::managed().identity));
    }
}
