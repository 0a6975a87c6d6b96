//! What the migration Job says.

use k8s_openapi::api::batch::v1::Job;

use super::{Finding, Truth, View};
use crate::{
    api::conditions::{ConditionType, Reason},
    contract::MigrationReport,
    operator::auth_service::{
        jobs::{self, JobState, LastWords},
        pods,
    },
};

/// How far the migration of the wanted settings is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migrated {
    /// Done; with its report while the pod that wrote it exists.
    Complete(Option<MigrationReport>),
    /// It waits or runs.
    NotYet(Finding),
    /// It failed.
    Failed(Finding),
}

/// How far the migration is.
#[must_use]
pub fn migrated(view: &View<'_>) -> Migrated {
    let Some(job) = view.outcome.resources.migration.as_ref() else {
        return Migrated::NotYet(not_started(view));
    };
    let words = jobs::last_words(job, &view.observed.migration_pods);
    match (jobs::state(job), words) {
        (JobState::Running, _) => Migrated::NotYet(running(view)),
        (JobState::Complete { .. }, LastWords::Report(report)) => Migrated::Complete(Some(*report)),
        (JobState::Complete { .. }, LastWords::None | LastWords::Log(_)) => Migrated::Complete(None),
        (JobState::Failed { words }, LastWords::Report(report)) => match report.error {
            Some(error) => Migrated::Failed(Finding::new(Truth::False, error.reason.into(), error.message)),
            None => failed(job, &words),
        },
        (JobState::Failed { .. }, LastWords::Log(log)) => failed(job, &log),
        (JobState::Failed { words }, LastWords::None) => failed(job, &words),
    }
}

/// A Job that failed without a report.
fn failed(job: &Job, words: &str) -> Migrated {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    Migrated::Failed(Finding::new(
        Truth::False,
        Reason::MigrationFailed,
        format!("migration Job {name} failed: {words}"),
    ))
}

fn not_started(view: &View<'_>) -> Finding {
    let resources = &view.outcome.resources;
    let managed = view.decision.plan.managed.is_some();
    if managed && !resources.database.as_ref().is_some_and(pods::database_ready) {
        return Finding::new(
            Truth::False,
            Reason::WaitingForDatabase,
            "the migration waits for the managed database",
        );
    }
    // What the migration reads comes first; another refusal may stand in its way too.
    let inputs = [ConditionType::SecretUnusable, ConditionType::SecretLost];
    let input = view.refusals().find(|refusal| inputs.contains(&refusal.condition));
    match input.or_else(|| view.refusals().next()) {
        Some(refusal) => Finding::new(
            Truth::False,
            Reason::WaitingForInputs,
            format!("the migration waits: {}", refusal.message),
        ),
        None => Finding::new(Truth::False, Reason::WaitingForInputs, "the migration has not started yet"),
    }
}

/// While a failed migration is tried again its words stay: they are the best there is to say.
fn running(view: &View<'_>) -> Finding {
    let job = view.outcome.resources.migration.as_ref();
    let pod = job.and_then(|job| jobs::newest_pod(job, &view.observed.migration_pods));
    let waits = pod.and_then(|pod| {
        let started = pod.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Pending");
        if started { None } else { pods::waiting([pod]) }
    });
    let stuck = waits.is_some();
    let message = match waits {
        Some(pod) => format!("setting up database, account, tables and users; waiting for {pod}"),
        None => "setting up database, account, tables and users".to_owned(),
    };
    let previous = view.previous(ConditionType::SchemaReady);
    let fault = previous.filter(|previous| {
        // Without words of its own, why the next attempt does not start says more than that the last failed.
        let says_less = stuck && previous.reason == Reason::MigrationFailed.as_str();
        !says_less
            && previous.observed_generation == view.service.metadata.generation
            && previous.status == Truth::False.as_str()
    });
    match fault.and_then(|fault| Some((known_fault(&fault.reason)?, fault.message.clone()))) {
        Some((reason, message)) => Finding::new(Truth::False, reason, message),
        None => Finding::new(Truth::False, Reason::Migrating, message),
    }
}

/// The reason of a failed migration.
fn known_fault(reason: &str) -> Option<Reason> {
    const FAULTS: [Reason; 8] = [
        Reason::MigrationFailed,
        Reason::DatabaseUnreachable,
        Reason::CredentialsRejected,
        Reason::GrantMissing,
        Reason::SchemaMissing,
        Reason::SchemaOutdated,
        Reason::SchemaIncompatible,
        Reason::DatabaseError,
    ];
    FAULTS.into_iter().find(|fault| fault.as_str() == reason)
}

/// Whether the schema is in place.
pub(super) fn finding(view: &View<'_>, migrated: &Migrated) -> Finding {
    match migrated {
        Migrated::Complete(report) => {
            let known = view.service.status.as_ref().and_then(|status| status.database.as_ref());
            let version = match report {
                Some(report) => Some(report.schema_version),
                None => known.and_then(|known| known.schema_version),
            };
            let message = version.map_or_else(
                || "tables are in place".to_owned(),
                |version| format!("schema version {version}"),
            );
            Finding::new(Truth::True, Reason::AsExpected, message)
        }
        // What the live pods use stands as it stood; only users or rights are being looked after.
        Migrated::NotYet(finding)
            if view.decision.live_as_wanted
                && view
                    .previous(ConditionType::SchemaReady)
                    .is_some_and(|previous| previous.status == Truth::True.as_str()) =>
        {
            Finding { status: Truth::True, ..finding.clone() }
        }
        Migrated::NotYet(finding) | Migrated::Failed(finding) => finding.clone(),
    }
}
