//! One write to one child, and what the API server answers to it.

use std::fmt::Debug;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{ObjectReference, PersistentVolumeClaim, Secret, Service},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Change, ours};
use crate::operator::{
    auth_service::{
        diff,
        gather::Observed,
        names::Identity,
        ownership,
        plan::{Deletable, Deletion},
        refusal::Refusal,
        secret_patch::{self, Keeping},
    },
    labels,
};

/// The child could not be written; a refusal says why.
pub(super) struct Failed;

pub(super) type Written<K> = Result<Option<K>, Failed>;

/// A kind of namespaced child.
pub(super) trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}
impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// Writes the children of one resource, and keeps account of it.
pub(super) struct Writer<'a> {
    pub(super) client: &'a Client,
    pub(super) identity: &'a Identity,
    pub(super) changes: Vec<Change>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) again: bool,
}

impl Writer<'_> {
    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.identity.namespace)
    }

    /// A child that is applied.
    pub(super) async fn object<K: Child>(&mut self, wanted: Option<K>, observed: Option<&K>) -> Written<K> {
        let Some(wanted) = wanted else { return Ok(ours(observed, self.identity)) };
        let name = wanted.name_any();
        let mut body = self.encoded::<K>(&name, &wanted)?;
        diff::stamp(&mut body);
        let Some(live) = observed else {
            let stamped = serde_json::from_value(body);
            let stamped = stamped.map_err(|error| self.refused::<K>("encode", &name, &error.to_string()))?;
            return self.create(&stamped).await.map(Some);
        };
        let live_body = self.encoded::<K>(&name, live)?;
        let Some(difference) = diff::difference(&body, &live_body) else { return Ok(Some(live.clone())) };
        let version = match ownership::hand_over(&live_body, labels::MANAGER) {
            Some(operations) => self.json_patch::<K>(&name, operations).await?.resource_version(),
            None => live.resource_version(),
        };
        body["metadata"]["uid"] = json!(live.uid());
        let params = PatchParams::apply(labels::MANAGER).force();
        match self.api::<K>().patch(&name, &params, &Patch::Apply(&body)).await {
            Ok(applied) => {
                if applied.resource_version() == live.resource_version() {
                    tracing::warn!(kind = %K::kind(&()), name, difference, "an apply changed nothing");
                } else {
                    self.changed("Changed", &applied, difference);
                }
                Ok(Some(applied))
            }
            Err(kube::Error::Api(status)) if status.code == 422 => match diff::broken_list(&body, &live_body)
            {
                Some(broken) => Err(self.replace_list::<K>(&name, version, broken).await),
                None => Err(self.failed::<K>("change", &name, &kube::Error::Api(status))),
            },
            Err(error) => Err(self.failed::<K>("change", &name, &error)),
        }
    }

    /// Where an apply was refused because of an entry that somebody put in the place of ours, the list
    /// is written as a whole, and the object is read again.
    async fn replace_list<K: Child>(
        &mut self,
        name: &str,
        version: Option<String>,
        broken: (String, Value),
    ) -> Failed {
        let (path, list) = broken;
        let operations = vec![
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}),
            json!({"op": "replace", "path": path, "value": list}),
        ];
        match self.json_patch::<K>(name, operations).await {
            Ok(patched) => {
                self.changed("Changed", &patched, path);
                self.again = true;
                Failed
            }
            Err(Failed) => Failed,
        }
    }

    /// A Secret: created by POST, changed by JSON patches, never applied.
    pub(super) async fn secret(
        &mut self,
        wanted: Option<Secret>,
        observed: Option<&Secret>,
        keeping: Keeping,
    ) -> Written<Secret> {
        let Some(wanted) = wanted else { return Ok(ours(observed, self.identity)) };
        let Some(live) = observed else { return self.create(&wanted).await.map(Some) };
        let Some(operations) = secret_patch::patch(&wanted, live, keeping) else {
            return Ok(Some(live.clone()));
        };
        let paths = operations.iter().skip(1).filter_map(|operation| operation["path"].as_str());
        let detail = paths.collect::<Vec<_>>().join(" ");
        let patched = self.json_patch::<Secret>(&wanted.name_any(), operations).await?;
        self.changed("Changed", &patched, detail);
        Ok(Some(patched))
    }

    /// A migration Job: its template cannot change, so an existing one is left alone.
    pub(super) async fn job(
        &mut self,
        wanted: Option<Job>,
        observed: &Observed,
        deleted: &[String],
    ) -> Option<Job> {
        let wanted = wanted?;
        let name = wanted.name_any();
        let live = observed.jobs.iter().find(|job| job.name_any() == name);
        match live.filter(|_| !deleted.contains(&name)) {
            Some(live) => Some(live.clone()),
            None => self.create(&wanted).await.ok(),
        }
    }

    /// A volume that grows; the `StatefulSet`'s template keeps the size it was made with.
    pub(super) async fn grow(
        &mut self,
        wanted: Option<PersistentVolumeClaim>,
        observed: Option<&PersistentVolumeClaim>,
    ) -> Option<PersistentVolumeClaim> {
        let (Some(wanted), Some(live)) = (wanted, observed) else { return observed.cloned() };
        let name = wanted.name_any();
        let size = wanted
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.as_ref())
            .and_then(|resources| resources.requests.as_ref());
        let body = json!({"metadata": {"uid": live.uid()}, "spec": {"resources": {"requests": size}}});
        let params =
            PatchParams { field_manager: Some(labels::MANAGER.to_owned()), ..PatchParams::default() };
        match self.api::<PersistentVolumeClaim>().patch(&name, &params, &Patch::Merge(&body)).await {
            Ok(grown) => {
                self.changed("Changed", &grown, "spec.resources.requests.storage".to_owned());
                Some(grown)
            }
            Err(error) => {
                self.failed::<PersistentVolumeClaim>("grow", &name, &error);
                Some(live.clone())
            }
        }
    }

    async fn create<K: Child>(&mut self, wanted: &K) -> Result<K, Failed> {
        let params = PostParams { field_manager: Some(labels::MANAGER.to_owned()), ..PostParams::default() };
        match self.api::<K>().create(&params, wanted).await {
            Ok(created) => {
                self.changed("Created", &created, String::new());
                Ok(created)
            }
            Err(error) => Err(self.failed::<K>("create", &wanted.name_any(), &error)),
        }
    }

    async fn json_patch<K: Child>(&mut self, name: &str, operations: Vec<Value>) -> Result<K, Failed> {
        let patch = serde_json::from_value(Value::Array(operations));
        let patch = patch.map_err(|error| self.refused::<K>("encode", name, &error.to_string()))?;
        let params =
            PatchParams { field_manager: Some(labels::MANAGER.to_owned()), ..PatchParams::default() };
        match self.api::<K>().patch(name, &params, &Patch::<()>::Json(patch)).await {
            Ok(patched) => Ok(patched),
            // A `test` that does not hold is answered like this, an invalid object names its fields.
            Err(kube::Error::Api(status))
                if status.code == 422
                    && status.details.as_ref().is_none_or(|details| details.causes.is_empty()) =>
            {
                self.again = true;
                Err(Failed)
            }
            Err(error) => Err(self.failed::<K>("change", name, &error)),
        }
    }

    /// Answers the names of what is gone.
    pub(super) async fn delete_all(&mut self, deletions: &[Deletion]) -> Vec<String> {
        let mut deleted = Vec::new();
        for deletion in deletions {
            let gone = match deletion.kind {
                Deletable::Budget => self.delete::<PodDisruptionBudget>(deletion).await,
                Deletable::Service => self.delete::<Service>(deletion).await,
                Deletable::Job => self.delete::<Job>(deletion).await,
            };
            if gone {
                deleted.push(deletion.name.clone());
            }
        }
        deleted
    }

    async fn delete<K: Child>(&mut self, deletion: &Deletion) -> bool {
        let preconditions = Preconditions { uid: Some(deletion.uid.clone()), ..Preconditions::default() };
        match self
            .api::<K>()
            .delete(&deletion.name, &DeleteParams::background().preconditions(preconditions))
            .await
        {
            Ok(_) => {
                tracing::info!(kind = %K::kind(&()), name = deletion.name, why = deletion.why, "deleted");
                let object = self.reference::<K>(&deletion.name, Some(&deletion.uid));
                self.changes.push(Change { done: "Deleted", object, detail: deletion.why.to_owned() });
                true
            }
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(error) => {
                self.failed::<K>("delete", &deletion.name, &error);
                false
            }
        }
    }

    fn encoded<K: Child>(&mut self, name: &str, object: &K) -> Result<Value, Failed> {
        serde_json::to_value(object).map_err(|error| self.refused::<K>("encode", name, &error.to_string()))
    }

    /// What another writer's change explains is read again; everything else is the API server's word.
    fn failed<K: Child>(&mut self, action: &str, name: &str, error: &kube::Error) -> Failed {
        match error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) && !is_terminating(status) => {
                tracing::debug!(kind = %K::kind(&()), name, action, %error, "changed by someone else meanwhile");
                self.again = true;
                Failed
            }
            kube::Error::Api(status) => self.refused::<K>(action, name, words(&status.message)),
            error => self.refused::<K>(action, name, &error.to_string()),
        }
    }

    fn refused<K: Child>(&mut self, action: &str, name: &str, words: &str) -> Failed {
        tracing::warn!(kind = %K::kind(&()), name, action, error = words, "refused");
        self.refusals.push(Refusal::child(action, &K::kind(&()), name, words));
        Failed
    }

    fn changed<K: Child>(&mut self, done: &'static str, object: &K, detail: String) {
        let name = object.name_any();
        tracing::info!(kind = %K::kind(&()), name, detail, "{}", done.to_lowercase());
        let object = self.reference::<K>(&name, object.uid().as_deref());
        self.changes.push(Change { done, object, detail });
    }

    fn reference<K: Child>(&self, name: &str, uid: Option<&str>) -> ObjectReference {
        ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            namespace: Some(self.identity.namespace.clone()),
            name: Some(name.to_owned()),
            uid: uid.map(ToOwned::to_owned),
            ..ObjectReference::default()
        }
    }
}

