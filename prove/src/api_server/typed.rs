//! What objects have in common and what tells them apart, by the rules of server-side apply
//! (structured-merge-diff): compare, merge, the set of an object's fields, and taking fields out.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use serde_json::{Map, Value};

use super::{
    fields::Fields,
    schema::{By, Field, Scalar, Shape},
};

/// What tells two objects apart.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    pub(super) added: Fields,
    pub(super) removed: Fields,
    pub(super) modified: Fields,
}

impl Difference {
    /// Added or modified.
    pub(super) fn written(&self) -> Fields {
        let mut written = self.added.clone();
        written.union(&self.modified);
        written
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty()
    }

    fn put(&mut self, element: &str, below: Self) {
        self.added.put(|| element.to_owned(), below.added);
        self.removed.put(|| element.to_owned(), below.removed);
        self.modified.put(|| element.to_owned(), below.modified);
    }

    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut difference = Self::default();
        match (old, new) {
            (None, Some(_)) => difference.added.member = true,
            (Some(_), None) => difference.removed.member = true,
            (Some(old), Some(new)) => difference.modified.member = old != new,
            (None, None) => {}
        }
        difference
    }
}

/// An entry of a list, as a set of fields names it; `None` for one that lacks all of its keys.
fn element(item: &Value, shape: &Shape, by: &By) -> Option<String> {
    match by {
        By::Whole => None,
        By::Value => Some(format!("v:{item}")),
        By::Keys(keys) => {
            let entry = item.as_object()?;
            let mut text = "k:{".to_owned();
            for key in keys {
                let given = entry.get(key).map(Cow::Borrowed);
                let Some(value) = given.or_else(|| default_of(shape, key).map(Cow::Borrowed)) else {
                    continue;
                };
                if text.len() > 3 {
                    text.push(',');
                }
                let _ = write!(text, "\"{key}\":{value}");
            }
            (text.len() > 3).then(|| text + "}")
        }
    }
}

fn default_of<'a>(shape: &'a Shape, key: &str) -> Option<&'a Value> {
    let Shape::Struct(entry) = shape else { return None };
    entry.fields.get(key)?.default.as_ref()
}

fn is_void(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(object)) => object.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        _ => true,
    }
}

/// Whether a value of this shape is owned as a whole, these being its two versions.
fn is_leaf(shape: &Shape, old: Option<&Value>, new: Option<&Value>) -> bool {
    let atomic = match shape {
        Shape::Scalar(_) => true,
        Shape::Struct(fields) => fields.atomic,
        Shape::Map { atomic, .. } => *atomic,
        Shape::List { by, .. } => *by == By::Whole,
    };
    atomic || (is_void(old) && is_void(new))
}

/// The shape below a name.
fn below<'a>(shape: &'a Shape, name: &str) -> Option<&'a Shape> {
    match shape {
        Shape::Struct(fields) => fields.fields.get(name).map(|field: &Field| &field.shape),
        Shape::Map { value, .. } => Some(value),
        _ => None,
    }
}

/// What tells `new` from `old`.
pub(super) fn compare(shape: &Shape, old: Option<&Value>, new: Option<&Value>) -> Difference {
    if old == new {
        return Difference::default();
    }
    if is_leaf(shape, old, new) {
        return Difference::leaf(old, new);
    }
    let mut difference = Difference::default();
    if let Shape::List { item, by } = shape {
        compare_lists(item, by, old, new, &mut difference);
    } else {
        let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
        let empty = Map::new();
        let (old, new) = (old.unwrap_or(&empty), new.unwrap_or(&empty));
        let fresh = new.keys().filter(|name| !old.contains_key(*name));
        for name in old.keys().chain(fresh) {
            if let Some(shape) = below(shape, name) {
                let below = compare(shape, old.get(name), new.get(name));
                if !below.is_empty() {
                    difference.put(&format!("f:{name}"), below);
                }
            }
        }
    }
    difference.added.member = old.is_none();
    difference.removed.member = new.is_none();
    difference
}

/// The entries of a list, each with its name in sets of fields.
fn entries<'a>(shape: &Shape, by: &By, list: Option<&'a Value>) -> Vec<(String, &'a Value)> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Some((element(item, shape, by)?, item))).collect()
}

/// The entries of one name.
fn named<'a>(entries: &[(String, &'a Value)], name: &str) -> Vec<&'a Value> {
    entries.iter().filter(|(element, _)| element == name).map(|(_, item)| *item).collect()
}

