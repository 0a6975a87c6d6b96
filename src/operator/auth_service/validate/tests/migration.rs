use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    api::auth_service::{RevocationUnavailable, SchemaMode},
    contract::{DatabaseFault, MigrationReport},
    operator::auth_service::{
        fixture::{World, refused},
        plan::{AdminAccount, Bootstrap},
        validate::Decision,
    },
};

type Change = Box<dyn Fn(&mut World)>;

fn name(decision: &Decision) -> String {
    decision.plan.migration.as_ref().unwrap().name.clone()
}

fn image(decision: &Decision) -> String {
    decision.plan.server.as_ref().unwrap().image.clone()
}

fn why(decision: &Decision) -> Vec<&'static str> {
    decision.plan.deletions.iter().map(|deletion| deletion.why).collect()
}

#[test]
fn a_migration_of_a_managed_database_waits_until_it_is_ready() {
    let mut world = World::new(json!({}));
    assert_eq!(world.run().plan.migration, None);
    world.database_ready(0);
    assert_eq!(world.run().plan.migration, None);
    world.database_ready(1);
    let migration = world.run().plan.migration.unwrap();
    assert_eq!(
        migration.admin,
        Some(AdminAccount { secret: "gate-mysql-root".to_owned(), username: Some("root".to_owned()) })
    );
    let admin = Bootstrap {
        email: "admin@gate.market".to_owned(),
        admin: true,
        secret: "gate-admin".to_owned(),
        key: "password".to_owned(),
    };
    assert_eq!((migration.bootstrap, migration.schema), (vec![admin], SchemaMode::Managed));
    world.database_ready(0);
    assert!(world.run().plan.migration.is_some(), "a Job that exists does not go with the database's pod");
}

#[test]
fn a_migration_is_named_alike_as_long_as_nothing_it_depends_on_changes() {
    let mut world = World::new(json!({}));
    let first = name(&world.up());
    assert_eq!((first.len(), &first[..13]), ("gate-migrate-".len() + 10, "gate-migrate-"));
    world.service.spec.replicas = 7;
    world.later(86400);
    assert_eq!(name(&world.run()), first);
}

#[test]
fn a_migration_depends_on_image_endpoint_accounts_and_users_and_on_what_their_secrets_hold() {
    let database = |changes: Value| {
        let mut external = json!({
            "hosts": [{"host": "db.example"}],
            "credentialsSecretRef": {"name": "account"},
            "adminCredentialsSecretRef": {"name": "root"},
        });
        external.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({"external": external})
    };
    let spec = |changes: Value| {
        let mut spec = json!({
            "database": database(json!({})),
            "users": {"bootstrap": [{"email": "a@b.c", "passwordSecretRef": {"name": "user"}}]},
        });
        spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        spec
    };
    let world = || {
        let mut world = World::new(spec(json!({})));
        world.secret("account", &[("username", "u"), ("password", "p")]);
        world.secret("root", &[("username", "r"), ("password", "q")]);
        world.secret("user", &[("password", "s")]);
        let name = name(&world.run());
        (world, name)
    };
    let other_spec = |changes: Value| -> Change {
        let changed = spec(changes);
        Box::new(move |world| world.respec(changed.clone()))
    };
    let other_database = |changes: Value| other_spec(json!({"database": database(changes)}));
    let other_secret = |name: &'static str, entries: &'static [(&str, &str)]| -> Change {
        Box::new(move |world| world.secret(name, entries))
    };
    let user = |user: Value| json!({"users": {"bootstrap": user}});
    let changes: Vec<Change> = vec![
        Box::new(|world| "server:2".clone_into(&mut world.images.server)),
        Box::new(|world| drop(world.observed.referenced.remove("user"))),
        other_database(json!({"hosts": [{"host": "other"}]})),
        other_database(json!({"hosts": [{"host": "db.example", "port": 3307}]})),
        other_database(json!({"name": "other"})),
        other_database(json!({"schema": "Existing"})),
        other_spec(user(json!([]))),
        other_spec(json!({"passwords": {"argon2": {"iterations": 3}}})),
        other_spec(json!({"passwords": {"minLength": 9}})),
        other_spec(user(json!([{"email": "a@b.c", "admin": true, "passwordSecretRef": {"name": "user"}}]))),
        other_spec(user(json!([{"email": "d@e.f", "passwordSecretRef": {"name": "user"}}]))),
        other_secret("account", &[("username", "u"), ("password", "p2")]),
        other_secret("root", &[("username", "r"), ("password", "q2")]),
        other_secret("root", &[("username", "r2"), ("password", "q")]),
        other_secret("user", &[("password", "s2")]),
    ];
    for (number, change) in changes.iter().enumerate() {
        let (mut world, before) = world();
        change(&mut world);
        let after = world.run();
        assert_eq!(refused(&after), [""; 0]);
        assert_ne!(name(&after), before, "change {number}");
    }
    let (mut world, before) = world();
    world.respec(spec(json!({"token": {"ttl": "1h"}, "replicas": 4, "passwords": {"rehash": false}})));
    assert_eq!(name(&world.run()), before);
}

#[test]
fn a_missing_admin_secret_is_named_and_holds_back_the_migration_alone() {
    let mut world = World::external(json!({"adminCredentialsSecretRef": {"name": "root"}}));
    let decision = world.run();
    assert_eq!(
        refused(&decision),
        [
            "SecretUnusable SecretMissing: database.external.adminCredentialsSecretRef: Secret root does not exist: create it with keys username and password"
        ]
    );
    assert_eq!(decision.plan.migration, None);
    assert!(decision.plan.server.is_some() && decision.plan.service && decision.plan.budget);
}

