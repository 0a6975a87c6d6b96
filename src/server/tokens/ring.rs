//! The key ring: every key that verifies, and which of them signs.

use std::collections::{BTreeMap, BTreeSet};

use jsonwebtoken::jwk::JwkSet;

use super::Key;
use crate::contract::{
    Algorithm,
    key_ring::{MIN_KEY_BYTES, RETIRE_AFTER, SIGNS, SINGLE_KEY_ID},
};

/// Why the entries of a ring cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// No entry is a key.
    #[error("the key ring holds no key: add an entry <kid>.key of at least {MIN_KEY_BYTES} random bytes")]
    Empty,
    /// A key id of other characters.
    #[error(
        "entry {0:?} of the key ring names no key id: use 1 to 64 letters, digits, '-' or '_' before the suffix"
    )]
    BadKeyId(String),
    /// A key too short for HS256.
    #[error(
        "entry {entry:?} of the key ring has {length} bytes, HS256 needs at least {MIN_KEY_BYTES}: replace it by random bytes"
    )]
    ShortKey {
        /// The entry.
        entry: String,
        /// Its length.
        length: usize,
    },
    /// No private key of its algorithm.
    #[error(
        "entry {entry:?} of the key ring is no private key for {algorithm:?}: make one with {}",
        algorithm.command()
    )]
    UnusableKey {
        /// The entry.
        entry: String,
        /// What its name says it signs with.
        algorithm: Algorithm,
    },
    /// Two keys of one id.
    #[error("the key ring holds two keys of id {0:?}: give one of them another id")]
    Ambiguous(String),
    /// An instant that is none.
    #[error("entry {0:?} of the key ring is no instant: write it as RFC 3339, such as 2030-01-31T12:00:00Z")]
    BadInstant(String),
    /// Signs or retires a key that is not there.
    #[error(
        "entry {0:?} of the key ring belongs to a key that is not there: add the key or remove the entry"
    )]
    Orphan(String),
    /// No key signs.
    #[error("no key of the ring signs: add an entry <kid>.signs with the instant from which it does")]
    NoSigner,
}

/// Every key at hand and the one that signs.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<Key>,
}

impl KeyRing {
    /// A ring of one key, which signs and verifies.
    #[must_use]
    pub fn single(secret: &[u8]) -> Self {
        let mut key = Key::symmetric(SINGLE_KEY_ID, secret);
        key.signs_from = Some(0);
        Self { keys: vec![key] }
    }

    #[cfg(test)]
    pub(super) fn verifying(key: Key) -> Self {
        Self { keys: vec![key] }
    }

    /// Builds the ring from the entries of its Secret, as seen at `now` (seconds since the epoch).
    /// Entries of unknown suffixes are left to later releases.
    ///
    /// # Errors
    /// The first entry that cannot be used.
    pub fn from_entries(entries: &BTreeMap<String, Vec<u8>>, now: u64) -> Result<Self, RingError> {
        let mut keys = Vec::new();
        for (entry, value) in entries {
            keys.extend(Key::from_entry(entry, value)?);
        }
        let mut ids = BTreeSet::new();
        if let Some(key) = keys.iter().find(|key| !ids.insert(key.id())) {
            return Err(RingError::Ambiguous(key.id().to_owned()));
        }
        if keys.is_empty() {
            return Err(RingError::Empty);
        }
        for (entry, value) in entries {
            let (id, signs) = match (entry.strip_suffix(SIGNS), entry.strip_suffix(RETIRE_AFTER)) {
                (Some(id), _) => (id, true),
                (None, Some(id)) => (id, false),
                (None, None) => continue,
            };
            let key =
                keys.iter_mut().find(|key| key.id() == id).ok_or_else(|| RingError::Orphan(entry.clone()))?;
            let instant = parse_instant(value).ok_or_else(|| RingError::BadInstant(entry.clone()))?;
            if signs {
                key.signs_from = Some(instant);
            } else {
                key.retire_after = Some(instant);
            }
        }
        let ring = Self { keys };
        if ring.signer_at(now).is_none() {
            return Err(RingError::NoSigner);
        }
        Ok(ring)
    }

    /// The key that signs at `now`; `None` once every one that did is retired.
    #[must_use]
    pub fn signer_at(&self, now: u64) -> Option<&Key> {
        signer(&self.keys, now).map(|index| &self.keys[index])
    }

    /// The key of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id() == id)
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Ids of the keys that verify at `now`, sorted.
    #[must_use]
    pub fn ids_at(&self, now: u64) -> Vec<String> {
        let mut ids: Vec<String> =
            self.keys.iter().filter(|key| key.verifies_at(now)).map(|key| key.id().to_owned()).collect();
        ids.sort_unstable();
        ids
    }

    /// What others need to verify tokens themselves (RFC 7517 §5): the public part of every key that
    /// has one and verifies at `now`, those that only will sign included.
    #[must_use]
    pub fn public_keys_at(&self, now: u64) -> JwkSet {
        let keys = self.keys.iter().filter(|key| key.verifies_at(now));
        JwkSet { keys: keys.filter_map(Key::public).cloned().collect() }
    }

