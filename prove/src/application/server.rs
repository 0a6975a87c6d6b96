//! One process of the auth server: the keys it has loaded, the tokens it signs and takes.

use std::{collections::BTreeMap, time::Duration};

use authservice::contract::{
    Algorithm, DatabaseFault, DatabaseStatus, ServerStatus,
    key_ring::{RETIRE_AFTER, SIGNS},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::database::{Refused, VERSION};

/// A key of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its bytes, or the private key's text.
    pub key: Vec<u8>,
    /// Since when it signs; never where this is absent.
    pub signs: Option<Timestamp>,
}

/// The keys a process has loaded, by key id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring(pub BTreeMap<String, Key>);

impl Ring {
    /// The ring of a Secret's entries.
    #[must_use]
    pub fn of(entries: &BTreeMap<String, Vec<u8>>) -> Self {
        let instant = |id: &str, suffix: &str| -> Option<Timestamp> {
            std::str::from_utf8(entries.get(&format!("{id}{suffix}"))?).ok()?.trim().parse().ok()
        };
        let keys = entries.iter().filter_map(|(entry, key)| {
            let id =
                Algorithm::ALL.iter().find_map(|algorithm| entry.strip_suffix(algorithm.entry_suffix()))?;
            (instant(id, RETIRE_AFTER).is_none() && !key.is_empty())
                .then(|| (id.to_owned(), Key { key: key.clone(), signs: instant(id, SIGNS) }))
        });
        Self(keys.collect())
    }

    /// The key that signs at this time: the newest that may, or the first that will.
    #[must_use]
    pub fn signer(&self, now: Timestamp) -> Option<(&String, &Key)> {
        let signers = || self.0.iter().filter(|(_, key)| key.signs.is_some());
        let may = signers().filter(|(_, key)| key.signs <= Some(now));
        may.max_by_key(|(id, key)| (key.signs, (*id).clone()))
            .or_else(|| signers().min_by_key(|(id, key)| (key.signs, (*id).clone())))
    }
}

/// What a process was started with, and what it has seen.
#[derive(Clone, Debug)]
pub struct Server {
    /// The keys it has loaded.
    pub ring: Ring,
    /// `resourceVersion` of the Secret they come from.
    pub ring_version: String,
    /// When the kubelet brings the changed Secret to it.
    pub reload_at: Option<Timestamp>,
    /// Variables of its container.
    pub variables: BTreeMap<String, String>,
    /// Password of its database account.
    pub password: Vec<u8>,
    /// When it started.
    pub started: Timestamp,
    /// Whether it has been ready.
    pub settled: bool,
    /// What it last saw of its database.
    pub seen: Option<Result<i32, Refused>>,
}

/// A token somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Key id in its header.
    pub key_id: String,
    /// The key it is signed with.
    pub key: Vec<u8>,
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: Option<String>,
    /// `exp`.
    pub expires: Timestamp,
}

impl Token {
    /// Whether every pod that takes the one takes the other as long as it lasts.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        (&self.key_id, &self.key, &self.issuer, &self.audience)
            == (&other.key_id, &other.key, &other.issuer, &other.audience)
    }
}

impl Server {
    /// One of its variables; empty where there is none.
    #[must_use]
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A token for somebody who has shown a password.
    #[must_use]
    pub fn sign(&self, now: Timestamp) -> Option<Token> {
        use authservice::contract::env;
        let (key_id, key) = self.ring.signer(now)?;
        let ttl: kube::core::Duration = self.variable(env::TOKEN_TTL).parse().ok()?;
        let audience = self.variables.get(env::TOKEN_AUDIENCE).cloned();
        Some(Token {
            key_id: key_id.clone(),
            key: key.key.clone(),
            issuer: self.variable(env::TOKEN_ISSUER).to_owned(),
            audience,
            expires: now.checked_add(Duration::from(ttl)).ok()?,
        })
    }

    /// Why it refuses a token; `None` when it takes it.
    #[must_use]
    pub fn refuses(&self, token: &Token) -> Option<String> {
        use authservice::contract::env;
        match self.ring.0.get(&token.key_id) {
            None => Some(format!("key {} is unknown", token.key_id)),
            Some(key) if key.key != token.key => Some(format!("key {} is another one", token.key_id)),
            Some(_) if token.issuer != self.variable(env::TOKEN_ISSUER) => {
                Some(format!("issuer {}", token.issuer))
            }
            Some(_) if token.audience.as_ref() != self.variables.get(env::TOKEN_AUDIENCE) => {
                Some(format!("audience {:?}", token.audience))
            }
            Some(_) => None,
        }
    }

    /// What it answers to `GET /status`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> ServerStatus {
        let (fault, error) = match &self.seen {
            Some(Err((fault, words))) => (Some(*fault), Some(words.clone())),
            Some(Ok(_)) | None => (None, None),
        };
        ServerStatus {
            version: "1".to_owned(),
            key_ids: self.ring.0.keys().cloned().collect(),
            signing_key_id: self.ring.signer(now).map(|(id, _)| id.clone()).unwrap_or_default(),
            database: DatabaseStatus {
                account: self.variable(authservice::contract::env::MYSQL_USER).to_owned(),
                version: self.seen.as_ref().map(|_| VERSION.to_owned()),
                schema_version: self
                    .seen
                    .as_ref()
                    .and_then(|seen| seen.as_ref().ok())
                    .copied()
                    .unwrap_or_default(),
                fault,
                error,
            },
        }
    }

    /// Takes note of what the database answered, and whether the pod is ready with it: one that refuses
    /// keeps it unready, one that cannot be reached delays it by half a minute.
    pub fn note(&mut self, seen: Result<i32, Refused>, now: Timestamp) {
        const LONGEST_DELAY: SignedDuration = SignedDuration::from_secs(30);
        self.settled = self.settled
            || match &seen {
                Ok(_) => true,
                Err((DatabaseFault::DatabaseUnreachable, _)) => {
                    now.duration_since(self.started) >= LONGEST_DELAY
                }
                Err(_) => false,
            };
        self.seen = Some(seen);
    }
}
