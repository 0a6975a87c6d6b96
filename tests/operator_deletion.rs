//! What outlives a deleted resource, and what a resource made again takes up.

mod support;

use authservice::api::AuthService;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Secret},
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use support::{
    cluster::{Sandbox, in_namespace},
    normal::{State, state, uids, wait_for_state},
    players::ready,
};

async fn secret_data(sandbox: &Sandbox) -> anyhow::Result<Vec<(String, Option<Value>)>> {
    let secrets = sandbox.api::<Secret>().list(&ListParams::default()).await?;
    secrets
        .into_iter()
        .map(|secret| Ok((secret.name_any(), Some(serde_json::to_value(secret.data)?))))
        .collect()
}

/// What is left under `Retain`, of everything a resource had.
fn retained(mut everything: State) -> State {
    let kept = [
        "PersistentVolumeClaim data-gate-mysql-0",
        "Secret gate-admin",
        "Secret gate-database",
        "Secret gate-keys",
        "Secret gate-mysql-root",
    ];
    everything.retain(|name, _| kept.contains(&name.as_str()));
    everything
}

#[tokio::test]
async fn retain_keeps_data_and_credentials_and_nothing_else() -> anyhow::Result<()> {
    in_namespace("deletion", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let everything = state(&sandbox.client, &sandbox.namespace).await?;
        sandbox.api::<AuthService>().delete("gate", &DeleteParams::background()).await?;
        wait_for_state(sandbox, "only data and credentials are left", &retained(everything)).await
    })
    .await
}

