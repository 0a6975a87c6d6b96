//! Start, limits and end of the server's process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use server_support::{BINARY, Database, Engine, Server, eventually, http};

fn with_user() -> Database {
    let database = Engine::mysql().fresh();
    database.admin_migration().user("ann@x.io", true, Some("secret")).succeed();
    database
}

#[test]
fn every_configuration_error_is_reported_at_once_and_no_secret_with_it() {
    for command in ["serve", "migrate"] {
        let output = Command::new(BINARY)
            .arg(command)
            .env_clear()
            .envs([
                ("MYSQL_PORT", "70000"),
                ("JWT_SECRET", "sarcasm"),
                ("SCHEMA_MODE", "None"),
                ("MYSQL_PASSWORD", "hunter2"),
            ])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78));
        let expected = match command {
            "serve" => {
                "auth-server: the configuration has 4 faults:\n  \
                 MYSQL_HOST is not set: set it to the host name of the database\n  \
                 MYSQL_USER is not set: set it to the database account of the server\n  \
                 MYSQL_PORT \"70000\" is no port: use a number from 1 to 65535\n  \
                 JWT_SECRET has 7 bytes, HS256 needs at least 32: make one with: openssl rand -base64 48\n"
            }
            _ => {
                "auth-server: the configuration has 4 faults:\n  \
                 MYSQL_HOST is not set: set it to the host name of the database\n  \
                 MYSQL_USER is not set: set it to the database account of the server\n  \
                 MYSQL_PORT \"70000\" is no port: use a number from 1 to 65535\n  \
                 SCHEMA_MODE \"None\" is no schema mode: use Managed or Existing\n"
            }
        };
        assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
    }
}

