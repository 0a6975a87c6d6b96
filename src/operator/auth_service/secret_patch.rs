//! The JSON patch that brings a live Secret to what is wanted. Entries are added and never
//! overwritten, except in a view, which holds exactly what is wanted. An empty entry holds nothing
//! that could be lost, and counts as none.

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use serde_json::{Value, json};

/// How the entries of a Secret are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// Each entry is written once; entries of others stay.
    WriteOnce,
    /// Exactly the wanted entries, corrected when edited.
    View,
}

/// The patch, guarded by the resourceVersion that was seen; `None` when nothing differs.
/// It must never be logged: it carries values.
#[must_use]
pub fn patch(wanted: &Secret, live: &Secret, keeping: Keeping) -> Option<Vec<Value>> {
    let mut operations = Vec::new();
    entries(wanted, live, keeping, &mut operations);
    labels(wanted, live, &mut operations);
    owners(wanted, live, &mut operations);
    if operations.is_empty() {
        return None;
    }
    let version = live.metadata.resource_version.clone().unwrap_or_default();
    operations.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    Some(operations)
}

fn entries(wanted: &Secret, live: &Secret, keeping: Keeping, operations: &mut Vec<Value>) {
    let wanted = wanted.data.as_ref();
    if live.data.is_none() && wanted.is_some_and(|data| !data.is_empty()) {
        operations.push(json!({"op": "add", "path": "/data", "value": {}}));
    }
    let has = |key: &String| live.data.as_ref().and_then(|data| data.get(key));
    for (key, value) in wanted.into_iter().flatten() {
        let write = match has(key) {
            None => true,
            Some(live) if live.0.is_empty() => !value.0.is_empty(),
            Some(live) => keeping == Keeping::View && live != value,
        };
        if write {
            operations.push(json!({"op": "add", "path": format!("/data/{}", escaped(key)), "value": value}));
        }
    }
    if keeping == Keeping::View {
        let foreign = live
            .data
            .iter()
            .flatten()
            .filter(|(key, _)| wanted.is_none_or(|wanted| !wanted.contains_key(*key)));
        operations.extend(
            foreign.map(|(key, _)| json!({"op": "remove", "path": format!("/data/{}", escaped(key))})),
        );
    }
}

fn labels(wanted: &Secret, live: &Secret, operations: &mut Vec<Value>) {
    let live = live.metadata.labels.as_ref();
    let wanted = wanted.metadata.labels.iter().flatten();
    let missing: Vec<_> =
        wanted.filter(|(key, value)| live.and_then(|live| live.get(*key)) != Some(value)).collect();
    if live.is_none() && !missing.is_empty() {
        operations.push(json!({"op": "add", "path": "/metadata/labels", "value": {}}));
    }
    for (key, value) in missing {
        operations
            .push(json!({"op": "add", "path": format!("/metadata/labels/{}", escaped(key)), "value": value}));
    }
}

/// Our controller reference is added, renewed or taken off; other owners stay.
fn owners(wanted: &Secret, live: &Secret, operations: &mut Vec<Value>) {
    let wanted = wanted.metadata.owner_references.as_deref().unwrap_or_default();
    let live = live.metadata.owner_references.as_deref().unwrap_or_default();
    let others = live.iter().filter(|owner| owner.controller != Some(true));
    let all: Vec<&OwnerReference> = others.chain(wanted).collect();
    if all.iter().copied().eq(live) {
        return;
    }
    operations.push(match (all.is_empty(), live.is_empty()) {
        (true, _) => json!({"op": "remove", "path": "/metadata/ownerReferences"}),
        (false, true) => json!({"op": "add", "path": "/metadata/ownerReferences", "value": all}),
        (false, false) => json!({"op": "replace", "path": "/metadata/ownerReferences", "value": all}),
    });
}

