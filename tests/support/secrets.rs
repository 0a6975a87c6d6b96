//! Every value that any entry of any Secret ever had: what is written once is seen once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _, runtime::watcher};

/// `Secret/entry` to how many values it had.
pub type Values = BTreeMap<String, usize>;

type Seen = BTreeMap<(String, String), BTreeSet<Vec<u8>>>;

static SEEN: LazyLock<Arc<Mutex<Seen>>> = LazyLock::new(|| {
    let seen = Arc::new(Mutex::new(Seen::new()));
    let writer = Arc::clone(&seen);
    // A thread of its own, because every test ends its own runtime.
    std::thread::spawn(move || {
        if let Err(error) = record(&writer) {
            eprintln!("the watch of Secrets ended: {error:#}");
            std::process::exit(101);
        }
    });
    seen
});

/// Begins to watch; entries written before are seen with their present values.
pub fn watch() {
    LazyLock::force(&SEEN);
}

/// How many values each entry of the Secrets of these names had so far, in one namespace.
#[must_use]
pub fn values_of(namespace: &str, secrets: &[&str]) -> Values {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let here = seen.iter().filter(|((place, entry), _)| {
        place == namespace && secrets.iter().any(|name| entry.starts_with(&format!("{name}/")))
    });
    here.map(|((_, entry), values)| (entry.clone(), values.len())).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn record(seen: &Mutex<Seen>) -> anyhow::Result<()> {
    let client = super::cluster::client().await?;
    let mut secrets = std::pin::pin!(watcher(Api::<Secret>::all(client), watcher::Config::default()));
    loop {
        match secrets.try_next().await {
            Ok(Some(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret))) => {
                let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                for (entry, value) in secret.data.unwrap_or_default() {
                    let values = seen.entry((namespace.clone(), format!("{name}/{entry}"))).or_default();
                    values.insert(value.0);
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("no more events"),
            Err(error) => eprintln!("the watch of Secrets: {error}"),
        }
    }
}
