//! `cargo xtask demo`: from nothing to a validated token on a real cluster, telling each step.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::figures;
use crate::images::{self, Image, Images};
use crate::parts::Rootfs;
use crate::prerequisites;
use crate::progress::Step;
use crate::target_cluster::TargetCluster;

/// The node that demo boots.
pub const NODE: &str = "demo";
const OPERATOR_NAMESPACE: &str = "authservice-system";
const NAMESPACE: &str = "authservice-demo";
const NAME: &str = "auth";
/// Longer than a cold start with a slow image pull.
const READY_TIMEOUT: Duration = Duration::from_mins(5);
const CLIENT_TIMEOUT: Duration = Duration::from_secs(90);

/// What the command line asks for.
#[derive(Default)]
pub struct Options {
    /// Leave all of it running.
    pub keep: bool,
    /// A context of the user's kubeconfig instead of a node of our own.
    pub context: Option<String>,
    /// How images come into that cluster.
    pub load: Option<String>,
}

/// Runs the demo.
///
/// # Errors
/// When a step fails; what the cluster says about it has been printed then.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let started = Instant::now();
    prerequisites::check()?;
    let target = match &options.context {
        None => TargetCluster::node(NODE)?,
        Some(name) => {
            TargetCluster::Context { name: name.clone(), load: load_command(name, options.load.as_deref())? }
        }
    };
    let outcome = show(&target);
    if let Err(error) = &outcome {
        eprintln!("\n{error:#}\n");
        explain(&target);
    }
    if options.keep {
        say_how_to_go_on(&target);
    } else {
        clean_up(target)?;
    }
    outcome?;
    println!("\nThe whole demo took {} s.", started.elapsed().as_secs());
    Ok(())
}

/// How to load an archive is known for the two usual local clusters; others must say.
fn load_command(context: &str, given: Option<&str>) -> anyhow::Result<String> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    if let Some(cluster) = context.strip_prefix("kind-") {
        return Ok(format!("kind load image-archive {{archive}} --name {cluster}"));
    }
    if context == "minikube" {
        return Ok("minikube image load {archive}".to_owned());
    }
    bail!(
        "--context {context}: say how an image archive comes into this cluster with --load, for instance \
         --load 'docker load -i {{archive}} && docker push {{image}}'; for kind and Minikube it is known"
    )
}

struct Loaded {
    images: Images,
    database: Image,
    client: Image,
}

fn show(target: &TargetCluster) -> anyhow::Result<()> {
    let loaded = load(target)?;
    install(target, &loaded)?;
    let took = bring_up(target)?;
    println!("\n$ kubectl get authservice --namespace {NAMESPACE}");
    print!("{}", target.read(&["get", "authservice", "--namespace", NAMESPACE])?);
    let answer = log_in_and_validate(target, &loaded.client)?;
    println!(
        "\nA token from POST http://{NAME}:5000/login, and its claims from POST /validate, asked by another pod:"
    );
    println!("{}", serde_json::to_string_pretty(&answer)?);
    figures::print(
        target,
        &figures::Inputs { namespace: NAMESPACE, name: NAME, ready_after: took, images: &loaded.images },
    )
}

fn load(target: &TargetCluster) -> anyhow::Result<Loaded> {
    let images = images::build()?;
    let database = images::debian(Rootfs::Mysql)?;
    let client = images::debian(Rootfs::Client)?;
    let mut step = Step::start("loading the images into the cluster");
    for image in images.all().into_iter().chain([&database, &client]) {
        step.tick(&image.tag);
        target.load(image)?;
    }
    step.done();
    Ok(Loaded { images, database, client })
}

fn install(target: &TargetCluster, loaded: &Loaded) -> anyhow::Result<()> {
    let chart = images::workspace()?.join("charts/authservice-operator");
    let step = Step::start("helm install authservice-operator");
    let mut helm = target.helm()?;
    helm.args(["upgrade", "--install", "authservice-operator"]).arg(chart).args([
        "--namespace",
        OPERATOR_NAMESPACE,
        "--create-namespace",
        "--wait",
        "--timeout",
        "3m",
    ]);
    for (key, image) in [
        ("image", &loaded.images.operator),
        ("serverImage", &loaded.images.server),
        ("databaseImage", &loaded.database),
    ] {
        helm.arg("--set-string").arg(format!("{key}={}", image.tag));
    }
    crate::progress::output(&mut helm)?;
    step.done();
    Ok(())
}

/// Applies the quickstart and waits for Ready, saying what it waits for; answers how long it took.
fn bring_up(target: &TargetCluster) -> anyhow::Result<Duration> {
    let quickstart = std::fs::read_to_string(images::workspace()?.join("examples/quickstart.yaml"))?;
    target.apply(NAMESPACE, &namespace_manifest(NAMESPACE))?;
    println!("$ kubectl apply --filename examples/quickstart.yaml");
    let applied = Instant::now();
    target.apply(NAMESPACE, &quickstart)?;
    wait_until_ready(target, applied)
}

/// A namespace under the strictest Pod Security Standard.
#[must_use]
pub fn namespace_manifest(name: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    })
    .to_string()
}

