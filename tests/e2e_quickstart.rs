//! `spec: {}` on a real node, in a namespace under the `restricted` Pod Security Standard: it works
//! for callers written for the original, follows changes, and keeps or deletes its data as told.

mod support;

use anyhow::Context as _;
use authservice::api::AuthService;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use support::{
    clients::{
        self, Caller, Credentials, admin, claims, curl, lifetime, requests, secret_entry, start_client, token,
    },
    cluster::{Sandbox, condition},
    kubectl::kubectl,
    node::{eventually, on_node, pods, restarts, wait_other_pods, wait_rolled_out},
};

/// The contract of the original, as its gateway calls it; answers `[status, text]` of each call.
async fn contract(
    caller: Caller<'_>,
    address: &str,
    user: &Credentials,
    token: &str,
) -> anyhow::Result<Value> {
    let with = |path: &str, value: &str| json!({"path": path, "headers": {"Authorization": value}});
    let login = |password: &str| json!({"path": "/login", "auth": [user.email, password]});
    let calls = json!([
        {"path": "/login"},
        login("wrong"),
        {"path": "/login", "auth": ["nobody@email.com", "wrong"]},
        {"path": "/validate"},
        with("/validate", ""),
        with("/validate", "Bearer"),
        with("/validate", "Bearer junk"),
        with("/validate", &format!("Bearer {token}")),
    ]);
    let answers = requests(caller, address, calls).await?;
    let answers = answers.as_array().context("no list")?;
    Ok(answers.iter().map(|answer| json!([answer["status"], answer["text"]])).collect())
}

