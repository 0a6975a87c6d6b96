//! What a request asks for: path, query and headers, read into one value.

use std::collections::BTreeMap;

use axum::body::Bytes;
use http::{Method, header};
use serde_json::Value;

use super::{deletion::Deletion, kinds::Kind, patch::Patch, selector::Selector, status::Status};

/// A request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    /// `None` for all of them.
    pub(super) namespace: Option<String>,
    /// Empty for the collection.
    pub(super) name: String,
    pub(super) subresource: String,
    pub(super) manager: String,
    pub(super) verb: Verb,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Verb {
    Get { partial: bool },
    List(Listing),
    Watch(Listing),
    Create(Value),
    Replace(Value),
    Patch(Patch),
    Apply { config: Value, force: bool },
    Delete(Deletion),
}

/// Which objects, from which moment.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    pub(super) partial: bool,
    pub(super) selector: Selector,
    pub(super) limit: Option<usize>,
    pub(super) continues: Option<String>,
    pub(super) moment: Moment,
    pub(super) bookmarks: bool,
    pub(super) initial_events: bool,
    pub(super) timeout_seconds: Option<u64>,
}

/// The moment that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Now, or as it comes.
    Any,
    /// This revision or a later one.
    From(u64),
    /// This revision.
    Exactly(u64),
}

/// Where a path leads.
struct Place {
    kind: Kind,
    namespace: Option<String>,
    name: String,
    subresource: String,
}

impl Call {
    /// Reads a request.
    pub(super) fn read(head: &http::request::Parts, body: &Bytes) -> Result<Self, Status> {
        let place = place(head.uri.path()).ok_or_else(Status::unknown_path)?;
        let query = Query::read(head.uri.query().unwrap_or_default());
        let agent = text(head, header::USER_AGENT).split('/').next().unwrap_or_default().to_owned();
        let agent = if agent.is_empty() { "unknown".to_owned() } else { agent };
        let manager =
            query.get("fieldManager").filter(|manager| !manager.is_empty()).map_or(agent, str::to_owned);
        let partial = text(head, header::ACCEPT).contains("as=PartialObjectMetadata");
        let verb = match head.method {
            Method::GET if !place.name.is_empty() => Verb::Get { partial },
            Method::GET => {
                let listing = query.listing(place.kind, partial)?;
                if query.is_set("watch") { Verb::Watch(listing) } else { Verb::List(listing) }
            }
            Method::POST => Verb::Create(json(body)?),
            Method::PUT => Verb::Replace(json(body)?),
            Method::PATCH => query.patch(text(head, header::CONTENT_TYPE), body)?,
            Method::DELETE if !place.name.is_empty() => Verb::Delete(query.deletion(body)?),
            _ => return Err(Status::not_allowed()),
        };
        Ok(Self {
            kind: place.kind,
            namespace: place.namespace,
            name: place.name,
            subresource: place.subresource,
            manager,
            verb,
        })
    }
}

fn text(head: &http::request::Parts, name: header::HeaderName) -> &str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn json(body: &Bytes) -> Result<Value, Status> {
    serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("the body cannot be read: {error}")))
}

fn place(path: &str) -> Option<Place> {
    let mut parts = path.trim_matches('/').split('/');
    let (group, version) = match parts.next()? {
        "api" => ("", parts.next()?),
        "apis" => (parts.next()?, parts.next()?),
        _ => return None,
    };
    let rest: Vec<&str> = parts.collect();
    let (namespace, rest) = match &rest[..] {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (plural, "", ""),
        [plural, name] => (plural, *name, ""),
        [plural, name, subresource] => (plural, *name, *subresource),
        _ => return None,
    };
    let kind = Kind::of_path(group, version, plural)?;
    let known = match subresource {
        "" => true,
        "status" => kind.has_status(),
        "scale" => kind.has_scale(),
        "binding" => kind == Kind::Pod,
        _ => false,
    };
    known.then(|| Place { kind, namespace, name: name.to_owned(), subresource: subresource.to_owned() })
}

struct Query(BTreeMap<String, String>);

impl Query {
    fn read(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (decoded(key), decoded(value)))
                .collect(),
        )
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn is_set(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1" | ""))
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Status> {
        let given = self.get(key).filter(|given| !given.is_empty());
        given
            .map(|given| {
                given.parse().map_err(|_error| Status::bad_request(format!("invalid {key}: {given}")))
            })
            .transpose()
    }

    fn listing(&self, kind: Kind, partial: bool) -> Result<Listing, Status> {
        let selector = Selector::read(
            kind,
            self.get("labelSelector").unwrap_or_default(),
            self.get("fieldSelector").unwrap_or_default(),
        )?;
        let limit =
            self.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        let exact = self.get("resourceVersionMatch") == Some("Exact");
        let moment = match self.number("resourceVersion")? {
            None | Some(0) => Moment::Any,
            Some(revision) if exact => Moment::Exactly(revision),
            Some(revision) => Moment::From(revision),
        };
        Ok(Listing {
            partial,
            selector,
            limit,
            continues: self.get("continue").filter(|token| !token.is_empty()).map(str::to_owned),
            moment,
            bookmarks: self.is_set("allowWatchBookmarks"),
            initial_events: self.is_set("sendInitialEvents"),
            timeout_seconds: self.number("timeoutSeconds")?,
        })
    }

    fn patch(&self, content_type: &str, body: &Bytes) -> Result<Verb, Status> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/merge-patch+json" => Ok(Verb::Patch(Patch::Merge(json(body)?))),
            "application/json-patch+json" => {
                let patch = serde_json::from_slice(body)
                    .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
                Ok(Verb::Patch(Patch::Json(patch)))
            }
            "application/apply-patch+yaml" => {
                if self.get("fieldManager").is_none_or(str::is_empty) {
                    return Err(Status::no_manager());
                }
                Ok(Verb::Apply { config: json(body)?, force: self.is_set("force") })
            }
            _ => Err(Status::unsupported_media()),
        }
    }

    fn deletion(&self, body: &Bytes) -> Result<Deletion, Status> {
        let given = if body.is_empty() { Value::Null } else { json(body)? };
        let text = |pointer: &str| given.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let propagation =
            text("/propagationPolicy").or_else(|| self.get("propagationPolicy").map(str::to_owned));
        let grace = self.get("gracePeriodSeconds").and_then(|seconds| seconds.parse().ok());
        Ok(Deletion {
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            propagation,
            grace_seconds: given["gracePeriodSeconds"].as_i64().or(grace),
        })
    }
}

/// A part of a query without its percent signs (RFC 3986) and pluses.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).unwrap_or_default();
                bytes.extend(u8::from_str_radix(digits, 16));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
