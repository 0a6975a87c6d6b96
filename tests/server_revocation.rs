//! Tokens that end before their time, on two servers of one database.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    thread,
    time::{Duration, Instant},
};

use authservice::server::{
    config::{Environment, RevocationPolicy, UserConfig, WithoutRevocations},
    keys::unix_now,
    revocation::Revocations,
    store::StoreError,
    tokens::{Fingerprint, Holder, Identity},
};
use serde_json::{Value, json};
use server_support::{Database, Engine, JWT_SECRET, Server, eventually, http, proxy::Proxy, python};

const LAG: Duration = Duration::from_secs(1);
const ANN: (&str, &str) = ("ann@x.io", "secret of ann");
const JSON: &str = "application/json";
const REVOKED: &str = "Not authorized: revoked";

fn with_users(engine: &Engine) -> Database {
    let database = engine.fresh();
    let migration = database.admin_migration().user(ANN.0, true, Some(ANN.1));
    migration.user("bob@x.io", false, Some("secret of bob")).succeed();
    database
}

fn serve(database: &Database) -> Server {
    database.serve(&[("REVOCATION_LAG", "1s")])
}

/// As the original issued them, `age` seconds ago.
fn token_of_the_original(username: &str, age: i64) -> String {
    let question = json!({"secret": JWT_SECRET, "claims": {
        "username": username, "admin": true,
        "iat": unix_now().cast_signed() - age, "exp": unix_now() + 600,
    }});
    python("sign.py", &question).as_str().unwrap().to_owned()
}

/// Two tokens that end together. A server may remember that one verified, and meets the other when it
/// has ended.
struct Tokens {
    seen: String,
    unseen: String,
}

impl Tokens {
    fn of(servers: &[&Server], mut issue: impl FnMut() -> String) -> Self {
        let tokens = Self { seen: issue(), unseen: issue() };
        for server in servers {
            let repeated = || server.metric("authservice_repeated_tokens_total");
            let before = repeated();
            assert!((0..2).all(|_| server.validate(&tokens.seen).status == 200));
            assert!(repeated() > before, "it is remembered");
        }
        tokens
    }

    fn of_ann(servers: &[&Server]) -> Self {
        Self::of(servers, || servers[0].token(ANN.0, ANN.1))
    }

    fn of_the_original(servers: &[&Server], username: &str) -> Self {
        let mut age = 4;
        Self::of(servers, || {
            age += 1;
            token_of_the_original(username, age)
        })
    }

    fn log_out(&self, server: &Server) {
        for token in [&self.seen, &self.unseen] {
            let answer = server.logout(token);
            assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{}", server.log());
        }
    }

    fn are_soon_refused(&self, server: &Server, lag: Duration) {
        server.soon_refuses(&self.seen, lag);
        assert_eq!(server.validate(&self.unseen).body, REVOKED);
    }
}

fn claims(server: &Server, token: &str) -> Value {
    serde_json::from_str(&server.validate(token).body).unwrap()
}

