//! What the server's commands are told of passwords. What spec leaves out is left to them.

use crate::{api::AuthServiceSpec, contract::env};

/// Variables with what is asked of new passwords, and the parameters of their hashes.
pub(super) fn new_passwords(spec: &AuthServiceSpec) -> Vec<(&'static str, String)> {
    let passwords = spec.passwords.as_ref();
    let argon2 = passwords.and_then(|passwords| passwords.argon2.as_ref());
    let parameters = [
        (env::ARGON2_MEMORY_KIB, argon2.and_then(|argon2| argon2.memory_kib)),
        (env::ARGON2_ITERATIONS, argon2.and_then(|argon2| argon2.iterations)),
        (env::ARGON2_PARALLELISM, argon2.and_then(|argon2| argon2.parallelism)),
        (env::PASSWORD_MIN_LENGTH, passwords.and_then(|passwords| passwords.min_length)),
    ];
    parameters.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect()
}
