use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

use super::*;

const P256: &str = include_str!("../tokens/testdata/es256.pem");
const RSA: &str = include_str!("../tokens/testdata/rs256.pem");
const ED25519: &str = include_str!("../tokens/testdata/eddsa.pem");
const SEC1: &str = include_str!("testdata/sec1.pem");
const PKCS1: &str = include_str!("testdata/pkcs1.pem");
const ENCRYPTED: &str = include_str!("testdata/encrypted.pem");

/// The end of 2040-01-02, in seconds since the epoch.
const EXPIRES: i64 = 2_209_075_200;

/// A certificate of this key, with `name` in it.
fn certificate(key: &str, name: &str) -> String {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_after = date_time_ymd(2040, 1, 2);
    params.self_signed(&KeyPair::from_pem(key).unwrap()).unwrap().pem()
}

/// Two files as the kubelet mounts them: behind links to a folder that can be exchanged.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(certificate: &str, key: &str) -> Self {
        let mount = Self(tempfile::tempdir().unwrap());
        mount.exchange(certificate, key);
        for name in ["tls.crt", "tls.key"] {
            std::os::unix::fs::symlink(Path::new("..data").join(name), mount.path(name)).unwrap();
        }
        mount
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { certificate: self.path("tls.crt"), key: self.path("tls.key") }
    }

    /// A new folder takes the place of the old one at once.
    fn exchange(&self, certificate: &str, key: &str) {
        let folder = tempfile::Builder::new().prefix("..").tempdir_in(self.0.path()).unwrap().keep();
        std::fs::write(folder.join("tls.crt"), certificate).unwrap();
        std::fs::write(folder.join("tls.key"), key).unwrap();
        std::os::unix::fs::symlink(&folder, self.path("..next")).unwrap();
        std::fs::rename(self.path("..next"), self.path("..data")).unwrap();
    }

    /// The words with which this pair is refused, its folder left out.
    fn refusal(&self) -> String {
        let error = LiveTls::load(self.files()).unwrap_err().to_string();
        error.replace(self.0.path().to_str().unwrap(), "")
    }
}

#[test]
fn a_key_is_taken_in_every_form_that_tools_write() {
    for (key, made_with) in [(P256, P256), (RSA, RSA), (ED25519, ED25519), (SEC1, P256), (PKCS1, RSA)] {
        let tls = LiveTls::load(Mount::new(&certificate(made_with, "door"), key).files()).unwrap();
        assert_eq!(tls.expires(), Some(EXPIRES));
    }
}

#[test]
fn a_pair_that_cannot_be_served_with_is_refused_with_file_fault_and_cure() {
    const CERTIFICATE: &str = ": it needs the chain in PEM, the server's own certificate first";
    const KEY: &str = ": it needs a private key without passphrase in PEM (PKCS #8, PKCS #1 or SEC 1)";
    let good = certificate(P256, "door");
    let emptied = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (cut, half) = (&good[..good.len() - 30], &P256[..P256.len() - 30]);
    let garbled = P256.replacen("MIG", "?!G", 1);
    for (certificate, key, refusal) in [
        ("", P256, format!("TLS_CERT_FILE names /tls.crt, which holds no certificate{CERTIFICATE}")),
        (P256, P256, format!("TLS_CERT_FILE names /tls.crt, which holds no certificate{CERTIFICATE}")),
        (
            cut,
            P256,
            format!("TLS_CERT_FILE names /tls.crt, which holds broken PEM{CERTIFICATE}"),
        ),
        (
            emptied,
            P256,
            format!(
                "TLS_CERT_FILE names /tls.crt, which holds a certificate that cannot be used (invalid peer certificate: BadEncoding){CERTIFICATE}"
            ),
        ),
        (&good, "", format!("TLS_KEY_FILE names /tls.key, which holds no such key{KEY}")),
        (&good, &good, format!("TLS_KEY_FILE names /tls.key, which holds no such key{KEY}")),
        (&good, ENCRYPTED, format!("TLS_KEY_FILE names /tls.key, which holds no such key{KEY}")),
        (&good, half, format!("TLS_KEY_FILE names /tls.key, which holds broken PEM{KEY}")),
        (&good, &garbled, format!("TLS_KEY_FILE names /tls.key, which holds broken PEM{KEY}")),
        (
            &good,
            RSA,
            "TLS_KEY_FILE names /tls.key, which is not the key of the first certificate in /tls.crt: replace one of them, and let the chain begin with the server's own certificate".to_owned(),
        ),
    ] {
        assert_eq!(Mount::new(certificate, key).refusal(), refusal);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let mount = Mount::new(&certificate(P256, "door"), P256);
    std::fs::remove_file(mount.path("tls.key")).unwrap();
    assert_eq!(
        mount.refusal(),
        "TLS_KEY_FILE names /tls.key, which cannot be read (No such file or directory (os error 2)): let it name a file that this process can read"
    );
}

#[test]
fn a_new_pair_is_taken_and_a_broken_one_leaves_the_former_in_use() {
    let mount = Mount::new(&certificate(P256, "first"), P256);
    let tls = LiveTls::load(mount.files()).unwrap();
    let served = || Arc::as_ptr(&tls.identity.load().config);
    let (first, same) = (served(), Ok(tls.digest));
    assert_eq!((tls.look(&same), served()), (same.clone(), first), "nothing has changed");
    mount.exchange(&certificate(P256, "second"), RSA);
    let wrong = tls.look(&same);
    assert!(wrong.is_ok() && wrong != same && served() == first, "the key is another's");
    std::fs::remove_file(mount.path("..data")).unwrap();
    assert!(tls.look(&wrong).is_err() && served() == first, "nothing is there");
    mount.exchange(&certificate(RSA, "second"), RSA);
    let second = tls.look(&wrong);
    assert!(second.is_ok() && second != wrong && served() != first);
}

#[test]
fn no_key_shows_in_debug_output() {
    let mount = Mount::new(&certificate(P256, "door"), P256);
    let shown = format!("{:?}", LiveTls::load(mount.files()));
    assert!(!shown.contains(P256.lines().nth(1).unwrap()), "{shown}");
}
