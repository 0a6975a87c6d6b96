//! Decides, from spec and from what was read, what is to be made and what is refused. Pure: the
//! clock and random values are inputs like any other.

mod accounts;
mod administration;
mod database;
mod key_ring;
mod migration;
mod passwords;
mod tls;
mod tracing;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, ResourceRequirements, Secret},
    apimachinery::pkg::api::resource::Quantity,
    jiff::Timestamp,
};
use kube::{ResourceExt, core::Duration};

use self::{accounts::Accounts, key_ring::KeyRing, migration::Needs};
use super::{
    claim::{Slot, claim},
    fresh::Fresh,
    gather::Observed,
    live::{self, LiveSettings},
    names::{Component, Identity, entry},
    plan::{Connection, Deletable, Deletion, Entries, LoginProtection, Plan, Server, Tracing},
    refusal::Refusal,
};
use crate::{
    api::{
        AuthService, AuthServiceSpec,
        auth_service::{Algorithm, ExternalDatabase, LegacyFormat},
        conditions::{ConditionType, Reason},
    },
    contract,
    operator::{context::Images, labels},
};

pub use self::key_ring::{Signer, lacking_algorithm};

/// Lifetime of tokens when spec names none.
const DEFAULT_TTL: &str = "24h";
/// How soon revocations count everywhere when spec does not say.
const DEFAULT_LAG: &str = "5s";

/// Everything a decision may depend on.
pub struct Inputs<'a> {
    /// The resource.
    pub service: &'a AuthService,
    /// Its spec.
    pub spec: &'a AuthServiceSpec,
    /// Its names.
    pub identity: &'a Identity,
    /// What lives in the cluster.
    pub observed: &'a Observed,
    /// Images of resources that name none.
    pub images: &'a Images,
    /// The clock and random values.
    pub fresh: &'a Fresh,
}

/// The outcome: what to make, what is refused, and what the report has to know.
pub struct Decision {
    /// What to make.
    pub plan: Plan,
    /// What is refused.
    pub refusals: Vec<Refusal>,
    /// The present signer, for status.
    pub signer: Option<Signer>,
    /// When another key becomes the signer: the view has to follow then.
    pub next_signer_at: Option<Timestamp>,
    /// The live pods already use image and database that spec asks for.
    pub live_as_wanted: bool,
    /// A Secret that may be made anew though it is there.
    pub standing_request: Option<String>,
}

