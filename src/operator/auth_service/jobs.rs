//! What a migration Job and its pod say.

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::names::MIGRATE_CONTAINER;
use crate::contract::MigrationReport;

/// How far a Job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Neither of the next two yet.
    Running,
    /// Its pod succeeded.
    Complete {
        /// When.
        at: Option<Timestamp>,
    },
    /// It will not be tried again by Kubernetes.
    Failed {
        /// The Job controller's own words.
        words: String,
    },
}

/// How far `job` is.
#[must_use]
pub fn state(job: &Job) -> JobState {
    let status = job.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let condition = |kind: &str| {
        conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
    };
    if let Some(complete) = condition("Complete") {
        let completed = status.and_then(|status| status.completion_time.as_ref());
        return JobState::Complete {
            at: completed.or(complete.last_transition_time.as_ref()).map(|time| time.0),
        };
    }
    match condition("Failed") {
        Some(failed) => JobState::Failed {
            words: [failed.reason.as_deref(), failed.message.as_deref()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(": "),
        },
        None => JobState::Running,
    }
}

/// What the Job's newest pod left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastWords {
    /// Nothing: it runs, it is gone, or it was stopped before it could write.
    None,
    /// The report of `auth-server migrate`.
    Report(Box<MigrationReport>),
    /// The end of its log, when it ended before it could write a report.
    Log(String),
}

/// What the Job's newest pod left as its termination message.
#[must_use]
pub fn last_words(job: &Job, pods: &[Pod]) -> LastWords {
    let message = newest_pod(job, pods).and_then(|pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
        let container = containers.iter().find(|container| container.name == MIGRATE_CONTAINER)?;
        container.state.as_ref()?.terminated.as_ref()?.message.as_deref()
    });
    match message.map(str::trim) {
        None | Some("") => LastWords::None,
        Some(message) => match serde_json::from_str(message) {
            Ok(report) => LastWords::Report(Box::new(report)),
            Err(_) => LastWords::Log(message.to_owned()),
        },
    }
}

/// The newest of the Job's pods.
#[must_use]
pub fn newest_pod<'a>(job: &Job, pods: &'a [Pod]) -> Option<&'a Pod> {
    let uid = job.uid()?;
    let of_job = |pod: &&Pod| pod.owner_references().iter().any(|owner| owner.uid == uid);
    pods.iter().filter(of_job).max_by_key(|pod| pod.creation_timestamp().map(|time| time.0))
}
