//! The server's image in the manifests of the service it replaces, beside Services whose names put
//! variables such as `MYSQL_PORT=tcp://10.96.0.7:3306` into every pod's environment.

mod support;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use support::{
    clients::{self, Credentials, claims, pod_is_ready, token, variable},
    cluster::Sandbox,
    node::{Database, Engine, apply, eventually, kill_pod, on_node},
};

const EXAMPLE: &str = include_str!("../examples/original/auth.yaml");

/// Replaces every server pod, so that each starts with what Services there are now in its environment.
async fn replace_pods(sandbox: &Sandbox) -> anyhow::Result<()> {
    let pods = sandbox.api::<Pod>();
    let servers = ListParams::default().labels("app=auth");
    let old: Vec<String> = pods.list(&servers).await?.iter().map(ResourceExt::name_any).collect();
    for name in &old {
        kill_pod(sandbox, name).await?;
    }
    // The original's manifests have no probes: a pod is ready there before it listens.
    eventually("two pods that answer", &2, async || {
        let live = pods.list(&servers).await?;
        let mut answering = 0;
        for pod in live.iter().filter(|pod| pod_is_ready(pod) && !old.contains(&pod.name_any())) {
            let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
            answering += usize::from(clients::readyz(&address).await? == 200);
        }
        Ok(answering)
    })
    .await
}

#[tokio::test]
async fn three_changed_lines_of_the_originals_manifests_are_enough() -> anyhow::Result<()> {
    on_node("original", async |sandbox| {
        // The original's manifests know no security context.
        let baseline = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
        Api::<Namespace>::all(sandbox.client.clone())
            .patch(&sandbox.namespace, &PatchParams::default(), &Patch::Merge(baseline))
            .await?;
        let database = Database::start(sandbox, "mysql", Engine::MySql).await?;
        database
            .sql(
                "CREATE USER 'auth_user'@'%' IDENTIFIED BY 'Auth123';
                CREATE DATABASE auth;
                GRANT ALL PRIVILEGES ON auth.* TO 'auth_user'@'%';
                CREATE TABLE auth.user (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARCHAR(255) NOT NULL UNIQUE, password VARCHAR(255) NOT NULL);
                INSERT INTO auth.user (email, password) VALUES ('georgio@email.com', 'Admin123');",
            )
            .await?;
        let released = concat!("ghcr.io/authservice-operator/auth-server:", env!("CARGO_PKG_VERSION"));
        let manifests = EXAMPLE
            .replace(released, &variable("TEST_SERVER_IMAGE")?)
            .replace("host.minikube.internal", "mysql");
        assert_eq!(manifests.matches("changed").count(), 4, "three changes, and the line that announces them");
        apply(sandbox, &manifests).await?;
        replace_pods(sandbox).await?;
        works(sandbox).await?;

        // Without the ConfigMap's port, the one in the environment is that of the service link.
        apply(sandbox, &manifests.replace("  MYSQL_PORT: \"3306\"\n", "")).await?;
        replace_pods(sandbox).await?;
        works(sandbox).await
    })
    .await
}

async fn works(sandbox: &Sandbox) -> anyhow::Result<()> {
    let address = clients::address(sandbox, "auth").await?;
    let user = Credentials::new("georgio@email.com", "Admin123");
    // The Service leads to pods a moment after they answer.
    eventually("a login", &200, async || Ok(clients::login(&address, &user).await?.status)).await?;
    let token = token(&address, &user).await?;
    let claims = claims(&address, &token).await?;
    assert_eq!((&claims["username"], &claims["admin"]), (&json!("georgio@email.com"), &json!(true)));
    let verified = clients::verify(&token, "replace-me-by-openssl-rand-base64-48", &user.email).await?;
    let original = verified["original"]["issued"].as_str().unwrap_or_default();
    assert_eq!(clients::validate(&address, original).await?.status, 200);
    Ok(())
}
