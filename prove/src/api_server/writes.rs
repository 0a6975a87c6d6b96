//! Every write: what is refused, what is kept, and what becomes of the object.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    admission, defaults,
    kinds::Kind,
    managed_fields::{self, Manager},
    normal,
    patch::Patch,
    scale, schema,
    status::Status,
    store::{Caller, Key, Store, Stored, key_of},
    strategy, typed, validation,
};

/// Who writes what.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) key: Key,
    pub(super) subresource: String,
    pub(super) manager: String,
}

impl Target {
    fn kind(&self) -> Kind {
        self.key.0
    }

    fn name(&self) -> &str {
        &self.key.2
    }

    fn manager(&self, applies: bool) -> Manager {
        Manager { name: self.manager.clone(), applies, subresource: self.subresource.clone() }
    }

    fn caller(&self, verb: &'static str) -> Caller {
        Caller { manager: self.manager.clone(), verb, subresource: self.subresource.clone() }
    }
}

/// What a deletion asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct Deletion {
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) propagation: Option<String>,
    pub(super) grace_seconds: Option<i64>,
}

/// What became of a deletion.
#[derive(Debug)]
pub(super) enum Deleted {
    /// It is gone.
    Gone(Arc<Stored>),
    /// It is being deleted.
    Marked(Arc<Stored>),
}

/// The store at one moment.
pub(super) struct Writes<'a> {
    pub(super) store: &'a mut Store,
    pub(super) now: Timestamp,
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

