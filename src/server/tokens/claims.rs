//! The claims this server issues, and those it checks.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, IgnoredAny, Visitor},
};

use super::{LEEWAY_SECONDS, Subject, Terms, TokenFault, compact::present};

/// The claims of an issued token: the four that clients of the original read, and `iss`, `aud` where one
/// is asked for, `sub`, `jti` and `gen` beside them. `gen`, the user's generation of tokens, is a private claim
/// (RFC 7519 §4.3) that no library checks. No `nbf`, which would fail on clients whose clock lags.
#[derive(Serialize)]
pub(super) struct Issued<'a> {
    username: &'a str,
    exp: u64,
    iat: u64,
    admin: bool,
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    sub: String,
    jti: String,
    r#gen: i64,
}

impl<'a> Issued<'a> {
    pub(super) fn new(terms: &'a Terms, subject: &Subject<'a>, now: u64, id: &[u8; 16]) -> Self {
        Self {
            username: subject.username,
            exp: now.saturating_add(terms.ttl_seconds),
            iat: now,
            admin: subject.admin,
            iss: &terms.issuer,
            aud: terms.audience.as_deref(),
            sub: subject.id.to_string(),
            jti: URL_SAFE_NO_PAD.encode(id),
            r#gen: subject.generation,
        }
    }

    /// The encoded payload.
    pub(super) fn encode(&self) -> String {
        // Strings, integers and booleans always serialise; an empty object would not verify.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The claims that are checked: `exp` must be there, the others may be.
#[derive(Deserialize)]
struct Raw<'a> {
    exp: NumericDate,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<NumericDate>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<NumericDate>,
    #[serde(borrow, default, deserialize_with = "present")]
    iss: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    sub: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    jti: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    username: Private<Text<'a>>,
    #[serde(default)]
    r#gen: Private<i64>,
    #[serde(borrow, default, deserialize_with = "present")]
    aud: Option<Audience<'a>>,
}

/// A private claim (RFC 7519 §4.3): whoever else signs with the same key may mean something of another
/// type by its name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Private<T> {
    Ours(T),
    Other(IgnoredAny),
}

/// Text that borrows from the payload where nothing in it is escaped.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<T> Default for Private<T> {
    fn default() -> Self {
        Self::Other(IgnoredAny)
    }
}

impl<T> Private<T> {
    fn ours(self) -> Option<T> {
        match self {
            Self::Ours(claim) => Some(claim),
            Self::Other(IgnoredAny) => None,
        }
    }
}

/// The claim `aud` (RFC 7519 §4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience<'a> {
    /// One, as text.
    One(#[serde(borrow)] Text<'a>),
    /// Several.
    Several(#[serde(borrow)] Vec<Text<'a>>),
    /// No audience at all.
    Other(IgnoredAny),
}

impl Audience<'_> {
    /// Whether it is `name` and no other.
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self, Self::One(Text(one)) if one == name)
    }

    /// Whether `name` is among those it names.
    pub(super) fn names(&self, name: &str) -> bool {
        match self {
            Self::One(Text(one)) => one == name,
            Self::Several(several) => several.iter().any(|Text(one)| one == name),
            Self::Other(IgnoredAny) => false,
        }
    }
}

/// Claims of the right types.
pub(super) struct Checked<'a> {
    pub(super) dates: Dates,
    pub(super) iss: Option<Cow<'a, str>>,
    pub(super) sub: Option<Cow<'a, str>>,
    pub(super) jti: Option<Cow<'a, str>>,
    pub(super) username: Option<Cow<'a, str>>,
    pub(super) generation: Option<i64>,
    /// Whom the token is for, where it says so.
    pub(super) aud: Option<Audience<'a>>,
}

impl<'a> Checked<'a> {
    /// Parses a payload; `None` unless it is a JSON object in UTF-8 whose registered claims have
    /// the types of RFC 7519 §4.1, and all that are read here appear once.
    pub(super) fn parse(payload: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload).ok()?;
        // A derived struct also takes a JSON array.
        if !text.trim_start().starts_with('{') {
            return None;
        }
        let Raw { exp, nbf, iat, iss, sub, jti, username, r#gen, aud } = serde_json::from_str(text).ok()?;
        let username = username.ours().map(|Text(username)| username);
        let generation = r#gen.ours();
        Some(Self { dates: Dates { exp, nbf, iat }, iss, sub, jti, username, generation, aud })
    }
}

/// When a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dates {
    pub(super) exp: NumericDate,
    pub(super) nbf: Option<NumericDate>,
    pub(super) iat: Option<NumericDate>,
}

impl Dates {
    pub(super) fn check(&self, now: u64) -> Result<(), TokenFault> {
        if self.exp.is_past(now) {
            return Err(TokenFault::Expired);
        }
        if [self.nbf, self.iat].into_iter().flatten().any(|date| date.is_after(now + LEEWAY_SECONDS)) {
            return Err(TokenFault::NotYetValid);
        }
        Ok(())
    }
}

/// Seconds since the epoch (RFC 7519 §2), a fraction cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumericDate(i64);

impl NumericDate {
    /// Whether the instant is `now` or before it.
    pub(super) fn is_past(self, now: u64) -> bool {
        !self.is_after(now)
    }

    /// The seconds.
    pub(super) fn seconds(self) -> i64 {
        self.0
    }

    /// Whether the instant is after `now`.
    pub(super) fn is_after(self, now: u64) -> bool {
        u64::try_from(self.0).is_ok_and(|seconds| seconds > now)
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = NumericDate;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a number of seconds since 1970")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<NumericDate, E> {
                i64::try_from(value).map(NumericDate).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<NumericDate, E> {
                Ok(NumericDate(value))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<NumericDate, E> {
                // Beyond 2^53 a double no longer tells one second from the next.
                const LARGEST: f64 = 9_007_199_254_740_992.0;
                if value.abs() > LARGEST {
                    return Err(E::custom("beyond any date"));
                }
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "bounded above; the fraction is meant to go"
                )]
                Ok(NumericDate(value.floor() as i64))
            }
        }
        deserializer.deserialize_any(Number)
    }
}
