//! What a call of the model costs a processor, its client included; printed, not judged. Run it with
//! `cargo test --profile prove --package authservice-prove --test speed -- --ignored --nocapture`.

use authservice_prove::api_server::{ApiServer, Kind};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

const CALLS: u32 = 5_000;

fn deployment(image: u32) -> Value {
    let variable = |index: u32| json!({"name": format!("VARIABLE_{index}"), "value": index.to_string()});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "gate", "namespace": "market", "labels": {"app": "gate", "authservice.dev/name": "gate"}},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "gate"}},
            "template": {"metadata": {"labels": {"app": "gate"}}, "spec": {"containers": [{
                "name": "server", "image": format!("registry.test/server:{image}"),
                "env": (0..12).map(variable).collect::<Vec<_>>(),
                "ports": [{"containerPort": 5000, "name": "http"}, {"containerPort": 8081, "name": "ops"}],
                "livenessProbe": {"httpGet": {"path": "/livez", "port": "ops"}},
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "ops"}},
                "resources": {"requests": {"cpu": "100m", "memory": "96Mi"}},
            }]}},
        },
    })
}

/// How long this thread has run, whatever else the machine does.
fn run_nanos() -> u64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    statistics.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

async fn timed(what: &str, mut call: impl AsyncFnMut(u32)) {
    let before = run_nanos();
    for number in 0..CALLS {
        call(number).await;
    }
    let micros = (run_nanos() - before) / 1000 / u64::from(CALLS);
    println!("{what}: {micros} µs, {} calls/s", 1_000_000 / micros.max(1));
}

#[tokio::test]
#[ignore = "measures, and judges nothing"]
async fn calls_in_a_second() {
    let server = ApiServer::new(|| Timestamp::UNIX_EPOCH);
    let client = Client::new(server.endpoint(), "market");
    for number in 0..100 {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "market", "name": format!("s{number}")}, "data": {"a": "YQ=="}});
        server.create("user", secret).unwrap();
    }
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let secrets: Api<Secret> = Api::default_namespaced(client);
    let params = PatchParams::apply("us").force();
    timed("apply that changes", async |number| {
        deployments.patch("gate", &params, &Patch::Apply(&deployment(number))).await.unwrap();
    })
    .await;
    let same = deployment(CALLS - 1);
    timed("apply that changes nothing", async |_| {
        deployments.patch("gate", &params, &Patch::Apply(&same)).await.unwrap();
    })
    .await;
    timed("merge patch", async |number| {
        let patch = json!({"spec": {"replicas": number % 5}});
        deployments.patch("gate", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    })
    .await;
    timed("get", async |_| {
        deployments.get("gate").await.unwrap();
    })
    .await;
    timed("list of 100", async |_| {
        secrets.list(&ListParams::default()).await.unwrap();
    })
    .await;
    timed("a player's status", async |number| {
        let change = |object: &mut Value| object["status"]["replicas"] = json!(number % 5);
        server.update("player", Kind::Deployment, "market", "gate", Some("status"), change).unwrap();
    })
    .await;
}
