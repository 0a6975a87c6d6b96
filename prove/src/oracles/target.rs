//! What a call is about, by its path, and whether the operator may write to it.

use authservice::operator::labels;
use http::Method;
use serde_json::Value;

use crate::{
    api_server::{ApiServer, Kind},
    objects::{items, label, text},
};

/// The object of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    kind: Kind,
    namespace: String,
    name: String,
}

impl Target {
    /// The object that a path names; `None` for a list, a creation, or a kind that has no owner.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').collect();
        let at = segments.iter().position(|segment| *segment == "namespaces")?;
        let kind = match *segments.get(at + 2)? {
            "secrets" => Kind::Secret,
            "services" => Kind::Service,
            "deployments" => Kind::Deployment,
            "statefulsets" => Kind::StatefulSet,
            "persistentvolumeclaims" => Kind::PersistentVolumeClaim,
            "jobs" => Kind::Job,
            "pods" => Kind::Pod,
            "poddisruptionbudgets" => Kind::PodDisruptionBudget,
            _ => return None,
        };
        let (namespace, name) = (segments.get(at + 1)?, segments.get(at + 3)?);
        Some(Self { kind, namespace: (*namespace).to_owned(), name: (*name).to_owned() })
    }

    /// What is wrong with such a write, if anything.
    #[must_use]
    pub fn offence(&self, api: &ApiServer, method: &Method) -> Option<String> {
        let object = api.get(self.kind, &self.namespace, &self.name)?;
        (!is_ours(&object))
            .then(|| format!("{method} of {:?} {}, which is not the operator's", self.kind, self.name))
    }
}

/// Whether an object belongs to an `AuthService`: by its controller or, without one, by its label. A
/// volume claim is made by the `StatefulSet` controller and carries the label alone.
fn is_ours(object: &Value) -> bool {
    let controller = items(object, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner["controller"].as_bool() == Some(true));
    match controller {
        Some(owner) => text(owner, "/kind") == "AuthService",
        None => !label(object, labels::OWNER).is_empty(),
    }
}