fn wait_until_ready(target: &TargetCluster, applied: Instant) -> anyhow::Result<Duration> {
    let mut step = Step::start(format!("waiting for AuthService {NAME}"));
    loop {
        let object = target.json(&["get", "authservice", NAME, "--namespace", NAMESPACE])?;
        let ready = condition(&object, "Ready");
        let message =
            ready.and_then(|ready| ready["message"].as_str()).unwrap_or("the operator has not seen it yet");
        if ready.is_some_and(|ready| ready["status"] == "True") {
            let took = applied.elapsed();
            step.tick(message);
            step.done();
            return Ok(took);
        }
        if applied.elapsed() > READY_TIMEOUT {
            bail!("AuthService {NAME} is not Ready after {} s: {message}", READY_TIMEOUT.as_secs());
        }
        step.tick(message);
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// One condition of a resource.
#[must_use]
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Logs in and validates as another service would: from a pod of its own, through the Service.
/// The password goes from the Secret to curl's standard input and nowhere else.
fn log_in_and_validate(target: &TargetCluster, client: &Image) -> anyhow::Result<Value> {
    const SCRIPT: &str = r#"set -eu
token=$(printf 'user = "%s:%s"\n' "$EMAIL" "$PASSWORD" | curl --silent --show-error --fail-with-body --request POST --config - "http://$SERVICE/login")
claims=$(printf 'header = "Authorization: Bearer %s"\n' "$token" | curl --silent --show-error --fail-with-body --request POST --config - "http://$SERVICE/validate")
printf '{"token":"%s","claims":%s}\n' "$token" "$claims""#;
    let from_secret = |key: &str| json!({"secretKeyRef": {"name": format!("{NAME}-admin"), "key": key}});
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "client",
                "image": client.tag,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", SCRIPT],
                "env": [
                    {"name": "SERVICE", "value": format!("{NAME}:5000")},
                    {"name": "EMAIL", "valueFrom": from_secret("email")},
                    {"name": "PASSWORD", "valueFrom": from_secret("password")},
                ],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    target.apply(NAMESPACE, &pod.to_string())?;
    let mut step = Step::start("logging in and validating from another pod");
    let started = Instant::now();
    loop {
        let pod = target.json(&["get", "pod", "client", "--namespace", NAMESPACE])?;
        let phase = pod["status"]["phase"].as_str().unwrap_or("Pending").to_owned();
        if phase == "Succeeded" || phase == "Failed" {
            let log = target.read(&["logs", "client", "--namespace", NAMESPACE])?;
            anyhow::ensure!(phase == "Succeeded", "the client pod failed: {}", log.trim());
            step.done();
            return serde_json::from_str(log.trim()).with_context(|| format!("the client printed {log:?}"));
        }
        anyhow::ensure!(started.elapsed() < CLIENT_TIMEOUT, "the client pod is still {phase}");
        step.tick(&phase);
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Prints what the cluster knows about a failure.
fn explain(target: &TargetCluster) {
    let questions: [&[&str]; 4] = [
        &["describe", "authservice", "--namespace", NAMESPACE],
        &["get", "pods", "--all-namespaces", "--output", "wide"],
        &["get", "events", "--namespace", NAMESPACE, "--sort-by", ".lastTimestamp"],
        &[
            "logs",
            "--namespace",
            OPERATOR_NAMESPACE,
            "--selector",
            "app.kubernetes.io/name=authservice-operator",
            "--tail",
            "40",
        ],
    ];
    for question in questions {
        eprintln!("$ kubectl {}", question.join(" "));
        match target.read(question) {
            Ok(answer) => eprintln!("{answer}"),
            Err(error) => eprintln!("{error:#}"),
        }
    }
}

fn clean_up(target: TargetCluster) -> anyhow::Result<()> {
    match target {
        TargetCluster::Node(node) => node.down(),
        TargetCluster::Context { .. } => {
            target.read(&[
                "delete",
                "namespace",
                NAMESPACE,
                figures::BY_HAND_NAMESPACE,
                "--ignore-not-found",
            ])?;
            crate::progress::output(target.helm()?.args([
                "uninstall",
                "authservice-operator",
                "--namespace",
                OPERATOR_NAMESPACE,
                "--wait",
            ]))?;
            target.read(&["delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found"])?;
            target.read(&["delete", "crd", "authservices.authservice.dev", "--ignore-not-found"])?;
            Ok(())
        }
    }
}

fn say_how_to_go_on(target: &TargetCluster) {
    println!("\nIt is left running. Go on with");
    match target {
        TargetCluster::Node(_) => {
            println!(
                "  cargo xtask cluster kubectl --name {NODE} -- describe authservice {NAME} --namespace {NAMESPACE}"
            );
            println!("  cargo xtask cluster shell --name {NODE}");
            println!("  cargo xtask cluster down --name {NODE}     (ends it and removes all of it)");
        }
        TargetCluster::Context { name, .. } => {
            println!("  kubectl --context {name} describe authservice {NAME} --namespace {NAMESPACE}");
            println!("  kubectl --context {name} port-forward --namespace {NAMESPACE} service/{NAME} 5000");
            println!("  kubectl --context {name} delete namespace {NAMESPACE}");
            println!(
                "  helm --kube-context {name} uninstall authservice-operator --namespace {OPERATOR_NAMESPACE}"
            );
        }
    }
}
