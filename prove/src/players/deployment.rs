//! The Deployment controller, without `ReplicaSet`s: nobody here looks at them.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::Players;
use crate::{
    api_server::Kind,
    objects::{condition_holds, is_deleting, label, name, namespace, number, uid},
};

const HASH: &str = "pod-template-hash";

impl Players {
    pub(super) fn deployments(&mut self) {
        for deployment in self.api.list(Kind::Deployment) {
            if !is_deleting(&deployment) {
                self.deployment(&deployment);
            }
        }
    }

    /// Rolls over with `maxUnavailable` 0 and `maxSurge` 25 %, rounded up.
    fn deployment(&mut self, deployment: &Value) {
        let wanted = usize::try_from(number(deployment, "/spec/replicas").unwrap_or(1)).unwrap_or(0);
        let template = &deployment["spec"]["template"];
        let hash = self.template_hash(deployment);
        let (new, old): (Vec<_>, Vec<_>) =
            self.pods_of(uid(deployment)).into_iter().partition(|pod| label(pod, HASH) == hash);
        let acts = Self::acts(wanted, &new, &old);
        if !acts.is_empty()
            && self.ripe(format!("deployment {} {acts:?}", uid(deployment)), Duration::from_millis(100))
        {
            self.due.remove(&format!("deployment {} {acts:?}", uid(deployment)));
            for act in acts {
                match act {
                    Act::Create => {
                        let prefix = format!("{}-{hash}-", name(deployment));
                        self.create_pod(("Deployment", deployment), &prefix, template, &[(HASH, &hash)]);
                    }
                    Act::Delete(pod) => drop(self.api.delete(Kind::Pod, namespace(deployment), &pod)),
                }
            }
        }
        self.deployment_status(deployment);
    }

    fn acts(wanted: usize, new: &[Arc<Value>], old: &[Arc<Value>]) -> Vec<Act> {
        let surge = wanted.div_ceil(4);
        let ready = |pods: &[Arc<Value>]| pods.iter().filter(|pod| condition_holds(pod, "Ready")).count();
        let mut acts = Vec::new();
        let room = (wanted + surge).saturating_sub(new.len() + old.len());
        acts.extend((0..wanted.saturating_sub(new.len()).min(room)).map(|_| Act::Create));
        let delete = |pod: &Arc<Value>| Act::Delete(name(pod).to_owned());
        // What is not ready serves nobody and goes first.
        let (serving, idle): (Vec<_>, Vec<_>) = old.iter().partition(|pod| condition_holds(pod, "Ready"));
        acts.extend(idle.into_iter().map(delete));
        let spare = (ready(new) + serving.len()).saturating_sub(wanted);
        acts.extend(serving.into_iter().take(spare).map(delete));
        let mut surplus: Vec<_> = new.iter().collect();
        surplus.sort_by_key(|pod| condition_holds(pod, "Ready"));
        acts.extend(surplus.into_iter().take(new.len().saturating_sub(wanted)).map(delete));
        acts
    }

    fn deployment_status(&mut self, deployment: &Value) {
        let hash = self.template_hash(deployment);
        let pods = self.pods_of(uid(deployment));
        let updated = pods.iter().filter(|pod| label(pod, HASH) == hash).count();
        let ready = pods.iter().filter(|pod| condition_holds(pod, "Ready")).count();
        let status = json!({
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": pods.len(),
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
        });
        self.write_status(Kind::Deployment, deployment, &status);
    }
}

#[derive(Debug)]
enum Act {
    Create,
    Delete(String),
}
