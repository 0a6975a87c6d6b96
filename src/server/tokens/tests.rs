use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a-secret-of-more-than-thirty-two-bytes";

fn terms() -> Terms {
    Terms { issuer: "authservice".to_owned(), audience: None, ttl_seconds: 86_400 }
}

fn subject() -> Subject<'static> {
    Subject { id: 7, username: "ann@example.org", admin: true, generation: 3 }
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn signed(header: &str, claims: &str, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature =
        crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(secret), Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn verdict(header: &str, claims: &str) -> Result<Value, TokenFault> {
    let verified = verify(&KeyRing::single(SECRET), &terms(), &signed(header, claims, SECRET), NOW)?;
    Ok(serde_json::from_slice(&verified.claims).unwrap())
}

const PYJWT: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

fn future() -> String {
    format!(r#"{{"username":"ann@example.org","exp":{},"iat":{NOW},"admin":true}}"#, NOW + 10)
}

#[test]
fn an_issued_token_carries_the_claims_of_the_original_and_four_more() {
    let ring = KeyRing::single(SECRET);
    let token = issue(&ring, &terms(), &subject(), NOW).unwrap();
    let verified = verify(&ring, &terms(), &token, NOW).unwrap();
    let mut claims: Value = serde_json::from_slice(&verified.claims).unwrap();
    let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 22);
    assert_eq!(
        claims,
        json!({"username": "ann@example.org", "exp": NOW + 86_400, "iat": NOW, "admin": true, "iss": "authservice", "sub": "7", "gen": 3})
    );
    assert_ne!(token, issue(&ring, &terms(), &subject(), NOW).unwrap());
}

/// Encoded by `PyJWT` 2.3.0, the release the original pins, for an `iat` of 2026-01-02 03:04:05 UTC.
#[test]
fn a_token_made_by_the_library_of_the_original_verifies_until_it_expires() {
    const TOKEN: &str = concat!(
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.",
        "eyJ1c2VybmFtZSI6Imdlb3JnaW9AZW1haWwuY29tIiwiZXhwIjoxNzY3NDA5NDQ1LCJpYXQiOjE3NjczMjMwNDUsImFkbWluIjp0cnVlfQ.",
        "x91KcAbMwFsdxD_rujmWJ_ALc-6HwAMxlbDK-P_aP8Y"
    );
    const EXPIRES: u64 = 1_767_409_445;
    let ring = KeyRing::single(b"a key of thirty-two bytes or more");
    let claims = br#"{"username":"georgio@email.com","exp":1767409445,"iat":1767323045,"admin":true}"#;
    let verified = verify(&ring, &terms(), TOKEN, EXPIRES - 1).unwrap();
    assert_eq!(verified.claims, claims.to_vec());
    assert_eq!(verify(&ring, &terms(), TOKEN, EXPIRES).err(), Some(TokenFault::Expired));
}

#[test]
fn a_token_of_the_original_verifies() {
    assert_eq!(
        verdict(PYJWT, &future()).unwrap(),
        json!({"username": "ann@example.org", "exp": NOW + 10, "iat": NOW, "admin": true})
    );
}

#[test]
fn expiry_has_no_leeway_and_is_required() {
    for (exp, expected) in [
        (json!(NOW + 1), None),
        (json!(NOW), Some(TokenFault::Expired)),
        (json!(NOW - 1), Some(TokenFault::Expired)),
        (json!(-5), Some(TokenFault::Expired)),
        (json!(1_800_000_001.5), None),
        (json!(9_007_199_254_740_992.0), None),
        (json!(9_007_199_254_740_994.0), Some(TokenFault::Malformed)),
        (json!(1e300), Some(TokenFault::Malformed)),
        (json!("1900000000"), Some(TokenFault::Malformed)),
        (json!(null), Some(TokenFault::Malformed)),
        (json!([NOW + 1]), Some(TokenFault::Malformed)),
        (json!(u64::MAX), Some(TokenFault::Malformed)),
    ] {
        assert_eq!(verdict(PYJWT, &json!({ "exp": exp }).to_string()).err(), expected, "{exp}");
    }
    assert_eq!(verdict(PYJWT, "{}").err(), Some(TokenFault::Malformed));
}

#[test]
fn other_claims_are_checked_when_present() {
    let with =
        |name: &str, value: Value| verdict(PYJWT, &json!({"exp": NOW + 10, name: value}).to_string()).err();
    assert_eq!(with("nbf", json!(NOW + 30)), None);
    assert_eq!(with("nbf", json!(NOW + 31)), Some(TokenFault::NotYetValid));
    assert_eq!(with("iat", json!(NOW + 31)), Some(TokenFault::NotYetValid));
    assert_eq!(with("iss", json!("authservice")), None);
    assert_eq!(with("iss", json!("authservic")), Some(TokenFault::Foreign));
    assert_eq!(with("aud", json!("shop")), Some(TokenFault::Foreign));
    for name in ["iss", "sub", "jti"] {
        assert_eq!(with(name, json!(7)), Some(TokenFault::Malformed), "{name}");
        assert_eq!(with(name, json!(null)), Some(TokenFault::Malformed), "{name}");
    }
    assert_eq!(with("nbf", json!("0")), Some(TokenFault::Malformed));
}

#[test]
fn the_header_cannot_choose_what_is_checked() {
    for (header, expected) in [
        (r#"{"alg":"HS256"}"#, None),
        (r#"{"alg":"HS256","typ":"jwt"}"#, None),
        (r#"{"alg":"HS256","typ":"application/at+jwt"}"#, None),
        (r#"{"alg":"HS256","typ":"JOSE"}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"none"}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"None"}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"NONE"}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"nOnE"}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":""}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":null}"#, Some(TokenFault::Malformed)),
        (r#"{"typ":"JWT"}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"hs256"}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"HS512"}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"RS256"}"#, Some(TokenFault::BadSignature)),
        (r#"{"alg":"ES384"}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"HS256","alg":"HS256"}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"HS256","crit":[]}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"HS256","crit":null}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"HS256","kid":7}"#, Some(TokenFault::Malformed)),
        (r#"{"alg":"HS256","kid":"../../etc/passwd"}"#, Some(TokenFault::UnknownKey)),
        (r#"{"alg":"HS256","kid":"x' UNION SELECT 'known-secret"}"#, Some(TokenFault::UnknownKey)),
        (r#"{"alg":"HS256","kid":"default"}"#, None),
        (
            r#"{"alg":"HS256","jwk":{"kty":"oct","k":"QUFB"},"jku":"http://evil","x5u":"http://evil","x5c":["AAAA"]}"#,
            None,
        ),
    ] {
        assert_eq!(verdict(header, &future()).err(), expected, "{header}");
    }
}

#[test]
fn what_is_no_token_is_malformed_and_what_is_altered_has_a_bad_signature() {
    let ring = KeyRing::single(SECRET);
    let check = |token: &str| verify(&ring, &terms(), token, NOW).err();
    let good = signed(PYJWT, &future(), SECRET);
    assert_eq!(check(&good), None);
    for token in ["", ".", "..", "a.b", "a.b.c.d", &"a".repeat(9000), &format!("{good}."), &".".repeat(8000)]
    {
        assert_eq!(check(token), Some(TokenFault::Malformed), "{token:?}");
    }
    let unsigned = &good[..=good.rfind('.').unwrap()];
    assert_eq!(check(unsigned), Some(TokenFault::BadSignature));
    assert_eq!(check(&format!("{good}=")), Some(TokenFault::BadSignature));
    assert_eq!(
        check(&signed(PYJWT, &future(), b"another secret of thirty-two bytes")),
        Some(TokenFault::BadSignature)
    );
    assert_eq!(check(&signed(PYJWT, "[1]", SECRET)), Some(TokenFault::Malformed));
    let nested = format!(r#"{{"exp":1900000000,"x":{}{}}}"#, "[".repeat(2500), "]".repeat(2500));
    assert_eq!(check(&signed(PYJWT, &nested, SECRET)), None, "what is not read costs no stack");
    assert_eq!(check(&signed(PYJWT, r#"{"exp":1900000000,"exp":1}"#, SECRET)), Some(TokenFault::Malformed));
}

#[test]
fn without_a_key_id_every_key_of_the_ring_is_tried() {
    let other = b"another secret of thirty-two bytes";
    let entries = BTreeMap::from([
        ("new.key".to_owned(), SECRET.to_vec()),
        ("new.signs".to_owned(), b"2020-01-01T00:00:00Z".to_vec()),
        ("old.key".to_owned(), other.to_vec()),
        ("gone.key".to_owned(), b"a retired secret of thirty-two bytes".to_vec()),
        ("gone.retire-after".to_owned(), b"2021-01-01T00:00:00Z".to_vec()),
    ]);
    let ring = KeyRing::from_entries(&entries, NOW).unwrap();
    let check =
        |header: &str, secret: &[u8]| verify(&ring, &terms(), &signed(header, &future(), secret), NOW).err();
    assert_eq!(check(PYJWT, SECRET), None);
    assert_eq!(check(PYJWT, other), None);
    assert_eq!(check(r#"{"alg":"HS256","kid":"default"}"#, other), None);
    assert_eq!(check(r#"{"alg":"HS256","kid":"old"}"#, other), None);
    assert_eq!(check(r#"{"alg":"HS256","kid":"new"}"#, other), Some(TokenFault::BadSignature));
    assert_eq!(check(PYJWT, b"a retired secret of thirty-two bytes"), Some(TokenFault::BadSignature));
    assert_eq!(
        check(r#"{"alg":"HS256","kid":"gone"}"#, b"a retired secret of thirty-two bytes"),
        Some(TokenFault::UnknownKey)
    );
}

#[test]
fn the_longest_token_that_is_looked_at_verifies() {
    let padded = |padding: usize| {
        let claims = json!({"exp": NOW + 10, "x": "x".repeat(padding)}).to_string();
        signed(PYJWT, &claims, SECRET)
    };
    let longest = (6000..8000).map(padded).find(|token| token.len() >= MAX_TOKEN_BYTES).unwrap();
    assert_eq!(longest.len(), MAX_TOKEN_BYTES);
    let check = |token: &str| verify(&KeyRing::single(SECRET), &terms(), token, NOW).err();
    assert_eq!(check(&longest), None);
    let longer = (6000..8000).map(padded).find(|token| token.len() > MAX_TOKEN_BYTES).unwrap();
    assert_eq!(check(&longer), Some(TokenFault::Malformed));
}

#[test]
fn what_verified_once_holds_for_as_long_as_it_would_verify_again() {
    let entries = |secret: &[u8]| {
        BTreeMap::from([
            ("a.key".to_owned(), secret.to_vec()),
            ("a.signs".to_owned(), b"2020-01-01T00:00:00Z".to_vec()),
            ("b.key".to_owned(), b"another secret of thirty-two bytes".to_vec()),
        ])
    };
    let ring = |entries: &BTreeMap<String, Vec<u8>>| KeyRing::from_entries(entries, NOW).unwrap();
    let sound = ring(&entries(SECRET));
    let token = issue(&sound, &terms(), &subject(), NOW).unwrap();
    let verified = verify(&sound, &terms(), &token, NOW).unwrap();
    assert!(verified.holds(&sound, NOW) && verified.holds(&sound, NOW + 86_399));
    assert!(!verified.holds(&sound, NOW + 86_400), "it has expired");
    let other = ring(&entries(b"a third secret of thirty-two bytes"));
    assert!(!verified.holds(&other, NOW), "its key gave way to another of its id");
    let mut retired = entries(SECRET);
    retired.insert("a.retire-after".to_owned(), b"2027-01-15T09:00:00Z".to_vec());
    let retired = ring(&retired);
    assert!(verified.holds(&retired, NOW) && !verified.holds(&retired, NOW + 3601), "its key has retired");
}

#[test]
fn a_client_is_told_the_kind_of_fault_and_not_which_keys_there_are() {
    let told = |fault: TokenFault| fault.to_string();
    assert_eq!(told(TokenFault::UnknownKey), told(TokenFault::BadSignature));
    assert_eq!(told(TokenFault::Foreign), told(TokenFault::Malformed));
    let kinds = [TokenFault::Expired, TokenFault::NotYetValid, TokenFault::BadSignature]
        .into_iter()
        .chain([TokenFault::Malformed, TokenFault::Revoked]);
    let kinds: Vec<String> = kinds.map(told).collect();
    assert_eq!(kinds, ["expired", "not yet valid", "bad signature", "malformed", "revoked"]);
}

#[test]
fn the_self_test_passes_on_a_sound_ring_and_on_no_other() {
    assert_eq!(self_test(&KeyRing::single(SECRET), &terms(), NOW), Ok(()));
    let unlike = jsonwebtoken::DecodingKey::from_secret(SECRET);
    let mut key = Key::verifying("a", Algorithm::HS256, unlike);
    key.signs_from = Some(0);
    assert_eq!(
        self_test(&KeyRing::verifying(key), &terms(), NOW),
        Err("a token just issued is refused: bad signature".to_owned())
    );
}

#[test]
fn with_an_audience_tokens_name_it_and_have_to() {
    let ring = KeyRing::single(SECRET);
    let terms = Terms { audience: Some("shop".to_owned()), ..terms() };
    let ours = issue(&ring, &terms, &subject(), NOW).unwrap();
    let claims: Value = serde_json::from_slice(&verify(&ring, &terms, &ours, NOW).unwrap().claims).unwrap();
    assert_eq!(claims["aud"], "shop");
    let with = |aud: Value| {
        let claims = json!({"exp": NOW + 10, "aud": aud}).to_string();
        verify(&ring, &terms, &signed(PYJWT, &claims, SECRET), NOW).err()
    };
    for ours in [json!("shop"), json!(["shop"]), json!(["till", "sh\"op", "shop"])] {
        assert_eq!(with(ours.clone()), None, "{ours}");
    }
    let others = [json!("shop "), json!("Shop"), json!([]), json!(["till"]), json!([["shop"]]), json!(7)];
    for other in others.into_iter().chain([json!(["shop", 7]), json!(null), json!({"shop": 1})]) {
        assert_eq!(with(other.clone()), Some(TokenFault::Foreign), "{other}");
    }
    let without = signed(PYJWT, &future(), SECRET);
    assert_eq!(verify(&ring, &terms, &without, NOW).err(), Some(TokenFault::Foreign));
}

#[test]
fn a_token_says_which_it_is_and_whose() {
    let ring = KeyRing::single(SECRET);
    let identity = |token: &str| verify(&ring, &terms(), token, NOW).unwrap().identity;
    let named = verify(&ring, &terms(), &issue(&ring, &terms(), &subject(), NOW).unwrap(), NOW).unwrap();
    assert_eq!((named.subject.as_deref(), named.username.as_deref()), (Some("7"), Some("ann@example.org")));
    let ours = identity(&issue(&ring, &terms(), &subject(), NOW).unwrap());
    assert_eq!(ours.holder, Holder::User { id: 7, generation: Some(3) });
    let expires = i64::try_from(NOW).unwrap() + 86_400;
    assert_eq!((ours.issued_at, ours.expires_at), (i64::try_from(NOW).ok(), expires));
    assert_ne!(ours.token, identity(&issue(&ring, &terms(), &subject(), NOW).unwrap()).token);

    let with = |claims: Value| identity(&signed(PYJWT, &claims.to_string(), SECRET));
    let ann = Holder::Username(Fingerprint::of_username("ann@example.org"));
    let original = json!({"username": "ann@example.org", "exp": NOW + 10, "iat": NOW, "admin": true});
    assert_eq!(with(original.clone()).holder, ann);
    assert_eq!(with(original.clone()), with(original.clone()), "known again by what was signed");
    // Another issuer's notion of a subject is not ours.
    assert_eq!(with(json!({"username": "ann@example.org", "sub": "7", "exp": NOW + 10})).holder, ann);
    assert_eq!(with(json!({"sub": "7", "exp": NOW + 10})).holder, Holder::Unknown);
    let first_release = json!({"iss": "authservice", "sub": "7", "exp": NOW + 10});
    assert_eq!(with(first_release).holder, Holder::User { id: 7, generation: None });
    // What others mean by our private claims is nothing to us.
    for foreign in [json!(null), json!(7.5), json!({"a": [1]})] {
        let claims =
            json!({"username": foreign, "gen": foreign, "iss": "authservice", "sub": "7", "exp": NOW + 10});
        assert_eq!(with(claims).holder, Holder::User { id: 7, generation: None }, "{foreign}");
        assert_eq!(with(json!({"username": foreign, "exp": NOW + 10})).holder, Holder::Unknown, "{foreign}");
    }
    // A token id is no username and no token.
    let named = |jti: &str| with(json!({"jti": jti, "exp": NOW + 10})).token;
    assert_eq!(named("a"), named("a"));
    assert_ne!(named("ann@example.org"), Fingerprint::of_username("ann@example.org"));
}
