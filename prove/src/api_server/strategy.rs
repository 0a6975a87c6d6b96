//! What the API server makes of an object before it stores it, kind by kind: what a write may not touch
//! is taken from the live object, addresses are given, generations counted.

use serde_json::{Map, Value, json};

use super::{kinds::Kind, store::Store};

/// Whether a PUT may leave out the resourceVersion.
pub(super) fn allows_unconditional(kind: Kind) -> bool {
    !matches!(kind, Kind::AuthService | Kind::Lease | Kind::PodDisruptionBudget)
}

/// Whether a PUT may create.
pub(super) fn creates_on_update(kind: Kind) -> bool {
    matches!(kind, Kind::Lease | Kind::Event | Kind::Service)
}

/// Whether a deletion answers with the object.
pub(super) fn answers_deleted(kind: Kind) -> bool {
    matches!(kind, Kind::Pod | Kind::Service | Kind::PersistentVolumeClaim)
}

fn counts_generations(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::AuthService
            | Kind::Deployment
            | Kind::ReplicaSet
            | Kind::StatefulSet
            | Kind::Job
            | Kind::Pod
            | Kind::PodDisruptionBudget
    )
}

/// The new object as the kind's rules have it.
pub(super) fn for_create(kind: Kind, object: &mut Value, store: &mut Store) {
    let metadata = &mut object["metadata"];
    if let Some(metadata) = metadata.as_object_mut() {
        for given in
            ["resourceVersion", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"]
        {
            metadata.remove(given);
        }
        if counts_generations(kind) {
            metadata.insert("generation".to_owned(), json!(1));
        }
    }
    reset_status(kind, object);
    match kind {
        Kind::Service => give_addresses(object, None, store),
        Kind::Job => select_own_pods(object),
        Kind::Pod => {
            let class = quality_of_service(object);
            object["status"] = json!({"phase": "Pending", "qosClass": class});
        }
        _ => {}
    }
}

fn reset_status(kind: Kind, object: &mut Value) {
    match kind {
        Kind::AuthService => {
            if let Some(object) = object.as_object_mut() {
                object.remove("status");
            }
        }
        Kind::PersistentVolumeClaim => object["status"] = json!({"phase": "Pending"}),
        _ if kind.has_status() => object["status"] = super::normal::empty(kind)["status"].take(),
        _ => {}
    }
}

/// What a write of the object, or of one of its subresources, may change of the live one.
pub(super) fn for_update(kind: Kind, subresource: &str, live: &Value, new: &mut Value, store: &mut Store) {
    keep_system_fields(live, new);
    match subresource {
        "status" => keep_all_but_status(kind, live, new),
        "binding" => {}
        _ if kind.has_status() => keep(live, new, "status"),
        _ => {}
    }
    if kind == Kind::Service && subresource.is_empty() {
        give_addresses(new, Some(live), store);
    }
    if counts_generations(kind) && subresource != "status" && bumps_generation(kind, live, new) {
        let generation = live.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

fn keep(live: &Value, new: &mut Value, field: &str) {
    let Some(new) = new.as_object_mut() else { return };
    if live.get(field) == new.get(field) {
        return;
    }
    match live.get(field) {
        Some(value) => new.insert(field.to_owned(), value.clone()),
        None => new.remove(field),
    };
}

fn keep_all_but_status(kind: Kind, live: &Value, new: &mut Value) {
    if kind == Kind::AuthService {
        let fields = new["metadata"].get_mut("managedFields").map(Value::take);
        keep(live, new, "metadata");
        if let Some(metadata) = new["metadata"].as_object_mut() {
            match fields {
                Some(fields) => metadata.insert("managedFields".to_owned(), fields),
                None => metadata.remove("managedFields"),
            };
        }
    }
    keep(live, new, "spec");
    let kept: &[&str] = match kind {
        Kind::Deployment => &["labels"],
        Kind::Pod => &["ownerReferences"],
        _ => &[],
    };
    for field in kept {
        keep(&live["metadata"], &mut new["metadata"], field);
    }
}

/// What nobody may change, and what is filled in when it is left out.
fn keep_system_fields(live: &Value, new: &mut Value) {
    let Some(metadata) = new["metadata"].as_object_mut() else { return };
    metadata.remove("selfLink");
    if metadata.get("uid").is_none_or(|given| given.is_null() || given == "") {
        metadata.insert("uid".to_owned(), live["metadata"]["uid"].clone());
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        match live["metadata"].get(field) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
}

fn bumps_generation(kind: Kind, live: &Value, new: &Value) -> bool {
    match kind {
        Kind::AuthService => {
            let rest = |object: &Value| -> Map<String, Value> {
                let object = object.as_object().into_iter().flatten();
                let rest = object.filter(|(field, _)| !matches!(field.as_str(), "metadata" | "status"));
                rest.map(|(field, value)| (field.clone(), value.clone())).collect()
            };
            rest(live) != rest(new)
        }
        Kind::Deployment => {
            let annotations = |object: &Value| object.pointer("/metadata/annotations").cloned();
            live["spec"] != new["spec"] || annotations(live) != annotations(new)
        }
        _ => live["spec"] != new["spec"],
    }
}

/// A Service's addresses and what goes with them.
fn give_addresses(object: &mut Value, live: Option<&Value>, store: &mut Store) {
    let Some(spec) = object["spec"].as_object_mut() else { return };
    if spec.get("type").is_some_and(|kind| kind == "ExternalName") {
        return;
    }
    let unset = |spec: &Map<String, Value>, field: &str| {
        spec.get(field).is_none_or(|value| value.is_null() || value == "")
    };
    if let Some(live) = live.map(|live| &live["spec"]) {
        let given = !unset(spec, "clusterIP") && spec["clusterIP"] != live["clusterIP"];
        if given && (unset(spec, "clusterIPs") || spec.get("clusterIPs") == live.get("clusterIPs")) {
            spec.insert("clusterIPs".to_owned(), json!([spec["clusterIP"]]));
        }
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if unset(spec, field)
                && let Some(value) = live.get(field)
            {
                spec.insert(field.to_owned(), value.clone());
            }
        }
    }
    if unset(spec, "clusterIP") {
        let [.., high, low] = store.draw().to_be_bytes();
        spec.insert("clusterIP".to_owned(), json!(format!("10.96.{high}.{low}")));
    }
    let address = spec["clusterIP"].clone();
    if unset(spec, "clusterIPs") {
        spec.insert("clusterIPs".to_owned(), json!([address]));
    }
    // Whoever gives a headless Service its endpoints by hand may give it both kinds.
    let by_hand = spec["clusterIP"] == "None" && unset(spec, "selector");
    let (families, policy) = if by_hand {
        (json!(["IPv4", "IPv6"]), "RequireDualStack")
    } else {
        (json!(["IPv4"]), "SingleStack")
    };
    if unset(spec, "ipFamilies") {
        spec.insert("ipFamilies".to_owned(), families);
    }
    if unset(spec, "ipFamilyPolicy") {
        spec.insert("ipFamilyPolicy".to_owned(), json!(policy));
    }
}

/// A Job selects its pods by its uid.
fn select_own_pods(object: &mut Value) {
    let uid = object["metadata"]["uid"].clone();
    let name = object["metadata"]["name"].clone();
    if object["spec"]["manualSelector"] == true {
        return;
    }
    let labels = &mut object["spec"]["template"]["metadata"]["labels"];
    if labels.is_null() {
        *labels = json!({});
    }
    for (label, value) in [
        ("controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        labels[label] = value.clone();
    }
    if object["spec"].get("selector").is_none_or(Value::is_null) {
        object["spec"]["selector"] = json!({"matchLabels": {}});
    }
    object["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"] = uid;
}

/// `BestEffort`, `Burstable` or `Guaranteed`.
fn quality_of_service(pod: &Value) -> &'static str {
    let containers = ["containers", "initContainers"].into_iter();
    let containers = containers.filter_map(|list| pod["spec"][list].as_array()).flatten();
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        let amounts = |kind: &str| {
            let amounts = container.pointer(&format!("/resources/{kind}")).and_then(Value::as_object);
            amounts.cloned().unwrap_or_default()
        };
        let (limits, requests) = (amounts("limits"), amounts("requests"));
        let counted =
            |amounts: &Map<String, Value>| amounts.contains_key("cpu") || amounts.contains_key("memory");
        any |= counted(&limits) || counted(&requests);
        guaranteed &= ["cpu", "memory"]
            .iter()
            .all(|name| limits.contains_key(*name) && limits.get(*name) == requests.get(*name));
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
