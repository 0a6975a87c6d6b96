//! The forms a stored password can have, told apart before any of them is computed.

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordVerifier, phc::PasswordHash},
};

/// Most memory one verification may take, in KiB. 128 MiB is the dearest default among the
/// servers whose hashes people bring along; whoever can write rows must not be able to exhaust a pod.
const MAX_MEMORY_KIB: u32 = 128 * 1024;
/// Most passes over that memory.
const MAX_PASSES: u32 = 16;
/// Most lanes.
const MAX_LANES: u32 = 16;
/// Most KiB visited in all passes together, which bounds the time to about a second.
const MAX_WORK_KIB: u64 = 1024 * 1024;

/// What one computation costs: those of equal cost take equal time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// The cost of a new hash.
    #[must_use]
    pub fn of_new() -> Self {
        Self {
            memory_kib: Params::DEFAULT_M_COST,
            passes: Params::DEFAULT_T_COST,
            lanes: Params::DEFAULT_P_COST,
        }
    }

    fn work(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }
}

/// A stored password in a form that can be verified.
pub enum Stored<'a> {
    /// An Argon2 PHC string.
    Argon2(Box<Argon2Row>),
    /// The password itself.
    Plaintext(&'a str),
}

/// Why a stored value can verify no password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// A hash of a kind that is not verified here, or a damaged one.
    UnknownFormat,
    /// An Argon2 hash beyond the bounds.
    TooDear,
    /// Plain text where it is not allowed.
    PlaintextRefused,
}

impl<'a> Stored<'a> {
    /// Tells the form of a stored value.
    ///
    /// # Errors
    /// Why no password can match it.
    pub fn parse(stored: &'a str, plaintext: bool) -> Result<Self, Unusable> {
        if stored.starts_with("$argon2") {
            return Argon2Row::parse(stored).map(|row| Self::Argon2(Box::new(row)));
        }
        if looks_like_a_hash(stored) {
            return Err(Unusable::UnknownFormat);
        }
        if !plaintext || stored.is_empty() {
            return Err(Unusable::PlaintextRefused);
        }
        Ok(Self::Plaintext(stored))
    }
}

/// An Argon2 hash within the bounds.
pub struct Argon2Row {
    hash: PasswordHash,
    algorithm: Algorithm,
    version: Version,
    cost: Cost,
}

impl Argon2Row {
    fn parse(stored: &str) -> Result<Self, Unusable> {
        let unknown = |_| Unusable::UnknownFormat;
        let hash = PasswordHash::new(stored).map_err(|_| Unusable::UnknownFormat)?;
        let algorithm = Algorithm::new(hash.algorithm.as_str()).map_err(unknown)?;
        let version =
            hash.version.map_or(Ok(Version::V0x10), |version| Version::try_from(version).map_err(unknown))?;
        let params = Params::try_from(&hash).map_err(|_| Unusable::UnknownFormat)?;
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(Unusable::UnknownFormat);
        }
        let cost = Cost { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() };
        let dear = cost.memory_kib > MAX_MEMORY_KIB
            || cost.passes > MAX_PASSES
            || cost.lanes > MAX_LANES
            || cost.work() > MAX_WORK_KIB;
        if dear { Err(Unusable::TooDear) } else { Ok(Self { hash, algorithm, version, cost }) }
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        Argon2::default().verify_password(password, &self.hash).is_ok()
    }

    pub(super) fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether a new hash would be the better one.
    pub(super) fn is_old(&self) -> bool {
        self.algorithm != Algorithm::Argon2id
            || self.version != Version::V0x13
            || self.cost.work() < Cost::of_new().work()
    }
}

/// Prefixes of the hashes that other software stores. Such a value must never pass for a plain
/// password, or a stolen table of hashes would be a table of passwords.
const HASH_PREFIXES: [&str; 27] = [
    "$1$", "$2a$", "$2b$", "$2x$", "$2y$", "$2$", "$5$", "$6$", "$7$", "$y$", "$gy$", "$P$", "$H$", "$S$",
    "$apr1$", "$md5", "$sha1$", "$pbkdf2", "$scrypt", "$bcrypt", "$argon2", "pbkdf2:", "pbkdf2_", "scrypt:",
    "bcrypt", "argon2$", "sha256$",
];

fn looks_like_a_hash(stored: &str) -> bool {
    // LDAP's `{SSHA}…`, and the `*` with 40 hexadecimal digits of MySQL's own PASSWORD().
    let ldap = stored.strip_prefix('{').and_then(|rest| rest.split_once('}')).is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-._".contains(&byte))
    });
    let native = stored
        .strip_prefix('*')
        .is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    ldap || native || HASH_PREFIXES.iter().any(|prefix| stored.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(stored: &str) -> Option<Unusable> {
        Stored::parse(stored, true).err()
    }

    #[test]
    fn hashes_of_other_software_are_no_plain_text() {
        for stored in [
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "$6$salt$hash",
            "pbkdf2:sha256:260000$salt$00",
            "scrypt:32768:8:1$salt$00",
            "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
            "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ",
        ] {
            assert_eq!(fault(stored), Some(Unusable::UnknownFormat), "{stored}");
        }
        for stored in ["Admin123", "$ecret", "{curly}", "*star", "$2", "100$"] {
            assert_eq!(fault(stored), None, "{stored}");
        }
        assert_eq!(fault(""), Some(Unusable::PlaintextRefused));
    }

    #[test]
    fn a_hash_beyond_the_bounds_is_not_computed() {
        let row = |m: u32, t: u32, p: u32| {
            fault(&format!("$argon2id$v=19$m={m},t={t},p={p}$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"))
        };
        assert_eq!(row(131_072, 8, 4), None);
        assert_eq!(row(131_073, 1, 1), Some(Unusable::TooDear));
        assert_eq!(row(4_294_967_295, 4_294_967_295, 1), Some(Unusable::TooDear));
        assert_eq!(row(8192, 17, 1), Some(Unusable::TooDear));
        assert_eq!(row(19_456, 2, 17), Some(Unusable::TooDear));
        assert_eq!(row(131_072, 9, 1), Some(Unusable::TooDear));
    }
}
