//! What log and metrics tell of logins and validations.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a failed test")]

mod server_support;

use std::{io::Write, net::TcpStream, time::Duration};

use serde_json::{Value, json};
use server_support::{Engine, Server, eventually, http};

/// The lines about logins, without what differs from run to run.
fn told(server: &Server) -> Vec<Value> {
    told_of(server, "login")
}

fn told_of(server: &Server, event: &str) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["event"] == event)
        .map(|mut line| {
            let fields = line.as_object_mut().unwrap();
            for name in ["timestamp", "target"] {
                assert!(fields.remove(name).is_some(), "{name}");
            }
            line
        })
        .collect()
}

/// The counts of a metric by outcome that are not zero.
fn counted(server: &Server, metric: &str) -> Vec<(String, u64)> {
    let text = http::get(server.ops, "/metrics").unwrap().body;
    let prefix = format!("authservice_{metric}_total{{outcome=\"");
    let counts = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
    counts
        .map(|(outcome, count)| (outcome.to_owned(), count.parse().unwrap()))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn counts(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect()
}

#[test]
fn each_login_attempt_is_one_line_without_secrets_and_one_count() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.admin_migration().user("ann@x.io", true, Some("secret")).succeed();
        let server = database.serve(&[("HASHING_THREADS", "1")]);
        let login = |authorization: &str, trace: &str| {
            let headers = [("Authorization", authorization), ("traceparent", trace), ("Content-Length", "0")];
            http::call(server.public, "POST", "/login", &headers).unwrap()
        };
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
        let token = login(&http::basic("ann@x.io", "secret"), &traceparent).body;
        login(&http::basic("ann@x.io", "wrong-guess"), "00-not-a-trace-\",\"event\":\"x");
        login(&http::basic("my-password", "my-password"), "");
        login("Bearer secret-token", &traceparent);
        http::call(server.public, "POST", "/login", &[("Content-Length", "2000000000")]).unwrap();
        database.sql().run(&format!("RENAME TABLE `{0}`.user TO `{0}`.gone", database.name));
        assert_eq!(login(&http::basic("ann@x.io", "secret"), "").status, 503);

        let lines = told(&server);
        let error = lines.last().unwrap()["error"].clone();
        assert!(error.as_str().unwrap().starts_with("the database cannot answer: "), "{error}");
        assert_eq!(
            lines,
            [
                json!({"level": "INFO", "message": "login", "event": "login", "outcome": "accepted", "user_id": 1, "trace_id": trace}),
                json!({"level": "INFO", "message": "login", "event": "login", "outcome": "refused", "user_id": 1}),
                json!({"level": "INFO", "message": "login", "event": "login", "outcome": "refused"}),
                json!({"level": "INFO", "message": "login", "event": "login", "outcome": "missing_credentials", "trace_id": trace}),
                json!({"level": "INFO", "message": "login", "event": "login", "outcome": "body_refused"}),
                json!({"level": "WARN", "message": "login not served", "event": "login", "outcome": "database", "error": error}),
            ]
        );
        let log = server.log();
        for secret in [token.as_str(), "secret", "wrong-guess", "my-password", "ann@x.io", "not-a-trace"] {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
        assert_eq!(
            counted(&server, "logins"),
            counts(&[
                ("accepted", 1),
                ("refused", 2),
                ("missing_credentials", 1),
                ("body_refused", 1),
                ("database", 1)
            ])
        );
    }
}

