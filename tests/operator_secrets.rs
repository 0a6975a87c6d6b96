//! Secrets against a real API server: entries are written once, a loss is told and not papered
//! over, and what people bring is copied.

mod support;

use std::collections::BTreeMap;

use authservice::api::AuthService;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service},
};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde_json::{Value, json};
use support::{
    cluster::{Sandbox, condition, in_namespace},
    operator::Operator,
    players::{Migration, Script, play, ready},
};

async fn entries(sandbox: &Sandbox, name: &str) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let data = sandbox.api::<Secret>().get(name).await?.data.unwrap_or_default();
    Ok(data.into_iter().map(|(key, value)| (key, value.0)).collect())
}

/// Deletes a Secret and answers what brings it back.
async fn lose(sandbox: &Sandbox, name: &str) -> anyhow::Result<Secret> {
    let secret = sandbox.api::<Secret>().get(name).await?;
    sandbox.api::<Secret>().delete(name, &DeleteParams::default()).await?;
    let metadata =
        ObjectMeta { name: secret.metadata.name, labels: secret.metadata.labels, ..ObjectMeta::default() };
    Ok(Secret { metadata, data: secret.data, type_: secret.type_, ..Secret::default() })
}

#[tokio::test]
async fn the_secrets_of_an_empty_spec_hold_what_people_and_pods_need() -> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let keys = entries(sandbox, "gate-keys").await?;
        let id = sandbox
            .api::<AuthService>()
            .get("gate")
            .await?
            .status
            .and_then(|status| status.token?.key_id)
            .unwrap_or_default();
        assert_eq!(keys.keys().cloned().collect::<Vec<_>>(), [format!("{id}.key"), format!("{id}.signs")]);
        let accounts = entries(sandbox, "gate-database").await?;
        assert_eq!(
            accounts.keys().collect::<Vec<_>>(),
            ["1.password", "1.username", "admin-issued", "id", "job-key"]
        );
        assert_eq!(accounts["job-key"].len(), 32);
        let account_id = String::from_utf8(accounts["id"].clone())?;
        assert!(
            account_id.len() == 8 && account_id.bytes().all(|digit| digit.is_ascii_hexdigit()),
            "{account_id}"
        );
        assert_eq!(String::from_utf8(accounts["1.username"].clone())?, format!("as_{account_id}_1"));
        let admin = entries(sandbox, "gate-admin").await?;
        assert_eq!(String::from_utf8(admin["email"].clone())?, format!("admin@gate.{}", sandbox.namespace));
        assert!(admin["password"].len() >= 24);
        let view: BTreeMap<_, _> = [
            ("JWT_SECRET", keys[&format!("{id}.key")].clone()),
            ("MYSQL_DB", b"auth".to_vec()),
            ("MYSQL_HOST", format!("gate-mysql.{}.svc", sandbox.namespace).into_bytes()),
            ("MYSQL_PASSWORD", accounts["1.password"].clone()),
            ("MYSQL_PORT", b"3306".to_vec()),
            ("MYSQL_USER", accounts["1.username"].clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        assert_eq!(entries(sandbox, "gate-credentials").await?, view);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lost_key_ring_is_told_and_not_replaced_and_heals_when_restored() -> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let lost = lose(sandbox, "gate-keys").await?;
        let message = sandbox.wait_condition("gate", "SecretLost", "True", "SecretLost").await?;
        assert_eq!(
            message,
            "Secret gate-keys with the signing keys is gone or holds no key that signs, and tokens signed by them are in use: restore it from a backup, or annotate the AuthService with authservice.dev/regenerate=gate-keys to generate a new one, which logs everybody out"
        );
        // Nothing else waits for it.
        sandbox.api::<Service>().delete("gate", &DeleteParams::default()).await?;
        sandbox.wait_until::<Service>("gate", "the Service is back", |_| true).await?;
        assert!(sandbox.api::<Secret>().get_opt("gate-keys").await?.is_none());

        sandbox.api::<Secret>().create(&PostParams::default(), &lost).await?;
        let service = sandbox.wait_ready("gate").await?;
        assert_eq!(condition(&service, "SecretLost"), None);
        assert_eq!(sandbox.api::<Secret>().get("gate-keys").await?.data, lost.data);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn another_algorithm_has_a_private_key_that_nobody_else_is_told() -> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        let _operator = ready(sandbox, json!({"token": {"algorithm": "ES256"}})).await?;
        let ring = entries(sandbox, "gate-keys").await?;
        let (entry, key) = ring.iter().find(|(entry, _)| entry.ends_with(".es256.pem")).unwrap();
        assert!(key.starts_with(b"-----BEGIN PRIVATE KEY-----"), "{entry}");
        assert!(!entries(sandbox, "gate-credentials").await?.contains_key("JWT_SECRET"));

        sandbox.merge::<AuthService>("gate", json!({"spec": {"token": {"algorithm": "EdDSA"}}})).await?;
        let has_next =
            |secret: &Secret| secret.data.iter().flatten().any(|(entry, _)| entry.ends_with(".eddsa.pem"));
        sandbox.wait_until::<Secret>("gate-keys", "a key of the new algorithm", has_next).await?;
        let joined = entries(sandbox, "gate-keys").await?;
        assert_eq!(joined[entry], *key, "the old one stays");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lost_key_ring_is_made_anew_on_request() -> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let lost = lose(sandbox, "gate-keys").await?;
        sandbox.wait_condition("gate", "SecretLost", "True", "SecretLost").await?;
        let annotation = json!({"metadata": {"annotations": {"authservice.dev/regenerate": "gate-keys"}}});
        sandbox.merge::<AuthService>("gate", annotation).await?;
        let made = sandbox.wait_until::<Secret>("gate-keys", "a new ring", |_| true).await?;
        assert_ne!(made.data, lost.data);
        let service = sandbox
            .wait_until::<AuthService>("gate", "no loss", |service| {
                condition(service, "SecretLost").is_none()
            })
            .await?;
        let id = service.status.and_then(|status| status.token?.key_id).unwrap_or_default();
        let entries = made.data.unwrap_or_default();
        assert_eq!(entries.keys().cloned().collect::<Vec<_>>(), [format!("{id}.key"), format!("{id}.signs")]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn lost_accounts_and_a_lost_root_password_are_told_and_not_replaced() -> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let losses = [
            ("gate-database", "Secret gate-database with the database accounts is gone, and the database knows them: restore it from a backup, or annotate the AuthService with authservice.dev/regenerate=gate-database to make new accounts"),
            ("gate-mysql-root", "Secret gate-mysql-root with the root password of the managed database is gone: restore it with its key password, or annotate the AuthService with authservice.dev/regenerate=gate-mysql-root to generate a new one, and then delete Pod gate-mysql-0, because the database takes its password over when it starts"),
        ];
        for (name, message) in losses {
            let lost = lose(sandbox, name).await?;
            assert_eq!(sandbox.wait_condition("gate", "SecretLost", "True", "SecretLost").await?, message);
            // Nothing else waits for it.
            sandbox.api::<Service>().delete("gate-mysql", &DeleteParams::default()).await?;
            sandbox.wait_until::<Service>("gate-mysql", "the Service is back", |_| true).await?;
            assert!(sandbox.api::<Secret>().get_opt(name).await?.is_none());
            sandbox.api::<Secret>().create(&PostParams::default(), &lost).await?;
            let service = sandbox.wait_ready("gate").await?;
            assert_eq!(condition(&service, "SecretLost"), None);
            assert_eq!(sandbox.api::<Secret>().get(name).await?.data, lost.data);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_emptied_root_password_is_told_and_made_anew_on_request() -> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        sandbox.merge::<Secret>("gate-mysql-root", json!({"data": {"password": ""}})).await?;
        let message = sandbox.wait_condition("gate", "SecretLost", "True", "SecretLost").await?;
        assert!(message.contains("has no key password, or an empty one: restore the key"), "{message}");
        assert_eq!(entries(sandbox, "gate-mysql-root").await?["password"], b"");
        let annotation =
            json!({"metadata": {"annotations": {"authservice.dev/regenerate": "gate-mysql-root"}}});
        sandbox.merge::<AuthService>("gate", annotation).await?;
        let is_filled = |secret: &Secret| secret.data.iter().flatten().all(|(_, value)| !value.0.is_empty());
        sandbox.wait_until::<Secret>("gate-mysql-root", "a new password", is_filled).await?;
        let is_told = |service: &AuthService| condition(service, "SecretLost").is_some();
        sandbox.wait_until::<AuthService>("gate", "no loss", |service| !is_told(service)).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_admin_secret_never_returns_and_blocks_nothing() -> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        let mut operator = ready(sandbox, json!({})).await?;
        sandbox.api::<Secret>().delete("gate-admin", &DeleteParams::default()).await?;
        sandbox.merge::<AuthService>("gate", json!({"spec": {"token": {"ttl": "2h"}}})).await?;
        sandbox.wait_ready("gate").await?;
        operator.kill().await?;
        let _operator = Operator::start(sandbox)?;
        sandbox.merge::<AuthService>("gate", json!({"spec": {"image": "registry/server:2"}})).await?;
        sandbox.wait_ready("gate").await?;
        assert!(sandbox.api::<Secret>().get_opt("gate-admin").await?.is_none());
        Ok(())
    })
    .await
}

fn external() -> Value {
    json!({"database": {"external": {"hosts": [{"host": "db"}], "credentialsSecretRef": {"name": "account"}}}})
}

fn account(password: &str) -> Value {
    json!({"metadata": {"name": "account"}, "stringData": {"username": "app", "password": password}})
}

#[tokio::test]
async fn a_changed_account_becomes_the_next_entry_and_is_used_once_its_migration_has_completed()
-> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        sandbox.create::<Secret>(&account("first\n")).await?;
        let _operator = ready(sandbox, external()).await?;
        let before = entries(sandbox, "gate-database").await?;
        assert_eq!(before["1.password"], b"first");
        assert_eq!(mounted(sandbox).await?, json!("1.password"));

        play(&sandbox.namespace, Script { migration: Migration::Runs, ..Script::default() });
        sandbox.merge::<Secret>("account", json!({"stringData": {"password": "second"}})).await?;
        sandbox.wait_condition("gate", "SchemaReady", "False", "Migrating").await?;
        let mut wanted = before.clone();
        wanted.insert("2.username".to_owned(), b"app".to_vec());
        wanted.insert("2.password".to_owned(), b"second".to_vec());
        assert_eq!(entries(sandbox, "gate-database").await?, wanted);
        assert_eq!(mounted(sandbox).await?, json!("1.password"));

        play(&sandbox.namespace, Script::default());
        sandbox.wait_ready("gate").await?;
        assert_eq!(mounted(sandbox).await?, json!("2.password"));
        assert_eq!(entries(sandbox, "gate-database").await?, wanted);
        assert_eq!(entries(sandbox, "gate-credentials").await?["MYSQL_PASSWORD"], b"second");
        Ok(())
    })
    .await
}

