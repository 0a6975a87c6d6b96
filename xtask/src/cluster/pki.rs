//! The certificates of a throw-away cluster: one authority, and for each component a
//! certificate and the kubeconfig that uses it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::layout::{API_SERVER, NODE_ADDRESS, SERVICE_ADDRESS};

/// A certificate and its key, as PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// The cluster's authority; it signs and is then forgotten.
pub(super) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("kubernetes", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// A certificate for `user` of `group`, good as client and, with `hosts`, as server.
    pub(super) fn issue(&self, user: &str, group: Option<&str>, hosts: &[&str]) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name = name(user, group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }

    /// A kubeconfig that acts as `user` of `group`.
    pub(super) fn kubeconfig(
        &self,
        user: &str,
        group: Option<&str>,
        cluster: &str,
    ) -> anyhow::Result<String> {
        let identity = self.issue(user, group, &[])?;
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": cluster,
            "clusters": [{"name": cluster, "cluster": {
                "server": API_SERVER,
                "certificate-authority-data": base64(self.certificate.as_bytes()),
            }}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
            "users": [{"name": cluster, "user": {
                "client-certificate-data": base64(identity.certificate.as_bytes()),
                "client-key-data": base64(identity.key.as_bytes()),
            }}],
        });
        Ok(serde_json::to_string_pretty(&config)?)
    }
}

/// Writes every certificate, key and kubeconfig that the components of `node` read into
/// `folder`, and returns the administrator's kubeconfig.
pub(super) fn write(folder: &Path, node: &str) -> anyhow::Result<String> {
    let authority = Authority::new()?;
    secret(folder, "ca.crt", &authority.certificate)?;
    let hosts = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        NODE_ADDRESS,
        SERVICE_ADDRESS,
        "127.0.0.1",
    ];
    pair(folder, "apiserver", &authority.issue("kube-apiserver", None, &hosts)?)?;
    pair(
        folder,
        "apiserver-kubelet-client",
        &authority.issue("kube-apiserver", Some("system:masters"), &[])?,
    )?;
    pair(folder, "kubelet-server", &authority.issue(node, None, &[node, NODE_ADDRESS])?)?;
    let tokens = KeyPair::generate()?;
    secret(folder, "service-accounts.key", &tokens.serialize_pem())?;
    secret(folder, "service-accounts.pub", &tokens.public_key_pem())?;
    let users = [
        ("kubelet", format!("system:node:{node}"), Some("system:nodes")),
        ("kube-controller-manager", "system:kube-controller-manager".to_owned(), None),
        ("kube-scheduler", "system:kube-scheduler".to_owned(), None),
        ("kube-proxy", "system:kube-proxy".to_owned(), None),
        ("coredns", "coredns".to_owned(), None),
        ("provisioner", "provisioner".to_owned(), None),
    ];
    for (component, user, group) in users {
        secret(folder, &format!("{component}.kubeconfig"), &authority.kubeconfig(&user, group, node)?)?;
    }
    authority.kubeconfig("admin", Some("system:masters"), node)
}

fn pair(folder: &Path, name: &str, identity: &Identity) -> anyhow::Result<()> {
    secret(folder, &format!("{name}.crt"), &identity.certificate)?;
    secret(folder, &format!("{name}.key"), &identity.key)
}

/// Writes a file that only its owner reads.
pub(super) fn secret(folder: &Path, name: &str, content: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common);
    name
}

/// RFC 4648 base64 with padding: the only use does not merit a dependency.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let six = (word >> (18 - 6 * position)) & 63;
            text.push(if position <= chunk.len() { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_the_vectors_of_rfc_4648() {
        let encoded = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
