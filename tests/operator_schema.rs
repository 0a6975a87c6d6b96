//! What the API server says of an `AuthService` before any operator sees it.

mod support;

use anyhow::Context as _;
use authservice::api::AuthService;
use serde_json::{Value, json};
use support::{
    cluster::{Sandbox, in_namespace},
    kubectl::kubectl,
};

/// The faults the API server finds in a create, each as `field: message`; none when it accepts.
async fn refusal(sandbox: &Sandbox, name: &str, spec: Value) -> anyhow::Result<Vec<String>> {
    faults(sandbox.create_service(name, spec).await)
}

fn faults(outcome: Result<AuthService, kube::Error>) -> anyhow::Result<Vec<String>> {
    let status = match outcome {
        Ok(_) => return Ok(Vec::new()),
        Err(kube::Error::Api(status)) if status.code == 422 => status,
        Err(error) => return Err(error.into()),
    };
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    Ok(causes
        .into_iter()
        .filter(|cause| !is_echo(&cause.field, &cause.message))
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect())
}

/// What the API server adds to a fault: that rules wait for it to be mended, and the scale
/// subresource's own view of `replicas`.
fn is_echo(field: &str, message: &str) -> bool {
    field.starts_with('.') || message.contains("some validation rules were not checked")
}

/// Specs that are refused, each with the whole text of the fault.
fn refused_specs() -> Vec<(Value, String)> {
    let external = json!({"hosts": [{"host": "db"}], "credentialsSecretRef": {"name": "db"}});
    let mut cases = refused_databases(&external);
    cases.extend(refused_settings());
    cases
}

fn refused_databases(external: &Value) -> Vec<(Value, String)> {
    const ONE_OF: &str = "spec.database: Invalid value: database needs exactly one of managed and external; leave database out for a managed one with its defaults";
    const SIZE: &str = "storage.size must be a positive Kubernetes quantity such as 1Gi";
    let with = |key: &str, value: Value| {
        let mut database = external.clone();
        database[key] = value;
        json!({"database": {"external": database}})
    };
    let size = |size: &str| {
        (
            json!({"database": {"managed": {"storage": {"size": size}}}}),
            format!("spec.database.managed.storage.size: Invalid value: {size:?}: {SIZE}"),
        )
    };
    let mut cases = vec![size("0"), size("-1Gi"), size("lots"), size("")];
    cases.extend([
        (json!({"database": {}}), ONE_OF),
        (json!({"database": {"managed": {}, "external": external}}), ONE_OF),
        (
            json!({"database": {"external": {"hosts": [{"host": "db"}]}}}),
            "spec.database.external: Invalid value: database.external needs credentialsSecretRef (an account of yours), adminCredentialsSecretRef (an account is made), or both",
        ),
        (
            json!({"database": {"external": {"credentialsSecretRef": {"name": "db"}}}}),
            "spec.database.external.hosts: Required value",
        ),
        (with("hosts", json!([])), "spec.database.external.hosts: Invalid value: 0: spec.database.external.hosts in body should have at least 1 items"),
        (
            with("hosts", json!([{"host": "one"}, {"host": "two"}])),
            "spec.database.external.hosts: Too many: 2: must have at most 1 item",
        ),
        (with("hosts", json!([{}])), "spec.database.external.hosts[0].host: Required value"),
        (with("hosts", json!([{"host": "db host"}])), "spec.database.external.hosts[0].host: Invalid value: \"db host\": spec.database.external.hosts[0].host in body should match '^[A-Za-z0-9._:-]+$'"),
        (with("hosts", json!([{"host": "db", "port": 0}])), "spec.database.external.hosts[0].port: Invalid value: 0: spec.database.external.hosts[0].port in body should be greater than or equal to 1"),
        (with("hosts", json!([{"host": "db", "port": 65536}])), "spec.database.external.hosts[0].port: Invalid value: 65536: spec.database.external.hosts[0].port in body should be less than or equal to 65535"),
        (with("schema", json!("Perhaps")), "spec.database.external.schema: Unsupported value: \"Perhaps\": supported values: \"Managed\", \"Existing\""),
        (with("name", json!("a`b")), "spec.database.external.name: Invalid value: \"a`b\": spec.database.external.name in body should match '^[A-Za-z0-9_$-]+$'"),
        (with("credentialsSecretRef", json!({"name": "Db"})), "spec.database.external.credentialsSecretRef.name: Invalid value: \"Db\": spec.database.external.credentialsSecretRef.name in body should match '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$'"),
    ].map(owned));
    cases
}

