//! HTTPS and the administration port on a real node: by the names that the pods of a cluster use, with
//! the Secrets that the kubelet mounts and renews, and users by `kubectl exec`.

mod support;

use authservice::api::AuthService;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::DeleteParams;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use support::{
    clients::{self, CLIENT, Caller, admin, exec, start_client},
    cluster::Sandbox,
    node::{eventually, on_node, pods, restarts},
};

/// A certificate that is its own authority, as entries of a Secret of type `kubernetes.io/tls`.
fn certificate(names: &[String]) -> anyhow::Result<(Value, String)> {
    let key = KeyPair::generate()?;
    let chain = CertificateParams::new(names)?.self_signed(&key)?.pem();
    Ok((json!({"tls.crt": chain, "tls.key": key.serialize_pem()}), chain))
}

/// Lets the client pod trust this certificate alone.
async fn trust(sandbox: &Sandbox, certificate: &str) -> anyhow::Result<()> {
    exec(sandbox, CLIENT, &["sh", "-c", "cat > /tmp/ca.pem"], certificate).await?;
    Ok(())
}

async fn curl(sandbox: &Sandbox, arguments: &[&str]) -> anyhow::Result<String> {
    let fixed = ["--silent", "--show-error", "--fail-with-body", "--cacert", "/tmp/ca.pem"];
    clients::curl(Caller::Pod(sandbox), &[&fixed, arguments].concat()).await
}

async fn auth_server(sandbox: &Sandbox, words: &[&str], input: &str) -> anyhow::Result<String> {
    exec(sandbox, "deployment/auth", &[&["/auth-server"], words].concat(), input).await
}

#[tokio::test]
async fn https_and_administration_work_by_the_names_of_the_cluster() -> anyhow::Result<()> {
    on_node("ports", async |sandbox| {
        let host = |service: &str| format!("{service}.{}.svc", sandbox.namespace);
        let names = [host("auth"), host("auth-administration")];
        let (entries, first) = certificate(&names)?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "door"}, "stringData": entries,
        });
        sandbox.create::<Secret>(&secret).await?;
        let spec = json!({"http": {"tls": {"secretRef": {"name": "door"}}}, "administration": {}});
        sandbox.create_service("auth", spec).await?;
        let service = sandbox.wait_ready("auth").await?;
        let url = format!("https://{}:5000", host("auth"));
        assert_eq!(service.status.and_then(|status| status.url), Some(url.clone()));

        start_client(sandbox).await?;
        trust(sandbox, &first).await?;
        let boss = admin(sandbox, "auth").await?;
        let credentials = format!("{}:{}", boss.email, boss.password);
        let login = format!("{url}/login");
        let token = curl(sandbox, &["--request", "POST", "--user", &credentials, &login]).await?;
        let bearer = format!("Authorization: Bearer {token}");
        let validate = format!("{url}/validate");
        let claims = curl(sandbox, &["--request", "POST", "--header", &bearer, &validate]).await?;
        assert_eq!(serde_json::from_str::<Value>(&claims)?["username"], boss.email);

        let created = auth_server(sandbox, &["user", "create", "ann@example.com"], "secret of ann\n").await?;
        assert_eq!(created, "user ann@example.com is created with id 2\n");
        let ann = ["--request", "POST", "--user", "ann@example.com:secret of ann", &login];
        curl(sandbox, &ann).await?;

        let administrator = auth_server(sandbox, &["admin-token", "--subject", "test"], "").await?;
        let administrator = format!("Authorization: Bearer {}", administrator.trim_end());
        let users = format!("https://{}:5001/admin/users", host("auth-administration"));
        let listed = curl(sandbox, &["--header", &administrator, &users]).await?;
        let listed: Value = serde_json::from_str(&listed)?;
        assert_eq!(listed["users"][1]["email"], "ann@example.com", "{listed}");
        let refused = curl(sandbox, &["--header", &bearer, &users]).await;
        assert!(refused.is_err(), "a user's token opens nothing there: {refused:?}");
        let delete = ["--request", "DELETE", "--header", &administrator, &format!("{users}/2")];
        curl(sandbox, &delete).await?;
        assert!(curl(sandbox, &ann).await.is_err(), "who is deleted logs in no more");

        let (entries, second) = certificate(&names)?;
        sandbox.merge::<Secret>("door", json!({"stringData": entries})).await?;
        trust(sandbox, &second).await?;
        eventually("the renewed certificate", &true, async || {
            Ok(curl(sandbox, &["--request", "POST", "--header", &bearer, &validate]).await.is_ok())
        })
        .await?;
        assert_eq!(restarts(&pods(sandbox, "auth", "server").await?), [0, 0]);

        // Closed again, the port and its address go; the key stays.
        sandbox.merge::<AuthService>("auth", json!({"spec": {"administration": null}})).await?;
        sandbox.wait_gone::<Service>("auth-administration").await?;
        sandbox.wait_ready("auth").await?;
        sandbox.api::<Secret>().get("auth-administration").await?;
        sandbox.api::<AuthService>().delete("auth", &DeleteParams::background()).await?;
        Ok(())
    })
    .await
}
