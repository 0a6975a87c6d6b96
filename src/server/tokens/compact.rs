//! The compact serialisation (RFC 7515 §7.1): three parts, of which only the header is looked
//! at before the signature is known to be good.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, de::IgnoredAny};

use super::MAX_TOKEN_BYTES;

/// A token taken apart, nothing decoded yet.
pub(super) struct Compact<'a> {
    /// Header and payload with the dot between them: what is signed.
    pub(super) signed: &'a str,
    /// The encoded header.
    pub(super) header: &'a str,
    /// The encoded signature.
    pub(super) signature: &'a str,
    payload: &'a str,
}

/// The header fields that decide anything. `alg` has to be that of the key: a header cannot choose it.
pub(super) struct Header {
    /// The algorithm.
    pub(super) algorithm: Algorithm,
    /// The key id.
    pub(super) kid: Option<String>,
}

#[derive(Deserialize)]
struct RawHeader<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    typ: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
}

/// Unlike serde's own treatment of `Option`, `null` is no way to be absent.
pub(in crate::server) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl<'a> Compact<'a> {
    /// Takes a token of exactly three parts apart; `None` for any other and for one too long.
    pub(super) fn split(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        (!payload.contains('.')).then_some(Self { signed, header, signature, payload })
    }

    /// Decodes the header; `None` unless it is one of a token as we sign them, without critical extensions.
    pub(super) fn header(&self) -> Option<Header> {
        let bytes = decode(self.header)?;
        let raw: RawHeader<'_> = serde_json::from_slice(&bytes).ok()?;
        // RFC 7515 §4.1.11: an extension that is not understood must be refused; we know none.
        if raw.crit.is_some() {
            return None;
        }
        let algorithm = match &*raw.alg {
            "HS256" => Algorithm::HS256,
            "ES256" => Algorithm::ES256,
            "EdDSA" => Algorithm::EdDSA,
            "RS256" => Algorithm::RS256,
            _ => return None,
        };
        // RFC 7515 §4.1.9: media types compare without regard to case, `application/` left out.
        if let Some(typ) = raw.typ {
            let short =
                typ.get(.."application/".len()).filter(|prefix| prefix.eq_ignore_ascii_case("application/"));
            let short = short.map_or(&*typ, |prefix| &typ[prefix.len()..]);
            if !short.eq_ignore_ascii_case("JWT") && !short.eq_ignore_ascii_case("at+jwt") {
                return None;
            }
        }
        Some(Header { algorithm, kid: raw.kid })
    }

    /// Decodes the payload.
    pub(super) fn payload(&self) -> Option<Vec<u8>> {
        decode(self.payload)
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}
