//! Owned objects against a real API server and real workload controllers: what is deleted or
//! edited by hand comes back, what spec takes back leaves no trace, what is foreign is left alone.

mod support;

use authservice::api::AuthService;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use support::{
    cluster::{Sandbox, condition, in_namespace},
    kubectl::kubectl,
    normal::{state, uids, wait_for_state},
    operator::Operator,
    players::{Script, play, ready},
};

#[tokio::test]
async fn every_child_that_is_deleted_comes_back_as_it_was() -> anyhow::Result<()> {
    in_namespace("children", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let before = state(&sandbox.client, &sandbox.namespace).await?;
        let uids_before = uids(&sandbox.client, &sandbox.namespace).await?;

        let background = DeleteParams::background();
        sandbox.api::<Deployment>().delete("gate", &background).await?;
        sandbox.api::<StatefulSet>().delete("gate-mysql", &background).await?;
        sandbox.api::<Service>().delete("gate", &background).await?;
        sandbox.api::<Service>().delete("gate-mysql", &background).await?;
        sandbox.api::<PodDisruptionBudget>().delete("gate", &background).await?;
        sandbox.api::<Secret>().delete("gate-credentials", &background).await?;
        for job in sandbox.api::<Job>().list(&ListParams::default()).await? {
            sandbox.api::<Job>().delete(&job.name_any(), &background).await?;
        }

        wait_for_state(sandbox, "the children are back", &before).await?;
        let uids = uids(&sandbox.client, &sandbox.namespace).await?;
        let kept: Vec<&String> = uids
            .iter()
            .filter(|(name, uid)| uids_before.get(*name) == Some(uid))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            kept,
            [
                "PersistentVolumeClaim data-gate-mysql-0",
                "Secret gate-admin",
                "Secret gate-database",
                "Secret gate-keys",
                "Secret gate-mysql-root"
            ]
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_child_that_is_edited_is_corrected() -> anyhow::Result<()> {
    in_namespace("children", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let before = state(&sandbox.client, &sandbox.namespace).await?;
        let uids_before = uids(&sandbox.client, &sandbox.namespace).await?;
        edit_every_child(sandbox).await?;
        wait_for_state(sandbox, "the children are corrected", &before).await?;
        assert_eq!(uids(&sandbox.client, &sandbox.namespace).await?, uids_before);
        Ok(())
    })
    .await
}

/// At least one field of every kind of value that the operator sets.
async fn edit_every_child(sandbox: &Sandbox) -> anyhow::Result<()> {
    let deployment = sandbox.api::<Deployment>().get("gate").await?;
    let mut edited = serde_json::to_value(&deployment)?;
    edited["spec"]["replicas"] = json!(7);
    edited["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] = json!(1);
    edited["metadata"]["labels"]["app.kubernetes.io/component"] = json!("stranger");
    edited["metadata"]["ownerReferences"] = json!([]);
    let template = &mut edited["spec"]["template"];
    template["metadata"]["labels"]["authservice.dev/name"] = json!("stranger");
    let pod = &mut template["spec"];
    pod["enableServiceLinks"] = json!(true);
    pod["terminationGracePeriodSeconds"] = json!(1);
    pod["topologySpreadConstraints"] = json!([]);
    let container = &mut pod["containers"][0];
    container["image"] = json!("stranger");
    container["args"] = json!(["migrate"]);
    container["env"][0]["value"] = json!("stranger");
    container["readinessProbe"] = Value::Null;
    container["resources"]["requests"]["cpu"] = json!("7");
    let deployment: Deployment = serde_json::from_value(edited)?;
    sandbox.api::<Deployment>().replace("gate", &PostParams::default(), &deployment).await?;

    let pod = json!({"spec": {"template": {"spec": {"automountServiceAccountToken": true, "securityContext": {"fsGroup": 7}}}}});
    sandbox.merge::<StatefulSet>("gate-mysql", pod).await?;
    sandbox.merge::<StatefulSet>("gate-mysql", json!({"spec": {"replicas": 0}})).await?;
    let service = json!({"spec": {"selector": {"app.kubernetes.io/component": "stranger"}, "ports": [{"name": "odd", "port": 5000, "targetPort": 1}]}});
    sandbox.merge::<Service>("gate", service).await?;
    sandbox.merge::<Service>("gate-mysql", json!({"spec": {"publishNotReadyAddresses": false}})).await?;
    sandbox
        .merge::<PodDisruptionBudget>(
            "gate",
            json!({"spec": {"maxUnavailable": "50%"}, "metadata": {"labels": null}}),
        )
        .await?;
    let view = json!({"data": {"JWT_SECRET": "c3RyYW5nZXI=", "MYSQL_DB": null, "ODD": "c3RyYW5nZXI="}});
    sandbox.merge::<Secret>("gate-credentials", view).await?;
    Ok(())
}

#[tokio::test]
async fn fields_that_spec_takes_back_leave_no_trace() -> anyhow::Result<()> {
    in_namespace("children", async |plain| {
        in_namespace("children", async |sandbox| {
            let user = json!({"email": "a@b.c", "passwordSecretRef": {"name": "user"}, "admin": true});
            sandbox.create::<Secret>(&json!({"metadata": {"name": "user"}, "stringData": {"password": "p"}})).await?;
            let pair = json!({"tls.crt": "a chain", "tls.key": "its key"});
            sandbox.create::<Secret>(&json!({"metadata": {"name": "door"}, "stringData": pair})).await?;
            let everything = json!({
                "replicas": 1,
                "image": "registry/server:1",
                "database": {"managed": {"image": "registry/mysql:1", "resources": {"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}}}},
                "token": {"ttl": "1h"},
                "passwords": {"legacyFormats": ["plaintext"], "rehash": false},
                "users": {"bootstrap": [user]},
                "http": {"invalidTokenStatus": 401, "tls": {"secretRef": {"name": "door"}}},
                "monitoring": {"tracing": {"endpoint": "http://collector:4318", "sampling": 0.1}},
                "pod": {
                    "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": 1}},
                    "labels": {"team": "gate", "app.kubernetes.io/version": "7"},
                    "annotations": {"example.org/scrape": "true"},
                    "imagePullSecrets": [{"name": "pull"}],
                },
                "deletionPolicy": "Delete",
            });
            let _operator = ready(sandbox, everything).await?;
            let mut object = sandbox.api::<AuthService>().get("gate").await?;
            object.spec = serde_json::from_value(json!({}))?;
            sandbox.api::<AuthService>().replace("gate", &PostParams::default(), &object).await?;
            sandbox.wait_ready("gate").await?;
            for secret in ["user", "door"] {
                sandbox.api::<Secret>().delete(secret, &DeleteParams::default()).await?;
            }

            let _plain = ready(plain, json!({})).await?;
            let never_had_it = state(&plain.client, &plain.namespace).await?;
            wait_for_state(sandbox, "no trace is left", &never_had_it).await
        })
        .await
    })
    .await
}

#[tokio::test]
async fn optional_fields_of_an_external_database_leave_no_trace_either() -> anyhow::Result<()> {
    in_namespace("children", async |plain| {
        in_namespace("children", async |sandbox| {
            for sandbox in [plain, sandbox] {
                for name in ["account", "admin"] {
                    let secret = json!({"metadata": {"name": name}, "stringData": {"username": name, "password": "p"}});
                    sandbox.create::<Secret>(&secret).await?;
                }
            }
            let with = |more: Value| {
                let mut external = json!({"hosts": [{"host": "db"}], "credentialsSecretRef": {"name": "account"}});
                if let (Some(external), Some(more)) = (external.as_object_mut(), more.as_object()) {
                    external.extend(more.clone());
                }
                json!({"database": {"external": external}})
            };
            let everything = json!({
                "hosts": [{"host": "db", "port": 3307}], "name": "people", "schema": "Existing",
                "adminCredentialsSecretRef": {"name": "admin"},
            });
            let _operator = ready(sandbox, with(everything)).await?;
            let mut object = sandbox.api::<AuthService>().get("gate").await?;
            object.spec = serde_json::from_value(with(json!({})))?;
            sandbox.api::<AuthService>().replace("gate", &PostParams::default(), &object).await?;
            sandbox.wait_ready("gate").await?;

            let _plain = ready(plain, with(json!({}))).await?;
            let never_had_it = state(&plain.client, &plain.namespace).await?;
            wait_for_state(sandbox, "no trace is left", &never_had_it).await
        })
        .await
    })
    .await
}

/// Objects of a child's name that somebody else made, for resources of different names.
fn foreign() -> [(&'static str, &'static str, Value); 5] {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {
        "securityContext": {"runAsNonRoot": true, "runAsUser": 7, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "i", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    }});
    let selector = json!({"matchLabels": {"a": "b"}});
    [
        (
            "deployment",
            "Deployment deployment",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "deployment"}, "spec": {"replicas": 0, "selector": selector, "template": template}}),
        ),
        (
            "service",
            "Service service",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "service", "labels": {"app.kubernetes.io/managed-by": "authservice-operator"}}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}),
        ),
        (
            "keys",
            "Secret keys-keys",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys-keys"}, "stringData": {"a": "b"}}),
        ),
        (
            "view",
            "Secret view-credentials",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "view-credentials"}, "stringData": {"a": "b"}}),
        ),
        (
            "budget",
            "PodDisruptionBudget budget",
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "budget"}, "spec": {"maxUnavailable": 1, "selector": selector}}),
        ),
    ]
}

