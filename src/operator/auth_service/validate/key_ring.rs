//! The key ring: made once, copied into when the user brings a key, never emptied.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Secret,
    jiff::{SignedDuration, Timestamp},
};

use super::{Inputs, data};
use crate::{
    api::{AuthServiceSpec, auth_service::Algorithm},
    contract::key_ring::{MIN_KEY_BYTES, RETIRE_AFTER, SIGNS},
    operator::{
        auth_service::{claim::Slot, plan::Entries, refusal::Refusal},
        signing_key,
    },
};

/// Default key of `token.signingKeySecretRef` for HS256.
const DEFAULT_SECRET: &str = "JWT_SECRET";
/// And for a private key: the name it has in Secrets of type `kubernetes.io/tls`.
const DEFAULT_PRIVATE_KEY: &str = "tls.key";
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
    /// What it signs with.
    pub algorithm: Algorithm,
    /// The key.
    pub key: Vec<u8>,
    /// Since when.
    pub since: Timestamp,
}

impl Signer {
    /// The ring's entry that holds it.
    #[must_use]
    pub fn entry(&self) -> String {
        format!("{}{}", self.id, self.algorithm.entry_suffix())
    }
}

/// What spec wants tokens to be signed with.
fn algorithm(spec: &AuthServiceSpec) -> Algorithm {
    spec.token.as_ref().and_then(|token| token.algorithm).unwrap_or_default()
}

/// The algorithm for which a private key has to be made because the ring's newest signer is of another, or none.
#[must_use]
pub fn lacking_algorithm(spec: &AuthServiceSpec, ring: Option<&Secret>, now: Timestamp) -> Option<Algorithm> {
    let brought = spec.token.as_ref().is_some_and(|token| token.signing_key_secret_ref.is_some());
    let newest = ring.and_then(|ring| signers(&data(ring), now).pop());
    let wanted = algorithm(spec);
    // Random bytes for HS256 are drawn anyway.
    let lacks = wanted != Algorithm::HS256 && newest.is_none_or(|newest| newest.algorithm != wanted);
    (lacks && !brought).then_some(wanted)
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
        Some(with_next_key(inputs, live, brought))
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
        Brought::None => generated(inputs)?,
        Brought::Key(key) => key,
        Brought::Unusable => return None,
    };
    add(&mut entries, inputs, key, inputs.fresh.now);
    Some(entries)
}

/// Adds the user's key unless it is the newest signer already, or a new one of another algorithm.
fn with_next_key(
    inputs: &Inputs<'_>,
    mut entries: BTreeMap<String, Vec<u8>>,
    brought: Brought,
) -> BTreeMap<String, Vec<u8>> {
    let now = inputs.fresh.now;
    let newest = signers(&entries, now).into_iter().next_back();
    let wanted = algorithm(inputs.spec);
    let next = match brought {
        Brought::Key(key)
            if newest.as_ref().is_none_or(|newest| newest.key != key || newest.algorithm != wanted) =>
        {
            Some(key)
        }
        Brought::None if newest.as_ref().is_none_or(|newest| newest.algorithm != wanted) => generated(inputs),
        _ => None,
    };
    if let Some(key) = next {
        let publish = now.checked_add(PUBLISH).unwrap_or(now);
        // Later than any key announced before it, so that the last one brought is the last to sign.
        let after = newest.and_then(|newest| newest.since.checked_add(SignedDuration::from_secs(1)).ok());
        let since = after.map_or(publish, |after| after.max(publish));
        add(&mut entries, inputs, key, since);
    }
    entries
}

/// A key made for this run, of the algorithm that spec names.
fn generated(inputs: &Inputs<'_>) -> Option<Vec<u8>> {
    match algorithm(inputs.spec) {
        Algorithm::HS256 => Some(inputs.fresh.key.clone().into_bytes()),
        _ => inputs.fresh.private_key.clone().map(String::into_bytes),
    }
}

fn add(entries: &mut BTreeMap<String, Vec<u8>>, inputs: &Inputs<'_>, key: Vec<u8>, since: Timestamp) {
    let id = &inputs.fresh.key_id;
    entries.insert(format!("{id}{}", algorithm(inputs.spec).entry_suffix()), key);
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
    let algorithm = algorithm(inputs.spec);
    let (default, form) = match algorithm {
        Algorithm::HS256 => (DEFAULT_SECRET, format!("at least {MIN_KEY_BYTES} random bytes")),
        _ => (DEFAULT_PRIVATE_KEY, format!("a private key for {algorithm:?} in PEM (PKCS #8)")),
    };
    let key = reference.key.as_deref().unwrap_or(default);
    let Some(secret) = inputs.observed.referenced.get(&reference.name) else {
        refusals.push(Refusal::secret_missing(FIELD, &reference.name, &format!("key {key}: {form}")));
        return Brought::Unusable;
    };
    let fault = match secret.data.as_ref().and_then(|data| data.get(key)) {
        None => format!("has no key {key}: add it, or name another in {FIELD}.key"),
        Some(value) if algorithm != Algorithm::HS256 => {
            if signing_key::is_usable(&value.0, algorithm) {
                return Brought::Key(value.0.clone());
            }
            format!(
                "holds no private key for {algorithm:?} under key {key}: replace it, for example by the output of `{}`",
                algorithm.command()
            )
        }
        Some(value) if value.0.len() < MIN_KEY_BYTES => format!(
            "holds {} bytes under key {key}; HS256 needs at least {MIN_KEY_BYTES} (RFC 7518 section 3.2): replace it, for example by the output of `{}`",
            value.0.len(),
            algorithm.command()
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
        let (id, algorithm) = Algorithm::ALL
            .into_iter()
            .find_map(|algorithm| Some((entry.strip_suffix(algorithm.entry_suffix())?, algorithm)))?;
        let retired = instant(format!("{id}{RETIRE_AFTER}")).is_some_and(|after| after < now);
        let since = instant(format!("{id}{SIGNS}"))?;
        let usable = key.len() >= MIN_KEY_BYTES;
        (!retired && usable).then(|| Signer { id: id.to_owned(), algorithm, key: key.clone(), since })
    };
    let mut signers: Vec<Signer> = entries.iter().filter_map(signer).collect();
    signers.sort_by(|one, other| (one.since, &one.id).cmp(&(other.since, &other.id)));
    signers
}

/// The newest whose time has come; before all, the first to come, as the server decides too.
fn present(signers: &[Signer], now: Timestamp) -> Option<&Signer> {
    signers.iter().rfind(|signer| signer.since <= now).or_else(|| signers.first())
}
