//! WATCH: what happens to the objects of a collection, as it happens.

use std::{io, sync::Arc, time::Duration};

use axum::body::Bytes;
use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    Shared,
    kinds::Kind,
    normal,
    request::{Listing, Moment},
    status::Status,
    store::{Change, Form, Record, Store, Stored},
};

/// How often an idle watch says how far it is.
const BOOKMARKS: Duration = Duration::from_mins(1);
/// How long a watch lasts that does not say.
const LONGEST: Duration = Duration::from_mins(30);

/// A watch that goes on.
struct Watch {
    shared: Arc<Shared>,
    changes: tokio::sync::watch::Receiver<u64>,
    kind: Kind,
    namespace: Option<String>,
    listing: Listing,
    /// What was told.
    revision: u64,
    restores: u64,
    first: Vec<u8>,
    ends: Instant,
    bookmark: Instant,
    over: bool,
}

/// The lines of a watch.
pub(super) fn start(
    shared: &Arc<Shared>,
    kind: Kind,
    namespace: Option<String>,
    listing: Listing,
    now: u64,
) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    let changes = shared.changes.subscribe();
    let (first, revision, restores, over) = {
        let store = shared.lock();
        let (first, revision, over) = opening(&store, kind, namespace.as_deref(), &listing, now);
        (first, revision, store.restores(), over)
    };
    let started = Instant::now();
    let lasts = listing.timeout_seconds.map_or(LONGEST, Duration::from_secs);
    let watch = Watch {
        shared: Arc::clone(shared),
        changes,
        kind,
        namespace,
        listing,
        revision,
        restores,
        first,
        ends: started + lasts,
        bookmark: started + BOOKMARKS,
        over,
    };
    stream::unfold(watch, |mut watch| async move {
        let lines = watch.next().await?;
        Some((lines, watch))
    })
}

/// The first lines, the revision they tell of, and whether that was all.
fn opening(
    store: &Store,
    kind: Kind,
    namespace: Option<&str>,
    listing: &Listing,
    now: u64,
) -> (Vec<u8>, u64, bool) {
    let mut lines = Vec::new();
    let form = form(listing);
    if let Moment::From(from) | Moment::Exactly(from) = listing.moment
        && !listing.initial_events
    {
        if from < store.compacted() {
            let status = Status::expired(format!("too old resource version: {from} ({})", store.compacted()));
            line(&mut lines, "ERROR", status.body().to_string().as_bytes());
            return (lines, from, true);
        }
        return (lines, from, false);
    }
    for item in store.list(kind, namespace, now) {
        if listing.selector.matches(&item.object) {
            line(&mut lines, "ADDED", item.bytes(form));
        }
    }
    if listing.initial_events {
        bookmark(&mut lines, kind, listing, now, true);
    }
    (lines, now, false)
}

fn form(listing: &Listing) -> Form {
    if listing.partial { Form::Metadata } else { Form::Whole }
}

fn line(lines: &mut Vec<u8>, word: &str, object: &[u8]) {
    lines.extend_from_slice(br#"{"type":""#);
    lines.extend_from_slice(word.as_bytes());
    lines.extend_from_slice(br#"","object":"#);
    lines.extend_from_slice(object);
    lines.extend_from_slice(b"}\n");
}

fn bookmark(lines: &mut Vec<u8>, kind: Kind, listing: &Listing, revision: u64, first: bool) {
    let mut object = if listing.partial {
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {}})
    } else {
        normal::empty(kind)
    };
    object["metadata"]["resourceVersion"] = json!(revision.to_string());
    if first {
        object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    line(lines, "BOOKMARK", object.to_string().as_bytes());
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Bytes, io::Error>> {
        if !self.first.is_empty() {
            return Some(Ok(Bytes::from(std::mem::take(&mut self.first))));
        }
        while !self.over {
            match self.fresh() {
                Err(broken) => {
                    self.over = true;
                    return Some(Err(broken));
                }
                Ok(lines) if !lines.is_empty() => return Some(Ok(Bytes::from(lines))),
                Ok(_) => {}
            }
            let wake = if self.listing.bookmarks { self.bookmark.min(self.ends) } else { self.ends };
            tokio::select! {
                biased;
                changed = self.changes.changed() => self.over = changed.is_err(),
                () = sleep_until(wake) => {
                    self.over = wake == self.ends;
                    self.bookmark = wake + BOOKMARKS;
                    if self.listing.bookmarks {
                        let mut lines = Vec::new();
                        bookmark(&mut lines, self.kind, &self.listing, self.revision, false);
                        return Some(Ok(Bytes::from(lines)));
                    }
                }
            }
        }
        None
    }

    /// What happened since the last look.
    fn fresh(&mut self) -> Result<Vec<u8>, io::Error> {
        let shared = Arc::clone(&self.shared);
        let store = shared.lock();
        if store.restores() != self.restores {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the API server was restored"));
        }
        let mut lines = Vec::new();
        for record in store.since(self.revision) {
            self.tell(record, &mut lines);
        }
        self.revision = self.revision.max(store.revision());
        Ok(lines)
    }

    /// An object that comes to match is new to this watch, one that no longer does is gone.
    fn tell(&self, record: &Record, lines: &mut Vec<u8>) {
        let event = &record.event;
        let within = |namespace: &String| event.object["metadata"]["namespace"] == namespace.as_str();
        if event.kind != self.kind || !self.namespace.as_ref().is_none_or(within) {
            return;
        }
        let selector = &self.listing.selector;
        let before = record.before.as_ref().is_some_and(|before| selector.matches(&before.object));
        let after = event.change != Change::Deleted && selector.matches(&event.object);
        let word = match (before, after) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let form = form(&self.listing);
        match (&record.before, word) {
            // What no longer matches is shown as it was when it did.
            (Some(before), "DELETED") if event.change != Change::Deleted => {
                let mut object = Value::clone(&before.object);
                object["metadata"]["resourceVersion"] = json!(event.revision.to_string());
                line(lines, word, Stored::new(Arc::new(object)).bytes(form));
            }
            _ => line(lines, word, record.after.bytes(form)),
        }
    }
}