#[test]
fn hash_and_healthcheck_do_what_they_say() {
    let mut child =
        Command::new(BINARY).arg("hash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a secret\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap();
    let database = with_user();
    database.insert("hashed@x.io", hash.trim());
    let server = database.serve(&[]);
    server.token("hashed@x.io", "a secret");

    let check = |address: SocketAddr| {
        Command::new(BINARY).arg("healthcheck").env("OPS_ADDRESS", address.to_string()).output().unwrap()
    };
    assert!(check(server.ops).status.success());
    server.terminate();
    eventually("unready", Duration::from_secs(2), || !server.is_ready());
    let draining = check(server.ops);
    assert_eq!(
        (draining.status.code(), String::from_utf8(draining.stderr).unwrap().as_str()),
        (Some(1), "auth-server: draining\n")
    );
    assert!(!check(server_support::free_address()).status.success());
}

#[test]
fn the_environment_and_the_log_give_nothing_away() {
    let database = with_user();
    let server = database.serve(&[("RUST_LOG", "trace")]);
    let token = server.token("ann@x.io", "secret");
    assert_eq!(server.validate(&token).status, 200);
    assert_eq!(server.login("ann@x.io", "wrong-guess").status, 401);
    let log = server.log();
    for secret in
        [token.as_str(), "wrong-guess", &database.password, server_support::JWT_SECRET, "$argon2id$"]
    {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn keys_of_the_ring_arrive_while_running() {
    let database = with_user();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &[u8]| std::fs::write(folder.path().join(name), value).unwrap();
    write("first.key", b"first key of the ring, 32 bytes..");
    write("first.signs", b"2020-01-01T00:00:00Z");
    let ring = [("KEY_RING_DIR", folder.path().to_str().unwrap())];
    let behind = database.serve(&ring);
    write("second.key", b"second key of the ring, 32 bytes.");
    write("second.signs", b"2021-01-01T00:00:00Z");
    let ahead = database.serve(&ring);
    assert_eq!(behind.status().signing_key_id, "first");
    let (old, new) = (behind.token("ann@x.io", "secret"), ahead.token("ann@x.io", "secret"));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(behind.validate(&new).status, 200, "an unknown key id makes it look again");
    assert_eq!(ahead.validate(&old).status, 200);
    let status = behind.status();
    assert_eq!(
        (status.key_ids, status.signing_key_id.as_str()),
        (vec!["first".to_owned(), "second".to_owned()], "second")
    );
    write("first.retire-after", b"2022-01-01T00:00:00Z");
    eventually("the old key retires", Duration::from_secs(15), || ahead.validate(&old).status == 403);
    std::fs::remove_file(folder.path().join("second.key")).unwrap();
    thread::sleep(Duration::from_secs(12));
    assert_eq!(ahead.validate(&new).status, 200, "a broken ring does not replace a good one");
}

#[test]
fn headers_and_bodies_have_limits() {
    let database = with_user();
    let server = database.serve(&[]);
    let huge = "a".repeat(9000);
    let answer =
        http::call(server.public, "POST", "/validate", &[("Authorization", &format!("Bearer {huge}"))])
            .unwrap();
    assert_eq!(answer.status, 431);
    let near = "a".repeat(7900);
    assert_eq!(server.validate(&near).body, "Not authorized: malformed");

    let body = |length: usize, claimed: usize| {
        let head = format!(
            "POST /login HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {claimed}\r\n\r\n"
        );
        let answer = http::exchange(server.public, &[head.as_bytes(), &vec![b'x'; length]].concat()).unwrap();
        http::parse(&answer).unwrap().status
    };
    assert_eq!(body(16_384, 16_384), 401);
    assert_eq!(body(16_385, 16_385), 413);
    assert_eq!(body(500_000, 500_000), 413);
    assert_eq!(body(0, 2_000_000_000), 413, "without waiting for it");
    let chunked = b"POST /login HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(http::parse(&http::exchange(server.public, chunked).unwrap()).unwrap().status, 401);
}

#[test]
fn slow_clients_are_let_go() {
    let database = with_user();
    let server = database.serve(&[]);
    let until_closed = |sent: &'static [&'static [u8]]| {
        let address = server.public;
        thread::spawn(move || {
            let start = Instant::now();
            let mut stream = TcpStream::connect(address).unwrap();
            for part in sent {
                let _ = stream.write_all(part);
                thread::sleep(Duration::from_secs(1));
            }
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            (start.elapsed(), http::parse(&answer).map(|answer| answer.status))
        })
    };
    let clients = [
        (until_closed(&[b""]), None),
        (until_closed(&[b"POST /log"]), None),
        (until_closed(&[b"P", b"O", b"S", b"T", b" ", b"/"]), None),
        (until_closed(&[b"POST /login HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf"]), Some(408)),
    ];
    for (client, status) in clients {
        let (took, answer) = client.join().unwrap();
        assert!((8..25).contains(&took.as_secs()), "{took:?}");
        assert_eq!(answer, status);
    }
    assert!(server.is_ready());
}

#[test]
fn a_login_flood_does_not_slow_validation_and_overflow_is_refused_politely() {
    let database = with_user();
    let server = database.serve(&[("HASHING_THREADS", "1"), ("LOGIN_MAX_FAILURES", "0")]);
    let token = server.token("ann@x.io", "secret");
    let address = server.public;
    let flood: Vec<_> =
        (0..300).map(|_| thread::spawn(move || http::login(address, "ann@x.io", "wrong").unwrap())).collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let start = Instant::now();
        assert_eq!(server.validate(&token).status, 200);
        slowest = slowest.max(start.elapsed());
    }
    let mut counts = BTreeMap::new();
    for answer in flood {
        let answer = answer.join().unwrap();
        assert!(answer.status == 401 || answer.header("retry-after") == Some("1"), "{answer:?}");
        *counts.entry(answer.status).or_insert(0) += 1;
    }
    assert_eq!(counts.keys().copied().collect::<Vec<u16>>(), [401, 503], "{counts:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    eventually("the queue empties", Duration::from_secs(5), || {
        http::get(server.ops, "/metrics").unwrap().body.contains("authservice_hashing_queue 0\n")
    });
}

/// What a Service does: new connections go to the servers that were ready when last asked.
struct Endpoints {
    servers: Vec<(SocketAddr, SocketAddr)>,
    ready: Mutex<Vec<SocketAddr>>,
}

impl Endpoints {
    fn one(&self, number: usize) -> SocketAddr {
        let ready = self.ready.lock().unwrap();
        ready[number % ready.len()]
    }

    fn probe(&self) {
        let ready = self
            .servers
            .iter()
            .filter(|(_, ops)| http::get(*ops, "/readyz").is_ok_and(|answer| answer.status == 200));
        *self.ready.lock().unwrap() = ready.map(|(public, _)| *public).collect();
    }
}

