//! Where traces go, judged alike by the operator and the server.

use axum::http::{Uri, uri::Scheme};

/// What follows the path of an endpoint (OTLP specification, "OTLP/HTTP Request").
const TRACES: &str = "/v1/traces";

/// A collector of traces that takes OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Host and port as they stand in a `Host` header.
    pub authority: String,
    /// The path that traces are posted to.
    pub path: String,
}

/// Why an endpoint cannot be used. None of these repeats it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCollector {
    /// It does not parse, or lacks a part.
    #[error("is no URL of a collector")]
    NoUrl,
    /// HTTPS.
    #[error("begins with https, which traces are not sent by")]
    Https,
    /// User information or a query.
    #[error("holds credentials, a query or a fragment, which traces are not sent with")]
    Credentials,
}

impl BadCollector {
    /// What to do.
    #[must_use]
    pub fn cure(self) -> &'static str {
        match self {
            Self::NoUrl => {
                "use the URL of its OTLP/HTTP port, such as http://collector.observability.svc:4318"
            }
            Self::Https | Self::Credentials => {
                "name a collector in the cluster by http://host:4318, and have it send them on"
            }
        }
    }
}

impl Collector {
    /// Reads an endpoint such as `http://collector:4318`.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn of(endpoint: &str) -> Result<Self, BadCollector> {
        if endpoint.contains(['?', '#', '@']) {
            return Err(BadCollector::Credentials);
        }
        let url: Uri = endpoint.parse().map_err(|_| BadCollector::NoUrl)?;
        if url.scheme() == Some(&Scheme::HTTPS) {
            return Err(BadCollector::Https);
        }
        let authority = url.authority().filter(|_| url.scheme() == Some(&Scheme::HTTP));
        let authority = authority.ok_or(BadCollector::NoUrl)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        // The parser leaves a port alone that is none.
        let port = match (authority.port_u16(), authority.port()) {
            (Some(port), _) if port > 0 => port,
            (None, None) if authority.as_str().len() == authority.host().len() => 80,
            _ => return Err(BadCollector::NoUrl),
        };
        if host.is_empty() {
            return Err(BadCollector::NoUrl);
        }
        let path = format!("{}{TRACES}", url.path().trim_end_matches('/'));
        Ok(Self { host: host.to_owned(), port, authority: authority.as_str().to_owned(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_names_host_port_and_the_path_before_the_standards_own() {
        for (endpoint, host, port, authority, path) in [
            ("http://collector:4318", "collector", 4318, "collector:4318", "/v1/traces"),
            ("http://collector:4318/", "collector", 4318, "collector:4318", "/v1/traces"),
            ("HTTP://c.observability.svc", "c.observability.svc", 80, "c.observability.svc", "/v1/traces"),
            ("http://[fd00::7]:4318/otlp", "fd00::7", 4318, "[fd00::7]:4318", "/otlp/v1/traces"),
        ] {
            let expected = Collector {
                host: host.to_owned(),
                port,
                authority: authority.to_owned(),
                path: path.to_owned(),
            };
            assert_eq!(Collector::of(endpoint), Ok(expected), "{endpoint}");
        }
    }

    #[test]
    fn what_cannot_be_sent_to_is_refused() {
        for (endpoint, fault) in [
            ("", BadCollector::NoUrl),
            ("collector:4318", BadCollector::NoUrl),
            ("/v1/traces", BadCollector::NoUrl),
            ("http://", BadCollector::NoUrl),
            ("http://:4318", BadCollector::NoUrl),
            ("http://collector:", BadCollector::NoUrl),
            ("http://collector:0", BadCollector::NoUrl),
            ("http://collector:70000", BadCollector::NoUrl),
            ("http://collector 2:4318", BadCollector::NoUrl),
            ("grpc://collector:4317", BadCollector::NoUrl),
            ("https://collector:4318", BadCollector::Https),
            ("http://user:hunter2@collector:4318", BadCollector::Credentials),
            ("http://collector:4318?key=hunter2", BadCollector::Credentials),
            ("http://collector:4318#top", BadCollector::Credentials),
        ] {
            assert_eq!(Collector::of(endpoint), Err(fault), "{endpoint}");
        }
    }
}
