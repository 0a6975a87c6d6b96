//! The one place where a client for the API server is made, so that tests go through the same
//! layers as production: no hidden retries, and a deadline on every call but watches.

use std::{sync::Arc, time::Duration};

use axum::body::Body as AnyBody;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Layer, Service};

use super::metrics::Metrics;

/// How long a call may take, from its first byte to the last of its answer. Watches are not bound
/// by it: kube-runtime ends those that fall silent.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// A client whose every call but watches ends within `deadline`, with an error if need be, and is
/// counted in `metrics`. kube's own retries are off: they can hold one call for minutes, and the
/// backoff of each resource repeats it anyway.
///
/// # Errors
/// The configuration's certificates or credentials cannot be used.
pub fn client(mut config: Config, deadline: Duration, metrics: Arc<Metrics>) -> Result<Client, kube::Error> {
    config.default_retry = false;
    Ok(ClientBuilder::try_from(config)?.with_layer(&BoundedLayer { deadline, metrics }).build())
}

/// The same over a service that stands for the API server.
pub fn over<S, B>(service: S, deadline: Duration, metrics: Arc<Metrics>) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(BoundedLayer { deadline, metrics }.layer(service), "default")
}

/// Why a call was given up.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", .0.as_secs_f32())]
pub struct DeadlineExceeded(pub Duration);

/// Adds the deadline and the counting.
#[derive(Debug, Clone)]
pub struct BoundedLayer {
    /// For every call but watches.
    pub deadline: Duration,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
}

impl<S> Layer<S> for BoundedLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, layer: self.clone() }
    }
}

/// A service with a deadline for every call but watches.
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    inner: S,
    layer: BoundedLayer,
}

impl<S, B> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<AnyBody>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let verb = verb(&request);
        let BoundedLayer { deadline, metrics } = self.layer.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let outcome = if verb == WATCH {
                answer.await.map(|response| response.map(AnyBody::new)).map_err(Into::into)
            } else {
                let whole = tokio::time::timeout(deadline, async {
                    read_whole(answer.await.map_err(Into::into)?).await
                });
                whole.await.unwrap_or_else(|_elapsed| Err(DeadlineExceeded(deadline).into()))
            };
            match &outcome {
                Ok(response) => metrics.api_request(verb, response.status().as_str()),
                Err(error) if error.is::<DeadlineExceeded>() => metrics.api_request(verb, "timeout"),
                Err(_) => metrics.api_request(verb, "unreachable"),
            }
            outcome
        })
    }
}

/// A body that stalls half-way must meet the deadline too, so it is read before it is handed on.
async fn read_whole<B>(response: Response<B>) -> Result<Response<AnyBody>, BoxError>
where
    B: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = response.into_parts();
    let bytes = axum::body::to_bytes(AnyBody::new(body), usize::MAX).await?;
    Ok(Response::from_parts(head, AnyBody::from(bytes)))
}

const WATCH: &str = "watch";

fn verb(request: &Request<Body>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let watches = query.split('&').any(|pair| matches!(pair, "watch" | "watch=true" | "watch=1"));
    match *request.method() {
        Method::GET if watches => WATCH,
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "replace",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt, TryStreamExt};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, api::WatchParams};

    use super::*;

    /// A client over the layer alone, its server being `answer`.
    fn client_over<F>(
        metrics: &Arc<Metrics>,
        answer: impl Fn(Request<Body>) -> F + Clone + Send + 'static,
    ) -> Client
    where
        F: Future<Output = Response<AnyBody>> + Send + 'static,
    {
        let server = tower::service_fn(move |request| {
            let answer = answer(request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        over(server, CALL_DEADLINE, Arc::clone(metrics))
    }

    fn counted(metrics: &Metrics) -> Vec<String> {
        let text = metrics.encode().unwrap_or_default();
        let prefix = "authservice_operator_api_requests_total";
        text.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_at_the_deadline() {
        let metrics = Arc::new(Metrics::new());
        let client = client_over(&metrics, |_| std::future::pending());
        let started = tokio::time::Instant::now();
        let error = Api::<ConfigMap>::default_namespaced(client)
            .get("map")
            .await
            .err()
            .map(|error| error.to_string());
        assert_eq!(started.elapsed(), CALL_DEADLINE);
        assert_eq!(error.as_deref(), Some("ServiceError: the API server did not answer within 10 s"));
        assert_eq!(counted(&metrics), ["{verb=\"get\",code=\"timeout\"} 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_ends_at_the_deadline() {
        let metrics = Arc::new(Metrics::new());
        let client = client_over(&metrics, |_| async {
            let stalled = futures::stream::once(async { Ok::<_, Infallible>("{\"kind\":") });
            Response::new(AnyBody::from_stream(stalled.chain(futures::stream::pending())))
        });
        let started = tokio::time::Instant::now();
        let answer = Api::<ConfigMap>::default_namespaced(client).get("map").await;
        assert!(answer.is_err());
        assert_eq!(started.elapsed(), CALL_DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_outlives_the_deadline() -> Result<(), Box<dyn std::error::Error>> {
        let metrics = Arc::new(Metrics::new());
        let client = client_over(&metrics, |_| async {
            let event = futures::stream::once(async {
                tokio::time::sleep(CALL_DEADLINE * 3).await;
                Ok::<_, Infallible>(
                    "{\"type\":\"DELETED\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{}}}\n",
                )
            });
            Response::new(AnyBody::from_stream(event))
        });
        let api = Api::<ConfigMap>::default_namespaced(client);
        let events = api.watch(&WatchParams::default(), "0").await?;
        let events: Vec<_> = events.try_collect().await?;
        assert_eq!(events.len(), 1);
        assert_eq!(counted(&metrics), ["{verb=\"watch\",code=\"200\"} 1"]);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn an_overloaded_api_server_is_asked_once() {
        let metrics = Arc::new(Metrics::new());
        let client = client_over(&metrics, |_| async {
            let status =
                serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429});
            let mut response = Response::new(AnyBody::from(status.to_string()));
            *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
            response
        });
        let answer = Api::<ConfigMap>::default_namespaced(client).get("map").await;
        assert!(answer.is_err());
        assert_eq!(counted(&metrics), ["{verb=\"get\",code=\"429\"} 1"]);
    }
}
