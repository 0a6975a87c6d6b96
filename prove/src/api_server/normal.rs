//! What is left of a request's object once the API server has read it: unknown fields are dropped,
//! zeros are written or dropped as Go's types do, and amounts and times take their canonical form.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::{
    kinds::Kind,
    quantity,
    schema::{self, Scalar, Shape},
};

/// A value that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Where, as Go says it.
    pub(super) path: String,
    /// What was found.
    pub(super) found: &'static str,
}

/// An object in the form in which it is stored.
pub(super) fn object(kind: Kind, mut written: Value) -> Result<Value, Unreadable> {
    if let Some(object) = written.as_object_mut() {
        object.insert("apiVersion".to_owned(), json!(kind.api_version()));
        object.insert("kind".to_owned(), json!(kind.name()));
    }
    let mut read = value(schema::of(kind), written, true, &mut String::new())?;
    if kind == Kind::Secret {
        encode_texts(&mut read);
    }
    if let Some(object) = read.as_object_mut() {
        object.insert("apiVersion".to_owned(), json!(kind.api_version()));
        object.insert("kind".to_owned(), json!(kind.name()));
    }
    Ok(read)
}

/// Entries of a Secret that are written as text.
fn encode_texts(secret: &mut Value) {
    let Some(texts) = secret.as_object_mut().and_then(|secret| secret.remove("stringData")) else { return };
    for (name, text) in texts.as_object().into_iter().flatten() {
        let text = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
        secret["data"][name] = Value::String(text);
    }
}

/// What Go writes for an empty object of a kind.
pub(super) fn empty(kind: Kind) -> Value {
    object(kind, json!({})).unwrap_or_default()
}

/// What is not `typed` keeps what does not fit, for the schema to refuse it.
fn value(shape: &Shape, written: Value, typed: bool, path: &mut String) -> Result<Value, Unreadable> {
    match (shape, written) {
        (_, Value::Null) => Ok(Value::Null),
        (Shape::Scalar(kind), written) if typed => scalar(*kind, written, path),
        (Shape::Scalar(_), written) => Ok(written),
        (Shape::Struct(shape), Value::Object(mut written)) => {
            let mut read = Map::new();
            for (name, field) in &shape.fields {
                let length = path.len();
                let (key, given) = match written.remove_entry(name) {
                    Some((key, given)) => (Some(key), Some(given)),
                    None => (None, None),
                };
                path.push('.');
                path.push_str(name);
                let given = match (given, &field.zero) {
                    (None | Some(Value::Null), Some(zero)) => Some(zero.clone()),
                    (Some(Value::Null), None) if shape.typed => None,
                    (given, _) => given,
                };
                if let Some(given) = given {
                    let given = value(&field.shape, given, shape.typed, path)?;
                    // An empty list of managers asks to forget them.
                    let dropped = name != "managedFields"
                        && shape.typed
                        && field.zero.is_none()
                        && is_dropped(&given, field.omit_zero, &field.shape);
                    if !dropped {
                        read.insert(key.unwrap_or_else(|| name.clone()), given);
                    }
                }
                path.truncate(length);
            }
            Ok(Value::Object(read))
        }
        (Shape::Map { value: shape, .. }, Value::Object(written)) => {
            let mut read = Map::new();
            for (name, written) in written {
                let length = path.len();
                path.push('.');
                path.push_str(&name);
                let mut given = value(shape, written, typed, path)?;
                if given.is_null() && matches!(**shape, Shape::Scalar(Scalar::String | Scalar::Bytes)) {
                    given = json!("");
                }
                read.insert(name, given);
                path.truncate(length);
            }
            Ok(Value::Object(read))
        }
        (Shape::List { item, .. }, Value::Array(written)) => written
            .into_iter()
            .map(|written| value(item, written, typed, path))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        (_, written) if !typed => Ok(written),
        (_, written) => Err(Unreadable { path: path.clone(), found: kind_of(&written) }),
    }
}

fn is_dropped(value: &Value, omit_zero: bool, shape: &Shape) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty() && matches!(shape, Shape::Map { .. }),
        Value::String(text) => omit_zero && text.is_empty(),
        Value::Number(number) => omit_zero && number.as_i64() == Some(0),
        Value::Bool(is) => omit_zero && !is,
    }
}

fn scalar(kind: Scalar, written: Value, path: &str) -> Result<Value, Unreadable> {
    let fits = match kind {
        Scalar::String => written.is_string(),
        Scalar::Bytes => written.as_str().is_some_and(is_base64),
        Scalar::Time | Scalar::MicroTime => {
            written.as_str().is_some_and(|text| text.parse::<k8s_openapi::jiff::Timestamp>().is_ok())
        }
        Scalar::Integer => written.is_i64() || written.is_u64(),
        Scalar::Number => written.is_number(),
        Scalar::Boolean => written.is_boolean(),
        Scalar::Quantity => {
            let text = match &written {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => String::new(),
            };
            return match quantity::canonical(&text) {
                Some(text) => Ok(Value::String(text)),
                None => Err(Unreadable { path: path.to_owned(), found: kind_of(&written) }),
            };
        }
        Scalar::IntOrString => written.is_string() || written.is_number(),
        Scalar::Any => true,
    };
    if fits { Ok(written) } else { Err(Unreadable { path: path.to_owned(), found: kind_of(&written) }) }
}

fn is_base64(text: &str) -> bool {
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
