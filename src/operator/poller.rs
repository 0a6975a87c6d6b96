//! Asks every server pod for its `/status`, since only the pods know what they have really loaded
//! and whether their database answers.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, future::BoxFuture, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    context::{Context, ObjectKey, Verdict, Verdicts},
    labels,
    scope::Scope,
    surroundings::AskPod,
};
use crate::contract::{OPS_PORT, ServerStatus};

/// Longest time between two polls.
pub const PERIOD: Duration = Duration::from_secs(15);
/// How long a pod may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How many pods are asked at the same time.
pub const IN_FLIGHT: usize = 64;
/// Longest answer read. A status is far shorter; what listens there may be anything.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Pods listed with one call.
const PAGE: u32 = 500;

/// Polls for ever; yields each resource whose pods said something new.
pub fn changes(scope: Scope, ctx: Arc<Context>) -> impl Stream<Item = ObjectKey> + Send {
    let poller = Arc::new(Poller { scope, ctx });
    stream::unfold(poller, async |poller| {
        tokio::time::sleep(poller.ctx.surroundings.jittered(PERIOD)).await;
        Some((stream::iter(poller.poll().await), poller))
    })
    .flatten()
}

#[derive(Clone)]
struct Poller {
    scope: Scope,
    ctx: Arc<Context>,
}

impl Poller {
    async fn poll(&self) -> Vec<ObjectKey> {
        let pods = match self.pods().await {
            Ok(pods) => pods,
            Err(error) => {
                tracing::warn!(%error, "the server pods cannot be listed; their status is not known for now");
                return Vec::new();
            }
        };
        let asked = stream::iter(pods)
            .map(|pod| async move { (pod.resource, pod.name, self.ask(pod.address).await) })
            .buffer_unordered(IN_FLIGHT);
        let verdicts =
            asked.fold(HashMap::<ObjectKey, Verdicts>::new(), async |mut all, (resource, pod, verdict)| {
                all.entry(resource).or_default().insert(pod, verdict);
                all
            });
        self.ctx.pods.replace(&self.scope, verdicts.await)
    }

    async fn ask(&self, address: IpAddr) -> Verdict {
        let surroundings = &self.ctx.surroundings;
        let at = surroundings.now();
        match surroundings.pods.status(address).await {
            Some(status) => Verdict::Answered { status: Box::new(status), at },
            None => Verdict::Unknown,
        }
    }

    /// Server pods that have an address, and so may answer.
    async fn pods(&self) -> kube::Result<Vec<ServerPod>> {
        let api: Api<Pod> = self.scope.api(&self.ctx.client);
        let selector = format!(
            "{}={},{}={}",
            labels::MANAGED_BY,
            labels::MANAGER,
            labels::COMPONENT,
            labels::component::SERVER
        );
        let mut params = ListParams::default().labels(&selector).limit(PAGE);
        let mut pods = Vec::new();
        loop {
            let page = api.list(&params).await?;
            pods.extend(page.items.iter().filter_map(ServerPod::of));
            match page.metadata.continue_ {
                Some(token) if !token.is_empty() => params = params.continue_token(&token),
                _ => return Ok(pods),
            }
        }
    }
}

struct ServerPod {
    resource: ObjectKey,
    name: String,
    address: IpAddr,
}

impl ServerPod {
    /// None for a pod that has ended or has no address yet, or that no resource claims.
    fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        if status.phase.as_deref() != Some("Running") {
            return None;
        }
        let owner = pod.labels().get(labels::OWNER)?.clone();
        Some(Self {
            resource: ObjectKey { namespace: pod.namespace()?, name: owner },
            name: pod.name_any(),
            address: status.pod_ip.as_deref()?.parse().ok()?,
        })
    }
}

/// Asks pods by HTTP, without a proxy, and without connections that outlive their answer.
#[derive(Debug)]
pub struct HttpPods(Option<reqwest::Client>);

impl Default for HttpPods {
    fn default() -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(PATIENCE)
            .build();
        if let Err(error) = &http {
            tracing::error!(%error, "no pod can be asked for its status");
        }
        Self(http.ok())
    }
}

impl AskPod for HttpPods {
    fn status(&self, address: IpAddr) -> BoxFuture<'_, Option<ServerStatus>> {
        Box::pin(async move {
            let answer = read_status(self.0.as_ref()?, std::net::SocketAddr::new(address, OPS_PORT)).await;
            answer.unwrap_or_else(|error| {
                tracing::debug!(%error, %address, "a pod did not tell its status");
                None
            })
        })
    }
}

async fn read_status(
    http: &reqwest::Client,
    address: std::net::SocketAddr,
) -> Result<Option<ServerStatus>, reqwest::Error> {
    let mut response = http.get(format!("http://{address}/status")).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&body).ok())
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};

    use super::*;

    const STATUS: &str =
        r#"{"version":"1","keyIds":["k"],"signingKeyId":"k","database":{"account":"a","schemaVersion":1}}"#;

    async fn answer(body: String) -> Result<Option<ServerStatus>, Box<dyn std::error::Error>> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            axum::serve(listener, Router::new().route("/status", get(async move || body))).await
        });
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let status = read_status(&http, address).await?;
        server.abort();
        Ok(status)
    }

    #[tokio::test]
    async fn a_status_is_read_and_anything_else_is_unknown() -> Result<(), Box<dyn std::error::Error>> {
        assert_eq!(answer(STATUS.to_owned()).await?, Some(serde_json::from_str(STATUS)?));
        assert_eq!(answer("welcome".to_owned()).await?, None);
        assert_eq!(answer(" ".repeat(MAX_ANSWER_BYTES) + STATUS).await?, None);
        Ok(())
    }

    #[test]
    fn only_running_pods_with_an_address_and_an_owner_are_asked() -> Result<(), serde_json::Error> {
        let pod = |owner: Option<&str>, phase: &str, ip: Option<&str>| -> Result<bool, serde_json::Error> {
            let labels: HashMap<_, _> = owner.map(|owner| (labels::OWNER, owner)).into_iter().collect();
            let pod: Pod = serde_json::from_value(serde_json::json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "gate-1", "namespace": "market", "labels": labels},
                "status": {"phase": phase, "podIP": ip},
            }))?;
            Ok(ServerPod::of(&pod).is_some())
        };
        assert!(pod(Some("gate"), "Running", Some("10.0.0.1"))?);
        assert!(pod(Some("gate"), "Running", Some("fd00::1"))?);
        assert!(!pod(Some("gate"), "Running", None)?);
        assert!(!pod(Some("gate"), "Succeeded", Some("10.0.0.1"))?);
        assert!(!pod(None, "Running", Some("10.0.0.1"))?);
        Ok(())
    }
}
