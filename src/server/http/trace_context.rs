//! The caller's trace, from the `traceparent` header (W3C Trace Context §3.2).

use std::fmt;

use axum::http::{HeaderMap, HeaderName};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Id of a trace: 32 lower-case hexadecimal digits, not all of them zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceId([u8; 32]);

impl TraceId {
    /// The trace that the caller names; `None` unless one header is there and its value is what the
    /// standard asks for to the letter: it goes into the log.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        Self::parse(value.as_bytes())
    }

    /// Reads `version "-" trace-id "-" parent-id "-" trace-flags`; a version above 00 may append
    /// further parts.
    fn parse(value: &[u8]) -> Option<Self> {
        let (known, further) = value.split_at_checked(55)?;
        let [version, trace, parent, flags] = {
            let mut parts = known.split(|byte| *byte == b'-');
            let parts = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
            parts.map(|part| part.iter().all(|byte| is_lower_hex(*byte)).then_some(part))
        };
        let (version, trace, parent, flags) = (version?, trace?, parent?, flags?);
        let is_some = |id: &[u8]| id.iter().any(|digit| *digit != b'0');
        let sound = (version.len(), parent.len(), flags.len()) == (2, 16, 2)
            && version != b"ff"
            && (further.is_empty() || version != b"00" && further.starts_with(b"-"))
            && is_some(trace)
            && is_some(parent);
        sound.then(|| trace.try_into().ok().map(Self)).flatten()
    }
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn found(values: &[&str]) -> Option<String> {
        let headers: HeaderMap =
            values.iter().map(|value| (TRACEPARENT, HeaderValue::from_str(value).unwrap())).collect();
        TraceId::of(&headers).map(|id| id.to_string())
    }

    #[test]
    fn a_well_formed_header_names_its_trace() {
        for value in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what the future will be like",
        ] {
            assert_eq!(found(&[value]).as_deref(), Some(TRACE), "{value}");
        }
    }

    #[test]
    fn anything_else_names_none() {
        for value in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0102",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e9}-00f067aa0ba902b7-01",
            "000-bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(found(&[value]), None, "{value}");
        }
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(found(&[good, good]), None, "two headers");
        assert_eq!(found(&[]), None);
    }
}
