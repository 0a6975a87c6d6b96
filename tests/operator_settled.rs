//! A settled resource costs nothing: no writes, and no memory however often it is looked at.

mod support;

use std::time::Duration;

use authservice::api::AuthService;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use support::{
    audit::Mark,
    cluster::{Sandbox, in_namespace},
    operator::Operator,
    players::{Script, play},
};

fn is_full() -> bool {
    std::env::var_os("TEST_FULL").is_some()
}

/// An operator and some settled resources of both modes, with many fields and with none.
async fn settled(sandbox: &Sandbox) -> anyhow::Result<(Operator, Vec<&'static str>)> {
    play(&sandbox.namespace, Script::default());
    let secret = json!({"metadata": {"name": "account"}, "stringData": {"username": "app", "password": "p"}});
    sandbox.create::<Secret>(&secret).await?;
    let operator = Operator::start(sandbox)?;
    let specs = [
        ("bare", json!({})),
        (
            "external",
            json!({"database": {"external": {"hosts": [{"host": "db"}], "credentialsSecretRef": {"name": "account"}}}}),
        ),
        (
            "full",
            json!({
                "replicas": 1,
                "image": "registry/server:1",
                "database": {"managed": {"storage": {"size": "1024Mi"}, "resources": {"limits": {"cpu": 2, "memory": "1024Mi"}}}},
                "token": {"ttl": "90m"},
                "passwords": {"legacyFormats": ["plaintext"], "rehash": false},
                "users": {"bootstrap": []},
                "monitoring": {"tracing": {"endpoint": "http://collector:4318", "sampling": 0.1}},
                "pod": {
                    "resources": {"requests": {"cpu": "1000m", "memory": "0.5Gi"}},
                    "labels": {"team": "gate"},
                    "annotations": {"example.org/empty": ""},
                    "imagePullSecrets": [{"name": "pull"}],
                },
                "deletionPolicy": "Delete",
            }),
        ),
    ];
    let mut names = Vec::new();
    for (name, spec) in specs {
        sandbox.create_service(name, spec).await?;
        names.push(name);
    }
    for name in &names {
        sandbox.wait_ready(name).await?;
    }
    Ok((operator, names))
}

#[tokio::test]
async fn a_settled_resource_causes_no_writes() -> anyhow::Result<()> {
    in_namespace("settled", async |sandbox| {
        let (mut operator, names) = settled(sandbox).await?;
        // The pods' first answers to the operator change status once more.
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mark = Mark::now()?;
        tokio::time::sleep(Duration::from_secs(if is_full() { 120 } else { 30 })).await;
        assert_eq!(mark.writes_in(&sandbox.namespace)?, [""; 0]);

        // Nor does a fresh process find anything to do.
        operator.kill().await?;
        let mark = Mark::now()?;
        let again = Operator::start(sandbox)?;
        let looked_at = u32::try_from(names.len())?;
        let started = tokio::time::Instant::now();
        while again.metric("authservice_operator_reconciles_total", "").await.unwrap_or_default()
            < f64::from(looked_at)
        {
            anyhow::ensure!(started.elapsed() < Duration::from_mins(1), "no reconciles");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(mark.writes_in(&sandbox.namespace)?, [""; 0]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn memory_does_not_grow_with_reconciles() -> anyhow::Result<()> {
    let (few, many) = if is_full() { (1_000.0, 10_000.0) } else { (500.0, 2_000.0) };
    in_namespace("settled", async |sandbox| {
        let (operator, names) = settled(sandbox).await?;
        let after_few = touch_until(sandbox, &operator, &names, few).await?;
        let after_many = touch_until(sandbox, &operator, &names, many).await?;
        println!("{after_few} KiB after {few} reconciles, {after_many} KiB after {many}");
        anyhow::ensure!(after_many * 100 <= after_few * 105, "{after_few} KiB grew to {after_many} KiB");
        Ok(())
    })
    .await
}

/// Touches the resources until the operator has looked this often; answers its memory in KiB.
async fn touch_until(
    sandbox: &Sandbox,
    operator: &Operator,
    names: &[&str],
    reconciles: f64,
) -> anyhow::Result<u64> {
    let mut round = 0;
    while operator.metric("authservice_operator_reconciles_total", "finished").await? < reconciles {
        round += 1;
        let touch =
            json!({"metadata": {"annotations": {"example.org/round": format!("{reconciles}-{round}")}}});
        stream::iter(names)
            .map(|name| sandbox.merge::<AuthService>(name, touch.clone()))
            .buffer_unordered(names.len())
            .try_collect::<Vec<_>>()
            .await?;
    }
    operator.resident_kib()
}
