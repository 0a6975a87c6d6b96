//! What `kubectl explain` prints, and what the schema must not hold.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::AuthService;
use crate::contract::{self, argon2};

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

/// The schema can only repeat what the contract says: literals of rules and ranges.
#[test]
fn the_bounds_of_passwords_are_those_of_the_contract() {
    let definition = definition();
    let passwords = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["passwords"]["properties"];
    let schema = &passwords["argon2"];
    let is_range = |field: &Value, range: std::ops::RangeInclusive<u32>| {
        let bounds = json!([field["minimum"], field["maximum"]]);
        assert_eq!(bounds, json!([f64::from(*range.start()), f64::from(*range.end())]));
    };
    is_range(&passwords["minLength"], contract::PASSWORD_MIN_LENGTH);
    is_range(&schema["properties"]["memoryKiB"], argon2::MEMORY_KIB);
    is_range(&schema["properties"]["iterations"], argon2::ITERATIONS);
    is_range(&schema["properties"]["parallelism"], argon2::PARALLELISM);
    let rules: Vec<&str> = schema["x-kubernetes-validations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["rule"].as_str().unwrap())
        .collect();
    let memory = format!("(has(self.memoryKiB) ? self.memoryKiB : {})", argon2::DEFAULT_MEMORY_KIB);
    let iterations = format!("(has(self.iterations) ? self.iterations : {})", argon2::DEFAULT_ITERATIONS);
    let sets =
        argon2::EQUALLY_STRONG.map(|(memory, iterations)| format!("[{memory}, {iterations}]")).join(", ");
    assert_eq!(
        rules,
        [
            format!("[{sets}].exists(set, {memory} >= set[0] && {iterations} >= set[1])"),
            format!("{memory} * {iterations} <= {}", argon2::MAX_WORK_KIB),
        ]
    );
}

/// Fields whose types are Kubernetes' own.
fn is_kubernetes(path: &str) -> bool {
    path.contains(".resources.")
}
