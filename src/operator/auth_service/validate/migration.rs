//! The migration Job: its name is a keyed hash of everything it depends on, so that a change of
//! any input is another Job and the same inputs are never migrated twice.

use hmac::{Hmac, KeyInit, Mac};
use k8s_openapi::{
    api::batch::v1::Job,
    jiff::{SignedDuration, Timestamp},
};
use kube::ResourceExt;
use sha2::Sha256;

use super::{Inputs, accounts, accounts::Accounts, passwords::new_passwords};
use crate::{
    api::auth_service::SchemaMode,
    contract::DatabaseStatus,
    operator::{
        auth_service::{
            claim::{Owner, owner},
            diff::hex,
            jobs::{self, JobState},
            names::entry,
            plan::{AdminAccount, Bootstrap, Connection, Deletable, Deletion, Entries, Migration},
            pods,
            refusal::Refusal,
        },
        context::Verdict,
    },
};

/// How long after a completed migration a pod's complaint counts as a new one: it takes the pods
/// some seconds to notice that the database was set up, and a migration that does not help must not
/// be repeated at once.
const NOTICE: SignedDuration = SignedDuration::from_secs(60);

/// The decision on the migration.
#[derive(Default)]
pub(super) struct MigrationDecision {
    /// The Job that is to exist; `None` while it cannot be named or has to wait.
    pub(super) migration: Option<Migration>,
    /// The migration of the wanted settings has completed, and no pod says that it was undone.
    pub(super) complete: bool,
    /// Jobs to delete.
    pub(super) deletions: Vec<Deletion>,
}

/// What the migration depends on besides spec.
pub(super) struct Needs<'a> {
    /// Image of the server.
    pub(super) image: &'a str,
    /// The wanted database and account.
    pub(super) connection: &'a Connection,
    /// The accounts' Secret as it will be.
    pub(super) accounts: &'a Accounts,
    /// Root password of a managed database.
    pub(super) root_password: Option<&'a Entries>,
    /// The first admin's Secret as it will be; `None`: absent.
    pub(super) admin: Option<&'a Entries>,
}

/// Decides on the migration.
pub(super) fn decide(
    inputs: &Inputs<'_>,
    needs: &Needs<'_>,
    refusals: &mut Vec<Refusal>,
) -> MigrationDecision {
    let Some(name) = name(inputs, needs, refusals) else { return MigrationDecision::default() };
    let observed = inputs.observed;
    let job =
        observed.jobs.iter().find(|job| job.name_any() == name && job.metadata.deletion_timestamp.is_none());
    let mut deletions = Vec::new();
    let complete = match job.map(jobs::state) {
        None if inputs.external().is_none()
            && !observed.database.as_ref().is_some_and(pods::database_ready) =>
        {
            // Nothing to migrate yet: the earlier Jobs stay until there is a newer one.
            return MigrationDecision::default();
        }
        None | Some(JobState::Running) => false,
        Some(JobState::Complete { at }) => {
            let undone = undone(inputs, needs.connection, at);
            if undone && observed.retry_in.is_none_or(|wait| wait.is_zero()) {
                deletions.extend(job.map(|job| delete(job, "the database has lost what it set up")));
            }
            !undone
        }
        Some(JobState::Failed { .. }) => {
            if observed.retry_in.is_none_or(|wait| wait.is_zero()) {
                deletions.extend(job.map(|job| delete(job, "it failed and is tried again")));
            }
            false
        }
    };
    if job.is_some() {
        // A completed one stays until the next has completed: spec may go back to what it made.
        let superseded = observed.jobs.iter().filter(|job| {
            job.name_any() != name
                && job.metadata.deletion_timestamp.is_none()
                && (complete || !matches!(jobs::state(job), JobState::Complete { .. }))
        });
        deletions.extend(superseded.map(|job| delete(job, "a newer migration took its place")));
    }
    let migration = Migration {
        name,
        image: needs.image.to_owned(),
        connection: needs.connection.clone(),
        schema: schema(inputs),
        admin: admin_account(inputs),
        bootstrap: bootstrap(inputs),
        new_passwords: new_passwords(inputs.spec),
    };
    MigrationDecision { migration: Some(migration), complete, deletions }
}

fn delete(job: &Job, why: &'static str) -> Deletion {
    Deletion { kind: Deletable::Job, name: job.name_any(), uid: job.uid().unwrap_or_default(), why }
}

/// Whether a pod that uses the wanted account says that what the migration made is gone: the volume
/// was wiped, or an older state of database or cluster was restored. An older schema than the migration
/// left is such a state even where the server can work with it.
fn undone(inputs: &Inputs<'_>, connection: &Connection, completed: Option<Timestamp>) -> bool {
    let noticed = completed.and_then(|at| at.checked_add(NOTICE).ok());
    let recorded = inputs.service.status.as_ref().and_then(|status| status.database.as_ref());
    let recorded = recorded.and_then(|database| database.schema_version).unwrap_or_default();
    inputs.observed.verdicts.values().any(|verdict| match verdict {
        Verdict::Unknown => false,
        Verdict::Answered { status, at } => {
            status.database.account == connection.account.username
                && noticed.is_none_or(|noticed| *at >= noticed)
                && (verdict.asks_for_migration() || shows_less_than(&status.database, recorded))
        }
    })
}