/// Decides.
#[must_use]
pub fn validate(inputs: &Inputs<'_>) -> Decision {
    let Inputs { spec, identity, observed, .. } = inputs;
    let mut refusals = Vec::new();
    let deployment = claim(observed.deployment.as_ref(), identity, &mut refusals);
    let live = deployment.ours().and_then(live::settings);

    let key_ring_slot = claim(observed.key_ring.as_ref(), identity, &mut refusals);
    let ring = key_ring::decide(inputs, &key_ring_slot, &mut refusals);
    let accounts_slot = claim(observed.accounts.as_ref(), identity, &mut refusals);
    let live_number = live.as_ref().map(|live| live.connection.account.number);
    let mut accounts = accounts::decide(inputs, &accounts_slot, live_number, &mut refusals);
    let (admin, admin_entries) = first_admin(inputs, &mut accounts, &mut refusals);

    let (managed, root_password) = database::decide(inputs, &accounts, &mut refusals);
    let image = spec.image.as_deref().unwrap_or(&inputs.images.server);
    let wanted = wanted_connection(inputs, &accounts, &mut refusals);
    let migration = wanted.as_ref().map(|connection| {
        let needs = Needs {
            image,
            connection,
            accounts: &accounts,
            root_password: root_password.as_ref(),
            admin: admin_entries.as_ref(),
        };
        migration::decide(inputs, &needs, &mut refusals)
    });
    let migration = migration.unwrap_or_default();

    let wanted = wanted.map(|connection| LiveSettings { image: image.to_owned(), connection });
    let live_as_wanted = live.is_some() && live == wanted;
    let settings = match (live, wanted) {
        (_, Some(wanted)) if migration.complete => Some(wanted),
        (Some(live), _) => Some(live),
        (None, wanted) => wanted,
    };
    let administration = administration::decide(inputs, &mut refusals);
    // Existing pods go on with the Secrets they mount; new ones wait until both are there and ours.
    let mountable = ring.entries.is_some() && accounts.entries.is_some();
    let tls = tls::decide(inputs, &deployment, &mut refusals);
    let tracing = tracing::decide(inputs, &deployment, &mut refusals);
    let server = settings
        .as_ref()
        .filter(|_| deployment.free() && (deployment.ours().is_some() || mountable))
        .zip(tls.ok())
        .map(|(settings, tls)| server(inputs, settings, tls, tracing, administration.open));

    let credentials_slot = claim(observed.credentials.as_ref(), identity, &mut refusals);
    let credentials = settings.as_ref().filter(|_| credentials_slot.free());
    let credentials = credentials.and_then(|settings| view(&ring, &accounts, &settings.connection));
    let service = claim(observed.service.as_ref(), identity, &mut refusals).free();
    let (budget, mut deletions) = budget(inputs, &mut refusals);
    deletions.extend(administration.deletion);
    deletions.extend(migration.deletions);
    let standing_request = standing_request(inputs);

    let plan = Plan {
        identity: (*identity).clone(),
        pull_secrets: spec.pod.as_ref().map(|pod| pod.image_pull_secrets.clone()).unwrap_or_default(),
        key_ring: ring.entries,
        accounts: accounts.entries,
        admin,
        administration: administration.entries,
        credentials,
        service,
        administration_service: administration.service,
        server,
        budget,
        managed,
        migration: migration.migration,
        deletions,
    };
    Decision {
        plan,
        refusals,
        signer: ring.signer,
        next_signer_at: ring.next_signer_at,
        live_as_wanted,
        standing_request,
    }
}

impl<'a> Inputs<'a> {
    /// The external database, if that is what spec asks for.
    fn external(&self) -> Option<&'a ExternalDatabase> {
        self.spec.database.as_ref().and_then(|database| database.external.as_ref())
    }

    /// Login name of the admin that a resource without `users.bootstrap` gets.
    fn first_admin(&self) -> String {
        format!("admin@{}.{}", self.identity.name, self.identity.namespace)
    }

    /// Whether a lost Secret of this name may be made anew.
    fn may_regenerate(&self, secret: &str) -> bool {
        self.service.annotations().get(labels::REGENERATE).is_some_and(|name| name == secret)
    }

    fn key_ring_was_there(&self) -> bool {
        let status = self.service.status.as_ref();
        let signed =
            status.and_then(|status| status.token.as_ref()).is_some_and(|token| token.key_id.is_some());
        signed || self.own_deployment()
    }

    fn accounts_were_there(&self) -> bool {
        let migrated = self.service.status.as_ref().is_some_and(|status| status.database.is_some());
        migrated || self.own_deployment() || self.own_volume()
    }

    /// Whether a volume of this resource's is there to stay.
    fn own_volume(&self) -> bool {
        let volume = self.observed.volume.as_ref();
        volume
            .is_some_and(|volume| volume.metadata.deletion_timestamp.is_none() && self.is_own_volume(volume))
    }

    /// Whether the volume claim of our `StatefulSet`'s name was made for it: Kubernetes would mount any.
    fn is_own_volume(&self, volume: &PersistentVolumeClaim) -> bool {
        let labels = volume.labels();
        let selector = self.identity.selector(Component::Database);
        labels.get(labels::OWNER) == Some(&self.identity.name)
            || selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    fn own_deployment(&self) -> bool {
        let deployment = self.observed.deployment.as_ref();
        deployment.is_some_and(|deployment| {
            super::claim::owner(deployment, self.identity) == super::claim::Owner::Ours
        })
    }
}

