//! Keys of which a part is public: others verify tokens by what is published, and by nothing else.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod server_support;

use std::time::Duration;

use serde_json::{Value, json};
use server_support::{
    Database, Engine, eventually,
    key_files::{KEYS, published, ring},
    python,
};

fn with_user() -> Database {
    let database = Engine::mariadb().fresh();
    database.admin_migration().user("ann@x.io", true, Some("a long secret")).succeed();
    database
}

#[test]
fn other_libraries_verify_tokens_by_the_published_keys() {
    let database = with_user();
    for (algorithm, entry, pem) in KEYS {
        let id = algorithm.to_lowercase();
        let signs = format!("{id}.signs");
        let folder = ring(&[(entry, pem), (&signs, "2020-01-01T00:00:00Z")]);
        let server = database.serve(&[("KEY_RING_DIR", folder.path().to_str().unwrap())]);
        let token = server.token("ann@x.io", "a long secret");
        let found = python("jwks.py", &json!({"token": token, "jwks": published(&server)}));
        assert_eq!(found["header"], json!({"typ": "JWT", "alg": algorithm, "kid": id}));
        assert_eq!(found["pyjwt"], found["jwcrypto"]);
        assert_eq!(found["pyjwt"]["username"], "ann@x.io");
        let answer = server.validate(&token);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), found["pyjwt"]);
        assert_eq!(server.status().signing_key_id, id);
    }
}

#[test]
fn a_shared_secret_is_never_published() {
    let server = with_user().serve(&[]);
    assert_eq!(published(&server), json!({"keys": []}));
}

#[test]
fn a_change_of_algorithm_announces_the_key_first_and_ends_no_token() {
    let database = with_user();
    let secret = "a shared secret of the ring, 32 bytes or more";
    let folder = ring(&[("old.key", secret), ("old.signs", "2020-01-01T00:00:00Z")]);
    let server = database.serve(&[("KEY_RING_DIR", folder.path().to_str().unwrap())]);
    let old = server.token("ann@x.io", "a long secret");
    std::fs::write(folder.path().join("new.es256.pem"), KEYS[0].2).unwrap();
    std::fs::write(folder.path().join("new.signs"), "2999-01-01T00:00:00Z").unwrap();
    let ids = || -> Vec<String> {
        let keys = published(&server)["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    eventually("the new key is published", Duration::from_secs(15), || ids() == ["new"]);
    assert_eq!(server.status().signing_key_id, "old", "announced, and not yet signing");
    std::fs::write(folder.path().join("new.signs"), "2021-01-01T00:00:00Z").unwrap();
    eventually("the new key signs", Duration::from_secs(15), || server.status().signing_key_id == "new");
    let new = server.token("ann@x.io", "a long secret");
    assert_eq!((server.validate(&old).status, server.validate(&new).status), (200, 200));
}
