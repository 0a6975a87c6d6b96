//! The Secrets: what they are for decides only their names and who owns them; their entries stand
//! in the plan.

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::super::{
    names::{Component, Identity},
    plan::{Entries, Plan},
};

/// The key ring: every key that signs or verifies tokens.
pub(super) fn key_ring(plan: &Plan) -> Option<Secret> {
    retained(&plan.identity, Identity::key_ring, plan.key_ring.as_ref())
}

/// The server's database accounts.
pub(super) fn accounts(plan: &Plan) -> Option<Secret> {
    retained(&plan.identity, Identity::accounts, plan.accounts.as_ref())
}

/// The first admin's e-mail address and password, for the person who installs.
pub(super) fn admin(plan: &Plan) -> Option<Secret> {
    retained(&plan.identity, Identity::admin, plan.admin.as_ref())
}

/// The key of administration tokens.
pub(super) fn administration(plan: &Plan) -> Option<Secret> {
    retained(&plan.identity, Identity::administration, plan.administration.as_ref())
}

/// The managed database's root password.
pub(super) fn root_password(plan: &Plan) -> Option<Secret> {
    let managed = plan.managed.as_ref()?;
    retained(&plan.identity, Identity::root_password, managed.root_password.as_ref())
}

/// The view for people and neighbours. It holds nothing of its own, so it goes with its owner.
pub(super) fn credentials(plan: &Plan) -> Option<Secret> {
    let metadata = plan.identity.metadata(plan.identity.credentials(), Component::Secrets);
    plan.credentials.as_ref().map(|entries| secret(metadata, entries))
}

fn retained(identity: &Identity, name: fn(&Identity) -> String, entries: Option<&Entries>) -> Option<Secret> {
    entries.map(|entries| secret(identity.retained_metadata(name(identity)), entries))
}

fn secret(metadata: ObjectMeta, Entries(entries): &Entries) -> Secret {
    Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        data: Some(entries.iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};
    use crate::api::auth_service::DeletionPolicy;

    /// Those that hold what cannot be derived again.
    fn kept(plan: &Plan) -> [Option<Secret>; 5] {
        [key_ring(plan), accounts(plan), admin(plan), administration(plan), root_password(plan)]
    }

    #[test]
    fn secrets_under_retain_outlive_the_resource() {
        let plan = sample::managed();
        insta::assert_yaml_snapshot!(kept(&plan));
    }

    #[test]
    fn secrets_under_delete_go_with_the_resource() {
        let mut plan = sample::managed();
        plan.identity.deletion_policy = DeletionPolicy::Delete;
        insta::assert_yaml_snapshot!(kept(&plan));
    }

    #[test]
    fn the_view_holds_the_names_that_neighbours_know_and_goes_with_the_resource() {
        insta::assert_yaml_snapshot!(credentials(&sample::managed()));
    }
}
