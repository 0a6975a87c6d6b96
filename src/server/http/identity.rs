//! Whom a token speaks of, as headers that a proxy copies onto the request it lets through.

use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// The token's `sub`, or its `username` when it has none.
const USER: HeaderName = HeaderName::from_static("x-auth-request-user");
/// The token's `username`.
const EMAIL: HeaderName = HeaderName::from_static("x-auth-request-email");
/// The token's `username` again, under the name that most applications read.
const FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");

/// What is written as `%` and two digits, besides all that is not ASCII. With `%` itself among them
/// no two names become one.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// The headers of a token that verified, by its `sub` and its `username`. All of them, always: a proxy that
/// overwrites what the client sent under such a name overwrites it only with a header that is there. One
/// that the token says nothing about is empty.
pub(super) fn headers(subject: Option<&str>, username: Option<&str>) -> [(HeaderName, HeaderValue); 3] {
    let username = username.map_or(HeaderValue::from_static(""), header_value);
    let user = subject.map_or_else(|| username.clone(), header_value);
    [(USER, user), (EMAIL, username.clone()), (FORWARDED_USER, username)]
}

/// The text, percent-encoded (RFC 3986 §2.1) where a header could not hold it as it is.
fn header_value(text: &str) -> HeaderValue {
    let encoded = Cow::from(utf8_percent_encode(text, UNSAFE));
    // Visible ASCII is always a header value.
    HeaderValue::from_str(&encoded).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// User, e-mail and forwarded user.
    fn values(subject: Option<&str>, username: Option<&str>) -> [String; 3] {
        let headers = headers(subject, username);
        assert_eq!(headers.each_ref().map(|(name, _)| name), [&USER, &EMAIL, &FORWARDED_USER]);
        headers.map(|(_, value)| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_subject_is_the_user_and_the_username_the_e_mail() {
        let ann = "ann@example.org";
        assert_eq!(values(Some("7"), Some(ann)), ["7", ann, ann]);
        assert_eq!(values(None, Some(ann)), [ann, ann, ann]);
        assert_eq!(values(Some("7"), None), ["7", "", ""]);
        assert_eq!(values(None, None), ["", "", ""], "it overwrites all the same");
    }

    #[test]
    fn no_name_breaks_out_of_its_header_or_becomes_anothers() {
        for (name, expected) in [
            ("pä@x.io", "p%C3%A4@x.io"),
            ("p%C3%A4@x.io", "p%25C3%25A4@x.io"),
            ("a\r\nX-Admin: true", "a%0D%0AX-Admin:%20true"),
            (" a\t\u{0}\u{7f}", "%20a%09%00%7F"),
            ("\"a,b\"@x.io", "\"a,b\"@x.io"),
            ("😀", "%F0%9F%98%80"),
        ] {
            assert_eq!(values(None, Some(name)), [expected; 3], "{name:?}");
        }
    }
}
