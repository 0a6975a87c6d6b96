//! The database accounts: entries counted up from 1, each written once, the newest one wanted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;

use super::{Inputs, data};
use crate::operator::{
    auth_service::{
        claim::Slot,
        names::entry,
        plan::{Account, Entries},
        refusal::Refusal,
    },
    labels,
};

/// Longest account name that both engines take (`MariaDB`; `MySQL` stops at 32 and says so itself).
const MAX_USERNAME: usize = 80;

/// The decision on the accounts.
#[derive(Default)]
pub(super) struct Accounts {
    /// What the Secret holds from now on; `None`: it is left alone.
    pub(super) entries: Option<Entries>,
    /// The account to use.
    pub(super) wanted: Option<Account>,
}

impl Accounts {
    /// The value of one entry.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.as_ref().and_then(|entries| entries.0.get(key)).map(Vec::as_slice)
    }

    /// Whether the first admin's Secret was made before.
    pub(super) fn admin_issued(&self) -> bool {
        self.get(entry::ADMIN_ISSUED).is_some()
    }
}

/// Decides on the accounts; `live` is the number of the account that the live pods use.
pub(super) fn decide(
    inputs: &Inputs<'_>,
    slot: &Slot<'_, Secret>,
    live: Option<u32>,
    refusals: &mut Vec<Refusal>,
) -> Accounts {
    let name = inputs.identity.accounts();
    let (mut entries, regenerated) = match slot {
        Slot::Blocked => return Accounts::default(),
        Slot::Ours(secret) => (data(secret), false),
        Slot::Absent if !inputs.accounts_were_there() => (BTreeMap::new(), false),
        Slot::Absent if inputs.may_regenerate(&name) => (BTreeMap::new(), true),
        Slot::Absent => {
            refusals.push(Refusal::secret_lost(format!(
                "Secret {name} with the database accounts is gone, and the database knows them: restore it from a backup, or annotate the AuthService with {}={name} to make new accounts",
                labels::REGENERATE,
            )));
            return Accounts::default();
        }
    };
    entries.entry(entry::ID.to_owned()).or_insert_with(|| inputs.fresh.account_id.clone().into_bytes());
    entries.entry(entry::JOB_KEY.to_owned()).or_insert_with(|| inputs.fresh.job_key.clone());
    if regenerated {
        // The database holds the first admin with the old password: a new Secret would lie.
        entries.insert(entry::ADMIN_ISSUED.to_owned(), b"true".to_vec());
    }
    let wanted = wanted(inputs, &mut entries, live, refusals);
    Accounts { entries: Some(Entries(entries)), wanted }
}

/// The account to use, added when it is new.
fn wanted(
    inputs: &Inputs<'_>,
    entries: &mut BTreeMap<String, Vec<u8>>,
    live: Option<u32>,
    refusals: &mut Vec<Refusal>,
) -> Option<Account> {
    let newest = newest(entries);
    // Beyond every number in use: also those of a Secret that was lost stand in live pods.
    let next = numbers(entries).chain(live).max().unwrap_or(0).checked_add(1)?;
    let reference = inputs.external().and_then(|external| external.credentials_secret_ref.as_ref());
    let (username, password) = if let Some(reference) = reference {
        const FIELD: &str = "database.external.credentialsSecretRef";
        // Without the Secret the account that was copied last goes on.
        let Some(account) = credentials(inputs, FIELD, &reference.name, refusals) else { return newest };
        account
    } else {
        let id = String::from_utf8_lossy(entries.get(entry::ID)?).into_owned();
        if let Some(newest) = newest.as_ref().filter(|newest| newest.username == own_name(&id, newest.number))
        {
            return Some(newest.clone());
        }
        (own_name(&id, next), inputs.fresh.account_password.clone().into_bytes())
    };
    if let Some(newest) = newest.filter(|newest| {
        newest.username == username && entries.get(&newest.password_entry()) == Some(&password)
    }) {
        return Some(newest);
    }
    let account = Account { number: next, username };
    entries.insert(account.username_entry(), account.username.clone().into_bytes());
    entries.insert(account.password_entry(), password);
    Some(account)
}

fn own_name(id: &str, number: u32) -> String {
    format!("as_{id}_{number}")
}

/// Every number that an entry carries, whole account or not: none is ever used again.
fn numbers(entries: &BTreeMap<String, Vec<u8>>) -> impl Iterator<Item = u32> {
    entries.keys().filter_map(|key| {
        key.strip_suffix(entry::USERNAME_SUFFIX)
            .or_else(|| key.strip_suffix(entry::PASSWORD_SUFFIX))?
            .parse()
            .ok()
    })
}

/// The account of the highest number that has both its entries.
fn newest(entries: &BTreeMap<String, Vec<u8>>) -> Option<Account> {
    let account = |number| {
        let username = entries.get(&format!("{number}{}", entry::USERNAME_SUFFIX))?;
        let account = Account { number, username: String::from_utf8(username.clone()).ok()? };
        entries.contains_key(&account.password_entry()).then_some(account)
    };
    numbers(entries).filter_map(account).max_by_key(|account| account.number)
}

/// `username` and `password` of a Secret of the user's, a trailing newline of each taken off.
pub(super) fn credentials(
    inputs: &Inputs<'_>,
    field: &str,
    secret: &str,
    refusals: &mut Vec<Refusal>,
) -> Option<(String, Vec<u8>)> {
    let Some(found) = inputs.observed.referenced.get(secret) else {
        refusals.push(Refusal::secret_missing(field, secret, "keys username and password"));
        return None;
    };
    let value = |key: &str| {
        let value =
            found.data.as_ref().and_then(|data| data.get(key)).map(|value| trimmed(&value.0).to_vec());
        value
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("has no key {key}, or an empty one: add it"))
    };
    let username = value(entry::USERNAME).and_then(|username| {
        let username = String::from_utf8(username).ok();
        username.filter(|name| name.chars().count() <= MAX_USERNAME && !name.chars().any(char::is_control)).ok_or_else(
            || format!("holds no account name under key username: it must be text of at most {MAX_USERNAME} characters in one line"),
        )
    });
    match username.and_then(|username| value(entry::PASSWORD).map(|password| (username, password))) {
        Ok(account) => Some(account),
        Err(fault) => {
            refusals.push(Refusal::secret_invalid(field, secret, &fault));
            None
        }
    }
}

/// Without one trailing newline, which `kubectl create secret --from-file` brings along.
fn trimmed(value: &[u8]) -> &[u8] {
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    value.strip_suffix(b"\r").unwrap_or(value)
}
