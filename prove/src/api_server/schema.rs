//! What the objects look like: which fields there are, which lists are sets or maps, and what Go
//! writes for a field that is not set. Of Kubernetes' own kinds the API server's `OpenAPI` document and
//! Go's types say so (`schema.json`), of ours its definition.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use authservice::api::AuthService;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::kinds::Kind;

/// The shape of a value.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// One value, whatever it is made of.
    Scalar(Scalar),
    /// Named fields.
    Struct(Arc<Struct>),
    /// Free keys.
    Map {
        /// Of each value.
        value: Box<Shape>,
        /// Owned as a whole.
        atomic: bool,
    },
    /// A list.
    List {
        /// Of each entry.
        item: Box<Shape>,
        /// What tells entries apart.
        by: By,
    },
}

/// What tells the entries of a list apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum By {
    /// Nothing: the list is owned as a whole.
    Whole,
    /// Their value.
    Value,
    /// These fields of theirs.
    Keys(Vec<String>),
}

/// The kinds of scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    /// Text.
    String,
    /// Base64.
    Bytes,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// An amount, which has a canonical form.
    Quantity,
    /// A number or a text.
    IntOrString,
    /// A time in whole seconds.
    Time,
    /// A time in microseconds.
    MicroTime,
    /// Anything.
    Any,
}

/// A type with named fields.
#[derive(Debug, Default)]
pub(super) struct Struct {
    /// By name.
    pub(super) fields: BTreeMap<String, Field>,
    /// Owned as a whole.
    pub(super) atomic: bool,
    /// Written by Go's types, which drop what is empty.
    pub(super) typed: bool,
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    /// Its shape.
    pub(super) shape: Shape,
    /// What is written when it is not set.
    pub(super) zero: Option<Value>,
    /// Whether a zero is not written.
    pub(super) omit_zero: bool,
    /// The schema's default.
    pub(super) default: Option<Value>,
    /// Whether null is a value (the definition's word).
    pub(super) nullable: bool,
}

impl Field {
    fn new(shape: Shape) -> Self {
        Self { shape, zero: None, omit_zero: false, default: None, nullable: false }
    }
}

/// The shape of a kind's objects.
pub(super) fn of(kind: Kind) -> &'static Shape {
    &SHAPES[&kind]
}

/// The `openAPIV3Schema` of the `AuthService`.
pub(super) fn definition() -> &'static Value {
    &DEFINITION
}

static DEFINITION: LazyLock<Value> = LazyLock::new(|| {
    let definition = serde_json::to_value(AuthService::crd()).unwrap_or_default();
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default()
});

static SHAPES: LazyLock<HashMap<Kind, Shape>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(include_str!("schema.json")).unwrap_or_default();
    let mut types = Types { document: &document["types"], known: HashMap::new() };
    let metadata = types.named("meta.v1.ObjectMeta");
    Kind::ALL
        .into_iter()
        .map(|kind| match document["kinds"][kind.name()].as_str() {
            Some(name) => (kind, types.named(name)),
            None => (kind, custom_root(metadata.clone())),
        })
        .collect()
});

/// Reads `schema.json`.
struct Types<'a> {
    document: &'a Value,
    known: HashMap<String, Arc<Struct>>,
}

impl Types<'_> {
    fn named(&mut self, name: &str) -> Shape {
        if let Some(known) = self.known.get(name) {
            return Shape::Struct(Arc::clone(known));
        }
        let written = &self.document[name];
        let mut fields = BTreeMap::new();
        for (field, written) in written["fields"].as_object().into_iter().flatten() {
            fields.insert(field.clone(), self.field(written));
        }
        let made = Arc::new(Struct { fields, atomic: written["atomic"] == true, typed: true });
        self.known.insert(name.to_owned(), Arc::clone(&made));
        Shape::Struct(made)
    }

    fn field(&mut self, written: &Value) -> Field {
        let Some(shape) = written.get("type") else { return Field::new(self.shape(written)) };
        Field {
            zero: written.get("zero").cloned(),
            omit_zero: written["omitZero"] == true,
            default: written.get("default").cloned(),
            ..Field::new(self.shape(shape))
        }
    }

    fn shape(&mut self, written: &Value) -> Shape {
        if let Some(name) = written.as_str() {
            return match scalar(name) {
                Some(scalar) => Shape::Scalar(scalar),
                None => self.named(name),
            };
        }
        if let Some(item) = written.get("list") {
            let by = match written["keys"].as_array() {
                Some(keys) => By::Keys(keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
                None if written["set"] == true => By::Value,
                None => By::Whole,
            };
            return Shape::List { item: Box::new(self.shape(item)), by };
        }
        let value = written.get("map").map_or(Shape::Scalar(Scalar::Any), |value| self.shape(value));
        Shape::Map { value: Box::new(value), atomic: written["atomic"] == true }
    }
}

fn scalar(name: &str) -> Option<Scalar> {
    Some(match name {
        "string" => Scalar::String,
        "bytes" => Scalar::Bytes,
        "integer" => Scalar::Integer,
        "number" => Scalar::Number,
        "boolean" => Scalar::Boolean,
        "quantity" => Scalar::Quantity,
        "intOrString" => Scalar::IntOrString,
        "time" => Scalar::Time,
        "microTime" => Scalar::MicroTime,
        "any" => Scalar::Any,
        _ => return None,
    })
}

fn custom_root(metadata: Shape) -> Shape {
    let Shape::Struct(root) = custom(&DEFINITION) else { return metadata };
    let mut fields: BTreeMap<String, Field> =
        Arc::into_inner(root).map(|root| root.fields).unwrap_or_default();
    fields.insert("metadata".to_owned(), Field { zero: Some(json!({})), ..Field::new(metadata) });
    for name in ["apiVersion", "kind"] {
        fields.insert(name.to_owned(), Field::new(Shape::Scalar(Scalar::String)));
    }
    Shape::Struct(Arc::new(Struct { fields, atomic: false, typed: false }))
}

/// The shape that a part of a definition describes.
fn custom(written: &Value) -> Shape {
    let int_or_string = written["x-kubernetes-int-or-string"] == true;
    match written["type"].as_str() {
        _ if int_or_string => Shape::Scalar(Scalar::IntOrString),
        Some("object") => match written.get("additionalProperties") {
            Some(value) => Shape::Map {
                value: Box::new(custom(value)),
                atomic: written["x-kubernetes-map-type"] == "atomic",
            },
            None => custom_struct(written),
        },
        Some("array") => {
            let by = match written["x-kubernetes-list-type"].as_str() {
                Some("map") => By::Keys(
                    written["x-kubernetes-list-map-keys"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(Value::as_str)
                        .map(str::to_owned)
                        .collect(),
                ),
                Some("set") => By::Value,
                _ => By::Whole,
            };
            Shape::List { item: Box::new(custom(&written["items"])), by }
        }
        Some(name) => Shape::Scalar(scalar(name).unwrap_or(Scalar::Any)),
        None => Shape::Scalar(Scalar::Any),
    }
}

fn custom_struct(written: &Value) -> Shape {
    let field = |written: &Value| Field {
        default: written.get("default").cloned(),
        nullable: written["nullable"] == true,
        ..Field::new(custom(written))
    };
    let fields = written["properties"].as_object().into_iter().flatten();
    let fields = fields.map(|(name, written)| (name.clone(), field(written))).collect();
    Shape::Struct(Arc::new(Struct {
        fields,
        atomic: written["x-kubernetes-map-type"] == "atomic",
        typed: false,
    }))
}