/// Which entry of the accounts the server pods mount.
async fn mounted(sandbox: &Sandbox) -> anyhow::Result<Value> {
    let deployment = serde_json::to_value(sandbox.api::<Deployment>().get("gate").await?)?;
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let account = volumes.into_iter().find(|volume| volume["secret"]["secretName"] == "gate-database");
    Ok(account.map(|volume| volume["secret"]["items"][0]["key"].clone()).unwrap_or_default())
}

#[tokio::test]
async fn a_missing_secret_is_named_with_the_cure_and_heals_when_it_is_made() -> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        play(&sandbox.namespace, Script::default());
        let _operator = Operator::start(sandbox)?;
        let mut spec = external();
        spec["token"] = json!({"signingKeySecretRef": {"name": "key"}});
        spec["http"] = json!({"tls": {"secretRef": {"name": "door"}}});
        sandbox.create_service("gate", spec).await?;
        let message = sandbox.wait_condition("gate", "SecretUnusable", "True", "SecretMissing").await?;
        for part in [
            "token.signingKeySecretRef: Secret key does not exist: create it with key JWT_SECRET: at least 32 random bytes",
            "database.external.credentialsSecretRef: Secret account does not exist: create it with keys username and password",
            "http.tls.secretRef: Secret door does not exist: create it with type kubernetes.io/tls and keys tls.crt and tls.key",
        ] {
            assert!(message.contains(part), "{message}");
        }
        sandbox.wait_until::<Service>("gate", "the Service, which needs no Secret", |_| true).await?;
        sandbox.create::<Secret>(&account("p")).await?;
        let key = "k".repeat(32);
        sandbox.create::<Secret>(&json!({"metadata": {"name": "key"}, "stringData": {"JWT_SECRET": key}})).await?;
        let pair = json!({"tls.crt": "a chain", "tls.key": "its key"});
        sandbox.create::<Secret>(&json!({"metadata": {"name": "door"}, "stringData": pair})).await?;
        let service = sandbox.wait_ready("gate").await?;
        assert_eq!(
            service.status.as_ref().and_then(|status| status.url.clone()),
            Some(format!("https://gate.{}.svc:5000", sandbox.namespace))
        );
        assert_eq!(condition(&service, "SecretUnusable"), None);
        assert_eq!(entries(sandbox, "gate-credentials").await?["JWT_SECRET"], key.as_bytes());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_signing_key_brought_later_joins_the_ring_and_removes_nothing() -> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let before = entries(sandbox, "gate-keys").await?;
        let key = "k".repeat(40);
        sandbox
            .create::<Secret>(&json!({"metadata": {"name": "key"}, "stringData": {"signing": key}}))
            .await?;
        let reference =
            json!({"spec": {"token": {"signingKeySecretRef": {"name": "key", "key": "signing"}}}});
        sandbox.merge::<AuthService>("gate", reference).await?;
        let joined = |secret: &Secret| secret.data.as_ref().is_some_and(|data| data.len() == 4);
        sandbox.wait_until::<Secret>("gate-keys", "a second key", joined).await?;
        sandbox.wait_ready("gate").await?;
        let mut after = entries(sandbox, "gate-keys").await?;
        for (name, value) in &before {
            assert_eq!(after.remove(name).as_ref(), Some(value), "{name}");
        }
        assert_eq!(after.values().filter(|value| *value == key.as_bytes()).count(), 1);
        // The first key signs until every pod has had the time to read the second one.
        let view = entries(sandbox, "gate-credentials").await?;
        assert!(before.values().any(|value| *value == view["JWT_SECRET"]));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_key_that_is_too_short_is_refused_with_the_cure() -> anyhow::Result<()> {
    in_namespace("secrets", async |sandbox| {
        sandbox.create::<Secret>(&json!({"metadata": {"name": "key"}, "stringData": {"JWT_SECRET": "sarcasm"}})).await?;
        play(&sandbox.namespace, Script::default());
        let _operator = Operator::start(sandbox)?;
        sandbox.create_service("gate", json!({"token": {"signingKeySecretRef": {"name": "key"}}})).await?;
        let message = sandbox.wait_condition("gate", "SecretUnusable", "True", "SecretInvalid").await?;
        assert_eq!(
            message,
            "token.signingKeySecretRef: Secret key holds 7 bytes under key JWT_SECRET; HS256 needs at least 32 (RFC 7518 section 3.2): replace it, for example by the output of `openssl rand -hex 32`"
        );
        Ok(())
    })
    .await
}
