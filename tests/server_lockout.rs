//! Login protection against real databases: who is locked out, for how long, and who is not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    collections::BTreeMap,
    io::Write,
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Output, Stdio},
    thread::{scope, sleep},
    time::Duration,
};

use authservice::server::{config, store::Store};
use secrecy::SecretString;
use serde_json::json;
use server_support::{
    BINARY, Database, Engine, Server, eventually,
    http::{self, Answer},
    program, python,
};

const REFUSED: &str = "Too many failed logins, try again later";
const RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE";

/// `ann@x.io` with password `secret`, in a schema of ours.
fn with_user(engine: &Engine) -> Database {
    let database = engine.fresh();
    database.admin_migration().user("ann@x.io", true, Some("secret")).succeed();
    database
}

fn statuses(server: &Server, email: &str, passwords: &[&str]) -> Vec<u16> {
    passwords.iter().map(|password| server.login(email, password).status).collect()
}

/// A login that says it was forwarded.
fn forwarded(address: SocketAddr, email: &str, password: &str, headers: &[&str]) -> u16 {
    let basic = http::basic(email, password);
    let mut all = vec![("Authorization", basic.as_str()), ("Content-Length", "0")];
    all.extend(headers.iter().map(|value| ("X-Forwarded-For", *value)));
    http::call(address, "POST", "/login", &all).unwrap().status
}

/// Passwords that were computed: each waits for a permit, if not for long.
fn hashes(server: &Server) -> u64 {
    server.metric("authservice_hashing_wait_seconds_count")
}

fn unlock(database: &Database, email: &str) -> Output {
    let environment = database.environment();
    Command::new(BINARY).args(["user", "unlock", email]).env_clear().envs(environment).output().unwrap()
}

/// Everything of an answer that is the same at each time of the day.
fn lasting(answer: Answer) -> Answer {
    let headers = answer.headers.into_iter().filter(|(name, _)| name != "date" && name != "retry-after");
    Answer { headers: headers.collect(), ..answer }
}

#[test]
fn the_limit_locks_known_and_unknown_accounts_alike_before_hashing() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let server = database.serve(&[("LOGIN_MAX_FAILURES", "3")]);
        for email in ["ann@x.io", "nobody@x.io"] {
            assert_eq!(statuses(&server, email, &["a", "b", "c"]), [401, 401, 401], "{}", engine.name);
        }
        let known = server.login("ann@x.io", "secret");
        let seconds: u64 = known.header("retry-after").unwrap().parse().unwrap();
        assert!((890..=900).contains(&seconds), "{seconds}");
        assert_eq!((known.status, known.body.as_str()), (429, REFUSED));
        assert_eq!(known.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(lasting(known), lasting(server.login("nobody@x.io", "secret")));
        assert_eq!(
            (hashes(&server), server.metric(r#"authservice_locked_out_logins_total{bucket="account"}"#)),
            (6, 2)
        );
        let log = server.log();
        assert_eq!(log.matches("locked after too many failed logins").count(), 2, "{log}");
        assert!(!log.contains("x.io"), "what was typed may be a password: {log}");

        let rows = database.sql().rows(&format!(
            "SELECT LENGTH(bucket), failures, locked FROM `{}`.authservice_login_failure",
            database.name
        ));
        assert_eq!(rows, [["32", "3", "1"], ["32", "3", "1"]]);
    }
}

#[test]
fn a_lock_ends_and_so_does_the_window() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let limits = [("LOGIN_MAX_FAILURES", "2"), ("LOGIN_FAILURE_WINDOW", "3s"), ("LOGIN_LOCKOUT", "2s")];
        let server = database.serve(&limits);
        assert_eq!(statuses(&server, "ann@x.io", &["a", "b", "secret"]), [401, 401, 429]);
        sleep(Duration::from_millis(2100));
        assert_eq!(statuses(&server, "ann@x.io", &["a"]), [401], "the count began anew");
        sleep(Duration::from_millis(3100));
        assert_eq!(statuses(&server, "ann@x.io", &["b", "secret"]), [401, 200], "the first no longer counts");
    }
}

#[test]
fn variants_of_an_email_share_their_failures() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let server = database.serve(&[("LOGIN_MAX_FAILURES", "5")]);
        for email in ["ANN@x.io", "ann@x.io ", "änn@x.io", "a\u{301}nn@x.io", "ａｎｎ＠ｘ．ｉｏ"] {
            assert_eq!(server.login(email, "secret").status, 401, "{email:?}");
        }
        assert_eq!(server.login("ann@x.io", "secret").status, 429);
    }
}

