//! What tokens say: their issuer, audience and lifetime.

use std::time::Duration;

use super::{
    duration,
    source::{Environment, Faults},
};
use crate::{
    contract::{ADMINISTRATION_AUDIENCE, env},
    server::tokens::Terms,
};

pub(super) fn read(environment: &Environment, faults: &mut Faults) -> Terms {
    let ttl = ttl(environment, faults);
    // Any text, as ever: another would refuse the tokens that carry it.
    let issuer = environment.text(env::TOKEN_ISSUER, faults).unwrap_or_else(|| "authservice".to_owned());
    let audience = audience(environment, faults);
    Terms { issuer, audience, ttl_seconds: ttl.as_secs() }
}

fn audience(environment: &Environment, faults: &mut Faults) -> Option<String> {
    let audience = environment.text(env::TOKEN_AUDIENCE, faults)?;
    if audience == ADMINISTRATION_AUDIENCE {
        faults.add(
            env::TOKEN_AUDIENCE,
            format!("{ADMINISTRATION_AUDIENCE:?} is the audience of administration tokens"),
            "use another, such as the name of the services that take the tokens",
        );
    } else if !is_string_or_uri(&audience) {
        faults.add(
            env::TOKEN_AUDIENCE,
            format!("{audience:?} is neither a name nor a URI"),
            "use at most 255 ASCII characters without blanks, and a ':' only behind a URI's scheme",
        );
    }
    Some(audience)
}

fn ttl(environment: &Environment, faults: &mut Faults) -> Duration {
    const DAY: Duration = Duration::from_hours(24);
    // What ended a user's tokens is forgotten after as long.
    const LONGEST: Duration = Duration::from_hours(8784);
    let Some(value) = environment.text(env::TOKEN_TTL, faults) else { return DAY };
    match duration::parse(&value) {
        Some(ttl) if ttl >= Duration::from_secs(1) && ttl <= LONGEST => ttl,
        _ => {
            faults.add(
                env::TOKEN_TTL,
                format!("{value:?} is no lifetime"),
                "use a duration from 1s to 8784h, such as 24h or 1h30m",
            );
            DAY
        }
    }
}

/// `StringOrURI` of RFC 7519 §2, without what no shell or manifest carries unharmed.
fn is_string_or_uri(name: &str) -> bool {
    let scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
    };
    name.len() <= 255
        && name.chars().all(|c| c.is_ascii_graphic())
        && name.split_once(':').is_none_or(|(before, after)| scheme(before) && !after.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_string_or_a_uri() {
        let longest = "a".repeat(255);
        for name in ["shop", "a/b,c", "https://auth.shop:5000", "urn:shop", "x-y.z+1:?", &longest] {
            assert!(is_string_or_uri(name), "{name}");
        }
        let too_long = "a".repeat(256);
        for name in ["a b", "a\n", "ä", "auth:", ":5000", "1a:b", "a_b:c", &too_long] {
            assert!(!is_string_or_uri(name), "{name}");
        }
    }
}
