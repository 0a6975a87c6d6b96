//! One span for each request that reaches a router, where requests are traced.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, Version},
    middleware::{self, Next},
    response::Response,
};
use opentelemetry::KeyValue;

use super::{routes::route_of, trace_context::Parent};
use crate::server::traces::{RequestSpan, Traces};

/// What spans of requests are made with.
#[derive(Debug, Clone)]
pub struct Tracing {
    traces: Arc<Traces>,
    scheme: &'static str,
}

impl Tracing {
    /// For ports that speak TLS, or plain HTTP.
    #[must_use]
    pub fn new(traces: Arc<Traces>, by_tls: bool) -> Self {
        Self { traces, scheme: if by_tls { "https" } else { "http" } }
    }
}

/// A router's own.
#[derive(Debug, Clone)]
struct Traced {
    tracing: Tracing,
    paths: Arc<[&'static str]>,
}

/// The router of these routes, each of whose requests is one span.
pub(super) fn traced(router: Router, paths: Arc<[&'static str]>, tracing: Tracing) -> Router {
    router.layer(middleware::from_fn_with_state(Traced { tracing, paths }, span))
}

async fn span(
    State(Traced { tracing, paths }): State<Traced>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let route = route_of(&paths, request.uri().path());
    let (name, attributes) = described(&request, route, tracing.scheme);
    let span = RequestSpan::begin(&tracing.traces, Parent::context(request.headers()), name, attributes);
    let response = span.around(next.run(request)).await;
    span.answered(response.status().as_u16());
    response
}

/// Name and attributes as OpenTelemetry's conventions for HTTP servers have them, of what is no secret
/// and of a bounded number of values: the path only where the route has no part that callers choose.
fn described(
    request: &Request<Body>,
    route: Option<&'static str>,
    scheme: &'static str,
) -> (Cow<'static, str>, Vec<KeyValue>) {
    let method = method(request.method());
    let mut attributes = vec![
        KeyValue::new("http.request.method", method.unwrap_or("_OTHER")),
        KeyValue::new("url.scheme", scheme),
    ];
    if let Some(version) = version(request.version()) {
        attributes.push(KeyValue::new("network.protocol.version", version));
    }
    let method = method.unwrap_or("HTTP");
    let Some(route) = route else { return (method.into(), attributes) };
    attributes.push(KeyValue::new("http.route", route));
    if !route.contains('{') {
        attributes.push(KeyValue::new("url.path", route));
    }
    (format!("{method} {route}").into(), attributes)
}

/// The methods that the conventions know, since callers may make up others.
fn method(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str())
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}
