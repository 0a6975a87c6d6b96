//! A namespace of its own for each test, and waits that say what they waited for.

use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Mutex,
    time::Duration,
};

use anyhow::Context as _;
use authservice::api::AuthService;
use futures::FutureExt as _;
use k8s_openapi::{
    api::{core::v1::Namespace, events::v1::Event},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, CustomResourceExt as _, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::operator::LogFile;

/// How long anything may take that takes a moment on an idle machine.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// The administrator's connection to the API server.
///
/// # Errors
/// When `KUBECONFIG` names none.
pub async fn client() -> anyhow::Result<Client> {
    let mut config = Config::infer().await.context("KUBECONFIG names no cluster")?;
    config.default_retry = true;
    Ok(Client::try_from(config)?)
}

/// Gives the cluster the resource definitions, and waits until it serves them.
///
/// # Errors
/// When the API server refuses them.
pub async fn install_definitions(client: &Client) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = AuthService::crd();
    let name = definition.name_any();
    definitions.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&definition)).await?;
    let started = tokio::time::Instant::now();
    loop {
        let live = definitions.get(&name).await?;
        let conditions = live.status.and_then(|status| status.conditions).unwrap_or_default();
        let holds =
            |kind: &str, status: &str| conditions.iter().any(|c| c.type_ == kind && c.status == status);
        anyhow::ensure!(
            !holds("NonStructuralSchema", "True"),
            "the schema is not structural: {conditions:?}"
        );
        if holds("Established", "True")
            && Api::<AuthService>::all(client.clone()).list(&ListParams::default()).await.is_ok()
        {
            return Ok(());
        }
        anyhow::ensure!(started.elapsed() < PATIENCE, "{name} is not established: {conditions:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A namespace that enforces the `restricted` Pod Security Standard.
pub struct Sandbox {
    pub client: Client,
    pub namespace: String,
    logs: Mutex<Vec<LogFile>>,
}

/// Runs a test in a namespace of its own, which goes with the test whatever its outcome.
///
/// # Errors
/// The test's own.
pub async fn in_namespace(
    prefix: &str,
    test: impl AsyncFnOnce(&Sandbox) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let client = client().await?;
    install_definitions(&client).await?;
    let sandbox = Sandbox::new(client, prefix).await?;
    let outcome = AssertUnwindSafe(test(&sandbox)).catch_unwind().await;
    if !matches!(outcome, Ok(Ok(()))) {
        sandbox.tell().await;
    }
    sandbox.delete().await?;
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

impl Sandbox {
    /// Makes the namespace.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn new(client: Client, prefix: &str) -> anyhow::Result<Self> {
        let namespace = format!("{prefix}-{:08x}", rand::random::<u32>());
        let labels = [("pod-security.kubernetes.io/enforce", "restricted")];
        let object = Namespace {
            metadata: ObjectMeta {
                name: Some(namespace.clone()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::all(client.clone()).create(&PostParams::default(), &object).await?;
        Ok(Self { client, namespace, logs: Mutex::default() })
    }

    /// Deletes the namespace without waiting for its end.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self) -> anyhow::Result<()> {
        Api::<Namespace>::all(self.client.clone()).delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The namespace's objects of one kind.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates an `AuthService`.
    ///
    /// # Errors
    /// The API server's refusal.
    pub async fn create_service(
        &self,
        name: &str,
        spec: serde_json::Value,
    ) -> Result<AuthService, kube::Error> {
        let object = json!({
            "apiVersion": "authservice.dev/v1alpha1",
            "kind": "AuthService",
            "metadata": {"name": name},
            "spec": spec,
        });
        self.create(&object).await
    }

    /// Creates an object as written: what it lacks is the API server's to add.
    ///
    /// # Errors
    /// The API server's refusal.
    pub async fn create<K>(&self, object: &serde_json::Value) -> Result<K, kube::Error>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let path = K::url_path(&(), Some(&self.namespace));
        let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(body)
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    /// Merges a change into an object.
    ///
    /// # Errors
    /// The API server's refusal.
    pub async fn merge<K>(&self, name: &str, change: serde_json::Value) -> Result<K, kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await
    }

    /// Waits until the object of this name, absent ones included, is as wanted, and answers
    /// what the condition answered.
    ///
    /// # Errors
    /// After [`PATIENCE`], with the object as it was last.
    pub async fn wait<K, T>(
        &self,
        name: &str,
        what: &str,
        good: impl Fn(Option<&K>) -> Option<T>,
    ) -> anyhow::Result<T>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Serialize,
    {
        let api = self.api::<K>();
        let started = tokio::time::Instant::now();
        loop {
            let object = api.get_opt(name).await?;
            if let Some(answer) = good(object.as_ref()) {
                return Ok(answer);
            }
            if started.elapsed() > PATIENCE {
                let shown = serde_json::to_string_pretty(&object)?;
                anyhow::bail!("waited for {what}: {} {}/{name} is\n{shown}", K::kind(&()), self.namespace);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the object exists and is as wanted.
    ///
    /// # Errors
    /// As [`Sandbox::wait`].
    pub async fn wait_until<K>(&self, name: &str, what: &str, good: impl Fn(&K) -> bool) -> anyhow::Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Serialize,
    {
        self.wait(name, what, |object: Option<&K>| object.filter(|object| good(object)).cloned()).await
    }

    /// Waits until there is no object of this name.
    ///
    /// # Errors
    /// As [`Sandbox::wait`].
    pub async fn wait_gone<K>(&self, name: &str) -> anyhow::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Serialize,
    {
        self.wait(name, "its end", |object: Option<&K>| object.is_none().then_some(())).await
    }

    /// Waits until an `AuthService` is ready as it is now.
    ///
    /// # Errors
    /// As [`Sandbox::wait`].
    pub async fn wait_ready(&self, name: &str) -> anyhow::Result<AuthService> {
        self.wait_until(name, "Ready of its present generation", is_ready).await
    }

    /// Waits until a condition has a status and a reason, and answers its message.
    ///
    /// # Errors
    /// As [`Sandbox::wait`].
    pub async fn wait_condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> anyhow::Result<String> {
        self.wait(name, &format!("{kind}={status} for {reason}"), |service: Option<&AuthService>| {
            let service = service?;
            let condition = condition(service, kind)?;
            let current = condition.observed_generation == service.metadata.generation;
            (current && condition.status == status && condition.reason == reason)
                .then(|| condition.message.clone())
        })
        .await
    }

    /// Shows this operator's log when the test fails.
    pub fn shows(&self, log: LogFile) {
        if let Ok(mut logs) = self.logs.lock() {
            logs.push(log);
        }
    }

    /// Prints what helps to understand a failure: Events and the operators' logs.
    pub async fn tell(&self) {
        if let Ok(events) = self.api::<Event>().list(&ListParams::default()).await {
            for event in events {
                let about = event.regarding.unwrap_or_default();
                eprintln!(
                    "event: {} {}: {}: {}",
                    about.kind.unwrap_or_default(),
                    about.name.unwrap_or_default(),
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default()
                );
            }
        }
        for log in self.logs.lock().map(|logs| logs.clone()).unwrap_or_default() {
            eprintln!("operator: {}", log.tail());
        }
    }
}

/// One condition of a resource.
#[must_use]
pub fn condition<'a>(
    service: &'a AuthService,
    kind: &str,
) -> Option<&'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    service.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether `Ready` is true of the present generation.
#[must_use]
pub fn is_ready(service: &AuthService) -> bool {
    condition(service, "Ready").is_some_and(|ready| {
        ready.status == "True" && ready.observed_generation == service.metadata.generation
    })
}