#[test]
fn a_logout_on_one_server_counts_there_at_once_and_on_the_other_within_the_lag() {
    for engine in Engine::all() {
        let database = with_users(&engine);
        let (here, there) = (serve(&database), serve(&database));
        let (tokens, kept) = (Tokens::of_ann(&[&here, &there]), here.token(ANN.0, ANN.1));
        tokens.log_out(&here);
        let ended = &tokens.seen;
        let refused = here.validate(ended);
        assert_eq!((refused.status, refused.body.as_str()), (403, REVOKED));
        assert_eq!(
            refused.header("www-authenticate"),
            Some(r#"Bearer realm="authservice", error="invalid_token""#)
        );
        tokens.are_soon_refused(&here, Duration::ZERO);
        tokens.are_soon_refused(&there, LAG);
        assert_eq!((here.validate(&kept).status, there.validate(&kept).status), (200, 200));
        // A server that starts later knows before it is ready.
        assert_eq!(serve(&database).validate(ended).body, REVOKED);

        assert_eq!(here.logout(ended).body, REVOKED);
        assert_eq!(here.logout("junk").body, "Not authorized: malformed");
        let missing = http::call(here.public, "POST", "/logout", &[]).unwrap();
        assert_eq!((missing.status, missing.body.as_str()), (401, "Missing credentials"));
        assert_eq!(http::get(here.public, "/logout").unwrap().status, 405);
        let stored = database.sql().rows(&format!(
            "SELECT COUNT(*), MAX(expires_at) - UNIX_TIMESTAMP() > 86000 FROM `{}`.authservice_revoked_token",
            database.name
        ));
        assert_eq!(stored, [["2", "1"]]);
    }
}

#[test]
fn a_token_without_an_id_is_logged_out_by_what_it_says() {
    let database = with_users(&Engine::mysql());
    let (here, there) = (serve(&database), serve(&database));
    let kept = token_of_the_original(ANN.0, 20);
    let ended = Tokens::of_the_original(&[&here, &there], ANN.0);
    ended.log_out(&here);
    ended.are_soon_refused(&there, LAG);
    assert_eq!((here.validate(&kept).status, there.validate(&kept).status), (200, 200));
}

#[test]
fn what_is_done_to_a_user_ends_every_token_from_before_on_every_server() {
    let deeds: [(&[&str], &str, Option<&str>); 7] = [
        (&["disable", ANN.0], "", None),
        (&["delete", ANN.0], "", None),
        (&["revoke-tokens", ANN.0], "", Some(ANN.1)),
        (&["set-password", ANN.0], "another secret\n", Some("another secret")),
        (&["change", ANN.0, "--no-admin"], "", Some(ANN.1)),
        (&["change", "--email", "anna@x.io", ANN.0], "", None),
        // By hand, and noticed all the same, since the entry is ours.
        (&[], "", None),
    ];
    for engine in Engine::all() {
        for (words, input, then) in deeds {
            let database = with_users(&engine);
            let servers = [serve(&database), serve(&database)];
            let both = [&servers[0], &servers[1]];
            let ours = Tokens::of_ann(&both);
            let originals = Tokens::of_the_original(&both, ANN.0);
            let others = servers[0].token("bob@x.io", "secret of bob");
            let others_original = token_of_the_original("bob@x.io", 5);
            if words.is_empty() {
                database.sql().run(&format!(
                    "INSERT INTO `{0}`.authservice_access (user_id) SELECT id FROM `{0}`.user WHERE email = '{1}'; \
                     DELETE FROM `{0}`.user WHERE email = '{1}'",
                    database.name, ANN.0
                ));
            } else {
                database.user_done(words, input);
            }
            for server in &servers {
                ours.are_soon_refused(server, LAG);
                // A row that was deleted by hand tells no e-mail.
                if !words.is_empty() {
                    originals.are_soon_refused(server, Duration::ZERO);
                }
                assert_eq!(server.validate(&others).status, 200, "{words:?}");
                assert_eq!(server.validate(&others_original).status, 200, "{words:?}");
            }
            match then {
                Some(password) => {
                    let new = servers[1].token(ANN.0, password);
                    thread::sleep(LAG + LAG);
                    assert!(servers.iter().all(|server| server.validate(&new).status == 200), "{words:?}");
                    assert_eq!(claims(&servers[0], &new)["admin"], json!(words[0] != "change"));
                }
                None => assert_eq!(servers[0].login(ANN.0, ANN.1).status, 401, "{words:?}"),
            }
        }
    }
}

#[test]
fn every_name_that_a_user_had_ends_with_the_tokens_that_carry_it() {
    for engine in Engine::all() {
        let database = with_users(&engine);
        let running = serve(&database);
        let old = Tokens::of_the_original(&[&running], ANN.0);
        database.user_done(&["change", ANN.0, "--email", "anna@x.io"], "");
        let between = token_of_the_original("anna@x.io", 0);
        std::thread::sleep(Duration::from_secs(1));
        database.user_done(&["change", "anna@x.io", "--email", "bea@x.io"], "");
        database.user_done(&["disable", "bea@x.io"], "");
        // A server that starts reads everything, and nothing of what happened in between.
        let server = serve(&database);
        for token in [&old.seen, &between, &token_of_the_original("bea@x.io", 0)] {
            server.soon_refuses(token, Duration::from_secs(1));
        }
        old.are_soon_refused(&running, LAG);
        assert_eq!(server.validate(&token_of_the_original("bob@x.io", 0)).status, 200);
    }
}

#[test]
fn a_disabled_user_is_refused_like_a_wrong_password_and_in_the_same_time() {
    for engine in Engine::all() {
        let database = with_users(&engine);
        let server = database.serve(&[("REVOCATION_LAG", "1s"), ("LOGIN_MAX_FAILURES", "0")]);
        let before = server.token(ANN.0, ANN.1);
        database.user_done(&["disable", ANN.0], "");
        let (right, wrong) = (server.login(ANN.0, ANN.1), server.login(ANN.0, "wrong password"));
        let shown = |answer: &http::Answer| {
            let headers: Vec<_> = answer.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
            (answer.status, headers, answer.body.clone())
        };
        assert_eq!(shown(&right), shown(&wrong));
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..20 {
            for (times, password) in times.iter_mut().zip([ANN.1, "wrong password"]) {
                let start = Instant::now();
                assert_eq!(server.login(ANN.0, password).status, 401);
                times.push(start.elapsed());
            }
        }
        let [right, wrong] = times.map(|mut times| {
            times.sort_unstable();
            times[10].as_secs_f64()
        });
        assert!((0.8..1.25).contains(&(right / wrong)), "{right} s, {wrong} s");

        database.user_done(&["enable", ANN.0], "");
        let after = server.token(ANN.0, ANN.1);
        assert_eq!(server.validate(&after).status, 200, "at once");
        assert_eq!(server.validate(&before).body, REVOKED);
        thread::sleep(LAG + LAG);
        assert_eq!(server.validate(&after).status, 200);
        assert_eq!(server.validate(&before).body, REVOKED, "what has ended stays so");
    }
}

#[test]
fn a_revocation_that_commits_late_under_an_old_timestamp_counts() {
    for engine in Engine::all() {
        let database = with_users(&engine);
        let server = serve(&database);
        let tokens = Tokens::of(&[&server], || server.token("bob@x.io", "secret of bob"));
        let id = claims(&server, &tokens.seen)["sub"].as_str().unwrap().to_owned();
        let mut late = engine.connect();
        late.run(&format!(
            "START TRANSACTION; INSERT INTO `{}`.authservice_access (user_id, generation, changed_at) \
             VALUES ({id}, UNIX_TIMESTAMP(), NOW(6) - INTERVAL 5 MINUTE)",
            database.name
        ));
        // Those with later timestamps are read meanwhile.
        assert_eq!(server.logout(&server.token(ANN.0, ANN.1)).status, 204);
        database.user_done(&["revoke-tokens", ANN.0], "");
        thread::sleep(Duration::from_secs(3));
        assert_eq!(server.validate(&tokens.seen).status, 200);
        late.run("COMMIT");
        tokens.are_soon_refused(&server, LAG);
    }
}

#[test]
fn an_outage_keeps_the_list_and_goes_on_validating_and_logs_nobody_out_in_pretence() {
    for engine in Engine::all() {
        let mut database = with_users(&engine);
        let proxy = Proxy::start(engine.address);
        let elsewhere = serve(&database);
        database.via = proxy.address;
        let server = serve(&database);
        let (ended, next) = (Tokens::of_ann(&[&server]), Tokens::of_ann(&[&server]));
        let good = server.token(ANN.0, ANN.1);
        ended.log_out(&server);
        proxy.cut();
        let refused = server.logout(&next.seen);
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        let body = r#"{"password":"another secret"}"#;
        assert_eq!(http::password(server.public, ANN, JSON, body).unwrap().status, 503);
        next.log_out(&elsewhere);
        let age = || {
            let metrics = http::get(server.ops, "/metrics").unwrap().body;
            let line = metrics.lines().find(|line| line.starts_with("authservice_revocations_age_seconds "));
            line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        eventually("the gauge rises", Duration::from_secs(20), || age() >= 5);
        ended.are_soon_refused(&server, Duration::ZERO);
        assert_eq!((server.validate(&good).status, server.validate(&next.seen).status), (200, 200));
        assert!(server.log().contains("revocations cannot be read; keeping those last read"));

        proxy.mend();
        eventually("the list is read again", Duration::from_secs(10), || {
            server.validate(&next.seen).body == REVOKED
        });
        next.are_soon_refused(&server, Duration::ZERO);
        eventually("the gauge falls", Duration::from_secs(5), || age() <= 2);
        assert_eq!(server.validate(&good).status, 200);
    }
}

#[test]
fn where_refusing_is_asked_for_a_server_that_cannot_know_answers_nothing() {
    let mut database = with_users(&Engine::mysql());
    let token = serve(&database).token(ANN.0, ANN.1);
    let proxy = Proxy::start(database.engine.address);
    proxy.cut();
    database.via = proxy.address;
    let refuse = [("REVOCATION_LAG", "1s"), ("REVOCATION_UNAVAILABLE", "Refuse")];
    let server = Server::launch(database.environment(), &refuse);
    let answer = server.validate(&token);
    assert_eq!(
        (answer.status, answer.body.as_str(), answer.header("retry-after")),
        (503, "Revocations unknown, try again", Some("1"))
    );
    assert_eq!(server.validate("junk").status, 403);
    thread::sleep(Duration::from_secs(33));
    assert!(!server.is_ready(), "not even after the 30 s that an outage may delay it");
    proxy.mend();
    eventually("ready", Duration::from_secs(10), || server.is_ready());
    assert_eq!(server.validate(&token).status, 200);
    proxy.cut();
    thread::sleep(Duration::from_secs(30));
    assert_eq!(server.validate(&token).status, 200, "a list of half a minute is good enough");
    eventually("the list is too old", Duration::from_secs(40), || server.validate(&token).status == 503);
    assert!(server.is_ready(), "an outage empties no Service");
    proxy.mend();
    eventually("it answers again", Duration::from_secs(10), || server.validate(&token).status == 200);
}

#[test]
fn a_user_changes_the_own_password_and_is_logged_in_by_it_alone() {
    for engine in Engine::all() {
        let database = with_users(&engine);
        let (here, there) = (serve(&database), serve(&database));
        let (old, others) = (Tokens::of_ann(&[&here, &there]), here.token("bob@x.io", "secret of bob"));
        let change = |password: &str, media_type: &str, body: &str| {
            let answer = http::password(here.public, (ANN.0, password), media_type, body).unwrap();
            (answer.status, answer.body)
        };
        for (media_type, body, status, words) in [
            (
                JSON,
                r#"{"password":"short"}"#,
                400,
                "Not changed: the password has 5 characters, the least is 8",
            ),
            (
                JSON,
                &*json!({"password": "x".repeat(1025)}).to_string(),
                400,
                "Not changed: the password is longer than 1024 bytes",
            ),
            (JSON, "password", 400, r#"The body must be {"password": "…"} or password=…, and nothing else"#),
            (
                "text/plain",
                "new secret of ann",
                415,
                "Content-Type must be application/json or application/x-www-form-urlencoded",
            ),
        ] {
            assert_eq!(change(ANN.1, media_type, body), (status, words.to_owned()));
        }
        let wanted = r#"{"password":"new secret of ann"}"#;
        assert_eq!(change("wrong password", JSON, wanted), (401, "Invalid credentials".to_owned()));
        let anonymous = http::call(here.public, "POST", "/password", &[("Content-Length", "0")]).unwrap();
        assert_eq!((anonymous.status, anonymous.body.as_str()), (401, "Missing credentials"));
        assert_eq!(here.validate(&old.seen).status, 200, "nothing has changed");

        assert_eq!(change(ANN.1, JSON, wanted), (204, String::new()));
        let new = here.token(ANN.0, "new secret of ann");
        assert_eq!(here.login(ANN.0, ANN.1).status, 401);
        for server in [&here, &there] {
            old.are_soon_refused(server, LAG);
            assert_eq!((server.validate(&new).status, server.validate(&others).status), (200, 200));
        }
        let form = "application/x-www-form-urlencoded";
        assert_eq!(change("new secret of ann", form, "password=p%C3%A4ssw%C3%B6rd+3"), (204, String::new()));
        here.token(ANN.0, "pässwörd 3");
        assert!(!here.log().contains("new secret of ann"), "{}", here.log());
    }
}

#[test]
fn of_two_changes_of_a_password_at_the_same_time_one_is_told_that_it_lost() {
    let database = with_users(&Engine::mariadb());
    let server = database.serve(&[("HASHING_THREADS", "2")]);
    let address = server.public;
    let changes: Vec<_> = (0..6)
        .map(|number| {
            thread::spawn(move || {
                let body = format!(r#"{{"password":"secret number {number}"}}"#);
                http::password(address, ANN, JSON, &body).unwrap().status
            })
        })
        .collect();
    let answers: Vec<u16> = changes.into_iter().map(|change| change.join().unwrap()).collect();
    let winners: Vec<usize> = (0..6).filter(|number| answers[*number] == 204).collect();
    let [winner] = winners.as_slice() else { panic!("{answers:?}") };
    assert!(answers.iter().all(|status| [204, 401, 409].contains(status)), "{answers:?}");
    server.token(ANN.0, &format!("secret number {winner}"));
}

#[test]
fn while_the_original_runs_beside_its_passwords_stay_as_it_reads_them() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_original();
        database.create_account("SELECT, INSERT, UPDATE, DELETE, CREATE");
        database.migration().with(&[("SCHEMA_MODE", "Existing")]).succeed();
        let georgio = ("georgio@email.com", "Admin123");
        let body = r#"{"password":"another secret"}"#;
        {
            let beside =
                database.serve(&[("LEGACY_PASSWORD_FORMATS", "plaintext"), ("REHASH_PASSWORDS", "false")]);
            assert_eq!(http::password(beside.public, georgio, JSON, body).unwrap().status, 409);
            assert_eq!(database.stored_password(georgio.0), georgio.1);
        }
        // Plain text is hashed by the login within, and then replaced.
        let alone = database.serve(&[("LEGACY_PASSWORD_FORMATS", "plaintext")]);
        assert_eq!(http::password(alone.public, georgio, JSON, body).unwrap().status, 204);
        alone.token(georgio.0, "another secret");
    }
}

#[test]
fn without_our_tables_nothing_is_revoked_and_the_answers_say_so() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_original();
        database.create_account("SELECT, UPDATE");
        let server =
            database.serve(&[("LEGACY_PASSWORD_FORMATS", "plaintext"), ("REVOCATION_UNAVAILABLE", "Refuse")]);
        let token = server.token("georgio@email.com", "Admin123");
        assert_eq!(server.logout(&token).status, 501);
        let body = r#"{"password":"another secret"}"#;
        let georgio = ("georgio@email.com", "Admin123");
        assert_eq!(http::password(server.public, georgio, JSON, body).unwrap().status, 501);
        assert_eq!(server.validate(&token).status, 200);
        server.token("georgio@email.com", "Admin123");
        let metrics = http::get(server.ops, "/metrics").unwrap().body;
        assert!(!metrics.contains("revocations_age_seconds"), "there is no list that could be old");
    }
}

