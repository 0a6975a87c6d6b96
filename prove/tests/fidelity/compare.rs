//! Answers without what no two API servers share, and what then still tells them apart.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The names given to uids and versions of one side, in the order in which they were seen.
#[derive(Default)]
pub(crate) struct Names {
    uids: BTreeMap<String, usize>,
    versions: BTreeMap<String, usize>,
    suffixes: BTreeMap<String, usize>,
}

impl Names {
    /// An answer in words that both sides use.
    pub(crate) fn normal(&mut self, value: &Value) -> Value {
        let mut value = value.clone();
        // The version of a list counts the writes of others, too.
        if value.get("items").is_some() {
            value["metadata"]["resourceVersion"] = json!("");
        }
        let mut normal = self.value("", &value);
        // Drawn names are sorted as they were drawn.
        if let Some(items) = normal.get_mut("items").and_then(Value::as_array_mut) {
            items.sort_by_key(|item| item["metadata"]["uid"].to_string());
        }
        without_dumps(&mut normal);
        normal
    }

    fn value(&mut self, field: &str, value: &Value) -> Value {
        match value {
            Value::Object(object) => {
                let mut normal = serde_json::Map::new();
                for (name, value) in object {
                    let name = self.text(name);
                    let value = self.value(&name, value);
                    normal.insert(name, value);
                }
                Value::Object(normal)
            }
            Value::Array(items) => {
                let mut items: Vec<Value> = items.iter().map(|item| self.value(field, item)).collect();
                if field == "managedFields" {
                    items.sort_by_key(|entry| {
                        format!("{}{}{}", entry["operation"], entry["manager"], entry["subresource"])
                    });
                }
                Value::Array(items)
            }
            Value::String(text) => json!(match field {
                "resourceVersion" => named("version", &mut self.versions, text),
                "creationTimestamp" | "deletionTimestamp" | "time" => "a time".to_owned(),
                "continue" => "a continuation".to_owned(),
                "clusterIP" | "clusterIPs" if text.starts_with("10.") => "an address".to_owned(),
                _ => self.text(text),
            }),
            Value::Number(_) if field == "nodePort" => json!("a port"),
            other => other.clone(),
        }
    }

    /// A text without uids, versions and drawn suffixes.
    fn text(&mut self, text: &str) -> String {
        let mut normal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_ascii_hexdigit()) {
            let (before, from) = rest.split_at(at);
            normal.push_str(before);
            let boundary = !normal.ends_with(|c: char| c.is_ascii_alphanumeric());
            if boundary && is_uid(from) {
                normal.push_str(&named("uid", &mut self.uids, &from[..36]));
                rest = &from[36..];
            } else {
                let end = from.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(from.len());
                normal.push_str(&from[..end]);
                rest = &from[end..];
            }
        }
        normal.push_str(rest);
        let normal = self.suffixes_in(normal);
        self.versions_in(normal)
    }

    fn suffixes_in(&mut self, text: String) -> String {
        let mut text = text;
        for (prefix, digits) in [("kube-api-access-", false), ("g", true)] {
            let Some(at) = text.find(prefix) else { continue };
            let mut start = at + prefix.len();
            if digits {
                let after = &text[start..];
                let count = after.bytes().take_while(u8::is_ascii_digit).count();
                if count == 0 || after.as_bytes().get(count) != Some(&b'-') {
                    continue;
                }
                start += count + 1;
            }
            let suffix: String = text[start..].chars().take(5).collect();
            if suffix.len() == 5 && suffix.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)) {
                let name = named("suffix", &mut self.suffixes, &suffix);
                text = text.replace(&suffix, &name);
            }
        }
        text
    }

    fn versions_in(&mut self, text: String) -> String {
        let mut text = text;
        for word in [
            "ResourceVersion in the precondition (",
            "ResourceVersion in record (",
            "ResourceVersion in object meta: ",
            "resource version: ",
            "current: ",
        ] {
            if let Some(at) = text.find(word) {
                let start = at + word.len();
                let digits: String = text[start..].chars().take_while(char::is_ascii_digit).collect();
                if !digits.is_empty() {
                    let name = named("version", &mut self.versions, &digits);
                    text.replace_range(start..start + digits.len(), &name);
                }
            }
        }
        text
    }
}

/// Go's dumps of values are cut out of messages, and causes are sorted: those of a definition come in
/// the random order of Go's maps. A message that joins several of them says nothing more.
fn without_dumps(answer: &mut Value) {
    // Of several faults of an apply Go finds one or more, in the order of its maps.
    const UNREADABLE: &str = "failed to create typed patch object";
    if let Some(text) = answer["message"].as_str().filter(|text| text.starts_with(UNREADABLE)) {
        answer["message"] = json!(text.split("): ").next());
    }
    let Some(causes) = answer.pointer_mut("/details/causes").and_then(Value::as_array_mut) else { return };
    for cause in causes.iter_mut() {
        let message = cause["message"].as_str().unwrap_or_default();
        let message = message.split("\n@@").next().unwrap_or_default();
        let start = ["Invalid value: {", "Invalid value: [", "Duplicate value: {\"Name"];
        let dumped = start.iter().find(|start| message.starts_with(**start));
        let words =
            dumped.and_then(|_| message.rsplit_once(['}', ']'])).map(|(_, words)| format!("(a dump){words}"));
        let message = words.unwrap_or_else(|| message.to_owned());
        cause["message"] = json!(message);
    }
    causes.sort_by_key(Value::to_string);
    let dumps =
        causes.iter().any(|cause| cause["message"].as_str().is_some_and(|text| text.starts_with("(a dump)")));
    if causes.len() > 1 || dumps || answer["message"].as_str().is_some_and(|text| text.contains("\n@@")) {
        answer["message"] = json!("(as the causes say)");
    }
}

fn named(word: &str, names: &mut BTreeMap<String, usize>, text: &str) -> String {
    let ours = ["12345678-0000", "87654321-0000", "11111111-0000", "22222222-0000"];
    if text.is_empty() || ours.iter().any(|own| text.starts_with(own)) {
        return text.to_owned();
    }
    let next = names.len();
    format!("{word} {}", names.entry(text.to_owned()).or_insert(next))
}

fn is_uid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 36
        && bytes[..36].iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Every field in which two values differ: where, what the model says, what the API server says.
pub(crate) fn differences(model: &Value, real: &Value) -> Vec<(String, Value, Value)> {
    let mut all = Vec::new();
    collect("", model, real, &mut all);
    all
}

fn collect(at: &str, model: &Value, real: &Value, all: &mut Vec<(String, Value, Value)>) {
    match (model, real) {
        (Value::Object(one), Value::Object(other)) => {
            let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let absent = json!("(absent)");
                let of = |object: &serde_json::Map<String, Value>| object.get(name).cloned();
                let (one, other) = (of(one), of(other));
                if one != other {
                    let (one, other) = (one.unwrap_or_else(|| absent.clone()), other.unwrap_or(absent));
                    collect(&format!("{at}.{name}"), &one, &other, all);
                }
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (one, other) in one.iter().zip(other) {
                collect(&format!("{at}[]"), one, other, all);
            }
        }
        (one, other) if one == other => {}
        (one, other) => all.push((at.to_owned(), one.clone(), other.clone())),
    }
}
