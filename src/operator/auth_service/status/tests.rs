//! What status says, as a specification.

use std::time::Duration;

use serde_json::json;

use crate::{
    contract::{DatabaseFault, MigrationError, MigrationReport},
    operator::auth_service::{
        apply::seen,
        fixture::{World, pod, told},
        refusal::Refusal,
    },
};

const ACCOUNT: &str = "as_00000001_1";

fn report(error: Option<MigrationError>) -> String {
    serde_json::to_string(&MigrationReport { error, ..MigrationReport::default() }).unwrap()
}

fn rejected() -> String {
    report(Some(MigrationError {
        reason: DatabaseFault::CredentialsRejected,
        message: "Access denied for user 'u'@'h'. Check key password of Secret theirs".to_owned(),
    }))
}

fn line(lines: &[String], kind: &str) -> String {
    lines.iter().find(|line| line.split(' ').next() == Some(kind)).cloned().unwrap_or_default()
}

#[test]
fn a_service_that_is_up_says_so_in_few_words() {
    let mut world = World::new(json!({}));
    world.up();
    world.later(20);
    world.pod_says(ACCOUNT, None);
    let status = world.report();
    assert_eq!(
        told(&status),
        [
            "Ready True AsExpected: 2 of 2 replicas ready",
            "DatabaseReady True AsExpected: database auth at gate-mysql.market.svc:3306 (9.7.4) answers account as_00000001_1",
            "SchemaReady True AsExpected: schema version 2",
            "Available True AsExpected: 2 of 2 replicas ready",
            "Progressing False Settled: nothing is being changed",
        ]
    );
    let rest = serde_json::to_value(crate::api::AuthServiceStatus { conditions: vec![], ..status }).unwrap();
    assert_eq!(
        rest,
        json!({
            "observedGeneration": 1, "replicas": 2, "readyReplicas": 2,
            "selector": "app.kubernetes.io/component=server,app.kubernetes.io/instance=gate,app.kubernetes.io/name=auth-server",
            "url": "http://gate.market.svc:5000",
            "database": {"version": "9.7.4", "schemaVersion": 2},
            "token": {"keyId": "00000001", "rotatedAt": "2026-03-01T12:00:00Z"},
        })
    );
}

#[test]
fn a_signing_key_that_was_only_decided_on_is_no_key() {
    let mut world = World::new(json!({}));
    assert_eq!(world.report().token, None, "nothing was written yet");
    world.run();
    assert!(world.report().token.is_some_and(|token| token.key_id.is_some()));
}

#[test]
fn a_start_says_at_each_step_what_is_waited_for() {
    let mut world = World::new(json!({}));
    world.run();
    assert_eq!(
        line(&told(&world.report()), "Ready"),
        "Ready False DatabaseStarting: waiting for the database pod gate-mysql-0, which does not exist yet"
    );
    world.observed.database_pod = Some(pod(json!({
        "metadata": {"name": "gate-mysql-0"},
        "status": {"phase": "Pending", "containerStatuses": [{
            "name": "database", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"mysql:1\""}},
        }]},
    })));
    assert_eq!(
        line(&told(&world.report()), "Ready"),
        "Ready False DatabaseStarting: waiting for the database pod gate-mysql-0: ImagePullBackOff: Back-off pulling image \"mysql:1\""
    );
    world.database_ready(1);
    world.run();
    assert_eq!(
        told(&world.report()),
        [
            "Ready False Migrating: setting up database, account, tables and users",
            "DatabaseReady Unknown NotYetChecked: setting up database, account, tables and users",
            "SchemaReady False Migrating: setting up database, account, tables and users",
            "Available False ReplicasMissing: 0 of 2 replicas ready",
            "Progressing True Migrating: setting up database, account, tables and users",
        ]
    );
    world.complete_migration(&MigrationReport { schema_version: 2, ..MigrationReport::default() });
    world.run();
    world.pods_ready(0);
    world.observed.server_pods = vec![pod(json!({
        "metadata": {"name": "gate-x"},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "auth-server", "image": "", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": {"exitCode": 2, "message": "starting\nMYSQL_PORT: no number\n"}},
        }]},
    }))];
    assert_eq!(
        line(&told(&world.report()), "Ready"),
        "Ready False ReplicasMissing: 0 of 2 replicas ready; waiting for pod gate-x: CrashLoopBackOff: exit code 2: MYSQL_PORT: no number"
    );
}

