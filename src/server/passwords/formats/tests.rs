use super::{super::MAX_MEMORY_KIB, *};

fn all() -> LegacyFormats {
    LegacyFormat::ALL.into_iter().collect()
}

fn fault(stored: &str) -> Option<Unusable> {
    Stored::parse(stored, all(), MAX_MEMORY_KIB).err()
}

#[test]
fn hashes_of_other_software_are_no_plain_text() {
    for stored in [
        "$6$salt$hash",
        "$y$j9T$salt$hash",
        "$unheard-of$abcdefghij",
        "$2x$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "{SSHA512}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "{PBKDF2-SHA256}29000$R0hSd0JhbGFuY2U$yxGZ8L",
        "{bcrypt}$2a$10$dXJ3SW6G7P50lGmMkkmwe.20cQQubK3.HZWzG3YB1tlRy.fqvM/BG",
        "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        "5E884898DA28047151D0E56F8DC6292773603D0D6AABBDD62A11EF721D1542D8",
        "sha256$Yq0dxkPN$4f0ba4fc4b9d0e3c5a",
        "pbkdf2_sha256$600000$salt$hash",
        "bcrypt$$2b$12$abc",
    ] {
        assert_eq!(fault(stored), Some(Unusable::Unknown), "{stored}");
    }
    for stored in [
        "Admin123",
        "$ecret",
        "{curly}",
        "*star",
        "$2",
        "100$",
        "$a$b",
        "bcrypt fan",
        "deadbeef",
        "md5 is broken",
    ] {
        assert_eq!(fault(stored), None, "{stored}");
    }
    assert_eq!(fault(""), Some(Unusable::Empty));
    assert_eq!(fault(&"x".repeat(2048)), None);
    assert_eq!(fault(&"x".repeat(2049)), Some(Unusable::Unknown));
    assert_eq!(fault(&"{}".repeat(100_000)), Some(Unusable::Unknown));
}

#[test]
fn damaged_hashes_are_no_hashes() {
    let bcrypt = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW";
    assert_eq!(fault(bcrypt), None);
    for stored in [
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$",
        "$argon2id$v=19$m=19456,t=2$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=19456,t=2,p=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=+19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=20$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA",
        "$argon2x$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=19456,t=2,p=1,data=AAAA$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2",
        "$2b$",
        "$2b$12$",
        "$2b$12$short",
        &bcrypt[..59],
        &format!("{bcrypt}x"),
        "$2b$12$ü9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "pbkdf2:",
        "pbkdf2:sha256",
        "pbkdf2:md5:1000$salt$00000000000000000000000000000000",
        "pbkdf2:sha256:1000:1$salt$00000000000000000000000000000000",
        "pbkdf2:sha256:1000$salt$0000000000000000000000000000000",
        "pbkdf2:sha256:1000$salt$0000000000000000000000000000000ä",
        "pbkdf2:sha256:1000$salt$00",
        "scrypt:32767:8:1$salt$00000000000000000000000000000000",
        "scrypt:32768:8$salt$00000000000000000000000000000000",
        "scrypt:0:8:1$salt$00000000000000000000000000000000",
        "$scrypt$ln=17,r=8$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$scrypt$ln=300,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$pbkdf2-sha256$$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$pbkdf2-sha256$1000$c2FsdHNhbHQ",
    ] {
        assert_eq!(fault(stored), Some(Unusable::Unknown), "{stored}");
    }
}

#[test]
fn a_hash_beyond_the_bounds_is_not_computed() {
    let zeros = "0".repeat(64);
    for stored in [
        "$argon2id$v=19$m=131073,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".to_owned(),
        "$argon2id$v=19$m=4294967295,t=4294967295,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".to_owned(),
        "$2b$15$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned(),
        "$2b$31$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned(),
        format!("pbkdf2:sha256:100000000$salt${zeros}"),
        format!("pbkdf2:sha256:1$salt${zeros}"),
        format!("scrypt:262144:8:1$salt${zeros}"),
        "$pbkdf2-sha512$i=4294967295$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".to_owned(),
        "$scrypt$ln=31,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".to_owned(),
        "$scrypt$ln=14,r=4294967295,p=4294967295$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".to_owned(),
    ] {
        assert_eq!(fault(&stored), Some(Unusable::OutOfBounds), "{stored}");
    }
}

#[test]
fn the_parameters_of_a_form_alone_tell_its_computations() {
    let found = |parameters: &str| accepted_kdfs(parameters, all(), MAX_MEMORY_KIB);
    assert_eq!(found("$2b$12"), [Kdf::Bcrypt { cost: 12 }]);
    assert_eq!(found("scrypt:32768:8:1"), [Kdf::Scrypt { log_n: 15, block_size: 8, repetitions: 1 }]);
    assert_eq!(found("$argon2id$v=19$m=19456,t=2,p=1"), [Argon2id::default().kdf()]);
    assert_eq!(found("pbkdf2:sha256").len(), 6);
    assert_eq!(found("$2b$31"), []);
    assert_eq!(found("hunter2"), []);
    assert_eq!(accepted_kdfs("$2b$12", LegacyFormats::default(), MAX_MEMORY_KIB), []);
}

/// Nothing that can be stored makes parsing panic: every prefix, and every single letter changed.
#[test]
fn no_damage_to_a_hash_brings_anything_down() {
    for stored in [
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "pbkdf2:sha256:600000$salt$00112233445566778899aabbccddeeff",
        "scrypt:32768:8:1$salt$00112233445566778899aabbccddeeff",
        "$pbkdf2-sha512$25000$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$scrypt$ln=17,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
    ] {
        for end in 0..stored.len() {
            let _ = fault(&stored[..end]);
            for letter in ["$", ",", "=", ":", "9", "ü", "\0", ""] {
                let _ = fault(&format!("{}{letter}{}", &stored[..end], &stored[end + 1..]));
            }
        }
    }
}