fn library(database: &Database) -> Revocations {
    let environment: Environment = database.environment().into_iter().collect();
    let policy = RevocationPolicy { lag: LAG, unavailable: WithoutRevocations::Accept };
    Revocations::new(&UserConfig::read(&environment).unwrap().database, policy)
}

fn read(revocations: &Revocations) -> Result<(), StoreError> {
    tokio::runtime::Runtime::new().unwrap().block_on(revocations.read())
}

fn held_by(id: i64, issued_at: i64) -> Identity {
    Identity {
        token: Fingerprint([0; 32]),
        holder: Holder::User { id, generation: Some(0) },
        issued_at: Some(issued_at),
        expires_at: i64::MAX,
    }
}

#[test]
fn the_read_of_everything_notices_rows_deleted_by_hand_and_survives_a_restore() {
    for engine in Engine::all() {
        let database = with_users(&engine);
        let sql = |statement: &str| database.sql().run(statement);
        sql(&format!("USE `{}`", database.name));
        // Several pages of users, with a gap.
        sql(
            "INSERT INTO user (id, email, password) WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
             SELECT 100 + a.i + 1000 * (b.i - 10), CONCAT(a.i, '-', b.i), 'x' FROM n a JOIN n b ON b.i < 24",
        );
        sql("DELETE FROM user WHERE id = 5123");
        let revocations = library(&database);
        let start = Instant::now();
        read(&revocations).unwrap();
        println!("{}: the ids of 12,475 users read in {:?}", engine.name, start.elapsed());
        let (now, long_ago) = (unix_now().cast_signed(), unix_now().cast_signed() - 3600);
        for (id, ends) in
            [(1, false), (2, false), (3, true), (5122, false), (5123, true), (5124, false), (99_999, true)]
        {
            assert_eq!(revocations.ends(&held_by(id, long_ago)), ends, "{id} on {}", engine.name);
            assert!(!revocations.ends(&held_by(id, now)), "{id}: perhaps created since");
        }
        // In the middle of a restore the table is empty for a moment, or not there.
        sql("CREATE TABLE kept AS SELECT * FROM user; TRUNCATE TABLE user");
        let fresh = library(&database);
        read(&fresh).unwrap();
        assert!(!fresh.ends(&held_by(1, long_ago)) && !fresh.ends(&held_by(3, long_ago)));
        sql("RENAME TABLE user TO away");
        assert!(read(&library(&database)).is_err());
    }
}

