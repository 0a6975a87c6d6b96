//! The key ring: made once, copied into when the user brings a key, never emptied.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Secret,
    jiff::{SignedDuration, Timestamp},
};

use super::{Inputs, data};
use crate::{
    contract::key_ring::{KEY, MIN_KEY_BYTES, RETIRE_AFTER, SIGNS},
    operator::auth_service::{claim::Slot, plan::Entries, refusal::Refusal},
};

/// Default key of `token.signingKeySecretRef`.
const DEFAULT_KEY: &str = "JWT_SECRET";
/// How long a key that joins others only verifies: kubelets bring a changed Secret to their pods
/// within their sync period of one minute plus the delay of their cache, so that by then every pod
/// verifies what the first one signs.
pub(super) const PUBLISH: SignedDuration = SignedDuration::from_secs(180);

/// The decision on the key ring.
pub(super) struct KeyRing {
    /// What the Secret holds from now on; `None`: it is left alone.
    pub(super) entries: Option<Entries>,
    /// The present signer.
    pub(super) signer: Option<Signer>,
    /// When another key becomes the signer.
    pub(super) next_signer_at: Option<Timestamp>,
}

/// A key that signs.
#[derive(Clone, PartialEq, Eq)]
pub struct Signer {
    /// Its key id.
    pub id: String,
    /// The key.
    pub key: Vec<u8>,
    /// Since when.
    pub since: Timestamp,
}

/// Decides on the key ring.
pub(super) fn decide(inputs: &Inputs<'_>, slot: &Slot<'_, Secret>, refusals: &mut Vec<Refusal>) -> KeyRing {
    let now = inputs.fresh.now;
    let live = match slot {
        Slot::Blocked => return KeyRing { entries: None, signer: None, next_signer_at: None },
        Slot::Absent => BTreeMap::new(),
        Slot::Ours(secret) => data(secret),
    };
    let brought = brought_key(inputs, refusals);
    let entries = if signers(&live, now).is_empty() {
        first_key(inputs, live, brought, refusals)
    } else {
        Some(with_brought_key(inputs, live, brought))
    };
    let all = entries.as_ref().map(|entries| signers(entries, now)).unwrap_or_default();
    KeyRing {
        signer: present(&all, now).cloned(),
        next_signer_at: all.iter().map(|signer| signer.since).filter(|since| *since > now).min(),
        entries: entries.map(Entries),
    }
}

/// The ring's first key, unless one was there: then its loss is refused, because every token it
/// signed would be refused with it.
fn first_key(
    inputs: &Inputs<'_>,
    mut entries: BTreeMap<String, Vec<u8>>,
    brought: Brought,
    refusals: &mut Vec<Refusal>,
) -> Option<BTreeMap<String, Vec<u8>>> {
    let name = inputs.identity.key_ring();
    if inputs.key_ring_was_there() && !inputs.may_regenerate(&name) {
        refusals.push(Refusal::secret_lost(format!(
            "Secret {name} with the signing keys is gone or holds no key that signs, and tokens signed by them are in use: restore it from a backup, or annotate the AuthService with {}={name} to generate a new one, which logs everybody out",
            crate::operator::labels::REGENERATE,
        )));
        return None;
    }
    let key = match brought {
        Brought::None => inputs.fresh.key.clone().into_bytes(),
        Brought::Key(key) => key,
        Brought::Unusable => return None,
    };
    add(&mut entries, &inputs.fresh.key_id, key, inputs.fresh.now);
    Some(entries)
}

/// Adds the user's key unless it is the newest signer already.
fn with_brought_key(
    inputs: &Inputs<'_>,
    mut entries: BTreeMap<String, Vec<u8>>,
    brought: Brought,
) -> BTreeMap<String, Vec<u8>> {
    let now = inputs.fresh.now;
    let newest = signers(&entries, now).into_iter().next_back();
    if let Brought::Key(key) = brought
        && newest.as_ref().is_none_or(|newest| newest.key != key)
    {
        let publish = now.checked_add(PUBLISH).unwrap_or(now);
        // Later than any key announced before it, so that the last one brought is the last to sign.
        let after = newest.and_then(|newest| newest.since.checked_add(SignedDuration::from_secs(1)).ok());
        let since = after.map_or(publish, |after| after.max(publish));
        add(&mut entries, &inputs.fresh.key_id, key, since);
    }
    entries
}

fn add(entries: &mut BTreeMap<String, Vec<u8>>, id: &str, key: Vec<u8>, since: Timestamp) {
    entries.insert(format!("{id}{KEY}"), key);
    entries.insert(format!("{id}{SIGNS}"), format!("{since:.0}").into_bytes());
}

/// The key that spec refers to.
enum Brought {
    /// It refers to none.
    None,
    /// It cannot be used; a refusal says why.
    Unusable,
    /// The key.
    Key(Vec<u8>),
}

/// Reads the key that spec refers to. It is taken byte by byte: tokens of an earlier service were signed with all of them.
fn brought_key(inputs: &Inputs<'_>, refusals: &mut Vec<Refusal>) -> Brought {
    const FIELD: &str = "token.signingKeySecretRef";
    let reference = inputs.spec.token.as_ref().and_then(|token| token.signing_key_secret_ref.as_ref());
    let Some(reference) = reference else { return Brought::None };
    let key = reference.key.as_deref().unwrap_or(DEFAULT_KEY);
    let Some(secret) = inputs.observed.referenced.get(&reference.name) else {
        let needs = format!("key {key}: at least {MIN_KEY_BYTES} random bytes");
        refusals.push(Refusal::secret_missing(FIELD, &reference.name, &needs));
        return Brought::Unusable;
    };
    let fault = match secret.data.as_ref().and_then(|data| data.get(key)) {
        None => format!("has no key {key}: add it, or name another in {FIELD}.key"),
        Some(value) if value.0.len() < MIN_KEY_BYTES => format!(
            "holds {} bytes under key {key}; HS256 needs at least {MIN_KEY_BYTES} (RFC 7518 section 3.2): replace it, for example by the output of `openssl rand -hex 32`",
            value.0.len()
        ),
        Some(value) => return Brought::Key(value.0.clone()),
    };
    refusals.push(Refusal::secret_invalid(FIELD, &reference.name, &fault));
    Brought::Unusable
}

/// Keys with an instant from which they sign, that one's order; retired and short ones left out.
fn signers(entries: &BTreeMap<String, Vec<u8>>, now: Timestamp) -> Vec<Signer> {
    let instant = |entry: String| -> Option<Timestamp> {
        std::str::from_utf8(entries.get(&entry)?).ok()?.trim().parse().ok()
    };
    let signer = |(entry, key): (&String, &Vec<u8>)| {
        let id = entry.strip_suffix(KEY)?;
        let retired = instant(format!("{id}{RETIRE_AFTER}")).is_some_and(|after| after < now);
        let since = instant(format!("{id}{SIGNS}"))?;
        (!retired && key.len() >= MIN_KEY_BYTES).then(|| Signer {
            id: id.to_owned(),
            key: key.clone(),
            since,
        })
    };
    let mut signers: Vec<Signer> = entries.iter().filter_map(signer).collect();
    signers.sort_by(|one, other| (one.since, &one.id).cmp(&(other.since, &other.id)));
    signers
}

/// The newest whose time has come; before all, the first to come, as the server decides too.
fn present(signers: &[Signer], now: Timestamp) -> Option<&Signer> {
    signers.iter().rfind(|signer| signer.since <= now).or_else(|| signers.first())
}
