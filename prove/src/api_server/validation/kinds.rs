//! The kinds that hold no pods.

use serde_json::{Value, json};

use super::{LABEL, fixed, is_label, text};
use crate::api_server::{kinds::Kind, quantity, status::Cause};

const KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn keys(object: &Value, field: &str, causes: &mut Vec<Cause>) {
    for key in object[field].as_object().into_iter().flatten().map(|(key, _)| key) {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if key.is_empty() || !key.bytes().all(fits) {
            causes.push(Cause::invalid(format!("{field}[{key}]"), &json!(key), KEY));
        }
    }
}

pub(super) fn config_map(object: &Value, causes: &mut Vec<Cause>) {
    keys(object, "data", causes);
}

pub(super) fn secret(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(live) = live {
        fixed("type", object, live, causes);
        if live["immutable"] == true {
            let why = "field is immutable when `immutable` is set";
            if object["immutable"] != true {
                causes.push(Cause::forbidden("immutable", why));
            }
            if live["data"] != object["data"] {
                causes.push(Cause::forbidden("data", why));
            }
        }
    }
    keys(object, "data", causes);
    let needed: &[&str] = match text(&object["type"]) {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        _ => &[],
    };
    for key in needed.iter().filter(|key| object["data"].get(**key).is_none()) {
        causes.push(Cause::required(format!("data[{key}]"), ""));
    }
}

pub(super) fn service(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    if let Some(live) = live
        && live["spec"]["clusterIPs"] != spec["clusterIPs"]
        && ![&live["spec"], spec].iter().any(|spec| spec["type"] == "ExternalName")
    {
        let why = "may not change once set";
        causes.push(Cause::invalid("spec.clusterIPs[0]", &spec["clusterIPs"], why));
    }
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let headless = spec["clusterIP"] == "None";
    if ports.is_empty() && !headless && spec["type"] != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    let mut names: Vec<&str> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        let name = text(&port["name"]);
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if !name.is_empty() {
            if !is_label(name) {
                causes.push(Cause::invalid(format!("{at}.name"), &port["name"], LABEL));
            }
            if names.contains(&name) {
                causes.push(Cause::duplicate(format!("{at}.name"), &port["name"]));
            }
            names.push(name);
        }
        if !port["port"].as_i64().is_some_and(|number| (1..=65535).contains(&number)) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{at}.port"), &port["port"], why));
        }
    }
    let same =
        |one: &Value, other: &Value| one["port"] == other["port"] && one["protocol"] == other["protocol"];
    for (index, port) in ports.iter().enumerate() {
        if ports.iter().take(index).any(|before| same(before, port)) {
            let shown = json!({"Name": "", "Protocol": port["protocol"], "AppProtocol": null, "Port": port["port"], "TargetPort": 0, "NodePort": 0});
            causes.push(Cause::duplicate(format!("spec.ports[{index}]"), &shown));
        }
    }
}

/// A volume only grows, and only once it is bound.
pub(super) fn claim(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    const STORAGE: &str = "/spec/resources/requests/storage";
    let spec = &object["spec"];
    if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
        causes.push(Cause::required("spec.accessModes", "at least 1 access mode is required"));
    }
    let size = |object: &Value| object.pointer(STORAGE).and_then(Value::as_str).and_then(quantity::nano);
    match size(object) {
        None => causes.push(Cause::required("spec.resources[storage]", "")),
        Some(size) if size <= 0 => {
            let given = object.pointer(STORAGE).cloned().unwrap_or_default();
            causes.push(Cause::invalid("spec.resources[storage]", &given, "must be greater than zero"));
        }
        Some(_) => {}
    }
    let Some(live) = live else { return };
    let rest = |object: &Value| {
        let mut spec = object["spec"].clone();
        if live["status"]["phase"] == "Bound"
            && let Some(requests) = spec.pointer_mut("/resources/requests").and_then(Value::as_object_mut)
        {
            requests.remove("storage");
        }
        for once in ["storageClassName", "volumeName"] {
            if live["spec"].get(once).is_none()
                && let Some(spec) = spec.as_object_mut()
            {
                spec.remove(once);
            }
        }
        spec
    };
    if rest(live) != rest(object) {
        causes.push(Cause::forbidden("spec", "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n@@ the difference @@"));
    }
    let capacity = live.pointer("/status/capacity/storage").and_then(Value::as_str).and_then(quantity::nano);
    let (before, after) = (size(live).unwrap_or(0), size(object).unwrap_or(0));
    if after < before && after <= capacity.unwrap_or(0) {
        let why = "field can not be less than status.capacity";
        causes.push(Cause::forbidden("spec.resources.requests.storage", why));
    }
    if live["spec"]["volumeMode"] != spec["volumeMode"] {
        causes.push(Cause::invalid("volumeMode", &spec["volumeMode"], super::IMMUTABLE));
    }
}