#[tokio::test]
async fn an_empty_spec_becomes_a_login_service_for_callers_of_the_original() -> anyhow::Result<()> {
    on_node("quickstart", async |sandbox| {
        sandbox.create_service("auth", json!({})).await?;
        let (ready, client) = tokio::join!(sandbox.wait_ready("auth"), start_client(sandbox));
        let status = ready?.status.context("no status")?;
        client?;
        let url = format!("http://auth.{}.svc:5000", sandbox.namespace);
        assert_eq!((status.replicas, status.ready_replicas, status.url.as_ref()), (2, 2, Some(&url)));

        let user = admin(sandbox, "auth").await?;
        assert_eq!(user.email, format!("admin@auth.{}", sandbox.namespace));
        let by_address = clients::address(sandbox, "auth").await?;
        for (caller, address) in [(Caller::Pod(sandbox), "auth:5000"), (Caller::Node, by_address.as_str())] {
            let login = json!([{"path": "/login", "auth": [user.email, user.password]}]);
            let answer = requests(caller, address, login).await?;
            assert_eq!(
                (&answer[0]["status"], &answer[0]["type"]),
                (&json!(200), &json!("text/plain; charset=utf-8"))
            );
            let token = answer[0]["text"].as_str().context("no text")?;
            let claims = serde_json::to_string(&claims(&by_address, token).await?)?;
            let mut answers = contract(caller, address, &user, token).await?;
            // The claims' order is not part of the contract.
            let returned: Value = serde_json::from_str(answers[7][1].as_str().context("no text")?)?;
            answers[7][1] = json!(serde_json::to_string(&returned)?);
            assert_eq!(
                answers,
                json!([
                    [401, "Missing credentials"],
                    [401, "Invalid credentials"],
                    [401, "Invalid credentials"],
                    [401, "Missing credentials"],
                    [401, "Missing credentials"],
                    [401, "Missing credentials"],
                    [403, "Not authorized: malformed"],
                    [200, claims],
                ])
            );

            let credentials = format!("{}:{}", user.email, user.password);
            let by_curl = ["--silent", "--request", "POST", "--user", &credentials];
            let token = curl(caller, &[&by_curl[..], &[&format!("http://{address}/login")]].concat()).await?;
            let secret = secret_entry(sandbox, "auth-credentials", "JWT_SECRET").await?;
            let verified = clients::verify(&token, &secret, &user.email).await?;
            let claims = &verified["pyjwt"];
            assert_eq!(claims, &verified["jwcrypto"]);
            assert_eq!(
                (&claims["username"], &claims["admin"], &claims["iss"]),
                (&json!(user.email), &json!(true), &json!(url))
            );
            let lifetime = claims["exp"].as_u64().context("exp")? - claims["iat"].as_u64().context("iat")?;
            assert_eq!(lifetime, 24 * 60 * 60);
            let original = verified["original"]["issued"].as_str().context("no token")?;
            assert_eq!(clients::validate(&by_address, original).await?.status, 200);
        }

        let row =
            kubectl(&["get", "authsvc", "auth", "--namespace", &sandbox.namespace, "--no-headers"]).await?;
        let columns: Vec<&str> = row.split_whitespace().take(4).collect();
        assert_eq!(columns, ["auth", "True", "2", &url]);

        // What was read and removed is not missed, and never issued again.
        sandbox.api::<Secret>().delete("auth-admin", &DeleteParams::default()).await?;
        sandbox.merge::<AuthService>("auth", json!({"spec": {"token": {"ttl": "2h"}}})).await?;
        let service = sandbox.wait_ready("auth").await?;
        assert_eq!(condition(&service, "BootstrapUserMissing"), None);
        wait_rolled_out(sandbox, "auth").await?;
        eventually("a token of two hours", &7200, async || lifetime(&by_address, &user).await).await?;
        assert!(sandbox.api::<Secret>().get_opt("auth-admin").await?.is_none());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_people_delete_or_edit_comes_back_and_serves_again() -> anyhow::Result<()> {
    on_node("repair", async |sandbox| {
        sandbox.create_service("auth", json!({})).await?;
        sandbox.wait_ready("auth").await?;
        let user = admin(sandbox, "auth").await?;
        let token_before = token(&clients::address(sandbox, "auth").await?, &user).await?;
        let old: Vec<String> =
            pods(sandbox, "auth", "server").await?.iter().map(ResourceExt::name_any).collect();

        let background = DeleteParams::background();
        sandbox.api::<Deployment>().delete("auth", &background).await?;
        sandbox.api::<StatefulSet>().delete("auth-mysql", &background).await?;
        sandbox.api::<Service>().delete("auth", &background).await?;
        sandbox.api::<Service>().delete("auth-mysql", &background).await?;
        sandbox.api::<PodDisruptionBudget>().delete("auth", &background).await?;
        sandbox.api::<Secret>().delete("auth-credentials", &background).await?;
        wait_other_pods(sandbox, "auth", "server", &old).await?;
        sandbox.wait_ready("auth").await?;
        let address = clients::address(sandbox, "auth").await?;
        assert_eq!(claims(&address, &token_before).await?["username"], user.email);
        eventually("the old user", &200, async || Ok(clients::login(&address, &user).await?.status)).await?;
        sandbox.api::<PodDisruptionBudget>().get("auth").await?;
        sandbox.api::<Secret>().get("auth-credentials").await?;

        sandbox.merge::<Service>("auth", json!({"spec": {"selector": {"app": "another"}}})).await?;
        let edit = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "auth-server", "env": [{"name": "TOKEN_TTL", "value": "3s"}]},
        ]}}}});
        let parameters = kube::api::PatchParams::default();
        sandbox.api::<Deployment>().patch("auth", &parameters, &kube::api::Patch::Strategic(edit)).await?;
        eventually("a token of a day", &(24 * 60 * 60), async || {
            let deployment = sandbox.api::<Deployment>().get("auth").await?;
            let settled = deployment.status.unwrap_or_default();
            anyhow::ensure!(
                settled.updated_replicas == settled.replicas && settled.unavailable_replicas.is_none()
            );
            lifetime(&address, &user).await
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn changes_of_spec_roll_out() -> anyhow::Result<()> {
    on_node("change", async |sandbox| {
        sandbox.create_service("auth", json!({})).await?;
        sandbox.wait_ready("auth").await?;
        let next = clients::variable("TEST_NEXT_SERVER_IMAGE")?;
        let spec = json!({
            "image": next,
            "token": {"ttl": "90m"},
            "pod": {"resources": {"requests": {"cpu": "20m", "memory": "48Mi"}}, "labels": {"tier": "login"}},
        });
        sandbox.merge::<AuthService>("auth", json!({"spec": spec})).await?;
        sandbox.wait_ready("auth").await?;
        wait_rolled_out(sandbox, "auth").await?;
        let pods_now = pods(sandbox, "auth", "server").await?;
        for pod in &pods_now {
            let container = &pod.spec.as_ref().context("no spec")?.containers[0];
            let requests = container.resources.clone().and_then(|resources| resources.requests);
            assert_eq!(container.image.as_deref(), Some(next.as_str()));
            assert_eq!(serde_json::to_value(requests)?, json!({"cpu": "20m", "memory": "48Mi"}));
            assert_eq!(pod.labels()["tier"], "login");
        }
        assert_eq!(restarts(&pods_now), [0, 0]);
        let address = clients::address(sandbox, "auth").await?;
        let user = admin(sandbox, "auth").await?;
        eventually("a token of 90 minutes", &(90 * 60), async || lifetime(&address, &user).await).await?;

        for replicas in [3, 1] {
            let wanted = format!("--replicas={replicas}");
            kubectl(&["scale", "authservice", "auth", &wanted, "--namespace", &sandbox.namespace]).await?;
            let what = format!("{replicas} ready replicas");
            sandbox
                .wait_until("auth", &what, |service: &AuthService| {
                    let status = service.status.clone().unwrap_or_default();
                    (status.replicas, status.ready_replicas) == (replicas, replicas)
                        && support::cluster::is_ready(service)
                })
                .await?;
        }
        sandbox.wait_gone::<PodDisruptionBudget>("auth").await?;

        // A bad image replaces no good pod.
        let bad = json!({"spec": {"image": "localhost/no-such-image:1"}});
        sandbox.merge::<AuthService>("auth", bad).await?;
        sandbox
            .wait_until("auth", "word of the image", |service: &AuthService| {
                condition(service, "Ready").is_some_and(|ready| {
                    ready.status == "False" && ready.message.contains("localhost/no-such-image:1")
                })
            })
            .await?;
        assert_eq!(clients::login(&address, &admin(sandbox, "auth").await?).await?.status, 200);
        sandbox.merge::<AuthService>("auth", json!({"spec": {"image": null}})).await?;
        sandbox.wait_ready("auth").await?;
        Ok(())
    })
    .await
}

/// Names of the namespace's objects of one kind that belong to the resource.
async fn owned<K>(sandbox: &Sandbox) -> anyhow::Result<Vec<String>>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let selector = ListParams::default().labels("authservice.dev/name=auth");
    let names = sandbox
        .api::<K>()
        .list(&selector)
        .await?
        .iter()
        .map(|object| format!("{}/{}", K::kind(&()), object.name_any()))
        .collect();
    Ok(names)
}

async fn all_owned(sandbox: &Sandbox) -> anyhow::Result<Vec<String>> {
    let mut names = owned::<Secret>(sandbox).await?;
    names.extend(owned::<PersistentVolumeClaim>(sandbox).await?);
    names.extend(owned::<Deployment>(sandbox).await?);
    names.extend(owned::<StatefulSet>(sandbox).await?);
    names.extend(owned::<Service>(sandbox).await?);
    names.extend(owned::<PodDisruptionBudget>(sandbox).await?);
    names.extend(owned::<Job>(sandbox).await?);
    names.extend(owned::<Pod>(sandbox).await?);
    Ok(names)
}

#[tokio::test]
async fn a_resource_created_again_takes_up_what_retain_kept_and_delete_removes_it_all() -> anyhow::Result<()>
{
    on_node("retain", async |sandbox| {
        let created = sandbox.create_service("auth", json!({})).await?;
        sandbox.wait_ready("auth").await?;
        let user = admin(sandbox, "auth").await?;
        let old_token = token(&clients::address(sandbox, "auth").await?, &user).await?;

        sandbox.api::<AuthService>().delete("auth", &DeleteParams::default()).await?;
        let kept = [
            "Secret/auth-admin",
            "Secret/auth-database",
            "Secret/auth-keys",
            "Secret/auth-mysql-root",
            "PersistentVolumeClaim/data-auth-mysql-0",
        ];
        eventually(
            "the end of all but data and credentials",
            &kept.map(str::to_owned).to_vec(),
            async || all_owned(sandbox).await,
        )
        .await?;

        let mut again = AuthService::new("auth", created.spec);
        again.spec.deletion_policy = Some(authservice::api::auth_service::DeletionPolicy::Delete);
        sandbox.api::<AuthService>().create(&PostParams::default(), &again).await?;
        sandbox.wait_ready("auth").await?;
        let address = clients::address(sandbox, "auth").await?;
        assert_eq!(claims(&address, &old_token).await?["username"], user.email);
        assert_eq!(clients::login(&address, &user).await?.status, 200);

        let claim = sandbox.api::<PersistentVolumeClaim>().get("data-auth-mysql-0").await?;
        let volume = claim.spec.and_then(|spec| spec.volume_name).context("the claim has no volume")?;
        sandbox.api::<AuthService>().delete("auth", &DeleteParams::default()).await?;
        eventually("the end of everything", &Vec::<String>::new(), async || all_owned(sandbox).await).await?;
        let volumes: Api<PersistentVolume> = Api::all(sandbox.client.clone());
        eventually("the end of the volume", &true, async || Ok(volumes.get_opt(&volume).await?.is_none()))
            .await
    })
    .await
}
