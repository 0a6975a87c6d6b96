use serde_json::json;

use crate::{
    api::auth_service::Algorithm,
    operator::{
        auth_service::{
            fixture::{World, refused},
            validate::{Decision, lacking_algorithm},
        },
        labels, signing_key,
    },
};

const BROUGHT: &str = "a-key-that-the-user-brought-along!";
const OTHER: &str = "another-key-that-the-user-brought!";

fn with_reference() -> serde_json::Value {
    json!({"token": {"signingKeySecretRef": {"name": "theirs"}}})
}

fn ring(decision: &Decision) -> Vec<(String, String)> {
    let entries = decision.plan.key_ring.as_ref().map(|entries| entries.0.clone()).unwrap_or_default();
    entries.into_iter().map(|(key, value)| (key, String::from_utf8(value).unwrap())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn jwt_secret(decision: &Decision) -> String {
    let view = decision.plan.credentials.as_ref().unwrap();
    String::from_utf8(view.0["JWT_SECRET"].clone()).unwrap()
}

#[test]
fn the_first_key_is_generated_once_and_signs_at_once() {
    let mut world = World::new(json!({}));
    let first = ring(&world.run());
    let key = "signing-key-of-draw-1-and-long-enough";
    assert_eq!(first, pairs(&[("00000001.key", key), ("00000001.signs", "2026-03-01T12:00:00Z")]));
    world.later(3600);
    let second = world.run();
    assert_eq!(ring(&second), first);
    assert_eq!(second.signer.as_ref().unwrap().id, "00000001");
    assert_eq!((jwt_secret(&second), second.next_signer_at), (key.to_owned(), None));
}

#[test]
fn a_brought_key_is_copied_byte_by_byte_and_is_the_first_to_sign() {
    let mut world = World::new(with_reference());
    let value = format!("{BROUGHT}\n");
    world.secret("theirs", &[("JWT_SECRET", &value)]);
    assert_eq!(
        ring(&world.run()),
        pairs(&[("00000001.key", &value), ("00000001.signs", "2026-03-01T12:00:00Z")])
    );
    let again = world.run();
    assert_eq!(again.plan.key_ring.unwrap().0.len(), 2);
}

#[test]
fn a_key_brought_later_joins_the_ring_and_signs_when_every_pod_has_it() {
    let mut world = World::new(json!({}));
    let before = ring(&world.run());
    world.respec(with_reference());
    world.secret("theirs", &[("JWT_SECRET", BROUGHT)]);
    let joined = world.run();
    let added = pairs(&[("00000002.key", BROUGHT), ("00000002.signs", "2026-03-01T12:03:00Z")]);
    assert_eq!(ring(&joined), [before.clone(), added].concat());
    assert_eq!(joined.signer.as_ref().unwrap().id, "00000001");
    assert_eq!(joined.next_signer_at.unwrap().to_string(), "2026-03-01T12:03:00Z");
    assert_eq!(jwt_secret(&joined), before[0].1);
    world.later(180);
    let signing = world.run();
    assert_eq!((ring(&signing), signing.next_signer_at), (ring(&joined), None));
    assert_eq!(
        (signing.signer.as_ref().unwrap().id.as_str(), jwt_secret(&signing)),
        ("00000002", BROUGHT.to_owned())
    );
}

#[test]
fn a_key_brought_back_signs_again_under_a_new_id() {
    let mut world = World::new(with_reference());
    for key in [BROUGHT, OTHER, BROUGHT] {
        world.secret("theirs", &[("JWT_SECRET", key)]);
        world.run();
    }
    let ring = ring(&world.run());
    assert_eq!(
        ring,
        pairs(&[
            ("00000001.key", BROUGHT),
            ("00000001.signs", "2026-03-01T12:00:00Z"),
            ("00000002.key", OTHER),
            ("00000002.signs", "2026-03-01T12:03:00Z"),
            ("00000003.key", BROUGHT),
            ("00000003.signs", "2026-03-01T12:03:01Z"),
        ])
    );
}

#[test]
fn a_reference_that_is_removed_leaves_its_key_signing() {
    let mut world = World::new(with_reference());
    world.secret("theirs", &[("JWT_SECRET", BROUGHT)]);
    let before = ring(&world.run());
    world.respec(json!({}));
    assert_eq!(ring(&world.run()), before);
}

#[test]
fn a_brought_key_that_cannot_be_used_is_refused_and_no_other_is_made() {
    let mut world = World::new(with_reference());
    let absent = world.run();
    assert_eq!(
        refused(&absent),
        [
            "SecretUnusable SecretMissing: token.signingKeySecretRef: Secret theirs does not exist: create it with key JWT_SECRET: at least 32 random bytes"
        ]
    );
    assert_eq!((absent.plan.key_ring, absent.plan.credentials), (None, None));
    assert!(absent.plan.service && absent.plan.accounts.is_some(), "the rest goes on");
    world.secret("theirs", &[("JWT_SECRET", "short")]);
    assert_eq!(
        refused(&world.run()),
        [
            "SecretUnusable SecretInvalid: token.signingKeySecretRef: Secret theirs holds 5 bytes under key JWT_SECRET; HS256 needs at least 32 (RFC 7518 section 3.2): replace it, for example by the output of `openssl rand -hex 32`"
        ]
    );
    world.secret("theirs", &[("other", BROUGHT)]);
    assert_eq!(
        refused(&world.run()),
        [
            "SecretUnusable SecretInvalid: token.signingKeySecretRef: Secret theirs has no key JWT_SECRET: add it, or name another in token.signingKeySecretRef.key"
        ]
    );
    world.secret("theirs", &[("JWT_SECRET", BROUGHT)]);
    assert_eq!(refused(&world.run()), [""; 0]);
}

#[test]
fn a_brought_key_of_the_least_length_is_taken() {
    let mut world = World::new(with_reference());
    world.secret("theirs", &[("JWT_SECRET", &"k".repeat(32))]);
    assert_eq!(ring(&world.run())[0].1.len(), 32);
}

#[test]
fn a_key_that_was_retired_signs_until_that_instant_and_the_one_before_it_again() {
    let mut world = World::new(with_reference());
    for key in [BROUGHT, OTHER] {
        world.secret("theirs", &[("JWT_SECRET", key)]);
        world.run();
    }
    world.later(3600);
    world.respec(json!({}));
    let retire = |world: &mut World, at: &str| {
        let entries = world.observed.key_ring.as_mut().unwrap().data.as_mut().unwrap();
        entries.insert("00000002.retire-after".to_owned(), k8s_openapi::ByteString(at.as_bytes().to_vec()));
        world.decide().signer.map(|signer| signer.id)
    };
    assert_eq!(retire(&mut world, "2026-03-01T14:00:00Z").as_deref(), Some("00000002"), "its time comes");
    assert_eq!(retire(&mut world, "2026-03-01T13:00:00Z").as_deref(), Some("00000002"), "it is now");
    assert_eq!(retire(&mut world, "2026-03-01T12:59:59Z").as_deref(), Some("00000001"), "it has passed");
}

#[test]
fn a_ring_whose_only_key_the_server_would_refuse_is_as_good_as_lost() {
    let mut world = World::new(json!({}));
    world.up();
    let entries = world.observed.key_ring.as_mut().unwrap().data.as_mut().unwrap();
    entries.get_mut("00000001.key").unwrap().0.truncate(31);
    let lost = world.decide();
    assert!(
        lost.signer.is_none() && refused(&lost)[0].starts_with("SecretLost SecretLost: Secret gate-keys")
    );
}

#[test]
fn a_brought_key_that_vanishes_after_it_was_copied_freezes_the_ring_as_it_is() {
    let mut world = World::new(with_reference());
    world.secret("theirs", &[("JWT_SECRET", BROUGHT)]);
    let before = ring(&world.run());
    world.observed.referenced.clear();
    let without = world.run();
    assert_eq!((ring(&without), without.refusals.len()), (before, 1));
    assert_eq!(jwt_secret(&without), BROUGHT);
}

#[test]
fn a_lost_ring_is_not_replaced_until_that_is_asked_for() {
    let mut world = World::new(json!({}));
    world.up();
    world.observed.key_ring = None;
    let lost = world.run();
    assert_eq!(lost.plan.key_ring, None);
    assert_eq!(
        refused(&lost),
        [
            "SecretLost SecretLost: Secret gate-keys with the signing keys is gone or holds no key that signs, and tokens signed by them are in use: restore it from a backup, or annotate the AuthService with authservice.dev/regenerate=gate-keys to generate a new one, which logs everybody out"
        ]
    );
    assert!(lost.plan.server.is_some() && lost.plan.budget, "the rest goes on");
    assert_eq!(lost.plan.credentials, None, "the view stays as it is");
    world.service.metadata.annotations =
        Some([(labels::REGENERATE.to_owned(), "gate-keys".to_owned())].into());
    let anew = world.run();
    assert_eq!((refused(&anew), ring(&anew).len()), (vec![], 2));
}

#[test]
fn a_ring_that_status_knows_of_is_lost_even_without_a_deployment() {
    let mut world = World::new(json!({}));
    world.up();
    world.report();
    world.observed.key_ring = None;
    world.observed.deployment = None;
    assert_eq!(world.decide().refusals.len(), 1);
}

#[test]
fn another_algorithm_brings_a_key_that_joins_the_ring_and_signs_when_every_pod_has_it() {
    let mut world = World::new(json!({}));
    let before = ring(&world.run());
    world.respec(json!({"token": {"algorithm": "ES256"}}));
    let joined = world.run();
    let added = pairs(&[
        ("00000002.es256.pem", "private-key-of-draw-2-as-long-as-in-pem"),
        ("00000002.signs", "2026-03-01T12:03:00Z"),
    ]);
    assert_eq!(ring(&joined), [before.clone(), added].concat());
    assert_eq!(jwt_secret(&joined), before[0].1);
    assert_eq!(ring(&world.run()), ring(&joined), "it is made once");
    world.later(180);
    let signing = world.run();
    assert_eq!(signing.signer.as_ref().unwrap().entry(), "00000002.es256.pem");
    let view = signing.plan.credentials.as_ref().unwrap();
    assert!(!view.0.contains_key("JWT_SECRET"), "nobody is told a private key");
    world.respec(json!({}));
    let back = ring(&world.run());
    assert_eq!(back.len(), 6, "HS256 needs a key of its own again: {back:?}");
}

#[test]
fn a_first_key_is_of_the_algorithm_asked_for() {
    for (algorithm, entry) in
        [("ES256", "00000001.es256.pem"), ("EdDSA", "00000001.eddsa.pem"), ("RS256", "00000001.rs256.pem")]
    {
        let mut world = World::new(json!({"token": {"algorithm": algorithm}}));
        assert_eq!(
            ring(&world.run()),
            pairs(&[
                (entry, "private-key-of-draw-1-as-long-as-in-pem"),
                ("00000001.signs", "2026-03-01T12:00:00Z")
            ])
        );
    }
}

#[test]
fn a_brought_private_key_has_to_be_one_of_the_algorithm() {
    let mut world =
        World::new(json!({"token": {"algorithm": "EdDSA", "signingKeySecretRef": {"name": "theirs"}}}));
    assert_eq!(
        refused(&world.run()),
        [
            "SecretUnusable SecretMissing: token.signingKeySecretRef: Secret theirs does not exist: create it with key tls.key: a private key for EdDSA in PEM (PKCS #8)"
        ]
    );
    world.secret("theirs", &[("tls.key", BROUGHT)]);
    assert_eq!(
        refused(&world.run()),
        [
            "SecretUnusable SecretInvalid: token.signingKeySecretRef: Secret theirs holds no private key for EdDSA under key tls.key: replace it, for example by the output of `openssl genpkey -algorithm ED25519`"
        ]
    );
    let key = signing_key::generate(Algorithm::EdDSA).unwrap().unwrap();
    world.secret("theirs", &[("tls.key", &key)]);
    let decision = world.run();
    assert_eq!((refused(&decision), ring(&decision)[0].1.as_str()), (vec![], key.as_str()));
}

#[test]
fn a_private_key_is_made_only_where_the_ring_lacks_one() {
    let mut world = World::new(json!({"token": {"algorithm": "ES256"}}));
    let lacking =
        |world: &World| lacking_algorithm(&world.service.spec, world.observed.key_ring.as_ref(), world.now);
    assert_eq!(lacking(&world), Some(Algorithm::ES256));
    world.run();
    assert_eq!(lacking(&world), None);
    world.respec(json!({"token": {"algorithm": "RS256"}}));
    assert_eq!(lacking(&world), Some(Algorithm::RS256));
    world.respec(json!({"token": {"algorithm": "RS256", "signingKeySecretRef": {"name": "theirs"}}}));
    assert_eq!(lacking(&world), None);
}
