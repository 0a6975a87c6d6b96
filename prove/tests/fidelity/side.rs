//! One of the two API servers, and what it has answered.

use std::time::Duration;

use anyhow::Context as _;
use futures::{AsyncBufReadExt as _, StreamExt as _, stream::BoxStream};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::sequence::Request;

/// An API server with what is known of the object of the present sequence.
pub(crate) struct Side {
    client: Client,
    uid: Option<String>,
    versions: Vec<String>,
}

/// What was answered, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Side {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, uid: None, versions: Vec::new() }
    }

    /// Asks, and remembers uid and version of the object when it is in the answer.
    pub(crate) async fn ask(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let answer = self.send(request).await?;
        let metadata = &answer.body["metadata"];
        if answer.code < 300
            && answer.body["kind"] != "Status"
            && let Some(uid) = metadata["uid"].as_str()
        {
            self.uid = Some(uid.to_owned());
            let version = metadata["resourceVersion"].as_str().unwrap_or_default().to_owned();
            if self.versions.last() != Some(&version) {
                self.versions.push(version);
            }
        }
        Ok(answer)
    }

    async fn send(&self, request: &Request) -> anyhow::Result<Answer> {
        let response = self.client.send(self.http(request)?).await?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        let body =
            serde_json::from_slice(&bytes).unwrap_or_else(|_error| json!(String::from_utf8_lossy(&bytes)));
        Ok(Answer { code, body })
    }

    fn http(&self, request: &Request) -> anyhow::Result<http::Request<Body>> {
        let body = if request.body.is_null() { String::new() } else { request.body.to_string() };
        Ok(http::Request::builder()
            .method(request.method)
            .uri(self.filled(&request.path))
            .header("content-type", request.content_type)
            .header("accept", request.accept)
            .header("user-agent", "fidelity/1")
            .body(Body::from(self.filled(&body).into_bytes()))?)
    }

    fn filled(&self, text: &str) -> String {
        let none = "87654321-0000-4000-8000-000000000000";
        let last = self.versions.last().map_or("1", String::as_str);
        let first = self.versions.first().map_or("1", String::as_str);
        text.replace("@uid", self.uid.as_deref().unwrap_or(none))
            .replace("@version", last)
            .replace("@stale", first)
    }

    /// The patch with which the operator hands its fields over.
    pub(crate) async fn hand_over(&mut self, path: &str) -> anyhow::Result<Option<Request>> {
        let get = Request {
            method: "GET",
            path: path.to_owned(),
            content_type: "application/json",
            accept: "application/json",
            body: Value::Null,
        };
        let live = self.send(&get).await?;
        let manager = authservice::operator::labels::MANAGER;
        let operations = authservice::operator::auth_service::ownership::hand_over(&live.body, manager);
        Ok(operations.map(|operations| Request {
            method: "PATCH",
            path: format!("{path}?fieldManager={manager}"),
            content_type: "application/json-patch+json",
            body: Value::Array(operations),
            ..get
        }))
    }

    /// The events of a watch.
    pub(crate) async fn watch(
        &self,
        request: &Request,
    ) -> anyhow::Result<BoxStream<'static, anyhow::Result<Value>>> {
        let (head, body) = self.http(request)?.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        let lines = self.client.request_stream(http::Request::from_parts(head, body)).await?.lines();
        Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)).boxed())
    }
}

/// The events of a watch up to the object that ends it.
pub(crate) async fn until_last(
    watch: &mut BoxStream<'static, anyhow::Result<Value>>,
) -> anyhow::Result<Vec<Value>> {
    let mut events = Vec::new();
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        let event = event.with_context(|| format!("the watch does not go on after {events:?}"))?;
        let event = event.context("the watch ended")??;
        if event["type"] == "BOOKMARK" {
            continue;
        }
        let last = event["object"]["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-last"));
        if last {
            return Ok(events);
        }
        events.push(event);
    }
}
