//! A counting proxy between an operator and the API server, which can lose one call and all that
//! follow it, as they are lost when the operator is killed.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{Request, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// What is lost of a call, and of all that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It never reaches the API server.
    Request,
    /// It is done, and nobody hears of it.
    Reply,
}

/// One call to lose: the `nth` of its kind, counted from 1. Calls of one process run side by side, so
/// that its k-th call is another one in each run, and the second write of one Secret is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub call: Call,
    pub nth: usize,
    pub loss: Loss,
}

/// A listening proxy; it ends when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    tripped: watch::Receiver<bool>,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
    kubeconfig: PathBuf,
}

struct Shared {
    client: Client,
    inner: Mutex<Inner>,
    trip: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    fault: Option<Fault>,
    /// How many calls of the fault's kind there were since it was armed.
    since_armed: usize,
    /// Calls that are not lost, and what is lost of the first that is none of them.
    other_than: Option<(BTreeSet<Call>, Loss)>,
    /// The call that was lost.
    lost: Option<Call>,
    calls: Vec<Call>,
}

/// One call that was counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub method: String,
    /// Without the name of the namespace and the hash in a Job's, so that it says the same in every sandbox;
    /// with the name of what is created.
    pub path: String,
}

impl Call {
    /// Whether it could change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.method != "GET"
    }

    /// The same for every Event, whose names are drawn.
    #[must_use]
    pub fn kind(&self) -> Self {
        let path = match self.path.find("/events") {
            Some(at) => &self.path[..at + "/events".len()],
            None => &self.path,
        };
        Self { method: self.method.clone(), path: path.to_owned() }
    }

    /// Whether it only tells what happened. Such calls follow the hour, and so differ between runs.
    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.path.ends_with("/status") || self.path.contains("/events")
    }
}

impl From<&Request<Bytes>> for Call {
    fn from(request: &Request<Bytes>) -> Self {
        let segments: Vec<&str> = request.uri().path().split('/').collect();
        let kept = segments.iter().enumerate().filter(|(at, _)| *at == 0 || segments[at - 1] != "namespaces");
        let path = kept.map(|(_, segment)| without_hash(segment)).collect::<Vec<_>>().join("/");
        let mut call = Self { method: request.method().to_string(), path };
        // An Event's name is drawn.
        if call.method == "POST" && !call.is_telling() {
            let object: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            let name = object["metadata"]["name"].as_str().map(without_hash);
            call.path.extend(name.map(|name| format!("/{name}")));
        }
        call
    }
}

/// The name of a migration Job without the hash, whose key is drawn for each resource.
fn without_hash(name: &str) -> &str {
    name.find("-migrate-").map_or(name, |at| &name[..at + "-migrate".len()])
}

impl Proxy {
    /// Listens on loopback and forwards with this client's credentials.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(client: Client) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (trip, tripped) = watch::channel(false);
        let shared = Arc::new(Shared { client, inner: Mutex::default(), trip });
        let router = Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_for(address))?;
        Ok(Self { shared, tripped, task, _folder: folder, kubeconfig })
    }

    /// A kubeconfig that leads through this proxy.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// Loses a call from now on; its like are counted from now.
    pub fn arm(&self, fault: Fault) {
        let mut inner = self.shared.lock();
        inner.fault = Some(fault);
        inner.since_armed = 0;
    }

    /// Loses the first write that is of another kind than these.
    pub fn arm_other_than(&self, kinds: BTreeSet<Call>, loss: Loss) {
        self.shared.lock().other_than = Some((kinds, loss));
    }

    /// The call that was lost.
    #[must_use]
    pub fn lost(&self) -> Option<Call> {
        self.shared.lock().lost.clone()
    }

    /// Waits until the call was lost.
    pub async fn tripped(&self) {
        let mut tripped = self.tripped.clone();
        if tripped.wait_for(|tripped| *tripped).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Every counted call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// Loses everything from now on.
    pub fn cut(&self) {
        self.shared.trip.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn kubeconfig_for(address: SocketAddr) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
        "current-context": "proxy",
    })
    .to_string()
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and says what of it is lost.
    fn count(&self, request: &Request<Bytes>) -> Option<Loss> {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        if is_watch || request.uri().path().contains("/leases") {
            return None;
        }
        let call = Call::from(request);
        let mut inner = self.lock();
        inner.calls.push(call.clone());
        let other =
            inner.other_than.as_ref().filter(|(kinds, _)| call.is_write() && !kinds.contains(&call.kind()));
        if let Some(loss) = other.map(|(_, loss)| *loss) {
            inner.other_than = None;
            inner.lost = Some(call);
            return Some(loss);
        }
        let Fault { nth, loss, .. } = *inner.fault.as_ref().filter(|fault| fault.call == call)?;
        inner.since_armed += 1;
        (inner.since_armed == nth).then_some(loss)
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    if *shared.trip.borrow() {
        return std::future::pending().await;
    }
    let (parts, body) = request.into_parts();
    let request = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(body) => Request::from_parts(parts, body),
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let loss = shared.count(&request);
    if loss == Some(Loss::Request) {
        shared.trip.send_replace(true);
        return std::future::pending().await;
    }
    let answer = pass_on(&shared.client, request).await;
    if loss == Some(Loss::Reply) {
        shared.trip.send_replace(true);
    }
    if *shared.trip.borrow() {
        return std::future::pending().await;
    }
    match answer {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

async fn pass_on(client: &Client, request: Request<Bytes>) -> anyhow::Result<Response> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove("host");
    parts.headers.remove("connection");
    let body = body.to_vec();
    let answer = client.send(Request::from_parts(parts, kube::client::Body::from(body))).await?;
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove("transfer-encoding");
    parts.headers.remove("connection");
    Ok(Response::from_parts(parts, Body::new(body)))
}
