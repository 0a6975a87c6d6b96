//! The administration port: a key made once and never taken back, a Service that comes and goes.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::{Inputs, data};
use crate::{
    contract::key_ring::{MIN_KEY_BYTES, WeakKey, check},
    operator::auth_service::{
        claim::{Owner, Slot, claim, owner},
        names::entry,
        plan::{Deletable, Deletion, Entries},
        refusal::Refusal,
    },
};

/// The decision on the administration port.
pub(super) struct Administration {
    /// What the Secret holds from now on; `None`: it is left alone.
    pub(super) entries: Option<Entries>,
    /// Whether the pods open the port.
    pub(super) open: bool,
    /// Whether the Service is to be there.
    pub(super) service: bool,
    /// The Service of a port that is closed.
    pub(super) deletion: Option<Deletion>,
}

/// Decides on the administration port.
pub(super) fn decide(inputs: &Inputs<'_>, refusals: &mut Vec<Refusal>) -> Administration {
    let Inputs { spec, identity, observed, .. } = inputs;
    let service = observed.administration_service.as_ref();
    if spec.administration.is_none() {
        let ours = service.filter(|service| owner(*service, identity) == Owner::Ours);
        let deletion = ours.map(|service| Deletion {
            kind: Deletable::Service,
            name: service.name_any(),
            uid: service.uid().unwrap_or_default(),
            why: "spec.administration is not set any more",
        });
        // Kept in the plan, so that it goes on following `deletionPolicy`.
        let secret = observed.administration.as_ref();
        let kept = secret.filter(|secret| owner(*secret, identity) == Owner::Ours);
        let entries = kept.map(|secret| Entries(data(secret)));
        return Administration { entries, open: false, service: false, deletion };
    }
    let slot = claim(observed.administration.as_ref(), identity, refusals);
    let service = claim(service, identity, refusals).free();
    let entries = entries(inputs, &slot, refusals);
    Administration { open: entries.is_some(), entries, service, deletion: None }
}

/// Nothing but tokens of an hour depends on the key, so one that is gone is made anew.
fn entries(
    inputs: &Inputs<'_>,
    slot: &Slot<'_, k8s_openapi::api::core::v1::Secret>,
    refusals: &mut Vec<Refusal>,
) -> Option<Entries> {
    let mut entries = match slot {
        Slot::Blocked => return None,
        Slot::Absent => BTreeMap::new(),
        Slot::Ours(secret) => data(secret),
    };
    let key = entries
        .entry(entry::KEY.to_owned())
        .or_insert_with(|| inputs.fresh.administration_key.clone().into_bytes());
    // As the server takes it, which starts with no other.
    let key = key.strip_suffix(b"\n").unwrap_or(key);
    if let Err(weak) = check(key) {
        let fault = match weak {
            WeakKey::Short(length) => {
                format!("{length} bytes under key {}; HS256 needs at least {MIN_KEY_BYTES}", entry::KEY)
            }
            WeakKey::Blank => format!("one byte repeated, or blanks, under key {}", entry::KEY),
        };
        let fault = format!("holds {fault}: delete the Secret, and another is made");
        refusals.push(Refusal::secret_invalid("administration", &inputs.identity.administration(), &fault));
        return None;
    }
    Some(Entries(entries))
}
