//! The contract of the service that this one replaces, as its callers see it.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use server_support::{Database, Engine, JWT_SECRET, Server, http, program, python};

/// The original's own table, adopted, with a few more rows.
fn adopted(engine: &Engine) -> Database {
    let database = engine.fresh();
    database.create_original();
    database.create_account("SELECT, INSERT, UPDATE, DELETE, CREATE");
    database.insert("pä@x.io", "pass:wörd");
    database.insert("hash@x.io", "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW");
    database.migration().with(&[("SCHEMA_MODE", "Existing")]).succeed();
    database
}

fn serve(database: &Database) -> Server {
    database.serve(&[("LEGACY_PASSWORD_FORMATS", "plaintext")])
}

fn text(status: u16, body: &str, challenge: Option<&str>) -> Value {
    json!({"status": status, "type": "text/plain; charset=utf-8", "challenge": challenge, "server": null, "text": body})
}

const BASIC: Option<&str> = Some(r#"Basic realm="authservice", charset="UTF-8""#);
const BEARER: Option<&str> = Some(r#"Bearer realm="authservice""#);
const INVALID: Option<&str> = Some(r#"Bearer realm="authservice", error="invalid_token""#);

#[test]
fn callers_of_the_original_get_what_they_expect() {
    for engine in Engine::all() {
        let database = adopted(&engine);
        let server = serve(&database);
        let token = server.token("georgio@email.com", "Admin123");
        let altered =
            format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { 'E' } else { 'A' });
        let bearer = |token: &str| json!({"path": "/validate", "headers": {"Authorization": format!("Bearer {token}")}});
        let with = |path: &str, value: &str| json!({"path": path, "headers": {"Authorization": value}});
        let login = |email: &str, password: &str| json!({"path": "/login", "auth": [email, password]});
        let missing = || text(401, "Missing credentials", BASIC);
        let invalid = || text(401, "Invalid credentials", BASIC);
        let missing_token = || text(401, "Missing credentials", BEARER);
        let not_authorized = |why: &str| text(403, &format!("Not authorized: {why}"), INVALID);
        let cases = [
            (json!({"path": "/login"}), missing()),
            (with("/login", ""), missing()),
            (with("/login", "Basic"), missing()),
            (with("/login", "Basic !!!"), missing()),
            (with("/login", "Basic bm9jb2xvbg=="), missing()),
            (with("/login", &format!("Bearer {token}")), missing()),
            (login("georgio@email.com", "wrong"), invalid()),
            (login("nobody@email.com", "Admin123"), invalid()),
            (login("Georgio@email.com", "Admin123"), invalid()),
            (login("georgio@email.com ", "Admin123"), invalid()),
            (login("geörgio@email.com", "Admin123"), invalid()),
            (login("", ""), invalid()),
            (login("hash@x.io", "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"), invalid()),
            (login("georgio@email.com", &"x".repeat(1025)), invalid()),
            (login(&"x".repeat(300), "Admin123"), invalid()),
            (json!({"path": "/validate"}), missing_token()),
            (with("/validate", ""), missing_token()),
            (with("/validate", "Bearer"), missing_token()),
            (with("/validate", &token), missing_token()),
            (with("/validate", &format!("Basic {token}")), missing_token()),
            (bearer("junk"), not_authorized("malformed")),
            (bearer(&altered), not_authorized("bad signature")),
            (json!({"path": "/nothing"}), text(404, "Not found", None)),
            (
                json!({"path": "/login", "data": "x".repeat(100_000), "auth": ["georgio@email.com", "Admin123"]}),
                text(413, "Request body too large", None),
            ),
        ];
        let calls: Vec<&Value> = cases.iter().map(|(call, _)| call).collect();
        let answers = python("contract.py", &json!({"address": server.public.to_string(), "calls": calls}));
        for ((call, expected), answer) in cases.iter().zip(answers.as_array().unwrap()) {
            assert_eq!(answer, expected, "{call} on {}", engine.name);
        }

        let claims = server.validate(&token).body;
        let good = [
            with("/validate", &format!("bearer {token}")),
            json!({"path": "/validate/", "headers": {"Authorization": format!("Bearer {token}")}}),
            json!({"path": "/validate", "method": "GET", "headers": {"Authorization": format!("Bearer {token}")}}),
            json!({"path": "/validate", "method": "PURGE", "data": "{}", "headers": {"Authorization": format!("Bearer {token}")}}),
        ];
        for answer in python("contract.py", &json!({"address": server.public.to_string(), "calls": good}))
            .as_array()
            .unwrap()
        {
            assert_eq!(
                *answer,
                json!({"status": 200, "type": "application/json", "challenge": null, "server": null, "text": claims})
            );
        }
        let logins = [
            login("georgio@email.com", "Admin123"),
            login("pä@x.io", "pass:wörd"),
            json!({"path": "/login/", "auth": ["georgio@email.com", "Admin123"]}),
            json!({"path": "/login", "method": "GET", "auth": ["georgio@email.com", "Admin123"]}),
            json!({"path": "/login", "data": "ignored", "auth": ["georgio@email.com", "Admin123"]}),
            with("/login", "bAsIc Z2Vvcmdpb0BlbWFpbC5jb206QWRtaW4xMjM="),
        ];
        for answer in python("contract.py", &json!({"address": server.public.to_string(), "calls": logins}))
            .as_array()
            .unwrap()
        {
            assert_eq!(answer["status"], 200, "{answer}");
            assert_eq!(
                server.validate(answer["text"].as_str().unwrap()).status,
                200,
                "the body is the bare token: {answer}"
            );
        }
    }
}

#[test]
fn curl_logs_in_and_validates() {
    let database = adopted(&Engine::mysql());
    let server = serve(&database);
    let curl = |arguments: &[&str]| {
        let output = program("TEST_CURL")
            .args(["-sS", "-X", "POST"])
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let url = |path: &str| format!("http://{}{path}", server.public);
    let token = curl(&["-u", "georgio@email.com:Admin123", &url("/login")]);
    let claims: Value =
        serde_json::from_str(&curl(&["-H", &format!("Authorization: Bearer {token}"), &url("/validate")]))
            .unwrap();
    assert_eq!((&claims["username"], &claims["admin"]), (&json!("georgio@email.com"), &json!(true)));
    assert_eq!(curl(&["-w", " %{http_code}", &url("/login")]), "Missing credentials 401");
    let over_http2 = curl(&[
        "--http2-prior-knowledge",
        "-w",
        " %{http_version}",
        "-H",
        "Authorization: Bearer x",
        &url("/validate"),
    ]);
    assert_eq!(over_http2, "Not authorized: malformed 2");
}

#[test]
fn tokens_pass_both_ways_between_us_and_other_libraries() {
    let database = adopted(&Engine::mariadb());
    let server = serve(&database);
    let token = server.token("georgio@email.com", "Admin123");
    let question =
        json!({"token": token, "secret": JWT_SECRET, "username": "georgio@email.com", "expires_in": 86_400});
    let found = python("tokens.py", &question);
    let claims = &found["pyjwt"];
    assert_eq!(claims, &found["jwcrypto"]);
    assert_eq!((claims, &found["original"]["version"]), (&found["original"]["claims"], &json!("2.3.0")));
    assert_eq!(found["header"], json!({"typ": "JWT", "alg": "HS256", "kid": "default"}));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 86_400);
    let names: Vec<&String> = claims.as_object().unwrap().keys().collect();
    assert_eq!(names, ["admin", "exp", "gen", "iat", "iss", "jti", "sub", "username"]);
    assert_eq!(
        (&claims["username"], &claims["admin"], &claims["iss"], &claims["sub"]),
        (&json!("georgio@email.com"), &json!(true), &json!("authservice"), &json!("1"))
    );

    let original = found["original"]["issued"].as_str().unwrap();
    let answer = server.validate(original);
    assert_eq!(answer.status, 200, "{answer:?}");
    let returned: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&returned["username"], &returned["admin"]), (&json!("georgio@email.com"), &json!(true)));

    let expired = python(
        "tokens.py",
        &json!({"token": token, "secret": JWT_SECRET, "username": "x", "expires_in": -1}),
    );
    let answer = server.validate(expired["original"]["issued"].as_str().unwrap());
    assert_eq!((answer.status, answer.body.as_str()), (403, "Not authorized: expired"));
}

