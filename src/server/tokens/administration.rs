//! Tokens of the administration API: signed by a key of their own, for an audience of their own, and
//! never for long. Each of the first two alone keeps a user's token from passing for one.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::Rng;
use serde::Serialize;

use super::{KeyRing, SignError, TokenFault, claims::Checked, compact::Compact, sign, signed_by};
use crate::contract::{
    ADMINISTRATION_AUDIENCE,
    key_ring::{self, WeakKey},
};

/// Longest time from `iat` to `exp`, in seconds: nothing ends such a token earlier.
pub const LONGEST_SECONDS: u64 = 3600;

/// The key that signs and verifies administration tokens.
#[derive(Debug)]
pub struct AdminKey(KeyRing);

#[derive(Serialize)]
struct Issued<'a> {
    aud: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    iat: u64,
    exp: u64,
    jti: String,
}

impl AdminKey {
    /// Takes random bytes for the key.
    ///
    /// # Errors
    /// They are too few, or not random.
    pub fn new(secret: &[u8]) -> Result<Self, WeakKey> {
        key_ring::check(secret)?;
        Ok(Self(KeyRing::single(secret)))
    }

    /// Issues a token at `now` (seconds since the epoch) that says for whom, if anybody does; one that
    /// lives for more than [`LONGEST_SECONDS`] will not verify.
    ///
    /// # Errors
    /// The crypto library refused to sign.
    pub fn issue(&self, subject: Option<&str>, ttl_seconds: u64, now: u64) -> Result<String, SignError> {
        let mut id = [0_u8; 16];
        rand::rng().fill_bytes(&mut id);
        let claims = Issued {
            aud: ADMINISTRATION_AUDIENCE,
            sub: subject,
            iat: now,
            exp: now.saturating_add(ttl_seconds),
            jti: URL_SAFE_NO_PAD.encode(id),
        };
        let key = self.0.signer_at(now).ok_or(SignError::NoSigner)?;
        // Texts and integers always serialise; an empty object would not verify.
        sign(key, &URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default()))
    }

    /// Verifies `token` at `now` (seconds since the epoch); answers the claim `sub`.
    ///
    /// # Errors
    /// The first fault found; the signature is checked before any claim.
    pub fn verify(&self, token: &str, now: u64) -> Result<Option<String>, TokenFault> {
        let compact = Compact::split(token).ok_or(TokenFault::Malformed)?;
        signed_by(&self.0, &compact, now)?;
        let payload = compact.payload().ok_or(TokenFault::Malformed)?;
        let claims = Checked::parse(&payload).ok_or(TokenFault::Malformed)?;
        if !claims.aud.as_ref().is_some_and(|audience| audience.is(ADMINISTRATION_AUDIENCE)) {
            return Err(TokenFault::Foreign);
        }
        claims.dates.check(now)?;
        let issued = claims.dates.iat.ok_or(TokenFault::Malformed)?;
        let lifetime = claims.dates.exp.seconds().saturating_sub(issued.seconds());
        if u64::try_from(lifetime).is_ok_and(|seconds| seconds > LONGEST_SECONDS) {
            return Err(TokenFault::Malformed);
        }
        Ok(claims.sub.map(Cow::into_owned))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::server::tokens::{self, Subject, Terms};

    const NOW: u64 = 1_800_000_000;
    const SECRET: &[u8] = b"an-administration-key-of-more-than-32-bytes";

    fn key() -> AdminKey {
        AdminKey::new(SECRET).unwrap()
    }

    fn signed(header: &Value, claims: &Value) -> String {
        let key = Key::symmetric("default", SECRET);
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), key.encoding(), key.algorithm()).unwrap();
        format!("{signed}.{signature}")
    }

    use crate::server::tokens::Key;

    fn verdict(claims: &Value) -> Result<Option<String>, TokenFault> {
        key().verify(&signed(&json!({"alg": "HS256"}), claims), NOW)
    }

    #[test]
    fn a_token_verifies_until_it_expires_and_names_its_subject() {
        let token = key().issue(Some("ci"), 300, NOW).unwrap();
        assert_eq!(key().verify(&token, NOW), Ok(Some("ci".to_owned())));
        assert_eq!(key().verify(&token, NOW + 299), Ok(Some("ci".to_owned())));
        assert_eq!(key().verify(&token, NOW + 300), Err(TokenFault::Expired), "no leeway");
        assert_eq!(key().verify(&key().issue(None, 3600, NOW).unwrap(), NOW), Ok(None));
        let other = AdminKey::new(b"another-administration-key-of-more-than-32").unwrap();
        assert_eq!(other.verify(&token, NOW), Err(TokenFault::BadSignature));
    }

    #[test]
    fn audience_and_dates_have_to_be_there_and_in_bounds() {
        const AUD: &str = ADMINISTRATION_AUDIENCE;
        for (claims, expected) in [
            (json!({"aud": AUD, "iat": NOW, "exp": NOW + 3600}), Ok(None)),
            (json!({"aud": AUD, "iat": NOW + 30, "exp": NOW + 60}), Ok(None)),
            (json!({"aud": AUD, "iat": NOW + 31, "exp": NOW + 60}), Err(TokenFault::NotYetValid)),
            (json!({"aud": AUD, "iat": NOW, "nbf": NOW + 31, "exp": NOW + 60}), Err(TokenFault::NotYetValid)),
            (json!({"aud": AUD, "iat": NOW, "exp": NOW + 3601}), Err(TokenFault::Malformed)),
            (json!({"aud": AUD, "exp": NOW + 60}), Err(TokenFault::Malformed)),
            (json!({"aud": AUD, "iat": null, "exp": NOW + 60}), Err(TokenFault::Malformed)),
            (json!({"aud": AUD, "iat": NOW}), Err(TokenFault::Malformed)),
            (json!({"aud": AUD, "iat": NOW - 60, "exp": NOW}), Err(TokenFault::Expired)),
            (json!({"iat": NOW, "exp": NOW + 60}), Err(TokenFault::Foreign)),
            (json!({"aud": [AUD], "iat": NOW, "exp": NOW + 60}), Err(TokenFault::Foreign)),
            (json!({"aud": "authservice", "iat": NOW, "exp": NOW + 60}), Err(TokenFault::Foreign)),
            (json!({"aud": AUD.to_uppercase(), "iat": NOW, "exp": NOW + 60}), Err(TokenFault::Foreign)),
            (json!({"aud": null, "iat": NOW, "exp": NOW + 60}), Err(TokenFault::Foreign)),
            (json!({"admin": true, "iat": NOW, "exp": NOW + 60}), Err(TokenFault::Foreign)),
        ] {
            assert_eq!(verdict(&claims), expected, "{claims}");
        }
    }

    #[test]
    fn headers_are_judged_as_those_of_users_tokens() {
        let claims = json!({"aud": ADMINISTRATION_AUDIENCE, "iat": NOW, "exp": NOW + 60});
        for (header, expected) in [
            (json!({"alg": "HS256", "typ": "JWT", "kid": "default"}), Ok(None)),
            (json!({"alg": "HS256", "kid": "other"}), Err(TokenFault::UnknownKey)),
            (json!({"alg": "HS256", "crit": ["exp"]}), Err(TokenFault::Malformed)),
            (json!({"alg": "HS256", "typ": "JOSE"}), Err(TokenFault::Malformed)),
            (json!({"alg": "none"}), Err(TokenFault::Malformed)),
            (json!({"alg": "HS512"}), Err(TokenFault::Malformed)),
            (json!({"alg": "RS256"}), Err(TokenFault::BadSignature)),
        ] {
            assert_eq!(key().verify(&signed(&header, &claims), NOW), expected, "{header}");
        }
        let long =
            json!({"aud": ADMINISTRATION_AUDIENCE, "iat": NOW, "exp": NOW + 60, "x": "x".repeat(8192)});
        assert_eq!(verdict(&long), Err(TokenFault::Malformed));
        assert_eq!(key().verify("", NOW), Err(TokenFault::Malformed));
    }

    #[test]
    fn under_one_key_the_audience_still_tells_the_two_kinds_apart() {
        let ring = KeyRing::single(SECRET);
        let terms = Terms { issuer: "authservice".to_owned(), audience: None, ttl_seconds: 60 };
        let subject = Subject { id: 1, username: "ann@x.io", admin: true, generation: 0 };
        let of_a_user = tokens::issue(&ring, &terms, &subject, NOW).unwrap();
        assert_eq!(key().verify(&of_a_user, NOW), Err(TokenFault::Foreign));
        let of_administration = key().issue(None, 60, NOW).unwrap();
        assert_eq!(tokens::verify(&ring, &terms, &of_administration, NOW).unwrap_err(), TokenFault::Foreign);
    }

    #[test]
    fn what_could_be_guessed_is_no_key() {
        assert_eq!(AdminKey::new(&[7; 31]).unwrap_err(), WeakKey::Short(31));
        assert_eq!(AdminKey::new(&[7; 32]).unwrap_err(), WeakKey::Blank);
        assert!(!format!("{:?}", key()).contains("an-administration"));
    }
}
