//! Puts together what `status` says: pure, from the children as they live and what was decided.

use std::collections::BTreeMap;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    apply::Outcome,
    gather::Observed,
    live,
    names::{Component, entry},
    pods::Replicas,
    refusal::Refusal,
    validate::{Decision, Signer},
};
use crate::{
    api::{
        AuthService, AuthServiceStatus,
        auth_service::{DatabaseStatus, TokenStatus},
        conditions::{ConditionType, Reason},
    },
    contract::MigrationReport,
    operator::labels::{OWNER, REGENERATE},
};

mod database;
mod migration;
mod server;

pub use self::migration::{Migrated, migrated};

/// Everything a report may depend on.
pub struct View<'a> {
    /// The resource, with its present status.
    pub service: &'a AuthService,
    /// What was read.
    pub observed: &'a Observed,
    /// What was decided.
    pub decision: &'a Decision,
    /// What was written.
    pub outcome: &'a Outcome,
    /// The present time.
    pub now: Timestamp,
}

/// What one condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `True`, `False`, or `Unknown`.
    pub status: Truth,
    /// Why.
    pub reason: Reason,
    /// What is waited for, or what is wrong and the cure.
    pub message: String,
}

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nothing is known of it.
    Unknown,
}

impl Truth {
    /// The word in a condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Finding {
    fn new(status: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }
}

impl View<'_> {
    /// A condition as it stands in the present status.
    fn previous(&self, kind: ConditionType) -> Option<&Condition> {
        let status = self.service.status.as_ref()?;
        status.conditions.iter().find(|condition| condition.type_ == kind.as_str())
    }

    /// Refusals of deciding and of writing.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.decision.refusals.iter().chain(&self.outcome.refusals)
    }
}

/// The status that the resource is to have.
#[must_use]
pub fn status(view: &View<'_>) -> AuthServiceStatus {
    let identity = &view.decision.plan.identity;
    let previous = view.service.status.clone().unwrap_or_default();
    let replicas = view.outcome.resources.deployment.as_ref().map(Replicas::of);
    let migrated = migrated(view);
    AuthServiceStatus {
        observed_generation: view.service.metadata.generation,
        conditions: conditions(view, &migrated),
        replicas: replicas.map_or(0, |replicas| replicas.existing),
        ready_replicas: replicas.map_or(0, |replicas| replicas.ready),
        selector: Some(selector(&identity.selector(Component::Server))),
        url: Some(url(view)),
        database: database_status(view, &migrated, previous.database),
        token: match stored_signer(view) {
            Some(signer) => Some(TokenStatus {
                key_id: Some(signer.id.clone()),
                step: view.decision.next_signer_at.map(|_| "Publish".to_owned()),
                rotated_at: Some(Time(signer.since)),
            }),
            None => previous.token,
        },
    }
}

/// The address, with TLS where the Deployment has a certificate, or will have.
fn url(view: &View<'_>) -> String {
    let tls = match view.outcome.resources.deployment.as_ref() {
        Some(deployment) => live::tls_secret(deployment).is_some(),
        None => view.service.spec.http.as_ref().is_some_and(|http| http.tls.is_some()),
    };
    view.decision.plan.identity.url(tls)
}

/// The signer, once the Secret that holds it was written: a key that was only decided on is none.
fn stored_signer<'a>(view: &'a View<'_>) -> Option<&'a Signer> {
    let stored = view.outcome.resources.key_ring.as_ref()?.data.as_ref()?;
    let signer = view.decision.signer.as_ref()?;
    stored.contains_key(&signer.entry()).then_some(signer)
}

fn database_status(
    view: &View<'_>,
    migrated: &Migrated,
    previous: Option<DatabaseStatus>,
) -> Option<DatabaseStatus> {
    match migrated {
        Migrated::Complete(Some(report)) => Some(DatabaseStatus {
            version: report.database_version.clone(),
            schema_version: Some(report.schema_version),
        }),
        // The pod with the report is gone: the server's pods know the database, too. Before they are asked,
        // that there is one must be remembered all the same.
        Migrated::Complete(None) => {
            let known = previous.filter(|previous| previous.version.is_some());
            Some(known.or_else(|| database::seen(view)).unwrap_or_default())
        }
        Migrated::NotYet(_) | Migrated::Failed(_) => previous,
    }
}

