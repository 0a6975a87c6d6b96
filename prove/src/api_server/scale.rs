//! The subresource `scale`: replicas alone, in one form for all kinds that have them.

use serde_json::{Value, json};

/// The `Scale` of an object.
pub(super) fn of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut own = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        own[field] = metadata[field].clone();
    }
    let mut status = json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    if let Some(selector) = selector(object) {
        status["selector"] = json!(selector);
    }
    let mut spec = json!({});
    if let Some(replicas) = object["spec"]["replicas"].as_i64().filter(|replicas| *replicas != 0) {
        spec["replicas"] = json!(replicas);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": own, "spec": spec, "status": status})
}

fn selector(object: &Value) -> Option<String> {
    if let Some(written) = object["status"]["selector"].as_str() {
        return Some(written.to_owned());
    }
    let labels = object.pointer("/spec/selector/matchLabels")?.as_object()?;
    let terms: Vec<_> =
        labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    Some(terms.join(","))
}

/// The object with the replicas of a `Scale`.
pub(super) fn onto(object: &Value, scale: &Value) -> Value {
    let mut object = object.clone();
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    object["spec"]["replicas"] = json!(replicas);
    if let Some(version) = scale["metadata"]["resourceVersion"].as_str() {
        object["metadata"]["resourceVersion"] = json!(version);
    }
    object
}
