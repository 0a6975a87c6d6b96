//! Folders of keys as the server reads them, and what it publishes of them.

use serde_json::Value;
use tempfile::TempDir;

use super::{Server, http};

/// Private keys by their algorithm and the names of their entries.
pub const KEYS: [(&str, &str, &str); 3] = [
    ("ES256", "es256.es256.pem", include_str!("../../src/server/tokens/testdata/es256.pem")),
    ("EdDSA", "eddsa.eddsa.pem", include_str!("../../src/server/tokens/testdata/eddsa.pem")),
    ("RS256", "rs256.rs256.pem", include_str!("../../src/server/tokens/testdata/rs256.pem")),
];

/// A ring of these entries, in a folder that lives as long as it.
pub fn ring(entries: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in entries {
        std::fs::write(folder.path().join(name), value).unwrap();
    }
    folder
}

/// The keys that the server publishes.
pub fn published(server: &Server) -> Value {
    let answer = http::call(server.public, "GET", "/.well-known/jwks.json", &[]).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=60"));
    serde_json::from_str(&answer.body).unwrap()
}
