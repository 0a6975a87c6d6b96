//! GET and LIST, now or as of an earlier revision.

use std::sync::Arc;

use axum::body::Bytes;
use serde_json::json;

use super::{
    kinds::Kind,
    request::{Listing, Moment},
    status::Status,
    store::{Form, Key, Store, Stored},
};

/// One object.
pub(super) fn get(store: &Store, key: &Key, revision: u64) -> Result<Arc<Stored>, Status> {
    let found =
        if revision < store.revision() { store.get_at(key, revision) } else { store.get(key).cloned() };
    found.ok_or_else(|| Status::not_found(key.0, &key.2))
}

/// A page of a collection.
pub(super) fn list(
    store: &Store,
    kind: Kind,
    namespace: Option<&str>,
    listing: &Listing,
    now: u64,
) -> Result<Bytes, Status> {
    let (revision, after) = match &listing.continues {
        Some(token) => continued(store, token)?,
        None => (started(store, listing, now)?, None),
    };
    let mut items = store.list(kind, namespace, revision);
    items.retain(|item| listing.selector.matches(&item.object));
    if let Some(after) = after {
        items.retain(|item| place(item) > after);
    }
    let limit = listing.limit.unwrap_or(usize::MAX);
    let remaining = items.len().saturating_sub(limit);
    items.truncate(limit);
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if kind == Kind::AuthService && !listing.partial {
        metadata["continue"] = json!("");
    }
    if remaining > 0
        && let Some(last) = items.last()
    {
        let (namespace, name) = place(last);
        metadata["continue"] = json!(format!("{revision}:{namespace}/{name}"));
        if listing.selector.is_empty() {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    let form = if listing.partial { Form::Metadata } else { Form::Item };
    let (name, version) = if listing.partial {
        ("PartialObjectMetadata", "meta.k8s.io/v1")
    } else {
        (kind.name(), kind.api_version())
    };
    let mut body =
        format!(r#"{{"kind":"{name}List","apiVersion":"{version}","metadata":{metadata},"items":["#)
            .into_bytes();
    if listing.partial && items.is_empty() {
        body.truncate(body.len() - 1);
        body.extend_from_slice(b"null}");
        return Ok(Bytes::from(body));
    }
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item.bytes(form));
    }
    body.extend_from_slice(b"]}");
    Ok(Bytes::from(body))
}

/// The revision from which a list starts.
fn started(store: &Store, listing: &Listing, now: u64) -> Result<u64, Status> {
    match listing.moment {
        Moment::From(revision) | Moment::Exactly(revision) if revision > now => {
            Err(Status::too_large(revision, now))
        }
        Moment::Exactly(revision) if revision < store.compacted() => {
            Err(Status::expired("The resourceVersion for the provided list is too old."))
        }
        Moment::Exactly(revision) => Ok(revision),
        Moment::Any | Moment::From(_) => Ok(now),
    }
}

/// Where the page before ended.
fn continued(store: &Store, token: &str) -> Result<(u64, Option<(String, String)>), Status> {
    let invalid = || Status::bad_request("continue key is not valid");
    let (revision, place) = token.split_once(':').ok_or_else(invalid)?;
    let (namespace, name) = place.split_once('/').ok_or_else(invalid)?;
    let revision = revision.parse().map_err(|_error| invalid())?;
    if revision < store.compacted() {
        return Err(Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        ));
    }
    Ok((revision, Some((namespace.to_owned(), name.to_owned()))))
}

fn place(item: &Stored) -> (String, String) {
    let (_, namespace, name) = super::store::key_of(Kind::ConfigMap, &item.object);
    (namespace, name)
}
