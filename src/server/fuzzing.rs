//! What fuzzers call: each parser of text from outside, with what must hold whatever the text is. Built for
//! them, and for the replay of what they found, alone.

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    config::{Environment, MigrateConfig, ServeConfig, UserConfig},
    http::basic_credentials,
    passwords::{LegacyFormats, MAX_MEMORY_KIB, Stored, accepted_kdfs},
    tokens::{self, KeyRing, Terms},
};
use crate::contract::LegacyFormat;

const SECRET: &[u8] = b"only for fuzzing, 32 bytes at the least";
const NOW: u64 = 1_800_000_000;

/// The `Authorization` header of a login: what was found is found again in its canonical form.
///
/// # Panics
/// When it is not.
pub fn basic(data: &[u8]) {
    let header = |value: &[u8]| -> Option<HeaderMap> {
        Some([(AUTHORIZATION, HeaderValue::from_bytes(value).ok()?)].into_iter().collect())
    };
    let Some((email, password)) = header(data).as_ref().and_then(basic_credentials) else { return };
    assert!(!email.contains(':'), "the first colon ends the e-mail");
    let canonical = format!("Basic {}", STANDARD.encode(format!("{email}:{password}")));
    let again = header(canonical.as_bytes()).as_ref().and_then(basic_credentials);
    assert_eq!(again, Some((email, password)));
}

/// A stored password: what is plain text is the text itself, and never without being asked for.
///
/// # Panics
/// When it is not.
pub fn stored(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let everything: LegacyFormats = LegacyFormat::ALL.into_iter().collect();
    if let Ok(Stored::Plaintext(plain)) = Stored::parse(&text, everything, MAX_MEMORY_KIB) {
        assert_eq!(plain, text);
        assert!(!text.starts_with("$argon2") && !text.starts_with("$2b$"), "a hash is no plain text");
    }
    let nothing = Stored::parse(&text, LegacyFormats::default(), MAX_MEMORY_KIB);
    assert!(!matches!(nothing, Ok(Stored::Plaintext(_))));
    assert!(
        accepted_kdfs(&text, everything, MAX_MEMORY_KIB).iter().all(|kdf| kdf.memory_kib() <= MAX_MEMORY_KIB)
    );
}

/// Of claims what must hold. The rest may be any JSON, numbers beyond a double's range included.
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    aud: Option<IgnoredAny>,
}

/// A token, as it came, and as header and claims between which a line stands and that the right key signed:
/// what verifies has that algorithm and an `exp` to come.
///
/// # Panics
/// When it has not.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let ring = KeyRing::single(SECRET);
    let terms = Terms { issuer: "authservice".to_owned(), audience: None, ttl_seconds: 60 };
    let verify = |token: &str| tokens::verify(&ring, &terms, token, NOW);
    assert!(verify(text).is_err(), "nobody guesses a signature");
    let Some((header, claims)) = text.split_once('\n') else { return };
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(SECRET);
    let Ok(signature) = crypto::sign(signed.as_bytes(), &key, Algorithm::HS256) else { return };
    if let Ok(verified) = verify(&format!("{signed}.{signature}")) {
        let header: Value = serde_json::from_str(header).unwrap_or_default();
        assert_eq!(header["alg"], "HS256");
        let claims = serde_json::from_slice::<Claims>(&verified.claims);
        assert!(claims.is_ok_and(|claims| claims.exp >= 1_800_000_001.0 && claims.aud.is_none()));
    }
}

/// An environment, `NAME=value` a line: faults are told and no secret is.
///
/// # Panics
/// When one is.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = text.lines().filter_map(|line| line.split_once('='));
    // A file could be any of the machine's.
    let variables: Vec<(&str, &str)> = lines.filter(|(name, _)| !name.ends_with("_FILE")).collect();
    let environment = || variables.iter().copied().collect::<Environment>();
    let told = [
        ServeConfig::read(&environment())
            .map_or_else(|faults| faults.to_string(), |config| format!("{config:?}")),
        MigrateConfig::read(&environment())
            .map_or_else(|faults| faults.to_string(), |config| format!("{config:?}")),
        UserConfig::read(&environment())
            .map_or_else(|faults| faults.to_string(), |config| format!("{config:?}")),
    ];
    let secrets = variables.iter().filter(|(name, value)| *name == "JWT_SECRET" && value.len() >= 32);
    for (_, secret) in secrets {
        let elsewhere = |(name, value): &&(&str, &str)| *name != "JWT_SECRET" && value.contains(secret);
        assert!(
            variables.iter().any(|variable| elsewhere(&variable))
                || !told.iter().any(|told| told.contains(secret))
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parser = fn(&[u8]);

    #[test]
    fn what_fuzzers_kept_is_borne() {
        let corpora = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let parsers: [(&str, Parser); 4] =
            [("basic", basic), ("stored", stored), ("token", token), ("configuration", configuration)];
        for (name, parser) in parsers {
            let inputs: Vec<_> = std::fs::read_dir(corpora.join(name)).unwrap().collect();
            assert!(inputs.len() > 20, "{name} has lost its corpus");
            for input in inputs {
                parser(&std::fs::read(input.unwrap().path()).unwrap());
            }
        }
    }
}