/// A key as a token of a JSON pointer (RFC 6901 section 3).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: Value) -> Secret {
        serde_json::from_value(value).unwrap()
    }

    fn live() -> Secret {
        secret(
            json!({"metadata": {"resourceVersion": "9", "labels": {"a": "b"}}, "data": {"one": "MQ==", "theirs": "eA=="}}),
        )
    }

    const TEST: &str = r#"{"op":"test","path":"/metadata/resourceVersion","value":"9"}"#;

    fn test() -> Value {
        serde_json::from_str(TEST).unwrap()
    }

    #[test]
    fn entries_are_added_and_never_overwritten() {
        let wanted =
            secret(json!({"metadata": {"labels": {"a": "b"}}, "data": {"one": "Mg==", "two": "Mg=="}}));
        assert_eq!(
            patch(&wanted, &live(), Keeping::WriteOnce).unwrap(),
            [test(), json!({"op": "add", "path": "/data/two", "value": "Mg=="})]
        );
    }

    #[test]
    fn an_empty_entry_is_filled_once() {
        let emptied = secret(json!({"metadata": {"resourceVersion": "9"}, "data": {"one": ""}}));
        let wanted = |value: &str| secret(json!({"data": {"one": value}}));
        assert_eq!(
            patch(&wanted("Mg=="), &emptied, Keeping::WriteOnce).unwrap(),
            [test(), json!({"op": "add", "path": "/data/one", "value": "Mg=="})]
        );
        assert_eq!(patch(&wanted(""), &emptied, Keeping::WriteOnce), None);
    }

    #[test]
    fn a_view_is_corrected_and_rid_of_foreign_entries() {
        let wanted = secret(json!({"metadata": {"labels": {"a": "b"}}, "data": {"one": "Mg=="}}));
        assert_eq!(
            patch(&wanted, &live(), Keeping::View).unwrap(),
            [
                test(),
                json!({"op": "add", "path": "/data/one", "value": "Mg=="}),
                json!({"op": "remove", "path": "/data/theirs"}),
            ]
        );
    }

    #[test]
    fn the_owner_comes_and_goes_with_the_deletion_policy_and_other_owners_stay() {
        let ours = json!({"apiVersion": "a/v1", "kind": "K", "name": "gate", "uid": "1", "controller": true});
        let other = json!({"apiVersion": "b/v1", "kind": "O", "name": "o", "uid": "2"});
        let with =
            |owners: Value| secret(json!({"metadata": {"resourceVersion": "9", "ownerReferences": owners}}));
        let without = secret(json!({"metadata": {"resourceVersion": "9"}}));
        let owners =
            |op: &str, value: Value| json!({"op": op, "path": "/metadata/ownerReferences", "value": value});
        let cases = [
            (with(json!([ours])), without.clone(), vec![test(), owners("add", json!([ours]))]),
            (
                with(json!([ours])),
                with(json!([other])),
                vec![test(), owners("replace", json!([other, ours]))],
            ),
            (
                without.clone(),
                with(json!([ours])),
                vec![test(), json!({"op": "remove", "path": "/metadata/ownerReferences"})],
            ),
            (without.clone(), with(json!([other, ours])), vec![test(), owners("replace", json!([other]))]),
        ];
        for (wanted, live, expected) in cases {
            assert_eq!(patch(&wanted, &live, Keeping::WriteOnce).unwrap(), expected);
        }
        assert_eq!(patch(&with(json!([ours])), &with(json!([ours])), Keeping::WriteOnce), None);
        assert_eq!(patch(&without, &with(json!([other])), Keeping::WriteOnce), None);
    }

    #[test]
    fn lost_labels_return_and_their_slashes_are_escaped() {
        let wanted =
            secret(json!({"metadata": {"labels": {"authservice.dev/name": "gate"}}, "data": {"k~": "MQ=="}}));
        let bare = secret(json!({"metadata": {"resourceVersion": "9"}}));
        assert_eq!(
            patch(&wanted, &bare, Keeping::WriteOnce).unwrap(),
            [
                test(),
                json!({"op": "add", "path": "/data", "value": {}}),
                json!({"op": "add", "path": "/data/k~0", "value": "MQ=="}),
                json!({"op": "add", "path": "/metadata/labels", "value": {}}),
                json!({"op": "add", "path": "/metadata/labels/authservice.dev~1name", "value": "gate"}),
            ]
        );
    }

    #[test]
    fn a_secret_that_holds_all_of_it_is_left_alone() {
        let wanted = secret(json!({"metadata": {"labels": {"a": "b"}}, "data": {"one": "MQ=="}}));
        assert_eq!(patch(&wanted, &live(), Keeping::WriteOnce), None);
    }
}
