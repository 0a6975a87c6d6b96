//! The chart's rights are enough for the operator's whole work, and it uses every one of them.

mod support;

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use anyhow::Context as _;
use authservice::api::AuthService;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Secret},
};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use support::{
    audit::Mark,
    cluster::{Sandbox, condition, in_namespace},
    kubectl::kubectl,
    normal::{State, wait_for_state},
    operator::{Operator, Options},
    players::{Script, play},
};
use tokio::process::Command;

/// Rights that this run has no use for: an admission plugin of some clusters asks for the first; a Job
/// is read by its name only when its creation meets one that was made a moment ago.
const FOR_OTHER_OCCASIONS: [&str; 2] = ["update authservice.dev/authservices/finalizers", "get batch/jobs"];

/// The chart's objects, as one release in the sandbox's namespace gives them.
async fn rendered(sandbox: &Sandbox, values: &[String]) -> anyhow::Result<Vec<Value>> {
    let helm = std::env::var("TEST_HELM4").context("TEST_HELM4 is not set; run cargo xtask test")?;
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/authservice-operator");
    let mut command = Command::new(helm);
    command.args(["template", &sandbox.namespace, chart, "--namespace", &sandbox.namespace]);
    command.args(["--show-only", "templates/rbac.yaml", "--show-only", "templates/serviceaccount.yaml"]);
    let output = command.args(values).stdin(Stdio::null()).output().await?;
    anyhow::ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), output.stdout)?;
    let file = file.path().to_string_lossy();
    kubectl(&["apply", "--server-side", "-n", &sandbox.namespace, "-f", &file]).await?;
    let text =
        kubectl(&["create", "--dry-run=client", "-n", &sandbox.namespace, "-o", "json", "-f", &file]).await?;
    serde_json::Deserializer::from_str(&text)
        .into_iter::<Value>()
        .map(|document| Ok(document?))
        .map(|document: anyhow::Result<Value>| {
            document.map(|document| match document["items"].as_array() {
                Some(items) => items.clone(),
                None => vec![document],
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()
        .map(|lists| lists.concat())
}

/// What the rules of the operator's own roles grant: `verb group/resource`.
fn granted(objects: &[Value]) -> BTreeSet<String> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
    };
    let for_people = |object: &&Value| {
        let labels = object["metadata"]["labels"].as_object();
        labels.is_some_and(|labels| {
            labels.keys().any(|label| label.starts_with("rbac.authorization.k8s.io/aggregate"))
        })
    };
    let mut granted = BTreeSet::new();
    for rule in objects
        .iter()
        .filter(|object| !for_people(object))
        .filter_map(|object| object["rules"].as_array())
        .flatten()
    {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                granted.extend(words(&rule["verbs"]).iter().map(|verb| format!("{verb} {group}/{resource}")));
            }
        }
    }
    granted
}

fn named<'a>(objects: &'a [Value], kind: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind)
}

/// An operator that has the chart's rights and no others, and its user name.
async fn operator(
    sandbox: &Sandbox,
    objects: &[Value],
    namespaces: Vec<String>,
) -> anyhow::Result<(Operator, String, tempfile::TempDir)> {
    let account = named(objects, "ServiceAccount")
        .and_then(|account| account["metadata"]["name"].as_str())
        .context("no account")?;
    let lease = objects
        .iter()
        .filter_map(|object| object["rules"].as_array())
        .flatten()
        .find_map(|rule| rule["resourceNames"][0].as_str());
    let token = kubectl(&["create", "token", account, "-n", &sandbox.namespace]).await?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    let admin: Value =
        serde_json::from_str(&kubectl(&["config", "view", "--raw", "--flatten", "-o", "json"]).await?)?;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": admin["clusters"],
        "users": [{"name": "operator", "user": {"token": token.trim()}}],
        "contexts": [{"name": "operator", "context": {"cluster": admin["clusters"][0]["name"], "user": "operator"}}],
        "current-context": "operator",
    });
    std::fs::write(&kubeconfig, config.to_string())?;
    let options = Options {
        kubeconfig: Some(kubeconfig),
        lease: lease.map(str::to_owned),
        lease_duration: Duration::from_secs(3),
        namespaces,
    };
    let user = format!("system:serviceaccount:{}:{account}", sandbox.namespace);
    Ok((Operator::start_with(sandbox, &options)?, user, folder))
}

