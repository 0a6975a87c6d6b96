//! What the API server adds to objects that leave it out.

use serde_json::{Map, Value, json};

use super::{
    kinds::Kind,
    schema::{self, Shape},
};

/// Fills in what the kind has defaults for.
pub(super) fn fill(kind: Kind, object: &mut Value) {
    let Some(root) = object.as_object_mut() else { return };
    match kind {
        Kind::AuthService => {
            by_schema(schema::of(kind), object);
        }
        Kind::Secret => set(root, "type", json!("Opaque")),
        Kind::Service => within(root, "spec", service),
        Kind::Deployment => deployment(root),
        Kind::ReplicaSet => replica_set(root),
        Kind::StatefulSet => within(root, "spec", stateful_set),
        Kind::PersistentVolumeClaim => {
            within(root, "spec", claim);
            within(root, "status", |status| set(status, "phase", json!("Pending")));
        }
        Kind::Job => job(root),
        Kind::Pod => pod_object(root),
        Kind::HorizontalPodAutoscaler => within(root, "spec", autoscaler),
        Kind::PodDisruptionBudget | Kind::Lease | Kind::Event | Kind::ConfigMap => {}
    }
}

type Object = Map<String, Value>;

fn set(object: &mut Object, field: &str, value: Value) {
    let missing = object.get(field).is_none_or(Value::is_null);
    if missing {
        object.insert(field.to_owned(), value);
    }
}

fn within(object: &mut Object, field: &str, fill: impl FnOnce(&mut Object)) {
    if let Some(Value::Object(below)) = object.get_mut(field) {
        fill(below);
    }
}

fn each(object: &mut Object, field: &str, mut fill: impl FnMut(&mut Object)) {
    for entry in object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(entry) = entry.as_object_mut() {
            fill(entry);
        }
    }
}

/// The defaults that a definition names.
fn by_schema(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(shape), Value::Object(object)) => {
            for (name, field) in &shape.fields {
                if let Some(default) = &field.default
                    && (!object.contains_key(name) || (object[name].is_null() && !field.nullable))
                {
                    object.insert(name.clone(), default.clone());
                }
                if let Some(value) = object.get_mut(name) {
                    by_schema(&field.shape, value);
                }
            }
        }
        (Shape::List { item, .. }, Value::Array(items)) => {
            for value in items {
                by_schema(item, value);
            }
        }
        (Shape::Map { value: shape, .. }, Value::Object(object)) => {
            for value in object.values_mut() {
                by_schema(shape, value);
            }
        }
        _ => {}
    }
}

fn service(spec: &mut Object) {
    set(spec, "sessionAffinity", json!("None"));
    set(spec, "type", json!("ClusterIP"));
    each(spec, "ports", |port| {
        set(port, "protocol", json!("TCP"));
        let same = port.get("port").cloned().unwrap_or_default();
        let unset = matches!(port.get("targetPort"), None | Some(Value::Null))
            || port.get("targetPort") == Some(&json!(0))
            || port.get("targetPort") == Some(&json!(""));
        if unset {
            port.insert("targetPort".to_owned(), same);
        }
    });
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        set(spec, "internalTrafficPolicy", json!("Cluster"));
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
}

fn deployment(root: &mut Object) {
    within(root, "spec", |spec| {
        set(spec, "replicas", json!(1));
        set(spec, "revisionHistoryLimit", json!(10));
        set(spec, "progressDeadlineSeconds", json!(600));
        within(spec, "strategy", |strategy| {
            set(strategy, "type", json!("RollingUpdate"));
            if strategy["type"] == "RollingUpdate" {
                set(strategy, "rollingUpdate", json!({}));
                within(strategy, "rollingUpdate", |rolling| {
                    set(rolling, "maxUnavailable", json!("25%"));
                    set(rolling, "maxSurge", json!("25%"));
                });
            }
        });
        within(spec, "template", template);
    });
}

fn replica_set(root: &mut Object) {
    within(root, "spec", |spec| {
        set(spec, "replicas", json!(1));
        within(spec, "template", template);
    });
}

