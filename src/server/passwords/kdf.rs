//! The computations behind stored hashes, each bounded before it runs: whoever can write a row must
//! not be able to exhaust a pod.

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use pbkdf2::{pbkdf2_hmac, pbkdf2_hmac_with_params};
use sha1::Sha1;

use super::{HashError, scratch::with_blocks};
use crate::contract::argon2::{ITERATIONS, MAX_WORK_KIB, MEMORY_KIB};

/// Most memory one computation may take, in KiB: 128 MiB is the dearest default among the servers
/// whose hashes people bring along.
pub const MAX_MEMORY_KIB: u32 = *MEMORY_KIB.end();
/// Most lanes of Argon2, and most repetitions of scrypt.
const MAX_LANES: u32 = 16;
/// Each step doubles the time; about a second.
const MAX_BCRYPT_COST: u32 = 14;
/// bcrypt knows nothing below.
const MIN_BCRYPT_COST: u32 = 4;
/// Bytes of a password that bcrypt looks at.
const BCRYPT_BYTES: usize = 72;
/// NIST SP 800-132 §5.2 asks for at least as many.
const MIN_PBKDF2_ITERATIONS: u32 = 1000;
/// The memory of one unit of scrypt's block size, in bytes.
const SCRYPT_BLOCK_BYTES: u64 = 128;
/// Most of scrypt's N × r × p, which bounds the time to about a second.
const MAX_SCRYPT_WORK: u64 = 1 << 21;

/// The hash function inside PBKDF2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Digest {
    /// Bytes of its output, which is one block of PBKDF2.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Most iterations: about a second without instructions made for the purpose.
    fn max_iterations(self) -> u32 {
        match self {
            Self::Sha1 | Self::Sha256 => 2_100_000,
            Self::Sha512 => 1_000_000,
        }
    }
}

/// A key derivation function with its parameters. Those that are equal take equal time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kdf {
    /// Argon2 (RFC 9106).
    Argon2 {
        /// Argon2id, and its relatives that other software uses.
        algorithm: Algorithm,
        /// 1.3, or the older 1.0.
        version: Version,
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// bcrypt.
    Bcrypt {
        /// The binary logarithm of its rounds.
        cost: u32,
    },
    /// One block of PBKDF2 (RFC 8018 §5.2).
    Pbkdf2 {
        /// The function inside.
        digest: Digest,
        /// Iterations.
        iterations: u32,
    },
    /// scrypt (RFC 7914).
    Scrypt {
        /// The binary logarithm of N.
        log_n: u8,
        /// The block size r.
        block_size: u32,
        /// The repetitions p.
        repetitions: u32,
    },
}

impl Kdf {
    /// Whether it stays within the bounds: about a second and 128 MiB at most, and nothing that the
    /// function itself does not know.
    #[must_use]
    pub fn is_bearable(self) -> bool {
        let within = match self {
            Self::Argon2 { memory_kib, passes, lanes, .. } => {
                (1..=MAX_LANES).contains(&lanes)
                    && ITERATIONS.contains(&passes)
                    && memory_kib >= 8 * lanes
                    && self.work() <= u64::from(MAX_WORK_KIB)
            }
            Self::Bcrypt { cost } => (MIN_BCRYPT_COST..=MAX_BCRYPT_COST).contains(&cost),
            Self::Pbkdf2 { digest, iterations } => {
                (MIN_PBKDF2_ITERATIONS..=digest.max_iterations()).contains(&iterations)
            }
            Self::Scrypt { log_n, block_size, repetitions } => {
                (1..=20).contains(&log_n)
                    && block_size > 0
                    && (1..=MAX_LANES).contains(&repetitions)
                    && self.work() <= MAX_SCRYPT_WORK
            }
        };
        within && self.memory_kib() <= MAX_MEMORY_KIB
    }

    /// The memory it takes, in KiB.
    #[must_use]
    pub fn memory_kib(self) -> u32 {
        match self {
            Self::Argon2 { memory_kib, .. } => memory_kib,
            Self::Bcrypt { .. } | Self::Pbkdf2 { .. } => 4,
            Self::Scrypt { log_n, block_size, .. } => {
                let bytes = (u64::from(block_size) * SCRYPT_BLOCK_BYTES).saturating_mul(1 << log_n.min(32));
                u32::try_from(bytes / 1024).unwrap_or(u32::MAX)
            }
        }
    }

