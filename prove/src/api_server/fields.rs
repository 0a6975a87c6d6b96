//! Sets of fields, as `managedFields` writes them: `f:` names a field, `k:` an entry of a list by its
//! keys, `v:` an entry of a set, and `.` says that what holds the others is meant itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A field and what is below it. Whether the field itself is in the set is told apart from what is
/// below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// This one is in the set.
    pub(super) member: bool,
    /// What is below.
    pub(super) below: BTreeMap<String, Fields>,
}

impl Fields {
    /// A field with nothing below.
    pub(super) fn leaf() -> Self {
        Self { member: true, below: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    /// Adds what is not empty.
    pub(super) fn put(&mut self, element: impl FnOnce() -> String, fields: Fields) {
        if !fields.is_empty() {
            self.below.insert(element(), fields);
        }
    }

    /// The set that is written as a path of field names.
    pub(super) fn path(names: &[&str]) -> Self {
        names.iter().rev().fold(Self::leaf(), |below, name| Self {
            member: false,
            below: BTreeMap::from([(format!("f:{name}"), below)]),
        })
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.member |= other.member;
        for (element, fields) in &other.below {
            match self.below.get_mut(element) {
                Some(own) => own.union(fields),
                None => {
                    self.below.insert(element.clone(), fields.clone());
                }
            }
        }
    }

    /// Whether something is in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        (self.member && other.member)
            || other
                .below
                .iter()
                .any(|(element, fields)| self.below.get(element).is_some_and(|own| own.meets(fields)))
    }

    /// Takes the members of `other` out, and leaves what is below them.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        for (element, fields) in &other.below {
            if let Some(own) = self.below.get_mut(element) {
                own.subtract(fields);
                if own.is_empty() {
                    self.below.remove(element);
                }
            }
        }
    }

    /// Takes the members of `other` out, and all that is below them.
    pub(super) fn subtract_whole(&mut self, other: &Self) {
        if other.member {
            *self = Self::default();
            return;
        }
        for (element, fields) in &other.below {
            if let Some(own) = self.below.get_mut(element) {
                own.subtract_whole(fields);
                if own.is_empty() {
                    self.below.remove(element);
                }
            }
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { member: self.member && other.member, below: BTreeMap::new() };
        for (element, fields) in &self.below {
            if let Some(others) = other.below.get(element) {
                both.put(|| element.clone(), fields.intersection(others));
            }
        }
        both
    }

    /// Every member, as the API server writes paths in messages.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, at: &mut String, paths: &mut Vec<String>) {
        if self.member {
            paths.push(at.clone());
        }
        for (element, fields) in &self.below {
            let length = at.len();
            at.push_str(&shown(element));
            fields.collect_paths(at, paths);
            at.truncate(length);
        }
    }

    /// What `fieldsV1` says.
    pub(super) fn parse(value: &Value) -> Self {
        let mut fields = Self::default();
        for (element, below) in value.as_object().into_iter().flatten() {
            if element == "." {
                fields.member = true;
            } else {
                let mut child = Self::parse(below);
                child.member |= child.below.is_empty();
                fields.below.insert(element.clone(), child);
            }
        }
        fields
    }

    /// `fieldsV1`.
    pub(super) fn encode(&self) -> Value {
        let mut object = Map::new();
        if self.member && !self.below.is_empty() {
            object.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, fields) in &self.below {
            object.insert(element.clone(), fields.encode());
        }
        Value::Object(object)
    }
}

/// One step of a path, as in messages: `.spec`, `[name="a"]`, `[="v"]`.
pub(super) fn shown(element: &str) -> String {
    match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("k:", keys)) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v:", value)) => format!("[={value}]"),
        _ => element.to_owned(),
    }
}
