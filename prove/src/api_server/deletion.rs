//! DELETE: what a deletion waits for, and when it is over.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    kinds::Kind,
    status::Status,
    store::Stored,
    writes::{Target, Writes, broken_precondition, rfc3339},
};

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

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

impl Writes<'_> {
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

fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(super) fn ends(object: &Value) -> bool {
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
