//! Makes and checks private signing keys. Their text goes into Secrets alone.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    error::Unspecified,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair},
};

use crate::contract::{Algorithm, key_ring::MIN_MODULUS_BYTES};

/// The label of a PKCS #8 key in PEM (RFC 7468 §10).
const LABEL: &str = "PRIVATE KEY";

/// A new private key in PEM; `None` for HS256, whose keys are random bytes. An RSA key takes a good
/// part of a second.
///
/// # Errors
/// The system's generator of random numbers fails.
pub fn generate(algorithm: Algorithm) -> Result<Option<String>, Unspecified> {
    let random = SystemRandom::new();
    let der = match algorithm {
        Algorithm::HS256 => return Ok(None),
        Algorithm::ES256 => {
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?.as_ref().to_vec()
        }
        // The second version adds the public key, which not every reader of keys expects.
        Algorithm::EdDSA => Ed25519KeyPair::generate_pkcs8v1(&random)?.as_ref().to_vec(),
        Algorithm::RS256 => {
            let der: Pkcs8V1Der<'_> = RsaKeyPair::generate(KeySize::Rsa2048)?.as_der()?;
            der.as_ref().to_vec()
        }
    };
    Ok(Some(pem::encode(&pem::Pem::new(LABEL, der))))
}

/// Whether this is a private key, PKCS #8 in PEM, that signs with the algorithm.
#[must_use]
pub fn is_usable(key: &[u8], algorithm: Algorithm) -> bool {
    let Some(pem) = pem::parse(key).ok().filter(|pem| pem.tag() == LABEL) else { return false };
    let der = pem.contents();
    match algorithm {
        Algorithm::HS256 => false,
        Algorithm::ES256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).is_ok(),
        Algorithm::EdDSA => Ed25519KeyPair::from_pkcs8(der).is_ok(),
        Algorithm::RS256 => {
            RsaKeyPair::from_pkcs8(der).is_ok_and(|key| key.public_modulus_len() >= MIN_MODULUS_BYTES)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_usable_for_its_algorithm_alone() {
        let all = [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256];
        for made in all {
            let (key, other) = (generate(made).unwrap().unwrap(), generate(made).unwrap().unwrap());
            assert_ne!(key, other);
            for algorithm in all {
                assert_eq!(
                    is_usable(key.as_bytes(), algorithm),
                    made == algorithm,
                    "{made:?} for {algorithm:?}"
                );
            }
        }
        assert_eq!(generate(Algorithm::HS256).unwrap(), None);
    }

    #[test]
    fn what_is_no_private_key_is_told() {
        for text in [
            "",
            "a-secret-of-more-than-thirty-two-bytes",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(!is_usable(text.as_bytes(), Algorithm::ES256), "{text}");
        }
    }
}