#[test]
fn a_failed_migration_speaks_in_the_databases_words_also_while_it_is_tried_again() {
    let mut world = World::external(json!({"credentialsSecretRef": {"name": "theirs"}}));
    world.secret("theirs", &[("username", "u"), ("password", "p")]);
    world.run();
    world.fail_migration(&rejected(), Duration::from_secs(9));
    let words = "CredentialsRejected: Access denied for user 'u'@'h'. Check key password of Secret theirs";
    for again in [false, true] {
        if again {
            world.observed.retry_in = Some(Duration::ZERO);
            world.run();
            assert_eq!(world.job().status, None);
        }
        let told = told(&world.report());
        assert_eq!(line(&told, "Ready"), format!("Ready False {words}"));
        assert_eq!(line(&told, "SchemaReady"), format!("SchemaReady False {words}"));
        assert_eq!(line(&told, "DatabaseReady"), format!("DatabaseReady False {words}"));
    }
    world.complete_migration(&MigrationReport::default());
    assert_eq!(line(&told(&world.report()), "SchemaReady"), "SchemaReady True AsExpected: schema version 0");
}

#[test]
fn a_migration_that_left_no_report_is_told_by_its_log_or_by_the_job_controller() {
    let mut world = World::external(json!({"credentialsSecretRef": {"name": "theirs"}}));
    world.secret("theirs", &[("username", "u"), ("password", "p")]);
    let name = world.run().plan.migration.unwrap().name;
    world.fail_migration("exec format error", Duration::from_secs(9));
    assert_eq!(
        line(&told(&world.report()), "SchemaReady"),
        format!("SchemaReady False MigrationFailed: migration Job {name} failed: exec format error")
    );
    world.observed.migration_pods.clear();
    assert_eq!(
        line(&told(&world.report()), "SchemaReady"),
        format!(
            "SchemaReady False MigrationFailed: migration Job {name} failed: R: in the controller's words"
        )
    );
}

#[test]
fn without_the_migrations_report_the_pods_tell_of_the_database() {
    let mut world = World::new(json!({}));
    world.up();
    world.observed.migration_pods.clear();
    let known = |world: &mut World| {
        let database = world.report().database.unwrap();
        (database.version, database.schema_version)
    };
    assert_eq!(known(&mut world), (None, None), "there is one, and nobody has told of it yet");
    world.later(60);
    world.pod_says(ACCOUNT, None);
    assert_eq!(known(&mut world), (Some("9.7.4".to_owned()), Some(2)));
}

#[test]
fn a_bad_change_of_the_database_leaves_the_verdict_on_the_live_one() {
    let mut world = World::external(json!({"credentialsSecretRef": {"name": "theirs"}}));
    world.secret("theirs", &[("username", "u"), ("password", "p")]);
    world.up();
    world.secret("theirs", &[("username", "u"), ("password", "wrong")]);
    world.run();
    world.fail_migration(&rejected(), Duration::from_secs(9));
    world.later(60);
    world.pod_says("u", None);
    let told = told(&world.report());
    assert_eq!(
        line(&told, "DatabaseReady"),
        "DatabaseReady True AsExpected: database shop at db.example:3307 (9.7.4) answers account u"
    );
    assert_eq!(line(&told, "Available"), "Available True AsExpected: 2 of 2 replicas ready");
    assert!(line(&told, "Ready").starts_with("Ready False CredentialsRejected: Access denied"));
}

#[test]
fn an_outage_is_told_in_the_databases_words_and_forgotten_when_it_ends() {
    let mut world = World::new(json!({}));
    world.up();
    world.later(60);
    world.pod_says(ACCOUNT, Some(DatabaseFault::DatabaseUnreachable));
    assert_eq!(
        line(&told(&world.report()), "DatabaseReady"),
        "DatabaseReady False DatabaseUnreachable: database auth at gate-mysql.market.svc:3306: in the database's own words. Tokens are still validated, logins answer 503: check that the database runs and that the network lets the server pods reach it"
    );
    world.pod_says(ACCOUNT, None);
    assert!(line(&told(&world.report()), "Ready").starts_with("Ready True"));
}

