//! Label and field selectors.

use serde_json::Value;

use super::{kinds::Kind, status::Status};

/// What an object has to be to be listed.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
}

#[derive(Debug, Clone)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Reads the two texts of a query.
    pub(super) fn read(kind: Kind, labels: &str, fields: &str) -> Result<Self, Status> {
        let labels = split(labels).into_iter().map(requirement).collect();
        let fields = fields.split(',').filter(|term| !term.is_empty()).map(|term| field(kind, term));
        Ok(Self { labels, fields: fields.collect::<Result<_, _>>()? })
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is as wanted.
    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                label(key).is_some_and(|value| values.iter().any(|one| one == value))
            }
            Requirement::NotIn(key, values) => {
                label(key).is_none_or(|value| values.iter().all(|one| one != value))
            }
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Absent(key) => label(key).is_none(),
        }) && self.fields.iter().all(|(path, value, equal)| {
            let pointer = format!("/{}", path.replace('.', "/"));
            let found = object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default();
            (found == value) == *equal
        })
    }
}

/// The terms of a label selector; commas within parentheses divide values.
fn split(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.into_iter().map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn requirement(term: &str) -> Requirement {
    let values = |text: &str| -> Vec<String> {
        let text = text.trim().trim_start_matches('(').trim_end_matches(')');
        text.split(',').map(|value| value.trim().to_owned()).collect()
    };
    if let Some((key, set)) = term.split_once(" notin ") {
        return Requirement::NotIn(key.trim().to_owned(), values(set));
    }
    if let Some((key, set)) = term.split_once(" in ") {
        return Requirement::In(key.trim().to_owned(), values(set));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Requirement::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()]);
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Requirement::In(key.trim().to_owned(), vec![value.trim().to_owned()]);
    }
    match term.strip_prefix('!') {
        Some(key) => Requirement::Absent(key.trim().to_owned()),
        None => Requirement::Exists(term.to_owned()),
    }
}

fn field(kind: Kind, term: &str) -> Result<(String, String, bool), Status> {
    let parsed = match term.split_once("!=") {
        Some((path, value)) => Some((path, value, false)),
        None => {
            term.split_once("==").or_else(|| term.split_once('=')).map(|(path, value)| (path, value, true))
        }
    };
    let Some((path, value, equal)) = parsed else {
        return Err(Status::bad_request(format!("invalid selector: '{term}'; can't understand '{term}'")));
    };
    let known = matches!(path, "metadata.name" | "metadata.namespace")
        || (kind == Kind::Secret && path == "type")
        || (kind == Kind::Pod && matches!(path, "spec.nodeName" | "status.phase" | "spec.restartPolicy"))
        || (kind == Kind::Event && path.starts_with("regarding."));
    if !known {
        return Err(Status::bad_request(format!("field label not supported: {path}")));
    }
    Ok((path.to_owned(), value.to_owned(), equal))
}
