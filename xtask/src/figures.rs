//! The figures that demo and test print at their end, each beside what it is to be compared with.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::images::Images;
use crate::progress::Step;
use crate::target_cluster::TargetCluster;
use crate::{demo, privilege};

/// Where the same objects are applied by hand.
pub const BY_HAND_NAMESPACE: &str = "authservice-by-hand";
const BY_HAND_TIMEOUT: Duration = Duration::from_mins(3);

/// What has been measured on the way.
pub struct Inputs<'a> {
    /// Namespace of the resource.
    pub namespace: &'a str,
    /// Name of the resource.
    pub name: &'a str,
    /// From apply to Ready.
    pub ready_after: Duration,
    /// The images.
    pub images: &'a Images,
}

/// Prints time to Ready against the same objects applied by hand, memory, start to ready, image sizes.
///
/// # Errors
/// When the cluster cannot be asked.
pub fn print(target: &TargetCluster, inputs: &Inputs<'_>) -> anyhow::Result<()> {
    let by_hand = apply_by_hand(target, inputs)?;
    println!("\nFigures of this run, on this machine:");
    println!(
        "  apply to Ready        {:.1} s; the same objects applied by hand {:.1} s (ratio {:.2})",
        inputs.ready_after.as_secs_f64(),
        by_hand.as_secs_f64(),
        inputs.ready_after.as_secs_f64() / by_hand.as_secs_f64()
    );
    match target {
        TargetCluster::Node(_) => {
            for binary in ["operator", "auth-server"] {
                let sizes = resident_mebibytes(binary)?;
                let sizes: Vec<_> = sizes.iter().map(|size| format!("{size:.1} MiB")).collect();
                println!("  resident memory       {binary}: {}", sizes.join(", "));
            }
        }
        TargetCluster::Context { .. } => println!("  resident memory       only read on a node of our own"),
    }
    println!(
        "  start to ready        auth-server: {:.2} s, its database up",
        start_to_ready(target, inputs)?
    );
    for image in inputs.images.all() {
        #[expect(clippy::cast_precision_loss, reason = "image sizes are far below 2^52 bytes")]
        let mebibytes = image.bytes()? as f64 / 1024.0 / 1024.0;
        println!("  image                 {}: {mebibytes:.1} MiB uncompressed", image.tag);
    }
    Ok(())
}

/// The objects the operator made, freed of what ties them to it, applied to another namespace in one call.
fn apply_by_hand(target: &TargetCluster, inputs: &Inputs<'_>) -> anyhow::Result<Duration> {
    let selector = format!("authservice.dev/name={}", inputs.name);
    let made = target.json(&[
        "get",
        "secrets,services,statefulsets,jobs,poddisruptionbudgets,deployments",
        "--namespace",
        inputs.namespace,
        "--selector",
        &selector,
    ])?;
    let items: Vec<Value> = made["items"]
        .as_array()
        .context("kubectl get answered no list")?
        .iter()
        .map(|object| freed(object, inputs.namespace))
        .collect();
    let deployment = format!("deployment/{}", inputs.name);
    let jobs: Vec<String> = items
        .iter()
        .filter(|object| object["kind"] == "Job")
        .filter_map(|job| Some(format!("job/{}", job["metadata"]["name"].as_str()?)))
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});

    let step = Step::start("applying the same objects by hand, to compare");
    // What an interrupted run left would count as made by this one.
    target.read(&["delete", "namespace", BY_HAND_NAMESPACE, "--ignore-not-found"])?;
    target.apply(BY_HAND_NAMESPACE, &demo::namespace_manifest(BY_HAND_NAMESPACE))?;
    let applied = Instant::now();
    target.apply(BY_HAND_NAMESPACE, &list.to_string())?;
    let timeout = format!("--timeout={}s", BY_HAND_TIMEOUT.as_secs());
    for (what, until) in
        jobs.iter().map(|job| (job.as_str(), "complete")).chain([(deployment.as_str(), "available")])
    {
        let condition = format!("--for=condition={until}");
        target.read(&["wait", what, &condition, &timeout, "--namespace", BY_HAND_NAMESPACE])?;
    }
    target.read(&["rollout", "status", &deployment, &timeout, "--namespace", BY_HAND_NAMESPACE])?;
    let took = applied.elapsed();
    step.done();
    target.read(&["delete", "namespace", BY_HAND_NAMESPACE, "--wait=false"])?;
    Ok(took)
}

fn freed(object: &Value, namespace: &str) -> Value {
    let text = object.to_string().replace(&format!(".{namespace}."), &format!(".{BY_HAND_NAMESPACE}."));
    let mut object: Value = serde_json::from_str(&text).unwrap_or_else(|_| object.clone());
    object["metadata"] = json!({"name": object["metadata"]["name"]});
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    if object["kind"] == "Job" {
        // The job controller chose them; a new Job is given its own.
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("selector");
        }
        if let Some(labels) =
            object.pointer_mut("/spec/template/metadata/labels").and_then(Value::as_object_mut)
        {
            labels.retain(|label, _| !label.contains("controller-uid") && !label.contains("job-name"));
        }
    }
    object
}

/// Resident memory of every process of this name on the machine, in MiB.
fn resident_mebibytes(binary: &str) -> anyhow::Result<Vec<f64>> {
    let mut sizes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        let Ok(command) = fs::read_to_string(folder.join("comm")) else { continue };
        if command.trim() != binary {
            continue;
        }
        let Ok(status) = fs::read_to_string(folder.join("status")) else { continue };
        let kibibytes = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()
        });
        sizes.extend(kibibytes.map(|size| size / 1024.0));
    }
    anyhow::ensure!(!sizes.is_empty() || !privilege::is_root(), "no process named {binary} is running");
    Ok(sizes)
}

/// Replaces one server pod while the database is up; answers what its successor's log says.
fn start_to_ready(target: &TargetCluster, inputs: &Inputs<'_>) -> anyhow::Result<f64> {
    let selector = format!("authservice.dev/name={},app.kubernetes.io/component=server", inputs.name);
    let names = || -> anyhow::Result<BTreeSet<String>> {
        let pods = target.json(&["get", "pods", "--namespace", inputs.namespace, "--selector", &selector])?;
        let items = pods["items"].as_array().context("kubectl get answered no list")?;
        Ok(items.iter().filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned())).collect())
    };
    let before = names()?;
    let replaced = before.first().context("there is no server pod")?;
    target.read(&["delete", "pod", replaced, "--namespace", inputs.namespace])?;
    let deployment = format!("deployment/{}", inputs.name);
    target.read(&["rollout", "status", &deployment, "--timeout=60s", "--namespace", inputs.namespace])?;
    let after = names()?;
    let successor = after.difference(&before).next().context("no pod took the place of the deleted one")?;
    let log = target.read(&["logs", successor, "--namespace", inputs.namespace])?;
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == "ready")
        .and_then(|line| line["after_seconds"].as_f64())
        .with_context(|| format!("pod {successor} does not say when it was ready"))
}