#[test]
fn a_success_forgets_the_failures_before_it() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let server = database.serve(&[("LOGIN_MAX_FAILURES", "3")]);
        for _ in 0..3 {
            assert_eq!(statuses(&server, "ann@x.io", &["a", "b", "secret"]), [401, 401, 200]);
        }
        let rows = format!("SELECT COUNT(*) FROM `{}`.authservice_login_failure", database.name);
        assert_eq!(database.sql().rows(&rows), [["0"]]);
    }
}

/// Statuses of logins made at the same time, by how often they occurred. On a machine that is busy
/// with other things some are told to come again, and do.
fn at_once(servers: &[&Server], logins: &[(&str, String)]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    let patiently = |server: &Server, email: &str, password: &str| loop {
        match server.login(email, password).status {
            503 => sleep(Duration::from_millis(100)),
            status => return status,
        }
    };
    scope(|scope| {
        let running: Vec<_> = logins
            .iter()
            .zip(servers.iter().cycle())
            .map(|((email, password), server)| scope.spawn(move || patiently(server, email, password)))
            .collect();
        for login in running {
            *counts.entry(login.join().unwrap()).or_default() += 1;
        }
    });
    counts
}

fn guesses(count: usize) -> Vec<(&'static str, String)> {
    (0..count).map(|number| ("ann@x.io", format!("guess-{number}"))).collect()
}

#[test]
fn of_a_hundred_guesses_at_once_as_many_are_hashed_as_may_fail() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let server = database.serve(&[("HASHING_THREADS", "4")]);
        let counts = at_once(&[&server], &guesses(100));
        assert_eq!((counts, hashes(&server)), ([(401, 10), (429, 90)].into(), 10), "{}", engine.name);
    }
}

#[test]
fn a_right_password_is_not_refused_for_wrong_ones_in_flight() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let server = database.serve(&[]);
        for _ in 0..3 {
            let mut logins = guesses(9);
            logins.extend((0..9).map(|_| ("ann@x.io", "secret".to_owned())));
            assert_eq!(at_once(&[&server], &logins), [(200, 9), (401, 9)].into(), "{}", engine.name);
            // Whatever failed after the last success.
            server.token("ann@x.io", "secret");
        }
        let before = hashes(&server);
        let mut logins = guesses(99);
        logins.insert(4, ("ann@x.io", "secret".to_owned()));
        let counts = at_once(&[&server], &logins);
        // A success among them begins the count anew, once.
        let right = counts.get(&200).copied().unwrap_or_default();
        let wrong = counts[&401];
        println!("{}: among a hundred at once {counts:?}", engine.name);
        assert!(wrong <= 10 + 10 * right && hashes(&server) - before == (wrong + right) as u64, "{counts:?}");
    }
}

#[test]
fn replicas_count_together_and_exceed_the_limit_by_what_is_in_flight() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let limits = [("HASHING_THREADS", "2")];
        let (one, other) = (database.serve(&limits), database.serve(&limits));
        let counts = at_once(&[&one, &other], &guesses(100));
        let hashed = hashes(&one) + hashes(&other);
        println!("{}: two replicas hashed {hashed} of 100 guesses at once: {counts:?}", engine.name);
        // maxFailures + (replicas - 1) * min(hashing threads + 1, maxFailures / 2)
        assert!((10..=13).contains(&hashed), "{hashed}");
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [401, 429]);
        for server in [&one, &other] {
            assert_eq!(server.login("ann@x.io", "secret").status, 429);
        }
        drop(one);
        let restarted = database.serve(&limits);
        assert_eq!(restarted.login("ann@x.io", "secret").status, 429, "a restart forgets nothing");
    }
}

#[test]
fn a_guess_that_is_hashed_counts_even_when_its_maker_hangs_up() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let server = database.serve(&[("LOGIN_MAX_FAILURES", "1000")]);
        for number in 0..30 {
            let mut stream = TcpStream::connect(server.public).unwrap();
            let basic = http::basic("ann@x.io", "guess");
            write!(stream, "POST /login HTTP/1.1\r\nHost: test\r\nAuthorization: {basic}\r\n\r\n").unwrap();
            sleep(Duration::from_millis(10 * number));
        }
        let counted = format!("SELECT SUM(failures) FROM `{}`.authservice_login_failure", database.name);
        let counted = || database.sql().rows(&counted)[0][0].clone();
        // As many as were still there when their turn came.
        eventually("all are counted", Duration::from_secs(10), || {
            sleep(Duration::from_millis(500));
            let hashed = hashes(&server);
            hashed > 0 && hashed.to_string() == counted()
        });
        println!("{}: of 30 that hung up {} were hashed and counted", engine.name, counted());
    }
}