#[tokio::test]
async fn a_foreign_object_of_a_childs_name_is_named_and_left_untouched() -> anyhow::Result<()> {
    in_namespace("children", async |sandbox| {
        play(&sandbox.namespace, Script::default());
        let file = tempfile::NamedTempFile::new()?;
        let list = json!({"apiVersion": "v1", "kind": "List", "items": foreign().map(|(_, _, object)| object)});
        std::fs::write(file.path(), list.to_string())?;
        let file = file.path().to_string_lossy().into_owned();
        kubectl(&["create", "-n", &sandbox.namespace, "-f", &file]).await?;
        let theirs = state(&sandbox.client, &sandbox.namespace).await?;

        let _operator = Operator::start(sandbox)?;
        for (name, object, _) in foreign() {
            sandbox.create_service(name, json!({})).await?;
            let message = sandbox.wait_condition(name, "NameTaken", "True", "NameTaken").await?;
            let restored = if object.starts_with("Secret") {
            "; one of its own, restored from a backup, needs that label"
        } else {
            ""
        };
            assert_eq!(
                message,
                format!("{object} exists already, without label authservice.dev/name={name}, and is left untouched: rename or delete it, or use another name for the AuthService{restored}")
            );
            assert_eq!(sandbox.wait_condition(name, "Ready", "False", "NameTaken").await?, message);
        }
        // A refusal freezes only what it names.
        sandbox.wait_until::<Deployment>("service", "pods beside a foreign Service", available).await?;
        sandbox.wait_until::<Service>("deployment", "a Service beside a foreign Deployment", |_| true).await?;
        sandbox.wait_until::<Deployment>("budget", "pods beside a foreign budget", available).await?;
        let mut live = state(&sandbox.client, &sandbox.namespace).await?;
        live.retain(|name, _| theirs.contains_key(name));
        assert_eq!(live, theirs);

        kubectl(&["delete", "-n", &sandbox.namespace, "-f", &file]).await?;
        for (name, ..) in foreign() {
            let service = sandbox.wait_ready(name).await?;
            assert_eq!(condition(&service, "NameTaken"), None);
        }
        Ok(())
    })
    .await
}