    /// What grows with its time, comparable within one function.
    #[must_use]
    pub fn work(self) -> u64 {
        match self {
            Self::Argon2 { memory_kib, passes, .. } => u64::from(memory_kib) * u64::from(passes),
            Self::Bcrypt { cost } => u64::from(cost),
            Self::Pbkdf2 { iterations, .. } => u64::from(iterations),
            Self::Scrypt { log_n, block_size, repetitions } => {
                (u64::from(block_size) * u64::from(repetitions)).saturating_mul(1 << log_n.min(32))
            }
        }
    }

    /// Whether both are the same function, so that their [`work`](Self::work) compares.
    #[must_use]
    pub fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Pbkdf2 { digest, .. }, Self::Pbkdf2 { digest: other, .. }) => digest == other,
            _ => std::mem::discriminant(&self) == std::mem::discriminant(&other),
        }
    }

    /// Whether it looks at every byte of a password. bcrypt stops after 72 and takes a NUL for the
    /// end; what it did not look at was never verified.
    pub(super) fn covers(self, password: &[u8]) -> bool {
        !matches!(self, Self::Bcrypt { .. }) || (password.len() <= BCRYPT_BYTES && !password.contains(&0))
    }

    /// Fills `output` from password and salt. bcrypt gives 23 bytes and takes a salt of 16.
    pub(super) fn derive(self, password: &[u8], salt: &[u8], output: &mut [u8]) -> Result<(), HashError> {
        let failed = |error: &dyn std::fmt::Display| HashError(error.to_string());
        match self {
            Self::Argon2 { algorithm, version, memory_kib, passes, lanes } => {
                let params = Params::new(memory_kib, passes, lanes, None).map_err(|error| failed(&error))?;
                with_blocks(params.block_count(), |blocks| {
                    Argon2::new(algorithm, version, params)
                        .hash_password_into_with_memory(password, salt, output, blocks)
                        .map_err(|error| failed(&error))
                })
            }
            Self::Bcrypt { cost } => {
                let salt = salt.try_into().map_err(|_| failed(&"bcrypt takes a salt of 16 bytes"))?;
                let mut key = [0; BCRYPT_BYTES];
                // The key ends in a NUL where there is room for one.
                let taken = password.len().min(BCRYPT_BYTES);
                key[..taken].copy_from_slice(&password[..taken]);
                let hash = bcrypt::bcrypt(cost, salt, &key[..(taken + 1).min(BCRYPT_BYTES)]);
                let length = output.len().min(hash.len());
                output[..length].copy_from_slice(&hash[..length]);
                Ok(())
            }
            Self::Pbkdf2 { digest, iterations } => {
                let sha2 = match digest {
                    Digest::Sha1 => {
                        pbkdf2_hmac::<Sha1>(password, salt, iterations, output);
                        return Ok(());
                    }
                    Digest::Sha256 => pbkdf2::Algorithm::Pbkdf2Sha256,
                    Digest::Sha512 => pbkdf2::Algorithm::Pbkdf2Sha512,
                };
                let params = pbkdf2::Params::new(iterations).map_err(|error| failed(&error))?;
                pbkdf2_hmac_with_params(password, salt, sha2, params, output);
                Ok(())
            }
            Self::Scrypt { log_n, block_size, repetitions } => {
                let params =
                    scrypt::Params::new(log_n, block_size, repetitions).map_err(|error| failed(&error))?;
                scrypt::scrypt(password, salt, &params, output).map_err(|error| failed(&error))
            }
        }
    }

    /// How long it takes here and now.
    ///
    /// # Errors
    /// It cannot be computed.
    pub fn measure(self) -> Result<Duration, HashError> {
        let start = Instant::now();
        self.derive(b"a password of some length", &[7; 16], &mut [0; 20])?;
        Ok(start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argon2(memory_kib: u32, passes: u32, lanes: u32) -> Kdf {
        Kdf::Argon2 { algorithm: Algorithm::Argon2id, version: Version::V0x13, memory_kib, passes, lanes }
    }

    fn scrypt(log_n: u8, block_size: u32, repetitions: u32) -> Kdf {
        Kdf::Scrypt { log_n, block_size, repetitions }
    }

    #[test]
    fn what_is_beyond_the_bounds_is_not_computed() {
        let bearable = [
            argon2(131_072, 8, 4),
            argon2(8, 1, 1),
            argon2(32, 1, 4),
            Kdf::Bcrypt { cost: 4 },
            Kdf::Bcrypt { cost: 14 },
            Kdf::Pbkdf2 { digest: Digest::Sha256, iterations: 2_100_000 },
            Kdf::Pbkdf2 { digest: Digest::Sha1, iterations: 1000 },
            scrypt(17, 8, 1),
            scrypt(15, 8, 8),
            scrypt(14, 8, 16),
        ];
        let refused = [
            argon2(131_073, 1, 1),
            argon2(u32::MAX, u32::MAX, 1),
            argon2(8192, 17, 1),
            argon2(19_456, 2, 17),
            argon2(131_072, 9, 1),
            argon2(7, 1, 1),
            argon2(31, 1, 4),
            argon2(19_456, 0, 1),
            argon2(19_456, 2, 0),
            Kdf::Bcrypt { cost: 3 },
            Kdf::Bcrypt { cost: 15 },
            Kdf::Bcrypt { cost: u32::MAX },
            Kdf::Pbkdf2 { digest: Digest::Sha512, iterations: 1_000_001 },
            Kdf::Pbkdf2 { digest: Digest::Sha256, iterations: 999 },
            scrypt(17, 9, 1),
            scrypt(18, 8, 1),
            scrypt(17, 8, 3),
            scrypt(10, 8, 17),
            scrypt(255, u32::MAX, u32::MAX),
            scrypt(0, 8, 1),
            scrypt(14, 0, 1),
            scrypt(14, 8, 0),
        ];
        for kdf in bearable {
            assert!(kdf.is_bearable(), "{kdf:?}");
        }
        for kdf in refused {
            assert!(!kdf.is_bearable(), "{kdf:?}");
        }
    }

    /// The vectors of RFC 6070 (its fourth, the one of many iterations), RFC 7914 §12 and of bcrypt's
    /// own test program.
    #[test]
    fn published_vectors_come_out() {
        let derived = |kdf: Kdf, password: &str, salt: &[u8], length: usize| {
            let mut output = vec![0; length];
            kdf.derive(password.as_bytes(), salt, &mut output).unwrap();
            output.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
        };
        let sha1 = Kdf::Pbkdf2 { digest: Digest::Sha1, iterations: 4096 };
        assert_eq!(derived(sha1, "password", b"salt", 20), "4b007901b765489abead49d926f721d065a429c1");
        let sha256 = Kdf::Pbkdf2 { digest: Digest::Sha256, iterations: 80_000 };
        assert_eq!(
            derived(sha256, "Password", b"NaCl", 32),
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
        );
        assert_eq!(
            derived(scrypt(14, 8, 1), "pleaseletmein", b"SodiumChloride", 64),
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2\
             d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
        );
        // $2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.
        let salt =
            [0x14, 0x4b, 0x3d, 0x69, 0x1a, 0x7b, 0x4e, 0xcf, 0x39, 0xcf, 0x73, 0x5c, 0x7f, 0xa7, 0xa7, 0x9c];
        assert_eq!(
            derived(Kdf::Bcrypt { cost: 6 }, "", &salt, 23),
            "557e94f34bf286e8719a26be94ac1e16d95ef9f819dee0"
        );
    }

    #[test]
    fn memory_that_was_kept_has_no_part_in_the_next_computation() {
        let derived = |kdf: Kdf| {
            let mut output = [0; 32];
            kdf.derive(b"password", b"some salt", &mut output).unwrap();
            output
        };
        let kdfs = [argon2(256, 3, 4), argon2(64, 2, 1), argon2(200, 1, 2)];
        let fresh = kdfs.map(derived);
        super::super::scratch::keep_up_to(1024);
        for _ in 0..2 {
            assert_eq!(kdfs.map(derived), fresh);
        }
    }

    #[test]
    fn bcrypt_does_not_cover_what_it_does_not_look_at() {
        let bcrypt = Kdf::Bcrypt { cost: 4 };
        assert!(bcrypt.covers(&[b'x'; 72]));
        assert!(!bcrypt.covers(&[b'x'; 73]) && !bcrypt.covers(b"a\0b"));
        assert!(argon2(8, 1, 1).covers(&[0; 1000]));
    }
}
