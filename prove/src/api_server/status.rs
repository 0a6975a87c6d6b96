//! What is answered instead of an object: every refusal, in the API server's own words.

use serde_json::{Map, Value, json};

use super::kinds::Kind;

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The HTTP status.
    pub code: u16,
    /// The word for machines.
    pub reason: &'static str,
    /// The words for people.
    pub message: String,
    /// What it is about.
    pub details: Option<Value>,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.code, self.reason, self.message)
    }
}

impl std::error::Error for Status {}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) field: String,
}

impl Cause {
    fn new(reason: &'static str, words: String, field: impl Into<String>) -> Self {
        Self { reason, message: words, field: field.into() }
    }

    pub(super) fn required(field: impl Into<String>, why: &str) -> Self {
        let words =
            if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self::new("FieldValueRequired", words, field)
    }

    pub(super) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self::new("FieldValueInvalid", format!("Invalid value: {}: {why}", shown(value)), field)
    }

    pub(super) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self::new("FieldValueForbidden", format!("Forbidden: {why}"), field)
    }

    pub(super) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::new("FieldValueDuplicate", format!("Duplicate value: {}", shown(value)), field)
    }

    pub(super) fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self::new("FieldValueNotFound", format!("Not found: {}", shown(value)), field)
    }

    pub(super) fn type_invalid(field: &str, found: &str, wanted: &str) -> Self {
        let words =
            format!("Invalid value: \"{found}\": {field} in body must be of type {wanted}: \"{found}\"");
        Self::new("FieldValueTypeInvalid", words, field)
    }

    pub(super) fn too_long(field: &str, most: &Value) -> Self {
        Self::new("FieldValueTooLong", format!("Too long: may not be more than {most} bytes"), field)
    }

    pub(super) fn too_many(field: &str, count: u64, most: u64) -> Self {
        let noun = if most == 1 { "item" } else { "items" };
        Self::new("FieldValueTooMany", format!("Too many: {count}: must have at most {most} {noun}"), field)
    }

    /// A rule of a definition that does not hold. What it is about is shown unless it is large.
    pub(super) fn broken_rule(field: &str, value: &Value, message: &str) -> Self {
        let words = match value {
            Value::Object(_) | Value::Array(_) => format!("Invalid value: {message}"),
            value => format!("Invalid value: {}: {message}", shown(value)),
        };
        Self::new("FieldValueInvalid", words, if field.is_empty() { "<nil>" } else { field })
    }

    /// Rules wait until the values can be read.
    pub(super) fn unchecked() -> Self {
        let words = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        Self::new("FieldValueInvalid", format!("Invalid value: null: {words}"), "<nil>")
    }

    pub(super) fn not_supported(field: impl Into<String>, value: &Value, options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|option| format!("\"{option}\"")).collect();
        let words = format!("Unsupported value: {}: supported values: {}", shown(value), options.join(", "));
        Self::new("FieldValueNotSupported", words, field)
    }
}

/// A value, as Go shows it in messages.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

/// `deployments.apps`, as messages name a kind.
fn resource(kind: Kind) -> String {
    match kind.group() {
        "" => kind.plural().to_owned(),
        group => format!("{}.{group}", kind.plural()),
    }
}

/// `Deployment.apps`, as messages name a kind of which an object is wrong. Events are known there by the
/// group they first had.
fn subject(kind: Kind) -> String {
    match kind.group() {
        _ if kind == Kind::Event => kind.name().to_owned(),
        "" => kind.name().to_owned(),
        group => format!("{}.{group}", kind.name()),
    }
}

fn details(kind: Kind, name: &str, word: &str) -> Map<String, Value> {
    let mut details = Map::new();
    if !name.is_empty() {
        details.insert("name".to_owned(), json!(name));
    }
    let legacy = kind == Kind::Event && word == kind.name();
    if !kind.group().is_empty() && !legacy {
        details.insert("group".to_owned(), json!(kind.group()));
    }
    details.insert("kind".to_owned(), json!(word));
    details
}

impl Status {
    fn about(code: u16, reason: &'static str, message: String, kind: Kind, name: &str) -> Self {
        Self { code, reason, message, details: Some(Value::Object(details(kind, name, kind.plural()))) }
    }

    pub(super) fn not_found(kind: Kind, name: &str) -> Self {
        Self::about(404, "NotFound", format!("{} \"{name}\" not found", resource(kind)), kind, name)
    }

    /// The place is taken by an object that is being deleted.
    pub(super) fn still_exists(kind: Kind, name: &str) -> Self {
        let mut status = Self::already_exists(kind, name);
        status.message.insert_str(0, "object is being deleted: ");
        status
    }

    /// An apply that cannot be read.
    pub(super) fn unreadable_apply(config: &Value, kind: Kind, why: &str) -> Self {
        let text = |field: &str| config["metadata"][field].as_str().unwrap_or_default();
        let (version, word) = (kind.api_version(), kind.name());
        let message = format!(
            "failed to create typed patch object ({}/{}; {version}, Kind={word}): {why}",
            text("namespace"),
            text("name"),
        );
        Self { code: 500, reason: "", message, details: None }
    }

