//! Who owns which field: `metadata.managedFields`, kept by every write, and asked by server-side apply.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{
    fields::Fields,
    kinds::Kind,
    schema::{self, Shape},
    status::Status,
    typed::{compare, fits, merge, set_of, with_named, without},
};

/// Who writes, and how: one entry of `managedFields`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) applies: bool,
    pub(super) subresource: String,
}

/// One entry.
#[derive(Debug, Clone)]
struct Entry {
    manager: Manager,
    time: String,
    fields: Fields,
    /// As it was read, as long as nothing of it changed.
    read: Option<Value>,
}

/// All entries of an object.
#[derive(Debug, Clone, Default)]
pub(super) struct Managers(Vec<Entry>);

/// Updates beyond this many are merged into the oldest.
const MAX_UPDATERS: usize = 10;

impl Managers {
    /// What `managedFields` say.
    fn read(entries: Option<Value>) -> Self {
        let mut managers = Self::default();
        let Some(Value::Array(entries)) = entries else { return managers };
        for entry in entries {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let manager = Manager {
                name: text("manager"),
                applies: entry["operation"] == "Apply",
                subresource: text("subresource"),
            };
            managers.put(manager, text("time"), Fields::parse(&entry["fieldsV1"]));
            if let Some(last) = managers.0.last_mut() {
                last.read = Some(entry);
            }
        }
        managers
    }

    /// What an object's `managedFields` say.
    fn of(object: &Value) -> Self {
        Self::read(object.pointer("/metadata/managedFields").cloned())
    }

    fn put(&mut self, manager: Manager, time: String, fields: Fields) {
        self.0.retain(|entry| entry.manager != manager);
        self.0.push(Entry { manager, time, fields, read: None });
    }

    fn get(&self, manager: &Manager) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.manager == *manager)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `managedFields`, in the order the API server writes them.
    fn encode(mut self, kind: Kind) -> Option<Value> {
        self.0.sort_by(|one, other| {
            let applies = other.manager.applies.cmp(&one.manager.applies);
            let named = |entry: &Entry| (entry.manager.name.clone(), entry.manager.subresource.clone());
            applies.then_with(|| one.time.cmp(&other.time)).then_with(|| named(one).cmp(&named(other)))
        });
        let entries: Vec<Value> = self.0.into_iter().map(|entry| entry.encode(kind)).collect();
        (!entries.is_empty()).then_some(Value::Array(entries))
    }

    /// Takes from all others what was written or removed.
    fn dispossess(&mut self, written: &Fields, removed: &Fields, except: Option<&Manager>) {
        for entry in self.0.iter_mut().filter(|entry| Some(&entry.manager) != except) {
            if entry.fields.meets(written) || entry.fields.meets(removed) {
                entry.fields.subtract(written);
                entry.fields.subtract(removed);
                entry.read = None;
            }
        }
        self.0.retain(|entry| !entry.fields.is_empty());
    }

    /// Entries of updates beyond the limit are merged, oldest first.
    fn cap(&mut self) {
        let mut updaters: Vec<Entry> =
            self.0.iter().filter(|entry| !entry.manager.applies).cloned().collect();
        if updaters.len() <= MAX_UPDATERS {
            return;
        }
        updaters
            .sort_by(|one, other| (&one.time, &one.manager.name).cmp(&(&other.time, &other.manager.name)));
        let surplus = updaters.len() - MAX_UPDATERS;
        let oldest = &updaters[..=surplus];
        let bucket =
            Manager { name: "ancient-changes".to_owned(), applies: false, subresource: String::new() };
        let mut fields = Fields::default();
        for entry in oldest {
            fields.union(&entry.fields);
        }
        let time = oldest.last().map(|entry| entry.time.clone()).unwrap_or_default();
        self.0.retain(|entry| !oldest.iter().any(|old| old.manager == entry.manager));
        self.put(bucket, time, fields);
    }
}

impl Entry {
    fn encode(self, kind: Kind) -> Value {
        if let Some(read) = self.read.filter(|read| read["apiVersion"] == kind.api_version()) {
            return read;
        }
        let mut written = json!({
            "manager": self.manager.name,
            "operation": if self.manager.applies { "Apply" } else { "Update" },
            "apiVersion": kind.api_version(),
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.encode(),
        });
        if !self.time.is_empty() {
            written["time"] = json!(self.time);
        }
        if !self.manager.subresource.is_empty() {
            written["subresource"] = json!(self.manager.subresource);
        }
        written
    }
}

/// What the write path leaves out of the account: an endpoint does not own what it does not write.
fn ignored(kind: Kind, subresource: &str) -> Fields {
    let paths: &[&[&str]] = match (kind, subresource) {
        (kind, "") if kind.has_status() => &[&["status"]],
        (Kind::AuthService, "status") => &[&["metadata"], &["spec"]],
        (Kind::Deployment, "status") => &[&["metadata", "labels"], &["spec"]],
        (Kind::Pod, "status") => {
            &[&["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"], &["spec"]]
        }
        (_, "status") => &[&["spec"]],
        _ => &[],
    };
    let mut ignored = Fields::default();
    for path in paths {
        ignored.union(&Fields::path(path));
    }
    ignored
}