/// The selector as `kubectl` and autoscalers write it.
fn selector(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Every condition, in the order of [`ConditionType`].
fn conditions(view: &View<'_>, migrated: &Migrated) -> Vec<Condition> {
    let mut findings = BTreeMap::from([
        (ConditionType::DatabaseReady, database::finding(view, migrated)),
        (ConditionType::SchemaReady, migration::finding(view, migrated)),
        (ConditionType::Available, server::available(view)),
        (ConditionType::Progressing, server::progressing(view, migrated)),
    ]);
    findings.extend(refused(view));
    findings.extend(limited(view, migrated));
    if let Some(secret) = &view.decision.standing_request {
        let message = format!(
            "Secret {secret} exists, and annotation {REGENERATE}={secret} is still there: remove it, or the next loss of the Secret is made good without a word"
        );
        findings.insert(
            ConditionType::RegenerateRequested,
            Finding::new(Truth::True, Reason::AnnotationLeft, message),
        );
    }
    if view.service.spec.suspend == Some(true) {
        let message = "spec.suspend is true: nothing but status is changed, and the pods go on serving";
        findings.insert(ConditionType::Suspended, Finding::new(Truth::True, Reason::Suspended, message));
    }
    let ready = ready(view, &findings);
    findings.insert(ConditionType::Ready, ready);
    findings.into_iter().map(|(kind, finding)| condition(view, kind, finding)).collect()
}

/// A condition whose transition time only changes with its status.
fn condition(view: &View<'_>, kind: ConditionType, finding: Finding) -> Condition {
    let previous = view.previous(kind).filter(|previous| previous.status == finding.status.as_str());
    Condition {
        type_: kind.as_str().to_owned(),
        status: finding.status.as_str().to_owned(),
        reason: finding.reason.as_str().to_owned(),
        message: bounded(finding.message),
        observed_generation: view.service.metadata.generation,
        // Whole seconds, as the API server keeps them: a fraction would be a difference for ever.
        last_transition_time: previous.map_or_else(
            || Time(Timestamp::from_second(view.now.as_second()).unwrap_or(view.now)),
            |previous| previous.last_transition_time.clone(),
        ),
    }
}

/// Messages may carry words of others; the API server takes 32 KiB of each.
fn bounded(mut message: String) -> String {
    const LONGEST: usize = 4096;
    if let Some((end, _)) = message.char_indices().nth(LONGEST) {
        message.truncate(end);
        message.push('…');
    }
    message
}

/// One condition for each kind of refusal.
fn refused(view: &View<'_>) -> BTreeMap<ConditionType, Finding> {
    let mut findings: BTreeMap<ConditionType, Finding> = BTreeMap::new();
    for refusal in view.refusals() {
        findings
            .entry(refusal.condition)
            .and_modify(|finding| finding.message = format!("{}; {}", finding.message, refusal.message))
            .or_insert_with(|| Finding::new(Truth::True, refusal.reason, refusal.message.clone()));
    }
    findings
}

/// What the last migration could not do though it completed. Without its report, as last told.
fn limited(view: &View<'_>, migrated: &Migrated) -> BTreeMap<ConditionType, Finding> {
    let Migrated::Complete(Some(report)) = migrated else {
        let kept = [ConditionType::BootstrapUserMissing, ConditionType::FeaturesLimited].into_iter();
        return kept.filter_map(|kind| Some((kind, kept_finding(view, kind)?))).collect();
    };
    let MigrationReport { missing_users, limits, .. } = report;
    let mut findings = BTreeMap::new();
    if !missing_users.is_empty() {
        let missing = missing_users.join(", ");
        let identity = &view.decision.plan.identity;
        let message = match view.service.spec.users.as_ref().and_then(|users| users.bootstrap.as_ref()) {
            Some(_) => format!(
                "not created, because the password is missing: {missing}. Create the Secret and key that users.bootstrap names for each"
            ),
            None => format!(
                "not created, because the password is missing: {missing}. Create Secret {} with key {} and label {OWNER}={}",
                identity.admin(),
                entry::PASSWORD,
                identity.name
            ),
        };
        findings.insert(
            ConditionType::BootstrapUserMissing,
            Finding::new(Truth::True, Reason::PasswordMissing, message),
        );
    }
    if !limits.is_empty() {
        findings.insert(
            ConditionType::FeaturesLimited,
            Finding::new(Truth::True, Reason::RightsMissing, limits.join("; ")),
        );
    }
    findings
}

fn kept_finding(view: &View<'_>, kind: ConditionType) -> Option<Finding> {
    let previous = view.previous(kind).filter(|previous| previous.status == Truth::True.as_str())?;
    let reason = match kind {
        ConditionType::BootstrapUserMissing => Reason::PasswordMissing,
        _ => Reason::RightsMissing,
    };
    Some(Finding::new(Truth::True, reason, previous.message.clone()))
}

/// Sums everything up: the first thing that stands in the way, in the order in which they depend
/// on each other.
fn ready(view: &View<'_>, findings: &BTreeMap<ConditionType, Finding>) -> Finding {
    let mut refusals = view.refusals();
    if let Some(first) = refusals.next() {
        let more = refusals.count();
        let more =
            if more == 0 { String::new() } else { format!("; and {more} more, see the other conditions") };
        return Finding::new(Truth::False, first.reason, format!("{}{more}", first.message));
    }
    // Another writer came in between: what this generation asks for is not all written yet, and what stands
    // there may be what an earlier one asked for.
    let was_ready = view.previous(ConditionType::Ready).is_some_and(|ready| {
        ready.status == Truth::True.as_str() && ready.observed_generation == view.service.metadata.generation
    });
    if view.outcome.again && !was_ready {
        return Finding::new(Truth::False, Reason::RollingOut, "the change is being written");
    }
    // What is known to be wrong says more than what is not known.
    for truth in [Truth::False, Truth::Unknown] {
        for kind in [ConditionType::DatabaseReady, ConditionType::SchemaReady, ConditionType::Available] {
            if let Some(finding) = findings.get(&kind).filter(|finding| finding.status == truth) {
                return Finding::new(Truth::False, finding.reason, finding.message.clone());
            }
        }
    }
    match findings.get(&ConditionType::Progressing) {
        Some(finding) if finding.status == Truth::True => {
            Finding::new(Truth::False, finding.reason, finding.message.clone())
        }
        _ => {
            let replicas = server::ready_replicas(view);
            let beside = [ConditionType::BootstrapUserMissing, ConditionType::RegenerateRequested];
            let beside = beside.iter().filter_map(|kind| findings.get(kind));
            let message = beside.fold(replicas, |all, finding| format!("{all}; {}", finding.message));
            Finding::new(Truth::True, Reason::AsExpected, message)
        }
    }
}

#[cfg(test)]
mod tests;