/// The first admin's Secret: made once, before the marker in the accounts' Secret says so, and
/// never again, so that its deletion is final. Answers what to write, and what will be there.
fn first_admin(
    inputs: &Inputs<'_>,
    accounts: &mut Accounts,
    refusals: &mut Vec<Refusal>,
) -> (Option<Entries>, Option<Entries>) {
    let default_users = inputs.spec.users.as_ref().is_none_or(|users| users.bootstrap.is_none());
    let issued = accounts.admin_issued();
    let slot = match inputs.observed.admin.as_ref() {
        // A stranger's Secret only matters while ours is wanted.
        Some(secret) if !default_users || issued => match super::claim::owner(secret, inputs.identity) {
            super::claim::Owner::Ours => Slot::Ours(secret),
            super::claim::Owner::Leftover | super::claim::Owner::Stranger(_) => Slot::Blocked,
        },
        observed => claim(observed, inputs.identity, refusals),
    };
    let entries = match slot {
        Slot::Blocked => None,
        Slot::Ours(secret) => Some(Entries(data(secret))),
        Slot::Absent if issued || !default_users || accounts.entries.is_none() => None,
        Slot::Absent => Some(Entries(BTreeMap::from([
            (entry::EMAIL.to_owned(), inputs.first_admin().into_bytes()),
            (entry::PASSWORD.to_owned(), inputs.fresh.admin_password.clone().into_bytes()),
        ]))),
    };
    if let Some(accounts) = accounts.entries.as_mut().filter(|_| default_users && entries.is_some()) {
        accounts.0.entry(entry::ADMIN_ISSUED.to_owned()).or_insert_with(|| b"true".to_vec());
    }
    (entries.clone(), entries)
}

/// The Secret that annotation [`labels::REGENERATE`] names though it exists: the request was met, and
/// left standing it would also meet the next loss, which nobody would be told of.
fn standing_request(inputs: &Inputs<'_>) -> Option<String> {
    let Inputs { identity, observed, .. } = inputs;
    let secrets = [
        (identity.key_ring(), &observed.key_ring),
        (identity.accounts(), &observed.accounts),
        (identity.root_password(), &observed.root_password),
    ];
    let there = secrets.into_iter().find(|(name, secret)| secret.is_some() && inputs.may_regenerate(name));
    there.map(|(name, _)| name)
}

/// The database spec asks for, with the account to use in it.
fn wanted_connection(
    inputs: &Inputs<'_>,
    accounts: &Accounts,
    refusals: &mut Vec<Refusal>,
) -> Option<Connection> {
    let account = accounts.wanted.clone();
    let Some(external) = inputs.external() else {
        return Some(Connection {
            host: inputs.identity.database_host(),
            port: contract::DATABASE_PORT,
            database: contract::DATABASE_NAME.to_owned(),
            account: account?,
        });
    };
    let host = external.hosts.first();
    let port = host.map(|host| host.port.map_or(Ok(contract::DATABASE_PORT), u16::try_from));
    let (Some(host), Some(Ok(port))) = (host, port) else {
        refusals.push(Refusal {
            condition: ConditionType::SecretUnusable,
            reason: Reason::SpecInvalid,
            message: "database.external.hosts needs one host, with a port from 1 to 65535".to_owned(),
        });
        return None;
    };
    Some(Connection {
        host: host.host.clone(),
        port,
        database: external.name.clone().unwrap_or_else(|| contract::DATABASE_NAME.to_owned()),
        account: account?,
    })
}

