//! A namespace of a real API server in its normal form.

use std::{collections::BTreeMap, time::Duration};

use authservice::api::AuthService;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, Client, Resource, ResourceExt as _, api::ListParams, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub use super::normal_form::{State, differences};
use super::{
    cluster::{PATIENCE, Sandbox},
    normal_form::state_of,
};

/// The namespace's objects as they are now.
///
/// # Errors
/// When they cannot be listed.
pub async fn state(client: &Client, namespace: &str) -> anyhow::Result<State> {
    let mut objects = Vec::new();
    collect::<AuthService>(list(client, namespace).await?, &mut objects)?;
    collect::<Deployment>(list(client, namespace).await?, &mut objects)?;
    collect::<StatefulSet>(list(client, namespace).await?, &mut objects)?;
    collect::<Service>(list(client, namespace).await?, &mut objects)?;
    collect::<PodDisruptionBudget>(list(client, namespace).await?, &mut objects)?;
    collect::<PersistentVolumeClaim>(list(client, namespace).await?, &mut objects)?;
    collect::<Job>(list(client, namespace).await?, &mut objects)?;
    collect::<Secret>(list(client, namespace).await?, &mut objects)?;
    state_of(namespace, &objects)
}

/// Waits until the namespace is in this state.
///
/// # Errors
/// After [`PATIENCE`], with the differences.
pub async fn wait_for_state(sandbox: &Sandbox, what: &str, wanted: &State) -> anyhow::Result<()> {
    wait_for_state_in(&sandbox.client, &sandbox.namespace, what, wanted).await
}

/// As [`wait_for_state`], of a namespace by its name.
///
/// # Errors
/// As [`wait_for_state`].
pub async fn wait_for_state_in(
    client: &Client,
    namespace: &str,
    what: &str,
    wanted: &State,
) -> anyhow::Result<()> {
    let started = tokio::time::Instant::now();
    loop {
        let live = state(client, namespace).await?;
        if live == *wanted {
            return Ok(());
        }
        anyhow::ensure!(started.elapsed() < PATIENCE, "{what}: {}", differences(wanted, &live));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn list<K>(client: &Client, namespace: &str) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    Ok(Api::<K>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?.items)
}

fn collect<K>(items: Vec<K>, objects: &mut Vec<Value>) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    for item in items {
        let mut object = serde_json::to_value(item)?;
        object["kind"] = json!(K::kind(&()));
        objects.push(object);
    }
    Ok(())
}

/// The uid of every object whose kind the operator makes, by `Kind name`.
///
/// # Errors
/// When they cannot be listed.
pub async fn uids(client: &Client, namespace: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut uids = BTreeMap::new();
    add::<Deployment>(&list(client, namespace).await?, &mut uids);
    add::<StatefulSet>(&list(client, namespace).await?, &mut uids);
    add::<Service>(&list(client, namespace).await?, &mut uids);
    add::<PodDisruptionBudget>(&list(client, namespace).await?, &mut uids);
    add::<PersistentVolumeClaim>(&list(client, namespace).await?, &mut uids);
    add::<Job>(&list(client, namespace).await?, &mut uids);
    add::<Secret>(&list(client, namespace).await?, &mut uids);
    Ok(uids)
}

fn add<K: Resource<DynamicType = ()>>(items: &[K], uids: &mut BTreeMap<String, String>) {
    for item in items {
        uids.insert(format!("{} {}", K::kind(&()), item.name_any()), item.uid().unwrap_or_default());
    }
}
