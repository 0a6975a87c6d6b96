//! The parameters of new hashes, and the hashes.

use std::fmt;

use argon2::{Algorithm, Version};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::{HashError, Kdf};
use crate::contract::argon2 as bounds;

/// Bytes of a new salt (RFC 9106 §3.1).
const SALT_BYTES: usize = 16;
/// Bytes of a new digest.
const DIGEST_BYTES: usize = 32;

/// The parameters of new Argon2id hashes: those of OWASP's first recommendation unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2id {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes; computed one after the other, so they make a hash neither faster nor dearer here.
    pub parallelism: u32,
}

impl Default for Argon2id {
    fn default() -> Self {
        Self {
            memory_kib: bounds::DEFAULT_MEMORY_KIB,
            iterations: bounds::DEFAULT_ITERATIONS,
            parallelism: bounds::DEFAULT_PARALLELISM,
        }
    }
}

/// Why parameters are refused that are each within their range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsuitable {
    /// Weaker than every set that OWASP calls sufficient.
    TooWeak,
    /// One hash would take more than about a second.
    TooDear,
}

impl fmt::Display for Unsuitable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TooWeak => "is weaker than OWASP's minimum",
            Self::TooDear => "takes more than about a second",
        })
    }
}

impl Unsuitable {
    /// What to do.
    #[must_use]
    pub fn cure(self) -> String {
        match self {
            Self::TooWeak => {
                let sets = bounds::EQUALLY_STRONG.map(|(memory_kib, iterations)| {
                    format!(
                        "{memory_kib} KiB for {iterations} iteration{}",
                        if iterations == 1 { "" } else { "s" }
                    )
                });
                format!("use at least one of: {}", sets.join(", "))
            }
            Self::TooDear => {
                format!("keep memory in KiB times iterations at or below {}", bounds::MAX_WORK_KIB)
            }
        }
    }
}

impl Argon2id {
    /// Checks what no single range can say.
    ///
    /// # Errors
    /// Too weak or too dear.
    pub fn check(self) -> Result<(), Unsuitable> {
        if !is_strong(self.memory_kib, self.iterations) {
            return Err(Unsuitable::TooWeak);
        }
        if self.memory_kib.saturating_mul(self.iterations) > bounds::MAX_WORK_KIB {
            return Err(Unsuitable::TooDear);
        }
        Ok(())
    }

    /// Hashes a password with a random salt; as PHC string.
    ///
    /// # Errors
    /// It could not be computed.
    pub fn hash(self, password: &[u8]) -> Result<String, HashError> {
        let salt: [u8; SALT_BYTES] = rand::random();
        let mut digest = [0; DIGEST_BYTES];
        self.kdf().derive(password, &salt, &mut digest)?;
        let Self { memory_kib, iterations, parallelism } = self;
        let [salt, digest] = [salt.as_slice(), &digest].map(|bytes| STANDARD_NO_PAD.encode(bytes));
        Ok(format!("$argon2id$v=19$m={memory_kib},t={iterations},p={parallelism}${salt}${digest}"))
    }

    /// The computation of a new hash.
    #[must_use]
    pub fn kdf(self) -> Kdf {
        Kdf::Argon2 {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            memory_kib: self.memory_kib,
            passes: self.iterations,
            lanes: self.parallelism,
        }
    }

    /// Characters of a new hash.
    #[must_use]
    pub fn hash_length(self) -> u64 {
        // Salt and digest have 22 and 43 characters of Base64.
        let parameters = format!("m={},t={},p={}", self.memory_kib, self.iterations, self.parallelism);
        "$argon2id$v=19$".len() as u64 + parameters.len() as u64 + 1 + 22 + 1 + 43
    }

    /// Whether a new hash is better than one that was computed so. A stronger one is kept: lower
    /// parameters are asked for to make new hashes cheap, not to weaken old ones.
    #[must_use]
    pub(super) fn improves_on(self, stored: Kdf) -> bool {
        let Kdf::Argon2 { algorithm, version, memory_kib, passes, .. } = stored else { return true };
        algorithm != Algorithm::Argon2id
            || version != Version::V0x13
            || !is_strong(memory_kib, passes)
            || u64::from(memory_kib) * u64::from(passes)
                < u64::from(self.memory_kib) * u64::from(self.iterations)
    }
}

/// Whether one of OWASP's sets asks for no more.
fn is_strong(memory_kib: u32, iterations: u32) -> bool {
    bounds::EQUALLY_STRONG.iter().any(|(memory, passes)| memory_kib >= *memory && iterations >= *passes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(memory_kib: u32, iterations: u32) -> Argon2id {
        Argon2id { memory_kib, iterations, parallelism: 1 }
    }

    fn stored(memory_kib: u32, passes: u32) -> Kdf {
        parameters(memory_kib, passes).kdf()
    }

    #[test]
    fn a_new_hash_tells_its_parameters_and_has_the_length_that_is_foretold() {
        for (parameters, begins) in [
            (Argon2id::default(), "$argon2id$v=19$m=19456,t=2,p=1$"),
            (
                Argon2id { memory_kib: 7168, iterations: 10, parallelism: 4 },
                "$argon2id$v=19$m=7168,t=10,p=4$",
            ),
        ] {
            let hash = parameters.hash(b"correct horse").unwrap();
            assert!(hash.starts_with(begins), "{hash}");
            assert_eq!(hash.len() as u64, parameters.hash_length());
        }
    }

    #[test]
    fn nothing_weaker_than_owasp_asks_for_and_nothing_dearer_than_a_second() {
        for (memory, iterations) in bounds::EQUALLY_STRONG {
            assert_eq!(parameters(memory, iterations).check(), Ok(()));
            assert_eq!(parameters(memory - 1, iterations).check(), Err(Unsuitable::TooWeak));
        }
        assert_eq!(parameters(131_072, 1).check(), Ok(()));
        assert_eq!(parameters(131_072, 8).check(), Ok(()));
        assert_eq!(parameters(131_072, 9).check(), Err(Unsuitable::TooDear));
        assert_eq!(
            Unsuitable::TooWeak.cure(),
            "use at least one of: 47104 KiB for 1 iteration, 19456 KiB for 2 iterations, \
             12288 KiB for 3 iterations, 9216 KiB for 4 iterations, 7168 KiB for 5 iterations"
        );
    }

    #[test]
    fn what_is_weaker_than_configured_is_old_and_what_is_stronger_is_kept() {
        let configured = Argon2id::default();
        assert!(!configured.improves_on(stored(19_456, 2)));
        assert!(!configured.improves_on(stored(65_536, 3)));
        assert!(!configured.improves_on(Kdf::Argon2 {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            memory_kib: 19_456,
            passes: 2,
            lanes: 8
        }));
        assert!(configured.improves_on(stored(8192, 1)));
        assert!(configured.improves_on(stored(2500, 16)), "as much work, but too little memory");
        assert!(configured.improves_on(Kdf::Bcrypt { cost: 14 }));
        assert!(parameters(65_536, 3).improves_on(stored(19_456, 2)));
        let argon2i =
            |algorithm, version| Kdf::Argon2 { algorithm, version, memory_kib: 131_072, passes: 4, lanes: 1 };
        assert!(configured.improves_on(argon2i(Algorithm::Argon2i, Version::V0x13)));
        assert!(configured.improves_on(argon2i(Algorithm::Argon2id, Version::V0x10)));
    }
}
