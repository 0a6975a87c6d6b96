//! Random sequences of requests, as an operator, its users and the controllers beside it send them.

use authservice_prove::api_server::Kind;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::objects;

/// One request; `@uid`, `@version` and `@stale` stand for what the side that is asked has answered.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
    pub(crate) body: Value,
}

/// What is done with both sides.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A request whose answers are compared.
    Ask(Request),
    /// A watch that goes on until the end of the sequence.
    Watch(Request),
    /// Our fields in `managedFields` become an apply's, as the operator does it before its first apply.
    HandOver { path: String },
}

/// A sequence on one or two objects of one kind.
pub(crate) struct Sequence {
    pub(crate) kind: Kind,
    pub(crate) steps: Vec<Step>,
}

const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const PLAIN: &str = "application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

const OURS: &str = "authservice-operator";

/// The sequence of a number, on objects that are named for the attempt, too.
#[must_use]
pub(crate) fn sequence(number: u64, attempt: u64, namespace: &str) -> Sequence {
    let mut rng = StdRng::seed_from_u64(number);
    let kind = KINDS[rng.random_range(0..KINDS.len())];
    let mut writer = Writer {
        rng,
        kind,
        collection: collection(kind, namespace),
        namespace: namespace.to_owned(),
        name: format!("g{number}{attempt}"),
        label: format!("s{number}{attempt}"),
    };
    let steps = writer.steps();
    Sequence { kind, steps }
}

/// Kinds in the measure in which the operator writes them.
const KINDS: [Kind; 20] = [
    Kind::AuthService,
    Kind::AuthService,
    Kind::AuthService,
    Kind::Secret,
    Kind::Secret,
    Kind::Secret,
    Kind::Deployment,
    Kind::Deployment,
    Kind::Deployment,
    Kind::Service,
    Kind::Service,
    Kind::StatefulSet,
    Kind::StatefulSet,
    Kind::PersistentVolumeClaim,
    Kind::Job,
    Kind::Pod,
    Kind::PodDisruptionBudget,
    Kind::Lease,
    Kind::Event,
    Kind::ConfigMap,
];

fn collection(kind: Kind, namespace: &str) -> String {
    let root = if kind.group().is_empty() {
        format!("/api/{}", kind.version())
    } else {
        format!("/apis/{}/{}", kind.group(), kind.version())
    };
    format!("{root}/namespaces/{namespace}/{}", kind.plural())
}

struct Writer {
    rng: StdRng,
    kind: Kind,
    collection: String,
    namespace: String,
    name: String,
    label: String,
}