impl Writes<'_> {
    fn time(&self) -> String {
        rfc3339(self.now)
    }

    /// POST.
    pub(super) fn create(
        &mut self,
        target: &Target,
        body: Value,
        verb: &'static str,
    ) -> Result<Arc<Stored>, Status> {
        let kind = target.kind();
        let mut object = read(kind, body)?;
        let given = object["metadata"]["namespace"].as_str().unwrap_or_default();
        if !given.is_empty() && given != target.key.1 {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        object["metadata"]["namespace"] = json!(target.key.1);
        self.insert(target, object, verb, true)
    }

    /// A complete object that is new; its managers are counted unless an apply has done so.
    fn insert(
        &mut self,
        target: &Target,
        mut object: Value,
        verb: &'static str,
        track: bool,
    ) -> Result<Arc<Stored>, Status> {
        let kind = target.kind();
        if track {
            let empty = normal::empty(kind);
            managed_fields::update(kind, &empty, &mut object, &target.manager(false), &self.time());
        }
        admission::mutate(kind, &mut object);
        let uid = uid(self.store.draw());
        self.name(&mut object);
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["creationTimestamp"] = json!(self.time());
        let versioned =
            object["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty());
        strategy::for_create(kind, &mut object, self.store);
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let causes = validation::created(kind, &object);
        if !causes.is_empty() {
            return Err(Status::invalid(kind, &name, &causes));
        }
        if versioned && verb == "create" {
            return Err(Status::versioned());
        }
        let key = key_of(kind, &object);
        if let Some(taken) = self.store.get(&key) {
            let deleted = taken.object["metadata"].get("deletionTimestamp").is_some();
            let status = if deleted { Status::still_exists } else { Status::already_exists };
            return Err(status(kind, &name));
        }
        Ok(self.store.put(key, object, target.caller(verb)))
    }

    fn name(&mut self, object: &mut Value) {
        let metadata = &mut object["metadata"];
        let named = metadata["name"].as_str().is_some_and(|name| !name.is_empty());
        if let (false, Some(base)) = (named, metadata["generateName"].as_str()) {
            metadata["name"] = json!(format!("{base}{}", suffix(self.store.draw())));
        }
    }

    /// PUT.
    pub(super) fn replace(
        &mut self,
        target: &Target,
        body: Value,
        verb: &'static str,
    ) -> Result<Arc<Stored>, Status> {
        let kind = target.kind();
        let mut object = read(kind, body)?;
        let metadata = &object["metadata"];
        if metadata["name"].as_str().unwrap_or_default() != target.name() {
            let given = metadata["name"].as_str().unwrap_or_default();
            let url = target.name();
            let words = if given.is_empty() {
                "name must be provided".to_owned()
            } else {
                format!("the name of the object ({given}) does not match the name on the URL ({url})")
            };
            return Err(Status::bad_request(words));
        }
        let given = metadata["namespace"].as_str().unwrap_or_default();
        if !given.is_empty() && given != target.key.1 {
            return Err(Status::bad_request(format!(
                "the namespace of the object ({given}) does not match the namespace on the request ({})",
                target.key.1
            )));
        }
        object["metadata"]["namespace"] = json!(target.key.1);
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let live = self.store.get(&target.key).cloned();
        if !uid.is_empty() {
            let found = live.as_ref().map(|live| live.object["metadata"]["uid"].as_str().unwrap_or_default());
            if found != Some(&*uid) {
                if live.is_none() && !strategy::creates_on_update(kind) {
                    return Err(Status::not_found(kind, target.name()));
                }
                return Err(wrong_uid(target, &uid, found.unwrap_or_default()));
            }
        }
        let Some(live) = live else {
            if !strategy::creates_on_update(kind) || !target.subresource.is_empty() {
                return Err(Status::not_found(kind, target.name()));
            }
            return self.insert(target, object, verb, true);
        };
        let given = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if given.is_empty() && !strategy::allows_unconditional(kind) {
            return Err(Status::unversioned(kind, target.name()));
        }
        self.overwrite(target, &live, object, verb, true)
    }

    /// A patch that is no apply.
    pub(super) fn patch(&mut self, target: &Target, patch: &Patch) -> Result<Arc<Stored>, Status> {
        let kind = target.kind();
        let live = self.live(target)?;
        let object = read(kind, patch.on(&live.object)?)?;
        self.overwrite(target, &live, object, "patch", true)
    }

    /// A player's change.
    pub(super) fn change(
        &mut self,
        target: &Target,
        change: impl FnOnce(&mut Value),
    ) -> Result<Arc<Stored>, Status> {
        let kind = target.kind();
        let live = self.live(target)?;
        let mut object = Value::clone(&live.object);
        change(&mut object);
        let object = read(kind, object)?;
        self.overwrite(target, &live, object, "update", true)
    }

    /// A change of replicas alone.
    pub(super) fn scale(
        &mut self,
        target: &Target,
        change: impl FnOnce(&Value) -> Result<Value, Status>,
    ) -> Result<Arc<Stored>, Status> {
        let live = self.live(target)?;
        let scale = change(&scale::of(&live.object))?;
        let mut object = read(target.kind(), scale::onto(&live.object, &scale))?;
        managed_fields::scaled(target.kind(), &live.object, &mut object, &target.manager(false));
        self.overwrite(target, &live, object, "patch", false)
    }

    /// A pod's node, once.
    pub(super) fn bind(&mut self, target: &Target, binding: &Value) -> Result<Arc<Stored>, Status> {
        let live = self.live(target)?;
        let node = binding["target"]["name"].clone();
        let bound = live.object["spec"]["nodeName"].as_str().unwrap_or_default();
        if !bound.is_empty() {
            let why = format!("pod {} is already assigned to node \"{bound}\"", target.name());
            return Err(Status::conflict(target.kind(), target.name(), &why));
        }
        let time = self.time();
        self.change(target, |pod| {
            pod["spec"]["nodeName"] = node;
            let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": time});
            match pod["status"]["conditions"].as_array_mut() {
                Some(conditions) => conditions.push(scheduled),
                None => pod["status"]["conditions"] = json!([scheduled]),
            }
        })
    }

    /// A server-side apply.
    pub(super) fn apply(
        &mut self,
        target: &Target,
        config: Value,
        force: bool,
    ) -> Result<Arc<Stored>, Status> {
        let kind = target.kind();
        let config = checked_config(target, config)?;
        let Some(live) = self.store.get(&target.key).cloned() else {
            return self.apply_new(target, &config, force);
        };
        let manager = target.manager(true);
        let object = managed_fields::apply(kind, &live.object, &config, &manager, force, &self.time())?;
        let object = read(kind, object)?;
        self.overwrite(target, &live, object, "apply", false)
    }

    fn apply_new(&mut self, target: &Target, config: &Value, force: bool) -> Result<Arc<Stored>, Status> {
        let kind = target.kind();
        if !target.subresource.is_empty() {
            return Err(Status::not_found(kind, target.name()));
        }
        if let Some(uid) = config["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()) {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Status::conflict(kind, target.name(), &why));
        }
        let manager = target.manager(true);
        let empty = normal::empty(kind);
        let object = managed_fields::apply(kind, &empty, config, &manager, force, &self.time())?;
        let object = read(kind, object)?;
        self.insert(target, object, "apply", false)
    }

    fn live(&self, target: &Target) -> Result<Arc<Stored>, Status> {
        self.store.get(&target.key).cloned().ok_or_else(|| Status::not_found(target.kind(), target.name()))
    }

    /// The object in the place of the live one.
    fn overwrite(
        &mut self,
        target: &Target,
        live: &Arc<Stored>,
        mut new: Value,
        verb: &'static str,
        track: bool,
    ) -> Result<Arc<Stored>, Status> {
        let kind = target.kind();
        let version = new["metadata"].get("resourceVersion").and_then(Value::as_str).unwrap_or_default();
        if !version.is_empty() && Some(version) != live.object["metadata"]["resourceVersion"].as_str() {
            return Err(Status::modified(kind, target.name()));
        }
        new["metadata"]["resourceVersion"] = live.object["metadata"]["resourceVersion"].clone();
        if track {
            managed_fields::update(kind, &live.object, &mut new, &target.manager(false), &self.time());
        }
        if kind == Kind::Pod && target.subresource.is_empty() {
            admission::mutate(kind, &mut new);
        }
        strategy::for_update(kind, &target.subresource, &live.object, &mut new, self.store);
        let causes = validation::updated(kind, &target.subresource, &live.object, &new);
        if !causes.is_empty() {
            return Err(Status::invalid(kind, target.name(), &causes));
        }
        admission::check(kind, &live.object, &new)?;
        // The first write to a claim is stored in any case, as if something changed.
        let settles = kind == Kind::PersistentVolumeClaim && self.store.is_new(live);
        if !managed_fields::differ(&live.object, &new) && !settles {
            return Ok(Arc::clone(live));
        }
        if ends(&new) {
            self.store.take(&target.key, target.caller(verb));
            return Ok(Arc::new(Stored::new(Arc::new(new))));
        }
        Ok(self.store.put(target.key.clone(), new, target.caller(verb)))
    }

    /// DELETE.
    pub(super) fn delete(&mut self, target: &Target, deletion: &Deletion) -> Result<Deleted, Status> {
        let kind = target.kind();
        let live = self.live(target)?;
        let metadata = &live.object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        if let Some(uid) = &deletion.uid
            && *uid != text("uid")
        {
            let why = format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
                text("uid")
            );
            return Err(Status::unmet(kind, target.name(), &why));
        }
        if let Some(version) = &deletion.resource_version
            && *version != text("resourceVersion")
        {
            let why = format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
                text("resourceVersion")
            );
            return Err(Status::unmet(kind, target.name(), &why));
        }
        // A pod that is ending already only ends sooner.
        let left = metadata["deletionGracePeriodSeconds"].as_i64().filter(|left| *left > 0);
        if left.is_some_and(|left| deletion.grace_seconds.is_none_or(|asked| asked >= left)) {
            return Ok(Deleted::Marked(live));
        }
        let mut new = Value::clone(&live.object);
        set_finalizers(kind, deletion.propagation.as_deref(), &mut new);
        let grace = grace(kind, &live.object, deletion);
        let pending = finalizers(&new).next().is_some();
        let ended =
            metadata.get("deletionTimestamp").is_some() && metadata["deletionGracePeriodSeconds"] == 0;
        let graceful = kind == Kind::Pod && !ended;
        if pending || (graceful && grace > 0) {
            self.mark(&mut new, grace);
            if new == *live.object {
                return Ok(Deleted::Marked(live));
            }
            return Ok(Deleted::Marked(self.store.put(target.key.clone(), new, target.caller("delete"))));
        }
        if graceful {
            self.mark(&mut new, grace);
            self.store.put(target.key.clone(), new, target.caller("delete"));
        } else if deletion.resource_version.is_some() && new != *live.object {
            // The API server then holds the object against a version that it has not written.
            let why = format!(
                "ResourceVersion in precondition: , ResourceVersion in object meta: {}",
                text("resourceVersion")
            );
            return Err(broken_precondition(target, &why));
        }
        let gone = self.store.take(&target.key, target.caller("delete"));
        Ok(Deleted::Gone(gone.unwrap_or(live)))
    }

    /// Marks an object as being deleted, or as being deleted sooner than before.
    fn mark(&self, new: &mut Value, grace: i64) {
        let metadata = &mut new["metadata"];
        let before = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        let marked = metadata["deletionTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        if marked.is_some() && before <= grace {
            return;
        }
        // A shorter grace counts from the first request on, and ends no earlier than now.
        let asked = marked.map_or(self.now, |end| end - SignedDuration::from_secs(before));
        let end = asked + SignedDuration::from_secs(grace);
        let late = end < self.now && grace != 0;
        metadata["deletionTimestamp"] = json!(rfc3339(end.max(self.now)));
        metadata["deletionGracePeriodSeconds"] = json!(if late { 1 } else { grace });
        if marked.is_none()
            && let Some(generation) = metadata["generation"].as_i64()
        {
            metadata["generation"] = json!(generation + 1);
        }
    }
}

