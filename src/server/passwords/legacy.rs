//! The stored formats besides Argon2 that are accepted where they are asked for by name.

use crate::contract::LegacyFormat;

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
