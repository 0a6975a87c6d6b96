//! Whose the children are, and the managed database.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{PersistentVolumeClaim, Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::Resource;
use serde_json::{Value, json};

use crate::operator::{
    auth_service::{
        fixture::{World, refused},
        plan::Plan,
    },
    labels,
};

#[expect(clippy::unnecessary_wraps, reason = "it stands where a read object stands")]
fn stranger<K: serde::de::DeserializeOwned>(name: &str) -> Option<K> {
    let object = json!({"metadata": {"name": name, "uid": "theirs"}, "spec": {"selector": {}, "serviceName": "", "template": {}}});
    Some(serde_json::from_value(object).unwrap())
}

type Place = Box<dyn Fn(&mut World)>;
type Check = fn(&Plan) -> bool;

#[test]
fn an_object_of_someone_else_is_left_untouched_and_named_and_the_rest_goes_on() {
    let whole = World::new(json!({})).run().plan;
    let cases: Vec<(&str, Place, Check)> = vec![
        ("Secret gate-keys", Box::new(|w| w.observed.key_ring = stranger::<Secret>("gate-keys")), |p| {
            p.key_ring.is_none() && p.server.is_none() && p.credentials.is_none()
        }),
        (
            "Secret gate-database",
            Box::new(|w| w.observed.accounts = stranger::<Secret>("gate-database")),
            |p| p.accounts.is_none() && p.server.is_none(),
        ),
        ("Secret gate-admin", Box::new(|w| w.observed.admin = stranger::<Secret>("gate-admin")), |p| {
            p.admin.is_none() && p.server.is_some()
        }),
        (
            "Secret gate-credentials",
            Box::new(|w| w.observed.credentials = stranger::<Secret>("gate-credentials")),
            |p| p.credentials.is_none() && p.server.is_some(),
        ),
        (
            "Secret gate-mysql-root",
            Box::new(|w| w.observed.root_password = stranger::<Secret>("gate-mysql-root")),
            |p| {
                p.managed.as_ref().unwrap().root_password.is_none()
                    && p.managed.as_ref().unwrap().server.is_none()
            },
        ),
        ("Service gate", Box::new(|w| w.observed.service = stranger::<Service>("gate")), |p| {
            !p.service && p.server.is_some()
        }),
        ("Deployment gate", Box::new(|w| w.observed.deployment = stranger::<Deployment>("gate")), |p| {
            p.server.is_none() && p.service
        }),
        (
            "PodDisruptionBudget gate",
            Box::new(|w| w.observed.budget = stranger::<PodDisruptionBudget>("gate")),
            |p| !p.budget && p.server.is_some(),
        ),
        (
            "Service gate-mysql",
            Box::new(|w| w.observed.database_service = stranger::<Service>("gate-mysql")),
            |p| !p.managed.as_ref().unwrap().service,
        ),
        (
            "StatefulSet gate-mysql",
            Box::new(|w| w.observed.database = stranger::<StatefulSet>("gate-mysql")),
            |p| p.managed.as_ref().unwrap().server.is_none(),
        ),
    ];
    for (child, place, frozen) in cases {
        let mut world = World::new(json!({}));
        place(&mut world);
        let decision = world.decide();
        let restored = if child.starts_with("Secret") {
            "; one of its own, restored from a backup, needs that label"
        } else {
            ""
        };
        assert_eq!(
            refused(&decision),
            [format!(
                "NameTaken NameTaken: {child} exists already, without label authservice.dev/name=gate, and is left untouched: rename or delete it, or use another name for the AuthService{restored}"
            )]
        );
        assert!(frozen(&decision.plan), "{child}");
        assert!(!frozen(&whole), "{child} is made when its name is free");
    }
}

#[test]
fn a_controller_of_another_kind_is_named() {
    let mut world = World::new(json!({}));
    world.run();
    let service = world.observed.service.as_mut().unwrap();
    let owner = &mut service.metadata.owner_references.as_mut().unwrap()[0];
    (owner.kind, owner.name, owner.uid) = ("Gateway".to_owned(), "edge".to_owned(), "9".to_owned());
    assert_eq!(
        refused(&world.decide()),
        [
            "NameTaken NameTaken: Service gate belongs to Gateway edge, and is left untouched: rename or delete it, or use another name for the AuthService"
        ]
    );
}

#[test]
fn children_of_another_auth_service_are_no_leftovers_of_ours() {
    for (field, value, owner) in [
        ("name", "fence", "AuthService fence"),
        ("apiVersion", "authservice.example/v1", "AuthService gate"),
        ("kind", "AuthServer", "AuthServer gate"),
    ] {
        let mut world = World::new(json!({}));
        world.run();
        let mut reference = json!({"apiVersion": "authservice.dev/v1alpha1", "kind": "AuthService", "name": "gate", "uid": "9", "controller": true});
        reference[field] = json!(value);
        let service = world.observed.service.as_mut().unwrap();
        service.metadata.owner_references = Some(vec![serde_json::from_value(reference).unwrap()]);
        assert_eq!(
            refused(&world.decide()),
            [format!(
                "NameTaken NameTaken: Service gate belongs to {owner}, and is left untouched: rename or delete it, or use another name for the AuthService"
            )]
        );
    }
}