#[test]
fn complaints_from_before_the_migration_completed_are_not_told() {
    let mut world = World::new(json!({}));
    world.pod_says(ACCOUNT, Some(DatabaseFault::CredentialsRejected));
    world.up();
    assert!(line(&told(&world.report()), "Ready").starts_with("Ready True"));
}

#[test]
fn a_rollout_is_told_until_its_last_old_pod_is_gone() {
    let mut world = World::new(json!({}));
    world.up();
    let status = world.observed.deployment.as_mut().unwrap().status.as_mut().unwrap();
    (status.updated_replicas, status.replicas) = (Some(1), Some(3));
    let told = told(&world.report());
    assert_eq!(
        line(&told, "Ready"),
        "Ready False RollingOut: 1 of 2 replicas updated, 2 of 2 replicas ready"
    );
    assert_eq!(line(&told, "Available"), "Available True AsExpected: 2 of 2 replicas ready");
}

#[test]
fn a_second_migration_of_what_the_pods_already_use_does_not_unready_the_schema() {
    let mut world = World::new(json!({}));
    world.up();
    world.report();
    world.observed.admin = None;
    world.run();
    assert_eq!(world.observed.jobs.len(), 2, "the first admin's Secret is an input");
    assert_eq!(
        line(&told(&world.report()), "SchemaReady"),
        "SchemaReady True Migrating: setting up database, account, tables and users"
    );
}

#[test]
fn what_the_live_pods_say_of_a_former_password_gives_way_to_what_the_new_one_met() {
    let mut world = World::external(json!({"credentialsSecretRef": {"name": "theirs"}}));
    world.secret("theirs", &[("username", "u"), ("password", "wrong")]);
    world.run();
    world.fail_migration(&rejected(), Duration::from_secs(4));
    world.pod_says("u", Some(DatabaseFault::CredentialsRejected));
    world.secret("theirs", &[("username", "u"), ("password", "right")]);
    world.run();
    world.fail_migration(
        &report(Some(MigrationError {
            reason: DatabaseFault::GrantMissing,
            message: "Account \"u\" lacks a right: SELECT. Grant it".to_owned(),
        })),
        Duration::from_secs(4),
    );
    world.run();
    let told = told(&world.report());
    assert_eq!(
        line(&told, "DatabaseReady"),
        "DatabaseReady False GrantMissing: Account \"u\" lacks a right: SELECT. Grant it"
    );
    assert_eq!(
        line(&told, "Ready"),
        "Ready False GrantMissing: Account \"u\" lacks a right: SELECT. Grant it"
    );
}

#[test]
fn what_a_migration_could_not_do_outlives_its_pod_and_does_not_touch_ready() {
    let mut world = World::new(json!({}));
    world.up();
    world.complete_migration(&MigrationReport {
        schema_version: 0,
        missing_users: vec!["a@b.c".to_owned(), "d@e.f".to_owned()],
        limits: vec!["no admin flags".to_owned(), "no lockout".to_owned()],
        ..MigrationReport::default()
    });
    let missing = "not created, because the password is missing: a@b.c, d@e.f. Create Secret gate-admin with key password and label authservice.dev/name=gate";
    for _ in 0..2 {
        let told = told(&world.report());
        assert_eq!(line(&told, "Ready"), format!("Ready True AsExpected: 2 of 2 replicas ready; {missing}"));
        assert_eq!(
            line(&told, "BootstrapUserMissing"),
            format!("BootstrapUserMissing True PasswordMissing: {missing}")
        );
        assert_eq!(
            line(&told, "FeaturesLimited"),
            "FeaturesLimited True RightsMissing: no admin flags; no lockout"
        );
        world.observed.migration_pods.clear();
    }
    world.complete_migration(&MigrationReport { schema_version: 2, ..MigrationReport::default() });
    assert_eq!(told(&world.report()).len(), 5);
}

