//! What must never pass for a plain password: the hashes that other software stores. Otherwise a
//! stolen table of hashes would be a table of passwords.

/// Fewest letters after `$name$` that make it a hash rather than somebody's idea of a password.
const MODULAR_CRYPT_LETTERS: usize = 10;

/// First letters of hashes, whatever follows.
const PREFIXES: &[&str] = &[
    "$1$",
    "$2a$",
    "$2b$",
    "$2x$",
    "$2y$",
    "$2$",
    "$3$",
    "$5$",
    "$6$",
    "$7$",
    "$y$",
    "$gy$",
    "$P$",
    "$H$",
    "$S$",
    "$apr1$",
    "$md5",
    "$sha1$",
    "$pbkdf2",
    "$scrypt",
    "$bcrypt",
    "$argon2",
    "pbkdf2:",
    "pbkdf2_",
    "scrypt:",
    "scrypt$",
    "bcrypt$",
    "bcrypt_",
    "argon2$",
    "md5$",
    "sha1$",
    "sha224$",
    "sha256$",
    "sha384$",
    "sha512$",
    "SCRAM-SHA-",
    "grub.pbkdf2",
];
/// Hexadecimal digits of the digests that are stored bare: MD5 and the SHA families.
const HEX_LENGTHS: [usize; 6] = [32, 40, 56, 64, 96, 128];

pub(super) fn looks_like_a_hash(stored: &str) -> bool {
    is_hex(stored, &HEX_LENGTHS)
        || stored.strip_prefix('*').is_some_and(|hex| is_hex(hex, &[40]))
        || PREFIXES.iter().any(|prefix| stored.starts_with(prefix))
        || is_modular_crypt(stored)
        || is_labelled(stored)
}

/// `{SSHA}…` of LDAP, `{bcrypt}$2a$…` of Spring.
fn is_labelled(stored: &str) -> bool {
    let Some((scheme, rest)) = stored.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return false;
    };
    let label = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    (!scheme.is_empty() && scheme.bytes().all(label)) || looks_like_a_hash(rest)
}

/// `$name$…`, whatever the name.
fn is_modular_crypt(stored: &str) -> bool {
    let Some((name, rest)) = stored.strip_prefix('$').and_then(|rest| rest.split_once('$')) else {
        return false;
    };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=32).contains(&name.len()) && name.bytes().all(letter) && rest.len() >= MODULAR_CRYPT_LETTERS
}

/// The whole text, of one of these lengths. `MySQL`'s own `PASSWORD()` puts a `*` before it.
fn is_hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
