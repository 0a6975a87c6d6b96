//! `auth-server migrate` on real servers of both engines.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};

use authservice::contract::{DatabaseFault, MigrationReport, SCHEMA_VERSION};
use server_support::{Database, Engine, Migration, proxy::Proxy};

const NONE: [&str; 0] = [];

fn with_users(database: &Database) -> Migration {
    database.admin_migration().user("admin@x.io", true, Some("first secret\n")).user(
        "user@x.io",
        false,
        Some("second secret"),
    )
}

#[test]
fn an_empty_server_is_set_up_and_a_second_run_changes_nothing() {
    for engine in Engine::all() {
        let database = engine.fresh();
        let report = with_users(&database).succeed();
        let version = report.database_version.clone().unwrap();
        assert_eq!(version.contains("MariaDB"), engine.name.contains("MariaDB"), "{version}");
        assert_eq!(
            report,
            MigrationReport {
                database_version: Some(version.clone()),
                schema_version: SCHEMA_VERSION,
                created: vec![
                    format!("database {}", database.name),
                    format!("account {}", database.user),
                    "table user".into(),
                    "table authservice_user".into(),
                    "table authservice_login_failure".into(),
                    "table authservice_access".into(),
                    "table authservice_revoked_token".into(),
                    "user admin@x.io".into(),
                    "user user@x.io".into(),
                ],
                ..MigrationReport::default()
            }
        );
        let state = database.state();
        let again = with_users(&database).succeed();
        assert_eq!(
            again,
            MigrationReport {
                database_version: Some(version),
                schema_version: SCHEMA_VERSION,
                ..MigrationReport::default()
            }
        );
        assert_eq!(database.state(), state);
        // Without the admin the same holds once everything is there.
        database.migration().succeed();
        assert_eq!(database.state(), state);

        let server = database.serve(&[]);
        assert_eq!(server.status().database.schema_version, SCHEMA_VERSION);
        let claims =
            |token: &str| serde_json::from_str::<serde_json::Value>(&server.validate(token).body).unwrap();
        assert_eq!(claims(&server.token("admin@x.io", "first secret"))["admin"], true);
        assert_eq!(claims(&server.token("user@x.io", "second secret"))["admin"], false);
    }
}

#[test]
fn the_servers_account_gets_row_rights_on_its_database_alone() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.admin_migration().succeed();
        let grants: BTreeSet<String> = database
            .sql()
            .rows(&format!("SHOW GRANTS FOR '{}'@'%'", database.user))
            .into_iter()
            .map(|row| row[0].clone())
            .collect();
        let rights = format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON `{}`.* TO `{}`@`%`",
            database.name.replace('_', "\\_"),
            database.user
        );
        assert_eq!(grants.len(), 2, "{grants:?}");
        assert!(grants.contains(&rights), "{grants:?}");
    }
}

#[test]
fn eight_at_once_end_in_the_schema_of_one() {
    for engine in Engine::all() {
        let database = engine.fresh();
        with_users(&database).succeed();
        let expected = database.state();
        database.reset();
        let migrations: Vec<_> = (0..8).map(|_| with_users(&database)).collect();
        let children: Vec<_> = migrations
            .iter()
            .map(|migration| migration.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
            .collect();
        for mut child in children {
            assert!(child.wait().unwrap().success(), "{}", engine.name);
        }
        assert_eq!(database.state(), expected, "{}", engine.name);
    }
}

/// The way from nothing to a full schema, killed after each message to the database.
fn killed_after_each_statement(engine: &Engine) {
    let mut database = engine.fresh();
    with_users(&database).succeed();
    let expected = database.state();
    let proxy = Proxy::start(engine.address);
    let mut kills = 0;
    for messages in 1.. {
        database.reset();
        database.via = proxy.address;
        let migration = with_users(&database);
        let mut child = migration.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let process = child.id().to_string();
        proxy.call_after(messages, move || {
            let _ = std::process::Command::new("kill").args(["-KILL", &process]).status();
        });
        let finished = child.wait().unwrap().success();
        database.via = engine.address;
        if finished {
            break;
        }
        kills += 1;
        with_users(&database).succeed();
        assert_eq!(database.state(), expected, "killed after {messages} messages on {}", engine.name);
    }
    println!("{}: killed at {kills} points", engine.name);
    assert!(kills > 20, "{kills}");
}

#[test]
fn killed_after_each_statement_the_next_run_ends_in_the_same_schema_on_mysql() {
    killed_after_each_statement(&Engine::mysql());
}

#[test]
fn killed_after_each_statement_the_next_run_ends_in_the_same_schema_on_mariadb() {
    killed_after_each_statement(&Engine::mariadb());
}

#[test]
fn the_originals_own_schema_is_adopted_and_never_altered() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_original();
        database.create_account("SELECT, INSERT, UPDATE, DELETE, CREATE");
        let columns =
            |database: &Database| database.sql().rows(&format!("SHOW CREATE TABLE `{}`.user", database.name));
        let before = columns(&database);
        let report = database.migration().with(&[("SCHEMA_MODE", "Existing")]).succeed();
        assert_eq!(
            report.created,
            [
                "table authservice_user",
                "table authservice_login_failure",
                "table authservice_access",
                "table authservice_revoked_token"
            ]
        );
        assert_eq!(report.schema_version, SCHEMA_VERSION);
        assert_eq!(columns(&database), before);
        let server = database.serve(&[("LEGACY_PASSWORD_FORMATS", "plaintext")]);
        let token = server.token("georgio@email.com", "Admin123");
        let claims: serde_json::Value = serde_json::from_str(&server.validate(&token).body).unwrap();
        assert_eq!(claims["admin"], true, "an adopted row without an entry");
        assert_eq!(columns(&database).len(), 1);
    }
}