/// What is applied, named by its path.
fn checked_config(target: &Target, mut config: Value) -> Result<Value, Status> {
    if config["metadata"].get("managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    if let Some(why) = typed::misread(schema::of(target.kind()), &config) {
        return Err(Status::unreadable_apply(&config, target.kind(), &why));
    }
    let metadata = &mut config["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    if !name.is_empty() && name != target.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name()
        )));
    }
    metadata["name"] = json!(target.name());
    metadata["namespace"] = json!(target.key.1);
    Ok(config)
}

/// Reads a request's object and fills in what it leaves out.
fn read(kind: Kind, body: Value) -> Result<Value, Status> {
    let mut object = normal::object(kind, body).map_err(|wrong| unreadable(kind, &wrong))?;
    defaults::fill(kind, &mut object);
    Ok(object)
}

fn unreadable(kind: Kind, wrong: &normal::Unreadable) -> Status {
    Status::bad_request(format!(
        "{name} in version \"{version}\" cannot be handled as a {name}: json: cannot unmarshal {} into Go struct field {name}{}",
        wrong.found,
        wrong.path,
        name = kind.name(),
        version = kind.version(),
    ))
}

fn wrong_uid(target: &Target, given: &str, found: &str) -> Status {
    broken_precondition(target, &format!("UID in precondition: {given}, UID in object meta: {found}"))
}