#[test]
fn a_terminating_server_breaks_no_call_of_a_churning_client() {
    let database = with_user();
    let mut leaving = database.serve(&[("DRAIN_DELAY", "3s")]);
    let staying = database.serve(&[]);
    let token = staying.token("ann@x.io", "secret");
    let endpoints = Arc::new(Endpoints {
        servers: vec![(leaving.public, leaving.ops), (staying.public, staying.ops)],
        ready: Mutex::new(vec![leaving.public, staying.public]),
    });
    let stop = Arc::new(AtomicBool::new(false));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (endpoints, stop, failures, token) =
                (Arc::clone(&endpoints), Arc::clone(&stop), Arc::clone(&failures), token.clone());
            thread::spawn(move || {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    let address = endpoints.one(calls);
                    let answer = if number == 0 {
                        http::login(address, "ann@x.io", "secret")
                    } else {
                        http::validate(address, &token)
                    };
                    match answer {
                        Ok(answer) if answer.status == 200 => {}
                        other => failures.lock().unwrap().push(format!("{address}: {other:?}")),
                    }
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let prober = thread::spawn({
        let (endpoints, stop) = (Arc::clone(&endpoints), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_secs(1));
                endpoints.probe();
            }
        }
    });
    thread::sleep(Duration::from_secs(1));
    // Kept open and idle: it must be closed, not waited for.
    let idle = TcpStream::connect(leaving.public).unwrap();
    leaving.terminate();
    let start = Instant::now();
    eventually("unready at once", Duration::from_millis(500), || !leaving.is_ready());
    eventually("ended", Duration::from_secs(10), || leaving.child.try_wait().unwrap().is_some());
    assert!(start.elapsed() >= Duration::from_secs(3));
    assert!(leaving.child.wait().unwrap().success());
    drop(idle);
    stop.store(true, Ordering::Relaxed);
    prober.join().unwrap();
    let calls: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(calls > 200, "{calls}");
    assert_eq!(*failures.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn requests_in_flight_are_finished_and_kept_connections_told_to_close() {
    let database = with_user();
    let mut server = database.serve(&[("DRAIN_DELAY", "1s"), ("HASHING_THREADS", "1")]);
    let token = server.token("ann@x.io", "secret");
    let request = format!(
        "POST /validate HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    );
    let mut kept = TcpStream::connect(server.public).unwrap();
    kept.write_all(request.as_bytes()).unwrap();
    let mut buffer = [0; 4096];
    let length = kept.read(&mut buffer).unwrap();
    assert!(!String::from_utf8_lossy(&buffer[..length]).to_lowercase().contains("connection: close"));
    server.terminate();
    eventually("draining", Duration::from_millis(500), || !server.is_ready());
    kept.write_all(request.as_bytes()).unwrap();
    let length = kept.read(&mut buffer).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..length]).to_lowercase().contains("connection: close"));
    // Logins of 20 ms each on one thread are in flight when the listener closes; on a machine that
    // is busy with other things some are told to try again, which is an answer too.
    thread::sleep(Duration::from_millis(300));
    let address = server.public;
    let logins: Vec<_> =
        (0..40).map(|_| thread::spawn(move || http::login(address, "ann@x.io", "secret").unwrap())).collect();
    let answers: Vec<_> = logins.into_iter().map(|login| login.join().unwrap()).collect();
    assert!(answers.iter().any(|answer| answer.status == 200), "{answers:?}");
    let polite = |answer: &http::Answer| {
        answer.status == 200 || (answer.status, answer.header("retry-after")) == (503, Some("1"))
    };
    assert!(answers.iter().all(polite), "{answers:?}");
    eventually("ended", Duration::from_secs(10), || server.child.try_wait().unwrap().is_some());
}

#[test]
fn a_server_whose_keys_cannot_be_used_does_not_start_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let output = Command::new(BINARY)
            .arg("serve")
            .env_clear()
            .envs([
                ("MYSQL_HOST", "x"),
                ("MYSQL_USER", "x"),
                ("MYSQL_PASSWORD", "x"),
                ("KEY_RING_DIR", folder.path().to_str().unwrap()),
            ])
            .envs([("LISTEN_ADDRESS", "127.0.0.1:0"), ("OPS_ADDRESS", "127.0.0.1:0")])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        start(),
        "auth-server: the key ring holds no key: add an entry <kid>.key of at least 32 random bytes\n"
    );
    std::fs::write(folder.path().join("a.key"), "short").unwrap();
    assert!(start().contains("has 5 bytes, HS256 needs at least 32"));
}

#[test]
fn memory_and_start_are_small() {
    let database = with_user();
    let start = Instant::now();
    let server = Server::start(database.environment(), &[]);
    let took = start.elapsed();
    server.token("ann@x.io", "secret");
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    println!("start to ready {took:?}, {resident}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}
