//! The Events of one run: what was written, and what changed in the conditions. Nothing secret is
//! in either.

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::runtime::events::{Event, EventType};

use super::{apply::Change, status::Migrated};
use crate::api::{AuthServiceStatus, conditions::ConditionType};

/// Longest note the API server takes is 1 KiB.
const LONGEST_NOTE: usize = 1000;

/// One Event for each write.
pub fn of_changes(changes: &[Change]) -> impl Iterator<Item = Event> {
    changes.iter().map(|change| {
        let Change { done, object, detail } = change;
        let ObjectReference { kind, name, .. } = object;
        let child =
            format!("{} {}", kind.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        Event {
            type_: EventType::Normal,
            reason: (*done).to_owned(),
            note: Some(bounded(format!("{done} {child}{detail}"))),
            action: "Reconcile".to_owned(),
            secondary: Some(object.clone()),
        }
    })
}

/// One Event for each condition that says something new, and for what a migration created.
#[must_use]
pub fn of_status(
    before: Option<&AuthServiceStatus>,
    after: &AuthServiceStatus,
    migrated: Option<&Migrated>,
) -> Vec<Event> {
    let find = |kind: &str| {
        before.and_then(|before| before.conditions.iter().find(|condition| condition.type_ == kind))
    };
    let mut events: Vec<Event> = after
        .conditions
        .iter()
        .filter_map(|condition| of_condition(find(&condition.type_), condition))
        .collect();
    let schema = |status: &AuthServiceStatus| {
        let condition =
            status.conditions.iter().find(|condition| condition.type_ == ConditionType::SchemaReady.as_str());
        condition.is_some_and(|condition| condition.status == "True" && condition.reason == "AsExpected")
    };
    if let Some(Migrated::Complete(report)) = migrated
        && schema(after)
        && !before.is_some_and(schema)
    {
        let created =
            report.as_ref().map(|report| report.created.join(", ")).filter(|created| !created.is_empty());
        let note = created.map_or_else(
            || "the migration found everything in place".to_owned(),
            |created| format!("created {created}"),
        );
        events.push(normal("Migrated", &note));
    }
    events
}

/// What is good news and what is bad depends on the type; what is merely on its way is no news.
fn of_condition(before: Option<&Condition>, after: &Condition) -> Option<Event> {
    let was = before.map(|before| before.status.as_str());
    let same = before.is_some_and(|before| before.status == after.status && before.reason == after.reason);
    let kind = ConditionType::ALL.iter().find(|kind| kind.as_str() == after.type_)?;
    match kind {
        ConditionType::Ready | ConditionType::DatabaseReady if after.status == "True" => {
            (was != Some("True")).then(|| normal(&after.type_, &after.message))
        }
        ConditionType::Ready | ConditionType::Available | ConditionType::Progressing => None,
        ConditionType::Suspended => (!same).then(|| normal(&after.reason, &after.message)),
        ConditionType::DatabaseReady | ConditionType::SchemaReady => {
            (after.status == "False" && !same && !on_its_way(&after.reason))
                .then(|| warning(&after.reason, &after.message))
        }
        ConditionType::NameTaken
        | ConditionType::RegenerateRequested
        | ConditionType::SecretLost
        | ConditionType::SecretUnusable
        | ConditionType::FieldRefused
        | ConditionType::ChildRefused
        | ConditionType::BootstrapUserMissing
        | ConditionType::FeaturesLimited => {
            let told =
                before.is_some_and(|before| before.message == after.message && before.status == after.status);
            (!told).then(|| warning(&after.reason, &after.message))
        }
    }
}

fn on_its_way(reason: &str) -> bool {
    matches!(reason, "DatabaseStarting" | "WaitingForDatabase" | "WaitingForInputs" | "Migrating")
}

fn normal(reason: &str, note: &str) -> Event {
    event(EventType::Normal, reason, note)
}

fn warning(reason: &str, note: &str) -> Event {
    event(EventType::Warning, reason, note)
}

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(bounded(note.to_owned())),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}

