//! The `Authorization` header (RFC 9110 §11.6.2): Basic (RFC 7617) and Bearer (RFC 6750).

use axum::http::{HeaderMap, header::AUTHORIZATION};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Base64 as clients send it, padded or not.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// E-mail and password as sent.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Basic {
    pub(super) email: String,
    pub(super) password: String,
}

/// Reads Basic credentials; `None` when there are none that can be used. Of two headers neither
/// can be trusted to be the one that somebody before us has checked.
pub(super) fn basic(headers: &HeaderMap) -> Option<Basic> {
    let decoded = LENIENT.decode(credentials(headers, b"Basic")?).ok()?;
    // RFC 7617 §2.1 asks for UTF-8; the `requests` library sends Latin-1 whenever that can hold
    // the text.
    let text = String::from_utf8(decoded)
        .unwrap_or_else(|error| error.as_bytes().iter().map(|byte| char::from(*byte)).collect());
    let (email, password) = text.split_once(':')?;
    Some(Basic { email: email.to_owned(), password: password.to_owned() })
}

/// Reads a bearer token; `None` when there is none.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    std::str::from_utf8(credentials(headers, b"Bearer")?).ok()
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &[u8]) -> Option<&'a [u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (found, rest) = value.as_bytes().trim_ascii().split_at_checked(scheme.len())?;
    if !found.eq_ignore_ascii_case(scheme) || !rest.starts_with(b" ") {
        return None;
    }
    Some(rest.trim_ascii()).filter(|credentials| !credentials.is_empty())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())).collect()
    }

    fn parsed(value: &[u8]) -> Option<(String, String)> {
        basic(&headers(&[value])).map(|basic| (basic.email, basic.password))
    }

    fn sent(scheme: &str, credentials: &[u8]) -> Vec<u8> {
        format!("{scheme} {}", base64::engine::general_purpose::STANDARD.encode(credentials)).into_bytes()
    }

    fn pair(email: &str, password: &str) -> (String, String) {
        (email.to_owned(), password.to_owned())
    }

    #[test]
    fn credentials_split_at_the_first_colon_under_any_spelling_of_the_scheme() {
        for scheme in ["Basic", "basic", "BASIC"] {
            assert_eq!(parsed(&sent(scheme, b"a@b.c:p:w:")), Some(pair("a@b.c", "p:w:")));
        }
        assert_eq!(parsed(b"Basic   YUBiLmM6cHc=  "), Some(pair("a@b.c", "pw")));
        assert_eq!(parsed(b"Basic YUBiLmM6cHc"), Some(pair("a@b.c", "pw")));
        assert_eq!(parsed(&sent("Basic", b":")), Some(pair("", "")));
    }

    #[test]
    fn text_is_utf_8_and_else_latin_1() {
        assert_eq!(parsed(&sent("Basic", "pä@x.io:пароль".as_bytes())), Some(pair("pä@x.io", "пароль")));
        assert_eq!(parsed(&sent("Basic", b"p\xe4@x.io:\xfc")), Some(pair("pä@x.io", "ü")));
    }

    #[test]
    fn what_is_not_basic_is_missing() {
        for value in [
            &b""[..],
            b"Basic",
            b"Basic ",
            b"BasicYUBiLmM6cHc=",
            b"Basic\tYUBiLmM6cHc=",
            b"Bearer YUBiLmM6cHc=",
            b"Basic a@b.c:pw",
            b"Basic YUBiLmM",
            b"YUBiLmM6cHc=",
        ] {
            assert_eq!(parsed(value), None, "{value:?}");
        }
        let good = sent("Basic", b"a@b.c:pw");
        assert_eq!(basic(&headers(&[&good, &good])).map(|basic| basic.email), None);
        assert_eq!(basic(&HeaderMap::new()).map(|basic| basic.email), None);
    }

    #[test]
    fn a_bearer_token_is_the_second_word() {
        assert_eq!(bearer(&headers(&[b"bearer a.b.c"])), Some("a.b.c"));
        for value in [&b""[..], b"Bearer", b"Bearer ", b"a.b.c", b"Basic a.b.c", b"Bearer \xff"] {
            assert_eq!(bearer(&headers(&[value])), None, "{value:?}");
        }
    }
}
