//! The administration port: opened and closed by one field.

use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Resource;
use serde_json::{Value, json};

use crate::operator::auth_service::{
    fixture::{World, refused},
    plan::{Deletable, Plan},
    validate::Decision,
};

fn opened() -> Value {
    json!({"administration": {}})
}

fn key(world: &World) -> Option<String> {
    World::entries(world.observed.administration.as_ref()).remove("key")
}

/// Secret, Service and pods: which of them the plan wants.
fn wanted(plan: &Plan) -> (bool, bool, bool) {
    let pods = plan.server.as_ref().is_some_and(|server| server.administration);
    (plan.administration.is_some(), plan.administration_service, pods)
}

fn deleted(decision: &Decision) -> Vec<(Deletable, &str)> {
    let deletions = decision.plan.deletions.iter();
    deletions
        .filter(|deletion| deletion.kind == Deletable::Service)
        .map(|deletion| (deletion.kind, deletion.name.as_str()))
        .collect()
}

#[test]
fn without_the_field_there_is_no_key_no_service_and_no_port() {
    let mut world = World::new(json!({}));
    let decision = world.up();
    assert_eq!((wanted(&decision.plan), deleted(&decision)), ((false, false, false), vec![]));
}

#[test]
fn the_key_is_made_once_and_outlives_the_port() {
    let mut world = World::new(opened());
    let decision = world.up();
    assert_eq!((wanted(&decision.plan), refused(&decision)), ((true, true, true), vec![]));
    let first = key(&world);
    assert_eq!(first.as_deref(), Some("administration-key-of-draw-1-and-long"));

    world.respec(json!({}));
    let closed = world.run();
    assert_eq!(wanted(&closed.plan), (true, false, false));
    assert_eq!(deleted(&closed), [(Deletable::Service, "gate-administration")]);
    assert_eq!((key(&world), world.observed.administration_service.clone()), (first.clone(), None));
    assert_eq!(deleted(&world.run()), [], "once");

    world.respec(opened());
    assert_eq!(wanted(&world.run().plan), (true, true, true));
    assert_eq!(key(&world), first);
}

#[test]
fn a_key_that_is_gone_is_made_anew_since_no_data_depend_on_it() {
    let mut world = World::new(opened());
    world.up();
    world.observed.administration = None;
    let decision = world.run();
    assert_eq!((wanted(&decision.plan), refused(&decision)), ((true, true, true), vec![]));
    assert_ne!(key(&world).as_deref(), Some("administration-key-of-draw-1-and-long"));
}

#[test]
fn a_key_that_is_too_short_closes_the_port_and_nothing_else() {
    let mut world = World::new(opened());
    world.up();
    let secret = world.observed.administration.as_mut().unwrap();
    secret.data.as_mut().unwrap().get_mut("key").unwrap().0 = b"short".to_vec();
    let decision = world.run();
    assert_eq!(wanted(&decision.plan), (false, true, false));
    assert!(decision.plan.server.is_some());
    assert_eq!(
        refused(&decision),
        [
            "SecretUnusable SecretInvalid: administration: Secret gate-administration holds 5 bytes under key key; HS256 needs at least 32: delete the Secret, and another is made"
        ]
    );
}

#[test]
fn what_is_someone_elses_is_neither_mounted_nor_deleted() {
    fn stranger<K: Resource + serde::de::DeserializeOwned>() -> K {
        let object = json!({"metadata": {"name": "gate-administration", "uid": "theirs"}});
        serde_json::from_value(object).unwrap()
    }
    let taken = |kind: &str| {
        format!(
            "NameTaken NameTaken: {kind} gate-administration exists already, without label authservice.dev/name=gate, and is left untouched"
        )
    };
    let mut world = World::new(opened());
    world.observed.administration = Some(stranger::<Secret>());
    world.observed.administration_service = Some(stranger::<Service>());
    let decision = world.run();
    assert_eq!(wanted(&decision.plan), (false, false, false));
    assert!(decision.plan.server.is_some() && decision.plan.service, "the rest goes on");
    let told = refused(&decision);
    assert_eq!(told.len(), 2);
    assert!(told[0].starts_with(&taken("Secret")) && told[1].starts_with(&taken("Service")), "{told:?}");
    world.respec(json!({}));
    let closed = world.run();
    assert_eq!((deleted(&closed), refused(&closed)), (vec![], vec![]));
}
