//! The operator's pods killed ten times, at moments drawn from a seed, while resources are created
//! and changed: the end is the same as without.

mod support;

use std::time::Duration;

use authservice::api::AuthService;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use support::{
    cluster::Sandbox,
    node::{OPERATOR_PODS, SYSTEM, in_own_namespace, on_node},
    normal::{state, wait_for_state},
};

const KILLS: u32 = 10;

/// Two resources, each created and changed.
async fn create_and_change(sandbox: &Sandbox) -> anyhow::Result<()> {
    sandbox.create_service("auth", json!({})).await?;
    sandbox.create_service("staff", json!({"replicas": 1, "deletionPolicy": "Delete"})).await?;
    sandbox.wait_ready("auth").await?;
    sandbox.merge::<AuthService>("auth", json!({"spec": {"replicas": 3, "token": {"ttl": "2h"}}})).await?;
    sandbox.wait_ready("staff").await?;
    let pod = json!({"labels": {"tier": "login"}, "resources": {"requests": {"cpu": "10m"}}});
    sandbox.merge::<AuthService>("staff", json!({"spec": {"deletionPolicy": "Retain", "pod": pod}})).await?;
    sandbox.merge::<AuthService>("auth", json!({"spec": {"replicas": 1, "token": null}})).await?;
    sandbox.wait_ready("auth").await?;
    sandbox.wait_ready("staff").await?;
    Ok(())
}

async fn kill_operators(sandbox: &Sandbox, seed: u64) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let pods: Api<Pod> = Api::namespaced(sandbox.client.clone(), SYSTEM);
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.random_range(200..4000))).await;
        for pod in pods.list(&ListParams::default().labels(OPERATOR_PODS)).await? {
            pods.delete(&pod.name_any(), &at_once).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn ten_kills_of_the_operator_change_nothing_in_the_end() -> anyhow::Result<()> {
    let seed =
        std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("TEST_SEED={seed}");
    on_node("calm", async |calm| {
        create_and_change(calm).await?;
        let wanted = state(&calm.client, &calm.namespace).await?;
        in_own_namespace("killed", async |killed| {
            let (kills, changes) = tokio::join!(kill_operators(killed, seed), create_and_change(killed));
            kills?;
            changes?;
            wait_for_state(killed, "the state without kills", &wanted).await
        })
        .await
    })
    .await
}
