//! Issues and verifies tokens: JSON Web Tokens (RFC 7519) signed by the keys of a ring.
//!
//! Everything here is synchronous and pure; the only clock is the one passed in.

mod administration;
mod claims;
mod compact;
mod folder;
mod identity;
mod key;
mod ring;

use std::{borrow::Cow, fmt};

use axum::body::Bytes;
use jsonwebtoken::{Algorithm, crypto};
use rand::Rng;

pub(in crate::server) use self::compact::present;
pub use self::{
    administration::{AdminKey, LONGEST_SECONDS},
    folder::{FolderError, read_folder},
    identity::{Fingerprint, Holder, Identity},
    key::Key,
    ring::{KeyRing, RingError},
};
use self::{
    claims::{Dates, Issued},
    compact::{Compact, Header},
};
use crate::contract::key_ring::SINGLE_KEY_ID;

/// Longest token looked at, in bytes: longer ones are refused unparsed.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How far `iat` and `nbf` may lie ahead, in seconds: the clocks of two machines differ.
/// `exp` has no such leeway, nor had the service this one replaces.
const LEEWAY_SECONDS: u64 = 30;

/// What every token of this server says.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The `iss` claim; a token that carries another is refused, one that carries none is not.
    pub issuer: String,
    /// The `aud` claim; a token that does not name it is refused. `None`: one that names any is.
    pub audience: Option<String>,
    /// From `iat` to `exp`, in seconds.
    pub ttl_seconds: u64,
}

impl Terms {
    /// Whether a token is ours by its issuer, and meant for us.
    fn cover(&self, claims: &claims::Checked<'_>) -> bool {
        let issued = claims.iss.as_ref().is_none_or(|issuer| *issuer == self.issuer);
        // RFC 7519 §4.1.3: whoever is not named by an audience must refuse the token.
        let meant = match (&self.audience, &claims.aud) {
            (None, audience) => audience.is_none(),
            (Some(ours), audience) => audience.as_ref().is_some_and(|audience| audience.names(ours)),
        };
        issued && meant
    }
}

/// Whom a token is issued to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The row's id; the `sub` claim.
    pub id: i64,
    /// The e-mail as stored; the `username` claim.
    pub username: &'a str,
    /// The `admin` claim.
    pub admin: bool,
    /// The user's generation of tokens; the `gen` claim.
    pub generation: i64,
}

/// A token that verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its claims, a JSON object, as they were signed.
    pub claims: Bytes,
    /// Which token it is, and whose.
    pub identity: Identity,
    /// The claim `sub`.
    pub subject: Option<String>,
    /// The claim `username`, where it is text.
    pub username: Option<String>,
    dates: Dates,
    key: Fingerprint,
}

impl Verified {
    /// Whether it would verify at `now` (seconds since the epoch) as it once did: by a key of the ring, and
    /// in its time.
    #[must_use]
    pub fn holds(&self, ring: &KeyRing, now: u64) -> bool {
        self.dates.check(now).is_ok()
            && ring.keys().any(|key| *key.fingerprint() == self.key && key.verifies_at(now))
    }
}

/// Why a token does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// `exp` has passed.
    Expired,
    /// `nbf` or `iat` lies ahead.
    NotYetValid,
    /// No key at hand verifies the signature.
    BadSignature,
    /// The header names a key this server does not hold (any more, or yet).
    UnknownKey,
    /// Not a compact JWS of an algorithm in use, with claims as RFC 7519 wants them.
    Malformed,
    /// Signed by a key of ours, but by another issuer, or for another audience than it has to be for.
    Foreign,
    /// Ended before its time: logged out, or of a user who may have no such token any more.
    Revoked,
}

impl fmt::Display for TokenFault {
    /// The kind of fault, which is all that a client is told.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not yet valid",
            Self::BadSignature | Self::UnknownKey => "bad signature",
            Self::Malformed | Self::Foreign => "malformed",
            Self::Revoked => "revoked",
        })
    }
}

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Every key that signed is retired: a token by one of them would be refused at once.
    #[error("every key of the ring that signed is retired: add a key with an entry <kid>.signs")]
    NoSigner,
    /// The crypto library says why.
    #[error("the token could not be signed: {0}")]
    Crypto(#[from] jsonwebtoken::errors::Error),
}

/// Issues a token at `now` (seconds since the epoch), signed by the ring's signer.
///
/// # Errors
/// No key signs, or the crypto library refused to.
pub fn issue(ring: &KeyRing, terms: &Terms, subject: &Subject<'_>, now: u64) -> Result<String, SignError> {
    let mut id = [0_u8; 16];
    rand::rng().fill_bytes(&mut id);
    let claims = Issued::new(terms, subject, now, &id).encode();
    let key = ring.signer_at(now).ok_or(SignError::NoSigner)?;
    sign(key, &claims)
}