fn owned((spec, fault): (Value, &str)) -> (Value, String) {
    (spec, fault.to_owned())
}

fn refused_settings() -> Vec<(Value, String)> {
    const TTL: &str = "token.ttl must be a duration in hours, minutes and seconds such as 24h, 90m or 1h30m, from 1m to 8784h";
    const WEAK: &str = "spec.passwords.argon2: Invalid value: passwords.argon2 is weaker than OWASP's minimum: memoryKiB must be at least 47104 for 1 iteration, 19456 for 2, 12288 for 3, 9216 for 4, 7168 for 5 and more; what is left out is 19456 and 2";
    const DEAR: &str = "spec.passwords.argon2: Invalid value: passwords.argon2 takes more than about a second: memoryKiB times iterations may be at most 1048576";
    const COLLECTOR: &str = "monitoring.tracing.endpoint must be an http URL such as http://collector.observability.svc:4318, without credentials, query and fragment";
    const LAG: &str =
        "token.revocationLag must be a duration in minutes and seconds such as 5s or 1m30s, from 1s to 5m";
    let user = |email: &str| json!({"email": email, "passwordSecretRef": {"name": "user"}});
    let argon2 = |argon2: Value| json!({"passwords": {"argon2": argon2}});
    let tracing = |tracing: Value| json!({"monitoring": {"tracing": tracing}});
    let endpoint = |endpoint: &str| {
        let fault = format!("spec.monitoring.tracing.endpoint: Invalid value: {endpoint:?}: {COLLECTOR}");
        (tracing(json!({"endpoint": endpoint})), fault)
    };
    let ttl = |ttl: &str| {
        (json!({"token": {"ttl": ttl}}), format!("spec.token.ttl: Invalid value: {ttl:?}: {TTL}"))
    };
    let mut cases = ["soon", "24", "-1h", "30s", "9000h", "1.5h"].map(ttl).to_vec();
    let lag = |lag: &str| {
        (
            json!({"token": {"revocationLag": lag}}),
            format!("spec.token.revocationLag: Invalid value: {lag:?}: {LAG}"),
        )
    };
    cases.extend(["soon", "10", "-5s", "0s", "6m", "1.5s"].map(lag));
    cases.extend(
        [
            "https://collector:4318",
            "collector:4318",
            "http://:4318",
            "http://me:pw@collector",
            "http://collector?key=7",
        ]
        .map(endpoint),
    );
    cases.extend([
        (json!({"replicas": -1}), "spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0"),
        (json!({"replicas": 101}), "spec.replicas: Invalid value: 101: spec.replicas in body should be less than or equal to 100"),
        (json!({"replicas": "two"}), "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\""),
        (json!({"image": ""}), "spec.image: Invalid value: \"\": spec.image in body should be at least 1 chars long"),
        (
            json!({"token": {"ttl": "99999999999999999999h"}}),
            "spec.token.ttl: Invalid value: \"string\": type conversion error from 'string' to 'google.protobuf.Duration' evaluating rule: token.ttl must be a duration in hours, minutes and seconds such as 24h, 90m or 1h30m, from 1m to 8784h",
        ),
            (json!({"token": {"algorithm": "HS512"}}), "spec.token.algorithm: Unsupported value: \"HS512\": supported values: \"HS256\", \"ES256\", \"EdDSA\", \"RS256\""),
        (json!({"token": {"issuer": "our shop"}}), "spec.token.issuer: Invalid value: \"our shop\": spec.token.issuer in body should match '^([!-9;-~]+|[A-Za-z][A-Za-z0-9+.-]*:[!-~]+)$'"),
        (json!({"token": {"audience": ":5000"}}), "spec.token.audience: Invalid value: \":5000\": spec.token.audience in body should match '^([!-9;-~]+|[A-Za-z][A-Za-z0-9+.-]*:[!-~]+)$'"),
        (json!({"token": {"audience": "authservice-administration"}}), "spec.token.audience: Invalid value: \"authservice-administration\": token.audience cannot be the audience of administration tokens: use another name"),
        (json!({"token": {"revocationUnavailable": "Perhaps"}}), "spec.token.revocationUnavailable: Unsupported value: \"Perhaps\": supported values: \"Accept\", \"Refuse\""),
            (json!({"token": {"signingKeySecretRef": {}}}), "spec.token.signingKeySecretRef.name: Required value"),
        (json!({"passwords": {"legacyFormats": ["md5"]}}), "spec.passwords.legacyFormats[0]: Unsupported value: \"md5\": supported values: \"plaintext\", \"bcrypt\", \"werkzeug\", \"pbkdf2\", \"scrypt\""),
        (json!({"passwords": {"legacyFormats": ["plaintext", "plaintext"]}}), "spec.passwords.legacyFormats[1]: Duplicate value: \"plaintext\""),
        (json!({"passwords": {"minLength": 0}}), "spec.passwords.minLength: Invalid value: 0: spec.passwords.minLength in body should be greater than or equal to 1"),
        (json!({"passwords": {"minLength": 25}}), "spec.passwords.minLength: Invalid value: 25: spec.passwords.minLength in body should be less than or equal to 24"),
        (argon2(json!({"memoryKiB": 131_073})), "spec.passwords.argon2.memoryKiB: Invalid value: 131073: spec.passwords.argon2.memoryKiB in body should be less than or equal to 131072"),
        (argon2(json!({"iterations": 17})), "spec.passwords.argon2.iterations: Invalid value: 17: spec.passwords.argon2.iterations in body should be less than or equal to 16"),
        (argon2(json!({"parallelism": 5})), "spec.passwords.argon2.parallelism: Invalid value: 5: spec.passwords.argon2.parallelism in body should be less than or equal to 4"),
        (argon2(json!({"iterations": 1})), WEAK),
        (argon2(json!({"memoryKiB": 19_455})), WEAK),
        (argon2(json!({"memoryKiB": 7168, "iterations": 4})), WEAK),
        (argon2(json!({"memoryKiB": 131_072, "iterations": 9})), DEAR),
        (
            json!({"users": {"bootstrap": [user("a@b.c"), user("a@b.c")]}}),
            "spec.users.bootstrap[1]: Duplicate value: {\"email\":\"a@b.c\"}",
        ),
        (json!({"loginProtection": {"maxFailures": -1}}), "spec.loginProtection.maxFailures: Invalid value: -1: spec.loginProtection.maxFailures in body should be greater than or equal to 0"),
        (json!({"loginProtection": {"maxFailures": 1001}}), "spec.loginProtection.maxFailures: Invalid value: 1001: spec.loginProtection.maxFailures in body should be less than or equal to 1000"),
        (json!({"loginProtection": {"window": "0s"}}), "spec.loginProtection.window: Invalid value: \"0s\": loginProtection.window must be a duration in hours, minutes and seconds such as 15m, from 1s to 24h"),
        (json!({"loginProtection": {"lockout": "21900h"}}), "spec.loginProtection.lockout: Invalid value: \"21900h\": loginProtection.lockout must be a duration in hours, minutes and seconds such as 15m, from 1s to 24h"),
        (json!({"loginProtection": {"trustedProxies": ["10.0.0.0/8", "gateway"]}}), "spec.loginProtection.trustedProxies[1]: Invalid value: \"gateway\": loginProtection.trustedProxies must be addresses and networks such as 192.0.2.7, 10.0.0.0/8 or fd00::/8"),
        (json!({"loginProtection": {"trustedProxies": ["10.0.0.0/8", "10.0.0.0/8"]}}), "spec.loginProtection.trustedProxies[1]: Duplicate value: \"10.0.0.0/8\""),
        (json!({"users": {"bootstrap": [user("nobody")]}}), "spec.users.bootstrap[0].email: Invalid value: \"nobody\": spec.users.bootstrap[0].email in body should match '^[^\\s:@]+@[^\\s:@]+$'"),
        (json!({"users": {"bootstrap": [user("a:b@c")]}}), "spec.users.bootstrap[0].email: Invalid value: \"a:b@c\": spec.users.bootstrap[0].email in body should match '^[^\\s:@]+@[^\\s:@]+$'"),
        (json!({"users": {"bootstrap": [{"email": "a@b.c"}]}}), "spec.users.bootstrap[0].passwordSecretRef: Required value"),
        (json!({"http": {"invalidTokenStatus": 402}}), "spec.http.invalidTokenStatus: Unsupported value: 402: supported values: \"401\", \"403\""),
        (json!({"http": {"tls": {}}}), "spec.http.tls.secretRef: Required value"),
        (json!({"http": {"tls": {"secretRef": {}}}}), "spec.http.tls.secretRef.name: Required value"),
        (json!({"http": {"tls": {"secretRef": {"name": "Door"}}}}), "spec.http.tls.secretRef.name: Invalid value: \"Door\": spec.http.tls.secretRef.name in body should match '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$'"),
        (tracing(json!({})), "spec.monitoring.tracing.endpoint: Required value"),
        (tracing(json!({"endpoint": "http://collector", "sampling": 1.5})), "spec.monitoring.tracing.sampling: Invalid value: 1.5: spec.monitoring.tracing.sampling in body should be less than or equal to 1"),
        (tracing(json!({"endpoint": "http://collector", "sampling": -0.1})), "spec.monitoring.tracing.sampling: Invalid value: -0.1: spec.monitoring.tracing.sampling in body should be greater than or equal to 0"),
        (json!({"deletionPolicy": "Maybe"}), "spec.deletionPolicy: Unsupported value: \"Maybe\": supported values: \"Retain\", \"Delete\""),
        (json!({"suspend": "yes"}), "spec.suspend: Invalid value: \"string\": spec.suspend in body must be of type boolean: \"string\""),
    ].map(owned));
    cases
}

