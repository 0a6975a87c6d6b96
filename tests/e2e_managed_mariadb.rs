//! The managed database beyond the default: on a MariaDB image, and killed while it first starts.

mod support;

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use support::{
    clients::{self, admin, claims, token, variable},
    cluster::Sandbox,
    node::{kill_pod, on_node},
};

/// Kills the database's pod each time it has run this long since its container started.
async fn kill_after(sandbox: &Sandbox, moments: &[Duration]) -> anyhow::Result<()> {
    let mut last = None;
    for moment in moments {
        let pod = sandbox
            .wait_until("auth-mysql-0", "a started container", |pod: &Pod| {
                let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
                let started = statuses
                    .unwrap_or_default()
                    .iter()
                    .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
                pod.metadata.uid != last && started
            })
            .await?;
        tokio::time::sleep(*moment).await;
        kill_pod(sandbox, "auth-mysql-0").await?;
        last = pod.metadata.uid;
    }
    Ok(())
}

async fn is_killed_while_it_first_starts(sandbox: &Sandbox, image: &str) -> anyhow::Result<String> {
    let managed = json!({"managed": {"image": image}});
    sandbox.create_service("auth", json!({"replicas": 1, "database": managed})).await?;
    kill_after(sandbox, &[50, 400, 1000, 2200, 200].map(Duration::from_millis)).await?;
    let service = sandbox.wait_ready("auth").await?;
    let address = clients::address(sandbox, "auth").await?;
    let user = admin(sandbox, "auth").await?;
    let claims = claims(&address, &token(&address, &user).await?).await?;
    assert_eq!(claims["username"], user.email);
    let database = service.status.and_then(|status| status.database).context("no word of the database")?;
    database.version.context("no version of the database")
}

#[tokio::test]
async fn a_managed_mariadb_killed_while_it_first_starts_comes_up() -> anyhow::Result<()> {
    on_node("mariadb", async |sandbox| {
        let version = is_killed_while_it_first_starts(sandbox, &variable("TEST_MARIADB_IMAGE")?).await?;
        assert!(version.contains("MariaDB"), "{version}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_managed_mysql_killed_while_it_first_starts_comes_up() -> anyhow::Result<()> {
    on_node("mysql", async |sandbox| {
        let version = is_killed_while_it_first_starts(sandbox, &variable("TEST_MYSQL_IMAGE")?).await?;
        assert!(version.starts_with("9."), "{version}");
        Ok(())
    })
    .await
}
