//! Pods, and what of them stands in templates.

use serde_json::Value;

use super::{LABEL, is_label, text};
use crate::api_server::status::Cause;

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n@@ the difference @@";

pub(super) fn pod(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    self::spec(spec, &[], "spec", causes);
    let Some(live) = live else { return };
    let before = &live["spec"];
    let count = |spec: &Value| spec["containers"].as_array().map_or(0, Vec::len);
    if count(spec) != count(before) {
        causes.push(Cause::forbidden("spec.containers", "pod updates may not add or remove containers"));
        return;
    }
    deadline(spec, before, causes);
    if immutable(spec) != immutable(before) {
        causes.push(Cause::forbidden("spec", MUTABLE));
    }
}

fn deadline(spec: &Value, before: &Value, causes: &mut Vec<Cause>) {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    let of = |spec: &Value| spec["activeDeadlineSeconds"].as_i64();
    match (of(before), of(spec)) {
        (Some(before), Some(after)) if before < after => {
            causes.push(Cause::invalid(FIELD, &after.into(), "must be less than or equal to previous value"));
        }
        (Some(_), None) => {
            causes.push(Cause::invalid(
                FIELD,
                &Value::Null,
                "must not update from a positive integer to nil value",
            ));
        }
        _ => {}
    }
}

fn immutable(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("activeDeadlineSeconds");
        spec.remove("tolerations");
        spec.retain(|_, value| !value.is_null());
    }
    spec
}

/// A pod's spec; `claimed` are volumes that come from elsewhere.
pub(super) fn spec(spec: &Value, claimed: &[&str], at: &str, causes: &mut Vec<Cause>) {
    let volumes = spec["volumes"].as_array().into_iter().flatten().map(|volume| text(&volume["name"]));
    let volumes: Vec<&str> = volumes.chain(claimed.iter().copied()).collect();
    let containers = spec["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let at = format!("{at}.containers");
    if containers.is_empty() {
        causes.push(Cause::required(at.clone(), ""));
    }
    let mut names: Vec<&str> = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let at = format!("{at}[{index}]");
        self::container(container, &volumes, &at, causes);
        let name = text(&container["name"]);
        if names.contains(&name) {
            causes.push(Cause::duplicate(format!("{at}.name"), &container["name"]));
        }
        names.push(name);
    }
}

fn container(container: &Value, volumes: &[&str], at: &str, causes: &mut Vec<Cause>) {
    match text(&container["name"]) {
        "" => causes.push(Cause::required(format!("{at}.name"), "")),
        name if !is_label(name) => {
            causes.push(Cause::invalid(format!("{at}.name"), &container["name"], LABEL));
        }
        _ => {}
    }
    if text(&container["image"]).is_empty() {
        causes.push(Cause::required(format!("{at}.image"), ""));
    }
    for (index, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
        if text(&variable["name"]).is_empty() {
            causes.push(Cause::required(format!("{at}.env[{index}].name"), ""));
        }
    }
    let mut paths: Vec<&str> = Vec::new();
    for (index, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{at}.volumeMounts[{index}]");
        let (name, path) = (text(&mount["name"]), text(&mount["mountPath"]));
        if name.is_empty() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if !volumes.contains(&name) {
            causes.push(Cause::not_found(format!("{at}.name"), &mount["name"]));
        }
        if path.is_empty() {
            causes.push(Cause::required(format!("{at}.mountPath"), ""));
        } else if paths.contains(&path) {
            causes.push(Cause::invalid(format!("{at}.mountPath"), &mount["mountPath"], "must be unique"));
        }
        paths.push(path);
    }
}
