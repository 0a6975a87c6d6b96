//! etcd set back to a snapshot below databases that went on: services that were not changed since go
//! on as if nothing were, and what the operator did since is done again or told with its cure.

mod support;

use authservice::api::AuthService;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use support::{
    clients::{self, Credentials, admin, secret_entry, token},
    cluster::Sandbox,
    faults::{Before, Traffic, only},
    machine,
    node::{eventually, managed_sql, on_node, pods, wait_rolled_out},
    writes::Writes,
};

/// Known to the test, and to the key ring from after the snapshot on.
const LATE_KEY: &str = "a key that etcd will have forgotten";

fn secret(name: &str, entries: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries})
}

/// A service of one pod whose database is another one's.
fn beside(name: &str, reference: &str, account: &str) -> Value {
    let external = json!({"hosts": [{"host": "auth-mysql"}], "name": name, reference: {"name": account}});
    json!({"replicas": 1, "database": {"external": external}})
}

/// `auth` on a database of its own; on the same server `staff`, whose account the operator makes, and
/// `guest`, whose account is its owner's.
async fn set_up(sandbox: &Sandbox) -> anyhow::Result<()> {
    const ACCOUNTS: &str = "CREATE USER boss@'%' IDENTIFIED BY 'b0ss'; GRANT ALL ON *.* TO boss@'%' WITH GRANT OPTION;
        CREATE USER clerk@'%' IDENTIFIED BY 'first'; CREATE DATABASE guest; GRANT ALL ON guest.* TO clerk@'%';
        CREATE TABLE guest.user (id INT AUTO_INCREMENT PRIMARY KEY, email VARCHAR(255) NOT NULL UNIQUE, password VARCHAR(255) NOT NULL);";
    sandbox.create_service("auth", json!({"administration": {}})).await?;
    sandbox.wait_ready("auth").await?;
    managed_sql(sandbox, "auth", ACCOUNTS).await?;
    sandbox.create::<Secret>(&secret("boss", &json!({"username": "boss", "password": "b0ss"}))).await?;
    sandbox.create::<Secret>(&secret("clerk", &json!({"username": "clerk", "password": "first"}))).await?;
    sandbox.create_service("staff", beside("staff", "adminCredentialsSecretRef", "boss")).await?;
    let mut guest = beside("guest", "credentialsSecretRef", "clerk");
    guest["users"] = json!({"bootstrap": []});
    sandbox.create_service("guest", guest).await?;
    sandbox.wait_ready("staff").await?;
    sandbox.wait_ready("guest").await?;
    Ok(())
}

async fn validates(sandbox: &Sandbox, service: &str, token: &str) -> anyhow::Result<u16> {
    Ok(clients::validate(&clients::address(sandbox, service).await?, token).await?.status)
}

/// Another account of the operator's, after which the former one is dropped by whoever looks after
/// the database.
async fn renew_account(sandbox: &Sandbox) -> anyhow::Result<()> {
    let former = secret_entry(sandbox, "staff-database", "1.username").await?;
    sandbox.api::<Secret>().delete("staff-database", &DeleteParams::default()).await?;
    let annotation = json!({"metadata": {"annotations": {"authservice.dev/regenerate": "staff-database"}}});
    sandbox.merge::<AuthService>("staff", annotation).await?;
    eventually("another account", &true, async || {
        let data = sandbox.api::<Secret>().get("staff-database").await?.data.unwrap_or_default();
        Ok(data.contains_key("2.username"))
    })
    .await?;
    sandbox.wait_ready("staff").await?;
    wait_rolled_out(sandbox, "staff").await?;
    managed_sql(sandbox, "auth", &format!("DROP USER '{former}'@'%'")).await.map(drop)
}

async fn change_own_password(sandbox: &Sandbox, password: &str) -> anyhow::Result<()> {
    managed_sql(sandbox, "auth", &format!("ALTER USER clerk@'%' IDENTIFIED BY '{password}'")).await?;
    sandbox.merge::<Secret>("clerk", json!({"stringData": {"password": password}})).await?;
    let account = async || secret_entry(sandbox, "guest-database", "2.password").await;
    eventually("the account's new password", &password.to_owned(), account).await?;
    sandbox.wait_ready("guest").await?;
    wait_rolled_out(sandbox, "guest").await.map(drop)
}

/// Brings a key of its own to `auth`; answers a token by it that every pod takes.
async fn bring_key(sandbox: &Sandbox, username: &str) -> anyhow::Result<String> {
    sandbox.create::<Secret>(&secret("late-key", &json!({"JWT_SECRET": LATE_KEY}))).await?;
    let spec = json!({"spec": {"token": {"signingKeySecretRef": {"name": "late-key"}}}});
    sandbox.merge::<AuthService>("auth", spec).await?;
    eventually("two keys", &2, async || {
        let ring = sandbox.api::<Secret>().get("auth-keys").await?.data.unwrap_or_default();
        Ok(ring.keys().filter(|entry| entry.strip_suffix(".signs").is_some()).count())
    })
    .await?;
    // A kubelet looks after a pod that was touched at once.
    let touch = json!({"metadata": {"annotations": {"touched": "by the test"}}});
    for pod in pods(sandbox, "auth", "server").await? {
        let patch = Patch::Merge(&touch);
        sandbox.api::<Pod>().patch(&pod.name_any(), &PatchParams::default(), &patch).await?;
    }
    let token = clients::sign(LATE_KEY, username).await?;
    // Any pod may answer.
    eventually("a token by the new key", &true, async || {
        for _ in 0..20 {
            anyhow::ensure!(validates(sandbox, "auth", &token).await? == 200);
        }
        Ok(true)
    })
    .await?;
    Ok(token)
}

