//! The administration API: the life of a user through it, and everything it refuses.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use authservice::server::{keys::unix_now, passwords::Argon2id, tokens::AdminKey};
use serde_json::{Value, json};
use server_support::{
    BINARY, Database, Engine, JWT_SECRET, Server, eventually, free_address, http, http::Answer, proxy::Proxy,
};

const KEY: &str = "tests-only-administration-key-of-more-than-32-bytes";
const LAG: Duration = Duration::from_secs(1);
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn prepared(engine: &Engine) -> Database {
    let database = engine.fresh();
    database.admin_migration().succeed();
    database
}

/// What `auth-server admin-token` prints with this key.
fn printed_token(key: &str, words: &[&str]) -> String {
    let output = Command::new(BINARY)
        .arg("admin-token")
        .args(words)
        .env_clear()
        .env("ADMIN_KEY", key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A server with its administration port.
struct Administered {
    server: Server,
    address: SocketAddr,
    token: String,
}

impl Administered {
    fn start(database: &Database, variables: &[(&str, &str)]) -> Self {
        let address = free_address();
        let text = address.to_string();
        let mut all = vec![("ADMIN_ADDRESS", text.as_str()), ("ADMIN_KEY", KEY), ("REVOCATION_LAG", "1s")];
        all.extend(variables);
        let server = database.serve(&all);
        let token = printed_token(KEY, &["--subject", "tests"]);
        Self { server, address, token }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Calls with a token and without a body.
    fn call(&self, method: &str, path: &str) -> Answer {
        let headers = [("Authorization", &*self.bearer()), ("Content-Length", "0")];
        http::call(self.address, method, path, &headers).unwrap()
    }

    /// Calls with a token and a body of JSON.
    fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send_text(method, path, &body.to_string())
    }

    fn send_text(&self, method: &str, path: &str, body: &str) -> Answer {
        http::send(self.address, method, path, &[("Authorization", &self.bearer()), JSON], body).unwrap()
    }

    fn create(&self, body: &Value) -> i64 {
        let answer = self.send("POST", "/admin/users", body);
        assert_eq!(answer.status, 201, "{answer:?}\n{}", self.server.log());
        body_of(&answer)["id"].as_i64().unwrap()
    }
}

fn body_of(answer: &Answer) -> Value {
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// The detail of a problem, which has to be one of this status.
fn detail(answer: &Answer, status: u16, title: &str) -> String {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let mut body: Value = serde_json::from_str(&answer.body).unwrap();
    let detail = body.as_object_mut().unwrap().remove("detail");
    assert_eq!(
        (answer.status, body),
        (status, json!({"type": "about:blank", "title": title, "status": status})),
        "{answer:?}"
    );
    detail.unwrap().as_str().unwrap().to_owned()
}

#[test]
fn a_user_lives_through_the_api() {
    for engine in Engine::all() {
        let database = prepared(&engine);
        let api = Administered::start(&database, &[]);
        let server = &api.server;
        let created =
            api.send("POST", "/admin/users", &json!({"email": "ann@x.io", "password": "secret of ann"}));
        let ann =
            json!({"id": 1, "email": "ann@x.io", "admin": false, "disabled": false, "password": "argon2"});
        assert_eq!((created.status, body_of(&created)), (201, ann.clone()));
        assert_eq!(created.header("location"), Some("/admin/users/1"));
        assert_eq!(created.header("content-type"), Some("application/json"));
        assert_eq!(body_of(&api.call("GET", "/admin/users/1")), ann);

        let claims = |token: &str| serde_json::from_str::<Value>(&server.validate(token).body).unwrap();
        let token = server.token("ann@x.io", "secret of ann");
        assert_eq!(claims(&token)["admin"], json!(false));
        let all = json!({"email": "anna@x.io", "admin": true, "password": "another secret"});
        let changed = api.send("PATCH", "/admin/users/1", &all);
        let anna =
            json!({"id": 1, "email": "anna@x.io", "admin": true, "disabled": false, "password": "argon2"});
        assert_eq!((changed.status, body_of(&changed)), (200, anna.clone()));
        server.soon_refuses(&token, LAG);
        assert_eq!(server.login("ann@x.io", "secret of ann").status, 401);
        let token = server.token("anna@x.io", "another secret");
        assert_eq!(claims(&token)["admin"], json!(true));

        assert_eq!(api.send("PATCH", "/admin/users/1", &json!({"disabled": true})).status, 200);
        server.soon_refuses(&token, LAG);
        assert_eq!(server.login("anna@x.io", "another secret").status, 401);
        assert_eq!(body_of(&api.call("GET", "/admin/users/1"))["disabled"], json!(true));
        let enabled = api.send("PATCH", "/admin/users/1", &json!({"disabled": false}));
        assert_eq!(body_of(&enabled), anna);
        let token = server.token("anna@x.io", "another secret");

        let revoked = api.call("POST", "/admin/users/1/revoke-tokens");
        assert_eq!((revoked.status, revoked.body.as_str()), (204, ""));
        server.soon_refuses(&token, LAG);
        let token = server.token("anna@x.io", "another secret");
        assert_eq!(api.call("DELETE", "/admin/users/1").status, 204);
        server.soon_refuses(&token, LAG);
        assert_eq!(server.login("anna@x.io", "another secret").status, 401);
        for (method, path) in [
            ("GET", "/admin/users/1"),
            ("DELETE", "/admin/users/1"),
            ("POST", "/admin/users/1/revoke-tokens"),
            ("POST", "/admin/users/1/unlock"),
        ] {
            assert_eq!(detail(&api.call(method, path), 404, "Not Found"), "there is no user of id 1");
        }
        let gone = api.send("PATCH", "/admin/users/1", &json!({"admin": true}));
        assert_eq!(detail(&gone, 404, "Not Found"), "there is no user of id 1");
    }
}

#[test]
fn a_change_is_whole_or_not_at_all() {
    for engine in Engine::all() {
        let database = prepared(&engine);
        let api = Administered::start(&database, &[]);
        api.create(&json!({"email": "ann@x.io", "password": "secret of ann"}));
        api.create(&json!({"email": "bob@x.io", "password": "secret of bob"}));
        let token = api.server.token("bob@x.io", "secret of bob");
        let wanted =
            json!({"email": "ann@x.io", "admin": true, "disabled": true, "password": "another secret"});
        let conflict =
            "e-mail \"ann@x.io\" is taken, or table user holds one that its collation takes for the same";
        assert_eq!(detail(&api.send("PATCH", "/admin/users/2", &wanted), 409, "Conflict"), conflict);
        let again = json!({"email": "ann@x.io", "password": "secret of ann"});
        assert_eq!(detail(&api.send("POST", "/admin/users", &again), 409, "Conflict"), conflict);
        let bob =
            json!({"id": 2, "email": "bob@x.io", "admin": false, "disabled": false, "password": "argon2"});
        assert_eq!(body_of(&api.call("GET", "/admin/users/2")), bob);
        std::thread::sleep(2 * LAG);
        assert_eq!(api.server.validate(&token).status, 200, "nothing has ended");
    }
}

#[test]
fn users_are_listed_page_by_page_and_found_by_email() {
    for engine in Engine::all() {
        let database = prepared(&engine);
        let api = Administered::start(&database, &[("LEGACY_PASSWORD_FORMATS", "plaintext")]);
        for (email, password) in [("a@x.io", "in plain text"), ("b+b@x.io", "$2b$12$unknown"), ("c@x.io", "")]
        {
            database.insert(email, password);
        }
        let user = |id: i64, email: &str, password: &str| json!({"id": id, "email": email, "admin": true, "disabled": false, "password": password});
        let [a, b, c] =
            [user(1, "a@x.io", "plaintext"), user(2, "b+b@x.io", "unusable"), user(3, "c@x.io", "unusable")];
        for (query, expected) in [
            ("", json!({"users": [a, b, c], "next": null})),
            ("?limit=2", json!({"users": [a, b], "next": 2})),
            ("?limit=2&after=2", json!({"users": [c], "next": null})),
            ("?limit=3", json!({"users": [a, b, c], "next": null})),
            ("?after=3", json!({"users": [], "next": null})),
            ("?email=b%2Bb%40x.io", json!({"users": [b], "next": null})),
            ("?email=B%2BB%40x.io", json!({"users": [], "next": null})),
            ("?email=%F0%9F%A6%86", json!({"users": [], "next": null})),
        ] {
            let answer = api.call("GET", &format!("/admin/users{query}"));
            assert_eq!((answer.status, body_of(&answer)), (200, expected), "{query}");
        }
        for (query, expected) in [
            ("?limit=0", "limit must be a number from 1 to 1000"),
            ("?limit=1001", "limit must be a number from 1 to 1000"),
            ("?after=a@x.io", "after must be the id of a user"),
            ("?after=1&after=2", "the query names a parameter twice"),
            ("?email=a@x.io&limit=2", "the query takes limit and after, or email"),
            ("?mail=a@x.io", "the query takes limit and after, or email"),
        ] {
            let answer = api.call("GET", &format!("/admin/users{query}"));
            assert_eq!(detail(&answer, 400, "Bad Request"), expected, "{query}");
        }
    }
}

#[test]
fn a_ready_hash_is_imported_and_anything_unfit_is_not() {
    /// From the documentation of an implementation of bcrypt.
    const BCRYPT: &str = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW";
    for engine in Engine::all() {
        let database = prepared(&engine);
        let api = Administered::start(&database, &[]);
        let hash = Argon2id::default().hash(b"secret of ann").unwrap();
        let ann = api.create(&json!({"email": "ann@x.io", "admin": true, "passwordHash": hash}));
        api.server.token("ann@x.io", "secret of ann");
        let another = Argon2id::default().hash(b"another secret").unwrap();
        let path = format!("/admin/users/{ann}");
        assert_eq!(api.send("PATCH", &path, &json!({"passwordHash": another})).status, 200);
        api.server.token("ann@x.io", "another secret");

        let unfit = |field: &str, value: &str| {
            let mut body = json!({"email": "bob@x.io", "password": "secret of bob"});
            if field == "passwordHash" {
                body.as_object_mut().unwrap().remove("password");
            }
            body[field] = json!(value);
            let created = api.send("POST", "/admin/users", &body);
            let changed = api.send("PATCH", &path, &json!({field: value}));
            let created = detail(&created, 422, "Unprocessable Entity");
            assert_eq!(detail(&changed, 422, "Unprocessable Entity"), created);
            created
        };
        assert_eq!(unfit("password", "short"), "the password has 5 characters, the least is 8");
        assert_eq!(unfit("password", &"x".repeat(1025)), "the password is longer than 1024 bytes");
        assert_eq!(
            unfit("passwordHash", "no hash"),
            "this is no hash of a form that is verified here; auth-server hash makes one from a password"
        );
        assert_eq!(
            unfit("passwordHash", BCRYPT),
            "this is a hash of format bcrypt, which would log nobody in: name bcrypt in passwords.legacyFormats (LEGACY_PASSWORD_FORMATS)"
        );
        assert_eq!(
            unfit("email", "b:b"),
            "\"b:b\" cannot log in by HTTP Basic: use an e-mail address of 1 to 255 characters without colon and control characters"
        );
        database.sql().run(&format!("ALTER TABLE `{}`.user MODIFY email VARCHAR(10)", database.name));
        assert_eq!(
            unfit("email", "longer.than.that@x.io"),
            "table user cannot hold this: a column is missing, too narrow, or of a character set without some of the characters"
        );
        assert_eq!(body_of(&api.call("GET", "/admin/users"))["users"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn what_is_no_request_of_the_api_is_refused_as_a_problem() {
    let database = prepared(&Engine::mysql());
    let api = Administered::start(&database, &[]);
    api.create(&json!({"email": "ann@x.io", "password": "secret of ann"}));
    let misfit = |at: &str| {
        format!(
            "the body holds a field that is unknown, missing or of another type ({at}): see /openapi.json"
        )
    };
    let no_json = |at: &str| format!("the body is not JSON ({at}): see /openapi.json");
    for (method, path, body, expected) in [
        ("POST", "/admin/users", "", no_json("line 1, column 0")),
        ("POST", "/admin/users", "{\"email\":", no_json("line 1, column 9")),
        ("POST", "/admin/users", r#"{"password":"secret of bob"}"#, misfit("line 1, column 28")),
        ("POST", "/admin/users", r#"{"email":"b@x.io","password":7}"#, misfit("line 1, column 30")),
        ("POST", "/admin/users", r#"{"email":"b@x.io","passwort":"x"}"#, misfit("line 1, column 28")),
        ("POST", "/admin/users", r#"{"email":"b@x.io","password":null}"#, misfit("line 1, column 33")),
        (
            "POST",
            "/admin/users",
            r#"{"email":"b@x.io"}"#,
            "the body must hold password or passwordHash".into(),
        ),
        (
            "POST",
            "/admin/users",
            r#"{"email":"b@x.io","password":"secret of bob","passwordHash":"x"}"#,
            "the body must not hold both password and passwordHash".into(),
        ),
        (
            "PATCH",
            "/admin/users/1",
            "{}",
            "the body must hold at least one of email, admin, disabled, password and passwordHash".into(),
        ),
        ("PATCH", "/admin/users/1", r#"{"id":2}"#, misfit("line 1, column 5")),
        ("PATCH", "/admin/users/1", r#"{"admin":null}"#, misfit("line 1, column 13")),
    ] {
        let answer = api.send_text(method, path, body);
        assert_eq!(detail(&answer, 400, "Bad Request"), expected, "{body}");
    }
    let bearer = api.bearer();
    for media_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", media_type)];
        let body = r#"{"email":"b@x.io","password":"secret of bob"}"#;
        let answer = http::send(api.address, "POST", "/admin/users", &headers, body).unwrap();
        assert_eq!(detail(&answer, 415, "Unsupported Media Type"), "Content-Type must be application/json");
    }
    let large = json!({"email": "b@x.io", "password": "x".repeat(17_000)});
    let answer = api.send("POST", "/admin/users", &large);
    assert_eq!(detail(&answer, 413, "Payload Too Large"), "the body has more than 16 KiB");
    for (method, path, allowed) in [
        ("PUT", "/admin/users", "GET,HEAD,POST"),
        ("POST", "/admin/users/1", "GET,HEAD,PATCH,DELETE"),
        ("GET", "/admin/users/1/unlock", "POST"),
        ("POST", "/openapi.json", "GET,HEAD"),
    ] {
        let answer = api.call(method, path);
        assert_eq!(detail(&answer, 405, "Method Not Allowed"), "this resource has no such method");
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
    for path in ["/", "/login", "/validate", "/admin", "/admin/users/", "/admin/users/1/x", "/metrics"] {
        assert_eq!(detail(&api.call("GET", path), 404, "Not Found"), "there is no such resource", "{path}");
    }
    for id in ["ann@x.io", "1.0", "%ff", "99999999999999999999"] {
        let answer = api.call("GET", &format!("/admin/users/{id}"));
        assert_eq!(detail(&answer, 404, "Not Found"), "an id of a user is a number", "{id}");
    }
    assert_eq!(http::get(api.server.public, "/admin/users").unwrap().status, 404, "not on the public port");
    let document = http::get(api.address, "/openapi.json").unwrap();
    let committed = include_str!("../docs/openapi-admin.json");
    assert_eq!((document.status, document.body.as_str()), (200, committed), "cargo xtask generate");
}

#[test]
fn only_administration_tokens_open_it_and_they_open_nothing_else() {
    let database = prepared(&Engine::mysql());
    let api = Administered::start(&database, &[]);
    api.create(&json!({"email": "ann@x.io", "admin": true, "password": "secret of ann"}));
    let of_admin = api.server.token("ann@x.io", "secret of ann");
    let with = |authorization: Option<&str>| {
        let headers: Vec<_> = authorization.map(|value| ("Authorization", value)).into_iter().collect();
        http::call(api.address, "GET", "/admin/users", &headers).unwrap()
    };
    for missing in [None, Some("Basic YW5uQHguaW86c2VjcmV0"), Some("Bearer "), Some("x")] {
        let answer = with(missing);
        assert_eq!(
            detail(&answer, 401, "Unauthorized"),
            "send an administration token: Authorization: Bearer <token>"
        );
        assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="authservice-administration""#));
    }
    let key = AdminKey::new(KEY.as_bytes()).unwrap();
    let other = AdminKey::new(JWT_SECRET.as_bytes()).unwrap();
    let now = unix_now();
    let malformed = "the administration token is malformed, lacks iat, or lives for more than an hour";
    let signature = "the administration token is not good: bad signature";
    for (token, expected) in [
        (of_admin, signature),
        (other.issue(None, 60, now).unwrap(), signature),
        ("x".to_owned(), malformed),
        (key.issue(None, 3601, now).unwrap(), malformed),
        (key.issue(None, 60, now - 60).unwrap(), "the administration token is not good: expired"),
        (key.issue(None, 60, now + 90).unwrap(), "the administration token is not good: not yet valid"),
    ] {
        let answer = with(Some(&format!("Bearer {token}")));
        assert_eq!(detail(&answer, 401, "Unauthorized"), expected);
        let challenge = r#"Bearer realm="authservice-administration", error="invalid_token""#;
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
    }
    let refused = api.server.validate(&api.token);
    assert_eq!((refused.status, refused.body.as_str()), (403, "Not authorized: bad signature"));
    assert_eq!(api.server.logout(&api.token).status, 403);
}

#[test]
fn under_one_key_for_both_the_audience_tells_the_tokens_apart() {
    let database = prepared(&Engine::mysql());
    let api = Administered::start(&database, &[("JWT_SECRET", KEY)]);
    api.create(&json!({"email": "ann@x.io", "admin": true, "password": "secret of ann"}));
    let of_admin = api.server.token("ann@x.io", "secret of ann");
    let headers = [("Authorization", &*format!("Bearer {of_admin}"))];
    let answer = http::call(api.address, "GET", "/admin/users", &headers).unwrap();
    assert_eq!(detail(&answer, 401, "Unauthorized"), "this is no administration token");
    let refused = api.server.validate(&api.token);
    assert_eq!((refused.status, refused.body.as_str()), (403, "Not authorized: malformed"));
}

#[test]
fn a_locked_account_is_unlocked() {
    for engine in Engine::all() {
        let database = prepared(&engine);
        let api = Administered::start(&database, &[("LOGIN_MAX_FAILURES", "2")]);
        let ann = api.create(&json!({"email": "ann@x.io", "password": "secret of ann"}));
        for expected in [401, 401, 429] {
            assert_eq!(api.server.login("ann@x.io", "wrong").status, expected);
        }
        assert_eq!(api.call("POST", &format!("/admin/users/{ann}/unlock")).status, 204);
        eventually("the lock ends", Duration::from_secs(3), || {
            api.server.login("ann@x.io", "secret of ann").status == 200
        });
    }
}

#[test]
fn each_change_is_one_line_without_secrets_and_every_request_is_counted() {
    let database = prepared(&Engine::mysql());
    let api = Administered::start(&database, &[]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let bearer = api.bearer();
    let headers = [("Authorization", bearer.as_str()), JSON, ("traceparent", &traceparent)];
    let body = r#"{"email":"ann@x.io","password":"secret of ann"}"#;
    http::send(api.address, "POST", "/admin/users", &headers, body).unwrap();
    api.send("POST", "/admin/users", &json!({"email": "ann@x.io", "password": "secret of another"}));
    api.send("PATCH", "/admin/users/1", &json!({"password": "short"}));
    api.send("PATCH", "/admin/users/1", &json!({"disabled": true}));
    api.call("GET", "/admin/users/1");
    api.call("POST", "/admin/users/7/unlock");
    api.call("POST", "/admin/users/1/revoke-tokens");
    http::send(api.address, "DELETE", "/admin/users/1", &[("Authorization", "Bearer secret-token")], "")
        .unwrap();
    database.sql().run(&format!("RENAME TABLE `{0}`.user TO `{0}`.gone", database.name));
    let away = api.call("DELETE", "/admin/users/1");
    assert_eq!(detail(&away, 503, "Service Unavailable"), "the database is unavailable, try again");
    assert_eq!(away.header("retry-after"), Some("1"));

    let log = api.server.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["event"] == "administration")
        .map(|mut line| {
            let fields = line.as_object_mut().unwrap();
            for name in ["timestamp", "target", "event"] {
                assert!(fields.remove(name).is_some(), "{name}");
            }
            line
        })
        .collect();
    let line = |action: &str, user_id: Option<i64>, outcome: &str| {
        let mut line = json!({"level": "INFO", "message": "administration", "action": action, "outcome": outcome, "subject": "tests"});
        if let Some(id) = user_id {
            line["user_id"] = json!(id);
        }
        line
    };
    let mut created = line("create", Some(1), "accepted");
    created["trace_id"] = json!(trace);
    let mut not_served = line("delete", Some(1), "database");
    not_served["level"] = json!("WARN");
    not_served["message"] = json!("administration not served");
    not_served["fault"] = json!("SchemaMissing");
    assert_eq!(
        lines,
        [
            created,
            line("create", None, "conflict"),
            line("change", Some(1), "unfit"),
            line("change", Some(1), "accepted"),
            line("unlock", Some(7), "not_found"),
            line("revoke_tokens", Some(1), "accepted"),
            json!({"level": "INFO", "message": "administration", "outcome": "unauthorized"}),
            not_served,
        ]
    );
    for secret in ["ann@x.io", "secret", "short", KEY, &api.token] {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
    let metrics = http::get(api.server.ops, "/metrics").unwrap().body;
    for (code, count) in [(200, 2), (201, 1), (204, 1), (401, 1), (404, 1), (409, 1), (422, 1), (503, 1)] {
        let line = format!("authservice_requests_total{{endpoint=\"admin\",code=\"{code}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[test]
fn a_database_that_is_away_or_without_our_tables_is_told_of() {
    for engine in Engine::all() {
        let mut database = prepared(&engine);
        let proxy = Proxy::start(engine.address);
        database.via = proxy.address;
        let api = Administered::start(&database, &[]);
        api.create(&json!({"email": "ann@x.io", "password": "secret of ann"}));
        proxy.cut();
        let start = Instant::now();
        let create = json!({"email": "bob@x.io", "password": "secret of bob"});
        for answer in [
            api.call("GET", "/admin/users"),
            api.send("POST", "/admin/users", &create),
            api.call("POST", "/admin/users/1/unlock"),
        ] {
            assert_eq!(detail(&answer, 503, "Service Unavailable"), "the database is unavailable, try again");
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        drop(api);

        let bare = engine.fresh();
        bare.create_original();
        bare.create_account("SELECT");
        let api = Administered::start(&bare, &[]);
        let missing = "the database lacks a table or a right that this needs: run auth-server migrate with an account that may make them";
        for answer in [
            api.call("GET", "/admin/users/1"),
            api.send("PATCH", "/admin/users/1", &json!({"admin": false})),
            api.send("POST", "/admin/users", &create),
        ] {
            assert_eq!(detail(&answer, 501, "Not Implemented"), missing);
        }
    }
}

#[test]
fn without_a_key_the_port_is_closed_and_a_key_that_is_none_is_named() {
    let database = prepared(&Engine::mysql());
    let address = free_address();
    let server = database.serve(&[("ADMIN_ADDRESS", &address.to_string())]);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(!server.log().contains("administration"));

    let refused = |key: Option<&str>| {
        let mut command = Command::new(BINARY);
        command.arg("admin-token").env_clear().envs(key.map(|key| ("ADMIN_KEY", key)));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        refused(Some("short")),
        "auth-server: the configuration has 1 fault:\n  ADMIN_KEY has 5 bytes, HS256 needs at least 32: make one with: openssl rand -base64 48\n"
    );
    assert!(refused(None).contains("ADMIN_KEY is not set"), "{}", refused(None));
    for ttl in ["0s", "61m", "x"] {
        let mut command = Command::new(BINARY);
        let output =
            command.args(["admin-token", "--ttl", ttl]).env_clear().env("ADMIN_KEY", KEY).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("use a duration from 1s to 1h, such as 5m"), "{told}");
    }
}

#[test]
fn a_key_that_is_exchanged_in_its_file_is_taken_up() {
    let database = prepared(&Engine::mysql());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{KEY}\n")).unwrap();
    let address = free_address();
    let variables = [
        ("ADMIN_ADDRESS", address.to_string()),
        ("ADMIN_KEY_FILE", file.path().to_str().unwrap().to_owned()),
    ];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let _server = database.serve(&variables);
    let status = |key: &str| {
        let token = printed_token(key, &["--ttl", "1h"]);
        let headers = [("Authorization", &*format!("Bearer {token}"))];
        http::call(address, "GET", "/admin/users", &headers).unwrap().status
    };
    let new = "another-administration-key-of-more-than-32-bytes";
    assert_eq!((status(KEY), status(new)), (200, 401));
    std::fs::write(file.path(), new).unwrap();
    eventually("the new key is in use", Duration::from_secs(15), || status(new) == 200);
    assert_eq!(status(KEY), 401);
}