/// The API server's words without the dump of both objects that follows some of them.
fn words(message: &str) -> &str {
    message.split("\n@@").next().unwrap_or(message)
}

/// A namespace that is being deleted answers creations so: nothing to be read again.
fn is_terminating(status: &kube::core::Status) -> bool {
    status
        .details
        .iter()
        .flat_map(|details| &details.causes)
        .any(|cause| cause.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::{is_terminating, words};

    fn refusal(cause: &str) -> Status {
        let details = json!({"causes": [{"reason": "FieldValueInvalid"}, {"reason": cause}]});
        serde_json::from_value(json!({"code": 403, "details": details})).unwrap()
    }

    #[test]
    fn people_are_told_why_and_not_both_objects() {
        let dumped =
            "Deployment.apps \"gate\" is invalid: spec.selector: field is immutable\n@@ -1 +1 @@\n{...}";
        assert_eq!(words(dumped), "Deployment.apps \"gate\" is invalid: spec.selector: field is immutable");
        assert_eq!(words("exceeded quota: q,\nused: 1"), "exceeded quota: q,\nused: 1");
    }

    #[test]
    fn a_namespace_on_its_way_out_is_told_from_other_refusals() {
        assert!(is_terminating(&refusal("NamespaceTerminating")));
        assert!(!is_terminating(&refusal("FieldValueRequired")));
        assert!(!is_terminating(&Status { details: None, ..refusal("NamespaceTerminating") }));
    }
}
