//! The stored formats besides Argon2 that are accepted where they are asked for by name.

use crate::contract::password_format;

/// A stored format besides Argon2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyFormat {
    /// The password itself.
    Plaintext,
    /// bcrypt's modular crypt format.
    Bcrypt,
    /// Werkzeug's PBKDF2 and scrypt strings.
    Werkzeug,
    /// PBKDF2 as PHC string, and as passlib writes it.
    Pbkdf2,
    /// scrypt as PHC string.
    Scrypt,
}

impl LegacyFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Plaintext, Self::Bcrypt, Self::Werkzeug, Self::Pbkdf2, Self::Scrypt];

    /// The word for it in configuration and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => password_format::PLAINTEXT,
            Self::Bcrypt => password_format::BCRYPT,
            Self::Werkzeug => password_format::WERKZEUG,
            Self::Pbkdf2 => password_format::PBKDF2,
            Self::Scrypt => password_format::SCRYPT,
        }
    }

    /// The format of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// The formats that are accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LegacyFormats([bool; LegacyFormat::ALL.len()]);

impl LegacyFormats {
    /// Whether it is accepted.
    #[must_use]
    pub fn contain(self, format: LegacyFormat) -> bool {
        self.0[format as usize]
    }
}

impl FromIterator<LegacyFormat> for LegacyFormats {
    fn from_iter<I: IntoIterator<Item = LegacyFormat>>(formats: I) -> Self {
        let mut accepted = Self::default();
        for format in formats {
            accepted.0[format as usize] = true;
        }
        accepted
    }
}
