use serde_json::json;

use crate::operator::{
    auth_service::{
        fixture::{World, refused},
        plan::Account,
        validate::Decision,
    },
    labels,
};

fn account(number: u32, username: &str) -> Account {
    Account { number, username: username.to_owned() }
}

fn migrates(decision: &Decision) -> Account {
    decision.plan.migration.as_ref().unwrap().connection.account.clone()
}

fn serves(decision: &Decision) -> Account {
    decision.plan.server.as_ref().unwrap().connection.account.clone()
}

fn credentials() -> World {
    World::external(json!({"credentialsSecretRef": {"name": "theirs"}}))
}

#[test]
fn an_account_of_our_own_is_drawn_once() {
    let mut world = World::new(json!({}));
    world.run();
    world.run();
    let entries = World::entries(world.observed.accounts.as_ref());
    let expected = [
        ("1.password", "account-password-1"),
        ("1.username", "as_00000001_1"),
        ("admin-issued", "true"),
        ("id", "00000001"),
        ("job-key", "job-key-of-draw-1"),
    ];
    assert_eq!(entries, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
}

#[test]
fn credentials_are_copied_without_their_trailing_newline() {
    let mut world = credentials();
    world.secret("theirs", &[("username", "shopkeeper\n"), ("password", "open\nsesame\r\n")]);
    let decision = world.run();
    assert_eq!(migrates(&decision), account(1, "shopkeeper"));
    let entries = World::entries(world.observed.accounts.as_ref());
    assert_eq!(entries["1.password"], "open\nsesame");
    assert_eq!(World::entries(world.observed.credentials.as_ref())["MYSQL_USER"], "shopkeeper");
}

#[test]
fn changed_credentials_are_the_next_account_and_serve_once_their_migration_completed() {
    let mut world = credentials();
    world.secret("theirs", &[("username", "shopkeeper"), ("password", "old")]);
    let before = world.up();
    assert_eq!((migrates(&before), serves(&before)), (account(1, "shopkeeper"), account(1, "shopkeeper")));
    world.secret("theirs", &[("username", "shopkeeper"), ("password", "new")]);
    let changed = world.run();
    assert_eq!((migrates(&changed), serves(&changed)), (account(2, "shopkeeper"), account(1, "shopkeeper")));
    assert_ne!(migration_name(&changed), migration_name(&before));
    let view = World::entries(world.observed.credentials.as_ref());
    assert_eq!(view["MYSQL_PASSWORD"], "old", "neighbours use what the pods use");
    world.complete_migration(&crate::contract::MigrationReport::default());
    let migrated = world.run();
    assert_eq!(serves(&migrated), account(2, "shopkeeper"));
    assert_eq!(World::entries(world.observed.credentials.as_ref())["MYSQL_PASSWORD"], "new");
    let entries = World::entries(world.observed.accounts.as_ref());
    assert_eq!((entries["1.password"].as_str(), entries["2.password"].as_str()), ("old", "new"));
}

fn migration_name(decision: &Decision) -> String {
    decision.plan.migration.as_ref().unwrap().name.clone()
}

#[test]
fn credentials_that_vanish_freeze_the_account_and_nothing_else() {
    let mut world = credentials();
    world.secret("theirs", &[("username", "shopkeeper"), ("password", "old")]);
    let before = world.up();
    world.observed.referenced.clear();
    world.service.spec.replicas = 5;
    let without = world.run();
    assert_eq!(
        refused(&without),
        [
            "SecretUnusable SecretMissing: database.external.credentialsSecretRef: Secret theirs does not exist: create it with keys username and password"
        ]
    );
    assert_eq!(
        (serves(&without), migration_name(&without)),
        (account(1, "shopkeeper"), migration_name(&before))
    );
    assert_eq!(without.plan.server.unwrap().replicas, 5);
}

#[test]
fn credentials_that_cannot_be_used_name_the_key_at_fault() {
    let mut world = credentials();
    let field = "SecretUnusable SecretInvalid: database.external.credentialsSecretRef: Secret theirs";
    for (entries, fault) in [
        (vec![("password", "p")], "has no key username, or an empty one: add it"),
        (vec![("username", "u"), ("password", "\n")], "has no key password, or an empty one: add it"),
        (
            vec![("username", "two\nlines"), ("password", "p")],
            "holds no account name under key username: it must be text of at most 80 characters in one line",
        ),
    ] {
        world.secret("theirs", &entries);
        let decision = world.decide();
        assert_eq!(refused(&decision), [format!("{field} {fault}")]);
        assert_eq!((decision.plan.server, decision.plan.migration), (None, None));
        assert!(decision.plan.service && decision.plan.key_ring.is_some(), "the rest goes on");
    }
}

#[test]
fn a_resource_that_gives_up_its_credentials_gets_an_account_of_its_own() {
    let mut world = credentials();
    world.secret("theirs", &[("username", "shopkeeper"), ("password", "old")]);
    world.secret("root", &[("username", "root"), ("password", "all")]);
    world.up();
    let spec = World::external(json!({"adminCredentialsSecretRef": {"name": "root"}})).service.spec;
    world.service.spec = spec;
    assert_eq!(migrates(&world.run()), account(2, "as_00000001_2"));
    assert_eq!(migrates(&world.run()), account(2, "as_00000001_2"));
}

#[test]
fn lost_accounts_are_not_replaced_until_that_is_asked_for() {
    let mut world = World::new(json!({}));
    let before = world.up();
    world.observed.accounts = None;
    let lost = world.run();
    assert_eq!(
        refused(&lost),
        [
            "SecretLost SecretLost: Secret gate-database with the database accounts is gone, and the database knows them: restore it from a backup, or annotate the AuthService with authservice.dev/regenerate=gate-database to make new accounts"
        ]
    );
    assert_eq!((lost.plan.accounts.clone(), lost.plan.migration.clone()), (None, None));
    assert_eq!(serves(&lost), serves(&before), "the pods go on as they are");
    world.service.metadata.annotations =
        Some([(labels::REGENERATE.to_owned(), "gate-database".to_owned())].into());
    let anew = world.run();
    assert_eq!(refused(&anew), [""; 0]);
    assert_eq!(migrates(&anew).number, 2, "a number that live pods mount is not used again");
    assert_eq!(serves(&anew), serves(&before), "until the new account is migrated");
}

#[test]
fn accounts_are_lost_when_only_the_volume_is_left() {
    let mut world = World::new(json!({}));
    world.up();
    world.observed.accounts = None;
    world.observed.deployment = None;
    let lost = world.decide();
    assert_eq!((lost.refusals.len(), lost.plan.server), (1, None));
}

#[test]
fn a_database_that_is_gone_comes_back_to_its_volume_although_the_accounts_are_lost() {
    let mut world = World::new(json!({}));
    world.up();
    (world.observed.accounts, world.observed.database) = (None, None);
    let lost = world.decide();
    assert!(lost.plan.accounts.is_none() && lost.plan.managed.unwrap().server.is_some());
    world.observed.volume = None;
    assert!(world.decide().plan.managed.unwrap().server.is_none(), "a first volume waits for accounts");
}

#[test]
fn accounts_are_lost_when_only_status_or_only_the_deployment_tells_of_them() {
    let up = || {
        let mut world = credentials();
        world.secret("theirs", &[("username", "shopkeeper"), ("password", "old")]);
        world.up();
        world
    };
    let mut deployed = up();
    deployed.observed.accounts = None;
    assert_eq!(deployed.decide().plan.accounts, None);
    let mut migrated = up();
    migrated.report();
    (migrated.observed.accounts, migrated.observed.deployment) = (None, None);
    assert_eq!(migrated.decide().plan.accounts, None);
}

#[test]
fn the_first_admin_is_issued_once_and_its_deletion_is_final() {
    let mut world = World::new(json!({}));
    world.run();
    let admin = World::entries(world.observed.admin.as_ref());
    let expected = [("email", "admin@gate.market"), ("password", "admin-password-1")];
    assert_eq!(admin, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    world.observed.admin = None;
    let without = world.run();
    assert_eq!((without.plan.admin.clone(), refused(&without)), (None, vec![]));
    assert!(world.observed.admin.is_none());
}

#[test]
fn a_first_admin_whose_marker_was_not_written_keeps_the_secret_that_was() {
    let mut world = World::new(json!({}));
    world.run();
    world.observed.accounts = None;
    world.observed.deployment = None;
    let decision = world.run();
    assert_eq!(World::entries(world.observed.admin.as_ref())["password"], "admin-password-1");
    assert!(decision.plan.accounts.unwrap().0.contains_key("admin-issued"));
}

#[test]
fn a_resource_that_names_its_users_gets_no_admin() {
    for users in [json!([]), json!([{"email": "a@b.c", "passwordSecretRef": {"name": "a"}}])] {
        let mut world = World::new(json!({"users": {"bootstrap": users}}));
        let decision = world.run();
        assert_eq!(decision.plan.admin, None);
        assert!(!decision.plan.accounts.unwrap().0.contains_key("admin-issued"));
    }
}

#[test]
fn accounts_made_anew_issue_no_admin_whose_password_the_database_does_not_know() {
    let mut world = World::new(json!({}));
    world.up();
    (world.observed.accounts, world.observed.admin) = (None, None);
    world.service.metadata.annotations =
        Some([(labels::REGENERATE.to_owned(), "gate-database".to_owned())].into());
    let anew = world.run();
    assert_eq!(anew.plan.admin, None);
    assert!(anew.plan.accounts.unwrap().0.contains_key("admin-issued"));
}

#[test]
fn secrets_of_a_deleted_resource_are_taken_up_by_the_next_of_its_name() {
    let mut world = World::new(json!({}));
    let before = world.up();
    let observed = std::mem::take(&mut world.observed);
    world.service.metadata.uid = Some("uid-of-the-next".to_owned());
    world.observed.key_ring = observed.key_ring;
    world.observed.accounts = observed.accounts;
    world.observed.admin = observed.admin;
    world.observed.root_password = observed.root_password;
    world.observed.volume = observed.volume;
    let after = world.run();
    assert_eq!(refused(&after), [""; 0]);
    assert_eq!((after.plan.key_ring, after.plan.accounts), (before.plan.key_ring, before.plan.accounts));
    assert_eq!(after.plan.managed.unwrap().root_password, before.plan.managed.unwrap().root_password);
}
