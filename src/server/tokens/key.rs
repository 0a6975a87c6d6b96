//! One key: what it signs and verifies with, and what of it may be published.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, errors,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse},
};

use super::{Fingerprint, RingError};
use crate::contract::{
    self,
    key_ring::{MIN_KEY_BYTES, MIN_MODULUS_BYTES},
};

/// How a key is read from a PEM text.
type ReadPem = fn(&[u8]) -> errors::Result<EncodingKey>;

/// The kinds of private keys: by our name and the library's, and how the text is read.
const PRIVATE: [(contract::Algorithm, Algorithm, ReadPem); 3] = [
    (contract::Algorithm::ES256, Algorithm::ES256, EncodingKey::from_ec_pem),
    (contract::Algorithm::EdDSA, Algorithm::EdDSA, EncodingKey::from_ed_pem),
    (contract::Algorithm::RS256, Algorithm::RS256, EncodingKey::from_rsa_pem),
];

/// A key of one algorithm, which no header of a token can change.
pub struct Key {
    id: String,
    algorithm: Algorithm,
    fingerprint: Fingerprint,
    encoded_header: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    public: Option<Jwk>,
    pub(super) signs_from: Option<i64>,
    pub(super) retire_after: Option<i64>,
}

impl Key {
    /// Reads an entry of the ring; `None` for one that is no key.
    pub(super) fn from_entry(entry: &str, value: &[u8]) -> Result<Option<Self>, RingError> {
        if let Some(id) = entry.strip_suffix(contract::Algorithm::HS256.entry_suffix()) {
            check_id(entry, id)?;
            if value.len() < MIN_KEY_BYTES {
                return Err(RingError::ShortKey { entry: entry.to_owned(), length: value.len() });
            }
            return Ok(Some(Self::symmetric(id, value)));
        }
        let kind = PRIVATE.iter().find_map(|kind| Some((entry.strip_suffix(kind.0.entry_suffix())?, kind)));
        let Some((id, (named, algorithm, read))) = kind else { return Ok(None) };
        check_id(entry, id)?;
        let key = read(value).and_then(|encoding| Self::private(id, *algorithm, encoding, value));
        match key {
            Ok(key) if key.is_long_enough() => Ok(Some(key)),
            _ => Err(RingError::UnusableKey { entry: entry.to_owned(), algorithm: *named }),
        }
    }

    /// An HS256 key.
    pub(super) fn symmetric(id: &str, secret: &[u8]) -> Self {
        let (encoding, decoding) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Self::new(id, Algorithm::HS256, secret, encoding, decoding, None)
    }

    fn private(id: &str, algorithm: Algorithm, encoding: EncodingKey, pem: &[u8]) -> errors::Result<Self> {
        let mut public = Jwk::from_encoding_key(&encoding, algorithm)?;
        public.common.key_id = Some(id.to_owned());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let decoding = DecodingKey::from_jwk(&public)?;
        Ok(Self::new(id, algorithm, pem, encoding, decoding, Some(public)))
    }

    /// A key of which only the public part is known.
    #[cfg(test)]
    pub(super) fn verifying(id: &str, algorithm: Algorithm, decoding: DecodingKey) -> Self {
        Self::new(id, algorithm, b"", EncodingKey::from_secret(b""), decoding, None)
    }

    fn new(
        id: &str,
        algorithm: Algorithm,
        material: &[u8],
        encoding: EncodingKey,
        decoding: DecodingKey,
        public: Option<Jwk>,
    ) -> Self {
        let header = format!(r#"{{"typ":"JWT","alg":"{algorithm:?}","kid":"{id}"}}"#);
        Self {
            id: id.to_owned(),
            algorithm,
            fingerprint: Fingerprint::of(&header, material),
            encoded_header: URL_SAFE_NO_PAD.encode(header),
            encoding,
            decoding,
            public,
            signs_from: None,
            retire_after: None,
        }
    }

    /// An RSA key of fewer bits can be broken; those of the other kinds have one length.
    fn is_long_enough(&self) -> bool {
        match self.public.as_ref().map(|public| &public.algorithm) {
            Some(AlgorithmParameters::RSA(rsa)) => {
                URL_SAFE_NO_PAD.decode(&rsa.n).is_ok_and(|modulus| modulus.len() >= MIN_MODULUS_BYTES)
            }
            _ => true,
        }
    }

    /// The `kid`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the key still verifies at `now`, seconds since the epoch.
    #[must_use]
    pub fn verifies_at(&self, now: u64) -> bool {
        self.retire_after.is_none_or(|end| i64::try_from(now).is_ok_and(|now| now <= end))
    }

    /// What others verify with; `None` for a key that is its own secret.
    #[must_use]
    pub fn public(&self) -> Option<&Jwk> {
        self.public.as_ref()
    }

    /// What tells the key from every other, those that had its id before included.
    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn encoded_header(&self) -> &str {
        &self.encoded_header
    }

    pub(super) fn encoding(&self) -> &EncodingKey {
        &self.encoding
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .field("signs_from", &self.signs_from)
            .field("retire_after", &self.retire_after)
            .finish_non_exhaustive()
    }
}

fn check_id(entry: &str, id: &str) -> Result<(), RingError> {
    let good = (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if good { Ok(()) } else { Err(RingError::BadKeyId(entry.to_owned())) }
}
