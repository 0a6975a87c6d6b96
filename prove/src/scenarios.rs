//! What is done to the operator while everything that can go wrong goes wrong. A new field is one line
//! in [`FIELDS`]; a new capability is one scenario in [`all`].

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::steps::{Child, Step};

/// What may end with a scenario though nothing else may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a promise of its own, and they go together freely")]
pub struct Edges {
    /// Tokens: the admin asked for new keys.
    pub tokens_end: bool,
    /// Data: the admin asked for their deletion.
    pub data_end: bool,
    /// The resource does not become ready, and says why.
    pub stays_unready: bool,
    /// The end shows what was done: it is not that of a resource newly made.
    pub past_shows: bool,
    /// Accounts whose names were lost with their Secret stay in the database.
    pub accounts_stay: bool,
}

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What is done.
    pub name: String,
    /// What was done before, undisturbed.
    pub given: Vec<Step>,
    /// What is done, disturbed.
    pub when: Vec<Step>,
    /// What may end with it.
    pub edges: Edges,
}

/// A field of spec, two values for it, and whether it may be removed again.
#[derive(Debug)]
pub struct Field {
    /// JSON pointer into spec.
    pub path: &'static str,
    /// Two different values, as JSON.
    pub values: [&'static str; 2],
    /// Whether it can change after the creation of the resource.
    pub changes: bool,
}

const fn field(path: &'static str, one: &'static str, other: &'static str) -> Field {
    Field { path, values: [one, other], changes: true }
}

const fn fixed(path: &'static str, one: &'static str, other: &'static str) -> Field {
    Field { path, values: [one, other], changes: false }
}

/// Every field of spec; a test compares them with the definition.
pub const FIELDS: &[Field] = &[
    field("/replicas", "4", "3"),
    field("/image", r#""registry/auth-server:2""#, r#""registry/auth-server:3""#),
    field("/database/managed/image", r#""registry/mysql:2""#, r#""registry/mysql:3""#),
    field("/database/managed/storage/size", r#""2Gi""#, r#""3Gi""#),
    fixed("/database/managed/storage/storageClassName", r#""fast""#, r#""slow""#),
    field(
        "/database/managed/resources",
        r#"{"requests": {"memory": "1Gi"}}"#,
        r#"{"limits": {"memory": "2Gi"}, "requests": {"cpu": "200m"}}"#,
    ),
    field("/token/ttl", r#""1h""#, r#""90m""#),
    field("/token/algorithm", r#""ES256""#, r#""EdDSA""#),
    fixed("/token/issuer", r#""https://login.example""#, r#""shop""#),
    fixed("/token/audience", r#""shop""#, r#""market""#),
    field("/token/revocationLag", r#""10s""#, r#""1m""#),
    field("/token/revocationUnavailable", r#""Refuse""#, r#""Accept""#),
    field("/token/signingKeySecretRef", r#"{"name": "signing"}"#, r#"{"name": "signing", "key": "other"}"#),
    field("/passwords/argon2/memoryKiB", "32768", "65536"),
    field("/passwords/argon2/iterations", "3", "4"),
    field("/passwords/argon2/parallelism", "2", "4"),
    field("/passwords/legacyFormats", r#"["plaintext"]"#, r#"["bcrypt", "werkzeug"]"#),
    field("/passwords/rehash", "false", "true"),
    field("/passwords/minLength", "12", "16"),
    field("/loginProtection/maxFailures", "5", "0"),
    field("/loginProtection/window", r#""5m""#, r#""10m""#),
    field("/loginProtection/lockout", r#""5m""#, r#""10m""#),
    field("/loginProtection/trustedProxies", r#"["10.0.0.0/8"]"#, r#"["192.0.2.7", "fd00::/8"]"#),
    field(
        "/users/bootstrap",
        r#"[{"email": "a@b.c", "passwordSecretRef": {"name": "user"}}]"#,
        r#"[{"email": "a@b.c", "passwordSecretRef": {"name": "user"}}, {"email": "d@e.f", "passwordSecretRef": {"name": "user", "key": "other"}, "admin": true}]"#,
    ),
    field("/http/invalidTokenStatus", "401", "403"),
    field("/http/tls/secretRef", r#"{"name": "certificate"}"#, r#"{"name": "next-certificate"}"#),
    field("/administration", "{}", "{}"),
    field("/monitoring/tracing/endpoint", r#""http://collector:4318""#, r#""http://other:4318""#),
    field("/monitoring/tracing/sampling", "0.5", "0.1"),
    field("/pod/resources", r#"{"requests": {"cpu": "1"}}"#, r#"{"limits": {"memory": "1Gi"}}"#),
    field("/pod/labels", r#"{"team": "gate"}"#, r#"{"other": "label"}"#),
    field("/pod/annotations", r#"{"example.org/a": "1"}"#, r#"{"example.org/b": "2"}"#),
    field("/pod/imagePullSecrets", r#"[{"name": "pull"}]"#, r#"[{"name": "pull"}, {"name": "more"}]"#),
    field("/deletionPolicy", r#""Delete""#, r#""Retain""#),
    field("/suspend", "true", "false"),
];

/// Fields that only an external database has: the mode never changes.
pub const EXTERNAL_FIELDS: &[Field] = &[
    field("/database/external/hosts", r#"[{"host": "db"}]"#, r#"[{"host": "other", "port": 3307}]"#),
    field("/database/external/name", r#""auth""#, r#""shop""#),
    field("/database/external/schema", r#""Managed""#, r#""Existing""#),
    field("/database/external/credentialsSecretRef", r#"{"name": "app"}"#, r#"{"name": "app2"}"#),
    field("/database/external/adminCredentialsSecretRef", r#"{"name": "root"}"#, r#"{"name": "root2"}"#),
];

impl Field {
    /// One of its values.
    #[must_use]
    pub fn value(&self, number: usize) -> Value {
        serde_json::from_str(self.values[number % 2]).unwrap_or(Value::Null)
    }

    /// A merge patch of spec that gives it this value, or takes it away: then a parent that must not be
    /// empty goes, too.
    #[must_use]
    pub fn patch(&self, value: Option<Value>) -> Value {
        let path = match (self.path, &value) {
            ("/monitoring/tracing/endpoint", None) => "/monitoring/tracing",
            ("/http/tls/secretRef", None) => "/http/tls",
            (path, _) => path,
        };
        let sampled = self.path == "/monitoring/tracing/sampling" && value.is_some();
        let keys: Vec<&str> = path.split('/').skip(1).collect();
        let value = value.unwrap_or(Value::Null);
        let mut merged = keys.into_iter().rev().fold(value, |inner, key| json!({key: inner}));
        if sampled {
            // Nothing is sampled without a place to send it to.
            merged["monitoring"]["tracing"]["endpoint"] = json!("http://collector:4318");
        }
        merged
    }
}

fn secret(name: &str, entries: &[(&str, &str)]) -> Step {
    let entries: BTreeMap<String, String> =
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Step::Secret(name.to_owned(), entries)
}

/// The Secrets that fields refer to.
#[must_use]
pub fn secrets() -> Vec<Step> {
    vec![
        secret("user", &[("password", "first-password"), ("other", "second-password")]),
        secret(
            "signing",
            &[
                ("JWT_SECRET", "0123456789abcdef0123456789abcdef-one"),
                ("other", "0123456789abcdef0123456789abcdef-two"),
            ],
        ),
        secret("certificate", &[("tls.crt", "certificate"), ("tls.key", "key")]),
        secret("next-certificate", &[("tls.crt", "certificate 2"), ("tls.key", "key 2")]),
        secret("root", &[("username", "root"), ("password", "root-password")]),
        secret("app", &[("username", "app"), ("password", "app-password")]),
    ]
}

fn scenario(name: impl Into<String>, given: Vec<Step>, when: Vec<Step>) -> Scenario {
    Scenario { name: name.into(), given, when, edges: Edges::default() }
}

fn created(spec: Value) -> Vec<Step> {
    let mut steps = secrets();
    steps.extend([Step::Create(spec), Step::Settle]);
    steps
}

fn spec_with(field: &Field, number: usize) -> Value {
    let mut spec = json!({});
    json_patch::merge(&mut spec, &field.patch(Some(field.value(number))));
    spec
}

fn remove(child: Child, name: &str) -> Step {
    Step::Remove(child, name.to_owned())
}

const EXTERNAL: &str = r#"{"database": {"external": {"hosts": [{"host": "db"}], "adminCredentialsSecretRef": {"name": "root"}}}}"#;

/// A spec with the user's database, in which the operator makes accounts.
#[must_use]
pub fn external() -> Value {
    serde_json::from_str(EXTERNAL).unwrap_or_default()
}

/// Every field at once, as far as they go together.
#[must_use]
pub fn everything() -> Value {
    let mut spec = json!({});
    for field in FIELDS.iter().filter(|field| !matches!(field.path, "/suspend" | "/token/algorithm")) {
        json_patch::merge(&mut spec, &field.patch(Some(field.value(0))));
    }
    spec
}

/// Every scenario.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut scenarios = lives();
    scenarios.extend(losses());
    scenarios.extend(edits());
    scenarios.extend(restores());
    scenarios.extend(external_fields());
    for field in FIELDS {
        scenarios.extend(of_field(field));
    }
    scenarios
}

fn with_database(steps: Vec<Step>) -> Vec<Step> {
    let mut all = secrets();
    all.push(Step::External("db".to_owned()));
    all.extend(steps);
    all
}

/// From creation to deletion, on each kind of database.
fn lives() -> Vec<Scenario> {
    let own_account = json!({"database": {"external": {"hosts": [{"host": "db"}], "name": "auth", "credentialsSecretRef": {"name": "app"}, "adminCredentialsSecretRef": {"name": "root"}}}});
    let gone = |name: &str, policy: &str| Scenario {
        edges: Edges {
            tokens_end: true,
            data_end: policy == "Delete",
            stays_unready: true,
            ..Edges::default()
        },
        ..scenario(name, created(json!({"deletionPolicy": policy})), vec![Step::Delete])
    };
    vec![
        scenario("create", secrets(), vec![Step::Create(json!({}))]),
        scenario("create with every field", secrets(), vec![Step::Create(everything())]),
        scenario("create with an external database", with_database(vec![]), vec![Step::Create(external())]),
        scenario(
            "create with an account of the user's",
            with_database(vec![]),
            vec![Step::Create(own_account)],
        ),
        scenario(
            "create suspended, then go on",
            secrets(),
            vec![Step::Create(json!({"suspend": true})), Step::Settle, Step::Spec(json!({"suspend": null}))],
        ),
        gone("delete under Retain", "Retain"),
        gone("delete under Delete", "Delete"),
        scenario(
            "delete under Retain, then create again",
            created(json!({})),
            vec![Step::Delete, Step::Settle, Step::Create(json!({}))],
        ),
        Scenario {
            edges: Edges { tokens_end: true, data_end: true, ..Edges::default() },
            ..scenario(
                "delete under Delete, then create again",
                created(json!({"deletionPolicy": "Delete"})),
                vec![Step::Delete, Step::Settle, Step::Create(json!({}))],
            )
        },
        scenario(
            "the operator's next release",
            created(json!({})),
            vec![Step::Release("registry/auth-server:2".to_owned())],
        ),
        scenario(
            "the next release finds a resource that names its image",
            created(json!({"image": "registry/own:1"})),
            vec![Step::Release("registry/auth-server:2".to_owned())],
        ),
        scenario("scale by the scale subresource", created(json!({})), vec![Step::Scale(4)]),
        scenario("scale to one pod, which no budget is for", created(json!({})), vec![Step::Scale(1)]),
        scenario(
            "the user's account becomes another one",
            {
                let spec = json!({"database": {"external": {
                    "hosts": [{"host": "db"}],
                    "credentialsSecretRef": {"name": "own"},
                    "adminCredentialsSecretRef": {"name": "root"},
                }}});
                let own = secret("own", &[("username", "root"), ("password", "root-password")]);
                with_database(vec![own, Step::Create(spec), Step::Settle])
            },
            vec![secret("own", &[("username", "app"), ("password", "app-password")])],
        ),
        scenario(
            "a database that cannot be reached comes back",
            created(json!({})),
            vec![
                Step::Reach { host: None, answers: false },
                Step::Wait(90),
                Step::Reach { host: None, answers: true },
            ],
        ),
    ]
}

/// Secrets that are lost, and brought back or asked for anew.
fn losses() -> Vec<Scenario> {
    let restored = |name: &str| {
        scenario(
            format!("Secret {name} is lost and restored"),
            created(json!({})),
            vec![remove(Child::Secret, name), Step::Settle, Step::Restore(name.to_owned())],
        )
    };
    let regenerated = |name: &str, and: Vec<Step>| {
        let mut when = vec![
            remove(Child::Secret, name),
            Step::Settle,
            Step::Annotate("authservice.dev/regenerate".to_owned(), Some(name.to_owned())),
            // Whoever asks waits for the answer, which may take until the next look.
            Step::Wait(700),
            Step::Settle,
            Step::Annotate("authservice.dev/regenerate".to_owned(), None),
        ];
        when.extend(and);
        Scenario {
            edges: Edges {
                tokens_end: name == "gate-keys",
                accounts_stay: name == "gate-database",
                ..Edges::default()
            },
            ..scenario(format!("Secret {name} is lost and made anew"), created(json!({})), when)
        }
    };
    let stays = |name: &str, given: Vec<Step>, when: Vec<Step>| Scenario {
        edges: Edges { stays_unready: true, ..Edges::default() },
        ..scenario(name, given, when)
    };
    vec![
        restored("gate-keys"),
        restored("gate-database"),
        restored("gate-mysql-root"),
        regenerated("gate-keys", Vec::new()),
        regenerated("gate-database", Vec::new()),
        regenerated("gate-mysql-root", vec![Step::Evict("database".to_owned())]),
        scenario(
            "the view of credentials is lost",
            created(json!({})),
            vec![remove(Child::Secret, "gate-credentials")],
        ),
        Scenario {
            edges: Edges { past_shows: true, ..Edges::default() },
            ..scenario(
                "the first admin's Secret is deleted",
                created(json!({})),
                vec![remove(Child::Secret, "gate-admin")],
            )
        },
        stays(
            "a Secret of the user's is missing at creation",
            Vec::new(),
            vec![Step::Create(json!({"token": {"signingKeySecretRef": {"name": "signing"}}}))],
        ),
        scenario(
            "a Secret of the user's comes late",
            Vec::new(),
            vec![
                Step::Create(json!({"token": {"signingKeySecretRef": {"name": "late"}}})),
                Step::Wait(300),
                secret("late", &[("JWT_SECRET", "0123456789abcdef0123456789abcdef-late")]),
            ],
        ),
        scenario(
            "a bootstrap user's password comes late",
            Vec::new(),
            vec![
                Step::Create(
                    json!({"users": {"bootstrap": [{"email": "a@b.c", "passwordSecretRef": {"name": "late"}}]}}),
                ),
                Step::Settle,
                secret("late", &[("password", "late-password")]),
            ],
        ),
        scenario(
            "the user's signing key changes",
            created(json!({"token": {"signingKeySecretRef": {"name": "signing"}}})),
            vec![secret("signing", &[("JWT_SECRET", "0123456789abcdef0123456789abcdef-next")])],
        ),
    ]
}

/// What people delete and edit, comes back.
fn edits() -> Vec<Scenario> {
    let deleted = |child: Child, name: &str| {
        scenario(
            format!("{child:?} {name} is deleted"),
            created(json!({"administration": {}})),
            vec![remove(child, name)],
        )
    };
    let edited = |child: Child, name: &str, what: &str, patch: Value| {
        scenario(
            format!("{child:?} {name}: {what}"),
            created(json!({})),
            vec![Step::Edit(child, name.to_owned(), patch)],
        )
    };
    vec![
        deleted(Child::Deployment, "gate"),
        deleted(Child::StatefulSet, "gate-mysql"),
        deleted(Child::Service, "gate"),
        deleted(Child::Service, "gate-mysql"),
        deleted(Child::Service, "gate-administration"),
        deleted(Child::Secret, "gate-administration"),
        deleted(Child::PodDisruptionBudget, "gate"),
        deleted(Child::Job, ""),
        edited(Child::Deployment, "gate", "somebody scales it", json!({"spec": {"replicas": 5}})),
        Scenario {
            edges: Edges { past_shows: true, ..Edges::default() },
            ..edited(
                Child::Deployment,
                "gate",
                "somebody restarts it",
                json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}),
            )
        },
        edited(
            Child::Deployment,
            "gate",
            "a label goes",
            json!({"metadata": {"labels": {"authservice.dev/name": null}}}),
        ),
        edited(
            Child::Service,
            "gate",
            "a key joins the selector",
            json!({"spec": {"selector": {"foreign": "key"}}}),
        ),
        edited(
            Child::Service,
            "gate",
            "its ports change",
            json!({"spec": {"ports": [{"name": "http", "port": 5000, "protocol": "TCP", "targetPort": 1}]}}),
        ),
        edited(
            Child::Secret,
            "gate-credentials",
            "an entry is edited",
            json!({"data": {"MYSQL_PASSWORD": "eA=="}}),
        ),
        edited(
            Child::PodDisruptionBudget,
            "gate",
            "it blocks drains",
            json!({"spec": {"maxUnavailable": 0}}),
        ),
        scenario(
            "every pod is evicted",
            created(json!({})),
            vec![Step::Evict("server".to_owned()), Step::Evict("database".to_owned())],
        ),
    ]
}

/// etcd goes back to an earlier snapshot, while databases and volumes stay.
fn restores() -> Vec<Scenario> {
    let change = [Step::BackUp, Step::Spec(json!({"replicas": 4})), Step::Settle, Step::TurnBack];
    let create = |spec: Value| vec![Step::BackUp, Step::Create(spec), Step::Settle, Step::TurnBack];
    let again = [create(external()), vec![Step::Settle, Step::Create(external())]].concat();
    vec![
        scenario("etcd is restored to before a change", created(json!({})), change.to_vec()),
        Scenario {
            edges: Edges { tokens_end: true, stays_unready: true, accounts_stay: true, ..Edges::default() },
            ..scenario("etcd is restored to before the creation", secrets(), create(json!({})))
        },
        Scenario {
            edges: Edges { tokens_end: true, accounts_stay: true, ..Edges::default() },
            ..scenario("etcd forgets who owns an external database", with_database(vec![]), again)
        },
    ]
}

/// Fields of an external database change.
fn external_fields() -> Vec<Scenario> {
    let changed = |what: &str, before: Value, change: Value| {
        let mut spec = external();
        json_patch::merge(&mut spec, &json!({"replicas": 1, "database": {"external": before}}));
        let given = vec![Step::External("other".to_owned()), Step::Create(spec), Step::Settle];
        let when = vec![Step::Spec(json!({"database": {"external": change}}))];
        scenario(format!("/database/external/{what}"), with_database(given), when)
    };
    let own_account = json!({"credentialsSecretRef": {"name": "app"}});
    vec![
        changed("hosts is changed", json!({}), json!({"hosts": [{"host": "other"}]})),
        changed("name is changed", json!({}), json!({"name": "shop"})),
        changed("schema is set", json!({}), json!({"schema": "Existing"})),
        changed("schema is removed", json!({"schema": "Existing"}), json!({"schema": null})),
        changed("credentialsSecretRef is set", json!({}), own_account.clone()),
        changed(
            "credentialsSecretRef is removed",
            own_account.clone(),
            json!({"credentialsSecretRef": null}),
        ),
        changed(
            "adminCredentialsSecretRef is removed",
            own_account,
            json!({"adminCredentialsSecretRef": null}),
        ),
    ]
}

/// A field that is set, changed and removed.
fn of_field(field: &Field) -> Vec<Scenario> {
    let path = field.path;
    if !field.changes {
        let spec = spec_with(field, 0);
        return vec![scenario(format!("{path} is set at creation"), secrets(), vec![Step::Create(spec)])];
    }
    let scenario_of = |what: &str, before: Value, value| {
        // One pod: its roll-over calls for half as much as that of two, and says the same.
        let mut given = json!({"replicas": 1});
        json_patch::merge(&mut given, &before);
        scenario(format!("{path} is {what}"), created(given), vec![Step::Spec(field.patch(value))])
    };
    let mut scenarios = vec![scenario_of("set", json!({}), Some(field.value(0)))];
    // What is suspended stays as it was.
    scenarios[0].edges.past_shows = path == "/suspend";
    // A volume only grows: the API server refuses the way back.
    if path != "/database/managed/storage/size" {
        let mut removed = scenario_of("removed", spec_with(field, 1), None);
        // A key that was brought goes on signing.
        removed.edges.past_shows = path == "/token/signingKeySecretRef";
        scenarios.push(removed);
    }
    scenarios
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use authservice::api::AuthService;
    use kube::CustomResourceExt as _;

    use super::*;

    /// Paths of the schema below which a field of a scenario is to be.
    fn fields(schema: &Value, path: &str, known: &BTreeSet<&str>, all: &mut Vec<String>) {
        let Some(properties) = schema["properties"].as_object().filter(|_| !known.contains(path)) else {
            all.push(path.to_owned());
            return;
        };
        for (name, schema) in properties {
            fields(schema, &format!("{path}/{name}"), known, all);
        }
    }

    #[test]
    fn every_field_of_spec_has_its_scenarios() -> Result<(), serde_json::Error> {
        let known: BTreeSet<&str> = FIELDS.iter().chain(EXTERNAL_FIELDS).map(|field| field.path).collect();
        let definition = serde_json::to_value(AuthService::crd())?;
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut all = Vec::new();
        fields(spec, "", &known, &mut all);
        let missing: Vec<&String> = all.iter().filter(|path| !known.contains(path.as_str())).collect();
        assert_eq!(missing, Vec::<&String>::new());
        let gone: Vec<&&str> = known.iter().filter(|path| !all.iter().any(|known| known == **path)).collect();
        assert_eq!(gone, Vec::<&&str>::new());
        Ok(())
    }

    #[test]
    fn scenarios_are_told_apart_by_their_names() {
        let all = all();
        let names: BTreeSet<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
    }
}