pub(super) fn budget(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let set = |field: &str| spec.get(field).is_some_and(|value| !value.is_null());
    if set("minAvailable") && set("maxUnavailable") {
        causes.push(Cause::invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"));
    }
}

pub(super) fn lease(object: &Value, causes: &mut Vec<Cause>) {
    let duration = &object["spec"]["leaseDurationSeconds"];
    if duration.as_i64().is_some_and(|seconds| seconds <= 0) {
        causes.push(Cause::invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"));
    }
    super::not_negative("spec.leaseTransitions", object, causes);
}

pub(super) fn event(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    let timed = object.get("eventTime").is_some_and(|time| !time.is_null());
    let (own, about) = (&object["metadata"]["namespace"], text(&object["regarding"]["namespace"]));
    let matches = if about.is_empty() {
        own == "default" || (timed && own == "kube-system")
    } else {
        timed || own == about
    };
    if !matches {
        let why = "does not match event.namespace";
        causes.push(Cause::invalid("involvedObject.namespace", &json!(about), why));
    }
    if timed {
        for field in ["reportingController", "reportingInstance", "action", "reason"] {
            if text(&object[field]).is_empty() {
                causes.push(Cause::required(field, ""));
            }
            if field == "reportingController" && text(&object[field]).is_empty() {
                causes.push(Cause::invalid(field, &json!(""), QUALIFIED_PART));
                causes.push(Cause::invalid(field, &json!(""), QUALIFIED));
            }
        }
    }
    let series = &object["series"];
    if series.is_object() && live.is_none_or(|live| live["series"] != *series) {
        if series["count"].as_i64().unwrap_or(0) < 2 {
            causes.push(Cause::invalid("series.count", &json!(""), "should be at least 2"));
        }
        if series["lastObservedTime"].is_null() {
            causes.push(Cause::required("series.lastObservedTime", ""));
        }
    }
    let Some(live) = live else {
        if !timed {
            causes.push(Cause::required("eventTime", ""));
        }
        let kind = text(&object["type"]);
        if !matches!(kind, "Normal" | "Warning") {
            causes.push(Cause::invalid("type", &json!(""), &format!("has invalid value: {kind}")));
        }
        return;
    };
    for (field, name) in [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        if live[field] != object[field] {
            let structured = matches!(field, "regarding" | "related" | "eventTime");
            let value = if structured { object[field].clone() } else { json!(text(&object[field])) };
            causes.push(Cause::invalid(name, &value, super::IMMUTABLE));
        }
    }
}

const QUALIFIED_PART: &str = "name part must be non-empty";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// A status as its controller writes it.
pub(super) fn status(kind: Kind, _live: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if kind != Kind::Deployment {
        return;
    }
    let count = |field: &str| new["status"][field].as_i64().unwrap_or(0);
    for field in ["updatedReplicas", "readyReplicas", "availableReplicas"] {
        if count(field) > count("replicas") {
            let why = "cannot be greater than status.replicas";
            causes.push(Cause::invalid(format!("status.{field}"), &json!(count(field)), why));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let why = "cannot be greater than readyReplicas";
        causes.push(Cause::invalid("status.availableReplicas", &json!(count("availableReplicas")), why));
    }
}
