//! The managed database: its root password, Service, `StatefulSet` and volume.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, Secret},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt;

use super::{Inputs, accounts::Accounts, data, requests};
use crate::operator::{
    auth_service::{
        claim::{Slot, claim},
        names::{DATA_VOLUME, entry},
        plan::{DatabaseServer, Entries, ManagedDatabase},
        quantity,
        refusal::Refusal,
    },
    labels,
};

/// Size of a volume that names none.
const DEFAULT_SIZE: &str = "1Gi";

/// Decides on the managed database; answers the root password's Secret as it will be, too.
pub(super) fn decide(
    inputs: &Inputs<'_>,
    accounts: &Accounts,
    refusals: &mut Vec<Refusal>,
) -> (Option<ManagedDatabase>, Option<Entries>) {
    if inputs.external().is_some() {
        return (None, None);
    }
    let (identity, observed) = (inputs.identity, inputs.observed);
    let spec =
        inputs.spec.database.as_ref().and_then(|database| database.managed.clone()).unwrap_or_default();
    let storage = spec.storage.unwrap_or_default();
    let size = storage.size.unwrap_or_else(|| Quantity(DEFAULT_SIZE.to_owned()));

    let service = claim(observed.database_service.as_ref(), identity, refusals).free();
    let set = claim(observed.database.as_ref(), identity, refusals);
    let root_password = root_password(inputs, &set, refusals);
    let volume_is_ours = observed.volume.as_ref().is_none_or(|volume| inputs.is_own_volume(volume));
    if let Some(volume) = observed.volume.as_ref().filter(|_| !volume_is_ours) {
        refusals.push(Refusal::name_taken("PersistentVolumeClaim", &volume.name_any(), "exists already"));
    }
    let template = set.ours().and_then(claim_template);
    // An existing pod goes on with the Secret it mounts; a new one waits until it is there and ours. A
    // first volume waits for the accounts, too: with one there, missing accounts count as lost.
    let accounted = accounts.entries.is_some() || inputs.own_volume();
    let mountable = set.ours().is_some() || (root_password.is_some() && accounted);
    let server = (set.free() && mountable && volume_is_ours).then(|| DatabaseServer {
        image: spec.image.unwrap_or_else(|| inputs.images.database.clone()),
        resources: spec.resources.unwrap_or_else(|| requests("100m", "512Mi")),
        template_size: template.and_then(requested).cloned().unwrap_or_else(|| size.clone()),
        template_storage_class: match template {
            Some(template) => template.storage_class_name.clone(),
            None => storage.storage_class_name,
        },
    });
    let volume = observed.volume.as_ref().filter(|_| volume_is_ours);
    // The API server only lets a bound claim grow.
    let bound = |volume: &&PersistentVolumeClaim| {
        volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
    };
    let present = volume.filter(bound).and_then(|volume| requested(volume.spec.as_ref()?));
    let grows = present.is_some_and(|present| quantity::nano(&present.0) < quantity::nano(&size.0));
    let managed = ManagedDatabase {
        root_password: root_password.clone(),
        service,
        server,
        grow_volume: grows.then_some(size),
    };
    (Some(managed), root_password)
}

/// The root password: made with the volume. The database takes over the Secret's password at every
/// start, so a new one opens an old volume, but only then.
fn root_password(
    inputs: &Inputs<'_>,
    set: &Slot<'_, StatefulSet>,
    refusals: &mut Vec<Refusal>,
) -> Option<Entries> {
    let name = inputs.identity.root_password();
    let (mut entries, fault) = match claim(inputs.observed.root_password.as_ref(), inputs.identity, refusals)
    {
        Slot::Blocked => return None,
        Slot::Ours(secret) if has_password(secret) => return Some(Entries(data(secret))),
        Slot::Ours(secret) => (data(secret), Some("has no key password, or an empty one: restore the key")),
        Slot::Absent => {
            let initialised = set.ours().is_some() || inputs.own_volume();
            (BTreeMap::new(), initialised.then_some("is gone: restore it with its key password"))
        }
    };
    if let Some(fault) = fault.filter(|_| !inputs.may_regenerate(&name)) {
        refusals.push(Refusal::secret_lost(format!(
            "Secret {name} with the root password of the managed database {fault}, or annotate the AuthService with {}={name} to generate a new one, and then delete Pod {}, because the database takes its password over when it starts",
            labels::REGENERATE,
            inputs.identity.database_pod(),
        )));
        return None;
    }
    entries.insert(entry::PASSWORD.to_owned(), inputs.fresh.root_password.clone().into_bytes());
    Some(Entries(entries))
}

fn has_password(secret: &Secret) -> bool {
    secret
        .data
        .as_ref()
        .and_then(|data| data.get(entry::PASSWORD))
        .is_some_and(|password| !password.0.is_empty())
}

fn claim_template(set: &StatefulSet) -> Option<&PersistentVolumeClaimSpec> {
    let templates = set.spec.as_ref()?.volume_claim_templates.as_ref()?;
    templates.iter().find(|template| template.name_any() == DATA_VOLUME)?.spec.as_ref()
}

fn requested(claim: &PersistentVolumeClaimSpec) -> Option<&Quantity> {
    claim.resources.as_ref()?.requests.as_ref()?.get("storage")
}
