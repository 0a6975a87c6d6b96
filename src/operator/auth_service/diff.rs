//! Whether a live object already says what we want, compared by meaning: defaults and fields that
//! nobody here set are left alone, quantities are amounts, and lists are matched by their merge keys.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::quantity;

/// Annotation of an applied object: a hash of what was applied last. When it is another one, a
/// field may have to go that is still there: a comparison finds only what is missing.
pub const APPLIED_ANNOTATION: &str = "authservice.dev/applied";

/// Fields whose entries map user-chosen keys to values: an empty one is the same as none.
const MAPS: &[&str] =
    &["annotations", "labels", "matchLabels", "nodeSelector", "limits", "requests", "data", "selector"];
/// Maps that are one value: a key that somebody added selects other pods.
const ATOMIC_MAPS: &[&str] = &["matchLabels", "selector"];
/// Fields whose values are quantities.
const QUANTITIES: &[&str] = &["limits", "requests", "capacity"];

/// Adds the hash of `wanted`, taken before it is added, as annotation [`APPLIED_ANNOTATION`].
pub fn stamp(wanted: &mut Value) {
    normalize(wanted);
    let hash = hex(&Sha256::digest(wanted.to_string())[..8]);
    let metadata = wanted.as_object_mut().and_then(|object| member(object, "metadata"));
    if let Some(annotations) = metadata.and_then(|metadata| member(metadata, "annotations")) {
        annotations.insert(APPLIED_ANNOTATION.to_owned(), Value::String(hash));
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The object under `key`, made when it is not there.
fn member<'a>(object: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    object.entry(key).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// Drops nulls, empty lists and empty maps, which the API server does not keep.
fn normalize(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(normalize);
            object.retain(|key, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(entries) => !entries.is_empty() || !MAPS.contains(&key.as_str()),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(normalize),
        _ => {}
    }
}

/// The path of the first field in which `live` is not what `wanted`, which is stamped, says.
#[must_use]
pub fn difference(wanted: &Value, live: &Value) -> Option<String> {
    let annotation = ["metadata", "annotations", APPLIED_ANNOTATION].join(".");
    let found = compare(wanted, live, &mut Vec::new(), false)?;
    if found != annotation {
        return Some(found);
    }
    // The hash comes before most fields: a field that differs tells more than it does.
    let mut unstamped = wanted.clone();
    let annotations = unstamped.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    annotations.map(|annotations| annotations.remove(APPLIED_ANNOTATION));
    let rest = compare(&unstamped, live, &mut Vec::new(), false);
    Some(rest.unwrap_or_else(|| "a field that is no longer wanted".to_owned()))
}

fn compare<'a>(wanted: &'a Value, live: &Value, path: &mut Vec<&'a str>, quantity: bool) -> Option<String> {
    let same = match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            let atomic = path.last().is_some_and(|field| ATOMIC_MAPS.contains(field));
            if atomic && wanted.values().all(Value::is_string) && live.len() > wanted.len() {
                return Some(path.join("."));
            }
            return wanted.iter().find_map(|(key, value)| {
                path.push(key);
                let quantity = QUANTITIES.contains(&key.as_str())
                    || key == "sizeLimit"
                    || (quantity && !value.is_object());
                let found = compare(value, live.get(key).unwrap_or(&Value::Null), path, quantity);
                path.pop();
                found
            });
        }
        (Value::Array(wanted), Value::Array(live)) => return compare_lists(wanted, live, path),
        (Value::String(wanted), Value::String(live)) if quantity => {
            wanted == live
                || matches!((quantity::nano(wanted), quantity::nano(live)), (Some(one), Some(other)) if one == other)
        }
        // An empty string is not kept by the API server.
        (Value::String(wanted), Value::Null) => wanted.is_empty(),
        (wanted, live) => wanted == live,
    };
    (!same).then(|| path.join("."))
}