#[test]
fn the_first_deployment_does_not_wait_for_the_migration() {
    let mut world = World::new(json!({"image": "server:9"}));
    assert_eq!(image(&world.run()), "server:9");
}

#[test]
fn live_pods_keep_image_and_database_until_the_migration_completed_and_follow_everything_else() {
    let mut world = World::new(json!({}));
    world.up();
    let token = json!({"ttl": "1h", "revocationLag": "1m", "revocationUnavailable": "Refuse"});
    let passwords = json!({"legacyFormats": ["werkzeug", "plaintext"], "rehash": false, "minLength": 9, "argon2": {"memoryKiB": 65_536, "parallelism": 2}});
    world.respec(json!({"image": "server:2", "replicas": 3, "token": token, "passwords": passwords, "http": {"invalidTokenStatus": 401}}));
    let held = world.run();
    let server = held.plan.server.clone().unwrap();
    assert_eq!((server.image.as_str(), server.replicas, server.token_ttl.as_str()), ("server:1", 3, "3600s"));
    assert_eq!((server.legacy_formats.as_str(), server.rehash), ("plaintext,werkzeug", false));
    let new_passwords = [
        ("ARGON2_MEMORY_KIB", "65536".to_owned()),
        ("ARGON2_PARALLELISM", "2".to_owned()),
        ("PASSWORD_MIN_LENGTH", "9".to_owned()),
    ];
    assert_eq!(server.new_passwords, new_passwords);
    assert_eq!(held.plan.migration.as_ref().unwrap().new_passwords, new_passwords);
    assert_eq!(server.invalid_token_status, Some(401));
    assert_eq!(
        (server.revocation_lag.as_str(), server.revocation_unavailable),
        ("60s", RevocationUnavailable::Refuse)
    );
    assert!(!held.live_as_wanted);
    world.complete_migration(&MigrationReport::default());
    assert_eq!(image(&world.run()), "server:2");
    assert!(world.run().live_as_wanted);
}

#[test]
fn a_change_that_is_taken_back_needs_no_second_migration() {
    let mut world = World::new(json!({}));
    let before = world.up();
    world.respec(json!({"image": "server:bad"}));
    world.run();
    world.fail_migration("not json", Duration::from_mins(1));
    world.run();
    world.respec(json!({}));
    let back = world.run();
    assert_eq!((name(&back), image(&back)), (name(&before), "server:1".to_owned()));
    assert_eq!(why(&back), ["a newer migration took its place"], "the failed one goes");
    assert!(back.live_as_wanted && world.observed.jobs.len() == 1);
}

#[test]
fn a_newer_migration_removes_the_completed_one_before_it_once_it_has_completed() {
    let mut world = World::new(json!({}));
    let before = name(&world.up());
    world.respec(json!({"image": "server:2"}));
    for _ in 0..2 {
        assert_eq!((why(&world.run()), world.observed.jobs.len()), (vec![], 2));
    }
    world.complete_migration(&MigrationReport::default());
    let pruned = world.run();
    assert_eq!(pruned.plan.deletions[0].name, before);
    assert_eq!((why(&pruned), world.observed.jobs.len()), (vec!["a newer migration took its place"], 1));
}

#[test]
fn a_failed_migration_is_made_anew_when_its_wait_is_over() {
    let mut world = World::new(json!({}));
    world.run();
    world.database_ready(1);
    let first = name(&world.run());
    world.fail_migration("not json", Duration::from_secs(4));
    assert_eq!(why(&world.run()), [""; 0]);
    world.observed.retry_in = Some(Duration::ZERO);
    let again = world.run();
    assert_eq!((why(&again), name(&again)), (vec!["it failed and is tried again"], first));
    assert_eq!((world.observed.jobs.len(), world.job().status.clone()), (1, None));
}

#[test]
fn a_migration_whose_work_was_undone_is_made_anew() {
    for fault in
        [DatabaseFault::CredentialsRejected, DatabaseFault::SchemaMissing, DatabaseFault::SchemaOutdated]
    {
        let mut world = World::new(json!({}));
        let before = name(&world.up());
        world.later(3600);
        world.pod_says("as_00000001_1", Some(fault));
        let again = world.run();
        assert_eq!((why(&again), name(&again)), (vec!["the database has lost what it set up"], before));
        assert_eq!(image(&again), "server:1");
        assert_eq!(why(&world.run()), [""; 0], "once");
    }
}

#[test]
fn an_older_schema_than_the_migration_left_is_made_anew_though_pods_can_work_with_it() {
    let mut world = World::new(json!({}));
    world.up();
    world.report();
    world.later(3600);
    world.pod_says("as_00000001_1", None);
    assert_eq!(why(&world.run()), [""; 0], "the schema that was left");
    world.service.status.as_mut().unwrap().database.as_mut().unwrap().schema_version = Some(3);
    assert_eq!(why(&world.run()), ["the database has lost what it set up"]);
}

#[test]
fn complaints_that_a_migration_cannot_mend_or_has_just_mended_change_nothing() {
    let mut world = World::new(json!({}));
    world.up();
    world.later(59);
    world.pod_says("as_00000001_1", Some(DatabaseFault::SchemaMissing));
    assert_eq!(why(&world.run()), [""; 0], "said too soon after the migration");
    world.later(60);
    world.pod_says("as_00000001_9", Some(DatabaseFault::SchemaMissing));
    assert_eq!(why(&world.run()), [""; 0], "of another account");
    world.pod_says("as_00000001_1", Some(DatabaseFault::DatabaseUnreachable));
    assert_eq!(why(&world.run()), [""; 0], "an outage");
    world.pod_says("as_00000001_1", None);
    assert_eq!(why(&world.run()), [""; 0], "no complaint");
}
