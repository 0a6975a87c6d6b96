//! Who owns which field: a POST or a patch leaves our fields as an *Update* in `managedFields`, which
//! a later apply by the same manager cannot remove. They are handed over to an *Apply* before it.

use serde_json::{Map, Value, json};

/// The JSON patch that turns our Update entry into an Apply entry, or adds its fields to the one that
/// is there; guarded by the resourceVersion that was seen. `None` when there is no Update entry.
#[must_use]
pub fn hand_over(live: &Value, manager: &str) -> Option<Vec<Value>> {
    let entries = live.pointer("/metadata/managedFields")?.as_array()?;
    let ours = |operation: &str| {
        entries.iter().position(|entry| {
            let says = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            says("manager") == manager && says("operation") == operation && says("subresource").is_empty()
        })
    };
    let update = ours("Update")?;
    let version = live.pointer("/metadata/resourceVersion")?;
    let mut operations = vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
    let path = |index: usize, field: &str| format!("/metadata/managedFields/{index}{field}");
    match ours("Apply") {
        None => {
            operations.push(json!({"op": "replace", "path": path(update, "/operation"), "value": "Apply"}));
        }
        Some(apply) => {
            let fields = |index: usize| {
                let fields = entries.get(index).and_then(|entry| entry.get("fieldsV1"));
                fields.and_then(Value::as_object).cloned().unwrap_or_default()
            };
            let mut all = fields(apply);
            merge(&mut all, fields(update));
            operations.push(json!({"op": "replace", "path": path(apply, "/fieldsV1"), "value": all}));
            operations.push(json!({"op": "remove", "path": path(update, "")}));
        }
    }
    Some(operations)
}

/// The union of two sets of fields.
fn merge(all: &mut Map<String, Value>, more: Map<String, Value>) {
    for (field, below) in more {
        match (all.get_mut(&field), below) {
            (Some(Value::Object(known)), Value::Object(below)) => merge(known, below),
            (_, below) => {
                all.insert(field, below);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(entries: &Value) -> Value {
        json!({"metadata": {"resourceVersion": "7", "managedFields": entries}})
    }

    fn test() -> Value {
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"})
    }

    #[test]
    fn what_was_created_becomes_an_apply_guarded_by_the_version_that_was_seen() {
        let other = json!({"manager": "kubectl", "operation": "Update"});
        let status = json!({"manager": "us", "operation": "Update", "subresource": "status"});
        let update = json!({"manager": "us", "operation": "Update"});
        assert_eq!(
            hand_over(&live(&json!([other, status, update])), "us").unwrap(),
            [
                test(),
                json!({"op": "replace", "path": "/metadata/managedFields/2/operation", "value": "Apply"})
            ]
        );
    }

    #[test]
    fn what_was_patched_later_joins_the_apply_that_is_there() {
        let update = json!({"manager": "us", "operation": "Update", "fieldsV1": {"f:spec": {"f:b": {}}}});
        let apply = json!({"manager": "us", "operation": "Apply", "fieldsV1": {"f:spec": {"f:a": {}}}});
        assert_eq!(
            hand_over(&live(&json!([update, apply])), "us").unwrap(),
            [
                test(),
                json!({"op": "replace", "path": "/metadata/managedFields/1/fieldsV1", "value": {"f:spec": {"f:a": {}, "f:b": {}}}}),
                json!({"op": "remove", "path": "/metadata/managedFields/0"}),
            ]
        );
    }

    #[test]
    fn what_others_own_and_what_is_applied_already_needs_nothing() {
        let other = json!({"manager": "kubectl", "operation": "Update"});
        let apply = json!({"manager": "us", "operation": "Apply"});
        assert_eq!(hand_over(&live(&json!([other, apply])), "us"), None);
        assert_eq!(hand_over(&json!({}), "us"), None);
    }
}