#[test]
fn children_of_a_deleted_resource_of_the_same_name_are_waited_for() {
    let mut world = World::new(json!({}));
    world.run();
    world.service.metadata.uid = Some("uid-of-the-next".to_owned());
    let decision = world.decide();
    let expected: Vec<String> = [
        "Deployment gate",
        "StatefulSet gate-mysql",
        "Secret gate-credentials",
        "Service gate",
        "PodDisruptionBudget gate",
    ]
    .map(|child| {
        format!("NameTaken LeftoverTerminating: waiting for an earlier {child} to be removed by Kubernetes")
    })
    .into();
    let mut found = refused(&decision);
    found.retain(|refusal| !refusal.contains("Service gate-mysql"));
    found.sort_unstable();
    let mut expected = expected;
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn our_object_that_is_being_deleted_is_not_written_to() {
    let mut world = World::new(json!({}));
    world.run();
    world.observed.service.as_mut().unwrap().meta_mut().deletion_timestamp =
        Some(serde_json::from_value(json!("2026-03-01T12:00:00Z")).unwrap());
    let decision = world.decide();
    assert!(!decision.plan.service);
    assert_eq!(decision.refusals.len(), 1);
}

#[test]
fn a_child_orphaned_by_hand_is_still_ours_by_its_label() {
    let mut world = World::new(json!({}));
    world.run();
    world.observed.deployment.as_mut().unwrap().meta_mut().owner_references = None;
    let decision = world.decide();
    assert_eq!(refused(&decision), [""; 0]);
    assert!(decision.plan.server.is_some());
}

#[test]
fn a_budget_is_kept_for_more_than_one_replica_and_removed_for_fewer() {
    let mut world = World::new(json!({}));
    assert!(world.run().plan.budget);
    world.service.spec.replicas = 1;
    let one = world.run();
    assert!(!one.plan.budget && world.observed.budget.is_none());
    assert_eq!(one.plan.deletions.len(), 1);
    world.observed.budget = stranger::<PodDisruptionBudget>("gate");
    let theirs = world.run();
    assert_eq!((theirs.plan.deletions, theirs.refusals), (vec![], vec![]));
}

fn storage(storage: &Value) -> Value {
    json!({"database": {"managed": {"storage": storage}}})
}

#[test]
fn a_volume_grows_while_the_template_keeps_its_size_and_class() {
    let mut world = World::new(storage(&json!({"size": "1Gi", "storageClassName": "fast"})));
    world.up();
    world.respec(storage(&json!({"size": "2Gi", "storageClassName": "fast"})));
    let phase = |world: &mut World, phase: &str| {
        let volume = world.observed.volume.as_mut().unwrap();
        volume.status = serde_json::from_value(json!({"phase": phase})).unwrap();
    };
    phase(&mut world, "Pending");
    assert_eq!(world.run().plan.managed.unwrap().grow_volume, None, "the API server would refuse it");
    phase(&mut world, "Bound");
    let managed = world.run().plan.managed.unwrap();
    assert_eq!(managed.grow_volume.unwrap().0, "2Gi");
    let server = managed.server.unwrap();
    assert_eq!(
        (server.template_size.0.as_str(), server.template_storage_class.as_deref()),
        ("1Gi", Some("fast"))
    );
    let volume = world.observed.volume.as_mut().unwrap();
    volume.spec = serde_json::from_value(json!({"resources": {"requests": {"storage": "2048Mi"}}})).unwrap();
    assert_eq!(world.run().plan.managed.unwrap().grow_volume, None);
}

#[test]
fn a_volume_of_someone_else_is_never_mounted() {
    let mut world = World::new(json!({}));
    world.observed.volume = stranger::<PersistentVolumeClaim>("data-gate-mysql-0");
    let decision = world.decide();
    assert_eq!(decision.plan.managed.unwrap().server, None);
    assert!(decision.refusals.iter().any(|refusal| {
        refusal.message.starts_with("PersistentVolumeClaim data-gate-mysql-0 exists already")
    }));
}

#[test]
fn the_database_waits_for_its_accounts_because_its_volume_would_make_them_count_as_lost() {
    let mut world = World::new(json!({}));
    world.observed.accounts = stranger::<Secret>("gate-database");
    assert_eq!(world.decide().plan.managed.unwrap().server, None);
    world.observed.accounts = None;
    assert!(world.decide().plan.managed.unwrap().server.is_some());
}

#[test]
fn a_volume_that_is_someone_elses_or_on_its_way_out_makes_nothing_count_as_lost() {
    let mut world = World::new(json!({}));
    world.observed.volume = stranger::<PersistentVolumeClaim>("data-gate-mysql-0");
    assert!(world.decide().plan.accounts.is_some());
    let volume = world.observed.volume.as_mut().unwrap();
    volume.metadata.labels = Some(
        world.service.metadata.name.iter().map(|name| (labels::OWNER.to_owned(), name.clone())).collect(),
    );
    assert!(world.decide().plan.accounts.is_none(), "data of ours depend on the accounts");
    world.observed.volume.as_mut().unwrap().metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-03-01T11:59:00Z")).unwrap());
    let decision = world.decide();
    assert!(decision.plan.accounts.is_some() && decision.plan.managed.unwrap().root_password.is_some());
}

#[test]
fn a_root_secret_without_its_password_is_told_and_filled_on_request() {
    let mut world = World::new(json!({}));
    world.up();
    world.observed.root_password.as_mut().unwrap().data = None;
    let lost = world.run();
    assert_eq!(lost.plan.managed.as_ref().unwrap().root_password, None);
    assert!(refused(&lost)[0].starts_with(
        "SecretLost SecretLost: Secret gate-mysql-root with the root password of the managed database has no key password"
    ));
    world.service.metadata.annotations =
        Some([(labels::REGENERATE.to_owned(), "gate-mysql-root".to_owned())].into());
    let filled = world.decide().plan.managed.unwrap().root_password.unwrap();
    assert_eq!(filled.0.keys().collect::<Vec<_>>(), ["password"]);
}

#[test]
fn a_request_that_was_met_and_still_stands_is_pointed_out() {
    let mut world = World::new(json!({}));
    world.up();
    assert_eq!(world.run().standing_request, None);
    world.service.metadata.annotations =
        Some([(labels::REGENERATE.to_owned(), "gate-keys".to_owned())].into());
    assert_eq!(world.run().standing_request.as_deref(), Some("gate-keys"));
    world.observed.key_ring = None;
    assert_eq!(world.decide().standing_request, None);
}

#[test]
fn a_lost_root_password_is_not_replaced_until_that_is_asked_for() {
    let mut world = World::new(json!({}));
    world.up();
    world.observed.root_password = None;
    let lost = world.run();
    assert_eq!(lost.plan.managed.as_ref().unwrap().root_password, None);
    assert_eq!(
        refused(&lost),
        [
            "SecretLost SecretLost: Secret gate-mysql-root with the root password of the managed database is gone: restore it with its key password, or annotate the AuthService with authservice.dev/regenerate=gate-mysql-root to generate a new one, and then delete Pod gate-mysql-0, because the database takes its password over when it starts"
        ]
    );
    assert!(lost.plan.server.is_some() && lost.plan.managed.unwrap().server.is_some(), "the rest goes on");
    world.service.metadata.annotations =
        Some([(labels::REGENERATE.to_owned(), "gate-mysql-root".to_owned())].into());
    assert_eq!(refused(&world.run()), [""; 0]);
}

#[test]
fn a_root_password_is_lost_when_only_the_database_or_only_its_volume_is_left() {
    let lost = |forget: fn(&mut World)| {
        let mut world = World::new(json!({}));
        world.up();
        world.observed.root_password = None;
        forget(&mut world);
        world.decide().plan.managed.unwrap().root_password
    };
    assert_eq!(lost(|world| world.observed.volume = None), None);
    assert_eq!(lost(|world| world.observed.database = None), None);
    assert!(
        lost(|world| (world.observed.volume, world.observed.database) = (None, None)).is_some(),
        "nothing was initialised with it"
    );
}

#[test]
fn an_external_database_has_no_children_of_ours() {
    let mut world = World::external(json!({"credentialsSecretRef": {"name": "theirs"}}));
    world.secret("theirs", &[("username", "u"), ("password", "p")]);
    let plan = world.run().plan;
    assert_eq!(plan.managed, None);
    let connection = plan.server.unwrap().connection;
    assert_eq!(
        (connection.host.as_str(), connection.port, connection.database.as_str()),
        ("db.example", 3307, "shop")
    );
}

#[test]
fn the_secret_of_someone_else_is_no_matter_where_no_first_admin_is_wanted_any_more() {
    let mut named = World::new(json!({"users": {"bootstrap": []}}));
    named.observed.admin = stranger::<Secret>("gate-admin");
    assert_eq!(refused(&named.decide()), [""; 0], "spec names its users");
    let mut issued = World::new(json!({}));
    issued.run();
    issued.observed.admin = stranger::<Secret>("gate-admin");
    assert_eq!(refused(&issued.decide()), [""; 0], "ours was there and was deleted");
}

#[test]
fn the_secret_of_someone_else_never_becomes_the_first_admins_password() {
    let mut world = World::new(json!({}));
    world.observed.admin = stranger::<Secret>("gate-admin");
    world.run();
    world.database_ready(1);
    assert_eq!(world.run().plan.migration.unwrap().bootstrap, []);
    world.observed.admin = None;
    let free = world.run().plan;
    assert!(free.admin.is_some() && free.migration.unwrap().bootstrap.len() == 1);
}
