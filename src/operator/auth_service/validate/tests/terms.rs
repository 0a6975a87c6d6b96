//! What spec says of the server, and what holds where it says nothing.

use serde_json::json;

use crate::operator::auth_service::{fixture::World, plan::LoginProtection};

#[test]
fn tokens_name_the_service_and_no_audience_unless_spec_says_otherwise() {
    for (spec, issuer, audience) in [
        (json!({}), "http://gate.market.svc:5000", None),
        (json!({"token": {"issuer": "shop"}}), "shop", None),
        (json!({"token": {"audience": "shop"}}), "http://gate.market.svc:5000", Some("shop")),
    ] {
        let server = World::new(spec.clone()).run().plan.server.unwrap();
        assert_eq!(
            (server.token_issuer.as_str(), server.token_audience.as_deref()),
            (issuer, audience),
            "{spec}"
        );
    }
}

#[test]
fn guesses_are_counted_as_spec_says_and_by_the_servers_own_numbers_without_it() {
    let protection =
        |spec: &serde_json::Value| World::new(spec.clone()).run().plan.server.unwrap().protection;
    assert_eq!(protection(&json!({})), LoginProtection::default());
    let spec = json!({"maxFailures": 4, "window": "10m", "lockout": "1h30m", "trustedProxies": ["10.0.0.0/8", "fd00::/8"]});
    let asked = LoginProtection {
        max_failures: Some(4),
        window: Some("600s".to_owned()),
        lockout: Some("5400s".to_owned()),
        trusted_proxies: "10.0.0.0/8,fd00::/8".to_owned(),
    };
    assert_eq!(protection(&json!({"loginProtection": spec})), asked);
}

#[test]
fn server_and_database_ask_for_what_they_need_unless_spec_says_otherwise() {
    let requests = |spec: serde_json::Value| {
        let plan = World::new(spec).run().plan;
        let database = plan.managed.unwrap().server.unwrap();
        [plan.server.unwrap().resources, database.resources]
            .map(|resources| serde_json::to_value(resources.requests).unwrap())
    };
    let needed = [json!({"cpu": "100m", "memory": "96Mi"}), json!({"cpu": "100m", "memory": "512Mi"})];
    assert_eq!(requests(json!({})), needed);
    let asked = [json!({"cpu": "2"}), json!({"memory": "4Gi"})];
    let spec = json!({
        "pod": {"resources": {"requests": asked[0]}},
        "database": {"managed": {"resources": {"requests": asked[1]}}},
    });
    assert_eq!(requests(spec), asked);
}
