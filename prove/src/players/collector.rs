//! The garbage collector: what has only owners that are gone goes, too.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Players;
use crate::{
    api_server::Kind,
    objects::{items, name, namespace, text, uid},
};

const KINDS: [Kind; 9] = [
    Kind::AuthService,
    Kind::Secret,
    Kind::Service,
    Kind::Deployment,
    Kind::StatefulSet,
    Kind::PersistentVolumeClaim,
    Kind::Job,
    Kind::Pod,
    Kind::PodDisruptionBudget,
];

impl Players {
    pub(super) fn collect_garbage(&mut self) {
        let objects: Vec<(Kind, std::sync::Arc<Value>)> = KINDS
            .into_iter()
            .flat_map(|kind| self.api.list(kind).into_iter().map(move |object| (kind, object)))
            .collect();
        let living: BTreeSet<&str> = objects.iter().map(|(_, object)| uid(object)).collect();
        for (kind, object) in &objects {
            let owners = items(object, "/metadata/ownerReferences");
            let orphaned =
                !owners.is_empty() && owners.iter().all(|owner| !living.contains(text(owner, "/uid")));
            if orphaned
                && !crate::objects::is_deleting(object)
                && self.ripe(format!("collect {}", uid(object)), std::time::Duration::from_millis(500))
            {
                let deleted = self.api.delete(*kind, namespace(object), name(object));
                if let Err(error) = deleted {
                    tracing::debug!(?error, "garbage was not collected");
                }
            }
        }
    }
}