/// Everything the operator ever does to a resource and its children.
async fn whole_life(sandbox: &Sandbox) -> anyhow::Result<()> {
    // A pod that does not start is asked for the reason.
    play(&sandbox.namespace, Script { starts: false, ..Script::default() });
    let class = json!({"metadata": {"name": sandbox.namespace}, "provisioner": "example.org/none", "allowVolumeExpansion": true});
    let request = http::Request::post("/apis/storage.k8s.io/v1/storageclasses")
        .header("content-type", "application/json")
        .body(class.to_string().into_bytes())?;
    sandbox.client.request::<Value>(request).await?;
    let storage =
        |size: &str| json!({"managed": {"storage": {"size": size, "storageClassName": sandbox.namespace}}});
    sandbox.create_service("gate", json!({"database": storage("1Gi"), "administration": {}})).await?;
    let is_asked = |service: &AuthService| {
        condition(service, "DatabaseReady").is_some_and(|ready| ready.message.contains("pod gate-mysql-0: "))
    };
    sandbox.wait_until::<AuthService>("gate", "what the database's pod waits for", is_asked).await?;
    play(&sandbox.namespace, Script::default());
    sandbox.wait_ready("gate").await?;
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    let volumes = sandbox.api::<PersistentVolumeClaim>();
    volumes.patch_status("data-gate-mysql-0", &PatchParams::default(), &Patch::Merge(bound)).await?;
    // The view, the accounts and every applied child change; the budget, the old Job and a Service go.
    let change = json!({
        "image": "registry/server:2", "replicas": 1, "deletionPolicy": "Delete", "token": {"ttl": "1h"},
        "administration": null,
        "database": {"managed": {"image": "registry/mysql:2", "storage": {"size": "2Gi"}}},
    });
    sandbox.merge::<AuthService>("gate", json!({"spec": change})).await?;
    sandbox.wait_ready("gate").await?;
    sandbox.merge::<Secret>("gate-credentials", json!({"data": {"MYSQL_DB": "b2Rk"}})).await?;
    sandbox.merge::<AuthService>("gate", json!({"spec": {"replicas": 2}})).await?;
    sandbox.wait_ready("gate").await?;
    for kind in ["service/gate", "service/gate-mysql", "statefulset/gate-mysql", "poddisruptionbudget/gate"] {
        let labels =
            ["label", kind, "-n", &sandbox.namespace, "--overwrite", "app.kubernetes.io/instance=stranger"];
        kubectl(&labels).await?;
    }
    let corrected = |deployment: &Deployment| {
        deployment
            .metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels["app.kubernetes.io/instance"] == "gate")
    };
    sandbox.wait_until::<Deployment>("gate", "its own label", corrected).await?;
    sandbox
        .wait_until::<k8s_openapi::api::policy::v1::PodDisruptionBudget>("gate", "its own label", |budget| {
            budget
                .metadata
                .labels
                .as_ref()
                .is_some_and(|labels| labels["app.kubernetes.io/instance"] == "gate")
        })
        .await?;
    sandbox.api::<AuthService>().delete("gate", &DeleteParams::background()).await?;
    wait_for_state(sandbox, "nothing is left", &State::new()).await
}

#[tokio::test]
async fn the_charts_rights_are_enough_and_every_one_is_used() -> anyhow::Result<()> {
    // One after the other: an operator for all namespaces would take the other's resources.
    for watched in [true, false] {
        in_namespace("rights", async |sandbox| {
            let namespaces = if watched { vec![sandbox.namespace.clone()] } else { Vec::new() };
            let values = if watched {
                vec!["--set".to_owned(), format!("watchNamespaces={{{}}}", sandbox.namespace)]
            } else {
                Vec::new()
            };
            let objects = rendered(sandbox, &values).await?;
            assert_eq!(named(&objects, "ClusterRole").is_some(), !watched);
            let mark = Mark::now()?;
            let (mut operator, account, _folder) = operator(sandbox, &objects, namespaces).await?;
            whole_life(sandbox).await?;
            operator.terminate().await?;
            assert_eq!(mark.refused_to(&account)?, [""; 0]);
            let used: BTreeSet<String> =
                mark.requests_of(&account)?.iter().map(support::audit::Entry::right).collect();
            let mut granted = granted(&objects);
            granted.retain(|right| !FOR_OTHER_OCCASIONS.contains(&right.as_str()));
            assert_eq!(granted.difference(&used).collect::<Vec<_>>(), [""; 0], "granted, and never used");
            kubectl(&["delete", "storageclass", &sandbox.namespace]).await?;
            Ok(())
        })
        .await?;
    }
    Ok(())
}