#[test]
fn refusals_make_the_service_unready_one_condition_a_kind() {
    let mut world = World::new(json!({}));
    world.up();
    let mut decision = world.decide();
    decision.refusals = vec![
        Refusal::name_taken("Service", "gate", "exists already"),
        Refusal::name_taken("Deployment", "gate", "exists already"),
    ];
    let mut outcome = seen(&decision.plan, &world.observed);
    outcome.refusals = vec![Refusal::child("create", "Job", "gate-migrate-1", "exceeded quota")];
    let told = told(&world.report_of(&decision, &outcome));
    let service = "Service gate exists already, and is left untouched: rename or delete it, or use another name for the AuthService";
    assert_eq!(
        line(&told, "Ready"),
        format!("Ready False NameTaken: {service}; and 2 more, see the other conditions")
    );
    assert_eq!(
        line(&told, "NameTaken"),
        format!(
            "NameTaken True NameTaken: {service}; {}",
            service.replace("Service", "Deployment").replace("AuthDeployment", "AuthService")
        )
    );
    assert_eq!(
        line(&told, "ChildRefused"),
        "ChildRefused True ChildRefused: could not create Job gate-migrate-1: exceeded quota"
    );
}

#[test]
fn a_transition_time_only_changes_with_the_status_of_its_condition() {
    let mut world = World::new(json!({}));
    world.up();
    let first = world.report();
    world.later(100);
    assert_eq!(world.report(), first, "nothing to write at rest");
    world.pods_ready(1);
    let changed = world.report();
    let since = |status: &crate::api::AuthServiceStatus| -> Vec<String> {
        status
            .conditions
            .iter()
            .map(|condition| format!("{} {}", condition.type_, condition.last_transition_time.0))
            .collect()
    };
    assert_eq!(
        since(&changed),
        [
            "Ready 2026-03-01T12:01:40Z",
            "DatabaseReady 2026-03-01T12:00:00Z",
            "SchemaReady 2026-03-01T12:00:00Z",
            "Available 2026-03-01T12:00:00Z",
            "Progressing 2026-03-01T12:01:40Z",
        ]
    );
}

#[test]
fn a_suspended_service_says_so_and_goes_on_being_judged() {
    let mut world = World::new(json!({}));
    world.up();
    world.service.spec.suspend = Some(true);
    let told = told(&world.report());
    assert_eq!(line(&told, "Ready"), "Ready True AsExpected: 2 of 2 replicas ready");
    assert_eq!(
        line(&told, "Suspended"),
        "Suspended True Suspended: spec.suspend is true: nothing but status is changed, and the pods go on serving"
    );
}

#[test]
fn no_replicas_are_a_service_as_asked() {
    let mut world = World::new(json!({"replicas": 0}));
    world.up();
    assert_eq!(line(&told(&world.report()), "Ready"), "Ready True AsExpected: 0 of 0 replicas ready");
}

#[test]
fn how_far_a_rollout_is_is_told_by_its_counts() {
    let progressing = |updated: i32, existing: i32, ready: i32, condition: &str, seen: i64| {
        let mut world = World::new(json!({}));
        world.up();
        let deployment = world.observed.deployment.as_mut().unwrap();
        deployment.metadata.generation = Some(2);
        deployment.status = serde_json::from_value(json!({
            "observedGeneration": seen,
            "replicas": existing, "updatedReplicas": updated, "readyReplicas": ready,
            "conditions": [{"type": "Progressing", "status": "False", "reason": condition}],
        }))
        .unwrap();
        line(&told(&world.report()), "Progressing")
    };
    for (updated, existing, ready, expected) in [
        (2, 2, 2, "False Settled: nothing is being changed"),
        (2, 2, 1, "True ReplicasMissing: 1 of 2 replicas ready"),
        (1, 1, 1, "True RollingOut: 1 of 2 replicas updated, 1 of 2 replicas ready"),
        (1, 2, 2, "True RollingOut: 1 of 2 replicas updated, 2 of 2 replicas ready"),
        (2, 3, 2, "True RollingOut: 2 of 2 replicas updated, 2 of 2 replicas ready"),
    ] {
        assert_eq!(progressing(updated, existing, ready, "Any", 2), format!("Progressing {expected}"));
    }
    assert_eq!(progressing(2, 2, 2, "Any", 1), "Progressing True RollingOut: 2 of 2 replicas ready");
    assert_eq!(
        progressing(2, 2, 1, "ProgressDeadlineExceeded", 2),
        "Progressing True ProgressDeadlineExceeded: 1 of 2 replicas ready"
    );
}