/// Creates `late` and answers its first admin, with a token.
async fn create_late(sandbox: &Sandbox) -> anyhow::Result<(Credentials, String)> {
    sandbox.create_service("late", beside("late", "adminCredentialsSecretRef", "boss")).await?;
    sandbox.wait_ready("late").await?;
    let user = admin(sandbox, "late").await?;
    let token = token(&clients::address(sandbox, "late").await?, &user).await?;
    Ok((user, token))
}

async fn logs_in(sandbox: &Sandbox, service: &str, user: &Credentials) -> anyhow::Result<()> {
    let address = clients::address(sandbox, service).await?;
    eventually("a login", &200, async || Ok(clients::login(&address, user).await?.status)).await
}

/// The account that was dropped is made again by its admin's rights.
async fn staff_is_mended(sandbox: &Sandbox, user: &Credentials, token: &str) -> anyhow::Result<()> {
    logs_in(sandbox, "staff", user).await?;
    sandbox.wait_ready("staff").await?;
    anyhow::ensure!(validates(sandbox, "staff", token).await? == 200, "a kept key is refused");
    Ok(())
}

/// Without such rights it is told who is refused, and mending the cause is enough.
async fn guest_is_told(sandbox: &Sandbox) -> anyhow::Result<()> {
    let message = sandbox.wait_condition("guest", "Ready", "False", "CredentialsRejected").await?;
    println!("guest: {message}");
    anyhow::ensure!(message.contains("Access denied for user 'clerk'"), "{message}");
    sandbox.merge::<Secret>("clerk", json!({"stringData": {"password": "second"}})).await?;
    sandbox.wait_ready("guest").await?;
    Ok(())
}

/// What was created since is gone. Created again it has the users of its database, as they are.
async fn late_is_new(sandbox: &Sandbox, user: &Credentials, token: &str) -> anyhow::Result<()> {
    sandbox.create_service("late", beside("late", "adminCredentialsSecretRef", "boss")).await?;
    sandbox.wait_ready("late").await?;
    logs_in(sandbox, "late", user).await?;
    anyhow::ensure!(validates(sandbox, "late", token).await? == 403, "a lost key is good");
    let issued = admin(sandbox, "late").await?;
    anyhow::ensure!(issued.email == user.email && issued.password != user.password, "{issued:?}");
    let refused = clients::login(&clients::address(sandbox, "late").await?, &issued).await?;
    anyhow::ensure!(refused.status == 401, "a user got another password: {refused:?}");
    Ok(())
}

#[tokio::test]
async fn an_etcd_set_back_below_newer_databases_is_made_up_for_or_told() -> anyhow::Result<()> {
    on_node("restore", async |sandbox| {
        set_up(sandbox).await?;
        let before = Before::of(sandbox, "auth").await?;
        let user = admin(sandbox, "auth").await?;
        let staff = admin(sandbox, "staff").await?;
        let staff_token = token(&clients::address(sandbox, "staff").await?, &staff).await?;
        let traffic = Traffic::start(sandbox, "auth").await?;
        let snapshot = machine::snapshot().await?;

        // What etcd will know nothing of.
        let writes = Writes::start(sandbox, "auth").await?;
        let (late_key_token, (late, late_token), (), ()) = tokio::try_join!(
            bring_key(sandbox, &user.email),
            create_late(sandbox),
            renew_account(sandbox),
            change_own_password(sandbox, "second")
        )?;
        let written = writes.stop("before the restore").await?;

        machine::restore(&snapshot).await?;
        eventually("the API server", &true, async || {
            Ok(sandbox.api::<AuthService>().get_opt("late").await?.is_none())
        })
        .await?;
        tokio::try_join!(
            staff_is_mended(sandbox, &staff, &staff_token),
            guest_is_told(sandbox),
            late_is_new(sandbox, &late, &late_token),
            // A key that came since is lost with the tokens by it.
            eventually("the end of a lost key", &403, async || validates(sandbox, "auth", &late_key_token)
                .await)
        )?;

        written.is_there(sandbox, "auth").await?;
        sandbox.wait_ready("auth").await?;
        before.objects_again(sandbox, &["auth", "staff"]).await?;
        before.serves(sandbox).await?;
        let met = traffic.stop("etcd set back").await?;
        only(&met.validations, &[])?;
        only(&met.logins, &[])
    })
    .await
}