/// What every object has and nobody owns.
static NEVER_OWNED: LazyLock<Fields> = LazyLock::new(|| {
    let mut fields = Fields::path(&["apiVersion"]);
    fields.union(&Fields::path(&["kind"]));
    fields.union(&Fields::path(&["metadata"]));
    for field in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        fields.union(&Fields::path(&["metadata", field]));
    }
    fields
});

/// Brings the `managedFields` of an object that was written as a whole up to date.
/// `live` is the object before it, and before a creation what Go writes for an empty one.
pub(super) fn update(kind: Kind, live: &Value, new: &mut Value, manager: &Manager, now: &str) {
    let creates = live.pointer("/metadata/uid").is_none();
    let given = strip(new);
    let list = given.as_ref().and_then(Value::as_array).map(Vec::as_slice);
    let reset = match list {
        // Custom resources cannot tell an empty list from none.
        Some([]) => kind != Kind::AuthService,
        Some([only]) => only.as_object().is_some_and(Object::is_empty),
        _ => false,
    };
    let mut managers = match (manager.subresource.as_str(), reset) {
        ("", true) => Managers::default(),
        ("", false) => Some(Managers::read(given))
            .filter(|given| !given.is_empty())
            .unwrap_or_else(|| Managers::of(live)),
        _ => Managers::of(live),
    };
    if managers.is_empty() && !creates {
        return;
    }
    // What does not fit the schema cannot be accounted for.
    if kind == Kind::AuthService && !fits(schema::of(kind), new) {
        attach(new, live.pointer("/metadata/managedFields").cloned());
        return;
    }
    track(kind, live, new, manager, now, &mut managers);
    managers.cap();
    attach(new, managers.encode(kind));
}

fn track(kind: Kind, live: &Value, new: &Value, manager: &Manager, now: &str, managers: &mut Managers) {
    let shape = schema::of(kind);
    // The managers that `new` lacks belong to nobody.
    let mut difference = compare(shape, Some(live), Some(new));
    let ignored = ignored(kind, &manager.subresource);
    let mut own = difference.written();
    for fields in [&mut difference.added, &mut difference.removed, &mut difference.modified] {
        fields.subtract_whole(&ignored);
    }
    own.subtract_whole(&ignored);
    managers.dispossess(&own, &difference.removed, None);
    own.subtract(&NEVER_OWNED);
    if own.is_empty() {
        return;
    }
    if let Some(before) = managers.get(manager) {
        own.union(&before.fields);
    }
    managers.put(manager.clone(), now.to_owned(), own);
}

/// Applies `config` to the live object: the object that is to be written, with its `managedFields`.
pub(super) fn apply(
    kind: Kind,
    live: &Value,
    config: &Value,
    manager: &Manager,
    force: bool,
    now: &str,
) -> Result<Value, Status> {
    let shape = schema::of(kind);
    let mut live = live.clone();
    let mut managers = Managers::read(strip(&mut live));
    if managers.is_empty() {
        let unknown =
            Manager { name: "before-first-apply".to_owned(), applies: false, subresource: String::new() };
        track(kind, &super::normal::empty(kind), &live, &unknown, now, &mut managers);
    }
    let merged = merge(shape, Some(&live), Some(config)).unwrap_or_default();
    let ignored = ignored(kind, &manager.subresource);
    let mut own = set_of(shape, config);
    own.subtract_whole(&ignored);
    let last = managers.get(manager).cloned();
    managers.put(manager.clone(), String::new(), own);
    let mut object = match &last {
        Some(last) => prune(shape, merged, &last.fields, &managers),
        None => merged,
    };
    let mut difference = compare(shape, Some(&live), Some(&object));
    let changed = live != object;
    for fields in [&mut difference.added, &mut difference.removed, &mut difference.modified] {
        fields.subtract_whole(&ignored);
    }
    let written = difference.written();
    if !force {
        refuse_conflicts(&managers, &written, manager, kind)?;
    }
    managers.dispossess(&written, &difference.removed, Some(manager));
    let mut own = managers.get(manager).map(|entry| entry.fields.clone()).unwrap_or_default();
    own.subtract(&NEVER_OWNED);
    // A manager that only joins has no time.
    let time = if changed { now.to_owned() } else { last.map_or_else(String::new, |last| last.time) };
    managers.0.retain(|entry| entry.manager != *manager);
    if !own.is_empty() {
        managers.put(manager.clone(), time, own);
    }
    attach(&mut object, managers.encode(kind));
    Ok(object)
}