#[test]
fn without_the_right_to_create_the_server_runs_on_user_alone_and_says_what_is_off() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_original();
        database.create_account("SELECT");
        let report = database
            .migration()
            .with(&[("SCHEMA_MODE", "Existing")])
            .user("boss@x.io", true, Some("secret"))
            .user("clerk@x.io", false, Some("secret"))
            .succeed();
        assert_eq!((report.schema_version, report.created.len()), (0, 0));
        let user = &database.user;
        let name = &database.name;
        assert_eq!(
            report.limits[0],
            format!("rehashing of passwords: account {user} lacks UPDATE on table user")
        );
        assert_eq!(
            report.limits[1],
            format!(
                "the admin flag, disabled users, logout, changes of passwords, and login protection by all pods together: account {user} \
                 lacks CREATE on database {name}, so tables authservice_* are absent, every user is an admin and each pod counts \
                 failed logins on its own"
            )
        );
        assert!(
            report.limits[2].starts_with("user boss@x.io is not created: INSERT command denied to user"),
            "{:?}",
            report.limits
        );
        assert_eq!(
            report.limits[3],
            "user clerk@x.io is not created: without table authservice_user every user is an admin"
        );
        let server = database.serve(&[("LEGACY_PASSWORD_FORMATS", "plaintext")]);
        server.token("georgio@email.com", "Admin123");
    }
}

fn refused(migration: &Migration) -> (DatabaseFault, String) {
    let error = migration.run().0.error.expect("a failure");
    (error.reason, error.message)
}

#[test]
fn an_existing_schema_must_exist_and_be_usable() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create();
        let existing = [("SCHEMA_MODE", "Existing")];
        let (reason, message) = refused(&database.admin_migration().with(&existing));
        assert_eq!(reason, DatabaseFault::SchemaMissing, "{message}");
        assert!(message.contains("table user does not exist"), "{message}");
        database.sql().run(&format!(
            "CREATE TABLE `{}`.user (id INT PRIMARY KEY, email DATE, password TEXT)",
            database.name
        ));
        let (reason, message) = refused(&database.admin_migration().with(&existing));
        assert_eq!(reason, DatabaseFault::SchemaIncompatible, "{message}");
        assert!(message.contains("column email of table user has type date"), "{message}");
    }
}

#[test]
fn missing_rights_are_named_before_anything_is_done() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_account("");
        let (reason, message) = refused(&database.migration());
        assert_eq!(reason, DatabaseFault::GrantMissing, "{message}");
        assert!(
            message.contains("SELECT on table user")
                && message.contains("GRANT SELECT, INSERT, UPDATE, DELETE ON"),
            "{message}"
        );

        let weak = engine.fresh();
        let admin = [
            ("MYSQL_ADMIN_USER", database.user.as_str()),
            ("MYSQL_ADMIN_PASSWORD", database.password.as_str()),
        ];
        let (reason, message) = refused(&weak.migration().with(&admin));
        assert_eq!(reason, DatabaseFault::GrantMissing, "{message}");
        for lacking in ["CREATE on", "CREATE USER", "with GRANT OPTION"] {
            assert!(message.contains(lacking), "{lacking}: {message}");
        }
        assert_eq!(
            weak.sql().rows(&format!("SHOW DATABASES LIKE '{}'", weak.name)).len(),
            0,
            "nothing was done"
        );
    }
}

