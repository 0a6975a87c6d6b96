//! Passwords that are set: what is asked of them, and how they are hashed.

use super::{Argon2id, HashError, MAX_PASSWORD_BYTES};

/// What is asked of a password that is set, and how it is hashed. A login asks for nothing: a rule that
/// comes later must lock nobody out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPasswords {
    /// Parameters of the hash.
    pub argon2: Argon2id,
    /// Fewest characters.
    pub min_length: usize,
}

/// Why a password is not set.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It has this many characters; fewer than so many are refused.
    #[error("the password has {0} character{plural}, the least is {1}", plural = if *.0 == 1 { "" } else { "s" })]
    TooShort(usize, usize),
    /// It has more bytes than any login could send.
    #[error("the password is longer than {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    /// It could not be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl NewPasswords {
    /// Whether a password meets the rules.
    ///
    /// # Errors
    /// Too short or too long.
    pub fn check(self, password: &[u8]) -> Result<(), Refused> {
        // What is not UTF-8 counts as Latin-1, as it does in a login.
        let characters =
            std::str::from_utf8(password).map_or(password.len(), |password| password.chars().count());
        if characters < self.min_length {
            return Err(Refused::TooShort(characters, self.min_length));
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(Refused::TooLong);
        }
        Ok(())
    }

    /// Hashes a password that meets the rules.
    ///
    /// # Errors
    /// Too short, too long, or it could not be hashed.
    pub fn hash(self, password: &[u8]) -> Result<String, Refused> {
        self.check(password)?;
        Ok(self.argon2.hash(password)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_and_not_bytes() {
        let rules = NewPasswords { argon2: Argon2id::default(), min_length: 8 };
        let refusal = |password: &[u8]| rules.hash(password).err().map(|refused| refused.to_string());
        assert_eq!(refusal("пароль42".as_bytes()), None);
        assert_eq!(refusal(b"latin-1\xe4"), None);
        assert_eq!(refusal("äöüßé".as_bytes()).unwrap(), "the password has 5 characters, the least is 8");
        assert_eq!(refusal(b"x").unwrap(), "the password has 1 character, the least is 8");
        assert_eq!(refusal(&[b'x'; 1025]).unwrap(), "the password is longer than 1024 bytes");
        assert_eq!(refusal(&[b'x'; 1024]), None);
    }
}