/// Signs an encoded payload.
fn sign(key: &Key, claims: &str) -> Result<String, SignError> {
    let mut token = String::with_capacity(key.encoded_header().len() + claims.len() + 45);
    token.push_str(key.encoded_header());
    token.push('.');
    token.push_str(claims);
    let signature = crypto::sign(token.as_bytes(), key.encoding(), key.algorithm())?;
    token.push('.');
    token.push_str(&signature);
    Ok(token)
}

/// Verifies `token` at `now` (seconds since the epoch). Whether it was revoked is not known here.
///
/// # Errors
/// The first fault found; the signature is checked before any claim.
pub fn verify(ring: &KeyRing, terms: &Terms, token: &str, now: u64) -> Result<Verified, TokenFault> {
    let compact = Compact::split(token).ok_or(TokenFault::Malformed)?;
    let key = signed_by(ring, &compact, now)?;
    let payload = compact.payload().ok_or(TokenFault::Malformed)?;
    let claims = claims::Checked::parse(&payload).ok_or(TokenFault::Malformed)?;
    claims.dates.check(now)?;
    if !terms.cover(&claims) {
        return Err(TokenFault::Foreign);
    }
    let identity = Identity::of(&claims, compact.signed);
    let dates = claims.dates;
    let [subject, username] = [claims.sub, claims.username].map(|claim| claim.map(Cow::into_owned));
    let key = *key.fingerprint();
    Ok(Verified { identity, subject, username, dates, key, claims: payload.into() })
}

/// The key of the ring that the token is signed by.
fn signed_by<'a>(ring: &'a KeyRing, token: &Compact<'_>, now: u64) -> Result<&'a Key, TokenFault> {
    let verifies = |key: &&Key| {
        crypto::verify(token.signature, token.signed.as_bytes(), key.decoding(), key.algorithm())
            .unwrap_or(false)
    };
    // Our own headers are recognised by their encoded form, which saves decoding them.
    let named = match ring.by_encoded_header(token.header) {
        Some(key) => Some(key),
        None => named(ring, &token.header().ok_or(TokenFault::Malformed)?)?,
    };
    match named {
        Some(key) if !key.verifies_at(now) => return Err(TokenFault::UnknownKey),
        Some(key) => Some(key).filter(verifies),
        None => ring.keys().filter(|key| is_anonymous(key) && key.verifies_at(now)).find(verifies),
    }
    .ok_or(TokenFault::BadSignature)
}

/// The key that a header names, `None` where it names none. The algorithm must be the key's own: by
/// any other, the public part of one key would be the secret of another (CVE-2016-10555).
fn named<'a>(ring: &'a KeyRing, header: &Header) -> Result<Option<&'a Key>, TokenFault> {
    match header.kid.as_deref().map(|id| (id, ring.get(id))) {
        Some((_, Some(key))) if key.algorithm() == header.algorithm => Ok(Some(key)),
        Some((id, None)) if id != SINGLE_KEY_ID => Err(TokenFault::UnknownKey),
        None | Some((_, None)) if header.algorithm == Algorithm::HS256 => Ok(None),
        _ => Err(TokenFault::BadSignature),
    }
}

/// Whether tokens may be of this key without saying so, as those of the original are.
fn is_anonymous(key: &Key) -> bool {
    key.algorithm() == Algorithm::HS256
}

/// Proves at start that what is issued verifies and what is altered does not.
///
/// # Errors
/// What went wrong, for the log; the server must not start then.
pub fn self_test(ring: &KeyRing, terms: &Terms, now: u64) -> Result<(), String> {
    let subject = Subject { id: 0, username: "self-test", admin: false, generation: 0 };
    let token = issue(ring, terms, &subject, now).map_err(|error| error.to_string())?;
    verify(ring, terms, &token, now).map_err(|fault| format!("a token just issued is refused: {fault}"))?;
    let (signed, signature) = token.rsplit_once('.').ok_or("a token just issued has no signature")?;
    let altered = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{altered}{}", signature.get(1..).unwrap_or_default());
    match verify(ring, terms, &forged, now) {
        Err(TokenFault::BadSignature) => Ok(()),
        _ => Err("a token with an altered signature is not refused".to_owned()),
    }
}

#[cfg(test)]
mod asymmetric_tests;
#[cfg(test)]
mod tests;
