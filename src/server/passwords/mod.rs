//! Passwords: how they are stored, hashed, compared and paid for.

mod argon2id;
pub mod calibrate;
mod capacity;
mod floor;
mod formats;
mod kdf;
mod legacy;
mod new;
mod pool;
mod scratch;

use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

pub use self::{
    argon2id::{Argon2id, Unsuitable},
    capacity::Capacity,
    floor::Floor,
    formats::{Stored, StoredHash, Unusable, accepted_kdfs},
    kdf::{Digest, Kdf, MAX_MEMORY_KIB},
    legacy::LegacyFormats,
    new::{NewPasswords, Refused},
    pool::{Busy, HashingPool},
};
use super::config::PasswordPolicy;

/// Longest password accepted, in bytes (OWASP asks for 64 characters at least; hashing must not
/// be made dear by length).
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// A password could not be hashed, which only a lack of memory or randomness can cause.
#[derive(Debug, thiserror::Error)]
#[error("the password could not be hashed: {0}")]
pub struct HashError(String);

/// A verification before it runs: what it takes can be told and paid for.
pub struct Verification {
    against: Against,
    policy: PasswordPolicy,
}

enum Against {
    Stored(Stored),
    /// A row that no password matches.
    Unusable(Unusable),
    Nobody,
}

/// What verifying a password came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The password is the stored one.
    pub matches: bool,
    /// The new form to store, where the stored one is old and was verified.
    pub rehashed: Option<String>,
    /// What was computed and how long it took, for [`Floor`].
    pub spent: (Kdf, Duration),
}

impl Verification {
    /// Prepares it against the stored value, `None` standing for an unknown user. What needs more than
    /// `most_kib` of memory is not computed.
    #[must_use]
    pub fn against(stored: Option<&str>, policy: PasswordPolicy, most_kib: u32) -> Self {
        let against = match stored.map(|stored| Stored::parse(stored, policy.legacy, most_kib)) {
            Some(Ok(stored)) => Against::Stored(stored),
            Some(Err(unusable)) => Against::Unusable(unusable),
            None => Against::Nobody,
        };
        Self { against, policy }
    }

    /// Why no password matches the row; `None` when one does, or there is no row.
    #[must_use]
    pub fn unusable(&self) -> Option<Unusable> {
        match self.against {
            Against::Unusable(unusable) => Some(unusable),
            Against::Stored(_) | Against::Nobody => None,
        }
    }

    /// Most memory it takes, in KiB.
    #[must_use]
    pub fn memory_kib(&self) -> u32 {
        let new = self.policy.new.argon2.memory_kib;
        let stored = match &self.against {
            Against::Stored(Stored::Hash(hash)) => hash.kdf().map_or(0, Kdf::memory_kib),
            Against::Stored(Stored::Plaintext(_)) | Against::Unusable(_) | Against::Nobody => 0,
        };
        new.max(stored)
    }

    /// Verifies the password. Whatever cannot match costs a hash all the same, so that time tells nothing.
    #[must_use]
    pub fn run(&self, password: &[u8]) -> Outcome {
        let Self { against, policy } = self;
        match against {
            _ if password.len() > MAX_PASSWORD_BYTES => self.in_vain(&password[..MAX_PASSWORD_BYTES]),
            Against::Stored(Stored::Hash(hash)) => self.with_hash(hash, password),
            Against::Stored(Stored::Plaintext(expected)) => {
                let matches = bool::from(expected.as_bytes().ct_eq(password));
                // The computation that hides a mismatch is the one that a match stores.
                let (hash, spent) = self.spend(password);
                Outcome { matches, rehashed: hash.filter(|_| matches && policy.rehash), spent }
            }
            Against::Unusable(_) | Against::Nobody => self.in_vain(password),
        }
    }

    fn with_hash(&self, hash: &StoredHash, password: &[u8]) -> Outcome {
        let policy = &self.policy;
        let start = Instant::now();
        let matches = hash.matches(password);
        let spent = (hash.kdf().unwrap_or_else(|| policy.new.argon2.kdf()), start.elapsed());
        let replace = matches && policy.rehash && hash.should_become(policy.new.argon2, password);
        let rehashed = replace.then(|| policy.new.argon2.hash(password).ok()).flatten();
        Outcome { matches, rehashed, spent }
    }

    fn in_vain(&self, password: &[u8]) -> Outcome {
        Outcome { matches: false, rehashed: None, spent: self.spend(password).1 }
    }

    fn spend(&self, password: &[u8]) -> (Option<String>, (Kdf, Duration)) {
        let start = Instant::now();
        let hash = self.policy.new.argon2.hash(password).ok();
        (hash, (self.policy.new.argon2.kdf(), start.elapsed()))
    }
}

#[cfg(test)]
mod tests;
