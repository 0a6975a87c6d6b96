//! Every write: what is refused, what is kept, and what becomes of the object.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    admission, defaults,
    deletion::ends,
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
    pub(super) fn kind(&self) -> Kind {
        self.key.0
    }

    pub(super) fn name(&self) -> &str {
        &self.key.2
    }

    fn manager(&self, applies: bool) -> Manager {
        Manager { name: self.manager.clone(), applies, subresource: self.subresource.clone() }
    }

    pub(super) fn caller(&self, verb: &'static str) -> Caller {
        Caller { manager: self.manager.clone(), verb, subresource: self.subresource.clone() }
    }
}

/// The store at one moment.
pub(super) struct Writes<'a> {
    pub(super) store: &'a mut Store,
    pub(super) now: Timestamp,
}

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

    pub(super) fn live(&self, target: &Target) -> Result<Arc<Stored>, Status> {
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

pub(super) fn broken_precondition(target: &Target, why: &str) -> Status {
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