fn compare_lists<'a>(wanted: &'a [Value], live: &[Value], path: &mut Vec<&'a str>) -> Option<String> {
    let Some(keys) = path.last().and_then(|field| merge_keys(field, wanted)) else {
        if wanted.len() != live.len() {
            return Some(path.join("."));
        }
        return wanted.iter().zip(live).find_map(|(wanted, live)| compare(wanted, live, path, false));
    };
    wanted.iter().find_map(|wanted| {
        path.push(wanted.get(keys[0]).and_then(Value::as_str).unwrap_or("item"));
        let found = match live.iter().find(|live| same_entry(keys, wanted, live)) {
            Some(live) => compare(wanted, live, path, false),
            None => Some(path.join(".")),
        };
        path.pop();
        found
    })
}

/// The keys by which Kubernetes merges a list; `None` for a list that is one value.
fn merge_keys(field: &str, items: &[Value]) -> Option<&'static [&'static str]> {
    match field {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => Some(&["name"]),
        "volumeMounts" => Some(&["mountPath"]),
        "ports" if items.iter().any(|item| item.get("containerPort").is_some()) => {
            Some(&["containerPort", "protocol"])
        }
        "ports" => Some(&["port", "protocol"]),
        "topologySpreadConstraints" => Some(&["topologyKey", "whenUnsatisfiable"]),
        "ownerReferences" => Some(&["uid"]),
        _ => None,
    }
}

/// A merge key's value. Only a port's protocol may be left out.
fn part(item: &Value, key: &str) -> Value {
    item.get(key).cloned().unwrap_or_else(|| Value::String("TCP".to_owned()))
}

/// The innermost list in which one of our entries is missing, as a JSON pointer into `live`, and what
/// we want in it. Somebody may have changed a merge key: applying ours beside theirs is refused when
/// the two cannot stand together, such as two ports of one name.
#[must_use]
pub fn broken_list(wanted: &Value, live: &Value) -> Option<(String, Value)> {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().find_map(|(key, wanted)| {
            let live = live.get(key)?;
            let found = match (wanted, live) {
                (Value::Array(items), Value::Array(live)) => broken_entry(key, items, live)?,
                _ => broken_list(wanted, live)?,
            };
            Some((format!("/{}{}", key.replace('~', "~0").replace('/', "~1"), found.0), found.1))
        }),
        _ => None,
    }
}

fn broken_entry(field: &str, wanted: &[Value], live: &[Value]) -> Option<(String, Value)> {
    let keys = merge_keys(field, wanted)?;
    wanted.iter().find_map(|item| match live.iter().position(|live| same_entry(keys, item, live)) {
        None => Some((String::new(), Value::Array(wanted.to_vec()))),
        Some(index) => {
            broken_list(item, live.get(index)?).map(|(path, value)| (format!("/{index}{path}"), value))
        }
    })
}