fn refuse_conflicts(
    managers: &Managers,
    written: &Fields,
    manager: &Manager,
    kind: Kind,
) -> Result<(), Status> {
    let mut conflicts = Vec::new();
    for entry in managers.0.iter().filter(|entry| entry.manager != *manager) {
        for path in entry.fields.intersection(written).paths() {
            conflicts.push((shown(entry, kind), path));
        }
    }
    if conflicts.is_empty() { Ok(()) } else { Err(Status::apply_conflict(&conflicts)) }
}

/// A manager, as messages of conflicts name it.
fn shown(entry: &Entry, kind: Kind) -> String {
    let name = format!("\"{}\"", entry.manager.name);
    let subresource = match entry.manager.subresource.as_str() {
        "" => String::new(),
        subresource => format!(" with subresource \"{subresource}\""),
    };
    if entry.manager.applies {
        return format!("{name}{subresource}");
    }
    format!("{name}{subresource} using {}", kind.api_version())
}

/// Takes out what this manager applied last time, and neither it nor anybody else owns now.
fn prune(shape: &Shape, merged: Value, last: &Fields, managers: &Managers) -> Value {
    let mut owned = Fields::default();
    for entry in &managers.0 {
        owned.union(&entry.fields);
    }
    let mut released = last.clone();
    released.subtract(&owned);
    if released.is_empty() {
        return merged;
    }
    let named = |fields: &Fields| with_named(Some(shape), fields);
    let last = named(last);
    let pruned = without(shape, &merged, &last);
    let all = named(&set_of(shape, &merged));
    let mut kept = named(&set_of(shape, &pruned));
    kept.union(&named(&owned));
    let mut gone = all.clone();
    gone.subtract(&kept);
    let pruned = without(shape, &merged, &gone);
    let mut gone = all;
    gone.subtract(&named(&set_of(shape, &pruned)));
    without(shape, &merged, &gone.intersection(&last))
}

/// Takes the entries off an object.
fn strip(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

fn attach(object: &mut Value, entries: Option<Value>) {
    if let Some(entries) = entries {
        object["metadata"]["managedFields"] = entries;
    }
}

/// Brings the `managedFields` up to date after a write of replicas alone, whose account is kept in terms
/// of a `Scale`. On the way there and back every update entry loses its hold on the replicas to an
/// entry of its own, which has no time.
pub(super) fn scaled(kind: Kind, live: &Value, new: &mut Value, manager: &Manager) {
    let path = Fields::path(&["spec", "replicas"]);
    let mut managers = Managers::of(live);
    let owns = |entry: &Entry| !entry.fields.intersection(&path).is_empty();
    let mut owners: Vec<Manager> =
        managers.0.iter().filter(|entry| owns(entry)).map(|entry| entry.manager.clone()).collect();
    if live["spec"]["replicas"] != new["spec"]["replicas"] && !owners.is_empty() {
        // No replicas are none that a `Scale` could have an owner of.
        let none = new["spec"]["replicas"] == 0;
        owners = if none { Vec::new() } else { vec![manager.clone()] };
    }
    for entry in managers.0.iter_mut().filter(|entry| owns(entry)) {
        let kept = owners.iter().position(|owner| *owner == entry.manager && owner.applies);
        if let Some(kept) = kept {
            owners.remove(kept);
        } else {
            entry.fields.subtract(&path);
            entry.read = None;
        }
    }
    managers.0.retain(|entry| !entry.fields.is_empty());
    managers.0.extend(owners.into_iter().map(|manager| Entry {
        manager,
        time: String::new(),
        fields: path.clone(),
        read: None,
    }));
    strip(new);
    attach(new, managers.encode(kind));
}

/// Whether two objects differ in more than the times of `managedFields`.
pub(super) fn differ(one: &Value, other: &Value) -> bool {
    if one == other {
        return false;
    }
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return true };
    let same_but = |one: &Object, other: &Object, except: &str| {
        let rest = |object: &'_ Object| object.len() - usize::from(object.contains_key(except));
        let mut rest_of = one.iter().filter(|(field, _)| *field != except);
        rest(one) == rest(other) && rest_of.all(|(field, value)| other.get(field) == Some(value))
    };
    let none = Object::new();
    let (own, others) = (metadata_of(one, &none), metadata_of(other, &none));
    if !same_but(one, other, "metadata") || !same_but(own, others, "managedFields") {
        return true;
    }
    let (own, others) = (entries_of(own), entries_of(others));
    let same = |(one, other): (&Value, &Value)| match (one.as_object(), other.as_object()) {
        (Some(one), Some(other)) => same_but(one, other, "time"),
        _ => one == other,
    };
    own.len() != others.len() || !own.iter().zip(others).all(same)
}

type Object = serde_json::Map<String, Value>;

fn metadata_of<'a>(object: &'a Object, none: &'a Object) -> &'a Object {
    object.get("metadata").and_then(Value::as_object).unwrap_or(none)
}

fn entries_of(metadata: &Object) -> &[Value] {
    metadata.get("managedFields").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
