//! Whose an object is: ours, a leftover of a deleted resource of our name, or a stranger's.

use kube::{Resource, ResourceExt};

use super::{names::Identity, refusal::Refusal};
use crate::{api::AuthService, operator::labels};

/// Whose an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// This very resource's.
    Ours,
    /// Of a deleted resource of the same name, or being deleted itself: it will be gone soon.
    Leftover,
    /// Anyone else's; in words that follow the object's name.
    Stranger(String),
}

/// Whose `object` is. A controller reference decides; without one, the owner label does, which
/// covers Secrets that outlived their resource.
#[must_use]
pub fn owner<K: Resource>(object: &K, identity: &Identity) -> Owner {
    let controller = object.owner_references().iter().find(|owner| owner.controller == Some(true));
    let ours = match controller {
        Some(owner) if owner.uid == identity.uid => true,
        Some(owner)
            if owner.kind == AuthService::kind(&())
                && owner.name == identity.name
                && owner.api_version.split('/').next() == AuthService::api_version(&()).split('/').next() =>
        {
            return Owner::Leftover;
        }
        Some(owner) => return Owner::Stranger(format!("belongs to {} {}", owner.kind, owner.name)),
        None => object.labels().get(labels::OWNER) == Some(&identity.name),
    };
    match (ours, &object.meta().deletion_timestamp) {
        (true, None) => Owner::Ours,
        (true, Some(_)) => Owner::Leftover,
        (false, _) => {
            Owner::Stranger(format!("exists already, without label {}={}", labels::OWNER, identity.name))
        }
    }
}

/// The place of one child.
pub enum Slot<'a, K> {
    /// Nothing is there.
    Absent,
    /// Our object.
    Ours(&'a K),
    /// Something that is not ours; a refusal says so.
    Blocked,
}

impl<'a, K> Slot<'a, K> {
    /// Whether the child may be written.
    #[must_use]
    pub fn free(&self) -> bool {
        !matches!(self, Self::Blocked)
    }

    /// Our object.
    #[must_use]
    pub fn ours(&self) -> Option<&'a K> {
        match self {
            Self::Ours(object) => Some(object),
            Self::Absent | Self::Blocked => None,
        }
    }
}

/// Whether the place of a child is free, ours, or blocked; the last adds a refusal.
pub fn claim<'a, K>(observed: Option<&'a K>, identity: &Identity, refusals: &mut Vec<Refusal>) -> Slot<'a, K>
where
    K: Resource<DynamicType = ()>,
{
    let Some(object) = observed else { return Slot::Absent };
    let kind = K::kind(&());
    match owner(object, identity) {
        Owner::Ours => Slot::Ours(object),
        Owner::Leftover => {
            refusals.push(Refusal::leftover(&kind, &object.name_any()));
            Slot::Blocked
        }
        Owner::Stranger(words) => {
            refusals.push(Refusal::name_taken(&kind, &object.name_any(), &words));
            Slot::Blocked
        }
    }
}
