//! What the API server refuses: missing and wrong fields, and changes of what cannot change.

use serde_json::Value;

use super::{kinds::Kind, quantity, status::Cause};

/// What is wrong with a new object.
pub(super) fn created(kind: Kind, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    name(kind, object, &mut causes);
    contents(kind, object, None, &mut causes);
    causes
}

/// What is wrong with an object that is to take the place of the live one.
pub(super) fn updated(kind: Kind, subresource: &str, live: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    metadata(live, new, &mut causes);
    if subresource.is_empty() {
        contents(kind, new, Some(live), &mut causes);
        immutable(kind, live, new, &mut causes);
    }
    causes
}

const IMMUTABLE: &str = "field is immutable";

fn name(kind: Kind, object: &Value, causes: &mut Vec<Cause>) {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
        return;
    }
    let label = matches!(kind, Kind::Service);
    if label && !is_dns_1035(name) {
        causes.push(Cause::invalid("metadata.name", &metadata["name"], "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"));
    } else if !label && !is_subdomain(name) {
        causes.push(Cause::invalid("metadata.name", &metadata["name"], "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"));
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    !text.is_empty()
        && text.len() <= 63
        && bytes.iter().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

fn is_dns_1035(text: &str) -> bool {
    is_label(text) && text.starts_with(|first: char| first.is_ascii_lowercase())
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|part| is_label(part) || (part.len() > 63 && is_label(&part[..63])))
}

/// What stays as it was made.
fn metadata(live: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let deleted = live["metadata"].get("deletionTimestamp").is_some();
    if deleted {
        let of = |object: &Value| -> Vec<Value> {
            object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default()
        };
        let before = of(live);
        let fresh: Vec<_> = of(new).into_iter().filter(|one| !before.contains(one)).collect();
        if !fresh.is_empty() {
            let shown: Vec<_> = fresh.iter().map(Value::to_string).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                shown.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", &why));
        }
    }
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let path = format!("/metadata/{field}");
        if live.pointer(&path) != new.pointer(&path) {
            let value = new.pointer(&path).cloned().unwrap_or_default();
            causes.push(Cause::invalid(format!("metadata.{field}"), &value, IMMUTABLE));
        }
    }
}

/// What the fields of an object have to say.
fn contents(kind: Kind, object: &Value, _live: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    match kind {
        Kind::Deployment | Kind::StatefulSet | Kind::ReplicaSet => {
            workload(spec, causes);
            template(&spec["template"], "spec.template", causes);
        }
        Kind::Job => template(&spec["template"], "spec.template", causes),
        Kind::Pod => pod(spec, "spec", causes),
        Kind::Service => {
            let headless = spec["clusterIP"] == "None";
            let without_ports = spec["ports"].as_array().is_none_or(Vec::is_empty);
            if without_ports && !headless && spec["type"] != "ExternalName" {
                causes.push(Cause::required("spec.ports", ""));
            }
        }
        _ => {}
    }
}

fn workload(spec: &Value, causes: &mut Vec<Cause>) {
    let selector = spec["selector"].as_object();
    match selector {
        None => causes.push(Cause::required("spec.selector", "")),
        Some(selector) => {
            let labels = &spec["template"]["metadata"]["labels"];
            let wanted = selector.get("matchLabels").and_then(Value::as_object);
            let matches = wanted.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
            if !matches {
                let shown =
                    labels.as_object().map_or_else(|| Value::Null, |labels| Value::Object(labels.clone()));
                causes.push(Cause::invalid(
                    "spec.template.metadata.labels",
                    &shown,
                    "`selector` does not match template `labels`",
                ));
            }
        }
    }
}

fn template(template: &Value, at: &str, causes: &mut Vec<Cause>) {
    pod(&template["spec"], &format!("{at}.spec"), causes);
}

fn pod(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    let containers = spec["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        causes.push(Cause::required(format!("{at}.containers"), ""));
    }
    for (index, container) in containers.iter().enumerate() {
        let at = format!("{at}.containers[{index}]");
        if container["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        }
        if container["image"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("{at}.image"), ""));
        }
    }
}

/// What a kind does not let change.
fn immutable(kind: Kind, live: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let fixed = |path: &str, causes: &mut Vec<Cause>| {
        let pointer = format!("/{}", path.replace('.', "/"));
        if live.pointer(&pointer) != new.pointer(&pointer) {
            let value = new.pointer(&pointer).cloned().unwrap_or_default();
            causes.push(Cause::invalid(path, &value, IMMUTABLE));
        }
    };
    match kind {
        Kind::Deployment | Kind::ReplicaSet => fixed("spec.selector", causes),
        Kind::Job => {
            fixed("spec.selector", causes);
            fixed("spec.template", causes);
        }
        Kind::StatefulSet => stateful_set(live, new, causes),
        Kind::Secret => {
            fixed("type", causes);
            if live["immutable"] == true {
                if new["immutable"] != true {
                    causes.push(Cause::forbidden("immutable", "field is immutable when `immutable` is set"));
                }
                if live["data"] != new["data"] {
                    causes.push(Cause::forbidden("data", "field is immutable when `immutable` is set"));
                }
            }
        }
        Kind::PersistentVolumeClaim => claim(live, new, causes),
        Kind::Service => {
            if live["spec"]["clusterIP"] != new["spec"]["clusterIP"] && new["spec"]["type"] != "ExternalName"
            {
                causes.push(Cause::invalid(
                    "spec.clusterIPs[0]",
                    &new["spec"]["clusterIPs"],
                    "may not change once set",
                ));
            }
        }
        _ => {}
    }
}

fn stateful_set(live: &Value, new: &Value, causes: &mut Vec<Cause>) {
    const MUTABLE: [&str; 8] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        "podManagementPolicy_",
    ];
    let rest = |object: &Value| -> Vec<(String, Value)> {
        let fields = object["spec"].as_object().into_iter().flatten();
        let rest = fields.filter(|(field, _)| !MUTABLE.contains(&field.as_str()));
        rest.map(|(field, value)| (field.clone(), value.clone())).collect()
    };
    if rest(live) != rest(new) {
        causes.push(Cause::forbidden("spec", "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"));
    }
}

/// A volume only grows.
fn claim(live: &Value, new: &Value, causes: &mut Vec<Cause>) {
    const SIZE: &str = "/spec/resources/requests/storage";
    let without_size = |object: &Value| {
        let mut spec = object["spec"].clone();
        if let Some(requests) = spec.pointer_mut("/resources/requests").and_then(Value::as_object_mut) {
            requests.remove("storage");
        }
        spec
    };
    if without_size(live) != without_size(new) {
        causes.push(Cause::forbidden("spec", "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"));
        return;
    }
    let size = |object: &Value| object.pointer(SIZE).and_then(Value::as_str).and_then(quantity::nano);
    if size(new) < size(live) {
        causes.push(Cause::forbidden(
            "spec.resources.requests.storage",
            "field can not be less than status.capacity",
        ));
    }
}
