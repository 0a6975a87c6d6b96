//! What a stored hash begins with: the function and its parameters.

use argon2::{Algorithm, Version};

use super::{
    super::kdf::{Digest, Kdf},
    Kind,
};

/// Iterations that Werkzeug's releases took for a string that names none, and still would.
const WERKZEUG_ITERATIONS: [u32; 6] = [1000, 50_000, 150_000, 260_000, 600_000, 1_000_000];
/// scrypt's parameters that Werkzeug takes for a string that names none.
const WERKZEUG_SCRYPT: Kdf = Kdf::Scrypt { log_n: 15, block_size: 8, repetitions: 1 };

/// Reads the parameters, without the `$` after them; several computations where they do not say which.
pub(super) fn kdfs(kind: Kind, parameters: &str) -> Option<Vec<Kdf>> {
    match kind {
        Kind::Argon2 => argon2(parameters).map(|kdf| vec![kdf]),
        Kind::Bcrypt => bcrypt(parameters).map(|kdf| vec![kdf]),
        Kind::WerkzeugPbkdf2 => werkzeug_pbkdf2(parameters),
        Kind::WerkzeugScrypt => werkzeug_scrypt(parameters).map(|kdf| vec![kdf]),
        Kind::Pbkdf2 => pbkdf2(parameters).map(|kdf| vec![kdf]),
        Kind::Scrypt => scrypt(parameters).map(|kdf| vec![kdf]),
    }
}

/// `$argon2id$v=19$m=19456,t=2,p=1`; without a version it is the first.
fn argon2(parameters: &str) -> Option<Kdf> {
    let (name, rest) = parameters.strip_prefix('$')?.split_once('$')?;
    let (version, rest) = match rest.split_once('$') {
        None => (Version::V0x10, rest),
        Some((version, rest)) => (Version::try_from(number(version.strip_prefix("v=")?)?).ok()?, rest),
    };
    let [memory_kib, passes, lanes] = named(rest, ["m", "t", "p"])?;
    let algorithm = match name {
        "argon2id" => Algorithm::Argon2id,
        "argon2i" => Algorithm::Argon2i,
        "argon2d" => Algorithm::Argon2d,
        _ => return None,
    };
    Some(Kdf::Argon2 { algorithm, version, memory_kib: memory_kib?, passes: passes?, lanes: lanes? })
}

/// `$2b$12`.
fn bcrypt(parameters: &str) -> Option<Kdf> {
    let (_, cost) = parameters.strip_prefix('$')?.split_once('$')?;
    (cost.len() == 2).then_some(Kdf::Bcrypt { cost: number(cost)? })
}

/// `pbkdf2:sha256:600000`, `pbkdf2:sha256`.
fn werkzeug_pbkdf2(parameters: &str) -> Option<Vec<Kdf>> {
    let (_, rest) = parameters.split_once(':')?;
    let (digest, iterations) = match rest.split_once(':') {
        None => (rest, WERKZEUG_ITERATIONS.to_vec()),
        Some((digest, iterations)) => (digest, vec![number(iterations)?]),
    };
    let digest = match digest {
        "sha1" => Digest::Sha1,
        "sha256" => Digest::Sha256,
        "sha512" => Digest::Sha512,
        _ => return None,
    };
    Some(iterations.into_iter().map(|iterations| Kdf::Pbkdf2 { digest, iterations }).collect())
}

/// `scrypt:32768:8:1`, `scrypt:`.
fn werkzeug_scrypt(parameters: &str) -> Option<Kdf> {
    let (_, rest) = parameters.split_once(':')?;
    if rest.is_empty() {
        return Some(WERKZEUG_SCRYPT);
    }
    let mut numbers = rest.split(':').map(number);
    let (n, block_size, repetitions) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let log_n = n.is_power_of_two().then(|| u8::try_from(n.ilog2()).ok())??;
    numbers.next().is_none().then_some(Kdf::Scrypt { log_n, block_size, repetitions })
}

/// `$pbkdf2-sha256$i=600000,l=32`; as passlib writes it `$pbkdf2-sha256$29000`.
fn pbkdf2(parameters: &str) -> Option<Kdf> {
    let (name, rest) = parameters.strip_prefix('$')?.split_once('$')?;
    let digest = match name {
        "pbkdf2" | "pbkdf2-sha1" => Digest::Sha1,
        "pbkdf2-sha256" => Digest::Sha256,
        "pbkdf2-sha512" => Digest::Sha512,
        _ => return None,
    };
    let iterations = match number(rest) {
        Some(iterations) => iterations,
        // The length tells what the digest shows.
        None => named(rest, ["i", "l"])?[0]?,
    };
    Some(Kdf::Pbkdf2 { digest, iterations })
}

/// `$scrypt$ln=17,r=8,p=1`.
fn scrypt(parameters: &str) -> Option<Kdf> {
    let (_, rest) = parameters.strip_prefix('$')?.split_once('$')?;
    let [log_n, block_size, repetitions] = named(rest, ["ln", "r", "p"])?;
    Some(Kdf::Scrypt {
        log_n: u8::try_from(log_n?).ok()?,
        block_size: block_size?,
        repetitions: repetitions?,
    })
}

/// The values of `a=1,b=2` in the order of `names`; `None` when there is any other name, or one twice.
fn named<const N: usize>(text: &str, names: [&str; N]) -> Option<[Option<u32>; N]> {
    let mut values = [None; N];
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=')?;
        let place = names.iter().position(|known| *known == name)?;
        if values[place].replace(number(value)?).is_some() {
            return None;
        }
    }
    Some(values)
}

/// Decimal digits alone: `parse` would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