    pub(super) fn already_exists(kind: Kind, name: &str) -> Self {
        Self::about(409, "AlreadyExists", format!("{} \"{name}\" already exists", resource(kind)), kind, name)
    }

    pub(super) fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource(kind));
        Self::about(409, "Conflict", message, kind, name)
    }

    /// What a deletion asks for is not what is there.
    pub(super) fn unmet(kind: Kind, name: &str, why: &str) -> Self {
        let subject = subject(kind);
        let message = format!("Operation cannot be fulfilled on {subject} \"{name}\": {why}");
        Self {
            code: 409,
            reason: "Conflict",
            message,
            details: Some(Value::Object(details(kind, name, kind.name()))),
        }
    }

    /// A PUT that does not say which version it replaces.
    pub(super) fn unversioned(kind: Kind, name: &str) -> Self {
        let cause = Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
        let mut status = Self::invalid(kind, name, std::slice::from_ref(&cause));
        status.message =
            format!("{} \"{name}\" is invalid: {}: {}", resource(kind), cause.field, cause.message);
        if let Some(details) = &mut status.details {
            details["kind"] = json!(kind.plural());
        }
        status
    }

    /// A new object that claims to have a version.
    pub(super) fn versioned() -> Self {
        let message = "resourceVersion should not be set on objects to be created".to_owned();
        Self { code: 500, reason: "", message, details: None }
    }

    pub(super) fn modified(kind: Kind, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    pub(super) fn forbidden(kind: Kind, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", resource(kind));
        Self::about(403, "Forbidden", message, kind, name)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self { code: 400, reason: "BadRequest", message: message.into(), details: None }
    }

    pub(super) fn unknown_path() -> Self {
        let message = "the server could not find the requested resource".to_owned();
        Self { code: 404, reason: "NotFound", message, details: Some(json!({})) }
    }

    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self { code: 410, reason: "Expired", message: message.into(), details: None }
    }

    pub(super) fn too_large(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        let details = json!({"causes": [cause], "retryAfterSeconds": 1});
        Self { code: 504, reason: "Timeout", message: format!("Timeout: {message}"), details: Some(details) }
    }

    pub(super) fn not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource".to_owned();
        Self { code: 405, reason: "MethodNotAllowed", message, details: Some(json!({})) }
    }

    pub(super) fn unsupported_media() -> Self {
        let message = "the body of the request was in an unknown format".to_owned();
        Self { code: 415, reason: "UnsupportedMediaType", message, details: Some(json!({})) }
    }

    /// An apply that does not say whose it is.
    pub(super) fn no_manager() -> Self {
        let words = "Required value: is required for apply patch";
        Self {
            code: 422,
            reason: "Invalid",
            message: format!("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: {words}"),
            details: Some(json!({
                "group": "meta.k8s.io", "kind": "PatchOptions",
                "causes": [{"reason": "FieldValueRequired", "message": words, "field": "fieldManager"}],
            })),
        }
    }

    /// A patch that does not fit its object.
    pub(super) fn unfit_patch() -> Self {
        let message = "the server rejected our request due to an error in our request".to_owned();
        Self { code: 422, reason: "Invalid", message, details: Some(json!({})) }
    }

    pub(super) fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let causes: Vec<Value> = conflicts.iter().map(|(manager, field)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": field})
        }).collect();
        let message = conflict_message(conflicts);
        Self { code: 409, reason: "Conflict", message, details: Some(json!({"causes": causes})) }
    }

    /// An object whose fields are wrong.
    pub(super) fn invalid(kind: Kind, name: &str, causes: &[Cause]) -> Self {
        let written: Vec<_> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let list = match &written[..] {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        let subject = subject(kind);
        let causes: Vec<Value> = causes
            .iter()
            .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
            .collect();
        let mut details = details(kind, name, kind.name());
        details.insert("causes".to_owned(), Value::Array(causes));
        Self {
            code: 422,
            reason: "Invalid",
            message: format!("{subject} \"{name}\" is invalid: {list}"),
            details: Some(Value::Object(details)),
        }
    }

    /// The body of the answer.
    pub(super) fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            body["details"] = details.clone();
        }
        body
    }
}

/// Conflicts as the API server words them: one in one line, several grouped by manager.
fn conflict_message(conflicts: &[(String, String)]) -> String {
    if let [(manager, field)] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {manager}: {field}");
    }
    let mut groups: Vec<(&String, Vec<&String>)> = Vec::new();
    for (manager, field) in conflicts {
        match groups.iter_mut().find(|(known, _)| *known == manager) {
            Some((_, fields)) => fields.push(field),
            None => groups.push((manager, vec![field])),
        }
    }
    groups.sort();
    let mut lines = Vec::new();
    for (manager, fields) in groups {
        lines.push(format!("conflicts with {manager}:"));
        lines.extend(fields.iter().map(|field| format!("- {field}")));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