fn compare_lists(
    shape: &Shape,
    by: &By,
    old: Option<&Value>,
    new: Option<&Value>,
    difference: &mut Difference,
) {
    let (old, new) = (entries(shape, by, old), entries(shape, by, new));
    let mut seen: Vec<&String> = Vec::new();
    for (element, _) in old.iter().chain(&new) {
        if seen.contains(&element) {
            continue;
        }
        seen.push(element);
        let (before, after) = (named(&old, element), named(&new, element));
        // Entries that are there more than once are one marker, and nothing below it.
        let below = match (&before[..], &after[..]) {
            ([] | [_], [] | [_]) => compare(shape, before.first().copied(), after.first().copied()),
            ([_, _, ..], [_, _, ..]) => {
                let mut below = Difference::default();
                below.modified.member = before != after;
                below
            }
            ([_, _, ..], _) => {
                let mut below =
                    after.first().map_or_else(Difference::default, |one| compare(shape, None, Some(one)));
                below.removed.member = true;
                below
            }
            (_, _) => {
                let mut below =
                    before.first().map_or_else(Difference::default, |one| compare(shape, Some(one), None));
                below.added.member = true;
                below
            }
        };
        difference.put(element, below);
    }
}

/// The fields of an object that its manager owns when it is applied.
pub(super) fn set_of(shape: &Shape, value: &Value) -> Fields {
    let mut fields = Fields::default();
    match shape {
        Shape::Scalar(_) | Shape::List { by: By::Whole, .. } | Shape::Map { atomic: true, .. } => {
            fields.member = true;
        }
        Shape::Struct(fields_) if fields_.atomic => fields.member = true,
        Shape::List { item, by } => {
            for entry in value.as_array().into_iter().flatten() {
                if let Some(element) = element(entry, item, by) {
                    let mut child = set_of(item, entry);
                    child.member = true;
                    fields.below.insert(element, child);
                }
            }
        }
        Shape::Struct(_) | Shape::Map { .. } => {
            for (name, value) in value.as_object().into_iter().flatten() {
                let Some(shape_) = below(shape, name) else { continue };
                let mut child = set_of(shape_, value);
                let hollow = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                child.member |= hollow || matches!(shape, Shape::Map { .. });
                fields.put(|| format!("f:{name}"), child);
            }
        }
    }
    fields
}

