//! The forms a stored password can have, told apart before any of them is computed.

mod lookalike;
mod parameters;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use subtle::ConstantTimeEq;

use self::{lookalike::looks_like_a_hash, parameters::kdfs};
use super::{argon2id::Argon2id, kdf::Kdf, legacy::LegacyFormats};
use crate::contract::LegacyFormat;

/// Longest stored value that is looked at, in bytes: no format comes near it, nor a password.
const MAX_STORED_BYTES: usize = 2048;
/// Fewest bytes of a stored digest: below, chance begins to count.
const MIN_DIGEST_BYTES: usize = 16;
/// Fewest bytes of salt that Argon2 takes.
const MIN_ARGON2_SALT_BYTES: usize = 8;

/// Base64 as PHC strings have it, unpadded.
const PHC: GeneralPurpose = unpadded(&alphabet::STANDARD);
/// Base64 as bcrypt has it. Its last letters hold bits that mean nothing, and not every program
/// leaves them zero.
const BCRYPT: GeneralPurpose = unpadded(&alphabet::BCRYPT);

const fn unpadded(alphabet: &alphabet::Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

/// A stored password in a form that can be verified.
#[derive(Clone, PartialEq, Eq)]
pub enum Stored {
    /// A hash within the bounds.
    Hash(StoredHash),
    /// The password itself.
    Plaintext(String),
}

/// Why a stored value can verify no password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Nothing is stored.
    Empty,
    /// A hash of a kind that is not verified here, or a damaged one.
    Unknown,
    /// A hash that takes more time or memory than one may, or less than its standard asks for.
    OutOfBounds,
    /// A form that nobody asked for.
    NotAccepted(LegacyFormat),
}

impl Unusable {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Unknown,
        Self::OutOfBounds,
        Self::NotAccepted(LegacyFormat::Plaintext),
        Self::NotAccepted(LegacyFormat::Bcrypt),
        Self::NotAccepted(LegacyFormat::Werkzeug),
        Self::NotAccepted(LegacyFormat::Pbkdf2),
        Self::NotAccepted(LegacyFormat::Scrypt),
    ];

    /// A word for what is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Unknown => "unknown",
            Self::OutOfBounds => "out_of_bounds",
            Self::NotAccepted(format) => format.name(),
        }
    }
}

impl Stored {
    /// Tells the form of a stored value. A hash that needs more than `most_kib` of memory is out of bounds.
    ///
    /// # Errors
    /// Why no password can match it.
    pub fn parse(stored: &str, accepted: LegacyFormats, most_kib: u32) -> Result<Self, Unusable> {
        if stored.is_empty() {
            return Err(Unusable::Empty);
        }
        if stored.len() > MAX_STORED_BYTES {
            return Err(Unusable::Unknown);
        }
        let Some(kind) = Kind::of(stored) else {
            if looks_like_a_hash(stored) {
                return Err(Unusable::Unknown);
            }
            return if accepted.contain(LegacyFormat::Plaintext) {
                Ok(Self::Plaintext(stored.to_owned()))
            } else {
                Err(Unusable::NotAccepted(LegacyFormat::Plaintext))
            };
        };
        kind.check_accepted(accepted)?;
        let hash = StoredHash::parse(kind, stored).ok_or(Unusable::Unknown)?;
        let within = |kdf: &Kdf| kdf.is_bearable() && kdf.memory_kib() <= most_kib;
        if hash.kdfs.iter().all(within) { Ok(Self::Hash(hash)) } else { Err(Unusable::OutOfBounds) }
    }
}

/// The computations behind the parameters that a stored hash begins with, such as
/// `$argon2id$v=19$m=19456,t=2,p=1` or `pbkdf2:sha256:600000`; none that is not accepted or out of bounds.
#[must_use]
pub fn accepted_kdfs(parameters: &str, accepted: LegacyFormats, most_kib: u32) -> Vec<Kdf> {
    let kind = Kind::of(parameters).filter(|kind| kind.check_accepted(accepted).is_ok());
    let mut found = kind.and_then(|kind| kdfs(kind, parameters)).unwrap_or_default();
    found.retain(|kdf| kdf.is_bearable() && kdf.memory_kib() <= most_kib);
    found
}

/// What a stored hash is, by its first letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Argon2,
    Bcrypt,
    WerkzeugPbkdf2,
    WerkzeugScrypt,
    Pbkdf2,
    Scrypt,
}

