//! Certificates of an authority made for one test, mounted as the kubelet mounts a Secret, and a client
//! that trusts no other.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, date_time_ymd,
};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// A root that signed an authority between, which signs servers.
pub struct Authority {
    pub root: String,
    between: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate with its chain, and its key.
pub struct Pair {
    pub chain: String,
    pub key: String,
    /// As curl's `--pinnedpubkey` takes it.
    pub pin: String,
}

impl Authority {
    pub fn new() -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.use_authority_key_identifier_extension = true;
            (params, KeyPair::generate().unwrap())
        };
        let (params, key) = authority("root of a test");
        let root = params.self_signed(&key).unwrap().pem();
        let root_issuer = Issuer::new(params, key);
        let (params, key) = authority("between");
        let between = params.signed_by(&key, &root_issuer).unwrap().pem();
        Self { root, between, issuer: Issuer::new(params, key) }
    }

    /// A certificate for 127.0.0.1 that expires as 2 January of this year begins.
    pub fn issue(&self, expires: i32) -> Pair {
        use base64::Engine;
        use sha2::{Digest, Sha256};
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(expires, 1, 2);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let pin =
            base64::engine::general_purpose::STANDARD.encode(Sha256::digest(key.subject_public_key_info()));
        Pair {
            chain: format!("{certificate}{}", self.between),
            key: key.serialize_pem(),
            pin: format!("sha256//{pin}"),
        }
    }

    /// Opens a connection and shakes hands; whatever is known of earlier ones is not used.
    pub fn connect(&self, address: SocketAddr) -> io::Result<Connection> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let tcp = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        tcp.set_read_timeout(Some(Duration::from_secs(15)))?;
        let name = ServerName::from(address.ip());
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Connection(stream))
    }
}

/// A connection over TLS.
pub struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    /// Whether the server showed this pair's certificate.
    pub fn shows(&self, pair: &Pair) -> bool {
        let shown = self.0.conn.peer_certificates().unwrap();
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(pair.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
        shown == chain
    }

    /// Asks and keeps the connection; whether the answer is the one to a request without a token.
    pub fn is_answered(&mut self) -> bool {
        let request = b"POST /validate HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
        if self.0.write_all(request).is_err() {
            return false;
        }
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(b"\r\n\r\nMissing credentials") {
            match self.0.read(&mut buffer) {
                Ok(length) if length > 0 => answer.extend(&buffer[..length]),
                _ => return false,
            }
        }
        answer.starts_with(b"HTTP/1.1 401 ")
    }
}

/// A folder with `tls.crt` and `tls.key` behind a link, which is exchanged as the kubelet does.
pub struct Mount(TempDir);

impl Mount {
    pub fn new(chain: &str, key: &str) -> Self {
        let mount = Self(tempfile::tempdir().unwrap());
        mount.exchange(chain, key);
        for name in ["tls.crt", "tls.key"] {
            std::os::unix::fs::symlink(Path::new("..data").join(name), mount.path(name)).unwrap();
        }
        mount
    }

    pub fn exchange(&self, chain: &str, key: &str) {
        let former = std::fs::canonicalize(self.path("..data"));
        let folder = tempfile::Builder::new().prefix("..").tempdir_in(self.0.path()).unwrap().keep();
        std::fs::write(folder.join("tls.crt"), chain).unwrap();
        std::fs::write(folder.join("tls.key"), key).unwrap();
        std::os::unix::fs::symlink(folder.file_name().unwrap(), self.path("..data_tmp")).unwrap();
        std::fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        if let Ok(former) = former {
            std::fs::remove_dir_all(former).unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The server's variables.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        [("TLS_CERT_FILE", path("tls.crt")), ("TLS_KEY_FILE", path("tls.key"))]
    }
}
