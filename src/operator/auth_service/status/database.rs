//! What is known of the database: from the pods that use it, else from the last migration.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Finding, Migrated, Truth, View};
use crate::{
    api::{auth_service::DatabaseStatus, conditions::Reason},
    contract::{self, DatabaseFault},
    operator::{
        auth_service::{
            jobs::{self, JobState},
            plan::Connection,
            pods,
        },
        context::Verdict,
    },
};

/// Pods look at their database every few seconds: an answer given this soon after a migration
/// completed may speak of the time before.
const NOTICE: SignedDuration = SignedDuration::from_secs(10);

/// Whether the database answers the server's account.
pub(super) fn finding(view: &View<'_>, migrated: &Migrated) -> Finding {
    if let Some(finding) = managed(view) {
        return finding;
    }
    let connection = view.decision.plan.server.as_ref().map(|server| &server.connection);
    let place = connection.map(place).unwrap_or_default();
    let said: Vec<&contract::DatabaseStatus> =
        connection.map(|connection| said(view, connection)).unwrap_or_default();
    let superseded = superseded(view, migrated);
    if let Some(finding) = superseded.filter(|_| said.iter().any(|said| said.fault.is_some())) {
        return not_yet(finding);
    }
    if let Some((fault, words)) = said.iter().find_map(|said| Some((said.fault?, said.error.as_deref()))) {
        let message =
            format!("{place}: {}. {}", words.unwrap_or("no words").trim_end_matches('.'), cure(fault));
        return Finding::new(Truth::False, fault.into(), message);
    }
    let well = match (said.first(), migrated) {
        (Some(said), _) => said.version.clone(),
        (None, Migrated::Complete(report)) => {
            let known = view.service.status.as_ref().and_then(|status| status.database.as_ref());
            let version = report.as_ref().and_then(|report| report.database_version.clone());
            version.or_else(|| known.and_then(|known| known.version.clone()))
        }
        (None, Migrated::NotYet(finding) | Migrated::Failed(finding)) => return not_yet(finding),
    };
    let version = well.map(|version| format!(" ({version})")).unwrap_or_default();
    let account =
        connection.map(|connection| format!(" account {}", connection.account.username)).unwrap_or_default();
    Finding::new(Truth::True, Reason::AsExpected, format!("{place}{version} answers{account}"))
}

/// What the migration of other settings than the live ones says of the database: pods that complain of
/// the live settings speak of what spec no longer asks for.
fn superseded<'a>(view: &View<'_>, migrated: &'a Migrated) -> Option<&'a Finding> {
    let (Migrated::NotYet(finding) | Migrated::Failed(finding)) = migrated else { return None };
    let asked = !matches!(
        finding.reason,
        Reason::WaitingForDatabase | Reason::WaitingForInputs | Reason::MigrationFailed
    );
    (asked && !view.decision.live_as_wanted).then_some(finding)
}

/// What a migration says that has not completed: a fault of the database, or nothing about it.
fn not_yet(finding: &Finding) -> Finding {
    match finding.reason {
        Reason::Migrating
        | Reason::WaitingForDatabase
        | Reason::WaitingForInputs
        | Reason::MigrationFailed => {
            Finding::new(Truth::Unknown, Reason::NotYetChecked, finding.message.clone())
        }
        _ => finding.clone(),
    }
}

fn place(connection: &Connection) -> String {
    format!("database {} at {}:{}", connection.database, connection.host, connection.port)
}

/// A managed database that is not up.
fn managed(view: &View<'_>) -> Option<Finding> {
    let name = view.decision.plan.managed.as_ref().map(|_| view.decision.plan.identity.database_pod())?;
    let waits = |words: &str| {
        Finding::new(Truth::False, Reason::DatabaseStarting, format!("waiting for the database {words}"))
    };
    match view.outcome.resources.database.as_ref() {
        None => Some(waits("StatefulSet, which does not exist yet")),
        Some(database) if pods::database_ready(database) => None,
        Some(_) => Some(match pods::waiting(&view.observed.database_pod) {
            Some(words) => waits(&words),
            None => waits(&format!("pod {name}, which does not exist yet")),
        }),
    }
}

/// What the pods that use `connection` last said of it. While the migration of what they use has not
/// completed, or has only just, their complaints are what it is there to settle.
fn said<'a>(view: &'a View<'_>, connection: &Connection) -> Vec<&'a contract::DatabaseStatus> {
    let completed = match view.outcome.resources.migration.as_ref().map(jobs::state) {
        Some(JobState::Complete { at }) => Some(at.unwrap_or(Timestamp::UNIX_EPOCH)),
        _ => None,
    };
    let complaints_count_from = match (view.decision.live_as_wanted, completed) {
        (true, None) => Timestamp::MAX,
        (true, Some(at)) => at.checked_add(NOTICE).unwrap_or(Timestamp::MAX),
        (false, _) => Timestamp::MIN,
    };
    let answers = view.observed.verdicts.values().filter_map(|verdict| match verdict {
        Verdict::Answered { status, at }
            if status.database.fault.is_none() || *at >= complaints_count_from =>
        {
            Some(&status.database)
        }
        Verdict::Answered { .. } | Verdict::Unknown => None,
    });
    answers.filter(|said| said.account == connection.account.username).collect()
}

/// The database as a pod sees it that finds no fault with it.
pub(super) fn seen(view: &View<'_>) -> Option<DatabaseStatus> {
    let connection = &view.decision.plan.server.as_ref()?.connection;
    let said = said(view, connection).into_iter().find(|said| said.fault.is_none())?;
    Some(DatabaseStatus { version: said.version.clone(), schema_version: Some(said.schema_version) })
}

/// What a person can do about a fault that a pod reports.
fn cure(fault: DatabaseFault) -> &'static str {
    match fault {
        DatabaseFault::DatabaseUnreachable => {
            "Tokens are still validated, logins answer 503: check that the database runs and that the network lets the server pods reach it"
        }
        DatabaseFault::CredentialsRejected => {
            "Check the account in the database, and the Secret that credentialsSecretRef names"
        }
        DatabaseFault::GrantMissing => "Grant the account SELECT, INSERT, UPDATE and DELETE on the database",
        DatabaseFault::SchemaMissing | DatabaseFault::SchemaOutdated => {
            "The migration is run again to mend it"
        }
        DatabaseFault::SchemaIncompatible => {
            "Table user needs the columns id, email and password; it is never altered by the operator"
        }
        DatabaseFault::DatabaseError => "Check the database's own log",
    }
}