#[test]
fn changes_of_passwords_and_logouts_are_told_and_count_as_what_they_are() {
    const JSON: &str = "application/json";
    for engine in Engine::all() {
        let database = engine.fresh();
        database.admin_migration().user("ann@x.io", true, Some("secret of ann")).succeed();
        let server = database.serve(&[("LOGIN_MAX_FAILURES", "3")]);
        let change = |password: &str, body: &str| {
            http::password(server.public, ("ann@x.io", password), JSON, body).unwrap().status
        };
        let new = r#"{"password":"new secret of ann"}"#;
        assert_eq!(change("secret of ann", r#"{"password":"short"}"#), 400);
        assert_eq!(change("secret of ann", new), 204);
        assert_eq!(server.logout(&server.token("ann@x.io", "new secret of ann")).status, 204);
        assert_eq!(["a", "b", "c"].map(|guess| change(guess, new)), [401; 3]);
        assert_eq!(change("new secret of ann", new), 429, "guessing here is guessing at /login");
        assert_eq!(server.login("ann@x.io", "new secret of ann").status, 429);

        let line = |outcome: &str| {
            let event = "password_change";
            json!({"level": "INFO", "message": event, "event": event, "outcome": outcome, "user_id": 1})
        };
        let without_user = |outcome: &str| {
            let mut line = line(outcome);
            line.as_object_mut().unwrap().remove("user_id");
            line
        };
        assert_eq!(
            told_of(&server, "password_change"),
            [
                without_user("unfit"),
                line("accepted"),
                line("refused"),
                line("refused"),
                line("refused"),
                without_user("locked_out")
            ]
        );
        assert_eq!(
            told_of(&server, "logout"),
            [
                json!({"level": "INFO", "message": "logout", "event": "logout", "outcome": "accepted", "user_id": 1})
            ]
        );
        assert_eq!(
            counted(&server, "password_changes"),
            counts(&[("accepted", 1), ("refused", 3), ("locked_out", 1), ("unfit", 1)])
        );
        assert!(!server.log().contains("secret"), "{}", server.log());
    }
}

#[test]
fn a_client_that_does_not_wait_for_its_answer_is_told_about_all_the_same() {
    let database = Engine::mysql().fresh();
    database.admin_migration().user("ann@x.io", true, Some("secret")).succeed();
    let server = database.serve(&[("HASHING_THREADS", "1"), ("LOGIN_MAX_FAILURES", "0")]);
    let request = format!(
        "POST /login HTTP/1.1\r\nHost: test\r\nAuthorization: {}\r\nContent-Length: 0\r\n\r\n",
        http::basic("ann@x.io", "wrong")
    );
    server.token("ann@x.io", "secret");
    let flood = || -> Vec<TcpStream> {
        let client = |_| {
            let mut client = TcpStream::connect(server.public).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            client
        };
        (0..40).map(client).collect()
    };
    // Each takes its 20 ms of the one thread, so the last wait for it for some time.
    eventually("logins wait", Duration::from_secs(5), || {
        let _clients = flood();
        // The database is asked before.
        std::thread::sleep(Duration::from_millis(100));
        !http::get(server.ops, "/metrics").unwrap().body.contains("authservice_hashing_queue 0\n")
    });
    let abandoned =
        json!({"level": "INFO", "message": "login", "event": "login", "outcome": "abandoned", "user_id": 1});
    eventually("a line", Duration::from_secs(5), || told(&server).contains(&abandoned));
    eventually("a count for each line", Duration::from_secs(5), || {
        let counted: u64 = counted(&server, "logins").iter().map(|(_, count)| count).sum();
        usize::try_from(counted) == Ok(told(&server).len())
    });
}

#[test]
fn validations_are_counted_by_what_is_wrong() {
    let database = Engine::mysql().fresh();
    database.admin_migration().user("ann@x.io", true, Some("secret")).succeed();
    let server = database.serve(&[("TOKEN_TTL", "1s")]);
    let ended = server.token("ann@x.io", "secret");
    server.logout(&ended);
    server.validate(&ended);
    let token = server.token("ann@x.io", "secret");
    server.validate(&token);
    http::call(server.public, "GET", "/validate/cart", &[]).unwrap();
    server.validate("junk");
    server.validate(&format!("{token}AAAA"));
    std::thread::sleep(Duration::from_millis(2100));
    server.validate(&token);
    assert_eq!(
        counted(&server, "validations"),
        counts(&[
            ("accepted", 1),
            ("missing_credentials", 1),
            ("expired", 1),
            ("bad_signature", 1),
            ("malformed", 1),
            ("revoked", 1)
        ])
    );
    // Every outcome is there from the start, and no other ever.
    let text = http::get(server.ops, "/metrics").unwrap().body;
    assert_eq!(text.matches("authservice_validations_total{").count(), 11);
    assert_eq!(text.matches("authservice_logins_total{").count(), 9);
}
