//! A real client on the model.

use futures::StreamExt as _;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Pod, Secret},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ApiServer, Behind, Kind};

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

fn map(name: &str, label: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "market", "name": name, "labels": {"wanted": label}},
    })
}

fn names(maps: &[ConfigMap]) -> Vec<String> {
    maps.iter().map(kube::ResourceExt::name_any).collect()
}

/// A client that is answered as of so many revisions ago.
fn lagging(server: &ApiServer, behind: u64) -> Client {
    let endpoint = server.endpoint();
    let service = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
        request.extensions_mut().insert(Behind(behind));
        tower::ServiceExt::oneshot(endpoint.clone(), request)
    });
    Client::new(service, "market")
}

#[tokio::test(start_paused = true)]
async fn a_read_that_lags_shows_the_past() {
    let server = server();
    server.create("user", map("one", "yes")).unwrap();
    server.create("user", map("two", "yes")).unwrap();
    server.delete(Kind::ConfigMap, "market", "one").unwrap();
    for (behind, expected) in [(0, vec!["two"]), (1, vec!["one", "two"]), (2, vec!["one"]), (9, vec![])] {
        let api: Api<ConfigMap> = Api::default_namespaced(lagging(&server, behind));
        assert_eq!(names(&api.list(&ListParams::default()).await.unwrap().items), expected, "{behind}");
        assert_eq!(api.get_opt("one").await.unwrap().is_some(), expected.contains(&"one"), "{behind}");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_show_one_moment_until_it_is_compacted() {
    let server = server();
    for name in ["a", "b", "c"] {
        server.create("user", map(name, "yes")).unwrap();
    }
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    server.delete(Kind::ConfigMap, "market", "c").unwrap();
    assert_eq!(
        (names(&first.items), first.metadata.remaining_item_count),
        (vec!["a".into(), "b".into()], Some(1))
    );
    let rest = ListParams::default().limit(2).continue_token(&first.metadata.continue_.unwrap());
    assert_eq!(names(&api.list(&rest).await.unwrap().items), ["c"]);
    server.compact();
    let Err(kube::Error::Api(gone)) = api.list(&rest).await else { panic!("listed what is forgotten") };
    assert_eq!((gone.code, gone.reason.as_str()), (410, "Expired"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_comes_to_match_and_what_no_longer_does() {
    let server = server();
    server.create("user", map("one", "no")).unwrap();
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let version = server.revision().to_string();
    let events = api.watch(&WatchParams::default().labels("wanted=yes"), &version).await.unwrap();
    for label in ["yes", "yes", "also", "no"] {
        server
            .update("user", Kind::ConfigMap, "market", "one", None, |map| {
                map["metadata"]["labels"]["wanted"] = json!(label);
                map["metadata"]["annotations"]["at"] = json!(label);
            })
            .unwrap();
    }
    let told: Vec<_> = events.take(2).map(|event| word(&event.unwrap())).collect().await;
    assert_eq!(told, ["ADDED", "DELETED"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_forgotten_revision_ends_at_once_with_an_error() {
    let server = server();
    server.create("user", map("one", "yes")).unwrap();
    server.compact();
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let events: Vec<_> = api.watch(&WatchParams::default(), "1").await.unwrap().collect().await;
    let [Ok(WatchEvent::Error(error))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((error.code, error.reason.as_str()), (410, "Expired"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_watch_says_how_far_it_is_and_ends_in_time() {
    let server = server();
    server.create("user", map("one", "yes")).unwrap();
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let started = tokio::time::Instant::now();
    let events = api.watch(&WatchParams::default().timeout(150), "2").await.unwrap();
    let told: Vec<_> = events.map(|event| word(&event.unwrap())).collect().await;
    assert_eq!(told, ["BOOKMARK", "BOOKMARK", "BOOKMARK"]);
    assert_eq!(started.elapsed().as_secs(), 150);
}

#[tokio::test(start_paused = true)]
async fn a_restore_breaks_the_watches() {
    let server = server();
    let then = server.snapshot();
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let mut events = api.watch(&WatchParams::default(), "1").await.unwrap().boxed();
    server.create("user", map("one", "yes")).unwrap();
    assert_eq!(events.next().await.map(|event| word(&event.unwrap())), Some("ADDED"));
    server.restore(&then);
    assert!(events.next().await.is_none_or(|event| event.is_err()));
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_holds_an_object_and_a_node_its_pod() {
    let server = server();
    let mut held = map("one", "yes");
    held["metadata"]["finalizers"] = json!(["test.dev/hold"]);
    server.create("user", held).unwrap();
    server.delete(Kind::ConfigMap, "market", "one").unwrap();
    assert!(server.get(Kind::ConfigMap, "market", "one").is_some());
    let release = |map: &mut Value| map["metadata"]["finalizers"] = json!([]);
    server.update("user", Kind::ConfigMap, "market", "one", None, release).unwrap();
    assert!(server.get(Kind::ConfigMap, "market", "one").is_none());
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "market", "name": "gate"},
        "spec": {"containers": [{"name": "one", "image": "registry.test/one:1"}]},
    });
    server.create("replicaset", pod).unwrap();
    let bind = |pod: &mut Value| pod["spec"]["nodeName"] = json!("node");
    server.update("scheduler", Kind::Pod, "market", "gate", Some("binding"), bind).unwrap();
    server.delete(Kind::Pod, "market", "gate").unwrap();
    let ending = server.get(Kind::Pod, "market", "gate").unwrap();
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    let api: Api<Pod> = Api::default_namespaced(client(&server));
    api.delete("gate", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(server.get(Kind::Pod, "market", "gate").is_none());
}

#[test]
fn a_restore_takes_the_revision_back() {
    let server = server();
    server.create("user", map("one", "yes")).unwrap();
    let then = server.snapshot();
    server.create("user", map("two", "yes")).unwrap();
    server.delete(Kind::ConfigMap, "market", "one").unwrap();
    assert_eq!(server.events_since(2).len(), 2);
    server.restore(&then);
    let names: Vec<_> =
        server.list(Kind::ConfigMap).iter().map(|map| map["metadata"]["name"].clone()).collect();
    assert_eq!((names, server.revision()), (vec![json!("one")], 2));
}

/// A Deployment with these variables, in this order.
fn with_variables(variables: &[(u8, u8)]) -> Value {
    let mut config = serde_json::to_value(deployment()).unwrap();
    config["apiVersion"] = json!("apps/v1");
    config["kind"] = json!("Deployment");
    config["metadata"]["namespace"] = json!("market");
    let env =
        variables.iter().map(|(name, value)| json!({"name": format!("V{name}"), "value": value.to_string()}));
    config["spec"]["template"]["spec"]["containers"][0]["env"] = env.collect();
    config
}

/// Variables of different names.
fn variables() -> impl Strategy<Value = Vec<(u8, u8)>> {
    proptest::collection::btree_map(0_u8..6, 0_u8..3, 0..5)
        .prop_map(|variables| variables.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn env_of(server: &ApiServer) -> Vec<Value> {
    let live = server.get(Kind::Deployment, "market", "gate").unwrap();
    let env = live.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
    env.cloned().unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_last_of_several_applies_is_what_lives_and_repeating_it_changes_nothing(
        all in proptest::collection::vec(variables(), 1..5)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let server = server();
            let api: Api<Deployment> = Api::default_namespaced(client(&server));
            let params = PatchParams::apply("us").force();
            for variables in &all {
                api.patch("gate", &params, &Patch::Apply(with_variables(variables))).await.unwrap();
            }
            let wanted = with_variables(all.last().unwrap());
            let env = wanted.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array).unwrap();
            assert_eq!(&env_of(&server), env);
            let revision = server.revision();
            api.patch("gate", &params, &Patch::Apply(wanted)).await.unwrap();
            assert_eq!(server.revision(), revision);
        });
    }

    #[test]
    fn what_two_appliers_share_stays_until_both_let_go(ours in variables(), theirs in variables()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let server = server();
            let api: Api<Deployment> = Api::default_namespaced(client(&server));
            for (manager, variables) in [("us", &ours[..]), ("them", &theirs), ("us", &[])] {
                let params = PatchParams::apply(manager).force();
                api.patch("gate", &params, &Patch::Apply(with_variables(variables))).await.unwrap();
            }
            let mut left: Vec<_> = env_of(&server).iter().map(|variable| variable["name"].clone()).collect();
            let mut wanted: Vec<_> = theirs.iter().map(|(name, _)| json!(format!("V{name}"))).collect();
            left.sort_by_key(Value::to_string);
            wanted.sort_by_key(Value::to_string);
            assert_eq!(left, wanted);
        });
    }
}
