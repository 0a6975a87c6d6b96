//! TLS on the public port: by clients of other makers, while the certificate is renewed, and against
//! those that only open connections.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use server_support::{
    BINARY, Database, Engine, Server,
    certificates::{Authority, Mount, Pair},
    eventually, free_address, http, program, python,
};

const EMAIL: &str = "ann@x.io";
const PASSWORD: &str = "a long secret";
/// Between two looks of the server at its files, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(8);

fn with_user() -> Database {
    let database = Engine::mysql().fresh();
    database.admin_migration().user(EMAIL, true, Some(PASSWORD)).succeed();
    database
}

fn serve(database: &Database, mount: &Mount, more: &[(&str, &str)]) -> Server {
    let [(certificate, chain), (key, private)] = &mount.variables();
    let tls = [(*certificate, chain.as_str()), (*key, private.as_str())];
    database.serve(&[&tls[..], more].concat())
}

/// Whether a text holds anything of this key, which is an envelope of a few lines.
fn tells(text: &str, pair: &Pair) -> bool {
    pair.key.lines().filter(|line| !line.starts_with('-')).any(|line| text.contains(line))
}

#[test]
fn curl_logs_in_and_validates_with_both_versions_of_tls_and_http() {
    let (database, authority) = (with_user(), Authority::new());
    let (pair, other) = (authority.issue(2040), authority.issue(2040));
    let server = serve(&database, &Mount::new(&pair.chain, &pair.key), &[]);
    let curl = |pin: &str, arguments: &[&str]| {
        // The pin stands for the authority, whose file curl could not see from its own root.
        let output = program("TEST_CURL")
            .args(["-sS", "-X", "POST", "--insecure", "--pinnedpubkey", pin])
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (login, validate) =
        (format!("https://{}/login", server.public), format!("https://{}/validate", server.public));
    let credentials = format!("{EMAIL}:{PASSWORD}");
    for (version, spoken) in [
        (["--http1.1", "--tls-max", "1.2"], " 1.1"),
        (["--http1.1", "--tls-max", "1.3"], " 1.1"),
        (["--http2", "--tls-max", "1.2"], " 2"),
        (["--http2", "--tls-max", "1.3"], " 2"),
    ] {
        let (_, token) = curl(&pair.pin, &[&version[..], &["-u", &credentials, &login]].concat());
        let bearer = format!("Authorization: Bearer {token}");
        let ask = ["-w", " %{http_version}", "-H", &bearer, &validate];
        let (_, answer) = curl(&pair.pin, &[&version[..], &ask].concat());
        let (claims, version) = answer.rsplit_once('}').unwrap();
        let claims: Value = serde_json::from_str(&format!("{claims}}}")).unwrap();
        assert_eq!((&claims["username"], version), (&json!(EMAIL), spoken));
    }
    assert!(!curl(&other.pin, &["--no-show-error", &validate]).0, "curl does look at the key");
    assert!(!tells(&server.log(), &pair), "{}", server.log());
}

#[test]
fn python_trusts_the_chain_by_its_root_alone() {
    let (database, authority) = (with_user(), Authority::new());
    let pair = authority.issue(2040);
    let server = serve(&database, &Mount::new(&pair.chain, &pair.key), &[]);
    let url = format!("https://{}", server.public);
    let answer =
        python("tls.py", &json!({"url": url, "authority": authority.root, "auth": [EMAIL, PASSWORD]}));
    assert_eq!(answer["claims"]["username"], EMAIL);
}

#[test]
fn plain_http_is_closed_also_to_administrators_and_the_operations_port_stays_plain() {
    let (database, authority) = (with_user(), Authority::new());
    let pair = authority.issue(2040);
    let admin = free_address();
    let administration =
        [("ADMIN_ADDRESS", &*admin.to_string()), ("ADMIN_KEY", "an administration key of 32 bytes or more")];
    let server = serve(&database, &Mount::new(&pair.chain, &pair.key), &administration);
    for port in [server.public, admin] {
        let start = Instant::now();
        let answer = http::validate(port, "x");
        assert!(answer.is_err() && start.elapsed() < Duration::from_secs(2), "{answer:?}");
        authority.connect(port).unwrap();
    }
    assert!(authority.connect(server.public).unwrap().is_answered());
    assert!(server.is_ready());
}

#[test]
fn a_renewed_certificate_is_served_to_new_connections_and_open_ones_go_on() {
    let (database, authority) = (with_user(), Authority::new());
    let (first, second, third) = (authority.issue(2040), authority.issue(2041), authority.issue(2042));
    let mount = Mount::new(&first.chain, &first.key);
    let server = serve(&database, &mount, &[]);
    let shown = |pair: &Pair| authority.connect(server.public).unwrap().shows(pair);
    let expires = || server.metric("authservice_tls_certificate_expires_seconds");
    let mut kept = authority.connect(server.public).unwrap();
    assert!(kept.shows(&first) && kept.is_answered());
    assert_eq!(expires(), 2_209_075_200);

    mount.exchange(&second.chain, &second.key);
    eventually("the new certificate", SOON, || shown(&second));
    assert!(kept.is_answered(), "{}", server.log());
    assert_eq!(expires(), 2_240_697_600);

    let warnings = || server.log().matches("keeping the TLS certificate as it is").count();
    let broken = third.key.replacen("PRIVATE KEY", "SECRET", 1);
    for (number, (chain, key)) in
        [(&third.chain, &second.key), (&third.chain, &broken)].into_iter().enumerate()
    {
        mount.exchange(chain, key);
        eventually("a warning", SOON, || warnings() > number);
        assert!(shown(&second) && kept.is_answered());
    }
    std::thread::sleep(Duration::from_secs(4));
    assert!(kept.is_answered());
    assert_eq!(warnings(), 2, "each is told once: {}", server.log());
    let warning = server.log().lines().find(|line| line.contains("keeping")).unwrap().to_owned();
    assert!(warning.contains(r#""level":"WARN""#), "{warning}");
    let fault = format!("TLS_KEY_FILE names {}, which is not the key", mount.path("tls.key").display());
    assert!(warning.contains(&fault), "{warning}");

    mount.exchange(&third.chain, &third.key);
    eventually("the certificate after the broken ones", SOON, || shown(&third));
    assert!(kept.is_answered());
    for pair in [&first, &second, &third] {
        assert!(!tells(&server.log(), pair), "{}", server.log());
    }
}

#[test]
fn a_handshake_that_is_never_finished_holds_its_connection_for_the_time_of_a_header() {
    let (database, authority) = (with_user(), Authority::new());
    let pair = authority.issue(2040);
    let server = serve(&database, &Mount::new(&pair.chain, &pair.key), &[]);
    let start = Instant::now();
    let mut silent: Vec<_> = (0..20).map(|_| TcpStream::connect(server.public).unwrap()).collect();
    // The head of a ClientHello of 512 bytes (RFC 8446 section 5.1), and no more.
    silent[0].write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    // The handshake takes nothing from the time, and gives nothing to it.
    let mut late = authority.connect(server.public).unwrap();
    eventually("counted", SOON, || server.metric("authservice_connections") == 21);
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let took = start.elapsed();
    assert!((9..13).contains(&took.as_secs()), "{took:?}");
    eventually("none is counted any more", SOON, || server.metric("authservice_connections") == 0);
    assert!(!late.is_answered(), "a connection without a request ends as soon");
    assert!(authority.connect(server.public).unwrap().is_answered());
}

#[test]
fn an_unfinished_handshake_does_not_delay_the_end() {
    let (database, authority) = (with_user(), Authority::new());
    let pair = authority.issue(2040);
    let mut server = serve(&database, &Mount::new(&pair.chain, &pair.key), &[("DRAIN_DELAY", "0s")]);
    let silent = TcpStream::connect(server.public).unwrap();
    eventually("counted", SOON, || server.metric("authservice_connections") == 1);
    server.terminate();
    eventually("ended", Duration::from_secs(5), || server.child.try_wait().unwrap().is_some());
    assert!(server.child.wait().unwrap().success());
    drop(silent);
}

#[test]
fn a_pair_that_does_not_fit_is_refused_at_the_start() {
    let authority = Authority::new();
    let (pair, other) = (authority.issue(2040), authority.issue(2040));
    let mount = Mount::new(&pair.chain, &other.key);
    let start = |variables: &[(&'static str, String)]| {
        let output = Command::new(BINARY)
            .arg("serve")
            .env_clear()
            .envs([("MYSQL_HOST", "x"), ("MYSQL_USER", "x"), ("MYSQL_PASSWORD", "x")])
            .env("JWT_SECRET", server_support::JWT_SECRET)
            .envs([("LISTEN_ADDRESS", "127.0.0.1:0"), ("OPS_ADDRESS", "127.0.0.1:0")])
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let variables = mount.variables();
    let refusal = format!(
        "auth-server: TLS_KEY_FILE names {}, which is not the key of the first certificate in {}: replace one of them, and let the chain begin with the server's own certificate\n",
        variables[1].1, variables[0].1
    );
    assert_eq!(start(&variables), (Some(1), refusal));
    assert_eq!(
        start(&variables[..1]),
        (
            Some(78),
            "auth-server: the configuration has 1 fault:\n  TLS_KEY_FILE is not set although TLS_CERT_FILE is: set both, or neither for plain HTTP\n".to_owned()
        )
    );
}