#[tokio::test]
async fn a_resource_made_again_takes_up_what_was_retained() -> anyhow::Result<()> {
    in_namespace("deletion", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let everything = state(&sandbox.client, &sandbox.namespace).await?;
        let uids_before = uids(&sandbox.client, &sandbox.namespace).await?;
        let mut data = secret_data(sandbox).await?;
        sandbox.api::<AuthService>().delete("gate", &DeleteParams::background()).await?;
        wait_for_state(sandbox, "the end of the first one", &retained(everything.clone())).await?;
        sandbox.create_service("gate", json!({})).await?;
        wait_for_state(sandbox, "all is as it was", &everything).await?;
        data.sort_by_key(|(name, _)| name.clone());
        assert_eq!(secret_data(sandbox).await?, data);
        let uids = uids(&sandbox.client, &sandbox.namespace).await?;
        for kept in retained(everything).keys() {
            assert_eq!(uids[kept], uids_before[kept], "{kept}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_resource_made_again_at_once_waits_for_the_leftovers_of_the_first() -> anyhow::Result<()> {
    in_namespace("deletion", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let everything = state(&sandbox.client, &sandbox.namespace).await?;
        let uids_before = uids(&sandbox.client, &sandbox.namespace).await?;
        sandbox.api::<AuthService>().delete("gate", &DeleteParams::background()).await?;
        sandbox.create_service("gate", json!({})).await?;
        wait_for_state(sandbox, "all is as it was", &everything).await?;
        let uids = uids(&sandbox.client, &sandbox.namespace).await?;
        for anew in [
            "Deployment gate",
            "StatefulSet gate-mysql",
            "Service gate",
            "Service gate-mysql",
            "PodDisruptionBudget gate",
        ] {
            assert_ne!(uids[anew], uids_before[anew], "{anew}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn delete_removes_everything() -> anyhow::Result<()> {
    in_namespace("deletion", async |sandbox| {
        let _operator = ready(sandbox, json!({"deletionPolicy": "Delete"})).await?;
        sandbox.api::<AuthService>().delete("gate", &DeleteParams::background()).await?;
        wait_for_state(sandbox, "nothing is left", &State::new()).await
    })
    .await
}

#[tokio::test]
async fn the_policy_can_change_until_the_end() -> anyhow::Result<()> {
    in_namespace("deletion", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let retain = state(&sandbox.client, &sandbox.namespace).await?;
        sandbox.merge::<AuthService>("gate", json!({"spec": {"deletionPolicy": "Delete"}})).await?;
        for name in ["gate-admin", "gate-database", "gate-keys", "gate-mysql-root"] {
            let owned = |secret: &Secret| {
                secret
                    .owner_references()
                    .iter()
                    .any(|owner| owner.name == "gate" && owner.controller == Some(true))
            };
            sandbox.wait_until::<Secret>(name, "an owner", owned).await?;
        }
        let deletes = |set: &StatefulSet| {
            serde_json::to_value(&set.spec).is_ok_and(|spec| {
                spec["persistentVolumeClaimRetentionPolicy"]
                    == json!({"whenDeleted": "Delete", "whenScaled": "Retain"})
            })
        };
        sandbox.wait_until::<StatefulSet>("gate-mysql", "volumes that go with it", deletes).await?;
        sandbox.merge::<AuthService>("gate", json!({"spec": {"deletionPolicy": null}})).await?;
        wait_for_state(sandbox, "all is as under Retain", &retain).await?;
        sandbox.api::<AuthService>().delete("gate", &DeleteParams::background()).await?;
        wait_for_state(sandbox, "only data and credentials are left", &retained(retain)).await
    })
    .await
}

#[tokio::test]
async fn a_suspended_resource_and_one_without_an_operator_can_be_deleted() -> anyhow::Result<()> {
    in_namespace("deletion", async |sandbox| {
        let mut operator = ready(sandbox, json!({"deletionPolicy": "Delete"})).await?;
        sandbox.merge::<AuthService>("gate", json!({"spec": {"suspend": true}})).await?;
        sandbox.wait_condition("gate", "Suspended", "True", "Suspended").await?;
        operator.kill().await?;
        sandbox.api::<AuthService>().delete("gate", &DeleteParams::background()).await?;
        wait_for_state(sandbox, "nothing is left", &State::new()).await
    })
    .await
}

#[tokio::test]
async fn a_volume_grows_and_its_template_keeps_the_size_it_was_made_with() -> anyhow::Result<()> {
    in_namespace("deletion", async |sandbox| {
        let class = sandbox.namespace.as_str();
        let growing = json!({"metadata": {"name": class}, "provisioner": "example.org/none", "allowVolumeExpansion": true});
        let request = http::Request::post("/apis/storage.k8s.io/v1/storageclasses")
            .header("content-type", "application/json")
            .body(growing.to_string().into_bytes())?;
        sandbox.client.request::<Value>(request).await?;
        let storage = |size: &str| json!({"database": {"managed": {"storage": {"size": size, "storageClassName": class}}}});
        let _operator = ready(sandbox, storage("1Gi")).await?;
        let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        let volumes = sandbox.api::<PersistentVolumeClaim>();
        volumes.patch_status("data-gate-mysql-0", &PatchParams::default(), &Patch::Merge(bound)).await?;

        sandbox.merge::<AuthService>("gate", json!({"spec": storage("2Gi")})).await?;
        let size = |claim: &Value| claim["spec"]["resources"]["requests"]["storage"].clone();
        let grown = |claim: &PersistentVolumeClaim| serde_json::to_value(claim).is_ok_and(|claim| size(&claim) == json!("2Gi"));
        sandbox.wait_until::<PersistentVolumeClaim>("data-gate-mysql-0", "a larger claim", grown).await?;
        sandbox.wait_ready("gate").await?;
        let set = serde_json::to_value(sandbox.api::<StatefulSet>().get("gate-mysql").await?)?;
        assert_eq!(size(&set["spec"]["volumeClaimTemplates"][0]), json!("1Gi"));
        let classes = kube::Api::<k8s_openapi::api::storage::v1::StorageClass>::all(sandbox.client.clone());
        classes.delete(class, &DeleteParams::default()).await?;
        Ok(())
    })
    .await
}
