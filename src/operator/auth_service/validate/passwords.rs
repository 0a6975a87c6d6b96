//! What the server's commands are told of passwords. What spec leaves out is left to them.

use crate::{api::AuthServiceSpec, contract::env};

/// Variables with the parameters of new hashes.
pub(super) fn hashing(spec: &AuthServiceSpec) -> Vec<(&'static str, String)> {
    let argon2 = spec.passwords.as_ref().and_then(|passwords| passwords.argon2.as_ref());
    let value = |read: fn(&crate::api::auth_service::Argon2) -> Option<i32>| argon2.and_then(read);
    given([
        (env::ARGON2_MEMORY_KIB, value(|argon2| argon2.memory_kib)),
        (env::ARGON2_ITERATIONS, value(|argon2| argon2.iterations)),
        (env::ARGON2_PARALLELISM, value(|argon2| argon2.parallelism)),
    ])
}

/// Variables with what is asked of new passwords, too.
pub(super) fn new_passwords(spec: &AuthServiceSpec) -> Vec<(&'static str, String)> {
    let min_length = spec.passwords.as_ref().and_then(|passwords| passwords.min_length);
    let mut variables = hashing(spec);
    variables.extend(given([(env::PASSWORD_MIN_LENGTH, min_length)]));
    variables
}

fn given<const N: usize>(values: [(&'static str, Option<i32>); N]) -> Vec<(&'static str, String)> {
    values.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect()
}