    pub(super) fn by_encoded_header(&self, header: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.encoded_header() == header)
    }
}

/// The newest of the keys whose time to sign has come and that are not retired. When the time of
/// none has come, which a lagging clock can cause, the one whose time comes first.
fn signer(keys: &[Key], now: u64) -> Option<usize> {
    let now_signed = i64::try_from(now).unwrap_or(i64::MAX);
    let signing = || {
        keys.iter()
            .enumerate()
            .filter(|(_, key)| key.verifies_at(now))
            .filter_map(|(index, key)| key.signs_from.map(|from| (from, index)))
    };
    let newest = signing()
        .filter(|(from, _)| *from <= now_signed)
        .max_by_key(|(from, index)| (*from, keys[*index].id()));
    newest.or_else(|| signing().min()).map(|(_, index)| index)
}

fn parse_instant(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?.trim();
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn ring(entries: &[(&str, &str)]) -> Result<KeyRing, RingError> {
        let entries =
            entries.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        KeyRing::from_entries(&entries, NOW)
    }

    const KEY_A: (&str, &str) = ("a.key", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaA");
    const KEY_B: (&str, &str) = ("b.key", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbB");

    #[test]
    fn the_newest_signer_whose_time_has_come_signs() {
        let old = ("a.signs", "2020-01-01T00:00:00Z");
        assert_eq!(ring(&[KEY_A, KEY_B, old]).unwrap().signer_at(NOW).map(Key::id), Some("a"));
        assert_eq!(
            ring(&[KEY_A, KEY_B, old, ("b.signs", "2021-01-01T00:00:00Z")])
                .unwrap()
                .signer_at(NOW)
                .map(Key::id),
            Some("b")
        );
        assert_eq!(
            ring(&[KEY_A, KEY_B, old, ("b.signs", "2999-01-01T00:00:00Z")])
                .unwrap()
                .signer_at(NOW)
                .map(Key::id),
            Some("a")
        );
        assert_eq!(
            ring(&[KEY_A, ("a.signs", "2999-01-01T00:00:00Z")]).unwrap().signer_at(NOW).map(Key::id),
            Some("a")
        );
    }

    #[test]
    fn a_ring_whose_signers_have_all_retired_signs_no_more() {
        let ring =
            ring(&[KEY_A, ("a.signs", "2020-01-01T00:00:00Z"), ("a.retire-after", "2999-01-01T00:00:00Z")])
                .unwrap();
        assert_eq!(ring.signer_at(NOW).map(Key::id), Some("a"));
        assert_eq!(ring.signer_at(u64::MAX / 2).map(Key::id), None);
    }

    #[test]
    fn a_retired_key_neither_verifies_nor_signs() {
        let ring = ring(&[
            KEY_A,
            KEY_B,
            ("a.signs", "2021-01-01T00:00:00Z"),
            ("a.retire-after", "2022-01-01T00:00:00Z\n"),
            ("b.signs", "2020-01-01T00:00:00Z"),
        ])
        .unwrap();
        assert_eq!((ring.signer_at(NOW).map(Key::id), ring.ids_at(NOW)), (Some("b"), vec!["b".to_owned()]));
    }

    #[test]
    fn a_key_id_may_be_a_date_or_a_name() {
        for id in ["2026-03-01", "key_of_ann", "A", &"k".repeat(64)] {
            let entries = [(format!("{id}.key"), KEY_A.1), (format!("{id}.signs"), "2020-01-01T00:00:00Z")];
            let entries = entries.each_ref().map(|(name, value)| (name.as_str(), *value));
            assert_eq!(ring(&entries).unwrap().signer_at(NOW).map(Key::id), Some(id));
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert_eq!(ring(&[]).unwrap_err(), RingError::Empty);
        assert_eq!(ring(&[("a b.key", KEY_A.1)]).unwrap_err(), RingError::BadKeyId("a b.key".into()));
        assert_eq!(
            ring(&[("a.key", "short")]).unwrap_err(),
            RingError::ShortKey { entry: "a.key".into(), length: 5 }
        );
        assert_eq!(
            ring(&[KEY_A, ("b.signs", "2020-01-01T00:00:00Z")]).unwrap_err(),
            RingError::Orphan("b.signs".into())
        );
        assert_eq!(ring(&[KEY_A, ("a.signs", "now")]).unwrap_err(), RingError::BadInstant("a.signs".into()));
        assert_eq!(ring(&[KEY_A]).unwrap_err(), RingError::NoSigner);
    }

    #[test]
    fn no_key_shows_in_debug_output() {
        let shown = format!("{:?}", ring(&[KEY_A, ("a.signs", "2020-01-01T00:00:00Z")]).unwrap());
        assert!(shown.contains(r#"id: "a""#) && !shown.contains("aaaa"), "{shown}");
    }
}