#[test]
fn every_fault_has_the_databases_own_words_and_a_cure() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_original();
        database.create_account("SELECT");
        let wrong = [("MYSQL_PASSWORD", "wrong")];
        let (reason, message) = refused(&database.migration().with(&wrong));
        assert_eq!(reason, DatabaseFault::CredentialsRejected);
        assert!(
            message.contains(&format!("Access denied for user '{}'@", database.user))
                && message.contains("Check the password"),
            "{message}"
        );
        assert!(!message.contains(&database.password), "{message}");

        let (reason, message) = refused(&database.admin_migration().with(&wrong));
        assert_eq!(reason, DatabaseFault::CredentialsRejected);
        assert!(
            message.contains("Access denied for user")
                && message.contains("exists and is never changed: give its real password"),
            "{message}"
        );
        let grants = database.sql().rows(&format!("SHOW GRANTS FOR '{}'@'%'", database.user));
        assert!(
            !format!("{grants:?}").contains("INSERT"),
            "a stranger's account was given rights: {grants:?}"
        );
        let kept = database.migration().with(&[("SCHEMA_MODE", "Existing")]).succeed();
        assert!(kept.created.is_empty(), "the account was not altered");

        let (reason, message) = refused(&database.migration().with(&[("MYSQL_DB", "nowhere_at_all")]));
        assert_eq!(reason, DatabaseFault::GrantMissing, "{message}");
    }
}

#[test]
fn an_unreachable_database_is_waited_for_and_then_named() {
    let mut database = Engine::mysql().fresh();
    let proxy = Proxy::start(database.engine.address);
    proxy.cut();
    database.via = proxy.address;
    let migration = with_users(&database);
    let mut child = migration.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    proxy.mend();
    assert!(child.wait().unwrap().success(), "it comes up within the 30 s");

    database.via = server_support::free_address();
    let start = Instant::now();
    let output = database.migration().output();
    assert!((25..40).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.matches("waiting for the database").count() > 5, "progress is shown: {log}");
    let report: MigrationReport = serde_json::from_slice(&output.stdout).unwrap();
    let error = report.error.unwrap();
    assert_eq!(error.reason, DatabaseFault::DatabaseUnreachable);
    assert!(error.message.contains("Connection refused"), "{}", error.message);
}

#[test]
fn a_newer_schema_is_accepted_and_an_older_one_is_completed() {
    for engine in Engine::all() {
        let database = engine.fresh();
        with_users(&database).succeed();
        database
            .sql()
            .run(&format!("INSERT INTO `{}`.authservice_schema (version) VALUES (1000)", database.name));
        let report = with_users(&database).succeed();
        assert_eq!((report.schema_version, report.created), (1000, NONE.map(String::from).to_vec()));
        assert_eq!(database.serve(&[]).status().database.schema_version, 1000);

        // As a dump of an early release would leave it.
        database.sql().run(&format!(
            "DROP TABLE `{0}`.authservice_user; DELETE FROM `{0}`.authservice_schema WHERE version > 1",
            database.name
        ));
        let report = with_users(&database).succeed();
        assert_eq!(
            (report.schema_version, report.created),
            (SCHEMA_VERSION, vec!["table authservice_user".to_owned()])
        );
    }
}

/// The tables as the release before this one made them, with a user who is no admin.
fn previous_release(database: &Database) {
    database.create_original();
    database.sql().run(
        "CREATE TABLE authservice_schema (version INT NOT NULL PRIMARY KEY, \
         finished_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4; \
         CREATE TABLE authservice_user (user_id BIGINT NOT NULL PRIMARY KEY, admin BOOLEAN NOT NULL) \
         ENGINE=InnoDB DEFAULT CHARSET=utf8mb4; \
         INSERT INTO authservice_schema (version) VALUES (1), (2); \
         INSERT INTO authservice_user (user_id, admin) VALUES (1, 0)",
    );
}

#[test]
fn the_tables_of_the_previous_release_are_completed_and_keep_what_they_hold() {
    const TABLES: [&str; 3] =
        ["table authservice_login_failure", "table authservice_access", "table authservice_revoked_token"];
    for engine in Engine::all() {
        let database = engine.fresh();
        previous_release(&database);
        database.create_account("SELECT, INSERT, UPDATE, DELETE");
        let tables =
            |database: &Database| database.sql().rows("SHOW CREATE TABLE authservice_user")[0][1].clone();
        let before = tables(&database);

        // Its pods go on, and those of this release wait, for as long as nobody may create the tables.
        let plaintext = [("LEGACY_PASSWORD_FORMATS", "plaintext")];
        let (reason, message) = refused(&database.migration());
        assert_eq!(reason, DatabaseFault::GrantMissing, "{message}");
        assert!(
            message.contains("CREATE on ")
                && message.contains("(for table authservice_access and authservice_revoked_token)"),
            "{message}"
        );
        let waiting = server_support::Server::launch(database.environment(), &plaintext);
        server_support::eventually("outdated", Duration::from_secs(10), || {
            waiting.status().database.fault == Some(DatabaseFault::SchemaOutdated)
        });
        assert!(!waiting.is_ready());
        let answer = waiting.login("georgio@email.com", "Admin123");
        assert_eq!(answer.status, 503, "without its tables everybody would be an admin: {answer:?}");

        let report = database.admin_migration().succeed();
        assert_eq!(
            (report.schema_version, report.created),
            (SCHEMA_VERSION, TABLES.map(String::from).to_vec())
        );
        assert_eq!(tables(&database), before, "what the previous release reads and writes is as it was");
        server_support::eventually("ready", Duration::from_secs(10), || waiting.is_ready());
        let token = waiting.token("georgio@email.com", "Admin123");
        let claims: serde_json::Value = serde_json::from_str(&waiting.validate(&token).body).unwrap();
        assert_eq!((&claims["admin"], &claims["gen"]), (&serde_json::json!(false), &serde_json::json!(0)));
    }
}

