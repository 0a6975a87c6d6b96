//! Passwords: how they are stored, hashed, compared and paid for.

mod floor;
mod formats;
mod pool;

use std::time::{Duration, Instant};

use argon2::{Argon2, password_hash::PasswordHasher};
use subtle::ConstantTimeEq;

pub use self::{
    floor::Floor,
    formats::{Cost, Stored, Unusable},
    pool::{Busy, HashingPool, default_threads},
};
use super::config::PasswordPolicy;

/// Longest password accepted, in bytes (OWASP asks for 64 characters at least; hashing must not
/// be made dear by length).
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// Fewest characters of a new password (NIST SP 800-63B asks for eight at least).
pub const MIN_PASSWORD_CHARACTERS: usize = 8;

/// Why a text cannot become a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is easily guessed.
    #[error("Password too short: at least {MIN_PASSWORD_CHARACTERS} characters")]
    TooShort,
    /// No login would take it.
    #[error("Password too long: at most {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
}

/// Checks what people choose as a new password, wherever they do.
///
/// # Errors
/// Why it cannot be taken.
pub fn check_new(password: &str) -> Result<(), Unfit> {
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(Unfit::TooLong);
    }
    if password.chars().count() < MIN_PASSWORD_CHARACTERS { Err(Unfit::TooShort) } else { Ok(()) }
}

/// A password could not be hashed, which only a lack of memory or randomness can cause.
#[derive(Debug, thiserror::Error)]
#[error("the password could not be hashed: {0}")]
pub struct HashError(String);

/// Hashes a password as every new one is: Argon2id with 19 MiB, two passes, one lane (the OWASP
/// minimum), a random salt; as PHC string.
///
/// # Errors
/// No memory or no randomness.
pub fn hash(password: &[u8]) -> Result<String, HashError> {
    Argon2::default()
        .hash_password(password)
        .map(|hash| hash.to_string())
        .map_err(|error| HashError(error.to_string()))
}

/// What verifying a password came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The password is the stored one.
    pub matches: bool,
    /// The new form to store, where the stored one is old and was verified.
    pub rehashed: Option<String>,
    /// What was computed and how long it took, for [`Floor`].
    pub spent: (Cost, Duration),
}

/// Verifies a password against the stored value, `None` standing for an unknown user. Whatever
/// cannot match costs an Argon2id computation all the same, so that time tells nothing.
#[must_use]
pub fn verify(stored: Option<&str>, password: &[u8], policy: PasswordPolicy) -> Outcome {
    let stored = if password.len() > MAX_PASSWORD_BYTES { None } else { stored };
    match stored.map(|stored| Stored::parse(stored, policy.plaintext)) {
        Some(Ok(Stored::Argon2(row))) => {
            let start = Instant::now();
            let matches = row.verify(password);
            let spent = (row.cost(), start.elapsed());
            let rehashed = (matches && policy.rehash && row.is_old()).then(|| hash(password).ok()).flatten();
            Outcome { matches, rehashed, spent }
        }
        Some(Ok(Stored::Plaintext(expected))) => {
            let matches = bool::from(expected.as_bytes().ct_eq(password));
            // The computation that hides a mismatch is the one that a match stores.
            let (hash, spent) = spend(password);
            Outcome { matches, rehashed: hash.filter(|_| matches && policy.rehash), spent }
        }
        Some(Err(_)) | None => {
            let shown = password.get(..MAX_PASSWORD_BYTES).unwrap_or(password);
            Outcome { matches: false, rehashed: None, spent: spend(shown).1 }
        }
    }
}

fn spend(password: &[u8]) -> (Option<String>, (Cost, Duration)) {
    let start = Instant::now();
    let hash = hash(password).ok();
    (hash, (Cost::of_new(), start.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: PasswordPolicy = PasswordPolicy { plaintext: true, rehash: true };
    const MODERN: PasswordPolicy = PasswordPolicy { plaintext: false, rehash: true };
    const AS_IS: PasswordPolicy = PasswordPolicy { plaintext: true, rehash: false };

    #[test]
    fn a_new_hash_is_argon2id_and_verifies() {
        let stored = hash(b"correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        let right = verify(Some(&stored), b"correct horse", MODERN);
        assert_eq!((right.matches, right.rehashed), (true, None));
        assert!(!verify(Some(&stored), b"correct hors", MODERN).matches);
    }

    #[test]
    fn plain_text_is_accepted_only_where_allowed_and_rehashed_only_where_wanted() {
        let outcome = verify(Some("Admin123"), b"Admin123", ALL);
        assert!(outcome.matches && verify(outcome.rehashed.as_deref(), b"Admin123", MODERN).matches);
        let wrong = verify(Some("Admin123"), b"Admin124", ALL);
        assert_eq!((wrong.matches, wrong.rehashed), (false, None));
        let kept = verify(Some("Admin123"), b"Admin123", AS_IS);
        assert_eq!((kept.matches, kept.rehashed), (true, None));
        assert!(!verify(Some("Admin123"), b"Admin123", MODERN).matches);
    }

    #[test]
    fn a_stored_hash_is_never_a_password() {
        let stored = hash(b"secret").unwrap();
        for stored in [
            stored.as_str(),
            "$2b$12$abcdefghijklmnopqrstuv",
            "pbkdf2:sha256:1$a$b",
            "{SSHA}abc=",
            "$argon2id$broken",
        ] {
            assert!(!verify(Some(stored), stored.as_bytes(), ALL).matches, "{stored}");
        }
    }

    #[test]
    fn a_new_password_has_eight_characters_and_at_most_1024_bytes() {
        assert_eq!(check_new("1234567"), Err(Unfit::TooShort));
        assert_eq!(check_new("пароль1"), Err(Unfit::TooShort), "characters, not bytes");
        assert_eq!(check_new("пароль12"), Ok(()));
        assert_eq!(check_new(&"x".repeat(MAX_PASSWORD_BYTES)), Ok(()));
        assert_eq!(check_new(&"x".repeat(MAX_PASSWORD_BYTES + 1)), Err(Unfit::TooLong));
    }

    #[test]
    fn an_overlong_password_never_matches() {
        let long = "x".repeat(MAX_PASSWORD_BYTES + 1);
        assert!(!verify(Some(&long), long.as_bytes(), ALL).matches);
        let longest = "x".repeat(MAX_PASSWORD_BYTES);
        assert!(verify(Some(&longest), longest.as_bytes(), ALL).matches);
    }

    #[test]
    fn a_weaker_hash_is_replaced_and_a_stronger_one_kept() {
        let with = |m, t| {
            let params = argon2::Params::new(m, t, 1, None).unwrap();
            Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
                .hash_password(b"pw")
                .unwrap()
                .to_string()
        };
        assert!(verify(Some(&with(8192, 1)), b"pw", MODERN).rehashed.is_some());
        assert_eq!(verify(Some(&with(32_768, 2)), b"pw", MODERN).rehashed, None);
    }
}
