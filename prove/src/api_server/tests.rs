//! A real client on the model.

use futures::StreamExt as _;
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use super::{ApiServer, Kind};

fn server() -> ApiServer {
    ApiServer::new(|| Timestamp::UNIX_EPOCH)
}

fn client(server: &ApiServer) -> Client {
    Client::new(server.endpoint(), "market")
}

fn deployment() -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "gate", "labels": {"a": "b"}},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "one", "image": "registry.test/one:1", "ports": [{"containerPort": 80}]}]},
            },
        },
    }))
    .unwrap()
}

fn word<K>(event: &WatchEvent<K>) -> &'static str {
    match event {
        WatchEvent::Added(_) => "ADDED",
        WatchEvent::Modified(_) => "MODIFIED",
        WatchEvent::Deleted(_) => "DELETED",
        WatchEvent::Bookmark(_) => "BOOKMARK",
        WatchEvent::Error(_) => "ERROR",
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_made_watched_patched_and_deleted() {
    let server = server();
    let api: Api<Deployment> = Api::default_namespaced(client(&server));
    let made = api
        .create(&PostParams { field_manager: Some("us".into()), ..PostParams::default() }, &deployment())
        .await
        .unwrap();
    assert_eq!(made.spec.as_ref().unwrap().replicas, Some(1));
    assert_eq!((made.metadata.generation, made.resource_version().as_deref()), (Some(1), Some("2")));
    let events = api.watch(&WatchParams::default(), "0").await.unwrap();
    let change = json!({"spec": {"replicas": 3}});
    let patched = api.patch("gate", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    assert_eq!(patched.metadata.generation, Some(2));
    let again = api.patch("gate", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    assert_eq!(again.resource_version(), patched.resource_version());
    api.delete("gate", &DeleteParams::background()).await.unwrap();
    let told: Vec<_> = events.take(3).map(|event| word(&event.unwrap())).collect().await;
    assert_eq!(told, ["ADDED", "MODIFIED", "DELETED"]);
    assert_eq!(api.get_opt("gate").await.unwrap(), None);
    assert_eq!(server.revision(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_patched_under_its_version_and_refused_under_another() {
    let server = server();
    let api: Api<Secret> = Api::default_namespaced(client(&server));
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "keys"}, "data": {"one": "MQ=="}})).unwrap();
    api.create(&PostParams::default(), &secret).await.unwrap();
    let patch = |version: &str| {
        let operations = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/data/two", "value": "Mg=="},
        ]);
        Patch::<()>::Json(serde_json::from_value(operations).unwrap())
    };
    let Err(kube::Error::Api(refused)) = api.patch("keys", &PatchParams::default(), &patch("9")).await else {
        panic!("patched under a wrong version");
    };
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    let patched = api.patch("keys", &PatchParams::default(), &patch("2")).await.unwrap();
    assert_eq!(patched.data.unwrap().len(), 2);
    let Err(kube::Error::Api(refused)) = api.create(&PostParams::default(), &secret).await else {
        panic!("created twice");
    };
    assert_eq!((refused.code, refused.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_apply_takes_out_what_it_no_longer_names() {
    let server = server();
    let api: Api<Deployment> = Api::default_namespaced(client(&server));
    let config = |env: &Value| {
        let mut config = serde_json::to_value(deployment()).unwrap();
        config["spec"]["template"]["spec"]["containers"][0]["env"] = env.clone();
        config
    };
    let params = PatchParams::apply("us").force();
    let both = config(&json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]));
    api.patch("gate", &params, &Patch::Apply(&both)).await.unwrap();
    let one = config(&json!([{"name": "B", "value": "2"}]));
    let applied = api.patch("gate", &params, &Patch::Apply(&one)).await.unwrap();
    let env = applied.spec.unwrap().template.spec.unwrap().containers[0].env.clone().unwrap();
    assert_eq!(env.iter().map(|variable| variable.name.as_str()).collect::<Vec<_>>(), ["B"]);
    let again = api.patch("gate", &params, &Patch::Apply(&one)).await.unwrap();
    assert_eq!(again.metadata.resource_version, applied.metadata.resource_version);
    let refused = api
        .patch(
            "gate",
            &PatchParams::apply("them"),
            &Patch::Apply(&config(&json!([{"name": "B", "value": "3"}]))),
        )
        .await;
    let Err(kube::Error::Api(refused)) = refused else { panic!("no conflict") };
    assert_eq!(refused.code, 409);
    let field = r#".spec.template.spec.containers[name="one"].env[name="B"].value"#;
    assert_eq!(refused.details.unwrap().causes[0].field, field);
}

#[test]
fn a_lagging_list_and_a_restore_show_the_past() {
    let server = server();
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "market", "name": name}});
    server.create("user", map("one")).unwrap();
    let then = server.snapshot();
    server.create("user", map("two")).unwrap();
    server.delete(Kind::ConfigMap, "market", "one").unwrap();
    assert_eq!(server.events_since(2).len(), 2);
    server.restore(&then);
    let names: Vec<_> =
        server.list(Kind::ConfigMap).iter().map(|map| map["metadata"]["name"].clone()).collect();
    assert_eq!((names, server.revision()), (vec![json!("one")], 2));
}
