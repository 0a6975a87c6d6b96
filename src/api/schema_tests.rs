//! What `kubectl explain` prints, and what the schema must not hold.

use kube::CustomResourceExt;
use serde_json::Value;

use super::AuthService;

fn definition() -> Value {
    serde_json::to_value(AuthService::crd()).unwrap()
}

/// Every schema below `schema` with its path; what Kubernetes itself defines is left out.
fn walk<'a>(path: String, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            walk(format!("{path}.{name}"), property, found);
        }
    }
    if schema["items"].is_object() {
        walk(format!("{path}[]"), &schema["items"], found);
    }
    found.push((path, schema));
}

fn schemas(definition: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for version in definition["spec"]["versions"].as_array().unwrap() {
        let root = &version["schema"]["openAPIV3Schema"];
        walk(String::new(), root, &mut found);
    }
    found
}

#[test]
fn every_field_explains_itself() {
    let definition = definition();
    let silent: Vec<String> = schemas(&definition)
        .into_iter()
        .filter(|(path, schema)| {
            !path.ends_with("[]") && schema["description"].as_str().unwrap_or_default().trim().is_empty()
        })
        .map(|(path, _)| path)
        .collect();
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn every_list_in_spec_is_bounded() {
    let definition = definition();
    let unbounded: Vec<String> = schemas(&definition)
        .into_iter()
        .filter(|(path, schema)| {
            path.starts_with(".spec")
                && !is_kubernetes(path)
                && schema["type"] == "array"
                && schema["maxItems"].is_null()
        })
        .map(|(path, _)| path)
        .collect();
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn no_number_has_a_format_that_the_api_server_does_not_know() {
    let definition = definition();
    let unknown: Vec<String> = schemas(&definition)
        .into_iter()
        .filter(|(_, schema)| schema["format"].as_str().is_some_and(|format| format.starts_with("uint")))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(unknown, Vec::<String>::new());
}

#[test]
fn replicas_is_the_one_default_in_the_schema() {
    let definition = definition();
    let defaulted: Vec<String> = schemas(&definition)
        .into_iter()
        .filter(|(path, schema)| path.starts_with(".spec") && !schema["default"].is_null())
        .map(|(path, _)| path)
        .collect();
    assert_eq!(defaulted, [".spec.replicas"]);
}

/// Fields whose types are Kubernetes' own.
fn is_kubernetes(path: &str) -> bool {
    path.contains(".resources.")
}