impl Writer {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())].clone()
    }

    fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let watches = self.chance(30);
        if watches {
            steps.push(self.watch());
        }
        if self.chance(90) {
            let first = if self.chance(80) { self.create() } else { self.apply() };
            steps.push(first);
        }
        for _ in 0..self.rng.random_range(2..8) {
            let step = self.step();
            steps.push(step);
        }
        if watches {
            steps.push(self.last_create());
        }
        steps
    }

    fn step(&mut self) -> Step {
        match self.rng.random_range(0..100) {
            0..6 => self.create(),
            6..12 => self.get(),
            12..20 => self.list(),
            20..32 => self.replace(),
            32..48 => self.merge(),
            48..60 => self.json(),
            60..78 => self.apply(),
            78..82 => Step::HandOver { path: self.path() },
            82..88 => self.status(),
            88..91 => self.scale(),
            _ => self.delete(),
        }
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection, self.name)
    }

    fn manager(&mut self) -> String {
        let manager = self.one(&[OURS, OURS, "kubectl-edit", "helm", ""]);
        if manager.is_empty() { String::new() } else { format!("?fieldManager={manager}") }
    }

    /// A complete object, with some of what people do to it.
    fn object(&mut self) -> Value {
        let mut object = objects::base(self.kind);
        object["apiVersion"] = json!(self.kind.api_version());
        object["kind"] = json!(self.kind.name());
        object["metadata"]["name"] = json!(self.name);
        if self.chance(50) {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        for _ in 0..self.rng.random_range(0..3) {
            let edit = self.edit();
            json_patch::merge(&mut object, &edit);
        }
        object["metadata"]["labels"]["sequence"] = json!(self.label);
        self.place(&mut object);
        object
    }

    /// An Event says in which namespace its object is.
    fn place(&mut self, object: &mut Value) {
        if self.kind == Kind::Event && self.chance(95) {
            object["regarding"]["namespace"] = json!(self.namespace);
        }
    }

    fn edit(&mut self) -> Value {
        let metadata = objects::metadata_edits(self.kind);
        let edits = if self.chance(40) { metadata } else { objects::edits(self.kind) };
        self.one(&edits)
    }

    fn create(&mut self) -> Step {
        let mut object = self.object();
        if self.chance(5) {
            let names = ["", "Wrong_", "a..", "1st-"];
            // A Service without a name is refused by the allocation of its address, in other words,
            // and the name of a budget is not looked at.
            let nameless = matches!(self.kind, Kind::Service | Kind::PodDisruptionBudget);
            let name = self.one(if nameless { &names[1..] } else { &names });
            let name = if name.is_empty() { String::new() } else { format!("{name}{}", self.name) };
            object["metadata"]["name"] = json!(name);
        }
        if self.chance(3) {
            object["metadata"]["resourceVersion"] = json!("1");
        }
        if self.chance(3) {
            object["metadata"]["namespace"] = json!("elsewhere");
        }
        if self.chance(3) {
            let base = json!({"metadata": {"name": null, "generateName": format!("{}-", self.name)}});
            json_patch::merge(&mut object, &base);
        }
        let manager = self.manager();
        let path = format!("{}{manager}", self.collection);
        ask("POST", path, PLAIN, object)
    }

    /// The object at whose appearance a watch has told everything.
    fn last_create(&mut self) -> Step {
        let mut object = objects::base(self.kind);
        object["apiVersion"] = json!(self.kind.api_version());
        object["kind"] = json!(self.kind.name());
        object["metadata"]["name"] = json!(format!("{}-last", self.name));
        object["metadata"]["labels"]["sequence"] = json!(self.label);
        if self.kind == Kind::Event {
            object["regarding"]["namespace"] = json!(self.namespace);
        }
        if self.kind == Kind::Event {
            object["regarding"]["namespace"] = json!(self.namespace);
        }
        ask("POST", self.collection.clone(), PLAIN, object)
    }

    fn get(&mut self) -> Step {
        let accept = if self.chance(30) { PARTIAL } else { PLAIN };
        Step::Ask(Request {
            method: "GET",
            path: self.path(),
            content_type: PLAIN,
            accept,
            body: Value::Null,
        })
    }

    fn list(&mut self) -> Step {
        let accept = if self.chance(40) { PARTIAL_LIST } else { PLAIN };
        let more = self.one(&[
            "",
            "",
            "&limit=100",
            "&resourceVersion=@version",
            "&fieldSelector=metadata.name%3D@name",
        ]);
        let more = more.replace("@name", &self.name);
        let path = format!("{}?labelSelector=sequence%3D{}{more}", self.collection, self.label);
        Step::Ask(Request { method: "GET", path, content_type: PLAIN, accept, body: Value::Null })
    }

    fn watch(&mut self) -> Step {
        let accept = if self.chance(40) { PARTIAL } else { PLAIN };
        let path = format!(
            "{}?watch=true&labelSelector=sequence%3D{}&resourceVersion=0&allowWatchBookmarks=true&timeoutSeconds=290",
            self.collection, self.label
        );
        Step::Watch(Request { method: "GET", path, content_type: PLAIN, accept, body: Value::Null })
    }

    fn guard(&mut self, object: &mut Value) {
        match self.rng.random_range(0..10) {
            0..5 => object["metadata"]["resourceVersion"] = json!("@version"),
            5..7 => object["metadata"]["resourceVersion"] = json!("@stale"),
            _ => {}
        }
        match self.rng.random_range(0..10) {
            0..3 => object["metadata"]["uid"] = json!("@uid"),
            3 => object["metadata"]["uid"] = json!("12345678-0000-4000-8000-000000000000"),
            _ => {}
        }
    }

    fn replace(&mut self) -> Step {
        let mut object = self.object();
        self.guard(&mut object);
        let path = format!("{}{}", self.path(), self.manager());
        ask("PUT", path, PLAIN, object)
    }

    fn merge(&mut self) -> Step {
        let mut change = self.edit();
        if self.chance(30) {
            self.guard(&mut change);
        }
        let path = format!("{}{}", self.path(), self.manager());
        ask("PATCH", path, MERGE, change)
    }

    fn json(&mut self) -> Step {
        let mut operations = Vec::new();
        match self.rng.random_range(0..10) {
            0..5 => operations
                .push(json!({"op": "test", "path": "/metadata/resourceVersion", "value": "@version"})),
            5..7 => {
                operations
                    .push(json!({"op": "test", "path": "/metadata/resourceVersion", "value": "@stale"}));
            }
            _ => {}
        }
        for _ in 0..self.rng.random_range(1..3) {
            let all = objects::operations(self.kind);
            let operation = self.one(&all);
            operations.push(operation);
        }
        let path = format!("{}{}", self.path(), self.manager());
        ask("PATCH", path, JSON, Value::Array(operations))
    }

    fn apply(&mut self) -> Step {
        let mut object = self.object();
        if self.chance(30) {
            object = objects::part(self.kind);
            object["apiVersion"] = json!(self.kind.api_version());
            object["kind"] = json!(self.kind.name());
            object["metadata"]["name"] = json!(self.name);
            let edit = self.edit();
            json_patch::merge(&mut object, &edit);
            // See `objects::metadata_edits` of empty maps.
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
            }
        }
        if self.chance(30) {
            self.guard(&mut object);
        }
        let manager = self.one(&[OURS, OURS, OURS, "helm", "authservice-operator/handover"]);
        let force = if self.chance(70) { "&force=true" } else { "" };
        let path = format!("{}?fieldManager={manager}{force}", self.path());
        ask("PATCH", path, APPLY, object)
    }

    fn status(&mut self) -> Step {
        let all = objects::status_edits(self.kind);
        if all.is_empty() {
            return self.get();
        }
        let mut change = self.one(&all);
        if self.chance(30) {
            let edit = self.edit();
            json_patch::merge(&mut change, &edit);
        }
        if self.chance(40) {
            self.guard(&mut change);
        }
        let path = format!("{}/status{}", self.path(), self.manager());
        ask("PATCH", path, MERGE, change)
    }

    fn scale(&mut self) -> Step {
        if !self.kind.has_scale() {
            return self.delete();
        }
        let replicas = self.rng.random_range(0..4);
        let path = format!("{}/scale{}", self.path(), self.manager());
        match self.rng.random_range(0..3) {
            0 => ask("GET", format!("{}/scale", self.path()), PLAIN, Value::Null),
            _ => ask("PATCH", path, MERGE, json!({"spec": {"replicas": replicas}})),
        }
    }

    fn delete(&mut self) -> Step {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        match self.rng.random_range(0..8) {
            0..3 => options["propagationPolicy"] = json!("Background"),
            3 => options["propagationPolicy"] = json!("Foreground"),
            4 => options["propagationPolicy"] = json!("Orphan"),
            _ => {}
        }
        match self.rng.random_range(0..8) {
            0..3 => options["preconditions"]["uid"] = json!("@uid"),
            3 => options["preconditions"]["uid"] = json!("12345678-0000-4000-8000-000000000000"),
            4 => options["preconditions"]["resourceVersion"] = json!("@version"),
            5 => options["preconditions"]["resourceVersion"] = json!("@stale"),
            _ => {}
        }
        if self.kind == Kind::Pod && self.chance(30) {
            options["gracePeriodSeconds"] = json!(0);
        }
        ask("DELETE", self.path(), PLAIN, options)
    }
}

fn ask(method: &'static str, path: String, content_type: &'static str, body: Value) -> Step {
    Step::Ask(Request { method, path, content_type, accept: PLAIN, body })
}