#[test]
fn an_account_that_may_not_write_our_tables_is_told_what_is_off() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_account("SELECT");
        database.sql().run(&format!("CREATE DATABASE `{}`", database.name));
        let other = engine.fresh();
        other.create_account("");
        let mut migration = database.admin_migration();
        migration = migration.with(&[("MYSQL_USER", &other.user)]);
        migration.user("ann@x.io", true, Some("secret of ann")).succeed();
        let report = database.migration().succeed();
        assert_eq!(
            report.limits,
            [
                format!("rehashing of passwords: account {} lacks UPDATE on table user", database.user),
                format!(
                    "logout and changes of passwords: account {} lacks INSERT on table authservice_access and UPDATE on table \
                     authservice_access and INSERT on table authservice_revoked_token",
                    database.user
                ),
                format!(
                    "login protection by all pods together: account {} lacks INSERT, UPDATE, DELETE on table \
                     authservice_login_failure, so each pod counts failed logins on its own",
                    database.user
                ),
            ]
        );
        let server = database.serve(&[]);
        let token = server.token("ann@x.io", "secret of ann");
        let answer = server_support::http::logout(server.public, &token).unwrap();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (501, "Not available: the service may not write to its database")
        );
        assert_eq!(server.validate(&token).status, 200, "nothing is pretended");
    }
}

#[test]
fn bootstrap_users_are_created_once_and_never_changed() {
    for engine in Engine::all() {
        let database = engine.fresh();
        let report = database.admin_migration().user("late@x.io", true, None).succeed();
        assert_eq!(report.missing_users, ["late@x.io"]);
        database.admin_migration().user("late@x.io", false, Some("first")).succeed();
        let hash = database.stored_password("late@x.io");
        let report = database.admin_migration().user("late@x.io", true, Some("second")).succeed();
        assert_eq!(report.created, NONE);
        assert_eq!(database.stored_password("late@x.io"), hash);
        let report = database.admin_migration().user("late@x.io", true, None).succeed();
        assert_eq!(report.missing_users, NONE, "an existing user needs no password");
        assert_eq!(
            database.sql().rows(&format!("SELECT admin FROM `{}`.authservice_user", database.name)),
            [["0"]]
        );
    }
}

#[test]
fn a_user_that_the_table_cannot_take_holds_up_nobody() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create();
        database.sql().run(&format!(
            "CREATE TABLE `{}`.user (id INT AUTO_INCREMENT PRIMARY KEY, email VARCHAR(255) NOT NULL UNIQUE, \
             password VARCHAR(60) NOT NULL)",
            database.name
        ));
        let report = database.admin_migration().user("ann@x.io", true, Some("secret")).succeed();
        let told = report.limits.iter().find(|limit| limit.starts_with("user ann@x.io is not created: "));
        assert!(
            told.is_some_and(|told| told.contains("'password'") && told.contains("insert the row yourself")),
            "{:?}",
            report.limits
        );
    }
}

#[test]
fn awkward_names_are_quoted() {
    for engine in Engine::all() {
        let mut database = engine.fresh();
        database.name = format!("{}-`%_ü\"", database.name);
        database.user = format!("u'\\\"{}", std::process::id());
        let report = with_users_unchecked(&database);
        assert_eq!(report.schema_version, SCHEMA_VERSION, "{report:?}");
        let server = database.serve(&[]);
        server.token("admin@x.io", "first secret");
        drop(server);
        let mut sql = database.sql();
        sql.run(&format!("DROP DATABASE `{}`", database.name.replace('`', "``")));
        sql.run(&format!("DROP USER '{}'@'%'", database.user.replace('\\', "\\\\").replace('\'', "\\'")));
    }
}

fn with_users_unchecked(database: &Database) -> MigrationReport {
    with_users(database).run().0
}
