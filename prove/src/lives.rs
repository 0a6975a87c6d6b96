//! What can happen to a resource in a life, and how lives are drawn.

use authservice::operator::labels;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    application::database::StatementFault,
    line::{EventFault, Fault},
    scenarios::{EXTERNAL_FIELDS, FIELDS, secrets},
    steps::{Child, Step},
};

/// Longest life, in acts.
const LONGEST_LIFE: usize = 160;

/// One act of a life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Act {
    /// Somebody does something.
    Step(Step),
    /// A call from now on goes wrong.
    Call(usize, Fault),
    /// An event of a watch from now on goes wrong.
    Event(usize, EventFault),
    /// A statement of a migration from now on goes wrong.
    Statement(usize, StatementFault),
}

/// A life: acts, each with how many milliseconds pass after it.
pub type Life = Vec<(Act, u16)>;

/// Where a life begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Beginning {
    /// Nothing was created yet.
    Nothing,
    /// A resource with a managed database is settled.
    Managed,
    /// A resource with an external database is settled.
    External,
}

/// A life that broke a promise, as it is kept for later runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// Where it begins.
    pub beginning: Beginning,
    /// The seed of the world.
    pub seed: u64,
    /// What is done.
    pub life: Life,
}

fn spec_patches() -> impl Strategy<Value = Step> {
    let changing: Vec<_> = FIELDS.iter().chain(EXTERNAL_FIELDS).filter(|field| field.changes).collect();
    (prop::sample::select(changing), 0..3_usize)
        .prop_map(|(field, value)| Step::Spec(field.patch((value < 2).then(|| field.value(value)))))
}

fn creations() -> impl Strategy<Value = Step> {
    let fields: Vec<_> = FIELDS.iter().filter(|field| field.path != "/suspend").collect();
    prop::collection::vec((prop::sample::select(fields), 0..2_usize), 0..6).prop_map(|chosen| {
        let mut spec = json!({});
        for (field, value) in chosen {
            json_patch::merge(&mut spec, &field.patch(Some(field.value(value))));
        }
        Step::Create(spec)
    })
}

fn removals() -> impl Strategy<Value = Step> {
    prop::sample::select(vec![
        (Child::Secret, "gate-keys"),
        (Child::Secret, "gate-database"),
        (Child::Secret, "gate-mysql-root"),
        (Child::Secret, "gate-credentials"),
        (Child::Secret, "gate-administration"),
        (Child::Secret, "user"),
        (Child::Secret, "signing"),
        (Child::Secret, "certificate"),
        (Child::Secret, "root"),
        (Child::Deployment, "gate"),
        (Child::StatefulSet, "gate-mysql"),
        (Child::Service, "gate"),
        (Child::Service, "gate-mysql"),
        (Child::Service, "gate-administration"),
        (Child::PodDisruptionBudget, "gate"),
        (Child::Job, ""),
    ])
    .prop_map(|(child, name)| Step::Remove(child, name.to_owned()))
}

fn edits() -> impl Strategy<Value = Step> {
    prop::sample::select(vec![
        (Child::Deployment, "gate", json!({"spec": {"replicas": 5}})),
        (Child::Deployment, "gate", json!({"metadata": {"labels": {"authservice.dev/name": null}}})),
        (Child::Deployment, "gate", json!({"spec": {"template": {"spec": {"containers": [{"name": "auth-server", "image": "foreign:1"}]}}}})),
        (Child::Service, "gate", json!({"spec": {"selector": {"foreign": "key"}}})),
        (Child::Service, "gate", json!({"spec": {"ports": [{"name": "http", "port": 5000, "protocol": "TCP", "targetPort": 1}]}})),
        (Child::Service, "gate-mysql", json!({"spec": {"publishNotReadyAddresses": false}})),
        (Child::Secret, "gate-credentials", json!({"data": {"MYSQL_PASSWORD": "eA==", "foreign": "eA=="}})),
        (Child::PodDisruptionBudget, "gate", json!({"spec": {"maxUnavailable": 0}})),
    ])
    .prop_map(|(child, name, patch)| Step::Edit(child, name.to_owned(), patch))
}

fn other_steps() -> impl Strategy<Value = Step> {
    let names = ["gate-keys", "gate-database", "gate-mysql-root", "user", "signing", "certificate", "root"];
    let host = prop::sample::select(vec![None, Some("db".to_owned())]);
    prop_oneof![
        prop::sample::select(names.to_vec()).prop_map(|name| Step::Restore(name.to_owned())),
        prop::sample::select(names[..3].to_vec())
            .prop_map(|name| Step::Annotate(labels::REGENERATE.to_owned(), Some(name.to_owned()))),
        Just(Step::Annotate(labels::REGENERATE.to_owned(), None)),
        (0..5).prop_map(Step::Scale),
        Just(Step::Delete),
        prop::sample::select(secrets()),
        (host, any::<bool>()).prop_map(|(host, answers)| Step::Reach { host, answers }),
        prop::sample::select(vec!["server", "database", "migration"])
            .prop_map(|part| Step::Evict(part.to_owned())),
        (1..4).prop_map(|release| Step::Release(format!("registry/auth-server:{release}"))),
        Just(Step::Restart),
        prop::sample::select(vec![10_u64, 60, 300, 900]).prop_map(Step::Wait),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => spec_patches().prop_map(Act::Step),
        2 => creations().prop_map(Act::Step),
        2 => removals().prop_map(Act::Step),
        2 => edits().prop_map(Act::Step),
        4 => other_steps().prop_map(Act::Step),
        4 => (0..60_usize, prop::sample::select(Fault::ALL.to_vec())).prop_map(|(at, fault)| Act::Call(at, fault)),
        1 => (0..20_usize, prop::sample::select(EventFault::ALL.to_vec())).prop_map(|(at, fault)| Act::Event(at, fault)),
        1 => (0..12_usize, prop::sample::select(StatementFault::ALL.to_vec()))
            .prop_map(|(at, fault)| Act::Statement(at, fault)),
    ]
}

/// Lives, the seeds of their worlds, and where they begin.
pub fn lives() -> impl Strategy<Value = (Beginning, u64, Life)> {
    let beginning = prop::sample::select(vec![
        Beginning::Nothing,
        Beginning::Managed,
        Beginning::Managed,
        Beginning::External,
    ]);
    (beginning, any::<u64>(), prop::collection::vec((acts(), 0..4000_u16), 1..=LONGEST_LIFE))
}