fn same_entry(keys: &[&str], one: &Value, other: &Value) -> bool {
    keys.iter().all(|key| part(one, key) == part(other, key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stamped(mut wanted: Value) -> Value {
        stamp(&mut wanted);
        wanted
    }

    #[test]
    fn defaults_and_foreign_fields_are_no_difference() {
        let wanted = stamped(json!({
            "metadata": {"name": "gate", "labels": {"a": "b"}},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": [{
                    "name": "server", "image": "i:1",
                    "env": [{"name": "EMPTY", "value": ""}, {"name": "A", "value": "1"}],
                    "ports": [{"containerPort": 5000}],
                    "resources": {"requests": {"cpu": "0.5", "memory": "1Gi"}, "limits": {}},
                }], "tolerations": []}},
            },
        }));
        let mut live = wanted.clone();
        live["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = json!("now");
        live["metadata"]["uid"] = json!("1");
        live["spec"]["progressDeadlineSeconds"] = json!(600);
        let container = &mut live["spec"]["template"]["spec"]["containers"][0];
        container["terminationMessagePath"] = json!("/dev/termination-log");
        container["env"] =
            json!([{"name": "A", "value": "1"}, {"name": "EMPTY"}, {"name": "INJECTED", "value": "x"}]);
        container["ports"] = json!([{"containerPort": 5000, "protocol": "TCP"}]);
        container["resources"]["requests"] = json!({"cpu": "500m", "memory": "1024Mi"});
        assert_eq!(difference(&wanted, &live), None);
    }

    #[test]
    fn what_the_api_server_does_not_keep_is_no_difference_within_a_list_either() {
        let wanted = stamped(json!({"spec": {"containers": [
            {"name": "server", "command": [], "lifecycle": null, "resources": {"limits": {}}},
        ]}}));
        let mut live = wanted.clone();
        live["spec"]["containers"] = json!([{"name": "server", "resources": {}}]);
        assert_eq!(difference(&wanted, &live), None);
    }

    #[test]
    fn a_lost_label_and_a_volume_of_another_kind_are_differences() {
        let wanted = stamped(json!({
            "metadata": {"labels": {"a": "b"}},
            "spec": {"volumes": [{"name": "tmp", "emptyDir": {}}]},
        }));
        let mut live = wanted.clone();
        live["metadata"]["labels"] = json!({"c": "d"});
        assert_eq!(difference(&wanted, &live).as_deref(), Some("metadata.labels.a"));
        live["metadata"]["labels"] = json!({"a": "b"});
        live["spec"]["volumes"] = json!([{"name": "tmp", "hostPath": {"path": "/"}}]);
        assert_eq!(difference(&wanted, &live).as_deref(), Some("spec.volumes.tmp.emptyDir"));
    }

    #[test]
    fn amounts_are_compared_where_amounts_stand_and_nowhere_else() {
        let wanted = json!({"spec": {
            "containers": [{
                "name": "server", "env": [{"name": "A", "value": "1Gi"}], "resources": {"limits": {"memory": "1Gi"}},
            }],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        }});
        let written = |path: &str, amount: &str| {
            let mut live = wanted.clone();
            *live.pointer_mut(path).unwrap() = json!(amount);
            difference(&wanted, &live)
        };
        for (path, field) in [
            ("/spec/containers/0/resources/limits/memory", "spec.containers.server.resources.limits.memory"),
            ("/spec/volumes/0/emptyDir/sizeLimit", "spec.volumes.tmp.emptyDir.sizeLimit"),
        ] {
            assert_eq!(written(path, "1024Mi"), None);
            assert_eq!(written(path, "2Gi").as_deref(), Some(field));
        }
        assert_eq!(
            written("/spec/containers/0/env/0/value", "1024Mi").as_deref(),
            Some("spec.containers.server.env.A.value")
        );
    }

    #[test]
    fn what_others_put_into_a_list_or_in_another_order_is_no_difference() {
        let wanted = json!({
            "metadata": {"ownerReferences": [{"uid": "1", "name": "gate"}]},
            "spec": {
                "volumeMounts": [{"mountPath": "/tmp", "name": "tmp"}, {"mountPath": "/run", "name": "run"}],
                "topologySpreadConstraints": [{"topologyKey": "host", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}],
                "ports": [{"port": 80, "name": "http"}, {"port": 90, "name": "ops"}],
            },
        });
        let live = json!({
            "metadata": {"ownerReferences": [{"uid": "2", "name": "theirs"}, {"uid": "1", "name": "gate"}]},
            "spec": {
                "volumeMounts": [
                    {"mountPath": "/var/run/secrets", "name": "injected"},
                    {"mountPath": "/run", "name": "run"},
                    {"mountPath": "/tmp", "name": "tmp"},
                ],
                "topologySpreadConstraints": [
                    {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2},
                    {"topologyKey": "host", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1},
                ],
                "ports": [{"port": 90, "protocol": "TCP", "name": "ops"}, {"port": 80, "protocol": "TCP", "name": "http"}],
            },
        });
        assert_eq!(difference(&wanted, &live), None);
    }

    #[test]
    fn the_first_field_that_differs_is_named() {
        let wanted =
            stamped(json!({"spec": {"containers": [{"name": "server", "args": ["serve"], "image": "i:1"}]}}));
        let changed = |path: &str, value: Value| {
            let mut live = wanted.clone();
            *live.pointer_mut(path).unwrap() = value;
            difference(&wanted, &live)
        };
        assert_eq!(
            changed("/spec/containers/0/image", json!("i:2")).unwrap(),
            "spec.containers.server.image"
        );
        assert_eq!(
            changed("/spec/containers/0/args", json!(["serve", "more"])).unwrap(),
            "spec.containers.server.args"
        );
        assert_eq!(
            changed("/spec/containers/0/args", json!(["server"])).unwrap(),
            "spec.containers.server.args"
        );
        assert_eq!(changed("/spec/containers", json!([])).unwrap(), "spec.containers.server");
        assert_eq!(changed("/spec", json!({})).unwrap(), "spec.containers");
    }

    #[test]
    fn a_field_no_longer_wanted_is_a_difference_though_the_live_object_has_all_the_rest() {
        let before = stamped(json!({"metadata": {"name": "gate"}, "spec": {"a": 1, "b": 2}}));
        let wanted = stamped(json!({"metadata": {"name": "gate"}, "spec": {"a": 1}}));
        assert_eq!(difference(&wanted, &before).unwrap(), "a field that is no longer wanted");
        let replaced = stamped(json!({"metadata": {"name": "gate"}, "spec": {"a": 2}}));
        assert_eq!(difference(&replaced, &before).unwrap(), "spec.a");
        assert_eq!(difference(&before, &before), None);
    }

    #[test]
    fn the_hash_does_not_depend_on_empty_fields_or_earlier_stamps() {
        let plain = stamped(json!({"metadata": {"name": "gate"}, "spec": {"a": 1}}));
        let padded = stamped(
            json!({"metadata": {"name": "gate", "labels": {}}, "spec": {"a": 1, "b": [], "c": null}}),
        );
        assert_eq!(plain, padded);
    }

    #[test]
    fn a_selector_with_another_key_selects_other_pods() {
        let wanted = json!({"spec": {"selector": {"app": "gate"}}});
        let live = json!({"spec": {"selector": {"app": "gate", "tier": "theirs"}}});
        assert_eq!(difference(&wanted, &live).as_deref(), Some("spec.selector"));
        let wanted = json!({"spec": {"selector": {"matchLabels": {"app": "gate"}}}});
        let live = json!({"spec": {"selector": {"matchLabels": {"app": "gate", "tier": "theirs"}}}});
        assert_eq!(difference(&wanted, &live).as_deref(), Some("spec.selector.matchLabels"));
    }

    #[test]
    fn one_port_may_stand_twice_with_two_protocols() {
        let wanted =
            json!({"ports": [{"port": 53, "protocol": "UDP", "name": "udp"}, {"port": 53, "name": "tcp"}]});
        let live = json!({"ports": [{"port": 53, "protocol": "TCP", "name": "tcp"}, {"port": 53, "protocol": "UDP", "name": "udp"}]});
        assert_eq!(difference(&wanted, &live), None);
    }

    #[test]
    fn the_list_that_lost_an_entry_of_ours_is_found_wherever_it_stands() {
        let wanted = json!({"spec": {"containers": [{"name": "server", "ports": [{"containerPort": 5000, "name": "http"}]}]}});
        let mut live = json!({"spec": {"containers": [{"name": "theirs"}, {"name": "server", "ports": [{"containerPort": 80, "name": "http"}]}]}});
        assert_eq!(
            broken_list(&wanted, &live),
            Some(("/spec/containers/1/ports".to_owned(), json!([{"containerPort": 5000, "name": "http"}])))
        );
        live["spec"]["containers"][1]["name"] = json!("renamed");
        assert_eq!(
            broken_list(&wanted, &live),
            Some(("/spec/containers".to_owned(), wanted["spec"]["containers"].clone()))
        );
        assert_eq!(broken_list(&wanted, &wanted), None);
    }
}