#[test]
fn tokens_name_the_issuer_and_the_audience_that_were_asked_for() {
    let database = adopted(&Engine::mysql());
    let terms = [("TOKEN_ISSUER", "https://auth.example"), ("TOKEN_AUDIENCE", "shop")];
    let server = database.serve(&[&terms[..], &[("LEGACY_PASSWORD_FORMATS", "plaintext")]].concat());
    let token = server.token("georgio@email.com", "Admin123");
    let found = python(
        "audience.py",
        &json!({"token": token, "secret": JWT_SECRET, "issuer": terms[0].1, "audience": terms[1].1}),
    );
    let accepted = server.validate(&token);
    assert_eq!(serde_json::from_str::<Value>(&accepted.body).unwrap(), found["claims"], "{accepted:?}");
    assert_eq!(
        (&found["unexpected"], &found["other"]),
        (&json!("Invalid audience"), &json!("Audience doesn't match"))
    );
    assert_eq!(server.validate(found["for_several"].as_str().unwrap()).status, 200);
    let without = database.serve(&[]);
    let malformed = (403, "Not authorized: malformed".to_owned());
    for refused in [server.validate(found["for_another"].as_str().unwrap()), without.validate(&token)] {
        assert_eq!((refused.status, refused.body), malformed);
    }
}