fn broken_precondition(target: &Target, why: &str) -> Status {
    let (kind, namespace, name) = &target.key;
    let place = match (kind, kind.group()) {
        (Kind::AuthService, group) => format!("{group}/{}", kind.plural()),
        (Kind::Service, _) => "services/specs".to_owned(),
        _ => kind.plural().to_owned(),
    };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{place}/{namespace}/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {why}"
    );
    Status::conflict(*kind, name, &why)
}

fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether an object that is being deleted has nothing left to wait for.
fn ends(object: &Value) -> bool {
    let metadata = &object["metadata"];
    metadata.get("deletionTimestamp").is_some()
        && finalizers(object).next().is_none()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
}

/// Foreground and orphaning deletions wait for the garbage collector.
fn set_finalizers(kind: Kind, propagation: Option<&str>, object: &mut Value) {
    // The garbage collector knows nothing of Events.
    if kind == Kind::Event {
        return;
    }
    let propagation = propagation.unwrap_or_else(|| default_propagation(kind, object));
    let wanted = match propagation {
        "Foreground" => Some(FOREGROUND),
        "Orphan" => Some(ORPHAN),
        _ => None,
    };
    let others = finalizers(object).filter(|finalizer| ![ORPHAN, FOREGROUND].contains(finalizer));
    let all: Vec<String> = others.chain(wanted).map(str::to_owned).collect();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        if all.is_empty() {
            metadata.remove("finalizers");
        } else {
            metadata.insert("finalizers".to_owned(), json!(all));
        }
    }
}

/// Without a word of the request, the object's own finalizers say it; a Job orphans its pods, as in the
/// first versions of Kubernetes.
fn default_propagation(kind: Kind, object: &Value) -> &'static str {
    let own = finalizers(object).find(|finalizer| [ORPHAN, FOREGROUND].contains(finalizer));
    match own {
        Some(ORPHAN) => "Orphan",
        Some(_) => "Foreground",
        None if kind == Kind::Job => "Orphan",
        None => "Background",
    }
}

/// How long an object is left to end by itself: only pods that are bound to a node are.
fn grace(kind: Kind, object: &Value, deletion: &Deletion) -> i64 {
    if kind != Kind::Pod {
        return 0;
    }
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    let bound = object["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    if !bound || matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    deletion.grace_seconds.unwrap_or(own)
}

/// A time in whole seconds.
pub(super) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn uid(drawn: u64) -> String {
    format!("00000000-0000-4000-8000-{drawn:012x}")
}

/// Five letters that make a name unique, of Kubernetes' own alphabet.
pub(super) fn suffix(drawn: u64) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    // An odd multiplier prime to the count of names spreads neighbours.
    let mut number = drawn.wrapping_mul(0x9E37_79B9) % 27_u64.pow(5);
    let mut letters = String::new();
    for _ in 0..5 {
        let index = usize::try_from(number % 27).unwrap_or(0);
        letters.push(char::from(LETTERS[index]));
        number /= 27;
    }
    letters
}
