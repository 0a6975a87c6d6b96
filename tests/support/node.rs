//! The product on a real node: installed by its chart, with pods, volumes and databases.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt as _;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    clients::{exec, pod_is_ready, run, variable},
    cluster::{PATIENCE, Sandbox, client},
    kubectl::kubectl,
};

/// Namespace and release of the installation that most tests share.
pub const SYSTEM: &str = "authservice-system";
/// The chart as it stands in the checkout.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/authservice-operator");
/// Label selector of the operator's pods.
pub const OPERATOR_PODS: &str =
    "app.kubernetes.io/name=authservice-operator,app.kubernetes.io/component=operator";

/// Runs a test beside the shared installation, in a namespace of its own that goes with the test.
///
/// # Errors
/// The test's own.
pub async fn on_node(
    prefix: &str,
    test: impl AsyncFnOnce(&Sandbox) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_try_init(|| install(Helm::V4, "authservice-operator", SYSTEM, &[])).await?;
    in_own_namespace(prefix, test).await
}

/// Runs a test in a namespace of its own, which goes with the test whatever its outcome.
///
/// # Errors
/// The test's own.
pub async fn in_own_namespace(
    prefix: &str,
    test: impl AsyncFnOnce(&Sandbox) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let sandbox = Sandbox::new(client().await?, prefix).await?;
    let outcome = AssertUnwindSafe(test(&sandbox)).catch_unwind().await;
    if !matches!(outcome, Ok(Ok(()))) {
        sandbox.tell().await;
        tell(&sandbox.namespace).await;
    }
    sandbox.delete().await?;
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Which helm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helm {
    V3,
    V4,
}

impl Helm {
    fn program(self) -> anyhow::Result<String> {
        variable(match self {
            Self::V3 => "TEST_HELM3",
            Self::V4 => "TEST_HELM4",
        })
    }
}

/// What helm prints.
///
/// # Errors
/// When it fails, with what it printed.
pub async fn helm(version: Helm, arguments: &[&str]) -> anyhow::Result<String> {
    run(&[version.program()?], arguments, "").await
}

/// Installs or upgrades a release with the images under test, and waits for it; answers what
/// helm prints.
///
/// # Errors
/// When helm fails.
pub async fn install_with_output(
    version: Helm,
    release: &str,
    namespace: &str,
    settings: &[&str],
) -> anyhow::Result<String> {
    let images = [
        format!("image={}", variable("TEST_OPERATOR_IMAGE")?),
        format!("serverImage={}", variable("TEST_SERVER_IMAGE")?),
        format!("databaseImage={}", variable("TEST_MYSQL_IMAGE")?),
    ];
    let mut arguments = vec!["upgrade", "--install", release, CHART, "--namespace", namespace];
    arguments.extend(["--create-namespace", "--wait", "--timeout", "3m"]);
    for image in &images {
        arguments.extend(["--set-string", image]);
    }
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    helm(version, &arguments).await
}

/// As [`install_with_output`], for whom the output says nothing.
///
/// # Errors
/// When helm fails.
pub async fn install(version: Helm, release: &str, namespace: &str, settings: &[&str]) -> anyhow::Result<()> {
    install_with_output(version, release, namespace, settings).await.map(drop)
}

/// Prints what the cluster knows about a failure.
async fn tell(namespace: &str) {
    let questions: [&[&str]; 4] = [
        &["get", "authservices,all,pvc,secrets", "--namespace", namespace, "--output", "wide"],
        &["describe", "authservices", "--namespace", namespace],
        &["logs", "--namespace", namespace, "--selector", "authservice.dev/name", "--tail", "15", "--prefix"],
        &["logs", "--namespace", SYSTEM, "--selector", OPERATOR_PODS, "--tail", "40", "--prefix"],
    ];
    for question in questions {
        let answer = kubectl(question).await.unwrap_or_else(|error| format!("{error:#}"));
        eprintln!("$ kubectl {}\n{answer}", question.join(" "));
    }
}

/// Waits until as many server pods are ready as the Deployment wants, all of its present template,
/// and no older one is left.
///
/// # Errors
/// When that does not happen in time.
pub async fn wait_rolled_out(sandbox: &Sandbox, name: &str) -> anyhow::Result<Deployment> {
    sandbox
        .wait_until(name, "a finished rollout", |deployment: &Deployment| {
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            let status = deployment.status.clone().unwrap_or_default();
            status.observed_generation == deployment.metadata.generation
                && status.updated_replicas == wanted
                && status.ready_replicas == wanted
                && status.replicas == wanted
        })
        .await
}

/// The pods of a resource that play this part (`server`, `database`, `migration`), but for those
/// that are being deleted.
///
/// # Errors
/// When they cannot be listed.
pub async fn pods(sandbox: &Sandbox, name: &str, component: &str) -> anyhow::Result<Vec<Pod>> {
    let selector = format!("authservice.dev/name={name},app.kubernetes.io/component={component}");
    let mut pods = sandbox.api::<Pod>().list(&ListParams::default().labels(&selector)).await?.items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(pods)
}

/// How often each container of these pods was restarted.
#[must_use]
pub fn restarts(pods: &[Pod]) -> Vec<i32> {
    let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_deref());
    statuses.flatten().map(|container| container.restart_count).collect()
}

/// Kills a pod as a power cut would.
///
/// # Errors
/// When the API server refuses.
pub async fn kill_pod(sandbox: &Sandbox, name: &str) -> anyhow::Result<()> {
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    sandbox.api::<Pod>().delete(name, &at_once).await?;
    Ok(())
}

