//! A model of the Kubernetes API server, for the operator and everything around it in one process
//! and on simulated time. Nothing in it depends on a clock, on chance or on the order of a hash map.

mod admission;
mod defaults;
mod deletion;
mod endpoint;
mod fields;
mod kinds;
mod managed_fields;
mod normal;
mod patch;
mod quantity;
mod reads;
mod request;
mod scale;
mod schema;
mod selector;
mod status;
mod store;
mod strategy;
#[cfg(test)]
mod tests;
mod typed;
mod validation;
mod watch;
mod writes;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use self::{
    deletion::Deletion,
    store::Store,
    writes::{Target, Writes},
};
pub use self::{
    endpoint::Endpoint,
    kinds::Kind,
    status::Status,
    store::{Caller, Change, Event, Snapshot},
};

/// Request extension: this read (GET, LIST, start of a WATCH) is answered as of so many revisions ago,
/// as by an API server that lags.
#[derive(Clone, Copy, Debug)]
pub struct Behind(pub u64);

/// A handle to one API server.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

/// What all handles and watches have in common.
struct Shared {
    store: Mutex<Store>,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    changes: tokio::sync::watch::Sender<u64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a write, and wakes the watches when it made a revision.
    fn write<T>(&self, write: impl FnOnce(&mut Writes<'_>) -> T) -> T {
        let now = (self.now)();
        let mut store = self.lock();
        let before = store.revision();
        let outcome = write(&mut Writes { store: &mut store, now });
        let after = store.revision();
        drop(store);
        if before != after {
            self.wake();
        }
        outcome
    }

    fn wake(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl ApiServer {
    /// An API server without objects, on this clock.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let shared = Shared {
            store: Mutex::default(),
            now: Box::new(now),
            changes: tokio::sync::watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Its HTTP side.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { shared: Arc::clone(&self.shared) }
    }

    /// The objects of a kind, sorted by namespace and name.
    #[must_use]
    pub fn list(&self, kind: Kind) -> Vec<Arc<Value>> {
        let store = self.shared.lock();
        store.list(kind, None, store.revision()).iter().map(|stored| Arc::clone(&stored.object)).collect()
    }

    /// One object.
    #[must_use]
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        self.shared.lock().get(&key).map(|stored| Arc::clone(&stored.object))
    }

    /// Creates an object, as POST does.
    ///
    /// # Errors
    /// The API server's refusal.
    pub fn create(&self, manager: &str, object: Value) -> Result<Arc<Value>, Status> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = Kind::of(&text(&object["apiVersion"]), &text(&object["kind"]));
        let kind = kind.ok_or_else(Status::unknown_path)?;
        let target = target(manager, kind, &text(&object["metadata"]["namespace"]), "", None);
        let stored = self.shared.write(|writes| writes.create(&target, object, "create"))?;
        Ok(Arc::clone(&stored.object))
    }

    /// Changes an object or a subresource of it, as a PUT of what was just read does. A change that
    /// changes nothing makes no revision. Subresource `binding` may set a pod's `spec.nodeName`.
    ///
    /// # Errors
    /// The API server's refusal.
    pub fn update(
        &self,
        manager: &str,
        kind: Kind,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        change: impl FnOnce(&mut Value),
    ) -> Result<Arc<Value>, Status> {
        let target = target(manager, kind, namespace, name, subresource);
        let stored = self.shared.write(|writes| writes.change(&target, change))?;
        Ok(Arc::clone(&stored.object))
    }

    /// Deletes an object, with background propagation. Finalizers are respected, and so is the grace
    /// of a pod that is bound to a node: [`ApiServer::purge`] is its kubelet's word that it ended.
    ///
    /// # Errors
    /// The API server's refusal.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Result<(), Status> {
        let target = target("", kind, namespace, name, None);
        let deletion = Deletion { propagation: Some("Background".to_owned()), ..Deletion::default() };
        self.shared.write(|writes| writes.delete(&target, &deletion)).map(|_| ())
    }

    /// Removes an object at once, whatever holds it.
    pub fn purge(&self, kind: Kind, namespace: &str, name: &str) {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let caller = Caller { manager: String::new(), verb: "purge", subresource: String::new() };
        self.shared.write(|writes| writes.store.take(&key, caller));
    }

    /// The latest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.lock().revision()
    }

    /// Tells of each new revision.
    #[must_use]
    pub fn subscribe(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Everything that happened after a revision.
    #[must_use]
    pub fn events_since(&self, revision: u64) -> Vec<Event> {
        self.shared.lock().since(revision).iter().map(|record| record.event.clone()).collect()
    }

    /// The contents of the store.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.lock().snapshot()
    }

    /// Restores the store, as etcd is restored: objects go back, the revision does too, and what was
    /// recorded since is forgotten. Watches break.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.shared.lock().restore(snapshot);
        self.shared.wake();
    }

    /// Forgets the past: watches and lists from before now are answered 410.
    pub fn compact(&self) {
        self.shared.lock().compact();
    }
}

fn target(manager: &str, kind: Kind, namespace: &str, name: &str, subresource: Option<&str>) -> Target {
    Target {
        key: (kind, namespace.to_owned(), name.to_owned()),
        subresource: subresource.unwrap_or_default().to_owned(),
        manager: manager.to_owned(),
    }
}
