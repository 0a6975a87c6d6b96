//! What must hold of every run, read from what was written in it.

pub mod target;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use authservice::operator::labels;
use serde_json::Value;

use crate::{
    api_server::{Change, Event, Kind},
    application::{Application, database::Database},
    objects::{
        condition_holds, data, is_deleting, is_owned_by, items, label, name, namespace, number, text, uid,
    },
};

/// Roles of Secrets whose entries are written once.
const WRITTEN_ONCE: [&str; 5] = ["-keys", "-database", "-admin", "-administration", "-mysql-root"];
/// How many versions of the Deployment a report may be behind: it reads, then writes, and the API server
/// that it reads from may lag.
const VERSIONS_BEHIND: usize = 12;

/// Walks through everything that was written, in order; answers what should not have been. The default
/// image is empty where releases came and went.
#[must_use]
pub fn judge(before: &[Arc<Value>], events: &[Event], default_image: &str) -> Vec<String> {
    let mut ledger = Ledger { default_image: default_image.to_owned(), ..Ledger::default() };
    for object in before {
        ledger.know(object);
    }
    for event in events {
        ledger.note(event);
    }
    ledger.offences
}

#[derive(Default)]
struct Ledger {
    default_image: String,
    /// The value each entry had, by Secret and entry.
    entries: BTreeMap<(String, String), Vec<u8>>,
    /// Secrets that were deleted since, by name.
    deleted: BTreeSet<String>,
    /// Resources whose volume went, and with it what accounts and passwords in lost Secrets opened.
    emptied: BTreeSet<String>,
    /// Secrets that were asked for anew: who reads late answers a request that was withdrawn.
    asked: BTreeSet<String>,
    services: BTreeMap<String, Arc<Value>>,
    /// The last versions, by name; `None` stands for its deletion.
    deployments: BTreeMap<String, VecDeque<Option<Arc<Value>>>>,
    offences: Vec<String>,
}

impl Ledger {
    fn know(&mut self, object: &Arc<Value>) {
        match text(object, "/kind") {
            "Secret" => self.remember(object),
            "AuthService" => {
                let asked = object["metadata"]["annotations"][labels::REGENERATE].as_str();
                self.asked.extend(asked.map(str::to_owned));
                self.services.insert(name(object).to_owned(), Arc::clone(object));
            }
            "Deployment" => {
                self.deployment_is(name(object), Some(Arc::clone(object)));
            }
            _ => {}
        }
    }

    fn note(&mut self, event: &Event) {
        let by_operator = event.caller.manager == labels::MANAGER;
        match (event.kind, event.change) {
            (Kind::Secret, Change::Deleted) => self.secret_deleted(&event.object),
            (Kind::Secret, _) => {
                if by_operator {
                    self.judge_secret(&event.object);
                    self.asked.remove(name(&event.object));
                }
                self.remember(&event.object);
            }
            (Kind::PersistentVolumeClaim, _) if is_deleting(&event.object) => {
                self.emptied.insert(label(&event.object, labels::OWNER).to_owned());
            }
            (Kind::AuthService, Change::Deleted) => drop(self.services.remove(name(&event.object))),
            (Kind::AuthService, _) => {
                if by_operator {
                    self.judge_status(&event.object);
                }
                self.know(&event.object);
            }
            (Kind::Deployment, Change::Deleted) => self.deployment_is(name(&event.object), None),
            (Kind::Deployment, _) => self.know(&event.object),
            _ => {}
        }
    }

    fn deployment_is(&mut self, name: &str, version: Option<Arc<Value>>) {
        let versions = self.deployments.entry(name.to_owned()).or_default();
        versions.push_back(version);
        while versions.len() > VERSIONS_BEHIND {
            versions.pop_front();
        }
    }

    fn remember(&mut self, secret: &Value) {
        for (entry, value) in data(secret).into_iter().filter(|(_, value)| !value.is_empty()) {
            self.entries.insert((name(secret).to_owned(), entry), value);
        }
    }

    /// What nobody depends on any more may be another one next time.
    fn secret_deleted(&mut self, secret: &Value) {
        let service = self.services.get(label(secret, labels::OWNER));
        let of_former = |service: &Arc<Value>| {
            let owners = items(secret, "/metadata/ownerReferences");
            !owners.is_empty() && !is_owned_by(secret, uid(service))
        };
        self.deleted.insert(name(secret).to_owned());
        if service.is_none_or(of_former) || name(secret).ends_with("-administration") {
            self.entries.retain(|(of, _), _| of != name(secret));
        }
    }

    fn judge_secret(&mut self, secret: &Value) {
        let secret_name = name(secret);
        if !WRITTEN_ONCE.iter().any(|role| secret_name.ends_with(role)) {
            return;
        }
        let service = self.services.get(label(secret, labels::OWNER));
        let asked = self.asked.contains(secret_name);
        // Before the first report nothing depends on what was lost.
        let begun = service.is_some_and(|service| service["status"].is_object());
        let emptied = self.emptied.contains(label(secret, labels::OWNER)) && !secret_name.ends_with("-keys");
        if self.deleted.contains(secret_name) && (asked || !begun || emptied) {
            return;
        }
        for (entry, value) in data(secret).into_iter().filter(|(_, value)| !value.is_empty()) {
            let former = self.entries.get(&(secret_name.to_owned(), entry.clone()));
            if former.is_some_and(|former| *former != value) {
                self.offences
                    .push(format!("entry {entry} of Secret {secret_name} was written a second time"));
            }
        }
        let present = data(secret);
        let lost =
            self.entries.keys().filter(|(of, entry)| of == secret_name && !present.contains_key(entry));
        let lost: Vec<String> = lost.map(|(_, entry)| entry.clone()).collect();
        if !lost.is_empty() && !self.deleted.contains(secret_name) {
            self.offences.push(format!("Secret {secret_name} lost {}", lost.join(", ")));
        }
    }

