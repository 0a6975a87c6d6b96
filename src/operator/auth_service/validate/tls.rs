//! The certificate of the public port.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};

use super::Inputs;
use crate::{
    contract::{TLS_CERT, TLS_KEY},
    operator::auth_service::{claim::Slot, live, refusal::Refusal},
};

const FIELD: &str = "http.tls.secretRef";

/// No pod may start: the certificate that spec asks for is not there, and passwords would travel in
/// the clear without it.
pub(super) struct NoCertificate;

/// Decides on the Secret whose certificate the pods serve with, `None` for plain HTTP. While the one
/// that spec names cannot be used, live pods keep what they have.
pub(super) fn decide(
    inputs: &Inputs<'_>,
    deployment: &Slot<'_, Deployment>,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<String>, NoCertificate> {
    let tls = inputs.spec.http.as_ref().and_then(|http| http.tls.as_ref());
    let Some(name) = tls.map(|tls| &tls.secret_ref.name) else { return Ok(None) };
    let secret = inputs.observed.referenced.get(name);
    let refusal = match secret.map(missing_entry) {
        Some(None) => return Ok(Some(name.clone())),
        Some(Some(key)) => {
            let fault = format!("has no key {key}, or an empty one: add it");
            Refusal::secret_invalid(FIELD, name, &fault)
        }
        None => {
            let keys = format!("type kubernetes.io/tls and keys {TLS_CERT} and {TLS_KEY}");
            Refusal::secret_missing(FIELD, name, &keys)
        }
    };
    refusals.push(refusal);
    deployment.ours().map(live::tls_secret).ok_or(NoCertificate)
}

/// What these entries hold is for the pods to say: they go on with the former pair.
fn missing_entry(secret: &Secret) -> Option<&'static str> {
    let is_there = |key: &str| {
        secret.data.as_ref().and_then(|data| data.get(key)).is_some_and(|value| !value.0.is_empty())
    };
    [TLS_CERT, TLS_KEY].into_iter().find(|key| !is_there(key))
}
