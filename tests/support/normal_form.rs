//! A namespace's objects as one value that two runs share: without uids, times, random bytes and what
//! only the API server decides. Pure, so that the model of the API server is read by the same rules.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

/// Characters of a value that a difference shows.
const LONGEST_SHOWN: usize = 400;

/// `Kind name` to what it says.
pub type State = BTreeMap<String, Value>;

/// What to call each random word of one namespace.
#[derive(Default)]
struct Words(Vec<(String, String)>);

impl Words {
    fn name(&mut self, word: impl Into<String>, placeholder: impl Into<String>) {
        self.0.push((word.into(), placeholder.into()));
    }

    fn replace(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, placeholder)| text.replace(word, placeholder))
    }
}

/// The state of a namespace with these objects, each with its kind.
///
/// # Errors
/// When one is no object.
pub fn state_of(namespace: &str, objects: &[Value]) -> anyhow::Result<State> {
    let words = words(namespace, objects);
    objects.iter().map(|object| normal(object, &words)).collect()
}

/// Each path at which two states differ.
#[must_use]
pub fn differences(wanted: &State, live: &State) -> String {
    let mut lines = String::new();
    for key in wanted.keys().chain(live.keys().filter(|key| !wanted.contains_key(*key))) {
        differ(key, wanted.get(key), live.get(key), &mut lines);
    }
    lines
}

fn differ(path: &str, wanted: Option<&Value>, live: Option<&Value>, lines: &mut String) {
    if wanted == live {
        return;
    }
    if let (Some(Value::Object(left)), Some(Value::Object(right))) = (wanted, live) {
        for key in left.keys().chain(right.keys().filter(|key| !left.contains_key(*key))) {
            differ(&format!("{path} . {key}"), left.get(key), right.get(key), lines);
        }
        return;
    }
    let show = |value: Option<&Value>| {
        let text = value.map_or("absent".to_owned(), Value::to_string);
        text.chars().take(LONGEST_SHOWN).collect::<String>()
    };
    for line in [path, &format!("  wanted {}", show(wanted)), &format!("  is     {}", show(live))] {
        lines.push('\n');
        lines.push_str(line);
    }
}

fn words(namespace: &str, objects: &[Value]) -> Words {
    let mut words = Words::default();
    for object in objects {
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let name = job_base(name).map_or_else(|| name.to_owned(), |base| format!("{base}#"));
        words.name(text(&object["metadata"]["uid"]), format!("<uid of {kind} {name}>"));
    }
    for object in objects.iter().filter(|object| object["kind"] == "Job") {
        let name = text(&object["metadata"]["name"]);
        if let Some(base) = job_base(name) {
            words.name(name, format!("{base}#"));
        }
    }
    for secret in objects.iter().filter(|object| object["kind"] == "Secret") {
        let data: BTreeMap<String, ByteString> =
            serde_json::from_value(secret["data"].clone()).unwrap_or_default();
        let mut ids: Vec<(&[u8], &str)> = data
            .iter()
            .filter_map(|(key, at)| Some((at.0.as_slice(), key.strip_suffix(".signs")?)))
            .collect();
        ids.sort_unstable();
        for (number, (_, id)) in ids.into_iter().enumerate() {
            words.name(id, format!("<key id {}>", number + 1));
        }
        if let Some(id) = data.get("id").and_then(|id| std::str::from_utf8(&id.0).ok()) {
            words.name(id, "<account id>");
        }
    }
    words.name(namespace, "<namespace>");
    words
}

/// `gate-migrate-` of `gate-migrate-0123456789`.
fn job_base(name: &str) -> Option<&str> {
    let (base, digits) = name.split_at_checked(name.len().checked_sub(10)?)?;
    (base.ends_with("-migrate-") && digits.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(base)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn normal(object: &Value, words: &Words) -> anyhow::Result<(String, Value)> {
    let mut object = object.clone();
    let key = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
    let generation = object["metadata"]["generation"].clone();
    strip_metadata(&mut object["metadata"]);
    let fields = object.as_object_mut().context("an object is no object")?;
    fields.retain(|field, _| matches!(field.as_str(), "metadata" | "spec" | "data" | "type" | "status"));
    if key.starts_with("AuthService ") {
        if let Some(status) = fields.get_mut("status") {
            strip_status(status, &generation);
        }
    } else {
        fields.remove("status");
    }
    if let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) {
        if spec.get("clusterIP").is_some_and(|address| address != "None") {
            spec.insert("clusterIP".to_owned(), json!("<address>"));
            spec.insert("clusterIPs".to_owned(), json!("<address>"));
        }
        for template in
            spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten()
        {
            template.as_object_mut().context("a template is no object")?.remove("status");
        }
    }
    if let Some(data) = fields.get_mut("data") {
        *data = Value::Object(entries(data)?);
    }
    let object = words.replace(&object.to_string());
    Ok((words.replace(&key), serde_json::from_str(&object)?))
}

fn strip_metadata(metadata: &mut Value) {
    let Some(fields) = metadata.as_object_mut() else { return };
    fields.retain(|field, _| {
        matches!(field.as_str(), "labels" | "annotations" | "ownerReferences" | "finalizers")
    });
    if let Some(annotations) = fields.get_mut("annotations").and_then(Value::as_object_mut) {
        // How often the Deployment was changed, not what it is.
        annotations.remove("deployment.kubernetes.io/revision");
        // A hash over uid and namespace too.
        if let Some(hash) = annotations.get_mut("authservice.dev/applied") {
            *hash = json!("<hash>");
        }
        if annotations.is_empty() {
            fields.remove("annotations");
        }
    }
}

fn strip_status(status: &mut Value, generation: &Value) {
    let current = |observed: &Value| if observed == generation { json!("current") } else { observed.clone() };
    if let Some(fields) = status.as_object_mut() {
        if let Some(observed) = fields.get_mut("observedGeneration") {
            *observed = current(observed);
        }
        if let Some(token) = fields.get_mut("token").and_then(Value::as_object_mut) {
            token.insert("rotatedAt".to_owned(), json!("<instant>"));
        }
    }
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = json!("<instant>");
        condition["observedGeneration"] = current(&condition["observedGeneration"]);
    }
}

/// A Secret's entries: names in full, values only where they are no secret.
fn entries(data: &Value) -> anyhow::Result<Map<String, Value>> {
    let data: BTreeMap<String, ByteString> = serde_json::from_value(data.clone())?;
    let shown = |key: &str, value: &[u8]| match key {
        "email" | "username" | "admin-issued" | "MYSQL_HOST" | "MYSQL_PORT" | "MYSQL_DB" | "MYSQL_USER" => {
            String::from_utf8_lossy(value).into_owned()
        }
        _ if key.ends_with(".username") => String::from_utf8_lossy(value).into_owned(),
        _ if key.strip_suffix(".signs").is_some() => "<instant>".to_owned(),
        _ => format!("<{} bytes>", value.len()),
    };
    Ok(data.iter().map(|(key, value)| (key.clone(), json!(shown(key, &value.0)))).collect())
}
