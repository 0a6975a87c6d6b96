//! Which token it is, and whose: what revocation asks of a token that verified.

use sha2::{Digest, Sha256};

use super::claims::{Checked, NumericDate};

/// SHA-256 of what tells one token, one username or one key from every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a username.
    #[must_use]
    pub fn of_username(username: &str) -> Self {
        Self::of("username", username)
    }

    pub(super) fn of(kind: &str, bytes: impl AsRef<[u8]>) -> Self {
        let hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(bytes);
        Self(hash.finalize().into())
    }
}

/// Which token it is, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the `jti`; of what was signed where the token has none.
    pub token: Fingerprint,
    /// The user.
    pub holder: Holder,
    /// `iat`, in seconds since 1970.
    pub issued_at: Option<i64>,
    /// `exp`, in seconds since 1970.
    pub expires_at: i64,
}

/// Whom a token speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A user by id, as every token of this service says beside its `iss`.
    User {
        /// The row's id.
        id: i64,
        /// The user's generation of tokens when it was issued; tokens of the first release have none.
        generation: Option<i64>,
    },
    /// A user by e-mail alone, as tokens of the original say.
    Username(Fingerprint),
    /// Nobody that we could know.
    Unknown,
}

impl Identity {
    pub(super) fn of(claims: &Checked<'_>, signed: &str) -> Self {
        let token = match &claims.jti {
            Some(id) => Fingerprint::of("jti", id.as_bytes()),
            None => Fingerprint::of("token", signed),
        };
        // Without our `iss`, `sub` may be anybody's notion of a user.
        let id = claims.sub.as_ref().filter(|_| claims.iss.is_some()).and_then(|id| id.parse().ok());
        let holder = match (id, &claims.username) {
            (Some(id), _) => Holder::User { id, generation: claims.generation },
            (None, Some(username)) => Holder::Username(Fingerprint::of_username(username)),
            (None, None) => Holder::Unknown,
        };
        Self {
            token,
            holder,
            issued_at: claims.dates.iat.map(NumericDate::seconds),
            expires_at: claims.dates.exp.seconds(),
        }
    }
}