fn stateful_set(spec: &mut Object) {
    set(spec, "podManagementPolicy", json!("OrderedReady"));
    within(spec, "updateStrategy", |strategy| {
        set(strategy, "type", json!("RollingUpdate"));
        if strategy["type"] == "RollingUpdate" {
            set(strategy, "rollingUpdate", json!({}));
            within(strategy, "rollingUpdate", |rolling| {
                set(rolling, "partition", json!(0));
                set(rolling, "maxUnavailable", json!(1));
            });
        }
    });
    set(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
    within(spec, "persistentVolumeClaimRetentionPolicy", |policy| {
        set(policy, "whenDeleted", json!("Retain"));
        set(policy, "whenScaled", json!("Retain"));
    });
    set(spec, "replicas", json!(1));
    set(spec, "revisionHistoryLimit", json!(10));
    within(spec, "template", template);
    each(spec, "volumeClaimTemplates", |template| {
        set(template, "apiVersion", json!("v1"));
        set(template, "kind", json!("PersistentVolumeClaim"));
        within(template, "spec", claim);
        within(template, "status", |status| set(status, "phase", json!("Pending")));
    });
}

fn claim(spec: &mut Object) {
    set(spec, "volumeMode", json!("Filesystem"));
}

fn job(root: &mut Object) {
    let labels = root
        .get("spec")
        .and_then(|spec| spec.pointer("/template/metadata/labels"))
        .filter(|labels| labels.as_object().is_some_and(|labels| !labels.is_empty()))
        .cloned();
    within(root, "spec", |spec| {
        let unset = |spec: &Object, field: &str| spec.get(field).is_none_or(Value::is_null);
        if unset(spec, "completions") && unset(spec, "parallelism") {
            set(spec, "completions", json!(1));
            set(spec, "parallelism", json!(1));
        }
        set(spec, "parallelism", json!(1));
        let per_index = !unset(spec, "backoffLimitPerIndex");
        set(spec, "backoffLimit", if per_index { json!(i32::MAX) } else { json!(6) });
        set(spec, "completionMode", json!("NonIndexed"));
        set(spec, "suspend", json!(false));
        let replacement = if unset(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
        set(spec, "podReplacementPolicy", json!(replacement));
        set(spec, "manualSelector", json!(false));
        within(spec, "template", template);
    });
    if let Some(labels) = labels {
        within(root, "metadata", |metadata| {
            if metadata.get("labels").is_none_or(|labels| labels.as_object().is_none_or(Map::is_empty)) {
                metadata.insert("labels".to_owned(), labels);
            }
        });
    }
}

fn pod_object(root: &mut Object) {
    within(root, "spec", |spec| {
        pod(spec);
        set(spec, "enableServiceLinks", json!(true));
        if spec.get("hostNetwork") == Some(&json!(true)) {
            each(spec, "containers", |container| {
                each(container, "ports", |port| {
                    let own = port.get("containerPort").cloned().unwrap_or_default();
                    set(port, "hostPort", own);
                });
            });
        }
    });
    within(root, "status", |status| set(status, "phase", json!("Pending")));
}

fn template(template: &mut Object) {
    within(template, "spec", pod);
}

fn pod(spec: &mut Object) {
    set(spec, "dnsPolicy", json!("ClusterFirst"));
    set(spec, "restartPolicy", json!("Always"));
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", json!(30));
    set(spec, "schedulerName", json!("default-scheduler"));
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        set(spec, "serviceAccount", account);
    } else if let Some(account) = spec.get("serviceAccount").cloned() {
        set(spec, "serviceAccountName", account);
    }
    each(spec, "volumes", volume);
    each(spec, "initContainers", container);
    each(spec, "containers", container);
}

fn container(container: &mut Object) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", json!(policy));
    set(container, "terminationMessagePath", json!("/dev/termination-log"));
    set(container, "terminationMessagePolicy", json!("File"));
    each(container, "ports", |port| set(port, "protocol", json!("TCP")));
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, kind, probe);
    }
    each(container, "env", |variable| {
        within(variable, "valueFrom", |source| {
            within(source, "fieldRef", |field| set(field, "apiVersion", json!("v1")));
        });
    });
    within(container, "resources", |resources| {
        let limits = resources.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
        if limits.is_empty() {
            return;
        }
        set(resources, "requests", json!({}));
        within(resources, "requests", |requests| {
            for (name, limit) in limits {
                set(requests, &name, limit);
            }
        });
    });
}

/// An image without tag and digest is the latest.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn probe(probe: &mut Object) {
    set(probe, "timeoutSeconds", json!(1));
    set(probe, "periodSeconds", json!(10));
    set(probe, "successThreshold", json!(1));
    set(probe, "failureThreshold", json!(3));
    within(probe, "httpGet", |get| {
        set(get, "path", json!("/"));
        set(get, "scheme", json!("HTTP"));
    });
    within(probe, "grpc", |grpc| set(grpc, "service", json!("")));
}

fn volume(volume: &mut Object) {
    const SOURCES: usize = 2;
    let mode = json!(0o644);
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        within(volume, kind, |source| set(source, "defaultMode", mode.clone()));
    }
    within(volume, "projected", |projected| {
        each(projected, "sources", |source| {
            within(source, "serviceAccountToken", |token| set(token, "expirationSeconds", json!(3600)));
            within(source, "downwardAPI", |downward| {
                each(downward, "items", |item| {
                    within(item, "fieldRef", |field| set(field, "apiVersion", json!("v1")));
                });
            });
        });
    });
    within(volume, "hostPath", |source| set(source, "type", json!("")));
    if volume.len() < SOURCES {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
}

fn autoscaler(spec: &mut Object) {
    set(spec, "minReplicas", json!(1));
    set(
        spec,
        "metrics",
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]),
    );
}