#[test]
fn a_plain_text_row_logs_in_and_becomes_a_hash_unless_told_otherwise() {
    for engine in Engine::all() {
        let database = adopted(&engine);
        {
            let server =
                database.serve(&[("LEGACY_PASSWORD_FORMATS", "plaintext"), ("REHASH_PASSWORDS", "false")]);
            server.token("georgio@email.com", "Admin123");
            assert_eq!(database.stored_password("georgio@email.com"), "Admin123");
        }
        {
            let server = database.serve(&[]);
            assert_eq!(
                server.login("georgio@email.com", "Admin123").status,
                401,
                "plain text is off unless allowed"
            );
        }
        let server = serve(&database);
        assert_eq!(server.login("georgio@email.com", "wrong").status, 401);
        assert_eq!(
            database.stored_password("georgio@email.com"),
            "Admin123",
            "a wrong password never writes"
        );
        server.token("georgio@email.com", "Admin123");
        let hash = database.stored_password("georgio@email.com");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        server.token("georgio@email.com", "Admin123");
        assert_eq!(database.stored_password("georgio@email.com"), hash, "a hash is not replaced by another");
        assert_eq!(server.login("georgio@email.com", &hash).status, 401);
    }
}

#[test]
fn a_rehash_never_overwrites_a_password_changed_meanwhile() {
    for engine in Engine::all() {
        let database = adopted(&engine);
        let server = serve(&database);
        // The changes race with logins whose hashing takes its 20 ms: whoever comes first, the
        // row ends as the last change or as its hash, never as the hash of an older password.
        let address = server.public;
        for round in 0..10 {
            let (old, new) = (format!("old-{round}"), format!("new-{round}"));
            database
                .sql()
                .run(&format!("UPDATE `{}`.user SET password = '{old}' WHERE id = 1", database.name));
            let login =
                std::thread::spawn(move || http::login(address, "georgio@email.com", &old).unwrap().status);
            std::thread::sleep(Duration::from_millis(round * 5));
            database
                .sql()
                .run(&format!("UPDATE `{}`.user SET password = '{new}' WHERE id = 1", database.name));
            let status = login.join().unwrap();
            assert!(status == 200 || status == 401);
            assert_eq!(database.stored_password("georgio@email.com"), new);
            server.token("georgio@email.com", &new);
        }
    }
}

#[test]
fn a_row_that_cannot_be_written_logs_in_all_the_same() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_original();
        database.create_account("SELECT");
        let server = serve(&database);
        server.token("georgio@email.com", "Admin123");
        assert_eq!(database.stored_password("georgio@email.com"), "Admin123");
        assert_eq!(server.status().database.schema_version, 0);
    }
}

#[test]
fn a_column_too_short_for_a_hash_keeps_its_password() {
    for engine in Engine::all() {
        let database = adopted(&engine);
        database
            .sql()
            .run(&format!("ALTER TABLE `{}`.user MODIFY password VARCHAR(60) NOT NULL", database.name));
        let server = serve(&database);
        server.token("georgio@email.com", "Admin123");
        server.token("georgio@email.com", "Admin123");
        assert_eq!(database.stored_password("georgio@email.com"), "Admin123");
    }
}

