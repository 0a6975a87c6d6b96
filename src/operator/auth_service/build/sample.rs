//! Plans for the tests of the builders; named unlike the product, so that swapped fields show.

use k8s_openapi::{
    api::core::v1::{LocalObjectReference, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::super::{
    names::Identity,
    plan::{
        Account, AdminAccount, Bootstrap, Connection, DatabaseServer, Entries, LoginProtection,
        ManagedDatabase, Migration, Plan, Server, Tracing,
    },
};
use crate::api::auth_service::{DeletionPolicy, RevocationUnavailable, SchemaMode};

/// Nothing is to change.
pub(super) fn frozen() -> Plan {
    Plan {
        identity: Identity {
            name: "gate".to_owned(),
            namespace: "market".to_owned(),
            uid: "uid-of-gate".to_owned(),
            deletion_policy: DeletionPolicy::Retain,
        },
        pull_secrets: vec![],
        key_ring: None,
        accounts: None,
        admin: None,
        administration: None,
        credentials: None,
        service: false,
        administration_service: false,
        server: None,
        budget: false,
        managed: None,
        migration: None,
        deletions: vec![],
    }
}

/// What `spec: {}` asks for.
pub(super) fn managed() -> Plan {
    let connection = Connection {
        host: "gate-mysql.market.svc".to_owned(),
        port: 3306,
        database: "auth".to_owned(),
        account: Account { number: 1, username: "as_1f2e3d4c_1".to_owned() },
    };
    Plan {
        key_ring: Some(entries(&[("5c0ffee5.key", "key-bytes"), ("5c0ffee5.signs", "2026-01-02T03:04:05Z")])),
        accounts: Some(entries(&[
            ("id", "1f2e3d4c"),
            ("job-key", "job-key-bytes"),
            ("1.username", "as_1f2e3d4c_1"),
            ("1.password", "account-password"),
        ])),
        admin: Some(entries(&[("email", "admin@gate.market"), ("password", "admin-password")])),
        administration: Some(entries(&[("key", "administration-key-bytes")])),
        credentials: Some(entries(&[
            ("JWT_SECRET", "key-bytes"),
            ("MYSQL_DB", "auth"),
            ("MYSQL_HOST", "gate-mysql.market.svc"),
            ("MYSQL_PASSWORD", "account-password"),
            ("MYSQL_PORT", "3306"),
            ("MYSQL_USER", "as_1f2e3d4c_1"),
        ])),
        service: true,
        administration_service: true,
        server: Some(Server {
            image: "registry.test/server:1".to_owned(),
            replicas: 2,
            connection: connection.clone(),
            token_ttl: "24h".to_owned(),
            token_issuer: "http://gate.market.svc:5000".to_owned(),
            token_audience: None,
            revocation_lag: "5s".to_owned(),
            revocation_unavailable: RevocationUnavailable::Accept,
            legacy_formats: String::new(),
            rehash: true,
            new_passwords: vec![],
            protection: LoginProtection::default(),
            invalid_token_status: None,
            tls: None,
            administration: false,
            tracing: None,
            resources: requests("100m", "96Mi"),
            pod_labels: [].into(),
            pod_annotations: [].into(),
        }),
        budget: true,
        managed: Some(ManagedDatabase {
            root_password: Some(entries(&[("password", "root-password")])),
            service: true,
            server: Some(DatabaseServer {
                image: "registry.test/mysql:2".to_owned(),
                resources: requests("150m", "512Mi"),
                template_size: Quantity("1Gi".to_owned()),
                template_storage_class: Some("fast".to_owned()),
            }),
            grow_volume: None,
        }),
        migration: Some(Migration {
            name: "gate-migrate-0123456789".to_owned(),
            image: "registry.test/server:1".to_owned(),
            connection,
            schema: SchemaMode::Managed,
            admin: Some(AdminAccount {
                secret: "gate-mysql-root".to_owned(),
                username: Some("root".to_owned()),
            }),
            bootstrap: vec![Bootstrap {
                email: "admin@gate.market".to_owned(),
                admin: true,
                secret: "gate-admin".to_owned(),
                key: "password".to_owned(),
            }],
            new_passwords: vec![],
        }),
        ..frozen()
    }
}

/// A database of the user's, with every field set that has no default.
pub(super) fn external() -> Plan {
    let connection = Connection {
        host: "db.example.test".to_owned(),
        port: 3307,
        database: "users$$old".to_owned(),
        account: Account { number: 3, username: "reader".to_owned() },
    };
    let managed = managed();
    Plan {
        pull_secrets: vec![LocalObjectReference { name: "registry-login".to_owned() }],
        server: managed.server.map(|server| Server {
            replicas: 1,
            connection: connection.clone(),
            revocation_lag: "60s".to_owned(),
            revocation_unavailable: RevocationUnavailable::Refuse,
            legacy_formats: "bcrypt,plaintext".to_owned(),
            rehash: false,
            new_passwords: vec![
                ("ARGON2_MEMORY_KIB", "9216".to_owned()),
                ("ARGON2_ITERATIONS", "4".to_owned()),
                ("ARGON2_PARALLELISM", "3".to_owned()),
                ("PASSWORD_MIN_LENGTH", "15".to_owned()),
            ],
            protection: LoginProtection {
                max_failures: Some(7),
                window: Some("600s".to_owned()),
                lockout: Some("1800s".to_owned()),
                trusted_proxies: "10.0.0.0/8,fd00::/8".to_owned(),
            },
            invalid_token_status: Some(401),
            tls: Some("door".to_owned()),
            administration: true,
            tracing: Some(Tracing {
                endpoint: "http://collector.test:4318".to_owned(),
                sampling: "0.25".to_owned(),
            }),
            pod_labels: [
                ("team".to_owned(), "identity".to_owned()),
                ("authservice.dev/name".to_owned(), "usurped".to_owned()),
            ]
            .into(),
            pod_annotations: [("scrape".to_owned(), "yes".to_owned())].into(),
            ..server
        }),
        managed: None,
        migration: managed.migration.map(|migration| Migration {
            connection,
            schema: SchemaMode::Existing,
            admin: Some(AdminAccount { secret: "db-admin".to_owned(), username: None }),
            bootstrap: ["ann", "bob"]
                .map(|name| Bootstrap {
                    email: format!("{name}@example.test"),
                    admin: name == "ann",
                    secret: format!("login-of-{name}"),
                    key: "pass.txt".to_owned(),
                })
                .into(),
            new_passwords: vec![
                ("ARGON2_MEMORY_KIB", "9217".to_owned()),
                ("PASSWORD_MIN_LENGTH", "15".to_owned()),
            ],
            ..migration
        }),
        ..frozen()
    }
}

fn entries(entries: &[(&str, &str)]) -> Entries {
    Entries(entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect())
}

fn requests(cpu: &str, memory: &str) -> ResourceRequirements {
    let quantity = |name: &str, value: &str| (name.to_owned(), Quantity(value.to_owned()));
    ResourceRequirements {
        requests: Some([quantity("cpu", cpu), quantity("memory", memory)].into()),
        ..ResourceRequirements::default()
    }
}