fn server(
    inputs: &Inputs<'_>,
    settings: &LiveSettings,
    tls: Option<String>,
    tracing: Option<Tracing>,
    administration: bool,
) -> Server {
    let spec = inputs.spec;
    let pod = spec.pod.clone().unwrap_or_default();
    let passwords = spec.passwords.as_ref();
    let formats = passwords.map(|passwords| passwords.legacy_formats.as_slice()).unwrap_or_default();
    let mut formats: Vec<&str> = formats.iter().copied().map(LegacyFormat::name).collect();
    formats.sort_unstable();
    formats.dedup();
    let token = spec.token.as_ref();
    let duration =
        |wanted: Option<Duration>, default: &str| wanted.map_or_else(|| default.to_owned(), seconds);
    Server {
        image: settings.image.clone(),
        replicas: spec.replicas.max(0),
        connection: settings.connection.clone(),
        token_ttl: duration(token.and_then(|token| token.ttl), DEFAULT_TTL),
        token_issuer: token
            .and_then(|token| token.issuer.clone())
            .unwrap_or_else(|| inputs.identity.issuer()),
        token_audience: token.and_then(|token| token.audience.clone()),
        revocation_lag: duration(token.and_then(|token| token.revocation_lag), DEFAULT_LAG),
        revocation_unavailable: token.and_then(|token| token.revocation_unavailable).unwrap_or_default(),
        legacy_formats: formats.join(","),
        rehash: passwords.and_then(|passwords| passwords.rehash).unwrap_or(true),
        new_passwords: passwords::new_passwords(spec),
        protection: login_protection(spec),
        administration,
        tracing,
        invalid_token_status: spec.http.as_ref().and_then(|http| http.invalid_token_status),
        tls,
        resources: pod.resources.unwrap_or_else(|| requests("100m", "96Mi")),
        pod_labels: pod.labels,
        pod_annotations: pod.annotations,
    }
}

fn login_protection(spec: &AuthServiceSpec) -> LoginProtection {
    let Some(protection) = spec.login_protection.as_ref() else { return LoginProtection::default() };
    LoginProtection {
        max_failures: protection.max_failures,
        window: protection.window.map(seconds),
        lockout: protection.lockout.map(seconds),
        trusted_proxies: protection.trusted_proxies.join(","),
    }
}

/// A duration as the server's environment takes it.
fn seconds(duration: Duration) -> String {
    format!("{}s", std::time::Duration::from(duration).as_secs())
}

/// The Secret for people and neighbours: what the server uses at present.
fn view(ring: &KeyRing, accounts: &Accounts, connection: &Connection) -> Option<Entries> {
    let password = accounts.get(&connection.account.password_entry())?.to_vec();
    let signer = ring.signer.as_ref()?;
    // A private key is nobody else's: who verifies tokens asks for the public one.
    let secret =
        (signer.algorithm == Algorithm::HS256).then(|| (contract::env::JWT_SECRET, signer.key.clone()));
    let connection = [
        (contract::env::MYSQL_HOST, connection.host.clone().into_bytes()),
        (contract::env::MYSQL_PORT, connection.port.to_string().into_bytes()),
        (contract::env::MYSQL_DB, connection.database.clone().into_bytes()),
        (contract::env::MYSQL_USER, connection.account.username.clone().into_bytes()),
        (contract::env::MYSQL_PASSWORD, password),
    ];
    let entries = secret.into_iter().chain(connection);
    Some(Entries(entries.map(|(key, value)| (key.to_owned(), value)).collect()))
}

/// The disruption budget: for more than one replica; for one it would only block drains, and goes.
fn budget(inputs: &Inputs<'_>, refusals: &mut Vec<Refusal>) -> (bool, Vec<Deletion>) {
    let observed = inputs.observed.budget.as_ref();
    if inputs.spec.replicas > 1 {
        return (claim(observed, inputs.identity, refusals).free(), Vec::new());
    }
    let ours =
        observed.filter(|budget| super::claim::owner(*budget, inputs.identity) == super::claim::Owner::Ours);
    let deletion = ours.map(|budget| Deletion {
        kind: Deletable::Budget,
        name: budget.name_any(),
        uid: budget.uid().unwrap_or_default(),
        why: "with at most one replica it would only block drains",
    });
    (false, deletion.into_iter().collect())
}

fn requests(cpu: &str, memory: &str) -> ResourceRequirements {
    let requests = [("cpu", cpu), ("memory", memory)];
    ResourceRequirements {
        requests: Some(requests.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into()),
        ..ResourceRequirements::default()
    }
}

/// The entries of a Secret.
fn data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

#[cfg(test)]
mod tests;
