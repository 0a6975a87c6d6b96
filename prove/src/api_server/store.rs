//! The objects, and the record of every change to them: watches, lists of the past and the players read it.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use axum::body::Bytes;
use serde_json::{Value, json};

use super::kinds::Kind;

/// What became of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is new.
    Added,
    /// It is another than before.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change.
#[derive(Clone, Debug)]
pub struct Event {
    /// The revision it made.
    pub revision: u64,
    /// The object's kind.
    pub kind: Kind,
    /// What became of it.
    pub change: Change,
    /// The object as it is now, or was last.
    pub object: Arc<Value>,
    /// Who wrote.
    pub caller: Caller,
}

/// Who writes, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The field manager.
    pub manager: String,
    /// `create`, `replace`, `patch`, `apply`, `update` (a player's), `delete` or `purge`.
    pub verb: &'static str,
    /// The subresource; empty for the object itself.
    pub subresource: String,
}

/// One version of an object, with what it looks like on the wire.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) object: Arc<Value>,
    whole: OnceLock<Bytes>,
    item: OnceLock<Bytes>,
    metadata: OnceLock<Bytes>,
}

/// What of an object is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// All of it.
    Whole,
    /// All of it, within a list: only there do built-in kinds leave out what they are.
    Item,
    /// Its metadata.
    Metadata,
}

impl Stored {
    pub(super) fn new(object: Arc<Value>) -> Self {
        Self { object, whole: OnceLock::new(), item: OnceLock::new(), metadata: OnceLock::new() }
    }

    /// The object as JSON.
    pub(super) fn bytes(&self, form: Form) -> &Bytes {
        match form {
            Form::Whole => self.whole.get_or_init(|| Bytes::from(self.object.to_string())),
            Form::Item => self.item.get_or_init(|| {
                let mut object = Value::clone(&self.object);
                if let Some(object) = object.as_object_mut()
                    && object["kind"] != Kind::AuthService.name()
                {
                    object.remove("apiVersion");
                    object.remove("kind");
                }
                Bytes::from(object.to_string())
            }),
            Form::Metadata => self.metadata.get_or_init(|| {
                let head = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;
                Bytes::from(format!("{head}{}}}", self.object["metadata"]))
            }),
        }
    }
}

/// A change, with the object before it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) event: Event,
    pub(super) before: Option<Arc<Stored>>,
    pub(super) after: Arc<Stored>,
}

/// Kind, namespace and name.
pub(super) type Key = (Kind, String, String);
pub(super) type Objects = BTreeMap<Key, Arc<Stored>>;

/// The contents at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    objects: Objects,
    revision: u64,
    /// Uids are never drawn twice, not even after a restore.
    drawn: u64,
}

/// All objects.
#[derive(Debug)]
pub(super) struct Store {
    objects: Objects,
    log: Vec<Record>,
    revision: u64,
    compacted: u64,
    restores: u64,
    drawn: u64,
}

impl Default for Store {
    fn default() -> Self {
        // etcd's first revision.
        Self { objects: Objects::new(), log: Vec::new(), revision: 1, compacted: 0, restores: 0, drawn: 0 }
    }
}

impl Store {
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.objects.get(key)
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest revision that a watch may start from.
    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// How often the contents were replaced; a watch ends when it happens.
    pub(super) fn restores(&self) -> u64 {
        self.restores
    }

    /// A number that was never drawn before.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// Writes an object under the next revision.
    pub(super) fn put(&mut self, key: Key, mut object: Value, caller: Caller) -> Arc<Stored> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let stored = Arc::new(Stored::new(Arc::new(object)));
        let kind = key.0;
        let before = self.objects.insert(key, Arc::clone(&stored));
        let change = if before.is_some() { Change::Modified } else { Change::Added };
        self.record(kind, change, before, &stored, caller);
        stored
    }

    /// Takes an object out under the next revision, as it was stored.
    pub(super) fn take(&mut self, key: &Key, caller: Caller) -> Option<Arc<Stored>> {
        let before = self.objects.remove(key)?;
        self.revision += 1;
        let mut object = Value::clone(&before.object);
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let stored = Arc::new(Stored::new(Arc::new(object)));
        self.record(key.0, Change::Deleted, Some(before), &stored, caller);
        Some(stored)
    }

    fn record(
        &mut self,
        kind: Kind,
        change: Change,
        before: Option<Arc<Stored>>,
        after: &Arc<Stored>,
        caller: Caller,
    ) {
        let object = Arc::clone(&after.object);
        let event = Event { revision: self.revision, kind, change, object, caller };
        self.log.push(Record { event, before, after: Arc::clone(after) });
    }

    /// Whether nothing was written since an object was made.
    pub(super) fn is_new(&self, stored: &Arc<Stored>) -> bool {
        let version =
            stored.object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        let made = version.and_then(|version: u64| self.since(version - 1).first());
        made.is_some_and(|record| record.event.change == Change::Added)
    }

    /// The changes after a revision, in order.
    pub(super) fn since(&self, revision: u64) -> &[Record] {
        let start = self.log.partition_point(|record| record.event.revision <= revision);
        self.log.get(start..).unwrap_or_default()
    }

    /// The objects of a kind, in one namespace or in all, sorted, as they were at a revision.
    pub(super) fn list(&self, kind: Kind, namespace: Option<&str>, revision: u64) -> Vec<Arc<Stored>> {
        let start = (kind, namespace.unwrap_or_default().to_owned(), String::new());
        let within = |key: &Key| key.0 == kind && namespace.is_none_or(|namespace| key.1 == namespace);
        let now = self.objects.range(start..).take_while(|(key, _)| within(key));
        if revision >= self.revision {
            return now.map(|(_, stored)| Arc::clone(stored)).collect();
        }
        let mut then: BTreeMap<Key, Arc<Stored>> =
            now.map(|(key, stored)| (key.clone(), Arc::clone(stored))).collect();
        for record in self.since(revision).iter().rev() {
            let key = key_of(record.event.kind, &record.event.object);
            if within(&key) {
                match &record.before {
                    Some(before) => then.insert(key, Arc::clone(before)),
                    None => then.remove(&key),
                };
            }
        }
        then.into_values().collect()
    }

    /// An object as it was at a revision.
    pub(super) fn get_at(&self, key: &Key, revision: u64) -> Option<Arc<Stored>> {
        let later = self.since(revision).iter();
        let mut later = later.filter(|record| key_of(record.event.kind, &record.event.object) == *key);
        match later.next() {
            Some(first) => first.before.clone(),
            None => self.objects.get(key).cloned(),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { objects: self.objects.clone(), revision: self.revision, drawn: self.drawn }
    }

    /// Objects and revision go back; what was recorded since is forgotten.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        self.objects.clone_from(&snapshot.objects);
        self.revision = snapshot.revision;
        self.drawn = self.drawn.max(snapshot.drawn);
        self.compacted = self.compacted.min(self.revision);
        self.log.retain(|record| record.event.revision <= snapshot.revision);
        self.restores += 1;
    }

    pub(super) fn compact(&mut self) {
        self.compacted = self.revision;
    }
}

/// Where an object belongs.
pub(super) fn key_of(kind: Kind, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (kind, text("namespace"), text("name"))
}
