//! What the server's Deployment and pods say.

use super::{Finding, Migrated, Truth, View};
use crate::{
    api::conditions::Reason,
    operator::auth_service::pods::{self, Replicas},
};

/// `2 of 2 replicas ready`.
pub(super) fn ready_replicas(view: &View<'_>) -> String {
    let replicas = view.outcome.resources.deployment.as_ref().map(Replicas::of);
    let (ready, wanted) =
        replicas.map_or((0, view.service.spec.replicas), |replicas| (replicas.ready, replicas.wanted));
    format!("{ready} of {wanted} replicas ready")
}

/// The count, and what the newest unready pod waits for.
fn waiting(view: &View<'_>) -> String {
    let count = ready_replicas(view);
    match pods::waiting(&view.observed.server_pods) {
        Some(pod) => format!("{count}; waiting for {pod}"),
        None => count,
    }
}

/// Whether a pod answers; a service of no replicas is as available as was asked.
pub(super) fn available(view: &View<'_>) -> Finding {
    let Some(deployment) = view.outcome.resources.deployment.as_ref() else {
        return Finding::new(Truth::False, Reason::DeploymentMissing, "there is no Deployment yet");
    };
    let replicas = Replicas::of(deployment);
    if replicas.wanted == 0 || replicas.ready > 0 {
        return Finding::new(Truth::True, Reason::AsExpected, ready_replicas(view));
    }
    Finding::new(Truth::False, Reason::ReplicasMissing, waiting(view))
}

/// Whether anything is still on its way.
pub(super) fn progressing(view: &View<'_>, migrated: &Migrated) -> Finding {
    let resources = &view.outcome.resources;
    if let Migrated::NotYet(finding) = migrated
        && finding.reason == Reason::Migrating
    {
        return Finding::new(Truth::True, Reason::Migrating, finding.message.clone());
    }
    let Some(deployment) = resources.deployment.as_ref() else {
        return Finding::new(Truth::True, Reason::DeploymentMissing, "there is no Deployment yet");
    };
    let replicas = Replicas::of(deployment);
    if replicas.settled() {
        return Finding::new(Truth::False, Reason::Settled, "nothing is being changed");
    }
    let conditions =
        deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let stuck =
        conditions.iter().any(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded"));
    let reason = if stuck {
        Reason::ProgressDeadlineExceeded
    } else if replicas.observed
        && replicas.updated == replicas.existing
        && replicas.existing == replicas.wanted
    {
        Reason::ReplicasMissing
    } else {
        Reason::RollingOut
    };
    let message = if replicas.updated < replicas.wanted || replicas.existing > replicas.updated {
        format!("{} of {} replicas updated, {}", replicas.updated, replicas.wanted, waiting(view))
    } else {
        waiting(view)
    };
    Finding::new(Truth::True, reason, message)
}