#[test]
fn an_account_is_unlocked_by_hand() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let server = database.serve(&[("LOGIN_MAX_FAILURES", "3")]);
        assert_eq!(statuses(&server, "ann@x.io", &["a", "b", "c", "secret"]), [401, 401, 401, 429]);
        let told = |output: Output| {
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(told(unlock(&database, "nobody@x.io")), "nobody@x.io has no failed logins\n");
        assert_eq!(told(unlock(&database, "Ann@x.io")), "Ann@x.io is unlocked; failed logins forgotten: 3\n");
        eventually("unlocked", Duration::from_secs(2), || server.login("ann@x.io", "secret").status == 200);
        assert_eq!(told(unlock(&database, "ann@x.io")), "ann@x.io has no failed logins\n");

        database.sql().run(&format!("DROP TABLE `{}`.authservice_login_failure", database.name));
        let failed = unlock(&database, "ann@x.io");
        assert_eq!(failed.status.code(), Some(1));
        let words = String::from_utf8(failed.stderr).unwrap();
        assert!(words.contains("each pod counts on its own: restart the pods to unlock"), "{words}");
    }
    let nothing_set = Command::new(BINARY).args(["user", "unlock", "a@b.c"]).env_clear().output().unwrap();
    assert_eq!(nothing_set.status.code(), Some(78));
}

#[test]
fn what_a_stranger_says_of_its_source_changes_nothing() {
    let database = with_user(&Engine::mariadb());
    // The peer of every test, 127.0.0.1, is no proxy of ours.
    let server = database.serve(&[("LOGIN_MAX_FAILURES", "2"), ("TRUSTED_PROXIES", "10.0.0.0/8")]);
    for number in 0..25 {
        let email = format!("nobody-{number}@x.io");
        assert_eq!(forwarded(server.public, &email, "guess", &["198.51.100.1"]), 401);
    }
    assert_eq!(forwarded(server.public, "ann@x.io", "secret", &["198.51.100.1"]), 200, "no source is locked");
    let answers =
        ["1.1.1.1", "2.2.2.2", "3.3.3.3"].map(|from| forwarded(server.public, "ann@x.io", "guess", &[from]));
    assert_eq!(answers, [401, 401, 429], "nor is one told from another");
}

#[test]
fn a_source_that_a_trusted_proxy_reports_is_locked_for_all_accounts_and_no_other_source_is() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let server =
            database.serve(&[("LOGIN_MAX_FAILURES", "2"), ("TRUSTED_PROXIES", "127.0.0.0/8,10.0.0.0/8")]);
        let from = |email: &str, password: &str, headers: &[&str]| {
            forwarded(server.public, email, password, headers)
        };
        for number in 0..20 {
            // The client's own claim stands left, a proxy of ours right of its address.
            let headers = [format!("6.6.6.{number}, 2001:db8:1:2::{number}"), "10.0.0.9".to_owned()];
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            assert_eq!(from(&format!("nobody-{number}@x.io"), "guess", &headers), 401, "{number}");
            if number % 5 == 0 {
                assert_eq!(
                    from("ann@x.io", "secret", &headers),
                    200,
                    "a success is none of the others' merit"
                );
            }
        }
        assert_eq!(from("ann@x.io", "secret", &["2001:db8:1:2:ffff::1"]), 429, "the same network");
        assert_eq!(server.metric(r#"authservice_locked_out_logins_total{bucket="source"}"#), 1);
        assert_eq!(from("ann@x.io", "secret", &["2001:db8:1:3::1"]), 200);
        assert_eq!(from("ann@x.io", "secret", &[]), 200, "no source is told");
    }
}

#[test]
fn fifty_users_behind_one_gateway_do_not_suffer_from_one_of_them() {
    let database = with_user(&Engine::mysql());
    for number in 0..50 {
        database.insert(&format!("user-{number}@x.io"), &format!("password-{number}"));
    }
    let server = database.serve(&[("LEGACY_PASSWORD_FORMATS", "plaintext")]);
    let mut refused = 0;
    for number in 0..50 {
        let answer = forwarded(server.public, "ann@x.io", "typo", &["198.51.100.1"]);
        assert!(answer == 401 || answer == 429);
        refused += u32::from(answer == 429);
        server.token(&format!("user-{number}@x.io"), &format!("password-{number}"));
    }
    assert_eq!(refused, 40);
}

