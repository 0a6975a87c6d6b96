use super::*;
use crate::contract::LegacyFormat;

fn accepting(legacy: &[LegacyFormat]) -> PasswordPolicy {
    let new = NewPasswords { argon2: Argon2id::default(), min_length: 8 };
    PasswordPolicy { new, legacy: legacy.iter().copied().collect(), rehash: true }
}

fn all() -> PasswordPolicy {
    accepting(&LegacyFormat::ALL)
}

fn modern() -> PasswordPolicy {
    accepting(&[])
}

fn verify(stored: Option<&str>, password: &[u8], policy: PasswordPolicy) -> Outcome {
    Verification::against(stored, policy, MAX_MEMORY_KIB).run(password)
}

fn hash(password: &[u8]) -> String {
    Argon2id::default().hash(password).unwrap()
}

/// Hashes of `pässword` by bcrypt 5.0, Werkzeug 3.1, passlib (libpass 1.9) and hashlib of Python.
const FOREIGN: [(&str, &str); 13] = [
    ("bcrypt", "$2a$05$Y8aawbv3qQ9O2o44pKqbl.PMPDServHZfRlJlR2FGiZ.ocg//mPZa"),
    ("bcrypt", "$2b$05$te/wnzQiFmHdtlNw/1JDaexcU4o58t5YCWN5T7NDcgpuB/DFmCgoe"),
    (
        "werkzeug",
        "pbkdf2:sha256:1000$eK4f9tfn$2efb2750f884fc76ccccee470e79222a2628f745ff9ce680c952a10701e6d7cd",
    ),
    ("werkzeug", "pbkdf2:sha1:1000$m9zZKZyI$a1e23e4edb75cc04a78b50f847bb36ca253cf0e1"),
    (
        "werkzeug",
        "pbkdf2:sha512:1000$bTPfsVj5$43cbec7eb226a1d84ccc109dfba7fe64d3c3483d91500c599a0945c33d9ec1ca\
         04e96c9a05436551dac2106403ed71e8da5a918280bdc2d06c2c8a85d2fad557",
    ),
    ("werkzeug", "pbkdf2:sha256$Yq0dxkPN$036a3cca2303cd0d0c84b442994b788889de6bdd0d711ad2f443eb8997098de4"),
    (
        "werkzeug",
        "scrypt:1024:8:1$g8IsJsGb$d18f73777d2f0d79cc6803afdc96b619d44a06afa329d666963fae581e7a3669\
         e64b3d6111bf431858c20716278009d5a9b5b534618b9cfb8eab76ab65823701",
    ),
    ("pbkdf2", "$pbkdf2-sha256$1000$v3eudc7Zu/d.LwXAuDcGwA$naCh4FbhmchOxqpDVmaew4mmlAr5mSUxbMTKXRO6/.Y"),
    (
        "pbkdf2",
        "$pbkdf2-sha512$1000$EGIsBUBIqZUSwhjjnFMKwQ$xpt3Pb.UcWFUq7lQEt3CMQ3SBySbcuPKFPDBblfzbFzEuKmNwZPpB9K8j0Eao6qo\
         NwS09ls8aZHs3Fy4fOl1mw",
    ),
    ("pbkdf2", "$pbkdf2$1000$uRdiLAVgbO3dG4NwjnHOOQ$HBcWApjCK0ULS26Fk5oU49Yg938"),
    (
        "pbkdf2",
        "$pbkdf2-sha256$i=1000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$rybsuBlIHCOEKCPpDvTVloYHkPEiKOiJqqYGLCHAfF0",
    ),
    (
        "pbkdf2",
        "$pbkdf2-sha256$i=1000,l=64$MDEyMzQ1Njc4OWFiY2RlZg$rybsuBlIHCOEKCPpDvTVloYHkPEiKOiJqqYGLCHAfF1l9lJGEmGssACM\
         dqOl0+Ifbjw3OfCbMmJ27iMdBX2IFg",
    ),
    ("scrypt", "$scrypt$ln=10,r=8,p=1$w1iLMYYwJoQwJkTIOec8xw$pcuv2itu8EA8J2WzP+iPaNvgB/nfTFxDNAGjj+Qu1Ec"),
];

#[test]
fn a_new_hash_verifies_and_is_not_replaced() {
    let stored = hash(b"correct horse");
    let right = verify(Some(&stored), b"correct horse", modern());
    assert_eq!((right.matches, right.rehashed), (true, None));
    assert!(!verify(Some(&stored), b"correct hors", modern()).matches);
}

#[test]
fn hashes_of_other_software_verify_where_they_are_accepted_and_become_argon2id() {
    let password = "pässword".as_bytes();
    for (format, stored) in FOREIGN {
        let policy = accepting(&LegacyFormat::of_name(format).into_iter().collect::<Vec<_>>());
        let right = verify(Some(stored), password, policy);
        assert!(right.matches, "{stored}");
        let new = right.rehashed.unwrap();
        assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify(Some(&new), password, modern()).matches, "{stored}");
        let wrong = verify(Some(stored), b"wrong", policy);
        assert_eq!((wrong.matches, wrong.rehashed), (false, None), "{stored}");
        let refused = Verification::against(Some(stored), modern(), MAX_MEMORY_KIB);
        assert_eq!(refused.unusable().map(Unusable::name), Some(format), "{stored}");
        let refused = refused.run(password);
        assert_eq!(
            (refused.matches, refused.rehashed, refused.spent.0),
            (false, None, Argon2id::default().kdf())
        );
    }
}

