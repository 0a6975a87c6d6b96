//! The certificate of the public port.

use serde_json::json;

use crate::operator::auth_service::{
    fixture::{World, refused},
    live,
};

const PAIR: &[(&str, &str)] = &[("tls.crt", "a chain"), ("tls.key", "its key")];

fn with_tls(secret: &str) -> serde_json::Value {
    json!({"http": {"tls": {"secretRef": {"name": secret}}}})
}

/// The Secret that the live pods serve with.
fn live_secret(world: &World) -> Option<String> {
    world.observed.deployment.as_ref().and_then(live::tls_secret)
}

fn url(world: &mut World) -> String {
    world.report().url.unwrap()
}

#[test]
fn pods_serve_with_the_secret_and_the_issuer_stays_so_that_tokens_stay_good() {
    let mut world = World::new(json!({}));
    world.up();
    let issuer = world.run().plan.server.unwrap().token_issuer;
    assert_eq!(
        (url(&mut world), live_secret(&world), issuer.as_str()),
        ("http://gate.market.svc:5000".to_owned(), None, "http://gate.market.svc:5000")
    );
    world.respec(with_tls("door"));
    world.secret("door", PAIR);
    let decision = world.run();
    let server = decision.plan.server.as_ref().unwrap();
    assert_eq!((refused(&decision), &server.token_issuer), (vec![], &issuer));
    assert_eq!(
        (url(&mut world), live_secret(&world)),
        ("https://gate.market.svc:5000".to_owned(), Some("door".to_owned()))
    );
    world.respec(json!({}));
    world.run();
    assert_eq!((url(&mut world), live_secret(&world)), ("http://gate.market.svc:5000".to_owned(), None));
}

#[test]
fn no_pod_starts_without_the_certificate_that_is_asked_for() {
    let mut world = World::new(with_tls("door"));
    let decision = world.run();
    assert_eq!(
        refused(&decision),
        [
            "SecretUnusable SecretMissing: http.tls.secretRef: Secret door does not exist: create it with type kubernetes.io/tls and keys tls.crt and tls.key"
        ]
    );
    assert!(decision.plan.server.is_none() && decision.plan.service, "the rest goes on");
    assert_eq!(url(&mut world), "https://gate.market.svc:5000");
    for (entries, key) in [
        (&[("tls.crt", ""), ("tls.key", "its key")], "tls.crt"),
        (&[("tls.crt", "a chain"), ("ca.crt", "an authority")], "tls.key"),
    ] {
        world.secret("door", entries);
        let decision = world.run();
        let refusal = format!(
            "SecretUnusable SecretInvalid: http.tls.secretRef: Secret door has no key {key}, or an empty one: add it"
        );
        assert_eq!((refused(&decision), decision.plan.server), (vec![refusal], None));
    }
    world.secret("door", PAIR);
    assert!(world.run().plan.server.is_some());
}

#[test]
fn live_pods_keep_what_they_have_while_the_secret_cannot_be_used() {
    let mut world = World::new(json!({}));
    world.up();
    world.respec(with_tls("door"));
    let plain = world.run();
    assert_eq!((plain.refusals.len(), live_secret(&world)), (1, None));
    assert_eq!(url(&mut world), "http://gate.market.svc:5000");
    world.secret("door", PAIR);
    world.run();
    world.observed.referenced.clear();
    let mut scaled = with_tls("other");
    scaled["replicas"] = json!(3);
    world.respec(scaled);
    let kept = world.run();
    let server = kept.plan.server.as_ref().unwrap();
    assert_eq!((server.tls.as_deref(), server.replicas), (Some("door"), 3), "the rest goes on");
    assert_eq!(kept.refusals.len(), 1);
}
