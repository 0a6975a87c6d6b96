//! What the API server's admission plugins add and refuse. Service accounts are left out, as the test
//! clusters do: a pod gets no account and no token.

use serde_json::{Value, json};

use super::{kinds::Kind, quantity, status::Status};

/// Finalizer of a volume claim, taken off by a controller once no pod uses it.
const IN_USE: &str = "kubernetes.io/pvc-protection";
/// The storage class whose volumes do not grow. Those of every other class do.
const FIXED_SIZE: &str = "fixed-size";

/// Adds what the plugins add to a new object.
pub(super) fn mutate(kind: Kind, object: &mut Value) {
    match kind {
        Kind::PersistentVolumeClaim => {
            let finalizers = &mut object["metadata"]["finalizers"];
            if finalizers.is_null() {
                *finalizers = json!([]);
            }
            if let Some(finalizers) = finalizers.as_array_mut()
                && !finalizers.iter().any(|finalizer| finalizer == IN_USE)
            {
                finalizers.push(json!(IN_USE));
            }
        }
        Kind::Pod => pod(object),
        _ => {}
    }
}

/// Refuses a volume that is to grow and cannot.
pub(super) fn check(kind: Kind, live: &Value, new: &Value) -> Result<(), Status> {
    let size = |claim: &Value| {
        claim.pointer("/spec/resources/requests/storage").and_then(Value::as_str).and_then(quantity::nano)
    };
    if kind != Kind::PersistentVolumeClaim || size(new) <= size(live) {
        return Ok(());
    }
    let class = |claim: &Value| claim["spec"]["storageClassName"].as_str().unwrap_or_default().to_owned();
    let (before, class) = (class(live), class(new));
    if !class.is_empty() && class == before && class != FIXED_SIZE {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(Status::forbidden(kind, new["metadata"]["name"].as_str().unwrap_or_default(), why))
}

fn pod(object: &mut Value) {
    let spec = &mut object["spec"];
    for (field, value) in [("priority", json!(0)), ("preemptionPolicy", json!("PreemptLowerPriority"))] {
        if spec.get(field).is_none_or(Value::is_null) {
            spec[field] = value;
        }
    }
    tolerate(spec);
}

/// A pod stays for five minutes on a node that is lost.
fn tolerate(spec: &mut Value) {
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = spec["tolerations"].as_array().is_some_and(|all| {
            all.iter().any(|one| one["key"] == taint || one.get("key").is_none_or(Value::is_null))
        });
        if !tolerated {
            let toleration =
                json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            match spec["tolerations"].as_array_mut() {
                Some(all) => all.push(toleration),
                None => spec["tolerations"] = json!([toleration]),
            }
        }
    }
}
