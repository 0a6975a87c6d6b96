//! The administration API: its key and its address.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretSlice};

use super::{Environment, Faults, KEY_CURE, address, duration};
use crate::{
    contract::{ADMINISTRATION_PORT, env},
    server::tokens::{AdminKey, LONGEST_SECONDS},
};

/// What the administration API is served with.
#[derive(Debug)]
pub struct AdministrationConfig {
    /// The key that its tokens are signed with.
    pub key: AdminKey,
    /// The file that the key came from, read again while the server runs.
    pub key_file: Option<PathBuf>,
    /// Address of its listener.
    pub address: SocketAddr,
}

impl AdministrationConfig {
    /// `None` without a key: then the port stays closed.
    pub(super) fn read(environment: &Environment, faults: &mut Faults) -> Option<Self> {
        let key = key(environment, faults);
        let address = address(environment, env::ADMIN_ADDRESS, ADMINISTRATION_PORT, faults);
        Some(Self { key: key?, key_file: environment.file(env::ADMIN_KEY), address })
    }
}

/// The key that administration tokens are signed with.
///
/// # Errors
/// The faults of `ADMIN_KEY`, its absence included.
pub fn read_admin_key(environment: &Environment) -> Result<AdminKey, Faults> {
    let mut faults = Faults::default();
    if let Some(key) = key(environment, &mut faults) {
        return Ok(key);
    }
    if faults.is_empty() {
        let cure = "set it, or ADMIN_KEY_FILE, to the key of the administration API; the operator does so under spec.administration";
        faults.add(env::ADMIN_KEY, "is not set", cure);
    }
    Err(faults)
}

/// Reads the lifetime of an administration token, such as `5m`.
///
/// # Errors
/// It is none, or out of bounds.
pub fn admin_token_ttl(text: &str) -> Result<Duration, String> {
    duration::parse(text)
        .filter(|ttl| (1..=LONGEST_SECONDS).contains(&ttl.as_secs()))
        .ok_or_else(|| "use a duration from 1s to 1h, such as 5m".to_owned())
}

fn key(environment: &Environment, faults: &mut Faults) -> Option<AdminKey> {
    let bytes: SecretSlice<u8> = environment.secret_bytes(env::ADMIN_KEY, faults).ok()??;
    AdminKey::new(bytes.expose_secret())
        .map_err(|error| faults.add(env::ADMIN_KEY, error.to_string(), KEY_CURE))
        .ok()
}