#[test]
fn a_list_of_two_hundred_words_does_not_get_to_the_right_one() {
    let database = with_user(&Engine::mysql());
    let server = database.serve(&[]);
    let words = (0..199).map(|number| format!("word-{number}")).chain(["secret".to_owned()]);
    let calls: Vec<_> = words.map(|word| json!({"path": "/login", "auth": ["ann@x.io", word]})).collect();
    let answers = python("contract.py", &json!({"address": server.public.to_string(), "calls": calls}));
    let mut counts = BTreeMap::new();
    for answer in answers.as_array().unwrap() {
        *counts.entry(answer["status"].as_u64().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts, [(401, 10), (429, 190)].into());
}

/// Tries the words of its standard input on an account until one is right, which it tells, for a minute at most.
/// Its files are in a folder that goes with it.
const HYDRA: &str = r#"
folder=$(mktemp -d) && cd "$folder" && cat > words || exit
timeout 60 hydra -f -t "$3" -l "$2" -P words -s "$1" 127.0.0.1 http-post /login
status=$?
rm -r "$folder"
exit $status
"#;

/// hydra with so many words tried at the same time.
fn hydra(server: &Server, email: &str, words: &[String], at_once: u64) -> Child {
    let mut command = program("TEST_CONSUMERS");
    command.args(["/bin/sh", "-c", HYDRA, "hydra", &server.public.port().to_string(), email]);
    command.arg(at_once.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(words.join("\n").as_bytes()).unwrap();
    child
}

/// The passwords that hydra tells once it has ended. It ends with an error, too, where one of its workers is
/// slow to say that it has nothing left to try.
fn found(hydra: Child) -> Vec<String> {
    let output = hydra.wait_with_output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let ended = output.status.success() || told.contains("did not complete until end");
    assert!(ended && told.contains("1 of 1 target"), "{:?}: {told}", output.status);
    told.lines().filter_map(|line| Some(line.split_once("password: ")?.1.to_owned())).collect()
}

#[test]
fn hydra_finds_the_password_that_ends_its_list_only_where_protection_is_off() {
    let database = with_user(&Engine::mariadb());
    database.admin_migration().user("bob@x.io", false, Some("another secret")).succeed();
    let mut words: Vec<_> = (0..199).map(|number| format!("word-{number}")).collect();
    words.push("secret".to_owned());

    let server = database.serve(&[("LOGIN_MAX_FAILURES", "0")]);
    // Few at once: a machine too busy to hash them in time says 503, and hydra does not come again.
    assert_eq!(found(hydra(&server, "ann@x.io", &words, 4)), ["secret"]);
    drop(server);

    let server = database.serve(&[]);
    let workers = 16;
    let mut attack = hydra(&server, "ann@x.io", &words, workers);
    let (mut others, mut turned_away) = (0, 0);
    while attack.try_wait().unwrap().is_none() {
        let answer = server.login("bob@x.io", "another secret");
        // Busy, on a machine that is.
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        others += u64::from(answer.status == 200);
        turned_away += u64::from(answer.status == 503);
    }
    assert_eq!(found(attack), [""; 0]);
    let logins = |outcome| server.metric(&format!(r#"authservice_logins_total{{outcome="{outcome}"}}"#));
    assert_eq!((hashes(&server), logins("refused"), logins("accepted")), (10 + others, 10, others));
    // Of those that wait for the first ten, some may on a busy machine be told to come again; and a worker
    // that is slow at the end may be cut off at its last word.
    let others_tried = logins("locked_out") + logins("busy") - turned_away;
    assert!(
        (190 - workers..=190).contains(&others_tried),
        "{others_tried} words were tried after the first ten"
    );
    assert!(others > 0, "nobody else logged in meanwhile");
    assert_eq!(server.login("ann@x.io", "secret").status, 429);
}

#[test]
fn zero_turns_it_off() {
    let database = with_user(&Engine::mariadb());
    let server = database.serve(&[("LOGIN_MAX_FAILURES", "0")]);
    for _ in 0..15 {
        assert_eq!(server.login("ann@x.io", "guess").status, 401);
    }
    server.token("ann@x.io", "secret");
}

#[test]
fn without_the_table_each_pod_counts_and_says_so() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_original();
        database.create_account("SELECT");
        database.migration().with(&[("SCHEMA_MODE", "Existing")]).succeed();
        let limits = [("LOGIN_MAX_FAILURES", "3"), ("LEGACY_PASSWORD_FORMATS", "plaintext")];
        let (one, other) = (database.serve(&limits), database.serve(&limits));
        let email = "georgio@email.com";
        assert_eq!(statuses(&one, email, &["a", "b", "Admin123"]), [401, 401, 200]);
        assert_eq!(statuses(&one, email, &["a", "b", "c", "Admin123"]), [401, 401, 401, 429]);
        assert_eq!(one.metric("authservice_login_failures_counted_alone"), 1);
        assert_eq!(one.log().matches("failed logins are counted by this pod alone").count(), 1);
        assert_eq!(statuses(&other, email, &["Admin123"]), [200], "the other pod counts its own");
        assert!(one.is_ready() && one.status().database.fault.is_none());
        let counts = at_once(&[&other], &guesses(50));
        assert_eq!(counts, [(401, 3), (429, 47)].into(), "{}", engine.name);
    }
}

#[test]
fn a_table_that_is_lost_or_closed_to_us_fails_no_login_and_is_used_again_once_it_is_there() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let server = database.serve(&[("LOGIN_MAX_FAILURES", "3")]);
        let table = format!("`{}`.authservice_login_failure", database.name);
        assert_eq!(statuses(&server, "ann@x.io", &["a", "secret"]), [401, 200]);
        database.sql().run(&format!("DROP TABLE {table}"));
        assert_eq!(statuses(&server, "ann@x.io", &["a", "secret"]), [401, 200]);
        assert_eq!(statuses(&server, "ann@x.io", &["a", "b", "c", "secret"]), [401, 401, 401, 429]);
        assert_eq!(server.status().database.fault, None);
        let report = database.admin_migration().succeed();
        assert_eq!(report.created, ["table authservice_login_failure"]);
        assert_eq!(statuses(&server, "nobody@x.io", &["a"]), [401]);
        assert_eq!(server.metric("authservice_login_failures_counted_alone"), 0);
        assert_eq!(database.sql().rows(&format!("SELECT failures FROM {table}")), [["1"]]);
        assert_eq!(server.login("ann@x.io", "secret").status, 429, "what was counted alone is not forgotten");

        // An account of the user's with rights on single tables.
        let account = format!("'{}'@'%'", database.user);
        let name = &database.name;
        let mut grants = format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account}");
        for (rights, table) in [
            ("SELECT, UPDATE", "user"),
            (RIGHTS, "authservice_user"),
            (RIGHTS, "authservice_access"),
            (RIGHTS, "authservice_revoked_token"),
            (RIGHTS, "authservice_schema"),
        ] {
            grants = format!("{grants}; GRANT {rights} ON `{name}`.{table} TO {account}");
        }
        database.sql().run(&format!("{grants}; GRANT SELECT ON {table} TO {account}"));
        let report = database.migration().succeed();
        assert_eq!(
            report.limits,
            [format!(
                "login protection by all pods together: account {} lacks INSERT, UPDATE, DELETE on table authservice_login_failure, so each pod counts failed logins on its own",
                database.user
            )]
        );
        let server = database.serve(&[("LOGIN_MAX_FAILURES", "3")]);
        assert_eq!(statuses(&server, "ann@x.io", &["a", "b", "c", "secret"]), [401, 401, 401, 429]);
    }
}

