//! The API server's audit log: who wrote what, and what was refused.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use anyhow::Context as _;
use serde::Deserialize;

/// A place in the log.
pub struct Mark {
    path: PathBuf,
    position: u64,
}

/// One request that the API server has answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub verb: String,
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    pub user: User,
    #[serde(default)]
    pub object_ref: ObjectRef,
    #[serde(default)]
    pub response_status: ResponseStatus,
    pub request_received_timestamp: String,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Who asked.
#[derive(Clone, Debug, Deserialize)]
pub struct User {
    pub username: String,
}

/// What about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectRef {
    pub api_group: String,
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
}

/// What was answered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    pub code: u16,
}

impl Mark {
    /// The present end of the log.
    ///
    /// # Errors
    /// When `TEST_AUDIT_LOG` names no file.
    pub fn now() -> anyhow::Result<Self> {
        let path =
            std::env::var("TEST_AUDIT_LOG").context("TEST_AUDIT_LOG is not set; run cargo xtask test")?;
        let path = PathBuf::from(path);
        Ok(Self { position: std::fs::metadata(&path)?.len(), path })
    }

    /// What was answered since.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn since(&self) -> anyhow::Result<Vec<Entry>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.position))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last line may still be in the writing.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// Writes in a namespace since, but those of the leader election: `verb resource/name`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn writes_in(&self, namespace: &str) -> anyhow::Result<Vec<String>> {
        let is_write = |entry: &Entry| !matches!(entry.verb.as_str(), "get" | "list" | "watch");
        Ok(self
            .since()?
            .into_iter()
            .filter(|entry| entry.object_ref.namespace == namespace && entry.object_ref.resource != "leases")
            .filter(is_write)
            .map(|entry| entry.to_string())
            .collect())
    }

    /// What a user asked for since.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn requests_of(&self, user: &str) -> anyhow::Result<Vec<Entry>> {
        Ok(self.since()?.into_iter().filter(|entry| entry.user.username == user).collect())
    }

    /// What a user asked for since and had no right to.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn refused_to(&self, user: &str) -> anyhow::Result<Vec<String>> {
        let requests = self.requests_of(user)?;
        Ok(requests.iter().filter(|request| request.is_denied()).map(ToString::to_string).collect())
    }
}

impl Entry {
    /// Whether a right was missing; an admission plugin's refusal is another matter.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.annotations.get("authorization.k8s.io/decision").is_some_and(|decision| decision == "forbid")
            || self.response_status.code == 401
    }

    /// The right that was needed: `verb group/resource`.
    #[must_use]
    pub fn right(&self) -> String {
        let ObjectRef { api_group, resource, subresource, .. } = &self.object_ref;
        let slash = if subresource.is_empty() { "" } else { "/" };
        format!("{} {api_group}/{resource}{slash}{subresource}", self.verb)
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ObjectRef { resource, namespace, name, subresource, api_group: _ } = &self.object_ref;
        write!(f, "{} {namespace} {resource}/{name}", self.verb)?;
        if !subresource.is_empty() {
            write!(f, "/{subresource}")?;
        }
        write!(
            f,
            " by {} at {}: {}",
            self.user.username, self.request_received_timestamp, self.response_status.code
        )
    }
}