/// Whether a pod has looked at its database, likes it, and sees an older schema than this.
fn shows_less_than(database: &DatabaseStatus, recorded: i32) -> bool {
    database.version.is_some() && database.fault.is_none() && database.schema_version < recorded
}

/// The Job's name; `None` while an input is missing.
fn name(inputs: &Inputs<'_>, needs: &Needs<'_>, refusals: &mut Vec<Refusal>) -> Option<String> {
    let connection = needs.connection;
    let admin = match admin_secret(inputs) {
        AdminSecret::None => None,
        AdminSecret::Root => Some(("root".to_owned(), needs.root_password?.0.get(entry::PASSWORD)?.clone())),
        AdminSecret::Users(secret) => Some(accounts::credentials(
            inputs,
            "database.external.adminCredentialsSecretRef",
            secret,
            refusals,
        )?),
    };
    let mut digest = Digest::new(needs.accounts.get(entry::JOB_KEY)?)?;
    digest.text(needs.image);
    digest.text(&connection.host);
    digest.text(&connection.port.to_string());
    digest.text(&connection.database);
    digest.text(&format!("{:?}", schema(inputs)));
    digest.text(&connection.account.number.to_string());
    digest.text(&connection.account.username);
    digest.part(Some(needs.accounts.get(&connection.account.password_entry())?));
    digest.part(admin.as_ref().map(|(username, _)| username.as_bytes()));
    digest.part(admin.as_ref().map(|(_, password)| password.as_slice()));
    for (name, value) in new_passwords(inputs.spec) {
        digest.text(&format!("{name}={value}"));
    }
    for user in bootstrap(inputs) {
        digest.text(&user.email);
        digest.text(if user.admin { "admin" } else { "" });
        let ours = needs
            .admin
            .filter(|_| user.secret == inputs.identity.admin())
            .and_then(|admin| admin.0.get(&user.key));
        let theirs = inputs
            .observed
            .referenced
            .get(&user.secret)
            .and_then(|secret| secret.data.as_ref()?.get(&user.key));
        digest.part(ours.map(Vec::as_slice).or(theirs.map(|value| value.0.as_slice())));
    }
    Some(inputs.identity.migration(&digest.ten_digits()))
}

/// Which account may create what is missing.
enum AdminSecret<'a> {
    /// None: the server's own account does what its rights allow.
    None,
    /// Root of the managed database.
    Root,
    /// The user's Secret of this name.
    Users(&'a str),
}

fn admin_secret<'a>(inputs: &Inputs<'a>) -> AdminSecret<'a> {
    let Some(external) = inputs.external() else { return AdminSecret::Root };
    match &external.admin_credentials_secret_ref {
        Some(reference) => AdminSecret::Users(&reference.name),
        None => AdminSecret::None,
    }
}

fn admin_account(inputs: &Inputs<'_>) -> Option<AdminAccount> {
    match admin_secret(inputs) {
        AdminSecret::None => None,
        AdminSecret::Root => {
            Some(AdminAccount { secret: inputs.identity.root_password(), username: Some("root".to_owned()) })
        }
        AdminSecret::Users(secret) => Some(AdminAccount { secret: secret.to_owned(), username: None }),
    }
}

fn schema(inputs: &Inputs<'_>) -> SchemaMode {
    inputs.external().and_then(|external| external.schema).unwrap_or_default()
}

/// The users that exist from the start: those of spec, or the first admin.
fn bootstrap(inputs: &Inputs<'_>) -> Vec<Bootstrap> {
    let identity = inputs.identity;
    match inputs.spec.users.as_ref().and_then(|users| users.bootstrap.as_ref()) {
        // Somebody else's Secret of that name holds no password of ours.
        None if inputs
            .observed
            .admin
            .as_ref()
            .is_some_and(|secret| owner(secret, identity) != Owner::Ours) =>
        {
            Vec::new()
        }
        None => vec![Bootstrap {
            email: inputs.first_admin(),
            admin: true,
            secret: identity.admin(),
            key: entry::PASSWORD.to_owned(),
        }],
        Some(users) => users
            .iter()
            .map(|user| Bootstrap {
                email: user.email.clone(),
                admin: user.admin.unwrap_or(false),
                secret: user.password_secret_ref.name.clone(),
                key: user.password_secret_ref.key.clone().unwrap_or_else(|| entry::PASSWORD.to_owned()),
            })
            .collect(),
    }
}

/// HMAC-SHA256 over parts of any content: each carries its length, so no two lists are alike.
struct Digest(Hmac<Sha256>);

impl Digest {
    fn new(key: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(key).ok().map(Self)
    }

    fn part(&mut self, part: Option<&[u8]>) {
        match part {
            None => self.0.update(&[0]),
            Some(bytes) => {
                self.0.update(&[1]);
                self.0.update(&(bytes.len() as u64).to_be_bytes());
                self.0.update(bytes);
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.part(Some(text.as_bytes()));
    }

    fn ten_digits(self) -> String {
        hex(&self.0.finalize().into_bytes()[..5])
    }
}
