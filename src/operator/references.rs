//! Which `AuthService`s refer to a Secret of the user's, so that a change of the Secret reaches them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    api::{AuthServiceSpec, auth_service::Database},
    operator::context::ObjectKey,
};

/// Names of Secrets and the `AuthService`s of the same namespace that refer to them.
#[derive(Debug, Default)]
pub struct SecretReferences {
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    /// Key: the Secret. Values: names of resources.
    referrers: HashMap<ObjectKey, BTreeSet<String>>,
    /// Key: the resource. Values: names of Secrets.
    referred: HashMap<ObjectKey, BTreeSet<String>>,
}

impl SecretReferences {
    /// Replaces what `resource` refers to. Called before its Secrets are read, so that a change
    /// after the reading finds the reference.
    pub fn set(&self, resource: &ObjectKey, secrets: BTreeSet<String>) {
        let mut index = self.lock();
        if index.referred.get(resource) == Some(&secrets) {
            return;
        }
        index.remove(resource);
        for secret in &secrets {
            let secret = ObjectKey { namespace: resource.namespace.clone(), name: secret.clone() };
            index.referrers.entry(secret).or_default().insert(resource.name.clone());
        }
        if !secrets.is_empty() {
            index.referred.insert(resource.clone(), secrets);
        }
    }

    /// The resources that refer to `secret`, sorted by name.
    #[must_use]
    pub fn referrers(&self, secret: &ObjectKey) -> Vec<ObjectKey> {
        let index = self.lock();
        let names = index.referrers.get(secret).into_iter().flatten();
        names.map(|name| ObjectKey { namespace: secret.namespace.clone(), name: name.clone() }).collect()
    }

    /// Forgets a resource that is gone.
    pub fn remove(&self, resource: &ObjectKey) {
        self.lock().remove(resource);
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn remove(&mut self, resource: &ObjectKey) {
        for secret in self.referred.remove(resource).unwrap_or_default() {
            let secret = ObjectKey { namespace: resource.namespace.clone(), name: secret };
            if let Some(names) = self.referrers.get_mut(&secret) {
                names.remove(&resource.name);
                if names.is_empty() {
                    self.referrers.remove(&secret);
                }
            }
        }
    }
}

/// Names of the Secrets that `spec` refers to.
#[must_use]
pub fn referred_secrets(spec: &AuthServiceSpec) -> BTreeSet<String> {
    let AuthServiceSpec { database, token, users, http, .. } = spec;
    let mut names = BTreeSet::new();
    if let Some(Database { external: Some(external), .. }) = database {
        names.extend(external.credentials_secret_ref.iter().map(|secret| secret.name.clone()));
        names.extend(external.admin_credentials_secret_ref.iter().map(|secret| secret.name.clone()));
    }
    if let Some(key) = token.as_ref().and_then(|token| token.signing_key_secret_ref.as_ref()) {
        names.insert(key.name.clone());
    }
    if let Some(tls) = http.as_ref().and_then(|http| http.tls.as_ref()) {
        names.insert(tls.secret_ref.name.clone());
    }
    let bootstrap = users.iter().flat_map(|users| users.bootstrap.iter().flatten());
    names.extend(bootstrap.map(|user| user.password_secret_ref.name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "market".to_owned(), name: name.to_owned() }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_secret_finds_every_resource_of_its_namespace_that_refers_to_it() {
        let references = SecretReferences::default();
        references.set(&key("gate"), names(&["shared", "own"]));
        references.set(&key("door"), names(&["shared"]));
        assert_eq!(references.referrers(&key("shared")), [key("door"), key("gate")]);
        assert_eq!(references.referrers(&key("own")), [key("gate")]);
        let elsewhere = ObjectKey { namespace: "fair".to_owned(), name: "shared".to_owned() };
        assert_eq!(references.referrers(&elsewhere), []);
    }

    #[test]
    fn a_reference_that_was_dropped_or_whose_resource_is_gone_leaves_nothing() {
        let references = SecretReferences::default();
        references.set(&key("gate"), names(&["old"]));
        references.set(&key("gate"), names(&["new"]));
        assert_eq!(references.referrers(&key("old")), []);
        references.remove(&key("gate"));
        let index = references.lock();
        assert!(index.referrers.is_empty() && index.referred.is_empty());
    }

    #[test]
    fn every_secret_that_spec_can_name_is_found() -> Result<(), serde_json::Error> {
        let spec: AuthServiceSpec = serde_json::from_value(serde_json::json!({
            "database": {"external": {
                "hosts": [{"host": "db.example"}],
                "credentialsSecretRef": {"name": "account"},
                "adminCredentialsSecretRef": {"name": "root"},
            }},
            "token": {"signingKeySecretRef": {"name": "key"}},
            "users": {"bootstrap": [{"email": "a@b.c", "passwordSecretRef": {"name": "password"}}]},
            "http": {"tls": {"secretRef": {"name": "door"}}},
        }))?;
        assert_eq!(referred_secrets(&spec), names(&["account", "door", "key", "password", "root"]));
        assert_eq!(referred_secrets(&AuthServiceSpec::default()), names(&[]));
        Ok(())
    }
}
