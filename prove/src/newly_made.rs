//! What a resource comes to that was only just made with a spec, and by what a past may differ from it.

use std::{collections::BTreeMap, sync::Arc};

use authservice::operator::context::Images;
use serde_json::{Value, json};

use crate::{
    application::database::Database,
    normal_form::State,
    objects::items,
    steps::{CALM, Done, LONGEST, Step},
    world::{Moment, NAMESPACE, World},
};

/// What the end of a life depends on.
pub struct Given {
    service: Option<Value>,
    secrets: Vec<Value>,
    external: BTreeMap<String, Database>,
    images: Images,
}

impl Given {
    /// That of a world.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let theirs = |secret: &&Arc<Value>| secret["metadata"].get("labels").is_none();
        Self {
            service: world.service().map(|service| Value::clone(&service)),
            secrets: world.secrets().iter().filter(theirs).map(|secret| Value::clone(secret)).collect(),
            external: world.application.lock().external.clone(),
            images: world.images.clone(),
        }
    }
}

/// The end of a resource that was only just made with this spec.
///
/// # Errors
/// It cannot be made.
pub async fn newly_made(objects: &Given, seed: u64) -> anyhow::Result<State> {
    let mut world = World::at(&Moment::empty(), seed);
    world.images = objects.images.clone();
    world.restart();
    world.application.lock().external.clone_from(&objects.external);
    for secret in &objects.secrets {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret["metadata"]["name"], "namespace": NAMESPACE}, "data": secret["data"]});
        anyhow::ensure!(world.api.create("kubectl", secret).is_ok(), "a Secret was refused");
    }
    if let Some(service) = &objects.service {
        let spec = service["spec"].clone();
        anyhow::ensure!(
            world.act(&Step::Create(spec.clone())).await? == Done::Yes,
            "a spec that was reached by changes cannot be created: {spec}"
        );
    }
    world.calm_down(CALM * 6, LONGEST).await;
    Ok(comparable(world.state()?))
}

/// A state without what a past leaves behind by design: older keys and accounts, Secrets that are kept,
/// volumes that never shrink.
#[must_use]
pub fn comparable(state: State) -> State {
    let kept = |key: &String| {
        !matches!(
            key.as_str(),
            "Secret gate-keys"
                | "Secret gate-database"
                | "Secret gate-admin"
                | "Secret gate-administration"
                | "Secret gate-mysql-root"
        ) && !key.starts_with("PersistentVolumeClaim ")
    };
    let asks_for = |pointer: &str| {
        state.get("AuthService gate").is_some_and(|service| service.pointer(pointer).is_some())
    };
    let brings_key = asks_for("/spec/token/signingKeySecretRef");
    let names_users = asks_for("/spec/users/bootstrap");
    let mut state: State = state
        .into_iter()
        .filter(|(key, _)| kept(key))
        .map(|(key, value)| {
            let is_job = key.starts_with("Job ");
            (key, plain(value, is_job))
        })
        .collect();
    // A key that was brought once goes on signing.
    if let Some(key) = state
        .get_mut("Secret gate-credentials")
        .filter(|_| !brings_key)
        .and_then(|secret| secret.pointer_mut("/data/JWT_SECRET"))
    {
        *key = json!("<key>");
    }
    // The first admin's Secret is made once: a database of before knows that admin, and nobody the password.
    if let Some(conditions) = state
        .get_mut("AuthService gate")
        .filter(|_| !names_users)
        .and_then(|service| service.pointer_mut("/status/conditions"))
        .and_then(Value::as_array_mut)
    {
        conditions.retain(|condition| condition[0] != "BootstrapUserMissing");
    }
    state
}

/// A state without the numbers of accounts, and without the Secrets that hold older ones.
#[must_use]
pub fn forgiving(state: State) -> State {
    let kept = |key: &String| !matches!(key.as_str(), "Secret gate-keys" | "Secret gate-database");
    let numberless = |object: Value| serde_json::from_str(&numberless(&object.to_string())).unwrap_or(object);
    state.into_iter().filter(|(key, _)| kept(key)).map(|(key, value)| (key, numberless(value))).collect()
}

fn plain(mut object: Value, is_job: bool) -> Value {
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("volumeClaimTemplates");
        // A Job that is done is not made again for what its next one will be pulled with.
        if let Some(pod) = spec.get_mut("template").filter(|_| is_job) {
            pod["spec"].as_object_mut().map(|pod| pod.remove("imagePullSecrets"));
        }
    }
    if let Some(status) = object.get_mut("status").filter(|status| status.get("conditions").is_some()) {
        let conditions: Vec<Value> = items(status, "/conditions")
            .iter()
            .map(|condition| json!([condition["type"], condition["status"], condition["reason"]]))
            .collect();
        status["conditions"] = json!(conditions);
    }
    serde_json::from_str(&numberless(&object.to_string())).unwrap_or(object)
}

/// A text without the numbers of accounts and keys.
fn numberless(text: &str) -> String {
    let mut plain = text.to_owned();
    for number in (2..40).rev() {
        plain = plain
            .replace(&format!("as_<account id>_{number}\""), "as_<account id>_1\"")
            .replace(&format!("\"{number}.password\""), "\"1.password\"")
            .replace(&format!("<key id {number}>"), "<key id 1>");
    }
    plain
}