fn bounded(mut note: String) -> String {
    if note.len() > LONGEST_NOTE {
        let end =
            (0..=LONGEST_NOTE - '…'.len_utf8()).rev().find(|&end| note.is_char_boundary(end)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract::MigrationReport;

    fn status(conditions: &[(&str, &str, &str, &str)]) -> AuthServiceStatus {
        let condition = |(kind, status, reason, message): &(&str, &str, &str, &str)| json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-03-01T12:00:00Z"});
        let conditions: Vec<_> = conditions.iter().map(condition).collect();
        serde_json::from_value(json!({"conditions": conditions})).unwrap()
    }

    fn notes(before: Option<&AuthServiceStatus>, after: &AuthServiceStatus) -> Vec<String> {
        let events = of_status(before, after, None);
        events
            .iter()
            .map(|event| format!("{:?} {}: {}", event.type_, event.reason, event.note.as_deref().unwrap()))
            .collect()
    }

    #[test]
    fn a_refusal_is_told_once_and_again_when_its_words_change() {
        let first = status(&[("NameTaken", "True", "NameTaken", "Service gate")]);
        let other = status(&[("NameTaken", "True", "NameTaken", "Secret gate-keys")]);
        assert_eq!(notes(None, &first), ["Warning NameTaken: Service gate"]);
        assert_eq!(notes(Some(&first), &first), [""; 0]);
        assert_eq!(notes(Some(&first), &other), ["Warning NameTaken: Secret gate-keys"]);
    }

    #[test]
    fn what_is_on_its_way_is_no_news() {
        let after = status(&[
            ("Ready", "False", "DatabaseStarting", "m"),
            ("DatabaseReady", "False", "DatabaseStarting", "m"),
            ("SchemaReady", "False", "Migrating", "m"),
            ("Available", "False", "ReplicasMissing", "m"),
            ("Progressing", "True", "RollingOut", "m"),
        ]);
        assert_eq!(notes(None, &after), [""; 0]);
    }

    #[test]
    fn a_database_that_fails_and_returns_is_told_twice() {
        let well = status(&[("DatabaseReady", "True", "AsExpected", "answers")]);
        let ill = status(&[("DatabaseReady", "False", "DatabaseUnreachable", "refused")]);
        assert_eq!(notes(Some(&well), &ill), ["Warning DatabaseUnreachable: refused"]);
        assert_eq!(notes(Some(&ill), &well), ["Normal DatabaseReady: answers"]);
        assert_eq!(notes(Some(&well), &well), [""; 0]);
    }

    #[test]
    fn a_fault_is_told_once_and_again_when_its_reason_changes() {
        let rejected = status(&[("SchemaReady", "False", "CredentialsRejected", "refused")]);
        let lacking = status(&[("SchemaReady", "False", "GrantMissing", "no SELECT")]);
        assert_eq!(notes(None, &rejected), ["Warning CredentialsRejected: refused"]);
        assert_eq!(notes(Some(&rejected), &rejected), [""; 0]);
        assert_eq!(notes(Some(&rejected), &lacking), ["Warning GrantMissing: no SELECT"]);
        let well = status(&[("SchemaReady", "True", "GrantMissing", "m")]);
        assert_eq!(notes(Some(&well), &lacking), ["Warning GrantMissing: no SELECT"]);
    }

    #[test]
    fn a_suspension_is_told_once() {
        let suspended = status(&[("Suspended", "True", "Suspended", "nothing is changed")]);
        assert_eq!(notes(None, &suspended), ["Normal Suspended: nothing is changed"]);
        assert_eq!(notes(Some(&suspended), &suspended), [""; 0]);
    }

    #[test]
    fn a_second_migration_of_what_runs_tells_what_it_created_too() {
        let under_way = status(&[("SchemaReady", "True", "Migrating", "setting up")]);
        let done = status(&[("SchemaReady", "True", "AsExpected", "schema version 2")]);
        let created = vec!["user a@b.c".to_owned()];
        let migrated = Migrated::Complete(Some(MigrationReport { created, ..MigrationReport::default() }));
        let events = of_status(Some(&under_way), &done, Some(&migrated));
        assert_eq!((events.len(), events[0].note.as_deref()), (1, Some("created user a@b.c")));
    }

    #[test]
    fn a_migration_tells_what_it_created() {
        let after = status(&[("SchemaReady", "True", "AsExpected", "schema version 2")]);
        let created = vec!["database shop".to_owned(), "user a@b.c".to_owned()];
        let migrated = Migrated::Complete(Some(MigrationReport { created, ..MigrationReport::default() }));
        let events = of_status(None, &after, Some(&migrated));
        assert_eq!((events.len(), events[0].note.as_deref()), (1, Some("created database shop, user a@b.c")));
        assert_eq!(of_status(Some(&after), &after, Some(&migrated)).len(), 0);
    }

    #[test]
    fn a_write_is_told_with_its_object_and_a_long_note_is_cut_between_characters() {
        let object = ObjectReference {
            kind: Some("Deployment".to_owned()),
            name: Some("gate".to_owned()),
            ..ObjectReference::default()
        };
        let change = Change { done: "Changed", object: object.clone(), detail: "spec.replicas".to_owned() };
        let event = of_changes(&[change]).next().unwrap();
        assert_eq!(event.note.as_deref(), Some("Changed Deployment gate: spec.replicas"));
        assert_eq!((event.reason.as_str(), event.secondary), ("Changed", Some(object)));
        assert_eq!(bounded("ü".repeat(LONGEST_NOTE)), format!("{}…", "ü".repeat(498)));
        let longest = "x".repeat(LONGEST_NOTE);
        assert_eq!(bounded(longest.clone()), longest);
    }
}
