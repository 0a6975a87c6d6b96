//! What may be new in one run: the clock and random values, drawn before anything is decided, so
//! that deciding stays pure. Most runs use none of the values.

use k8s_openapi::jiff::Timestamp;
use rand::{Rng, RngExt};

use crate::operator::surroundings::Surroundings;

/// Values for whatever has to be generated. Secret, hence without Debug.
#[derive(Clone)]
pub struct Fresh {
    /// The present time.
    pub now: Timestamp,
    /// Key id of a new signing key: 8 hex digits.
    pub key_id: String,
    /// A new HS256 key. Printable, because neighbours take it from an environment variable.
    pub key: String,
    /// A new private key in PEM, where one is wanted: it is costly to make.
    pub private_key: Option<String>,
    /// Id of this resource's own database accounts: 8 hex digits.
    pub account_id: String,
    /// Key that names migration Jobs.
    pub job_key: Vec<u8>,
    /// Password of a new database account.
    pub account_password: String,
    /// Password of the first admin.
    pub admin_password: String,
    /// A new key of administration tokens.
    pub administration_key: String,
    /// Root password of a new managed database.
    pub root_password: String,
}

impl Fresh {
    /// Draws everything but the private key.
    #[must_use]
    pub fn draw(surroundings: &Surroundings, private_key: Option<String>) -> Self {
        let now = surroundings.now();
        surroundings.draw(|chance| {
            let mut job_key = vec![0; 32];
            chance.fill_bytes(&mut job_key);
            Self {
                now,
                key_id: format!("{:08x}", chance.random::<u32>()),
                key: letters(chance, 64),
                private_key,
                account_id: format!("{:08x}", chance.random::<u32>()),
                job_key,
                account_password: letters(chance, 32),
                admin_password: letters(chance, 24),
                administration_key: letters(chance, 64),
                root_password: letters(chance, 32),
            }
        })
    }
}

/// Letters and digits: just under 6 bits each, and safe in every shell, URL and environment.
fn letters(chance: &mut dyn Rng, count: usize) -> String {
    (0..count).map(|_| char::from(chance.sample(rand::distr::Alphanumeric))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::poller::HttpPods;

    #[test]
    fn values_are_long_enough_printable_and_never_drawn_twice() {
        let surroundings = Surroundings::of_system(std::sync::Arc::new(HttpPods::default()));
        let (one, other) = (Fresh::draw(&surroundings, None), Fresh::draw(&surroundings, None));
        assert_eq!((one.key_id.len(), one.account_id.len(), one.job_key.len()), (8, 8, 32));
        assert!(one.key.len() >= 2 * crate::contract::key_ring::MIN_KEY_BYTES);
        assert_eq!(
            (one.account_password.len(), one.admin_password.len(), one.root_password.len()),
            (32, 24, 32)
        );
        assert_eq!(one.admin_password.len(), *crate::contract::PASSWORD_MIN_LENGTH.end() as usize);
        assert!(one.administration_key.len() >= 2 * crate::contract::key_ring::MIN_KEY_BYTES);
        assert_ne!(one.administration_key, other.administration_key);
        assert!(one.key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one.key, other.key);
        assert_ne!(one.job_key, other.job_key);
    }
}
