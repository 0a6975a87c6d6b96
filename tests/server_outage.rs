//! A database that is away, refuses, or comes back.

mod server_support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use authservice::contract::{DatabaseFault, DatabaseStatus, SCHEMA_VERSION};
use server_support::{Database, Engine, eventually, http, proxy::Proxy};

fn with_user(engine: &Engine) -> Database {
    let database = engine.fresh();
    database.admin_migration().user("ann@x.io", true, Some("secret")).succeed();
    database
}

#[test]
fn an_outage_under_load_fails_no_validation_and_heals_by_itself() {
    for engine in Engine::all() {
        let mut database = with_user(&engine);
        let proxy = Proxy::start(engine.address);
        database.via = proxy.address;
        let server = database.serve(&[]);
        let token = server.token("ann@x.io", "secret");
        let good = server.status();
        assert_eq!(good.database.fault, None);

        let stop = Arc::new(AtomicBool::new(false));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let load = thread::spawn({
            let (stop, failures, address, token) =
                (Arc::clone(&stop), Arc::clone(&failures), server.public, token.clone());
            move || {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    match http::validate(address, &token) {
                        Ok(answer) if answer.status == 200 => calls += 1,
                        other => failures.lock().unwrap().push(format!("{other:?}")),
                    }
                }
                calls
            }
        });

        proxy.cut();
        let start = Instant::now();
        let refused = server.login("ann@x.io", "secret");
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
        assert_eq!((refused.status, refused.body.as_str()), (503, "Database unavailable, try again"));
        assert_eq!(
            (refused.header("retry-after"), refused.header("content-type")),
            (Some("1"), Some("text/plain; charset=utf-8"))
        );
        eventually("/status tells", Duration::from_secs(15), || {
            assert!(server.is_ready(), "an outage must not empty the Service");
            server.status().database.fault == Some(DatabaseFault::DatabaseUnreachable)
        });
        let during = server.status().database;
        assert_eq!(
            (during.account, during.schema_version),
            (database.user.clone(), SCHEMA_VERSION),
            "what was last seen stays"
        );
        assert!(http::get(server.ops, "/metrics").unwrap().body.contains("authservice_database_up 0"));

        proxy.mend();
        eventually("logins work again", Duration::from_secs(5), || {
            server.login("ann@x.io", "secret").status == 200
        });
        eventually("/status tells", Duration::from_secs(15), || server.status().database == good.database);
        stop.store(true, Ordering::Relaxed);
        assert!(load.join().unwrap() > 100);
        assert_eq!(*failures.lock().unwrap(), Vec::<String>::new(), "{}", engine.name);
    }
}

#[test]
fn connections_that_fell_silent_are_replaced() {
    for engine in Engine::all() {
        let mut database = with_user(&engine);
        let proxy = Proxy::start(engine.address);
        database.via = proxy.address;
        let server = database.serve(&[]);
        let together = |status: u16| {
            thread::scope(|scope| {
                let logins: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| server.login("ann@x.io", "secret").status)).collect();
                logins.into_iter().map(|login| login.join().unwrap()).filter(|found| *found == status).count()
            })
        };
        assert_eq!(together(200), 8);
        proxy.silence();
        assert!(together(503) > 0, "no connection was silenced");
        eventually("logins work on new connections", Duration::from_secs(15), || {
            server.login("ann@x.io", "secret").status == 200
        });
        assert_eq!(together(200), 8);
    }
}

#[test]
fn a_pod_started_during_an_outage_is_ready_after_thirty_seconds_and_validates() {
    let mut database = with_user(&Engine::mysql());
    let token = database.serve(&[]).token("ann@x.io", "secret");
    let proxy = Proxy::start(database.engine.address);
    proxy.cut();
    database.via = proxy.address;
    let start = Instant::now();
    let server = server_support::Server::launch(database.environment(), &[]);
    let answer = http::get(server.ops, "/readyz").unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("waiting for the database"), "{}", answer.body);
    assert_eq!(http::get(server.ops, "/livez").unwrap().status, 200);
    eventually("ready", Duration::from_secs(40), || server.is_ready());
    assert!((28..38).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(server.validate(&token).status, 200);
    assert_eq!(server.login("ann@x.io", "secret").status, 503);
    proxy.mend();
    eventually("logins work", Duration::from_secs(5), || server.login("ann@x.io", "secret").status == 200);
}

