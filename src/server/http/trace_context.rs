//! The caller's trace, from the headers `traceparent` and `tracestate` (W3C Trace Context §3.2, §3.3),
//! and what the log says of a request's trace.

use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use tracing::field::{DisplayValue, display};

use crate::server::traces;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The most of a `tracestate` that is passed on; the standard asks for no less.
const MAX_STATE_BYTES: usize = 512;

/// What the log says of a request's trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    /// The trace: the caller's, or one that begins here.
    pub(super) trace: Option<TraceId>,
    /// The span of this request, where it is recorded.
    pub(super) span: Option<SpanId>,
}

impl Ids {
    /// Those of the request that is answered now, whose headers these are.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match traces::current() {
            Some(own) => Self { trace: Some(own.trace_id()), span: Some(own.span_id()) },
            None => Self { trace: Parent::of(headers).map(|parent| parent.trace), span: None },
        }
    }

    /// Both as they stand in a line of the log.
    pub(super) fn fields(self) -> (Option<DisplayValue<TraceId>>, Option<DisplayValue<SpanId>>) {
        (self.trace.map(display), self.span.map(display))
    }
}

/// What the caller says of the span that its request is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl Parent {
    /// `None` unless one header is there and its value is what the standard asks for to the letter: the
    /// trace's id goes into the log.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        Self::parse(value.as_bytes())
    }

    /// Reads `version "-" trace-id "-" parent-id "-" trace-flags`; a version above 00 may append
    /// further parts.
    fn parse(value: &[u8]) -> Option<Self> {
        let (known, further) = value.split_at_checked(55)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let mut part = || parts.next();
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        let version = bytes::<1>(version)?[0];
        let sound = version != 0xff && (further.is_empty() || version != 0 && further.starts_with(b"-"));
        let parent = Self {
            trace: TraceId::from_bytes(bytes(trace)?),
            span: SpanId::from_bytes(bytes(span)?),
            // Of the flags only one is known, in this version and in any other.
            flags: TraceFlags::new(bytes::<1>(flags)?[0]) & TraceFlags::SAMPLED,
        };
        (sound && parent.trace != TraceId::INVALID && parent.span != SpanId::INVALID).then_some(parent)
    }

    /// The same for whoever makes spans, with what the headers say beside it.
    pub(super) fn context(headers: &HeaderMap) -> Option<SpanContext> {
        let Self { trace, span, flags } = Self::of(headers)?;
        Some(SpanContext::new(trace, span, flags, true, state(headers)))
    }
}

/// What tracing systems before this one say to those after it; several headers are one list.
fn state(headers: &HeaderMap) -> TraceState {
    let values = headers.get_all(TRACESTATE).iter().map(|value| value.to_str().ok());
    let list = values.collect::<Option<Vec<_>>>().map(|values| values.join(","));
    let list = list.filter(|list| !list.is_empty() && list.len() <= MAX_STATE_BYTES);
    list.and_then(|list| TraceState::from_str(&list).ok()).unwrap_or_default()
}

/// Reads as many lower-case hexadecimal digits as there have to be.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
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
        Ids::of(&headers).trace.map(|id| id.to_string())
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

    #[test]
    fn the_callers_span_and_decision_are_taken_over_and_its_state_within_bounds() {
        let context = |parent: &str, states: &[&str]| {
            let states = states.iter().map(|state| (TRACESTATE, HeaderValue::from_str(state).unwrap()));
            let parent = (TRACEPARENT, HeaderValue::from_str(parent).unwrap());
            Parent::context(&states.chain([parent]).collect())
        };
        let with = |flags: TraceFlags, state: &str| {
            let (trace, span) =
                (TraceId::from_hex(TRACE).unwrap(), SpanId::from_hex("00f067aa0ba902b7").unwrap());
            Some(SpanContext::new(trace, span, flags, true, TraceState::from_str(state).unwrap()))
        };
        let parent = |flags: &str| format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
        let (sampled, unsampled) = (TraceFlags::SAMPLED, TraceFlags::NOT_SAMPLED);
        assert_eq!(context(&parent("01"), &[]), with(sampled, ""));
        assert_eq!(context(&parent("fe"), &["a=1"]), with(unsampled, "a=1"));
        assert_eq!(context(&parent("ff"), &["a=1,b=2", "c=3"]), with(sampled, "a=1,b=2,c=3"));
        let long = format!("a={},b={}", "x".repeat(250), "y".repeat(250));
        let longer = format!("{long},cc=123456");
        assert_eq!(context(&parent("01"), &[&long]), with(sampled, &long));
        for bad in ["no list", "a=1=2", longer.as_str(), "ä=1"] {
            assert_eq!(context(&parent("01"), &[bad]), with(sampled, ""), "{bad}");
        }
        assert_eq!(context("none", &["a=1"]), None);
    }
}
