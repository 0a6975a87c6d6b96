//! A certificate chain and its private key: two files in PEM, and what they make.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::{
    self, InconsistentKeys, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use x509_cert::{Certificate, der::Decode};

use crate::{
    contract::env::{TLS_CERT_FILE, TLS_KEY_FILE},
    server::config::TlsFiles,
};

/// What can be spoken on a connection, the preferred one first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a pair cannot be served with. The PEM parser's own words are not passed on: they
/// quote what it stumbled over.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error(
        "{variable} names {path}, which cannot be read ({source}): let it name a file that this process can read"
    )]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// There is no usable certificate.
    #[error(
        "{TLS_CERT_FILE} names {path}, which holds {fault}: it needs the chain in PEM, the server's own certificate first"
    )]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is there in its place.
        fault: String,
    },
    /// There is no usable key.
    #[error(
        "{TLS_KEY_FILE} names {path}, which holds {fault}: it needs a private key without passphrase in PEM (PKCS #8, PKCS #1 or SEC 1)"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is there in its place.
        fault: &'static str,
    },
    /// The two do not belong together.
    #[error(
        "{TLS_KEY_FILE} names {key}, which is not the key of the first certificate in {certificate}: replace one of them, and let the chain begin with the server's own certificate"
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The cryptography linked in speaks neither version.
    #[error("{TLS_CERT_FILE} asks for TLS, which this build cannot speak ({0}): use a released image")]
    Provider(rustls::Error),
}

/// The contents of both files; not for `Debug`, since a key may have strayed into the chain's.
pub(super) struct Pair {
    chain: Vec<u8>,
    key: SecretSlice<u8>,
}

/// What a pair makes.
#[derive(Debug)]
pub(super) struct Identity {
    /// For connections to come.
    pub(super) config: Arc<ServerConfig>,
    /// When the certificate expires, in seconds since the epoch; `None` when that cannot be told.
    pub(super) expires: Option<i64>,
}

impl Pair {
    /// Reads both files. The kubelet exchanges a mounted Secret by pointing the link `..data` at a
    /// new folder: files exchanged meanwhile are read again, so that both are of one pair.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(super) fn read(files: &TlsFiles) -> Result<Self, PairError> {
        let places = || [&files.certificate, &files.key].map(|path| std::fs::canonicalize(path).ok());
        let before = places();
        match Self::read_once(files) {
            Ok(pair) if places() == before => Ok(pair),
            _ => Self::read_once(files),
        }
    }

    fn read_once(files: &TlsFiles) -> Result<Self, PairError> {
        let read = |variable, path: &Path| {
            std::fs::read(path).map_err(|source| PairError::Unreadable {
                variable,
                path: path.to_owned(),
                source,
            })
        };
        let chain = read(TLS_CERT_FILE, &files.certificate)?;
        Ok(Self { chain, key: read(TLS_KEY_FILE, &files.key)?.into() })
    }

    /// Tells pairs apart.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for content in [&self.chain, self.key.expose_secret()] {
            digest.update(content.len().to_be_bytes());
            digest.update(content);
        }
        digest.finalize().into()
    }

    /// What connections need; `files` is where the pair was read, for the words of an error.
    ///
    /// # Errors
    /// A file is not what it has to be, or the two do not belong together.
    pub(super) fn identity(&self, files: &TlsFiles) -> Result<Identity, PairError> {
        let certificate = |fault: String| PairError::Certificate { path: files.certificate.clone(), fault };
        let key = |fault| PairError::Key { path: files.key.clone(), fault };
        let chain = CertificateDer::pem_slice_iter(&self.chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| certificate("broken PEM".to_owned()))?;
        let Some(leaf) = chain.first() else { return Err(certificate("no certificate".to_owned())) };
        let expires = expires(leaf);
        let private = PrivateKeyDer::from_pem_slice(self.key.expose_secret()).map_err(|error| {
            key(match error {
                rustls::pki_types::pem::Error::NoItemsFound => "no such key",
                _ => "broken PEM",
            })
        })?;
        let provider = aws_lc_rs::default_provider();
        let private = provider
            .key_provider
            .load_private_key(private)
            .map_err(|_| key("a key that cannot sign for TLS"))?;
        let certified = CertifiedKey::new(chain, private);
        certified.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                PairError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() }
            }
            error => certificate(format!("a certificate that cannot be used ({error})")),
        })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(PairError::Provider)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(Identity { config: Arc::new(config), expires })
    }
}

fn expires(certificate: &CertificateDer<'_>) -> Option<i64> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let expires = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    i64::try_from(expires.as_secs()).ok()
}