/// `live` with everything that `config` says.
pub(super) fn merge(shape: &Shape, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    if is_leaf(shape, live, config) {
        return config.or(live).cloned();
    }
    if let Shape::List { item, by } = shape {
        return merge_lists(item, by, live, config);
    }
    let empty = Map::new();
    let live = live.and_then(Value::as_object).unwrap_or(&empty);
    let config = config.and_then(Value::as_object).unwrap_or(&empty);
    let mut out = Map::new();
    let fresh = config.keys().filter(|name| !live.contains_key(*name));
    for name in live.keys().chain(fresh) {
        if let Some(shape) = below(shape, name)
            && let Some(value) = merge(shape, live.get(name), config.get(name))
        {
            out.insert(name.clone(), value);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// Entries of both keep the order of `config`; those of `live` alone keep their place among them.
fn merge_lists(shape: &Shape, by: &By, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let (left, right) = (entries(shape, by, live), entries(shape, by, config));
    // Entries that are there more than once are not merged.
    let find = |list: &[(String, &'_ Value)], name: &str| match named(list, name)[..] {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(Value::Null),
    };
    let has = |list: &[(String, &Value)], name: &str| list.iter().any(|(element, _)| element == name);
    let mut shared = right.iter().map(|(name, _)| name).filter(|name| has(&left, name));
    let mut next_shared = shared.next();
    let mut merged: Vec<&String> = Vec::new();
    let mut out = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((name, _)), Some((other, _))) = (left.get(l), right.get(r)) {
            if name == other {
                merged.push(name);
                out.extend(merge(shape, find(&left, name).as_ref(), find(&right, name).as_ref()));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if has(&right, name) && next_shared.is_some_and(|next| next != name) {
                l += 1;
                continue;
            }
        }
        if let Some((name, item)) = left.get(l) {
            if !has(&right, name) {
                out.extend(merge(shape, Some(item), None));
                l += 1;
                continue;
            } else if merged.contains(&name) {
                l += 1;
            }
        }
        if let Some((name, item)) = right.get(r) {
            merged.push(name);
            out.extend(merge(shape, find(&left, name).as_ref(), Some(item)));
            r += 1;
            if next_shared == Some(name) {
                next_shared = shared.next();
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

/// Whether an object is as its schema says; entries of a list may be there more than once.
pub(super) fn fits(shape: &Shape, value: &Value) -> bool {
    let mut faults = Faults { duplicates: true, all: Vec::new() };
    faults.collect(shape, value, &mut String::new());
    faults.all.is_empty()
}

/// Why an object cannot be applied; `None` for one that can.
pub(super) fn misread(shape: &Shape, config: &Value) -> Option<String> {
    let mut faults = Faults { duplicates: false, all: Vec::new() };
    faults.collect(shape, config, &mut String::new());
    match &faults.all[..] {
        [] => None,
        [one] => Some(one.clone()),
        all => Some(format!("errors:\n  {}", all.join("\n  "))),
    }
}

/// What does not fit a schema.
struct Faults {
    /// Whether entries of a list may be there more than once.
    duplicates: bool,
    all: Vec<String>,
}

impl Faults {
    fn collect(&mut self, shape: &Shape, value: &Value, at: &mut String) {
        match (shape, value) {
            (_, Value::Null) => {}
            (Shape::Struct(_) | Shape::Map { .. }, Value::Object(object)) => {
                let length = at.len();
                for (name, value) in object {
                    at.push('.');
                    at.push_str(name);
                    match below(shape, name) {
                        Some(shape) => self.collect(shape, value, at),
                        None => self.all.push(format!("{at}: field not declared in schema")),
                    }
                    at.truncate(length);
                }
            }
            (Shape::List { item, by }, Value::Array(items)) => self.collect_items(item, by, items, at),
            (Shape::Scalar(kind), value) => {
                let misfit = misfit(*kind, value);
                self.all.extend(misfit.map(|why| format!("{at}: {why}")));
            }
            (Shape::List { .. }, value) => self.all.push(format!("{at}: expected list, got {value}")),
            (_, value) => self.all.push(format!("{at}: expected map, got {value}")),
        }
    }

    fn collect_items(&mut self, item: &Shape, by: &By, items: &[Value], at: &mut String) {
        let length = at.len();
        let mut seen = Vec::new();
        for entry in items {
            let Some(element) = element(entry, item, by) else { continue };
            let shown = super::fields::shown(&element);
            if !self.duplicates && seen.contains(&element) {
                self.all.push(format!("{at}: duplicate entries for key {shown}"));
            }
            at.push_str(&shown);
            self.collect(item, entry, at);
            at.truncate(length);
            seen.push(element);
        }
    }
}

fn misfit(kind: Scalar, value: &Value) -> Option<String> {
    let (fits, wanted) = match kind {
        Scalar::String | Scalar::Bytes | Scalar::Time | Scalar::MicroTime => (value.is_string(), "string"),
        Scalar::Integer | Scalar::Number => (value.is_number(), "numeric (int or float)"),
        Scalar::Boolean => (value.is_boolean(), "boolean"),
        Scalar::Quantity | Scalar::IntOrString | Scalar::Any => return None,
    };
    let found = match value {
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
        Value::Number(_) | Value::Null => "number",
    };
    (!fits).then(|| format!("expected {wanted}, got {found}"))
}

/// `value` without the fields of a set; null when nothing is left.
pub(super) fn without(shape: &Shape, value: &Value, fields: &Fields) -> Value {
    match shape {
        Shape::Scalar(_) => value.clone(),
        Shape::List { by: By::Whole, .. } | Shape::Map { atomic: true, .. } => Value::Null,
        Shape::Struct(fields) if fields.atomic => Value::Null,
        Shape::List { item, by } => {
            let mut kept = Vec::new();
            for entry in value.as_array().into_iter().flatten() {
                let found = element(entry, item, by).and_then(|element| fields.below.get(&element));
                match found {
                    Some(found) if found.member => {}
                    Some(found) => kept.push(without(item, entry, found)),
                    None => kept.push(entry.clone()),
                }
            }
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        Shape::Struct(_) | Shape::Map { .. } => {
            let mut kept = Map::new();
            for (name, value) in value.as_object().into_iter().flatten() {
                let found = fields.below.get(&format!("f:{name}"));
                let value = match (found, below(shape, name)) {
                    (Some(found), _) if found.member => continue,
                    (Some(found), Some(shape)) => without(shape, value, found),
                    _ => value.clone(),
                };
                kept.insert(name.clone(), value);
            }
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
    }
}

/// The set with every named field that holds another of its fields.
pub(super) fn with_named(shape: Option<&Shape>, fields: &Fields) -> Fields {
    let mut named = Fields { member: fields.member, below: BTreeMap::new() };
    for (element, below_) in &fields.below {
        let (shape_, is_named) = match (shape, element.strip_prefix("f:")) {
            (Some(Shape::Struct(struct_)), Some(name)) => {
                let field = struct_.fields.get(name);
                (field.map(|field| &field.shape), field.is_some())
            }
            (Some(Shape::Map { value, .. }), Some(_)) => (Some(&**value), false),
            (Some(Shape::List { item, .. }), None) => (Some(&**item), false),
            _ => (None, false),
        };
        let mut child = with_named(shape_, below_);
        child.member |= is_named && !below_.below.is_empty();
        named.below.insert(element.clone(), child);
    }
    named
}
