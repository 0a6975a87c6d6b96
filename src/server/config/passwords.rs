//! What stored passwords are accepted, and what new ones have to be.

use std::ops::RangeInclusive;

use super::source::{Environment, Faults};
use crate::{
    contract::{self, LegacyFormat, argon2, env},
    server::passwords::{Argon2id, LegacyFormats, NewPasswords, Unsuitable},
};

/// What stored passwords are accepted and what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// What new passwords have to be, and become; weaker hashes are old.
    pub new: NewPasswords,
    /// Formats that are accepted besides Argon2.
    pub legacy: LegacyFormats,
    /// A verified password in an old format is replaced by its Argon2id hash.
    pub rehash: bool,
}

impl PasswordPolicy {
    pub(super) fn read(environment: &Environment, faults: &mut Faults) -> Self {
        let new = new_passwords(environment, faults);
        let legacy = legacy_formats(environment, faults);
        let rehash = match environment.text(env::REHASH_PASSWORDS, faults).as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some(other) => {
                faults.add(
                    env::REHASH_PASSWORDS,
                    format!("{other:?} is neither true nor false"),
                    "use true or false",
                );
                true
            }
        };
        Self { new, legacy, rehash }
    }
}

/// What is asked of passwords that are set, and how they are hashed: all that `hash` needs.
///
/// # Errors
/// The faults of these variables.
pub fn read_new_passwords(environment: &Environment) -> Result<NewPasswords, Faults> {
    let mut faults = Faults::default();
    let passwords = new_passwords(environment, &mut faults);
    if faults.is_empty() { Ok(passwords) } else { Err(faults) }
}

fn legacy_formats(environment: &Environment, faults: &mut Faults) -> LegacyFormats {
    let names = environment.text(env::LEGACY_PASSWORD_FORMATS, faults).unwrap_or_default();
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    let known = |name| {
        let format = LegacyFormat::of_name(name);
        if format.is_none() {
            faults.add(
                env::LEGACY_PASSWORD_FORMATS,
                format!("{name:?} is no known format"),
                format!("the known ones are {}", LegacyFormat::ALL.map(LegacyFormat::name).join(", ")),
            );
        }
        format
    };
    names.filter_map(known).collect()
}

pub(super) fn new_passwords(environment: &Environment, faults: &mut Faults) -> NewPasswords {
    let argon2 = argon2id(environment, faults);
    let least = contract::DEFAULT_PASSWORD_MIN_LENGTH;
    let least =
        number(environment, env::PASSWORD_MIN_LENGTH, contract::PASSWORD_MIN_LENGTH, faults).unwrap_or(least);
    NewPasswords { argon2, min_length: least as usize }
}

fn argon2id(environment: &Environment, faults: &mut Faults) -> Argon2id {
    let default = Argon2id::default();
    let before = faults.iter().count();
    let mut value =
        |variable, range, default| number(environment, variable, range, faults).unwrap_or(default);
    let parameters = Argon2id {
        memory_kib: value(env::ARGON2_MEMORY_KIB, argon2::MEMORY_KIB, default.memory_kib),
        iterations: value(env::ARGON2_ITERATIONS, argon2::ITERATIONS, default.iterations),
        parallelism: value(env::ARGON2_PARALLELISM, argon2::PARALLELISM, default.parallelism),
    };
    if faults.iter().count() > before {
        return default;
    }
    match parameters.check() {
        Ok(()) => parameters,
        Err(unsuitable) => {
            let Argon2id { memory_kib, iterations, .. } = parameters;
            let variable = match unsuitable {
                Unsuitable::TooWeak => env::ARGON2_MEMORY_KIB,
                Unsuitable::TooDear => env::ARGON2_ITERATIONS,
            };
            let what =
                format!("makes a hash of {memory_kib} KiB and {iterations} iterations, which {unsuitable}");
            faults.add(variable, what, unsuitable.cure());
            default
        }
    }
}

fn number(
    environment: &Environment,
    variable: &'static str,
    range: RangeInclusive<u32>,
    faults: &mut Faults,
) -> Option<u32> {
    let value = environment.text(variable, faults)?;
    let number = value.parse().ok().filter(|number| range.contains(number));
    if number.is_none() {
        faults.add(
            variable,
            format!("{value:?} is out of range"),
            format!("use a number from {} to {}", range.start(), range.end()),
        );
    }
    number
}