impl Kind {
    fn of(stored: &str) -> Option<Self> {
        const PREFIXES: [(&str, Kind); 11] = [
            ("$argon2", Kind::Argon2),
            ("$2a$", Kind::Bcrypt),
            ("$2b$", Kind::Bcrypt),
            ("$2y$", Kind::Bcrypt),
            ("pbkdf2:", Kind::WerkzeugPbkdf2),
            ("scrypt:", Kind::WerkzeugScrypt),
            ("$pbkdf2$", Kind::Pbkdf2),
            ("$pbkdf2-sha1$", Kind::Pbkdf2),
            ("$pbkdf2-sha256$", Kind::Pbkdf2),
            ("$pbkdf2-sha512$", Kind::Pbkdf2),
            ("$scrypt$", Kind::Scrypt),
        ];
        PREFIXES.iter().find(|(prefix, _)| stored.starts_with(prefix)).map(|(_, kind)| *kind)
    }

    fn check_accepted(self, accepted: LegacyFormats) -> Result<(), Unusable> {
        let format = match self {
            Self::Argon2 => return Ok(()),
            Self::Bcrypt => LegacyFormat::Bcrypt,
            Self::WerkzeugPbkdf2 | Self::WerkzeugScrypt => LegacyFormat::Werkzeug,
            Self::Pbkdf2 => LegacyFormat::Pbkdf2,
            Self::Scrypt => LegacyFormat::Scrypt,
        };
        if accepted.contain(format) { Ok(()) } else { Err(Unusable::NotAccepted(format)) }
    }

    /// Which of the `$` of a stored value ends its parameters. The query that reads the parameters of a
    /// whole table counts in the same way.
    fn end_of_parameters(self, stored: &str) -> Option<usize> {
        let number = match self {
            // The oldest hashes of Argon2 tell no version.
            Self::Argon2 if stored.contains("$v=") => 4,
            Self::Argon2 | Self::Bcrypt | Self::Pbkdf2 | Self::Scrypt => 3,
            Self::WerkzeugPbkdf2 | Self::WerkzeugScrypt => 1,
        };
        stored.match_indices('$').nth(number - 1).map(|(index, _)| index)
    }
}

/// A hash, with the computation that made it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredHash {
    /// One, or those that come into question, the dearest last.
    kdfs: Vec<Kdf>,
    salt: Vec<u8>,
    digest: Vec<u8>,
}

impl StoredHash {
    fn parse(kind: Kind, stored: &str) -> Option<Self> {
        let (parameters, rest) = stored.split_at(kind.end_of_parameters(stored)?);
        let rest = rest.strip_prefix('$')?;
        let kdfs = kdfs(kind, parameters)?;
        let (salt, mut digest) = match kind {
            Kind::Bcrypt => bcrypt_parts(rest)?,
            // Werkzeug takes the letters of the salt themselves, and hexadecimal digits.
            Kind::WerkzeugPbkdf2 | Kind::WerkzeugScrypt => {
                let (salt, digest) = rest.split_once('$')?;
                (salt.as_bytes().to_vec(), from_hex(digest)?)
            }
            Kind::Argon2 | Kind::Pbkdf2 | Kind::Scrypt => {
                let (salt, digest) = rest.split_once('$')?;
                (from_base64(salt)?, from_base64(digest)?)
            }
        };
        if let [Kdf::Pbkdf2 { digest: inner, .. }, ..] = kdfs.as_slice() {
            // Further blocks are computed apart from the first, and prove nothing more.
            digest.truncate(inner.length());
        }
        let usable =
            digest.len() >= MIN_DIGEST_BYTES && (kind != Kind::Argon2 || salt.len() >= MIN_ARGON2_SALT_BYTES);
        usable.then_some(Self { kdfs, salt, digest })
    }

    /// Whether it is the hash of this password. What is no match costs every computation.
    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let mut output = vec![0; self.digest.len()];
        self.kdfs.iter().any(|kdf| {
            kdf.derive(password, &self.salt, &mut output).is_ok() && bool::from(output.ct_eq(&self.digest))
        })
    }

    /// The dearest computation of a verification.
    pub(super) fn kdf(&self) -> Option<Kdf> {
        self.kdfs.last().copied()
    }

    /// Whether a new hash would be the better one, and stand for all of the password.
    pub(super) fn should_become(&self, new: Argon2id, password: &[u8]) -> bool {
        self.kdfs.iter().all(|kdf| new.improves_on(*kdf) && kdf.covers(password))
    }
}

fn bcrypt_parts(rest: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    const SALT_LETTERS: usize = 22;
    const DIGEST_LETTERS: usize = 31;
    let (salt, digest) = rest.split_at_checked(SALT_LETTERS)?;
    let (salt, digest) = (BCRYPT.decode(salt).ok()?, BCRYPT.decode(digest).ok()?);
    (rest.len() == SALT_LETTERS + DIGEST_LETTERS).then_some((salt, digest))
}

/// Unpadded Base64; passlib writes `.` for `+`.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    PHC.decode(text.replace('.', "+")).ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests;
