//! Stored passwords of every form, as other software makes them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use server_support::{BINARY, Database, Engine, Server, eventually, http, python};

const EVERY_FORMAT: (&str, &str) = ("LEGACY_PASSWORD_FORMATS", "plaintext,bcrypt,werkzeug,pbkdf2,scrypt");

/// Kinds that tests/clients/passwords.py makes, the name of the format each is accepted by (Argon2 always
/// is), and whether a login replaces it.
const KINDS: [(&str, &str, bool); 16] = [
    ("argon2id", "", false),
    ("argon2i", "", true),
    ("argon2id, weak", "", true),
    ("bcrypt 2a", "bcrypt", true),
    ("bcrypt 2b", "bcrypt", true),
    ("bcrypt 2y", "bcrypt", true),
    ("werkzeug", "werkzeug", true),
    ("werkzeug pbkdf2", "werkzeug", true),
    ("werkzeug pbkdf2:sha256", "werkzeug", true),
    ("werkzeug pbkdf2:sha1", "werkzeug", true),
    ("werkzeug pbkdf2:sha512", "werkzeug", true),
    ("passlib pbkdf2_sha256", "pbkdf2", true),
    ("passlib pbkdf2_sha512", "pbkdf2", true),
    ("phc pbkdf2", "pbkdf2", true),
    ("passlib scrypt", "scrypt", true),
    ("passlib argon2", "", false),
];

/// Letters that encodings and collations like to confuse.
const PASSWORD: &str = "pässwörd: ключ $2b$ \"'%";

/// Passwords hashed by other software.
fn made(kinds: &[(&str, &str)]) -> Vec<String> {
    let answer = python("passwords.py", &json!({"make": kinds}));
    answer["made"].as_array().unwrap().iter().map(|made| made.as_str().unwrap().to_owned()).collect()
}

fn verified_by_argon2_cffi(stored: &str, password: &str) -> bool {
    python("passwords.py", &json!({"verify": [[stored, password]]}))["verified"] == json!([true])
}

/// An empty table of the original's form.
fn table(engine: &Engine) -> Database {
    let database = engine.fresh();
    database.create_original();
    database.create_account("SELECT, INSERT, UPDATE, DELETE, CREATE");
    database.migration().with(&[("SCHEMA_MODE", "Existing")]).succeed();
    database
}

fn email(kind: usize) -> String {
    format!("user-{kind}@x.io")
}

fn unverifiable(server: &Server, stored: &str) -> u64 {
    server.metric(&format!("authservice_unverifiable_passwords_total{{stored=\"{stored}\"}}"))
}

