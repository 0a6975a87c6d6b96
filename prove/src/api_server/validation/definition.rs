//! The `AuthService` against the schema of its own definition.

use serde_json::Value;

use super::rules;
use crate::api_server::{schema, status::Cause};

/// Everything that is wrong: with the values, and, if those can be read, by the rules.
pub(super) fn check(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    let definition = schema::definition();
    for part in ["spec", "status"] {
        if let Some(value) = object.get(part) {
            values(&definition["properties"][part], value, part, causes);
        } else if required(definition, part) {
            causes.push(Cause::required(part, ""));
        }
    }
    for (pointer, field) in [("/spec/replicas", ".spec.replicas"), ("/status/replicas", ".status.replicas")] {
        if let Some(text) = object.pointer(pointer).and_then(Value::as_str) {
            let why = format!("{field} accessor error: {text} is of the type string, expected int64");
            causes.push(Cause::invalid(field, &0.into(), &why));
        }
        if let Some(number) = object.pointer(pointer).and_then(Value::as_i64).filter(|number| *number < 0) {
            causes.push(Cause::invalid(field, &number.into(), "should be a non-negative integer"));
        }
    }
    let blocks = |cause: &Cause| {
        !matches!(cause.reason, "FieldValueInvalid" | "FieldValueDuplicate" | "FieldValueForbidden")
    };
    if causes.iter().any(blocks) {
        causes.push(Cause::unchecked());
    } else {
        walk(definition, object, live, "", causes);
    }
}

fn required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().into_iter().flatten().any(|required| required == name)
}

fn values(schema: &Value, value: &Value, at: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let count = causes.len();
    kind(schema, value, at, causes);
    if causes.len() > count {
        return;
    }
    options(schema, value, at, causes);
    bounds(schema, value, at, causes);
    match value {
        Value::Object(object) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !object.contains_key(name) {
                    causes.push(Cause::required(format!("{at}.{name}"), ""));
                }
            }
            for (name, value) in object {
                if let Some(schema) = below(schema, name) {
                    values(schema, value, &format!("{at}.{name}"), causes);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                values(&schema["items"], item, &format!("{at}[{index}]"), causes);
            }
            duplicates(schema, items, at, causes);
        }
        _ => {}
    }
}

fn below<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema["properties"].get(name).or_else(|| schema.get("additionalProperties"))
}

/// The word of a schema for what a value is.
fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn kind(schema: &Value, value: &Value, at: &str, causes: &mut Vec<Cause>) {
    let found = word(value);
    if schema["x-kubernetes-int-or-string"] == true {
        if !matches!(found, "integer" | "string") {
            causes.push(Cause::type_invalid(at, found, "integer,string"));
        }
        return;
    }
    let Some(wanted) = schema["type"].as_str() else { return };
    if found != wanted && !(wanted == "number" && found == "integer") {
        causes.push(Cause::type_invalid(at, found, wanted));
    }
}

fn options(schema: &Value, value: &Value, at: &str, causes: &mut Vec<Cause>) {
    let Some(options) = schema["enum"].as_array() else { return };
    if !options.contains(value) {
        let words: Vec<&str> = options.iter().filter_map(Value::as_str).collect();
        causes.push(Cause::not_supported(at, value, &words));
    }
}

fn bounds(schema: &Value, value: &Value, at: &str, causes: &mut Vec<Cause>) {
    let bound = |name: &str| schema[name].as_f64();
    if let Some(number) = value.as_f64() {
        if bound("minimum").is_some_and(|least| number < least) {
            let why = format!(
                "{at} in body should be greater than or equal to {}",
                schema["minimum"].as_f64().unwrap_or(0.0)
            );
            causes.push(Cause::invalid(at, value, &why));
        }
        if bound("maximum").is_some_and(|most| number > most) {
            let why = format!(
                "{at} in body should be less than or equal to {}",
                schema["maximum"].as_f64().unwrap_or(0.0)
            );
            causes.push(Cause::invalid(at, value, &why));
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        if schema["minLength"].as_u64().is_some_and(|least| length < least) {
            let why = format!("{at} in body should be at least {} chars long", schema["minLength"]);
            causes.push(Cause::invalid(at, value, &why));
        }
        if schema["maxLength"].as_u64().is_some_and(|most| length > most) {
            causes.push(Cause::too_long(at, &schema["maxLength"]));
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && !rules::matches(pattern, text)
        {
            causes.push(Cause::invalid(at, value, &format!("{at} in body should match '{pattern}'")));
        }
    }
    if let Some(items) = value.as_array() {
        let count = items.len() as u64;
        if schema["minItems"].as_u64().is_some_and(|least| count < least) {
            let why = format!("{at} in body should have at least {} items", schema["minItems"]);
            causes.push(Cause::invalid(at, &count.into(), &why));
        }
        if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
            causes.push(Cause::too_many(at, count, most));
        }
    }
}

/// Entries of a set or of a map that are there twice.
fn duplicates(schema: &Value, items: &[Value], at: &str, causes: &mut Vec<Cause>) {
    let keys: Vec<&str> = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Vec::new(),
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            keys.filter_map(Value::as_str).collect()
        }
        _ => return,
    };
    let key = |item: &Value| -> Value {
        if keys.is_empty() {
            return item.clone();
        }
        keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect()
    };
    let mut seen: Vec<Value> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let key = key(item);
        if seen.contains(&key) {
            causes.push(Cause::duplicate(format!("{at}[{index}]"), &key));
        }
        seen.push(key);
    }
}

/// The definition's rules, from the root downwards; those that compare need a value before.
fn walk(schema: &Value, value: &Value, live: Option<&Value>, at: &str, causes: &mut Vec<Cause>) {
    if value.is_null() {
        return;
    }
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap_or_default();
        if !rules::holds(text, value, live) {
            let message = rule["message"].as_str().unwrap_or_default();
            causes.push(Cause::broken_rule(at, value, message));
        }
    }
    let inside = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if let Some(schema) = below(schema, name) {
                    let live = live.and_then(|live| live.get(name)).filter(|live| !live.is_null());
                    walk(schema, value, live, &inside(name), causes);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(&schema["items"], item, None, &format!("{at}[{index}]"), causes);
            }
        }
        _ => {}
    }
}