#[test]
fn the_table_is_cleaned_and_stays_within_bounds() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let table = format!("`{}`.authservice_login_failure", database.name);
        let count = || database.sql().rows(&format!("SELECT COUNT(*) FROM {table}"))[0][0].clone();
        let insert = |rows: u32, ends: &str, locked: u8| {
            let digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
            let places =
                ["a", "b", "c", "d", "e", "f"].map(|name| format!("{digits} {name}")).join(" CROSS JOIN ");
            let number = "a.d + 10*b.d + 100*c.d + 1000*d.d + 10000*e.d + 100000*f.d";
            database.sql().run(&format!(
                "INSERT INTO {table} SELECT UNHEX(SHA2(CONCAT('{ends}', {number}), 256)), 1, {locked}, UTC_TIMESTAMP(3) + INTERVAL {ends} FROM {places} WHERE {number} < {rows}"
            ));
        };
        let config = config::Database {
            host: database.via.ip().to_string(),
            port: database.via.port(),
            name: database.name.clone(),
            account: config::Account {
                user: database.user.clone(),
                password: SecretString::from(database.password.clone()),
            },
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clean = || runtime.block_on(async { Store::new(&config).clean_failures().await.unwrap() });
        insert(2500, "-1 SECOND", 1);
        insert(7, "60 SECOND", 0);
        insert(3, "90 SECOND", 1);
        assert_eq!((clean(), count()), (3, "10".to_owned()), "{}", engine.name);
        insert(200_000, "120 SECOND", 0);
        insert(3, "150 SECOND", 1);
        // Those that end first give way.
        assert_eq!((clean(), count()), (3, "3".to_owned()), "{}", engine.name);
    }
}