#[test]
fn hashes_of_other_software_log_in_where_they_are_accepted_and_become_argon2id() {
    let asked: Vec<(&str, &str)> = KINDS.iter().map(|(kind, ..)| (*kind, PASSWORD)).collect();
    let stored = made(&asked);
    for engine in Engine::all() {
        let database = table(&engine);
        for (kind, stored) in stored.iter().enumerate() {
            database.insert(&email(kind), stored);
        }
        {
            let server = database.serve(&[]);
            for (kind, (name, format, _)) in KINDS.iter().enumerate().filter(|(_, kind)| !kind.1.is_empty()) {
                let before = unverifiable(&server, format);
                assert_eq!(server.login(&email(kind), PASSWORD).status, 401, "{name} was not asked for");
                assert_eq!(unverifiable(&server, format), before + 1, "{name}");
                assert_eq!(database.stored_password(&email(kind)), stored[kind], "{name}");
            }
            assert!(server.log().contains(r#""stored":"bcrypt""#), "{}", server.log());
        }
        let server = database.serve(&[EVERY_FORMAT]);
        let mut after_login = Vec::new();
        for (kind, (name, _, replaced)) in KINDS.iter().enumerate() {
            let email = email(kind);
            for wrong in [&stored[kind], &format!("{PASSWORD} ")] {
                assert_eq!(server.login(&email, wrong).status, 401, "{name} with {wrong:?}");
            }
            assert_eq!(
                database.stored_password(&email),
                stored[kind],
                "{name}: a wrong password never writes"
            );
            server.token(&email, PASSWORD);
            let after = database.stored_password(&email);
            assert_eq!(after != stored[kind], *replaced, "{name}: {after}");
            if *replaced {
                assert!(after.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{name}: {after}");
            }
            server.token(&email, PASSWORD);
            assert_eq!(database.stored_password(&email), after, "{name}: replaced once");
            after_login.push(json!([after, PASSWORD]));
        }
        let verified = python("passwords.py", &json!({"verify": after_login}))["verified"].clone();
        assert_eq!(verified, json!(vec![true; KINDS.len()]), "{after_login:?}");
        println!("{}: {} kinds logged in and verify with argon2-cffi", engine.name, KINDS.len());
    }
}

#[test]
fn each_format_is_accepted_by_its_own_name_alone() {
    let kinds = ["bcrypt 2b", "werkzeug pbkdf2:sha256", "phc pbkdf2", "passlib scrypt"];
    let stored = made(&kinds.map(|kind| (kind, "a password")));
    let database = table(&Engine::mysql());
    for (kind, stored) in stored.iter().enumerate() {
        database.insert(&email(kind), stored);
    }
    for (accepted, format) in ["bcrypt", "werkzeug", "pbkdf2", "scrypt"].iter().enumerate() {
        let server = database.serve(&[("LEGACY_PASSWORD_FORMATS", format), ("REHASH_PASSWORDS", "false")]);
        for (kind, name) in kinds.iter().enumerate() {
            let expected = if kind == accepted { 200 } else { 401 };
            assert_eq!(server.login(&email(kind), "a password").status, expected, "{name} by {format}");
        }
    }
    for (kind, stored) in stored.iter().enumerate() {
        assert_eq!(&database.stored_password(&email(kind)), stored, "kept as it is");
    }
}

#[test]
fn new_hashes_follow_the_parameters_and_stronger_ones_are_kept() {
    for engine in Engine::all() {
        let database = table(&engine);
        let stronger =
            [("ARGON2_MEMORY_KIB", "12288"), ("ARGON2_ITERATIONS", "4"), ("ARGON2_PARALLELISM", "2")];
        let plaintext = [("LEGACY_PASSWORD_FORMATS", "plaintext")];
        let begins = |prefix: &str| {
            let stored = database.stored_password("georgio@email.com");
            assert!(stored.starts_with(prefix), "{stored}");
            assert!(verified_by_argon2_cffi(&stored, "Admin123"));
            stored
        };
        database.serve(&plaintext).token("georgio@email.com", "Admin123");
        begins("$argon2id$v=19$m=19456,t=2,p=1$");
        database.serve(&stronger).token("georgio@email.com", "Admin123");
        let kept = begins("$argon2id$v=19$m=12288,t=4,p=2$");
        database.serve(&[]).token("georgio@email.com", "Admin123");
        assert_eq!(database.stored_password("georgio@email.com"), kept);

        let report =
            database.migration().with(&stronger).user("new@x.io", true, Some("a password")).succeed();
        assert_eq!(report.created, ["user new@x.io"]);
        assert!(database.stored_password("new@x.io").starts_with("$argon2id$v=19$m=12288,t=4,p=2$"));
    }
}

#[test]
fn hashes_beyond_the_bounds_cost_no_more_than_any_other() {
    let zeros = "0".repeat(64);
    let dear = [
        "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
            .to_owned(),
        "$argon2id$v=19$m=131072,t=16,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
            .to_owned(),
        "$2b$31$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned(),
        format!("pbkdf2:sha256:4000000000$salt${zeros}"),
        format!("scrypt:1073741824:8:1$salt${zeros}"),
        "$pbkdf2-sha512$i=4294967295$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".to_owned(),
        "$scrypt$ln=31,r=4294967295,p=4294967295$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".to_owned(),
    ];
    for engine in Engine::all() {
        let database = table(&engine);
        for (kind, stored) in dear.iter().enumerate() {
            database.insert(&email(kind), stored);
        }
        let server = database.serve(&[EVERY_FORMAT, ("HASHING_THREADS", "1")]);
        for (kind, stored) in dear.iter().enumerate() {
            let start = Instant::now();
            assert_eq!(server.login(&email(kind), "whatever").status, 401, "{stored}");
            assert!(start.elapsed() < Duration::from_secs(2), "{stored}: {:?}", start.elapsed());
            assert_eq!(&database.stored_password(&email(kind)), stored);
        }
        assert_eq!(unverifiable(&server, "out_of_bounds"), dear.len() as u64);
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
        println!("{}: {peak}", engine.name);
        assert!(kib < 100 * 1024, "{peak}");
    }
}

#[test]
fn a_rehash_never_overwrites_a_hash_changed_meanwhile() {
    let stored = made(&[("bcrypt 2b", "an old one"), ("werkzeug pbkdf2:sha256", "a new one")]);
    let [old, new] = stored.as_slice() else { panic!("{stored:?}") };
    for engine in Engine::all() {
        let database = table(&engine);
        let server = database.serve(&[EVERY_FORMAT]);
        let address = server.public;
        let set = |stored: &str| {
            database
                .sql()
                .run(&format!("UPDATE `{}`.user SET password = '{stored}' WHERE id = 1", database.name));
        };
        for round in 0..8 {
            set(old);
            let login = thread::spawn(move || {
                http::login(address, "georgio@email.com", "an old one").unwrap().status
            });
            thread::sleep(Duration::from_millis(round * 8));
            set(new);
            assert!(matches!(login.join().unwrap(), 200 | 401));
            assert_eq!(&database.stored_password("georgio@email.com"), new);
        }
        server.token("georgio@email.com", "a new one");
    }
}

#[test]
fn a_starting_server_knows_the_dearest_hash_before_its_first_login() {
    let stored = made(&[("bcrypt 12", "a password")]);
    for engine in Engine::all() {
        let database = table(&engine);
        database.insert("dear@x.io", &stored[0]);
        let floor = |server: &Server| server.metric("authservice_login_floor_milliseconds");
        let knowing = database.serve(&[EVERY_FORMAT]);
        let measured = |line: &str| line.contains("forms of stored passwords known");
        eventually("the table is known", Duration::from_secs(20), || knowing.log().lines().any(measured));
        let unknowing = database.serve(&[]);
        eventually("the table is known", Duration::from_secs(20), || unknowing.log().lines().any(measured));
        let (with, without) = (floor(&knowing), floor(&unknowing));
        println!("{}: floor {with} ms with bcrypt, {without} ms without", engine.name);
        assert!(
            with > 2 * without,
            "a format that is not accepted is never computed: {with} ms, {without} ms"
        );
        let start = Instant::now();
        assert_eq!(knowing.login("nobody@x.io", "wrong").status, 401);
        assert!(start.elapsed() >= Duration::from_millis(with), "{:?}", start.elapsed());
        assert!(!knowing.log().contains("$2b$"), "no part of a hash is in the log");
    }
}

#[test]
fn a_database_that_is_away_keeps_nobody_from_starting() {
    let mut database = Engine::mysql().fresh();
    database.via = server_support::free_address();
    let server = Server::launch(database.environment(), &[EVERY_FORMAT]);
    assert_eq!(http::get(server.ops, "/livez").unwrap().status, 200);
}

#[test]
fn a_password_that_is_set_has_a_least_length_and_a_login_never_asks_for_it() {
    for engine in Engine::all() {
        let database = table(&engine);
        let least = [("PASSWORD_MIN_LENGTH", "8")];
        let migration = || database.migration().user("ann@x.io", true, Some("пароль1"));
        let report = migration().with(&least).succeed();
        assert_eq!(
            report.limits,
            ["user ann@x.io is not created: the password has 7 characters, the least is 8"]
        );
        migration().succeed();
        let report = migration().with(&least).succeed();
        assert_eq!(report.limits, Vec::<String>::new(), "who exists is left alone");
        database.serve(&least).token("ann@x.io", "пароль1");
    }
}

fn hash(password: &[u8], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("hash").env_clear().envs(variables.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_hash_command_follows_parameters_and_rules() {
    let words = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let variables = [("ARGON2_MEMORY_KIB", "7168"), ("ARGON2_ITERATIONS", "5")];
    let output = hash("pässwörd\n".as_bytes(), &variables);
    let made = words(&output.stdout);
    assert!(made.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{made}{}", words(&output.stderr));
    assert!(verified_by_argon2_cffi(made.trim(), "pässwörd"));

    let short = hash(b"seven77", &[]);
    assert_eq!(
        (short.status.code(), words(&short.stderr).as_str(), words(&short.stdout).as_str()),
        (Some(1), "auth-server: the password has 7 characters, the least is 8\n", "")
    );
    assert!(hash(b"seven77", &[("PASSWORD_MIN_LENGTH", "7")]).status.success());
    let long = hash(&[b'x'; 1025], &[]);
    assert_eq!(words(&long.stderr), "auth-server: the password is longer than 1024 bytes\n");
    let weak = hash(b"long enough", &[("ARGON2_ITERATIONS", "1"), ("PASSWORD_MIN_LENGTH", "99")]);
    assert_eq!(weak.status.code(), Some(78));
    assert_eq!(
        words(&weak.stderr),
        "auth-server: the configuration has 2 faults:\n  \
         ARGON2_MEMORY_KIB makes a hash of 19456 KiB and 1 iterations, which is weaker than OWASP's minimum: \
         use at least one of: 47104 KiB for 1 iteration, 19456 KiB for 2 iterations, 12288 KiB for 3 iterations, \
         9216 KiB for 4 iterations, 7168 KiB for 5 iterations\n  \
         PASSWORD_MIN_LENGTH \"99\" is out of range: use a number from 1 to 24\n"
    );
}

#[test]
fn calibrate_prints_what_a_spec_takes() {
    let output = Command::new(BINARY).args(["calibrate", "--milliseconds", "1000"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    assert!(output.status.success());
    let spec = "spec:\n  passwords:\n    argon2:\n      memoryKiB: 47104\n      iterations: 1\n      parallelism: 1\n";
    assert!(text.ends_with(spec), "{text}");
}

#[test]
fn hashing_threads_run_at_lower_priority() {
    let database = table(&Engine::mysql());
    let server = database.serve(&[("HASHING_THREADS", "2")]);
    let niceness = |comm: &str| -> Vec<i32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
        let stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
        // The name in parentheses, then from the third field on; niceness is the nineteenth.
        let split =
            stats.filter_map(|stat| stat.rsplit_once(") ").map(|(a, b)| (a.to_owned(), b.to_owned())));
        let named = split.filter(|(start, _)| start.contains(&format!("({comm}")));
        named.map(|(_, fields)| fields.split(' ').nth(16).unwrap().parse().unwrap()).collect()
    };
    let (hashing, others) = (niceness("hashing-"), niceness("tokio"));
    assert_eq!(hashing.len(), 2);
    assert!(!others.is_empty());
    let lower = others[0].saturating_add(10).min(19);
    assert!(hashing.iter().all(|niceness| *niceness == lower), "{hashing:?} beside {others:?}");
}
