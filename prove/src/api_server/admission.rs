//! What the API server's admission plugins add.

use serde_json::{Value, json};

use super::{kinds::Kind, store::Store};

/// Finalizer of a volume claim, taken off by a controller once no pod uses it.
const IN_USE: &str = "kubernetes.io/pvc-protection";

/// Adds what the plugins add to a new object.
pub(super) fn mutate(kind: Kind, object: &mut Value, store: &mut Store) {
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
        Kind::Pod => pod(object, store),
        _ => {}
    }
}

fn pod(object: &mut Value, store: &mut Store) {
    let spec = &mut object["spec"];
    if spec.get("serviceAccountName").is_none_or(Value::is_null) {
        spec["serviceAccountName"] = json!("default");
        spec["serviceAccount"] = json!("default");
    }
    if spec.get("automountServiceAccountToken") != Some(&json!(false)) {
        mount_token(spec, store);
    }
    for (field, value) in [("priority", json!(0)), ("preemptionPolicy", json!("PreemptLowerPriority"))] {
        if spec.get(field).is_none_or(Value::is_null) {
            spec[field] = value;
        }
    }
    tolerate(spec);
}

fn mount_token(spec: &mut Value, store: &mut Store) {
    const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let name = format!("kube-api-access-{}", super::writes::suffix(store.draw()));
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let mount = json!({"name": name, "readOnly": true, "mountPath": PATH});
            match container["volumeMounts"].as_array_mut() {
                Some(mounts) => mounts.push(mount),
                None => container["volumeMounts"] = json!([mount]),
            }
        }
    }
    let volume = json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    match spec["volumes"].as_array_mut() {
        Some(volumes) => volumes.push(volume),
        None => spec["volumes"] = json!([volume]),
    }
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