    /// A resource that is said to be ready is what its spec asks for.
    fn judge_status(&mut self, service: &Value) {
        let generation = number(service, "/metadata/generation");
        let ready =
            items(service, "/status/conditions").iter().find(|condition| text(condition, "/type") == "Ready");
        let Some(ready) = ready.filter(|ready| text(ready, "/status") == "True") else { return };
        if number(ready, "/observedGeneration") != generation {
            return;
        }
        let mut say =
            |what: String| self.offences.push(format!("{} is said to be ready, and {what}", name(service)));
        if number(service, "/status/observedGeneration") != generation {
            say("another generation was observed".to_owned());
        }
        if service["spec"]["suspend"] == true {
            return;
        }
        let versions = self.deployments.get(name(service)).into_iter().flatten();
        let mut faults = versions.map(|version| match version {
            Some(deployment) => fault_of(service, deployment, &self.default_image).err(),
            None => Some("there is no Deployment".to_owned()),
        });
        let newest = faults.next_back().unwrap_or_else(|| Some("there is no Deployment".to_owned()));
        if let Some(fault) = newest.filter(|_| faults.all(|fault| fault.is_some())) {
            say(fault);
        }
    }
}

/// Why a Deployment is not what a ready resource has.
fn fault_of(service: &Value, deployment: &Value, default_image: &str) -> Result<(), String> {
    let wanted = number(service, "/spec/replicas").unwrap_or(2);
    let image = service["spec"]["image"].as_str().unwrap_or(default_image);
    let counted = |field: &str| deployment["status"][field].as_i64().unwrap_or(0);
    if number(deployment, "/spec/replicas") != Some(wanted) {
        return Err(format!(
            "its Deployment has {:?} replicas in place of {wanted}",
            deployment["spec"]["replicas"]
        ));
    }
    if !image.is_empty() && text(deployment, "/spec/template/spec/containers/0/image") != image {
        return Err(format!("its Deployment has another image than {image}"));
    }
    if number(deployment, "/status/observedGeneration") != number(deployment, "/metadata/generation") {
        return Err("its Deployment was not looked at since it changed".to_owned());
    }
    if counted("readyReplicas") < wanted || counted("updatedReplicas") < wanted {
        return Err("its pods are not all ready".to_owned());
    }
    Ok(())
}

/// What was lost or left over in the databases.
#[must_use]
pub fn judge_data(before: &Application, after: &Application) -> Vec<String> {
    let mut offences = Vec::new();
    for (place, database) in before.volumes.iter().chain(&before.external) {
        let now = after.volumes.get(place).or_else(|| after.external.get(place));
        offences.extend(lost_users(place, database, now));
    }
    offences
}

/// Accounts in the databases that no Secret knows.
#[must_use]
pub fn judge_accounts(after: &Application, secrets: &[Arc<Value>]) -> Vec<String> {
    let mut offences = Vec::new();
    let known: BTreeSet<String> = secrets
        .iter()
        .flat_map(|secret| data(secret))
        .filter(|(entry, _)| entry.ends_with("username"))
        .map(|(_, value)| String::from_utf8_lossy(&value).trim_end().to_owned())
        .collect();
    let databases = after.volumes.values().chain(after.external.values());
    for account in databases.flat_map(|database| &database.accounts).filter(|(_, account)| !account.is_admin)
    {
        if !known.contains(account.0) {
            offences.push(format!("account {} is left over in the database", account.0));
        }
    }
    offences
}

fn lost_users(place: &str, before: &Database, after: Option<&Database>) -> Vec<String> {
    let users = before
        .schemas
        .iter()
        .flat_map(|(schema, tables)| tables.users.keys().map(move |user| (schema, user)));
    users
        .filter(|(schema, user)| {
            !after.is_some_and(|after| {
                after.schemas.get(*schema).is_some_and(|tables| tables.users.contains_key(*user))
            })
        })
        .map(|(schema, user)| format!("user {user} of database {schema} at {place} is gone"))
        .collect()
}

/// Users whom a ready resource has.
#[must_use]
pub fn missing_users(service: &Value, application: &Application) -> Vec<String> {
    if !condition_holds(service, "Ready") || condition_holds(service, "BootstrapUserMissing") {
        return Vec::new();
    }
    let all: BTreeSet<&String> = application
        .volumes
        .values()
        .chain(application.external.values())
        .flat_map(|database| database.schemas.values())
        .flat_map(|schema| schema.users.keys())
        .collect();
    let declared = items(service, "/spec/users/bootstrap").iter().map(|user| text(user, "/email").to_owned());
    let first = format!("admin@{}.{}", name(service), namespace(service));
    let first = service.pointer("/spec/users/bootstrap").is_none().then_some(first);
    let wanted = declared.chain(first);
    wanted
        .filter(|email| !all.contains(email))
        .map(|email| format!("{} is ready, and user {email} does not exist", name(service)))
        .collect()
}
