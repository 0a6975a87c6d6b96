//! What failed logins are counted by: an account as the database would find it, or a source.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use sha2::{Digest, Sha256};
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// The kinds of buckets, which are also the label of their metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The name given at a login, whether or not anybody has it.
    Account,
    /// The address a trusted proxy reported.
    Source,
}

impl Kind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 2] = [Self::Account, Self::Source];

    /// The word for it in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Source => "source",
        }
    }
}

/// A bucket, by a digest: names of strangers, which may be a password in the wrong field, are not
/// stored, and every key has one length.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bucket {
    kind: Kind,
    key: [u8; 32],
}

impl Bucket {
    /// The bucket of everything that a collation of the database could take for this e-mail.
    #[must_use]
    pub fn account(email: &str) -> Self {
        Self::of(Kind::Account, canonical(email).as_bytes())
    }

    /// The bucket of an address; of its /64 for IPv6, within which one customer has every address.
    #[must_use]
    pub fn source(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of(Kind::Source, &address.octets()),
            IpAddr::V6(address) => {
                let network = Ipv6Addr::from_bits(address.to_bits() >> 64 << 64);
                Self::of(Kind::Source, &network.octets())
            }
        }
    }

    fn of(kind: Kind, content: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(kind.name()).chain_update([0]).chain_update(content);
        Self { kind, key: digest.finalize().into() }
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The key in the table.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

/// The first eight hexadecimal digits of the key: enough to find the row, too little to try names on.
impl fmt::Display for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key[..4].iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {self}", self.kind.name())
    }
}

/// One form for all that case-, accent- and width-insensitive collations equate, blanks at the ends
/// and characters without weight included. It may equate more than a given collation does, which
/// merely lets two names share their failures.
fn canonical(email: &str) -> String {
    let folded: String = email
        .nfkd()
        .filter(|character| !is_combining_mark(*character) && !is_weightless(*character))
        // Upper case spells ß out and knows one sigma; ẞ must be ß before.
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect();
    // Some letters come apart only in lower case.
    let folded: String = folded.nfkd().filter(|character| !is_combining_mark(*character)).collect();
    folded.trim().to_owned()
}

/// Control characters, and those that only shape what stands beside them.
fn is_weightless(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collation_may_equate_shares_a_bucket() {
        let bucket = Bucket::account("georgio@email.com");
        for variant in [
            "Georgio@Email.COM",
            "georgio@email.com   ",
            " georgio@email.com",
            "geörgio@email.com",
            "geo\u{308}rgio@email.com",
            "ｇｅｏｒｇｉｏ＠ｅｍａｉｌ．ｃｏｍ",
            "georgio\u{200b}@email.com",
            "GEÓRGÍO@ÉMAIL.COM\t",
        ] {
            assert_eq!(Bucket::account(variant), bucket, "{variant:?}");
        }
        for (one, other) in
            [("straße@x.io", "STRASSE@x.io"), ("σίσυφος@x.io", "ΣΙΣΥΦΟΣ@x.io"), ("ﬁx@x.io", "fix@x.io")]
        {
            assert_eq!(Bucket::account(one), Bucket::account(other), "{one}");
        }
        for other in ["georgia@email.com", "georgio@email.co", "georgio@email .com", ""] {
            assert_ne!(Bucket::account(other), bucket, "{other:?}");
        }
    }

    #[test]
    fn the_canonical_form_of_any_character_is_its_own() {
        for character in '\0'..=char::MAX {
            let once = canonical(&format!("a{character}z"));
            assert_eq!(canonical(&once), once, "{character:?}");
        }
    }

    #[test]
    fn an_ipv6_source_is_its_network_and_kinds_never_meet() {
        let source = |address: &str| Bucket::source(address.parse().unwrap());
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_ne!(source("97.98.99.100").key(), Bucket::account("abcd").key());
    }

    #[test]
    fn what_is_shown_tells_no_name() {
        let bucket = Bucket::account("hunter2");
        assert_eq!(bucket.to_string().len(), 8);
        assert_eq!(format!("{bucket:?}"), format!("account {bucket}"));
    }
}