#[test]
fn a_pod_that_the_database_refuses_is_not_ready_until_it_is_let_in() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create();
        let server = server_support::Server::launch(database.environment(), &[]);
        let fault = |wanted: DatabaseFault| {
            eventually(&format!("{wanted:?} on {}", engine.name), Duration::from_secs(10), || {
                assert!(!server.is_ready());
                server.status().database.fault == Some(wanted)
            });
            server.status().database
        };
        let refused = fault(DatabaseFault::CredentialsRejected);
        assert!(refused.error.unwrap().contains("Access denied for user"));
        database.create_account("");
        fault(DatabaseFault::GrantMissing);
        database.sql().run(&format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON `{}`.* TO '{}'@'%'",
            database.name, database.user
        ));
        fault(DatabaseFault::SchemaMissing);
        database
            .sql()
            .run(&format!("CREATE TABLE `{}`.user (id INT, mail TEXT, password TEXT)", database.name));
        fault(DatabaseFault::SchemaIncompatible);
        database.sql().run(&format!("DROP TABLE `{}`.user", database.name));
        fault(DatabaseFault::SchemaMissing);
        database.admin_migration().succeed();
        database.sql().run(&format!("DELETE FROM `{}`.authservice_schema WHERE version > 1", database.name));
        fault(DatabaseFault::SchemaOutdated);
        database.admin_migration().succeed();
        eventually("ready", Duration::from_secs(10), || server.is_ready());
        let status = server.status().database;
        let version = status.version.clone();
        assert!(version.is_some());
        assert_eq!(
            status,
            DatabaseStatus {
                account: database.user.clone(),
                version,
                schema_version: SCHEMA_VERSION,
                fault: None,
                error: None
            }
        );
    }
}

#[test]
fn a_wiped_database_shows_in_status_and_keeps_the_pod_ready() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let server = database.serve(&[]);
        database.sql().run(&format!("DROP TABLE `{0}`.authservice_user", database.name));
        let answer = server.login("ann@x.io", "secret");
        assert_eq!(answer.status, 503, "without its entry nobody becomes an admin");
        eventually("/status tells of our own table", Duration::from_secs(10), || {
            server.status().database.fault == Some(DatabaseFault::SchemaMissing)
        });
        let refused = database.admin_migration().run().0.error.unwrap();
        assert_eq!(refused.reason, DatabaseFault::SchemaMissing);
        assert!(refused.message.contains("has lost table authservice_user"), "{}", refused.message);
        database.sql().run(&format!("DROP TABLE `{0}`.user", database.name));
        eventually("/status tells", Duration::from_secs(10), || {
            server.status().database.fault == Some(DatabaseFault::SchemaMissing)
        });
        assert!(server.is_ready());
        database.admin_migration().user("ann@x.io", true, Some("secret")).succeed();
        eventually("logins work", Duration::from_secs(5), || {
            server.login("ann@x.io", "secret").status == 200
        });
    }
}

/// Whoever finds the queue full is refused before anybody looks who it is: the database may be away.
#[test]
fn a_login_that_finds_the_queue_full_is_refused_without_a_look_at_the_account() {
    const FULL: &str = "Too many logins, try again";
    for engine in Engine::all() {
        let mut database = with_user(&engine);
        let proxy = Proxy::start(engine.address);
        database.via = proxy.address;
        // About a second a hash, so that what is full stays so for a moment.
        let server = database.serve(&[
            ("HASHING_THREADS", "1"),
            ("ARGON2_MEMORY_KIB", "131072"),
            ("ARGON2_ITERATIONS", "8"),
            ("LOGIN_MAX_FAILURES", "0"),
        ]);
        let (address, done) = (server.public, AtomicBool::new(false));
        let found = thread::scope(|scope| {
            for _ in 0..160 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        if http::login(address, "flood@x.io", "wrong")
                            .is_ok_and(|answer| answer.status == 503)
                        {
                            thread::sleep(Duration::from_millis(5));
                        }
                    }
                });
            }
            let _ended = Ending(&done);
            // A hash may end just then, and leave room for one of these.
            (0..5).any(|_| {
                proxy.mend();
                eventually("the queue is full", Duration::from_secs(20), || {
                    server.login("nobody@x.io", "wrong").body == FULL
                });
                proxy.cut();
                let logins = [("nobody@x.io", "wrong"), ("ann@x.io", "wrong"), ("ann@x.io", "secret")];
                logins.into_iter().all(|(email, password)| {
                    let answer = server.login(email, password);
                    answer.body == FULL && (answer.status, answer.header("retry-after")) == (503, Some("1"))
                })
            })
        });
        assert!(found, "{}", server.log());
    }
}

/// Ends the flood also where a panic would otherwise wait for it.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