/// Applies manifests as `kubectl apply --filename -` does.
///
/// # Errors
/// When kubectl fails.
pub async fn apply(sandbox: &Sandbox, manifests: &str) -> anyhow::Result<()> {
    let arguments = ["apply", "--namespace", &sandbox.namespace, "--filename", "-"];
    run(&[variable("TEST_KUBECTL")?], &arguments, manifests).await.map(drop)
}

/// Runs SQL as root in a managed database and answers its rows, tab-separated.
///
/// # Errors
/// The database's own.
pub async fn managed_sql(sandbox: &Sandbox, name: &str, statements: &str) -> anyhow::Result<String> {
    const SCRIPT: &str = "client=$(command -v mariadb || command -v mysql)
        MYSQL_PWD=$(cat /etc/authservice/root/password) exec \"$client\" --no-defaults --user=root \
        --socket=/run/mysqld/mysqld.sock --batch --skip-column-names";
    exec(sandbox, &format!("{name}-mysql-0"), &["sh", "-c", SCRIPT], statements).await
}

/// An engine that a test runs as its own, outside of the product's care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    MySql,
    MariaDb,
}

/// A database server that belongs to the test.
pub struct Database<'a> {
    sandbox: &'a Sandbox,
    engine: Engine,
    /// Name of its pod and its Service.
    pub name: &'static str,
}

impl<'a> Database<'a> {
    /// Starts a server whose root may do everything from its own pod alone, and a Service for it.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(sandbox: &'a Sandbox, name: &'static str, engine: Engine) -> anyhow::Result<Self> {
        sandbox.create::<Service>(&service_of(name)).await?;
        let database = Self { sandbox, engine, name };
        database.start_pod().await?;
        Ok(database)
    }

    /// Starts the pod, again after [`Database::stop`]; its data are new each time.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_pod(&self) -> anyhow::Result<()> {
        self.sandbox.create::<Pod>(&self.pod()?).await?;
        self.sandbox.wait_until(self.name, "a ready database", pod_is_ready).await?;
        Ok(())
    }

    /// Kills the server and waits until its pod is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn stop(&self) -> anyhow::Result<()> {
        kill_pod(self.sandbox, self.name).await?;
        self.sandbox.wait_gone::<Pod>(self.name).await
    }

    /// Runs SQL as root and answers its rows, tab-separated.
    ///
    /// # Errors
    /// The database's own.
    pub async fn sql(&self, statements: &str) -> anyhow::Result<String> {
        let client = match self.engine {
            Engine::MySql => "mysql",
            Engine::MariaDb => "mariadb",
        };
        let options = [
            "--no-defaults",
            "--user=root",
            "--socket=/data/sock",
            "--batch",
            "--raw",
            "--skip-column-names",
        ];
        exec(self.sandbox, self.name, &[&[client], &options[..]].concat(), statements).await
    }

    fn pod(&self) -> anyhow::Result<Value> {
        const MYSQL: &str = "set -eu
            mysqld --no-defaults --initialize-insecure --datadir=/data/db --innodb-flush-log-at-trx-commit=0
            exec mysqld --no-defaults --datadir=/data/db --socket=/data/sock --pid-file=/data/pid \
                --secure-file-priv= --mysqlx=OFF --skip-log-bin --performance-schema=OFF --host-cache-size=0";
        const MARIADB: &str = "set -eu
            mariadb-install-db --no-defaults --datadir=/data/db --auth-root-authentication-method=normal >/dev/null
            exec mariadbd --no-defaults --datadir=/data/db --socket=/data/sock --pid-file=/data/pid \
                --secure-file-priv= --performance-schema=OFF --host-cache-size=0";
        let (image, script, probe) = match self.engine {
            Engine::MySql => ("TEST_MYSQL_IMAGE", MYSQL, "mysql"),
            Engine::MariaDb => ("TEST_MARIADB_IMAGE", MARIADB, "mariadb"),
        };
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": {"app": self.name}},
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 999, "fsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"}},
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
                "containers": [{
                    "name": "database",
                    "image": variable(image)?,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", script],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
                    "readinessProbe": {
                        "exec": {"command": [probe, "--no-defaults", "--user=root", "--socket=/data/sock", "--execute=SELECT 1"]},
                        "periodSeconds": 1,
                        "timeoutSeconds": 10,
                        "failureThreshold": 100,
                    },
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        }))
    }
}

/// A Service for the pods labelled with its name.
#[must_use]
pub fn service_of(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 3306}]},
    })
}

/// Waits until no pod of another name than these is left among those selected.
///
/// # Errors
/// When that does not happen in time.
pub async fn wait_other_pods(
    sandbox: &Sandbox,
    name: &str,
    component: &str,
    old: &[String],
) -> anyhow::Result<()> {
    let started = tokio::time::Instant::now();
    loop {
        let pods = pods(sandbox, name, component).await?;
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        if !pods.is_empty() && pods.iter().all(pod_is_ready) && !names.iter().any(|name| old.contains(name)) {
            return Ok(());
        }
        anyhow::ensure!(
            started.elapsed() < PATIENCE,
            "the pods {old:?} were not replaced by ready ones: {names:?}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Waits until a question about the cluster has the wanted answer.
///
/// # Errors
/// When it has not in time, with the last answer.
pub async fn eventually<T: PartialEq + std::fmt::Debug>(
    what: &str,
    wanted: &T,
    ask: impl AsyncFn() -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    let started = tokio::time::Instant::now();
    loop {
        let answer = ask().await;
        if answer.as_ref().is_ok_and(|answer| answer == wanted) {
            return Ok(());
        }
        let late = started.elapsed() > PATIENCE;
        anyhow::ensure!(!late, "waited for {what}: wanted {wanted:?}, is {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
}
