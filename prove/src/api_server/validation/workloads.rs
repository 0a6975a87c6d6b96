//! What makes pods: Deployments, `StatefulSet`s, `ReplicaSet`s and Jobs.

use serde_json::{Map, Value, json};

use super::{fixed, not_negative, pods, text};
use crate::api_server::status::Cause;

pub(super) fn deployment(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    not_negative("spec.replicas", object, causes);
    replicated(object, "deployment", &[], causes);
    let strategy = &object["spec"]["strategy"];
    let kind = text(&strategy["type"]);
    if kind == "Recreate" && strategy.get("rollingUpdate").is_some_and(|rolling| !rolling.is_null()) {
        let why = "may not be specified when strategy `type` is 'Recreate'";
        causes.push(Cause::forbidden("spec.strategy.rollingUpdate", why));
    }
    not_negative("spec.minReadySeconds", object, causes);
    if let Some(live) = live {
        fixed("spec.selector", object, live, causes);
    }
}

pub(super) fn replica_set(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    not_negative("spec.replicas", object, causes);
    replicated(object, "replicaset", &[], causes);
    if let Some(live) = live {
        fixed("spec.selector", object, live, causes);
    }
}

pub(super) fn stateful_set(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    not_negative("spec.replicas", object, causes);
    let claims = spec["volumeClaimTemplates"].as_array().into_iter().flatten();
    let claims: Vec<&str> = claims.map(|claim| text(&claim["metadata"]["name"])).collect();
    replicated(object, "statefulset", &claims, causes);
    let Some(live) = live else { return };
    for field in ["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"] {
        fixed(&format!("spec.{field}"), object, live, causes);
    }
}

/// Selector, template and what they have to do with each other.
fn replicated(object: &Value, word: &str, claims: &[&str], causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let selector = spec["selector"].as_object();
    match selector {
        None => causes.push(Cause::required("spec.selector", "")),
        Some(selector) if selector.values().all(is_hollow) => {
            let why = format!("empty selector is invalid for {word}");
            causes.push(Cause::invalid("spec.selector", &spec["selector"], &why));
        }
        Some(_) => {}
    }
    let empty = selector.is_some_and(|selector| selector.values().all(is_hollow));
    if !empty && !selects(selector, &spec["template"]) {
        causes.push(unselected(&spec["template"]));
    }
    pods::spec(&spec["template"]["spec"], claims, "spec.template.spec", causes);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    if policy != "Always" {
        causes.push(Cause::not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
}

fn is_hollow(value: &Value) -> bool {
    value.as_object().is_none_or(Map::is_empty) && value.as_array().is_none_or(Vec::is_empty)
}

/// Whether pods of a template are selected; no selector selects nothing.
fn selects(selector: Option<&Map<String, Value>>, template: &Value) -> bool {
    let labels = &template["metadata"]["labels"];
    selector.is_some_and(|selector| {
        let wanted = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
        wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value))
    })
}

fn unselected(template: &Value) -> Cause {
    let why = "`selector` does not match template `labels`";
    Cause::invalid("spec.template.metadata.labels", &template["metadata"]["labels"], why)
}

pub(super) fn job(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    for field in
        ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"]
    {
        not_negative(&format!("spec.{field}"), object, causes);
    }
    pods::spec(&spec["template"]["spec"], &[], "spec.template.spec", causes);
    match text(&spec["template"]["spec"]["restartPolicy"]) {
        "Never" | "OnFailure" => {}
        _ => causes.push(Cause::required(
            "spec.template.spec.restartPolicy",
            "valid values: \"OnFailure\", \"Never\"",
        )),
    }
    let selector = spec["selector"].as_object();
    if selector.is_none() {
        causes.push(Cause::required("spec.selector", ""));
    }
    if !selects(selector, &spec["template"]) {
        causes.push(unselected(&spec["template"]));
    }
    let Some(live) = live else { return };
    fixed("spec.completions", object, live, causes);
    fixed("spec.selector", object, live, causes);
    if !is_idle(live) {
        fixed("spec.template", object, live, causes);
    } else if fixed_spec(object) != fixed_spec(live) {
        causes.push(Cause::invalid("spec.template.spec", &spec["template"]["spec"], super::IMMUTABLE));
    }
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        fixed(&format!("spec.{field}"), object, live, causes);
    }
}

/// Whether a Job is suspended and has no pods, so that what they ask for may change.
fn is_idle(job: &Value) -> bool {
    let status = &job["status"];
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let stopped =
        conditions.any(|condition| condition["type"] == "Suspended" && condition["status"] == "True");
    let active = status["active"].as_i64().unwrap_or(0);
    job["spec"]["suspend"] == true && (status.get("startTime").is_none() || stopped) && active == 0
}

/// The spec of an idle Job's pods without resources and scheduling.
fn fixed_spec(job: &Value) -> Value {
    let mut spec = job["spec"]["template"]["spec"].clone();
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        container["resources"] = json!({});
    }
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        spec[field] = Value::Null;
    }
    spec
}
