use super::*;
use crate::{
    contract::{Collector, LegacyFormat},
    server::passwords::{Argon2id, LegacyFormats, NewPasswords},
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn originals() -> Vec<(&'static str, &'static str)> {
    vec![
        ("MYSQL_HOST", "db.example"),
        ("MYSQL_USER", "auth_user"),
        ("MYSQL_PASSWORD", "pw"),
        ("MYSQL_DB", "auth"),
        ("MYSQL_PORT", "3307"),
        ("JWT_SECRET", SECRET),
    ]
}

fn serve(changes: &[(&'static str, &'static str)]) -> Result<ServeConfig, Vec<String>> {
    let environment: Environment = originals().into_iter().chain(changes.iter().copied()).collect();
    ServeConfig::read(&environment)
        .map_err(|faults| faults.iter().map(|fault| format!("{} {}", fault.variable, fault.what)).collect())
}

#[test]
fn the_names_of_the_original_are_enough() {
    let config = serve(&[]).unwrap();
    assert_eq!(
        (config.database.host.as_str(), config.database.port, config.database.name.as_str()),
        ("db.example", 3307, "auth")
    );
    let Terms { issuer, audience, ttl_seconds } = config.terms;
    assert_eq!((issuer.as_str(), audience, ttl_seconds), ("authservice", None, 86_400));
    assert_eq!(config.listen.to_string(), "0.0.0.0:5000");
    let default = Argon2id { memory_kib: 19_456, iterations: 2, parallelism: 1 };
    assert_eq!(
        config.passwords,
        PasswordPolicy {
            new: NewPasswords { argon2: default, min_length: 8 },
            legacy: LegacyFormats::default(),
            rehash: true
        }
    );
    assert_eq!(config.invalid_token_status, InvalidTokenStatus::Forbidden);
}

#[test]
fn an_invalid_token_is_answered_as_the_original_does_unless_told_otherwise() {
    for (value, expected) in [
        ("", InvalidTokenStatus::Forbidden),
        ("403", InvalidTokenStatus::Forbidden),
        ("401", InvalidTokenStatus::Unauthorized),
    ] {
        assert_eq!(serve(&[("INVALID_TOKEN_STATUS", value)]).unwrap().invalid_token_status, expected);
    }
}

#[test]
fn the_administration_port_is_closed_without_a_key_of_its_own() {
    assert!(serve(&[("ADMIN_ADDRESS", "127.0.0.1:6001")]).unwrap().administration.is_none());
    assert!(serve(&[("ADMIN_KEY", "")]).unwrap().administration.is_none());
    let open = serve(&[("ADMIN_KEY", SECRET)]).unwrap().administration.unwrap();
    assert_eq!((open.address.to_string(), open.key_file), ("0.0.0.0:5001".to_owned(), None));
    assert_eq!(
        serve(&[("ADMIN_KEY", "short"), ("ADMIN_ADDRESS", "6001")]).unwrap_err(),
        ["ADMIN_KEY has 5 bytes, HS256 needs at least 32", "ADMIN_ADDRESS \"6001\" is no address"]
    );
    assert_eq!(
        serve(&[("ADMIN_KEY", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")]).unwrap_err(),
        ["ADMIN_KEY is one byte repeated or blank"]
    );
}

#[test]
fn a_service_link_is_no_port() {
    assert_eq!(serve(&[("MYSQL_PORT", "tcp://10.0.0.1:3306")]).unwrap().database.port, 3306);
}

#[test]
fn every_fault_is_reported_at_once() {
    let environment: Environment = [
        ("MYSQL_PORT", "many"),
        ("JWT_SECRET", "sarcasm"),
        ("TOKEN_TTL", "soon"),
        ("TOKEN_AUDIENCE", "authservice-administration"),
        ("REVOCATION_LAG", "6m"),
        ("REVOCATION_UNAVAILABLE", "Perhaps"),
        ("ARGON2_MEMORY_KIB", "131073"),
        ("ARGON2_ITERATIONS", "two"),
        ("ARGON2_PARALLELISM", "0"),
        ("PASSWORD_MIN_LENGTH", "25"),
        ("LEGACY_PASSWORD_FORMATS", "plaintext,rot13"),
        ("REHASH_PASSWORDS", "maybe"),
        ("INVALID_TOKEN_STATUS", "404"),
        ("LISTEN_ADDRESS", "everywhere"),
        ("HASHING_THREADS", "0"),
        ("DRAIN_DELAY", "1w"),
    ]
    .into_iter()
    .collect();
    let faults = ServeConfig::read(&environment).unwrap_err();
    let variables: Vec<&str> = faults.iter().map(|fault| fault.variable.as_str()).collect();
    assert_eq!(
        variables,
        [
            "MYSQL_HOST",
            "MYSQL_USER",
            "MYSQL_PASSWORD",
            "MYSQL_PORT",
            "JWT_SECRET",
            "TOKEN_TTL",
            "TOKEN_AUDIENCE",
            "REVOCATION_LAG",
            "REVOCATION_UNAVAILABLE",
            "ARGON2_MEMORY_KIB",
            "ARGON2_ITERATIONS",
            "ARGON2_PARALLELISM",
            "PASSWORD_MIN_LENGTH",
            "LEGACY_PASSWORD_FORMATS",
            "REHASH_PASSWORDS",
            "INVALID_TOKEN_STATUS",
            "LISTEN_ADDRESS",
            "HASHING_THREADS",
            "DRAIN_DELAY"
        ]
    );
    let text = faults.to_string();
    assert!(
        text.contains(
            "JWT_SECRET has 7 bytes, HS256 needs at least 32: make one with: openssl rand -base64 48"
        ),
        "{text}"
    );
    assert!(!text.contains("sarcasm"), "{text}");
}

#[test]
fn formats_and_parameters_are_what_they_are_said_to_be() {
    let config = serve(&[
        ("LEGACY_PASSWORD_FORMATS", " bcrypt, werkzeug,pbkdf2,scrypt,"),
        ("ARGON2_MEMORY_KIB", "7168"),
        ("ARGON2_ITERATIONS", "5"),
        ("ARGON2_PARALLELISM", "4"),
    ])
    .unwrap();
    let accepted = LegacyFormat::ALL.map(|format| config.passwords.legacy.contain(format));
    assert_eq!(accepted, [false, true, true, true, true]);
    assert_eq!(config.passwords.new.argon2, Argon2id { memory_kib: 7168, iterations: 5, parallelism: 4 });
}

#[test]
fn parameters_that_are_too_weak_or_too_dear_together_are_refused() {
    assert_eq!(
        serve(&[("ARGON2_ITERATIONS", "1")]).unwrap_err(),
        [
            "ARGON2_MEMORY_KIB makes a hash of 19456 KiB and 1 iterations, which is weaker than OWASP's minimum"
        ]
    );
    assert_eq!(
        serve(&[("ARGON2_MEMORY_KIB", "131072"), ("ARGON2_ITERATIONS", "16")]).unwrap_err(),
        [
            "ARGON2_ITERATIONS makes a hash of 131072 KiB and 16 iterations, which takes more than about a second"
        ]
    );
}

#[test]
fn passwords_that_are_set_have_a_least_length() {
    let read = |variables: &[(&'static str, &'static str)]| {
        let environment: Environment = variables.iter().copied().collect();
        read_new_passwords(&environment)
            .map(|passwords| passwords.min_length)
            .map_err(|faults| faults.to_string())
    };
    assert_eq!((read(&[]), read(&[("PASSWORD_MIN_LENGTH", "15")])), (Ok(8), Ok(15)));
    assert_eq!(
        read(&[("PASSWORD_MIN_LENGTH", "0")]).unwrap_err(),
        "the configuration has 1 fault:\n  PASSWORD_MIN_LENGTH \"0\" is out of range: use a number from 1 to 24"
    );
}

#[test]
fn a_file_may_hold_the_value_and_one_newline_at_its_end_is_not_part_of_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
    let environment: Environment = originals()
        .into_iter()
        .filter(|(name, _)| *name != "JWT_SECRET")
        .chain([("JWT_SECRET_FILE", file.path().to_str().unwrap())])
        .collect();
    let config = ServeConfig::read(&environment).unwrap();
    let Keys::Single(secret) = config.keys else { panic!("a folder") };
    assert_eq!(secrecy::ExposeSecret::expose_secret(&secret), SECRET.as_bytes());
}

#[test]
fn a_value_and_a_file_together_are_refused() {
    assert_eq!(
        serve(&[("JWT_SECRET_FILE", "/nowhere")]).unwrap_err(),
        ["JWT_SECRET_FILE is set together with JWT_SECRET"]
    );
    assert_eq!(
        serve(&[("KEY_RING_DIR", "/nowhere")]).unwrap_err(),
        ["JWT_SECRET is set together with KEY_RING_DIR"]
    );
}

#[test]
fn blank_keys_are_refused() {
    assert_eq!(
        serve(&[("JWT_SECRET", "                                        ")]).unwrap_err(),
        ["JWT_SECRET is one byte repeated or blank"]
    );
}

#[test]
fn no_secret_shows_in_debug_output() {
    let shown = format!("{:?}", serve(&[("MYSQL_PASSWORD", "hunter2")]).unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn admin_credentials_come_in_pairs_and_bootstrap_users_must_be_able_to_log_in() {
    let environment: Environment = originals()
        .into_iter()
        .chain([
            ("MYSQL_ADMIN_USER", "root"),
            ("SCHEMA_MODE", "Borrowed"),
            ("BOOTSTRAP_USERS", r#"[{"email":"a:b@c","admin":true,"passwordFile":"/p"}]"#),
        ])
        .collect();
    let faults = MigrateConfig::read(&environment).unwrap_err();
    let variables: Vec<&str> = faults.iter().map(|fault| fault.variable.as_str()).collect();
    assert_eq!(variables, ["MYSQL_ADMIN_PASSWORD", "SCHEMA_MODE", "BOOTSTRAP_USERS"]);
}

#[test]
fn a_certificate_and_its_key_come_together_or_not_at_all() {
    assert_eq!(serve(&[]).unwrap().tls, None);
    let both = serve(&[("TLS_CERT_FILE", "/tls/tls.crt"), ("TLS_KEY_FILE", "/tls/tls.key")]).unwrap();
    let files = TlsFiles { certificate: "/tls/tls.crt".into(), key: "/tls/tls.key".into() };
    assert_eq!(both.tls, Some(files));
    for (set, fault) in [
        ("TLS_CERT_FILE", "TLS_KEY_FILE is not set although TLS_CERT_FILE is"),
        ("TLS_KEY_FILE", "TLS_CERT_FILE is not set although TLS_KEY_FILE is"),
    ] {
        assert_eq!(serve(&[(set, "/tls/file")]).unwrap_err(), [fault]);
    }
}

#[test]
fn traces_go_nowhere_unless_a_collector_is_named() {
    assert_eq!(serve(&[]).unwrap().tracing, None);
    let named_alone = [("OTEL_SERVICE_NAME", "gate"), ("OTEL_RESOURCE_ATTRIBUTES", "what is this")];
    assert_eq!(serve(&named_alone).unwrap().tracing, None);
    let tracing = |variables: &[(&'static str, &'static str)]| {
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")];
        serve(&[&endpoint, variables].concat()).unwrap().tracing.unwrap()
    };
    let expected = TracingConfig {
        collector: Collector::of("http://collector:4318").unwrap(),
        sampling: Sampling { heeds_parent: true, ratio: 1.0 },
        service_name: "auth-server".to_owned(),
        resource: vec![],
    };
    assert_eq!(tracing(&[]), expected);
    assert_eq!(
        tracing(&[
            ("OTEL_SERVICE_NAME", "gate"),
            ("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=gate-1, team=a%2Cb%3D%C3%BC,"),
        ]),
        TracingConfig {
            service_name: "gate".to_owned(),
            resource: [("k8s.pod.name", "gate-1"), ("team", "a,b=\u{fc}")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..expected
        }
    );
    for (sampler, argument, heeds_parent, ratio) in [
        ("always_on", "0.5", false, 1.0),
        ("always_off", "not read", false, 0.0),
        ("traceidratio", "0.25", false, 0.25),
        ("parentbased_always_off", "", true, 0.0),
        ("parentbased_traceidratio", "0", true, 0.0),
        ("parentbased_traceidratio", "", true, 1.0),
    ] {
        let variables = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
        assert_eq!(tracing(&variables).sampling, Sampling { heeds_parent, ratio }, "{sampler}");
    }
}

#[test]
fn a_fault_in_what_traces_need_is_told_by_its_variable() {
    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
    let refused = |variables: &[(&'static str, &'static str)]| serve(variables).unwrap_err();
    // What a platform gives every pod is nothing to a server that traces nothing.
    for ignored in [("OTEL_TRACES_SAMPLER", "sometimes"), ("OTEL_RESOURCE_ATTRIBUTES", "=x")] {
        assert_eq!(serve(&[ignored]).unwrap().tracing, None);
        let disabled = [("OTEL_SDK_DISABLED", "True"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"), ignored];
        assert_eq!(serve(&disabled).unwrap().tracing, None);
    }
    assert_eq!(
        refused(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@collector")]),
        [
            "OTEL_EXPORTER_OTLP_ENDPOINT holds credentials, a query or a fragment, which traces are not sent with"
        ]
    );
    assert_eq!(
        refused(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ]),
        [
            "OTEL_EXPORTER_OTLP_ENDPOINT begins with https, which traces are not sent by",
            "OTEL_TRACES_SAMPLER \"sometimes\" is no sampler",
            "OTEL_RESOURCE_ATTRIBUTES is no list of attributes",
        ]
    );
    for ratio in ["-0.1", "1.1", "NaN", "half"] {
        let sampler = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", ratio)];
        let fault = format!("OTEL_TRACES_SAMPLER_ARG {ratio:?} is no part of the requests");
        assert_eq!(refused(&[&[ENDPOINT], &sampler[..]].concat()), [fault]);
    }
}