#[test]
fn emails_are_told_apart_exactly_under_every_collation() {
    let collations = [
        "utf8mb4_general_ci",
        "utf8mb4_bin",
        "utf8mb4_unicode_ci",
        "latin1_swedish_ci",
        "latin1_bin",
        "utf8mb3_general_ci",
        "ascii_general_ci",
    ];
    for engine in Engine::all() {
        for collation in collations {
            let database = engine.fresh();
            database.create_original();
            let charset = collation.split('_').next().unwrap();
            database.sql().run(&format!(
                "ALTER TABLE `{}`.user CONVERT TO CHARACTER SET {charset} COLLATE {collation}",
                database.name
            ));
            database.create_account("SELECT, INSERT, UPDATE, DELETE, CREATE");
            let report = database
                .migration()
                .with(&[("SCHEMA_MODE", "Existing")])
                .user("new@x.io", false, Some("secret"))
                .succeed();
            assert_eq!(report.limits, Vec::<String>::new(), "{collation}");
            let server = serve(&database);
            server.token("georgio@email.com", "Admin123");
            for email in [
                "GEORGIO@email.com",
                "géorgio@email.com",
                "georgio@email.com ",
                "georgio😀@email.com",
                "georgio\u{200b}@email.com",
            ] {
                assert_eq!(
                    server.login(email, "Admin123").status,
                    401,
                    "{email:?} under {collation} on {}",
                    engine.name
                );
            }
            assert!(database.stored_password("georgio@email.com").starts_with("$argon2id$"), "{collation}");
            let token = server.token("new@x.io", "secret");
            let claims: Value = serde_json::from_str(&server.validate(&token).body).unwrap();
            assert_eq!(claims["admin"], json!(false), "{collation}");
        }
    }
}

/// Enough to see a computation that is skipped (its 20 ms and more), little enough to be quick.
const SAMPLES: usize = 20;

#[test]
fn unknown_users_and_wrong_passwords_take_the_same_time() {
    let database = adopted(&Engine::mysql());
    database.insert("dear@x.io", "x");
    let server = database.serve(&[("LEGACY_PASSWORD_FORMATS", "plaintext"), ("LOGIN_MAX_FAILURES", "0")]);
    // One row that costs twice as much as the others raises the floor for all.
    let dear =
        "$argon2id$v=19$m=19456,t=4,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
    database
        .sql()
        .run(&format!("UPDATE `{}`.user SET password = '{dear}' WHERE email = 'dear@x.io'", database.name));
    server.token("georgio@email.com", "Admin123");
    assert_eq!(server.login("dear@x.io", "wrong").status, 401);
    let kinds = ["nobody@x.io", "georgio@email.com", "pä@x.io", "dear@x.io", "hash@x.io"];
    let mut times = vec![Vec::with_capacity(SAMPLES); kinds.len()];
    for _ in 0..SAMPLES {
        for (kind, email) in kinds.iter().enumerate() {
            let start = Instant::now();
            assert_eq!(server.login(email, "wrong").status, 401);
            times[kind].push(start.elapsed());
        }
    }
    let medians: Vec<Duration> = times
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            times[SAMPLES / 2]
        })
        .collect();
    let (least, most) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    assert!(most.as_secs_f64() < least.as_secs_f64() * 1.25, "{kinds:?}: {medians:?}");
}

/// Keys and values of a mapping in examples/original/auth.yaml, comments left out.
fn example(section: &str) -> Vec<(String, String)> {
    let manifests = include_str!("../examples/original/auth.yaml");
    let (_, rest) = manifests.split_once(&format!("\n{section}:\n")).expect("the section");
    rest.lines()
        .take_while(|line| line.starts_with("  "))
        .map(|line| {
            let (name, value) =
                line.split(" # ").next().unwrap_or(line).trim().split_once(": ").expect("name: value");
            (name.to_owned(), value.trim_matches('"').to_owned())
        })
        .collect()
}

#[test]
fn the_example_with_three_changed_lines_serves_the_originals_table() {
    for engine in Engine::all() {
        let database = engine.fresh();
        database.create_original();
        database.create_account("ALL PRIVILEGES");
        let mut environment: std::collections::BTreeMap<String, String> =
            example("data").into_iter().chain(example("stringData")).collect();
        let names: Vec<&str> = environment.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "JWT_SECRET",
                "LEGACY_PASSWORD_FORMATS",
                "MYSQL_DB",
                "MYSQL_HOST",
                "MYSQL_PASSWORD",
                "MYSQL_PORT",
                "MYSQL_USER"
            ]
        );
        // This database in place of the example's; what Services named auth and mysql add to a pod.
        environment.extend(database.environment());
        let links = [
            ("AUTH_PORT", "tcp://10.96.0.10:5000"),
            ("AUTH_SERVICE_HOST", "10.96.0.10"),
            ("MYSQL_SERVICE_HOST", "10.96.0.11"),
            ("MYSQL_PORT_3306_TCP", "tcp://10.96.0.11:3306"),
        ];
        let server = Server::start(environment, &links);
        let token = server.token("georgio@email.com", "Admin123");
        assert_eq!(server.validate(&token).status, 200);
    }
    assert_eq!(include_str!("../examples/original/auth.yaml").matches("# changed").count(), 3);
}