#[test]
fn plain_text_is_accepted_only_where_allowed_and_rehashed_only_where_wanted() {
    let outcome = verify(Some("Admin123"), b"Admin123", all());
    assert!(outcome.matches && verify(outcome.rehashed.as_deref(), b"Admin123", modern()).matches);
    let wrong = verify(Some("Admin123"), b"Admin124", all());
    assert_eq!((wrong.matches, wrong.rehashed), (false, None));
    let kept = verify(Some("Admin123"), b"Admin123", PasswordPolicy { rehash: false, ..all() });
    assert_eq!((kept.matches, kept.rehashed), (true, None));
    assert!(!verify(Some("Admin123"), b"Admin123", modern()).matches);
}

/// By the reference implementation; the first in the form of before hashes told their version.
#[test]
fn older_and_other_kinds_of_argon2_verify_and_become_argon2id() {
    for stored in [
        "$argon2i$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
        "$argon2d$v=19$m=256,t=2,p=1$c29tZXNhbHQ$JcTui6RIBUtJ78gE5Hi52CO+H5vS6Z9R1uxAB6OhUB8",
    ] {
        let right = verify(Some(stored), b"password", modern());
        assert!(right.matches && right.rehashed.unwrap().starts_with("$argon2id$v=19$"), "{stored}");
        assert!(!verify(Some(stored), b"passwore", modern()).matches, "{stored}");
    }
}

#[test]
fn a_stored_hash_is_never_a_password() {
    let stored = hash(b"secret");
    for stored in [
        stored.as_str(),
        "$2b$12$abcdefghijklmnopqrstuv",
        "pbkdf2:sha256:1$a$b",
        "{SSHA}abc=",
        "$argon2id$broken",
        "5f4dcc3b5aa765d61d8327deb882cf99",
    ] {
        assert!(!verify(Some(stored), stored.as_bytes(), all()).matches, "{stored}");
    }
}

#[test]
fn nothing_stored_matches_nothing() {
    for policy in [all(), modern()] {
        assert!(!verify(Some(""), b"", policy).matches);
        assert!(!verify(None, b"", policy).matches);
    }
    let empty = hash(b"");
    assert!(verify(Some(&empty), b"", modern()).matches, "somebody's choice, and hashed");
}

#[test]
fn an_overlong_password_never_matches() {
    let long = "x".repeat(MAX_PASSWORD_BYTES + 1);
    assert!(!verify(Some(&long), long.as_bytes(), all()).matches);
    let hashed = hash(long.as_bytes());
    assert!(!verify(Some(&hashed), long.as_bytes(), all()).matches);
    let longest = "x".repeat(MAX_PASSWORD_BYTES);
    assert!(verify(Some(&longest), longest.as_bytes(), all()).matches);
}

#[test]
fn new_hashes_and_what_counts_as_old_follow_the_parameters() {
    let stronger = Argon2id { memory_kib: 12_288, iterations: 4, parallelism: 2 };
    let policy = PasswordPolicy { new: NewPasswords { argon2: stronger, min_length: 8 }, ..all() };
    let outcome = verify(Some(&hash(b"pw")), b"pw", policy);
    let new = outcome.rehashed.unwrap();
    assert!(new.starts_with("$argon2id$v=19$m=12288,t=4,p=2$"), "{new}");
    assert_eq!(verify(Some(&new), b"pw", modern()).rehashed, None, "a stronger one is kept");
    assert_eq!(verify(None, b"pw", policy).spent.0, stronger.kdf());
}

#[test]
fn what_bcrypt_did_not_look_at_is_not_made_part_of_the_password() {
    let stored = bcrypt_of(&[b'x'; 72]);
    let exact = verify(Some(&stored), &[b'x'; 72], all());
    assert!(exact.matches && exact.rehashed.is_some());
    let longer = verify(Some(&stored), &[b'x'; 80], all());
    assert_eq!((longer.matches, longer.rehashed), (true, None));
}

fn bcrypt_of(password: &[u8]) -> String {
    use base64::{
        Engine, alphabet,
        engine::{GeneralPurpose, general_purpose::NO_PAD},
    };
    let base64 = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);
    let mut digest = [0; 23];
    Kdf::Bcrypt { cost: 4 }.derive(password, &[9; 16], &mut digest).unwrap();
    format!("$2y$04${}{}", base64.encode([9; 16]), base64.encode(digest))
}

#[test]
fn what_needs_more_memory_than_there_is_is_not_computed() {
    let dear = hash(b"pw").replace("m=19456", "m=65536");
    let within = |most_kib| Verification::against(Some(&dear), modern(), most_kib);
    assert_eq!(within(65_536).unusable(), None);
    assert_eq!(within(65_536).memory_kib(), 65_536);
    assert_eq!(within(65_535).unusable(), Some(Unusable::OutOfBounds));
    assert_eq!(within(65_535).memory_kib(), 19_456, "what is computed in its place");
}