fn available(deployment: &Deployment) -> bool {
    deployment.status.as_ref().and_then(|status| status.available_replicas) == Some(2)
}

#[tokio::test]
async fn two_resources_do_not_take_each_others_children() -> anyhow::Result<()> {
    in_namespace("children", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        sandbox.create_service("gate-mysql", json!({})).await?;
        let message = sandbox.wait_condition("gate-mysql", "NameTaken", "True", "NameTaken").await?;
        assert!(message.starts_with("Service gate-mysql "), "{message}");
        sandbox.wait_until::<Deployment>("gate-mysql", "the second one's pods", available).await?;
        sandbox.wait_ready("gate").await?;
        sandbox.api::<AuthService>().delete("gate-mysql", &DeleteParams::background()).await?;
        sandbox.wait_gone::<Deployment>("gate-mysql").await?;
        sandbox.wait_ready("gate").await?;
        sandbox.wait_until::<Service>("gate-mysql", "the first one's database Service", |_| true).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn restarts_annotations_and_labels_of_other_people_survive() -> anyhow::Result<()> {
    in_namespace("children", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let namespace = sandbox.namespace.as_str();
        kubectl(&["rollout", "restart", "deployment/gate", "-n", namespace]).await?;
        kubectl(&["annotate", "service/gate", "example.org/note=kept", "-n", namespace]).await?;
        kubectl(&["label", "secret/gate-keys", "example.org/note=kept", "-n", namespace]).await?;
        sandbox.merge::<AuthService>("gate", json!({"spec": {"token": {"ttl": "2h"}}})).await?;
        let changed = |deployment: &Deployment| {
            serde_json::to_string(deployment).is_ok_and(|text| text.contains("\"7200s\""))
        };
        let deployment = sandbox.wait_until::<Deployment>("gate", "the new ttl", changed).await?;
        let restarted = deployment
            .spec
            .and_then(|spec| spec.template.metadata)
            .map(|metadata| metadata.annotations.unwrap_or_default());
        assert_eq!(
            restarted.map(|annotations| annotations.into_keys().collect::<Vec<_>>()),
            Some(vec!["kubectl.kubernetes.io/restartedAt".to_owned()])
        );
        sandbox.wait_ready("gate").await?;
        let service = sandbox.api::<Service>().get("gate").await?;
        assert_eq!(service.annotations().get("example.org/note").map(String::as_str), Some("kept"));
        let keys = sandbox.api::<Secret>().get("gate-keys").await?;
        assert_eq!(keys.labels().get("example.org/note").map(String::as_str), Some("kept"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn scaling_takes_and_drops_the_budget() -> anyhow::Result<()> {
    in_namespace("children", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let replicas = |deployment: &Deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas);
        for count in [3, 1, 0] {
            kubectl(&["scale", "authservice/gate", &format!("--replicas={count}"), "-n", &sandbox.namespace]).await?;
            sandbox.wait_until::<Deployment>("gate", "as many replicas", |deployment| replicas(deployment) == Some(count)).await?;
            if count > 1 {
                sandbox.wait_until::<PodDisruptionBudget>("gate", "a budget", |_| true).await?;
            } else {
                sandbox.wait_gone::<PodDisruptionBudget>("gate").await?;
            }
        }
        kubectl(&["scale", "authservice/gate", "--replicas=2", "-n", &sandbox.namespace]).await?;
        let service = sandbox.wait_ready("gate").await?;
        let status = service.status.unwrap_or_default();
        assert_eq!((status.replicas, status.ready_replicas), (2, 2));
        assert_eq!(
            status.selector.as_deref(),
            Some("app.kubernetes.io/component=server,app.kubernetes.io/instance=gate,app.kubernetes.io/name=auth-server")
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_suspended_resource_is_only_looked_at() -> anyhow::Result<()> {
    in_namespace("children", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let before = state(&sandbox.client, &sandbox.namespace).await?;
        sandbox
            .merge::<AuthService>("gate", json!({"spec": {"suspend": true, "token": {"ttl": "2h"}}}))
            .await?;
        sandbox.wait_condition("gate", "Suspended", "True", "Suspended").await?;
        sandbox.api::<Service>().delete("gate", &DeleteParams::default()).await?;
        sandbox.merge::<Deployment>("gate", json!({"spec": {"replicas": 1}})).await?;
        let shows_one =
            |service: &AuthService| service.status.as_ref().is_some_and(|status| status.replicas == 1);
        sandbox.wait_until::<AuthService>("gate", "one replica in status", shows_one).await?;
        assert!(sandbox.api::<Service>().get_opt("gate").await?.is_none());
        let replicas = sandbox.api::<Deployment>().get("gate").await?.spec.and_then(|spec| spec.replicas);
        assert_eq!(replicas, Some(1));

        sandbox.merge::<AuthService>("gate", json!({"spec": {"suspend": null, "token": null}})).await?;
        wait_for_state(sandbox, "all is corrected when it goes on", &before).await
    })
    .await
}

#[tokio::test]
async fn a_resource_that_cannot_be_read_blocks_no_other() -> anyhow::Result<()> {
    in_namespace("children", async |sandbox| {
        sandbox.create_service("odd", json!({"suspend": true})).await?;
        // The schema takes this for an instant; there is no such offset from UTC.
        let status = json!({"status": {"token": {"rotatedAt": "2026-01-01T00:00:00+99:99"}}});
        let name = format!(
            "/apis/authservice.dev/v1alpha1/namespaces/{}/authservices/odd/status",
            sandbox.namespace
        );
        let request = http::Request::patch(name)
            .header("content-type", "application/merge-patch+json")
            .body(status.to_string().into_bytes())?;
        sandbox.client.request::<Value>(request).await?;
        assert!(sandbox.api::<AuthService>().get("odd").await.is_err(), "it can be read");

        let operator = ready(sandbox, json!({})).await?;
        assert!(operator.log()?.contains("odd"), "the log does not name it");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_the_api_server_refuses_is_told_and_blocks_nothing_else() -> anyhow::Result<()> {
    in_namespace("children", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        sandbox
            .merge::<AuthService>(
                "gate",
                json!({"spec": {"replicas": 1, "pod": {"labels": {"team": "not a label value"}}}}),
            )
            .await?;
        let message = sandbox.wait_condition("gate", "ChildRefused", "True", "ChildRefused").await?;
        assert!(message.starts_with("could not "), "{message}");
        assert!(
            message.contains("Deployment gate: ") && message.contains("\"not a label value\""),
            "{message}"
        );
        sandbox.wait_gone::<PodDisruptionBudget>("gate").await?;
        sandbox.merge::<AuthService>("gate", json!({"spec": {"pod": null}})).await?;
        let service = sandbox.wait_ready("gate").await?;
        assert_eq!(condition(&service, "ChildRefused"), None);
        Ok(())
    })
    .await
}