#[test]
fn what_a_migration_waits_for_is_told_before_there_is_one() {
    let mut managed = World::new(json!({}));
    assert_eq!(
        line(&told(&managed.report()), "SchemaReady"),
        "SchemaReady False WaitingForDatabase: the migration waits for the managed database"
    );
    managed.run();
    managed.database_ready(1);
    assert_eq!(
        line(&told(&managed.report()), "SchemaReady"),
        "SchemaReady False WaitingForInputs: the migration has not started yet"
    );
    let mut external = World::external(json!({"adminCredentialsSecretRef": {"name": "root"}}));
    assert_eq!(
        line(&told(&external.report()), "SchemaReady"),
        "SchemaReady False WaitingForInputs: the migration waits: database.external.adminCredentialsSecretRef: Secret root does not exist: create it with keys username and password"
    );
}

/// A resource whose migration failed with these words and is tried again.
fn tried_again(words: &str) -> World {
    let mut world = World::external(json!({}));
    world.run();
    world.fail_migration(words, Duration::from_secs(9));
    world.report();
    world.observed.retry_in = Some(Duration::ZERO);
    world.run();
    assert_eq!(world.job().status, None);
    world
}

#[test]
fn a_next_attempt_that_does_not_start_says_why_unless_the_last_one_left_words_of_the_database() {
    let schema = |world: &mut World| line(&told(&world.report()), "SchemaReady");
    let stuck = |world: &mut World| {
        let uid = world.job().metadata.uid.clone();
        world.observed.migration_pods = vec![pod(json!({
            "metadata": {"name": "migrate-pod", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid}]},
            "status": {"phase": "Pending", "containerStatuses": [{
                "name": "migrate", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff"}},
            }]},
        }))];
    };
    let mut wordless = tried_again("exec format error");
    let name = wordless.job().metadata.name.clone().unwrap();
    let failed = format!("SchemaReady False MigrationFailed: migration Job {name} failed: exec format error");
    assert_eq!(schema(&mut wordless), failed, "nothing better is known yet");
    stuck(&mut wordless);
    let waits = "SchemaReady False Migrating: setting up database, account, tables and users; waiting for pod migrate-pod: ImagePullBackOff";
    assert_eq!(schema(&mut wordless), waits);
    let mut running = World::external(json!({}));
    running.run();
    stuck(&mut running);
    running.observed.migration_pods[0].status.as_mut().unwrap().phase = Some("Running".to_owned());
    let runs = "SchemaReady False Migrating: setting up database, account, tables and users";
    assert_eq!(schema(&mut running), runs, "a pod that has started is waited for by nobody");
    let mut rejected = tried_again(&rejected());
    stuck(&mut rejected);
    assert!(schema(&mut rejected).starts_with("SchemaReady False CredentialsRejected: Access denied"));
}

#[test]
fn words_of_a_failed_migration_are_forgotten_when_spec_asks_for_another() {
    let mut world = tried_again(&rejected());
    world.respec(json!({"database": {"external": {"hosts": [{"host": "other.example"}]}}}));
    world.run();
    assert_eq!(
        line(&told(&world.report()), "SchemaReady"),
        "SchemaReady False Migrating: setting up database, account, tables and users"
    );
}

#[test]
fn an_outage_of_the_live_database_is_told_while_the_next_one_waits_for_a_secret() {
    let mut world = World::external(json!({}));
    world.up();
    world.later(60);
    world.pod_says(ACCOUNT, Some(DatabaseFault::DatabaseUnreachable));
    world.respec(json!({"database": {"external": {
        "hosts": [{"host": "other.example"}], "adminCredentialsSecretRef": {"name": "root"},
    }}}));
    world.run();
    assert!(
        line(&told(&world.report()), "DatabaseReady").starts_with(
            "DatabaseReady False DatabaseUnreachable: database shop at db.example:3307: in the database's own words."
        )
    );
}

#[test]
fn a_change_that_met_another_writer_is_not_ready_and_one_that_was_told_before_stays_so() {
    let mut world = World::new(json!({}));
    world.up();
    let ready = |world: &mut World| {
        let decision = world.decide();
        let mut outcome = seen(&decision.plan, &world.observed);
        outcome.again = true;
        line(&told(&world.report_of(&decision, &outcome)), "Ready")
    };
    world.report();
    assert_eq!(ready(&mut world), "Ready True AsExpected: 2 of 2 replicas ready");
    *world.service.metadata.generation.as_mut().unwrap() += 1;
    for _ in 0..2 {
        assert_eq!(ready(&mut world), "Ready False RollingOut: the change is being written");
    }
}