#[test]
fn everything_is_read_in_pages_and_what_has_expired_is_pruned() {
    for engine in Engine::all() {
        let database = with_users(&engine);
        let sql = |statement: &str| database.sql().run(statement);
        sql(&format!("USE `{}`", database.name));
        let rows = |first: u32, expires: &str| {
            format!(
                "INSERT INTO authservice_revoked_token (token_hash, expires_at, revoked_at) \
                 WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 119) \
                 SELECT UNHEX(SHA2({first} + 120 * a.i + b.i, 256)), {expires}, NOW(6) - INTERVAL 1 HOUR FROM n a JOIN n b"
            )
        };
        sql(&rows(0, "UNIX_TIMESTAMP() + 3600"));
        sql(&rows(100_000, "UNIX_TIMESTAMP() - 7200"));
        let revocations = library(&database);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let start = Instant::now();
        runtime.block_on(revocations.read()).unwrap();
        println!("{}: 14,400 tokens read in {:?}", engine.name, start.elapsed());
        assert_eq!(revocations.tokens(), 14_400);
        let stored = || database.sql().rows("SELECT COUNT(*) FROM authservice_revoked_token");
        assert_eq!(stored(), [["23800"]], "a page of what has expired goes with each read");
        for _ in 0..2 {
            runtime.block_on(revocations.read()).unwrap();
        }
        assert_eq!(stored(), [["14400"]]);
    }
}
