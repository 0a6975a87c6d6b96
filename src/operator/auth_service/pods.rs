//! What pods and the objects that make them say: how many are ready, and what one waits for.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
};
use kube::ResourceExt;

/// Whether every wanted server pod is there and ready.
#[must_use]
pub fn all_ready(deployment: Option<&Deployment>) -> bool {
    deployment.is_some_and(|deployment| Replicas::of(deployment).settled())
}

/// Whether the managed database's one pod is ready.
#[must_use]
pub fn database_ready(database: &StatefulSet) -> bool {
    database.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0) > 0
}

/// The pods of a Deployment, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// As spec asks.
    pub wanted: i32,
    /// Existing, of any template.
    pub existing: i32,
    /// Of the present template.
    pub updated: i32,
    /// Ready, of any template.
    pub ready: i32,
    /// Whether the Deployment controller has seen the present spec.
    pub observed: bool,
}

impl Replicas {
    /// Counts as the Deployment controller did.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        let status = deployment.status.as_ref();
        let count = |of: fn(&k8s_openapi::api::apps::v1::DeploymentStatus) -> Option<i32>| {
            status.and_then(of).unwrap_or(0)
        };
        Self {
            wanted: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            existing: count(|status| status.replicas),
            updated: count(|status| status.updated_replicas),
            ready: count(|status| status.ready_replicas),
            observed: status.and_then(|status| status.observed_generation) >= deployment.metadata.generation,
        }
    }

    /// Every pod is of the present template and ready, and none is left over.
    #[must_use]
    pub fn settled(self) -> bool {
        self.observed
            && self.updated == self.wanted
            && self.existing == self.wanted
            && self.ready == self.wanted
    }
}

/// What the first unready pod waits for: `pod gate-0: ImagePullBackOff: ...`.
#[must_use]
pub fn waiting<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Option<String> {
    let mut unready: Vec<&Pod> = pods.into_iter().filter(|pod| !is_ready(pod)).collect();
    // The newest says most about the present template; the name breaks ties, so that the text
    // does not change from run to run.
    unready
        .sort_by_key(|pod| (std::cmp::Reverse(pod.creation_timestamp().map(|time| time.0)), pod.name_any()));
    unready.first().map(|pod| format!("pod {}: {}", pod.name_any(), fault(pod)))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The kubelet's or scheduler's own words for why a pod is not ready.
fn fault(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "Terminating".to_owned();
    }
    let Some(status) = pod.status.as_ref() else { return "Pending".to_owned() };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let unscheduled =
        conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        return said(condition.reason.as_deref(), condition.message.as_deref());
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    if let Some(words) = containers.into_iter().find_map(container_fault) {
        return words;
    }
    match status.phase.as_deref() {
        Some("Running") => "running, not ready yet".to_owned(),
        phase => said(status.reason.as_deref().or(phase), status.message.as_deref()),
    }
}

fn container_fault(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref();
        // What the container said last is better than how long the kubelet waits.
        let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        return Some(match last {
            Some(last) => said(reason, Some(&ending(last))),
            None => said(reason, waiting.message.as_deref()),
        });
    }
    let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
    Some(said(ended.reason.as_deref(), Some(&ending(ended))))
}

/// Exit code and last line of a container that ended.
fn ending(ended: &ContainerStateTerminated) -> String {
    const LONGEST: usize = 500;
    let line =
        ended.message.as_deref().unwrap_or_default().trim_end().lines().next_back().unwrap_or_default();
    let line: String = line.chars().take(LONGEST).collect();
    let code = ended.exit_code;
    if line.is_empty() { format!("exit code {code}") } else { format!("exit code {code}: {line}") }
}

fn said(reason: Option<&str>, message: Option<&str>) -> String {
    let words: Vec<&str> = [reason, message].into_iter().flatten().filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "Pending".to_owned() } else { words.join(": ") }
}
