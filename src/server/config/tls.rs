//! The files of the public port's certificate.

use std::path::PathBuf;

use super::source::{Environment, Faults};
use crate::contract::env;

/// A certificate and its key, read again while the server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain in PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Both or neither; `None` is plain HTTP.
    pub(super) fn read(environment: &Environment, faults: &mut Faults) -> Option<Self> {
        let before = faults.iter().count();
        let certificate = environment.text(env::TLS_CERT_FILE, faults);
        let key = environment.text(env::TLS_KEY_FILE, faults);
        let (missing, other) = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                return Some(Self { certificate: certificate.into(), key: key.into() });
            }
            (None, None) => return None,
            (Some(_), None) => (env::TLS_KEY_FILE, env::TLS_CERT_FILE),
            (None, Some(_)) => (env::TLS_CERT_FILE, env::TLS_KEY_FILE),
        };
        // One that is set and cannot be read has its fault already.
        if faults.iter().count() == before {
            faults.add(
                missing,
                format!("is not set although {other} is"),
                "set both, or neither for plain HTTP",
            );
        }
        None
    }
}
