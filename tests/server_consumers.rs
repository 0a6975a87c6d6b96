//! Libraries of other languages take our tokens, and we theirs; slow clients of an independent tool.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use server_support::{
    Engine, JWT_SECRET, Server, ask, eventually,
    key_files::{KEYS, published, ring},
    program,
};

/// A program among the tests' clients that asks a library of another language.
struct Library {
    name: &'static str,
    words: &'static [&'static str],
    /// Algorithms that the library does not know.
    lacks: &'static [&'static str],
}

const LIBRARIES: [Library; 4] = [
    Library { name: "jose", words: &["/usr/bin/node", "-e", include_str!("clients/jose.js")], lacks: &[] },
    Library { name: "golang-jwt", words: &["/usr/local/bin/golang-jwt"], lacks: &[] },
    Library { name: "java-jwt", words: &java("JavaJwt"), lacks: &["EdDSA"] },
    Library { name: "Nimbus", words: &java("Nimbus"), lacks: &[] },
];

/// The words that start a program of Java's, which without /proc finds its own libraries only where it is told.
const fn java(program: &str) -> [&str; 6] {
    [
        "/usr/bin/env",
        "LD_LIBRARY_PATH=/usr/lib/jvm/default-java/lib",
        "/usr/lib/jvm/default-java/bin/java",
        "-cp",
        "/usr/local/lib/java:/usr/local/lib/java/*",
        program,
    ]
}

impl Library {
    fn ask(&self, question: &Value) -> Result<Value, String> {
        let mut command = program("TEST_CONSUMERS");
        command.args(self.words);
        let Output { status, stdout, stderr } = ask(command, question);
        if !status.success() {
            return Err(String::from_utf8_lossy(&stderr).into_owned());
        }
        Ok(serde_json::from_slice(&stdout).unwrap_or_else(|_| json!(String::from_utf8_lossy(&stdout))))
    }
}

fn claims(server: &Server, token: &str) -> Value {
    let answer = server.validate(token);
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn libraries_of_other_languages_verify_our_tokens_and_sign_such_as_we_accept() {
    let database = Engine::mysql().fresh();
    database.admin_migration().user("ann@x.io", true, Some("a long secret")).succeed();
    let server = database.serve(&[]);
    let token = server.token("ann@x.io", "a long secret");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let original = json!({"username": "bob@x.io", "exp": now + 60, "iat": now, "admin": true});
    for library in LIBRARIES {
        let name = library.name;
        let found = library.ask(&json!({"token": token, "secret": JWT_SECRET}));
        assert_eq!(found, Ok(claims(&server, &token)), "{name}");
        let other = json!({"token": token, "secret": "another secret of thirty-two bytes"});
        assert!(library.ask(&other).is_err(), "{name} must be able to refuse");

        let signed = library.ask(&json!({"claims": original, "secret": JWT_SECRET})).unwrap();
        assert_eq!(claims(&server, signed.as_str().unwrap()), original, "{name}");
        let forged = json!({"claims": original, "secret": "another secret of thirty-two bytes"});
        let forged = library.ask(&forged).unwrap();
        assert_eq!(server.validate(forged.as_str().unwrap()).status, 403, "{name}");
    }
}

/// The token with another character in its signature.
fn altered(token: &str) -> String {
    let (start, end) = token.split_at(token.len() - 20);
    let other = if end.starts_with('A') { 'B' } else { 'A' };
    format!("{start}{other}{}", &end[1..])
}

#[test]
fn libraries_of_other_languages_verify_by_the_published_keys() {
    let database = Engine::mariadb().fresh();
    database.admin_migration().user("ann@x.io", true, Some("a long secret")).succeed();
    for (algorithm, entry, pem) in KEYS {
        let signs = format!("{}.signs", algorithm.to_lowercase());
        let folder = ring(&[(entry, pem), (&signs, "2020-01-01T00:00:00Z")]);
        let server = database.serve(&[("KEY_RING_DIR", folder.path().to_str().unwrap())]);
        let token = server.token("ann@x.io", "a long secret");
        let published = published(&server);
        let altered = altered(&token);
        for library in LIBRARIES {
            let name = library.name;
            let found = library.ask(&json!({"token": token, "jwks": published}));
            if library.lacks.contains(&algorithm) {
                assert!(found.is_err(), "{name} has come to know {algorithm}");
                continue;
            }
            assert_eq!(found, Ok(claims(&server, &token)), "{name} with {algorithm}");
            let refused = library.ask(&json!({"token": altered, "jwks": published}));
            assert!(refused.is_err(), "{name} with {algorithm}: {refused:?}");
        }
    }
}

fn without_colours(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    first
        + &parts
            .filter_map(|part| Some(part.split_once(|c: char| c.is_ascii_alphabetic())?.1))
            .collect::<String>()
}

/// slowhttptest opens 600 connections in each of its ways and sends, or reads, as slowly as it can.
#[test]
fn slow_headers_bodies_and_readers_hold_nobody_up() {
    const CONNECTIONS: &str = "600";
    let database = Engine::mysql().fresh();
    database.admin_migration().user("ann@x.io", true, Some("a long secret")).succeed();
    let server = database.serve(&[]);
    let token = server.token("ann@x.io", "a long secret");
    let url = |path: &str| format!("http://{}{path}", server.public);
    let common = ["-c", CONNECTIONS, "-r", "300", "-l", "25", "-p", "3"];
    let ways: [(&str, Vec<&str>, String); 3] = [
        ("slow headers", vec!["-H", "-i", "5", "-t", "POST"], url("/validate")),
        ("slow bodies", vec!["-B", "-i", "5", "-s", "8192", "-t", "POST"], url("/login")),
        ("slow readers", vec!["-X", "-n", "5", "-z", "1", "-w", "1", "-y", "2"], url("/openapi.json")),
    ];
    let attacks: Vec<_> = ways
        .into_iter()
        .map(|(name, words, url)| {
            let mut command = program("TEST_CONSUMERS");
            command.arg("/usr/bin/slowhttptest").args(words).args(common).args(["-u", &url]);
            (name, command.stdout(Stdio::piped()).spawn().unwrap())
        })
        .collect();
    let (start, mut calls, mut longest) = (Instant::now(), 0_u32, Duration::ZERO);
    while start.elapsed() < Duration::from_secs(20) {
        let call = Instant::now();
        assert_eq!(server.validate(&token).status, 200);
        (calls, longest) = (calls + 1, longest.max(call.elapsed()));
        std::thread::sleep(Duration::from_millis(50));
    }
    server.token("ann@x.io", "a long secret");
    for (name, attack) in attacks {
        let output = attack.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name}: {told}");
        let told = without_colours(&told);
        let figures = |what: &str| -> Vec<String> {
            told.lines().filter_map(|line| Some(line.strip_prefix(what)?.trim().to_owned())).collect()
        };
        let most = figures("connected:").iter().filter_map(|count| count.parse::<u32>().ok()).max();
        assert!(most >= Some(300), "{name} attacked nobody: {told}");
        assert!(figures("service available:").iter().all(|available| available == "YES"), "{name}: {told}");
    }
    assert!(calls > 100, "{calls} calls of /validate meanwhile, the longest {longest:?}");
    eventually("every slow connection has ended", Duration::from_secs(20), || {
        server.metric("authservice_connections") == 0
    });
}
