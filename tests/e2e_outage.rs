//! Databases that go away under load: validation never notices, logins say so, and everything
//! recovers by itself.

mod support;

use authservice::api::AuthService;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;
use support::{
    clients::{self, Answer, admin, claims, token},
    cluster::{Sandbox, condition},
    load::{Load, Request},
    node::{eventually, kill_pod, managed_sql, on_node, pods, restarts, wait_other_pods},
};

/// Stops the managed database, and brings it back: what is suspended the operator leaves as it is.
async fn scale_database(sandbox: &Sandbox, replicas: i32) -> anyhow::Result<()> {
    sandbox.merge::<StatefulSet>("auth-mysql", json!({"spec": {"replicas": replicas}})).await?;
    sandbox
        .wait_until("auth-mysql", &format!("{replicas} ready"), |database: &StatefulSet| {
            let status = database.status.clone().unwrap_or_default();
            (status.replicas, status.ready_replicas.unwrap_or_default()) == (replicas, replicas)
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn an_outage_of_the_database_fails_logins_alone_and_ends_by_itself() -> anyhow::Result<()> {
    on_node("outage", async |sandbox| {
        sandbox.create_service("auth", json!({})).await?;
        sandbox.wait_ready("auth").await?;
        let address = clients::address(sandbox, "auth").await?;
        let user = admin(sandbox, "auth").await?;
        let token = token(&address, &user).await?;
        sandbox.merge::<AuthService>("auth", json!({"spec": {"suspend": true}})).await?;
        sandbox.wait_condition("auth", "Suspended", "True", "Suspended").await?;

        let request = Request::Validate { address: address.clone(), token: token.clone() };
        let load = Load::start(request.clone(), 50)?;
        scale_database(sandbox, 0).await?;
        let unavailable = |answer: &Answer| answer.status == 503 && answer.retry_after.is_some();
        eventually("503 of /login", &true, async || Ok(unavailable(&clients::login(&address, &user).await?)))
            .await?;
        sandbox
            .wait_until("auth", "word of the outage", |service: &AuthService| {
                condition(service, "DatabaseReady").is_some_and(|ready| ready.status == "False")
            })
            .await?;
        let outcomes = load.stop().await?;
        assert_eq!(outcomes.but("200"), [].into(), "{outcomes:?}");

        // Pods that start without a database validate all the same.
        let old = pods(sandbox, "auth", "server").await?;
        assert_eq!(restarts(&old), [0, 0]);
        let old: Vec<String> = old.iter().map(ResourceExt::name_any).collect();
        for pod in &old {
            kill_pod(sandbox, pod).await?;
        }
        wait_other_pods(sandbox, "auth", "server", &old).await?;
        let load = Load::start(request, 50)?;
        assert_eq!(claims(&address, &token).await?["username"], user.email);
        assert!(unavailable(&clients::login(&address, &user).await?));

        scale_database(sandbox, 1).await?;
        eventually("a login", &200, async || Ok(clients::login(&address, &user).await?.status)).await?;
        sandbox.merge::<AuthService>("auth", json!({"spec": {"suspend": false}})).await?;
        sandbox.wait_ready("auth").await?;
        let outcomes = load.stop().await?;
        assert_eq!(outcomes.but("200"), [].into(), "{outcomes:?}");
        assert_eq!(restarts(&pods(sandbox, "auth", "server").await?), [0, 0]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_killed_database_comes_back_while_validation_goes_on() -> anyhow::Result<()> {
    on_node("killed", async |sandbox| {
        sandbox.create_service("auth", json!({"replicas": 1})).await?;
        sandbox.wait_ready("auth").await?;
        let address = clients::address(sandbox, "auth").await?;
        let user = admin(sandbox, "auth").await?;
        let token = token(&address, &user).await?;
        let load = Load::start(Request::Validate { address: address.clone(), token }, 50)?;
        for _ in 0..2 {
            let old = sandbox.api::<Pod>().get("auth-mysql-0").await?.metadata.uid;
            kill_pod(sandbox, "auth-mysql-0").await?;
            sandbox
                .wait_until("auth-mysql-0", "another database pod", |pod: &Pod| {
                    pod.metadata.uid != old && clients::pod_is_ready(pod)
                })
                .await?;
            eventually("a login", &200, async || Ok(clients::login(&address, &user).await?.status)).await?;
        }
        sandbox.wait_ready("auth").await?;
        let outcomes = load.stop().await?;
        assert_eq!(outcomes.but("200"), [].into(), "{outcomes:?}");
        assert_eq!(restarts(&pods(sandbox, "auth", "server").await?), [0]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wiped_database_is_set_up_again_by_itself() -> anyhow::Result<()> {
    on_node("wiped", async |sandbox| {
        sandbox.create_service("auth", json!({"replicas": 1})).await?;
        sandbox.wait_ready("auth").await?;
        let address = clients::address(sandbox, "auth").await?;
        let user = admin(sandbox, "auth").await?;
        let token = token(&address, &user).await?;
        let request = Request::Validate { address: address.clone(), token };
        let load = Load::start(request, 20)?;

        managed_sql(sandbox, "auth", "DROP DATABASE auth").await?;
        eventually("a login without its table", &503, async || {
            Ok(clients::login(&address, &user).await?.status)
        })
        .await?;
        eventually("a login", &200, async || Ok(clients::login(&address, &user).await?.status)).await?;
        sandbox.wait_ready("auth").await?;

        // The volume itself is lost.
        let claims = sandbox.api::<PersistentVolumeClaim>();
        let lost = claims.delete("data-auth-mysql-0", &DeleteParams::default()).await?.left();
        kill_pod(sandbox, "auth-mysql-0").await?;
        sandbox
            .wait_until("data-auth-mysql-0", "another volume", |claim: &PersistentVolumeClaim| {
                claim.metadata.uid != lost.as_ref().and_then(|lost| lost.metadata.uid.clone())
            })
            .await?;
        eventually("a login", &200, async || Ok(clients::login(&address, &user).await?.status)).await?;
        sandbox.wait_ready("auth").await?;
        let outcomes = load.stop().await?;
        assert_eq!(outcomes.but("200"), [].into(), "{outcomes:?}");
        assert_eq!(restarts(&pods(sandbox, "auth", "server").await?), [0]);
        Ok(())
    })
    .await
}
