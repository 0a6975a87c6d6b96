//! The `StatefulSet` controller for sets of one pod, and what binds and grows its volume.

use std::time::Duration;

use serde_json::{Value, json};

use super::Players;
use crate::{
    api_server::Kind,
    objects::{condition_holds, is_deleting, items, label, name, namespace, text, uid},
};

const REVISION: &str = "controller-revision-hash";

impl Players {
    pub(super) fn stateful_sets(&mut self) {
        for set in self.api.list(Kind::StatefulSet) {
            if !is_deleting(&set) {
                self.stateful_set(&set);
            }
        }
        for claim in self.api.list(Kind::PersistentVolumeClaim) {
            self.bind_volume(&claim);
        }
    }

    fn stateful_set(&mut self, set: &Value) {
        let pod_name = format!("{}-0", name(set));
        let revision = format!("{}-{}", name(set), self.template_hash(set));
        for template in items(set, "/spec/volumeClaimTemplates") {
            self.claim(set, template, &pod_name);
        }
        match self.api.get(Kind::Pod, namespace(set), &pod_name) {
            None if self.ripe(format!("pod of {}", uid(set)), Duration::from_millis(200)) => {
                self.due.remove(&format!("pod of {}", uid(set)));
                self.create_set_pod(set, &pod_name, &revision);
            }
            Some(pod)
                if !is_deleting(&pod)
                    && label(&pod, REVISION) != revision
                    && self.ripe(format!("replace {}", uid(&pod)), Duration::from_millis(300)) =>
            {
                drop(self.api.delete(Kind::Pod, namespace(set), &pod_name));
            }
            _ => {}
        }
        let pods = self.pods_of(uid(set));
        let ready = pods.iter().filter(|pod| condition_holds(pod, "Ready")).count();
        let status = json!({
            "observedGeneration": set["metadata"]["generation"],
            "replicas": pods.len(),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updateRevision": revision,
        });
        self.write_status(Kind::StatefulSet, set, &status);
    }

    fn create_set_pod(&self, set: &Value, pod_name: &str, revision: &str) {
        let mut template = set["spec"]["template"].clone();
        let claims = items(set, "/spec/volumeClaimTemplates").iter().map(|claim| {
            json!({"name": name(claim), "persistentVolumeClaim": {"claimName": format!("{}-{pod_name}", name(claim))}})
        });
        let volumes: Vec<Value> = items(&template, "/spec/volumes").iter().cloned().chain(claims).collect();
        template["spec"]["volumes"] = json!(volumes);
        self.create_pod(("StatefulSet", set), pod_name, &template, &[(REVISION, revision)]);
    }

    /// The claim of a template, which the set owns where it is to go with the set.
    fn claim(&self, set: &Value, template: &Value, pod_name: &str) {
        let claim_name = format!("{}-{pod_name}", name(template));
        let goes = text(set, "/spec/persistentVolumeClaimRetentionPolicy/whenDeleted") == "Delete";
        let owners = if goes {
            json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name(set), "uid": uid(set)}])
        } else {
            json!([])
        };
        match self.api.get(Kind::PersistentVolumeClaim, namespace(set), &claim_name) {
            None => {
                let mut labels = template["metadata"]["labels"].clone();
                for (key, value) in set["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten() {
                    labels[key] = value.clone();
                }
                let mut claim = json!({
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "metadata": {"name": claim_name, "namespace": namespace(set), "labels": labels},
                    "spec": template["spec"],
                });
                if claim["spec"].get("storageClassName").is_none() {
                    claim["spec"]["storageClassName"] = json!("standard");
                }
                if goes {
                    claim["metadata"]["ownerReferences"] = owners;
                }
                if let Err(error) = self.api.create(super::CONTROLLERS, claim) {
                    tracing::debug!(?error, "a claim was refused");
                }
            }
            Some(claim) => {
                let present = claim["metadata"].get("ownerReferences").cloned().unwrap_or(json!([]));
                if present != owners && !is_deleting(&claim) {
                    self.update(Kind::PersistentVolumeClaim, &claim, None, |claim| {
                        claim["metadata"]["ownerReferences"] = owners;
                    });
                }
            }
        }
    }

    fn bind_volume(&mut self, claim: &Value) {
        if is_deleting(claim) {
            return;
        }
        let wanted = &claim["spec"]["resources"]["requests"]["storage"];
        if claim["status"]["capacity"]["storage"] != *wanted
            && self.ripe(format!("bind {} {wanted}", uid(claim)), Duration::from_millis(300))
        {
            let status = json!({"phase": "Bound", "capacity": {"storage": wanted}});
            self.write_status(Kind::PersistentVolumeClaim, claim, &status);
        }
    }
}
