//! The chart on a real node, under Helm 3 and 4: what it installs works, what it leaves behind
//! works on, and no release has a right too few or, where namespaces are named, one of the cluster.

mod support;

use anyhow::Context as _;
use authservice::api::AuthService;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        core::v1::Namespace,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use support::{
    audit::Mark,
    clients::{self, admin, claims, lifetime, token},
    cluster::{Sandbox, client},
    kubectl::kubectl,
    node::{
        Helm, SYSTEM, apply, eventually, helm, in_own_namespace, install, install_with_output,
        wait_rolled_out,
    },
};
use tokio::sync::{Mutex, MutexGuard};

/// These tests install and remove what others share: one at a time, and first of all files.
async fn alone() -> anyhow::Result<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    let guard = ALONE.lock().await;
    uninstall(Helm::V4, "authservice-operator", SYSTEM).await?;
    Ok(guard)
}

async fn uninstall(version: Helm, release: &str, namespace: &str) -> anyhow::Result<()> {
    helm(version, &["uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait"])
        .await
        .map(drop)
}

async fn delete_namespace(sandbox: &Sandbox, name: &str) -> anyhow::Result<()> {
    Api::<Namespace>::all(sandbox.client.clone()).delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// Uninstalls a release that was refused nothing since `mark`, and sets the mark anew: what its pods
/// ask for while they end comes after Helm has taken their rights.
async fn uninstall_content(
    mark: &mut Mark,
    version: Helm,
    release: &str,
    namespace: &str,
) -> anyhow::Result<()> {
    assert_eq!(mark.refused_to(&account(release, namespace))?, Vec::<String>::new());
    uninstall(version, release, namespace).await?;
    *mark = Mark::now()?;
    Ok(())
}

/// What a release's own check printed.
async fn check(version: Helm, release: &str, namespace: &str) -> anyhow::Result<()> {
    let printed = helm(version, &["test", release, "--namespace", namespace]).await?;
    anyhow::ensure!(printed.contains("Phase:") && printed.contains("Succeeded"), "{printed}");
    Ok(())
}

fn account(release: &str, namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{release}-authservice-operator")
}

#[tokio::test]
async fn services_go_on_while_releases_of_helm_4_and_3_come_and_go() -> anyhow::Result<()> {
    let _alone = alone().await?;
    in_own_namespace("chart", async |sandbox| {
        let mut mark = Mark::now()?;
        let (first, second) =
            (format!("{}-first", sandbox.namespace), format!("{}-second", sandbox.namespace));
        let notes = install_with_output(Helm::V4, "first", &first, &["replicas=1"]).await?;
        let (_, command) = notes.split_once("--filename - <<YAML\n").context(notes.clone())?;
        let (manifest, after) = command.split_once("  YAML").context(notes.clone())?;
        assert!(after.contains("kubectl get authservice auth --namespace default --watch"), "{notes}");
        assert!(after.contains(&format!("helm test first --namespace {first}")), "{notes}");
        let manifest: Vec<&str> =
            manifest.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
        apply(sandbox, &manifest.join("\n")).await?;
        check(Helm::V4, "first", &first).await?;
        sandbox.wait_ready("auth").await?;
        let address = clients::address(sandbox, "auth").await?;
        let user = admin(sandbox, "auth").await?;
        let old_token = token(&address, &user).await?;
        let made = sandbox.api::<Deployment>().get("auth").await?.metadata.uid;

        install(Helm::V4, "first", &first, &["replicas=2", "logLevel=debug"]).await?;
        check(Helm::V4, "first", &first).await?;
        uninstall_content(&mut mark, Helm::V4, "first", &first).await?;
        let definitions: Api<CustomResourceDefinition> = Api::all(sandbox.client.clone());
        definitions.get("authservices.authservice.dev").await?;
        sandbox.api::<AuthService>().get("auth").await?;
        assert_eq!(claims(&address, &old_token).await?["username"], user.email);
        token(&address, &user).await?;

        install(Helm::V3, "second", &second, &["replicas=1"]).await?;
        check(Helm::V3, "second", &second).await?;
        sandbox.merge::<AuthService>("auth", json!({"spec": {"token": {"ttl": "1h"}}})).await?;
        sandbox.wait_ready("auth").await?;
        assert_eq!(wait_rolled_out(sandbox, "auth").await?.metadata.uid, made);
        eventually("a token of an hour", &3600, async || lifetime(&address, &user).await).await?;
        install(Helm::V3, "second", &second, &["replicas=2"]).await?;
        uninstall_content(&mut mark, Helm::V3, "second", &second).await?;
        // Back to the first: its definition is another release's by now.
        install(Helm::V4, "first", &first, &["replicas=1"]).await?;
        check(Helm::V4, "first", &first).await?;
        uninstall_content(&mut mark, Helm::V4, "first", &first).await?;

        for namespace in [&first, &second] {
            delete_namespace(sandbox, namespace).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn named_namespaces_are_served_without_any_right_of_the_cluster() -> anyhow::Result<()> {
    let _alone = alone().await?;
    let strange = Sandbox::new(client().await?, "strange").await?;
    let outcome = in_own_namespace("narrow", async |sandbox| {
        let requests = Mark::now()?;
        let system = format!("{}-system", sandbox.namespace);
        let watched = format!("watchNamespaces={{{}}}", sandbox.namespace);
        let notes = install_with_output(Helm::V4, "narrow", &system, &[&watched, "replicas=1"]).await?;
        assert!(
            notes.contains(&format!("kubectl apply --namespace {} --filename -", sandbox.namespace)),
            "{notes}"
        );
        check(Helm::V4, "narrow", &system).await?;
        strange.create_service("auth", json!({})).await?;
        sandbox.create_service("auth", json!({"replicas": 1})).await?;
        sandbox.wait_ready("auth").await?;
        let address = clients::address(sandbox, "auth").await?;
        token(&address, &admin(sandbox, "auth").await?).await?;

        let ours = ["--selector", "app.kubernetes.io/instance=narrow", "--output", "name"];
        let of_the_cluster =
            kubectl(&[&["get", "clusterroles,clusterrolebindings"], &ours[..]].concat()).await?;
        assert_eq!(of_the_cluster, "");
        for (verb, group, resource) in [("list", "authservice.dev", "authservices"), ("get", "", "secrets")] {
            assert!(
                !may(sandbox, &account("narrow", &system), verb, group, resource, &strange.namespace).await?
            );
            assert!(
                may(sandbox, &account("narrow", &system), verb, group, resource, &sandbox.namespace).await?
            );
        }
        assert_eq!(requests.refused_to(&account("narrow", &system))?, Vec::<String>::new());
        assert_eq!(strange.api::<AuthService>().get("auth").await?.status, None);
        uninstall(Helm::V4, "narrow", &system).await?;
        delete_namespace(sandbox, &system).await
    })
    .await;
    strange.delete().await?;
    outcome
}

async fn may(
    sandbox: &Sandbox,
    user: &str,
    verb: &str,
    group: &str,
    resource: &str,
    namespace: &str,
) -> anyhow::Result<bool> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let review = Api::all(sandbox.client.clone()).create(&PostParams::default(), &review).await?;
    Ok(review.status.is_some_and(|status| status.allowed))
}
