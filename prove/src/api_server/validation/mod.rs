//! What the API server refuses: missing and wrong fields, and changes of what cannot change. Of
//! Kubernetes' own kinds what the operator, its users and the players beside it can meet.

mod definition;
mod kinds;
mod pods;
mod rules;
mod workloads;

use serde_json::{Value, json};

use super::{kinds::Kind, status::Cause};

/// What is wrong with a new object.
pub(super) fn created(kind: Kind, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    name(kind, object, &mut causes);
    controllers(object, &mut causes);
    if kind == Kind::AuthService {
        definition::check(object, None, &mut causes);
    } else {
        contents(kind, object, None, &mut causes);
    }
    causes
}

/// What is wrong with an object that is to take the place of the live one.
pub(super) fn updated(kind: Kind, subresource: &str, live: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    metadata(live, new, &mut causes);
    if kind == Kind::AuthService {
        // A custom resource's metadata are looked at twice.
        metadata(live, new, &mut causes);
    }
    controllers(new, &mut causes);
    match (kind, subresource) {
        (Kind::AuthService, _) => definition::check(new, Some(live), &mut causes),
        (_, "status") => kinds::status(kind, live, new, &mut causes),
        (_, "binding") => {}
        _ => contents(kind, new, Some(live), &mut causes),
    }
    causes
}

const IMMUTABLE: &str = "field is immutable";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn name(kind: Kind, object: &Value, causes: &mut Vec<Cause>) {
    let given = &object["metadata"]["name"];
    let name = given.as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
        return;
    }
    let (fits, rule) = match kind {
        Kind::Service | Kind::StatefulSet => (is_label(name), LABEL),
        Kind::PodDisruptionBudget => (true, ""),
        _ => (is_subdomain(name), SUBDOMAIN),
    };
    if !fits {
        causes.push(Cause::invalid("metadata.name", given, rule));
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

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// An object has one controller at most.
fn controllers(object: &Value, causes: &mut Vec<Cause>) {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let controllers: Vec<&Value> = owners.filter(|owner| owner["controller"] == true).collect();
    if let [one, other, ..] = &controllers[..] {
        let shown = |owner: &Value| format!("{}/{}", text(&owner["kind"]), text(&owner["name"]));
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            shown(one),
            shown(other)
        );
        let owners = object["metadata"]["ownerReferences"].clone();
        causes.push(Cause::invalid("metadata.ownerReferences", &owners, &why));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What stays as it was made.
fn metadata(live: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if live["metadata"].get("deletionTimestamp").is_some() {
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
    for field in ["name", "namespace", "uid"] {
        let (before, after) = (&live["metadata"][field], &new["metadata"][field]);
        if before != after {
            causes.push(Cause::invalid(format!("metadata.{field}"), after, IMMUTABLE));
        }
    }
}

/// What the fields of an object have to say, and may not say other than before.
fn contents(kind: Kind, object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    match kind {
        Kind::Deployment => workloads::deployment(object, live, causes),
        Kind::ReplicaSet => workloads::replica_set(object, live, causes),
        Kind::StatefulSet => workloads::stateful_set(object, live, causes),
        Kind::Job => workloads::job(object, live, causes),
        Kind::Pod => pods::pod(object, live, causes),
        Kind::Service => kinds::service(object, live, causes),
        Kind::Secret => kinds::secret(object, live, causes),
        Kind::ConfigMap => kinds::config_map(object, causes),
        Kind::PersistentVolumeClaim => kinds::claim(object, live, causes),
        Kind::PodDisruptionBudget => kinds::budget(object, causes),
        Kind::Lease => kinds::lease(object, causes),
        Kind::Event => kinds::event(object, live, causes),
        Kind::HorizontalPodAutoscaler | Kind::AuthService => {}
    }
}

/// A field that has to stay as it is.
fn fixed(path: &str, object: &Value, live: &Value, causes: &mut Vec<Cause>) {
    let pointer = format!("/{}", path.replace('.', "/"));
    if live.pointer(&pointer) != object.pointer(&pointer) {
        let value = object.pointer(&pointer).cloned().unwrap_or_default();
        causes.push(Cause::invalid(path, &value, IMMUTABLE));
    }
}

/// A number that cannot be negative.
fn not_negative(path: &str, object: &Value, causes: &mut Vec<Cause>) {
    let value = object.pointer(&format!("/{}", path.replace('.', "/")));
    if let Some(number) = value.and_then(Value::as_i64).filter(|number| *number < 0) {
        causes.push(Cause::invalid(path, &json!(number), "must be greater than or equal to 0"));
    }
}