#[tokio::test]
async fn a_spec_that_cannot_work_is_refused_with_a_message_that_names_the_field() -> anyhow::Result<()> {
    in_namespace("schema", async |sandbox| {
        let (mut said, mut expected) = (Vec::new(), Vec::new());
        for (spec, fault) in refused_specs() {
            said.push((spec.to_string(), refusal(sandbox, "gate", spec.clone()).await?));
            expected.push((spec.to_string(), vec![fault]));
        }
        for (said, expected) in said.iter().zip(&expected).filter(|(said, expected)| said != expected) {
            println!("{}\n  said     {:?}\n  expected {:?}", said.0, said.1, expected.1);
        }
        anyhow::ensure!(said == expected, "refusals differ, see above");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_name_that_children_could_not_carry_is_refused() -> anyhow::Result<()> {
    const DNS: &str = "<nil>: Invalid value: metadata.name must be a DNS-1035 label, because a Service carries it: lower-case letters, digits and '-', beginning with a letter, ending with a letter or digit";
    const LONG: &str = "<nil>: Invalid value: metadata.name may have at most 40 characters, because the names of its children append to it";
    in_namespace("schema", async |sandbox| {
        let long = "a".repeat(41);
        for (name, fault) in [("9gate", DNS), ("gate.way", DNS), (long.as_str(), LONG)] {
            assert_eq!(refusal(sandbox, name, json!({})).await?, [fault]);
        }
        let longest = "a".repeat(40);
        for name in ["a", "gate-9", longest.as_str()] {
            assert_eq!(refusal(sandbox, name, json!({})).await?, [""; 0]);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_must_not_change_is_refused_on_update() -> anyhow::Result<()> {
    const MODE: &str = "spec: Invalid value: database cannot change between managed and external: create another AuthService and move the users";
    const CLASS: &str = "spec: Invalid value: database.managed.storage.storageClassName cannot change, be added or be removed: a volume keeps the class it was made with";
    const SHRINK: &str = "spec.database.managed.storage: Invalid value: database.managed.storage.size can only grow: Kubernetes cannot shrink a volume";
    const POLICY: &str = "spec: Invalid value: deletionPolicy cannot change while suspend is true, because nothing would carry it out: set suspend to false first";
    const ISSUER: &str = "spec: Invalid value: token.issuer cannot change, be added or be removed: tokens issued before would be refused; to have it all the same, delete this AuthService with deletionPolicy Retain, which keeps the users, and create it anew";
    const AUDIENCE: &str = "spec: Invalid value: token.audience cannot change, be added or be removed: tokens issued before would be refused; to have it all the same, delete this AuthService with deletionPolicy Retain, which keeps the users, and create it anew";
    let external = json!({"external": {"hosts": [{"host": "db"}], "credentialsSecretRef": {"name": "db"}}});
    let storage = |storage: Value| json!({"database": {"managed": {"storage": storage}}});
    let token = |token: Value| json!({"token": token});
    let external = json!({"database": external});
    let cases = [
        ("issuer", token(json!({"issuer": "a"})), token(json!({"issuer": "b"})), ISSUER),
        ("issuer-added", json!({}), token(json!({"issuer": "b"})), ISSUER),
        ("issuer-removed", token(json!({"issuer": "a"})), json!({}), ISSUER),
        ("audience", token(json!({"audience": "a"})), token(json!({"audience": "b"})), AUDIENCE),
        ("audience-added", token(json!({"ttl": "1h"})), token(json!({"audience": "b"})), AUDIENCE),
        ("audience-removed", token(json!({"audience": "a"})), token(json!({"ttl": "1h"})), AUDIENCE),
        ("bare", json!({}), external.clone(), MODE),
        ("managed", storage(json!({"size": "2Gi"})), external.clone(), MODE),
        ("external", external, json!({}), MODE),
        (
            "class",
            storage(json!({"storageClassName": "fast"})),
            storage(json!({"storageClassName": "slow"})),
            CLASS,
        ),
        ("class-added", storage(json!({})), storage(json!({"storageClassName": "slow"})), CLASS),
        ("class-first", json!({}), storage(json!({"storageClassName": "slow"})), CLASS),
        ("class-removed", storage(json!({"storageClassName": "fast"})), json!({}), CLASS),
        ("shrink", storage(json!({"size": "2Gi"})), storage(json!({"size": "2047Mi"})), SHRINK),
    ];
    in_namespace("schema", async |sandbox| {
        for (name, before, after, fault) in cases {
            let mut object = sandbox.create_service(name, before).await?;
            object.spec = serde_json::from_value(after)?;
            let outcome =
                sandbox.api::<AuthService>().replace(name, &kube::api::PostParams::default(), &object).await;
            assert_eq!(faults(outcome)?, [fault], "{name}");
        }
        // While nothing is carried out, a promise to keep the data would not be kept.
        sandbox.create_service("suspended", json!({"deletionPolicy": "Delete", "suspend": true})).await?;
        for (change, accepted) in [
            (json!({"deletionPolicy": null}), false),
            (json!({"replicas": 3}), true),
            (json!({"suspend": false, "deletionPolicy": "Retain"}), true),
            (json!({"suspend": true, "deletionPolicy": "Delete"}), false),
        ] {
            let outcome = sandbox.merge::<AuthService>("suspended", json!({"spec": change})).await;
            if accepted {
                outcome?;
            } else {
                assert_eq!(faults(outcome)?, [POLICY], "{change}");
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn everything_else_is_accepted_and_kept_as_written() -> anyhow::Result<()> {
    let specs = [
        json!({}),
        json!({"replicas": 0}),
        json!({"replicas": 100, "image": "registry/server:1", "suspend": true, "deletionPolicy": "Delete"}),
        json!({"database": {"managed": {}}}),
        json!({"database": {"managed": {"image": "mariadb:11", "storage": {"size": "500Mi", "storageClassName": "fast"}, "resources": {"requests": {"cpu": "1"}}}}}),
        json!({"database": {"external": {"hosts": [{"host": "10.1.2.3"}], "adminCredentialsSecretRef": {"name": "root"}}}}),
        json!({"database": {"external": {"hosts": [{"host": "fd00::1", "port": 3307}], "name": "users-2$", "schema": "Existing", "credentialsSecretRef": {"name": "db"}, "adminCredentialsSecretRef": {"name": "root.1"}}}}),
        json!({"token": {"ttl": "1m", "signingKeySecretRef": {"name": "key", "key": "JWT_SECRET"}}}),
        json!({"token": {"ttl": "8784h", "algorithm": "RS256"}}),
        json!({"token": {"revocationLag": "1s", "revocationUnavailable": "Refuse"}}),
        json!({"token": {"revocationLag": "5m", "revocationUnavailable": "Accept"}}),
        json!({"token": {"ttl": "1h30m5s", "issuer": "https://auth.example:8443/$a?", "audience": "shop"}}),
        json!({"passwords": {"legacyFormats": ["plaintext"], "rehash": false}}),
        json!({"passwords": {"legacyFormats": ["scrypt", "pbkdf2", "werkzeug", "bcrypt", "plaintext"], "minLength": 24}}),
        json!({"passwords": {"argon2": {}}}),
        json!({"passwords": {"argon2": {"memoryKiB": 7168, "iterations": 5, "parallelism": 4}}}),
        json!({"passwords": {"argon2": {"memoryKiB": 47_104, "iterations": 1}}}),
        json!({"passwords": {"argon2": {"memoryKiB": 131_072, "iterations": 8}}}),
        json!({"loginProtection": {"maxFailures": 0}}),
        json!({"loginProtection": {"maxFailures": 1000, "window": "24h", "lockout": "1s", "trustedProxies": ["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1"]}}),
        json!({"users": {"bootstrap": []}}),
        json!({"http": {}}),
        json!({"http": {"invalidTokenStatus": 401}}),
        json!({"administration": {}}),
        json!({"http": {"invalidTokenStatus": 403}}),
        json!({"http": {"tls": {"secretRef": {"name": "door.tls"}}}}),
        json!({"monitoring": {}}),
        json!({"monitoring": {"tracing": {"endpoint": "http://collector.observability.svc:4318", "sampling": 0.05}}}),
        json!({"monitoring": {"tracing": {"endpoint": "http://[fd00::7]:4318/otlp", "sampling": 1}}}),
        json!({"users": {"bootstrap": [{"email": "a@b", "passwordSecretRef": {"name": "a"}}, {"email": "c@d.e", "passwordSecretRef": {"name": "c", "key": "pw"}, "admin": true}]}}),
        json!({"pod": {"resources": {"limits": {"memory": "1Gi"}}, "labels": {"a": "b"}, "annotations": {"c": "d"}, "imagePullSecrets": [{"name": "pull"}]}}),
    ];
    in_namespace("schema", async |sandbox| {
        for (number, mut spec) in specs.into_iter().enumerate() {
            let name = format!("gate-{number}");
            sandbox.create_service(&name, spec.clone()).await?;
            let live =
                kubectl(&["get", "authservice", &name, "-n", &sandbox.namespace, "-o", "json"]).await?;
            let live: Value = serde_json::from_str(&live)?;
            if spec.get("replicas").is_none() {
                spec["replicas"] = json!(2);
            }
            assert_eq!(live["spec"], spec);
        }
        let object = sandbox.api::<AuthService>().get("gate-3").await?;
        let grown = sandbox.merge::<AuthService>(
            "gate-3",
            json!({"spec": {"database": {"managed": {"storage": {"size": "2Gi"}}}}}),
        );
        assert_eq!(
            grown.await?.metadata.generation,
            object.metadata.generation.map(|generation| generation + 1)
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_pointed_out_by_kubectl() -> anyhow::Result<()> {
    in_namespace("schema", async |sandbox| {
        let text = json!({"apiVersion": "authservice.dev/v1alpha1", "kind": "AuthService", "metadata": {"name": "gate"}, "spec": {"token": {"tll": "1h"}}});
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text.to_string())?;
        let path = file.path().to_str().context("path")?;
        let error = kubectl(&["create", "-n", &sandbox.namespace, "-f", path]).await.err().context("accepted")?;
        assert!(error.to_string().contains("unknown field \"spec.token.tll\""), "{error}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_field_is_explained() -> anyhow::Result<()> {
    in_namespace("schema", async |_| {
        let text = kubectl(&["get", "crd", "authservices.authservice.dev", "-o", "json"]).await?;
        let definition: Value = serde_json::from_str(&text)?;
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut mute = Vec::new();
        for part in ["spec", "status"] {
            find_mute(&schema["properties"][part], part, &mut mute);
        }
        assert_eq!(mute, Vec::<String>::new(), "fields without a description");
        let explained = kubectl(&["explain", "authsvc", "--recursive"]).await?;
        for field in
            ["bootstrap", "credentialsSecretRef", "legacyFormats", "storageClassName", "lastTransitionTime"]
        {
            assert!(explained.contains(field), "{field} is missing in\n{explained}");
        }
        Ok(())
    })
    .await
}

fn find_mute(schema: &Value, path: &str, mute: &mut Vec<String>) {
    if schema["description"].as_str().is_none_or(|text| text.trim().len() < 10) {
        mute.push(path.to_owned());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        find_mute(property, &format!("{path}.{name}"), mute);
    }
    for (name, property) in schema["items"]["properties"].as_object().into_iter().flatten() {
        find_mute(property, &format!("{path}[].{name}"), mute);
    }
}

#[tokio::test]
async fn short_name_category_and_columns_serve_the_person_at_the_terminal() -> anyhow::Result<()> {
    in_namespace("schema", async |sandbox| {
        sandbox.create_service("gate", json!({})).await?;
        let status = json!({"status": {
            "url": "http://gate.shop.svc:5000", "replicas": 2, "readyReplicas": 1,
            "conditions": [{"type": "Ready", "status": "False", "reason": "PodsNotReady", "message": "1 of 2 replicas ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }});
        let patch = kube::api::Patch::Merge(status);
        sandbox.api::<AuthService>().patch_status("gate", &kube::api::PatchParams::default(), &patch).await?;
        let rows = |text: String| -> Vec<Vec<String>> {
            text.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()).collect()
        };
        for names in ["authsvc", "authservices", "authservice", "auth"] {
            let table = rows(kubectl(&["get", names, "-n", &sandbox.namespace]).await?);
            let [head, row] = table.as_slice() else { anyhow::bail!("{table:?}") };
            assert_eq!(head, &["NAME", "READY", "REPLICAS", "URL", "MESSAGE", "AGE"]);
            assert_eq!(row[..5], ["gate", "False", "1", "http://gate.shop.svc:5000", "1 of 2 replicas ready"]);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kubectl_scale_works_on_an_empty_spec() -> anyhow::Result<()> {
    in_namespace("schema", async |sandbox| {
        sandbox.create_service("gate", json!({})).await?;
        kubectl(&["scale", "authservice/gate", "--replicas=3", "-n", &sandbox.namespace]).await?;
        let live = sandbox.api::<AuthService>().get("gate").await?;
        assert_eq!((live.spec.replicas, live.metadata.generation), (3, Some(2)));
        Ok(())
    })
    .await
}
